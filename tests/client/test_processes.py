"""Behaviour that needs separate processes: imports, the end of the process, fork."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.client.misbehaving import misbehaving
from tests.conftest import ROOT


def run(code: str, *arguments: str) -> str:
    """Return what a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True, text=True, timeout=60, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_client_imports_only_the_standard_library() -> None:
    code = "import json, sys; import kldrift.client; print(json.dumps([*sys.modules]))"
    loaded = {name.partition(".")[0] for name in json.loads(run(code))}
    for heavy in ("polars", "numba", "pydantic", "starlette", "orjson", "scipy", "numpy", "yaml", "uvicorn"):
        assert heavy not in loaded
    ours = {name for name in json.loads(run(code)) if name.startswith("kldrift")}
    assert ours == {"kldrift", "kldrift.client"} | {
        f"kldrift.client.{part}" for part in ("client", "delivery", "encoding", "endpoint", "notices")
    }
    bare = json.loads(run("import json, sys; print(json.dumps([*sys.modules]))"))
    site_packages = {name.partition(".")[0] for name in bare}
    assert loaded - site_packages - set(sys.stdlib_module_names) <= {"kldrift"}


def test_pending_rows_are_sent_when_the_process_ends() -> None:
    code = """if True:
        import sys
        from kldrift.client import Client
        client = Client(monitor="m", url=sys.argv[1], interval_seconds=60)
        for n in range(750):
            client.log({"n": n})
    """
    with misbehaving(["503"]) as site:
        run(code, site.url)
        assert site.rows() == [{"n": n} for n in range(750)]


def test_a_missing_daemon_does_not_delay_the_end_of_the_process() -> None:
    code = """if True:
        import sys
        from kldrift.client import Client
        clients = [Client(monitor="m", url=sys.argv[1], exit_seconds=0.5) for _ in range(4)]
        for client in clients:
            client.log({"n": 1})
    """
    with misbehaving(otherwise="503 Retry-After=30") as site:
        started = time.monotonic()
        run(code, site.url)
        assert time.monotonic() - started < 0.5 + 5  # not four times as long; the interpreter also has to start


FORK = """if True:
    import json, os, sys, threading
    from kldrift.client import Client
    client = Client(monitor="m", url=sys.argv[1], interval_seconds=0.05, batch_rows=50)
    n_before = int(sys.argv[2])
    for n in range(n_before):
        client.log({"who": "parent", "n": n})
    if sys.argv[3] == "connected":
        client.flush()
    children = []
    for child in range(3):
        pid = os.fork()
        if pid == 0:
            assert (client.pending, client.sent, client.dropped, client.retries) == (0, 0, 0, 0), "as the parent"
            assert not [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
            for n in range(100):
                client.log({"who": child, "n": n})
            if child == 0:
                os._exit(not client.close())
            sys.exit(0)
        children.append(pid)
    for n in range(100):
        client.log({"who": "parent", "n": n_before + n})
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
    assert client.close()
    print(client.sent)
"""


@pytest.mark.parametrize("state", ["connected", "busy"])
@pytest.mark.parametrize("n_before", [0, 5000])
@pytest.mark.parametrize("words", [[], ["slow", "503", "unanswered", "reset"]], ids=["well", "faults"])
def test_after_a_fork_parent_and_children_send_their_own_rows_each_once(
    state: str, n_before: int, words: list[str]
) -> None:
    with misbehaving(words, slow_seconds=0.3) as site:
        code = FORK if sys.version_info < (3, 12) else f"import warnings; warnings.simplefilter('ignore')\n{FORK}"
        assert run(code, site.url, str(n_before), state) == f"{n_before + 100}\n"
        found = site.rows()
    by_sender: dict[str, list[int]] = {}
    for row in found:
        by_sender.setdefault(str(row["who"]), []).append(row["n"])
    assert by_sender == {
        "parent": list(range(n_before + 100)),
        **{str(child): list(range(100)) for child in range(3)},
    }


def test_a_child_closes_its_copy_of_the_connection() -> None:
    """Otherwise the daemon would hold a connection for as long as the child lives, whatever the parent does."""
    code = """if True:
        import os, sys
        from kldrift.client import Client
        client = Client(monitor="m", url=sys.argv[1])
        client.log({"n": 1})
        assert client.flush()
        def sockets():
            return [fd for fd in os.listdir("/proc/self/fd") if "socket:" in (os.readlink(f"/proc/self/fd/{fd}")
                    if os.path.lexists(f"/proc/self/fd/{fd}") else "")]
        assert len(sockets()) == 1
        pid = os.fork()
        if pid == 0:
            os._exit(len(sockets()))
        assert os.waitpid(pid, 0)[1] == 0
        client.log({"n": 2})
        assert client.flush() and client.retries == 0
    """
    with misbehaving() as site:
        run(code, site.url)
        assert site.connections == 1


def test_a_signal_handler_may_log_during_a_log() -> None:
    code = """if True:
        import signal, sys, time
        from kldrift.client import Client
        client = Client(monitor="m", url=sys.argv[1], max_rows=20, batch_rows=10)
        handled = 0
        def handle(*_):
            global handled
            handled += 1
            client.log({"n": -1})
            signal.setitimer(signal.ITIMER_REAL, 0.0002)  # from here on, else a busy machine does nothing else
        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.0002)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            client.log({"n": 1})
        signal.signal(signal.SIGALRM, signal.SIG_IGN)  # first: a handler that is just called sets the timer again
        signal.setitimer(signal.ITIMER_REAL, 0)
        client.close(0)
        print(handled)
    """
    with misbehaving(otherwise="503") as site:
        assert int(run(code, site.url)) > 100


def test_an_interrupted_process_sends_pending_rows() -> None:
    code = """if True:
        import sys, time
        from kldrift.client import Client
        client = Client(monitor="m", url=sys.argv[1], interval_seconds=60)
        client.log({"n": 1})
        print("logged", flush=True)
        time.sleep(60)
    """
    with misbehaving() as site:
        command = [sys.executable, "-c", code, site.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as running:
            assert running.stdout is not None
            assert running.stdout.readline() == "logged\n"
            os.kill(running.pid, signal.SIGINT)  # like Ctrl-C: an exception, then the end of the interpreter
            running.wait(20)
        assert site.rows() == [{"n": 1}]
