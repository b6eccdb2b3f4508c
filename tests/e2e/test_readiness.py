"""`/-/ready` is 503 with its reason while every post is; and what the API and the pages show before that."""

import json
import os
import resource
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.processes import KLDRIFT, Client, daemon, free_port, process, until

CONFIG = """\
server: {{listen: "127.0.0.1:{port}"}}
state: {{path: state.db, commit_interval: 100ms}}
engine: {{tick: 100ms}}
monitors:
  m:
    windows: [5m]
    features:
      x: {{kind: numeric, reference: {reference}}}
"""
EDGES = "{edges: [0, 1, 2], counts: [100, 100]}"
HTML = {"Accept": "text/html"}


def written(folder: Path, port: int, reference: str = EDGES) -> Path:
    path = folder / "kldrift.yaml"
    path.write_text(CONFIG.format(port=port, reference=reference))
    return path


def post(client: Client) -> int:
    return client.request("/v1/monitors/m/samples", b'{"x": 1}\n', {"Content-Type": "application/x-ndjson"})[0]


def ready(client: Client) -> tuple[int, str]:
    code, body = client.request("/-/ready")
    return code, json.loads(body).get("error", "")


def removed(folder: Path, client: Client) -> Callable[[], None]:
    away = [(path, path.with_name(f"away-{path.name}")) for path in folder.glob("state.db*")]
    for here, there in away:
        here.rename(there)

    def back() -> None:
        for here, there in away:
            there.rename(here)

    return back


def full(folder: Path, client: Client) -> Callable[[], None]:
    pid = client.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, before[1]))
    return lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, before) and None


def fenced(folder: Path, client: Client) -> Callable[[], None]:
    def step(epochs: int) -> None:
        database = sqlite3.connect(folder / "state.db", timeout=10)
        with database:
            database.execute("UPDATE owner SET epoch = epoch + ?", (epochs,))
        database.close()

    step(1)
    return lambda: step(-1)


@pytest.mark.parametrize(
    ("fault", "posts", "reason"),
    [
        (removed, False, "state.db has been removed while kldrift was using it"),
        (fenced, False, "expected to be the only process using this state"),
        (full, True, "expected to write the state"),
    ],
    ids=["removed", "fenced", "full"],
)
def test_ready_is_503_with_its_reason_while_posts_are_and_200_once_they_are(
    tmp_path: Path, fault: Callable[[Path, Client], Callable[[], None]], posts: bool, reason: str
) -> None:
    port = free_port()
    with daemon(written(tmp_path, port), port, tmp_path / "log") as client:
        assert post(client) == 200
        assert ready(client)[0] == 200
        mend = fault(tmp_path, client)
        if posts:  # only what is written shows that the disk is full; for the others, no post is needed
            assert post(client) == 503
        until(lambda: ready(client)[0] == 503, what="not ready")
        for _ in range(3):
            code, error = ready(client)
            assert code == 503
            assert error.startswith("not ready: the state cannot be written: ")
            assert reason in error
            assert post(client) == 503
        status = client.json("/api/v1/status")
        assert (status["ready"], reason in status["reason"]) == (False, True)
        assert client.json("/api/v1/monitors")["monitors"]  # figures are still there
        assert client.request("/-/healthy")[0] == 200  # a restart would not help
        mend()
        until(lambda: ready(client)[0] == 200, what="ready again")
        assert post(client) == 200


def test_while_it_starts_the_api_and_the_pages_say_so(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "endless.csv")  # nobody writes to it: to read it takes for ever
    port, log = free_port(), tmp_path / "log"
    config = written(tmp_path, port, "{data: endless.csv}")
    with process(KLDRIFT, "run", "-c", str(config), log=log, cwd=tmp_path) as running:
        client = Client(port, running, log)

        def listening() -> bool:
            try:
                return client.request("/-/healthy")[0] == 200
            except OSError:
                return False

        until(listening, what="listening")
        assert ready(client)[0] == 503
        for path in ("/api/v1/monitors", "/api/v1/monitors/m", "/api/v1/monitors/m/history/x", "/monitors/m"):
            code, body = client.request(path)
            assert code == 503, path
            assert json.loads(body)["error"].startswith("not ready: starting: "), path
        for path in ("/", "/monitors/m", "/monitors/m/feature?name=x"):
            code, body = client.request(path, headers=HTML)
            assert code == 503, path
            assert b"<h1>Not ready</h1>" in body
            assert b"not ready: starting: " in body
        assert post(client) == 503
        assert client.json("/api/v1/status")["ready"] is False
        assert client.request("/metrics")[0] == 200
