"""Stopping while the disk hangs."""

import signal
import sys
import time
from pathlib import Path

import pytest

from kldrift.daemon.daemon import DECODED_SECONDS, GRACE_SECONDS, STOP_SECONDS
from tests.e2e.processes import Client, free_port, process, until

CONFIG = """\
server: {{listen: "127.0.0.1:{port}"}}
state: {{path: state.db}}
monitors: {{m: {{windows: [5m], features: {{x: {{kind: numeric, reference: {{edges: [0, 1], counts: [100]}}}}}}}}}}
"""
#: The command, with a state whose commits never return.
HANGING = """
import time
from kldrift.cli import main
from kldrift.state.sqlite import SqliteStore
SqliteStore.commit = lambda self, commit: time.sleep(3600)
main()
"""


def test_the_steps_fit_into_the_ten_seconds_that_are_promised() -> None:
    assert GRACE_SECONDS + 1 < DECODED_SECONDS < STOP_SECONDS < 10


@pytest.mark.slow
def test_a_disk_that_hangs_does_not_keep_the_daemon_from_ending_on_time(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    config = tmp_path / "kldrift.yaml"
    config.write_text(CONFIG.format(port=port))
    with process(sys.executable, "-c", HANGING, "run", "-c", str(config), log=log) as running:
        client = Client(port, running, log)
        until(lambda: "msg=ready" in log.read_text(), 60, "ready")
        answer = client.request(
            "/v1/monitors/m/samples?ack=received", b'{"x": 1}', {"Content-Type": "application/json"}
        )
        assert answer[0] == 202
        began = time.monotonic()
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 1
        assert STOP_SECONDS - 1 < time.monotonic() - began < 10
    assert "not everything could be counted and stored in the time for stopping" in log.read_text()
