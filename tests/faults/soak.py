"""A steady load for a long time, with a state file: ``python -m tests.faults.soak [minutes]``, 60 by default.

Posts with keys and a followed file, at an even rate. Memory is flat in the second half, no count of any window is ever
negative, and in the end the longest window holds what was sent, bin for bin. (What a stepping clock does to windows is
in ``tests/engine/test_clock_steps.py``, where the clock is given: a machine's own clock is not a test's to set.)
"""

import http.client
import random
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.processes import Client, daemon, free_port
from tests.faults.connections import memory_bytes
from tests.faults.crashing import EDGES, WINDOW

LOOK_SECONDS = 10
POST_SECONDS = 0.02
POST_ROWS = 20
WRITE_SECONDS = 0.1
WRITE_ROWS = 100
WINDOWS = ("1m", "5m", WINDOW)
#: Memory may grow by so much an hour; a heap breathes by so much, however short the run.
BYTES_PER_HOUR = 5e6
BREATH_BYTES = 1e6

CONFIG = """\
server: {{listen: "127.0.0.1:{port}"}}
state: {{path: state.db}}
log: {{level: warning}}
sources: {{live: {{type: file, path: live.ndjson, format: ndjson, follow: true}}}}
monitors:
  m:
    sources: [live]
    windows: [{windows}]
    features:
      x: {{kind: numeric, reference: {{edges: [{edges}], counts: [{counts}]}}}}
"""


@dataclass(frozen=True)
class Look:
    """The daemon at one moment."""

    minutes: float
    memory_bytes: int
    queue_bytes: int
    state_bytes: int


class Load(threading.Thread):
    """Something done at an even rate until it is told that it is enough; counts what it sent, by bin."""

    def __init__(self, seconds: float, seed: int) -> None:
        super().__init__(daemon=True)
        self.sent = [0] * (len(EDGES) - 1)
        self.failed: BaseException | None = None
        self._seconds = seconds
        self._random = random.Random(seed)
        self._enough = threading.Event()

    def run(self) -> None:
        number, at = 0, time.monotonic()
        try:
            while not self._enough.wait(max(0.0, at - time.monotonic())):
                self.act(number)
                number, at = number + 1, at + self._seconds
        except BaseException as error:  # noqa: BLE001  # told by whoever waits for it
            self.failed = error

    def stop(self) -> None:
        """Enough; raises what went wrong."""
        self._enough.set()
        self.join()
        if self.failed is not None:
            raise self.failed

    def act(self, number: int) -> None:
        """Send once."""
        raise NotImplementedError

    def rows(self, n_rows: int) -> bytes:
        """So many rows, noted as sent."""
        bins = self._random.choices(range(len(self.sent)), k=n_rows)
        for b in bins:
            self.sent[b] += 1
        return b"".join(b'{"x": %.1f}\n' % (b + 0.5) for b in bins)


class Posts(Load):
    """Posts with keys; one in ten is sent again, and answered as before."""

    def __init__(self, port: int) -> None:
        super().__init__(POST_SECONDS, seed=1)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.posts = 0

    def act(self, number: int) -> None:
        body = self.rows(POST_ROWS)
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": f"post-{number}"}
        for again in (False, True)[: 2 if number % 10 == 0 else 1]:
            self._connection.request("POST", "/v1/monitors/m/samples", body, headers)
            response = self._connection.getresponse()
            answer = response.read()
            assert response.status == 200, answer
            assert (response.headers["Idempotent-Replayed"] == "true") == again
            self.posts += 1


class Lines(Load):
    """Lines appended to a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(WRITE_SECONDS, seed=2)
        self._path = path

    def act(self, number: int) -> None:
        with self._path.open("ab") as file:
            file.write(self.rows(WRITE_ROWS))


def counts_of(client: Client, window: str) -> list[int]:
    """The live counts of a window."""
    return list(client.json(f"/api/v1/monitors/m/features/x?window={window}")["live_counts"])


def look(client: Client, folder: Path, minutes: float) -> Look:
    """Look once; no count may be negative."""
    for window in WINDOWS:
        assert min(counts_of(client, window)) >= 0, window
    state = sum(path.stat().st_size for path in folder.glob("state.db*"))
    return Look(minutes, memory_bytes(client), int(client.metric("kldrift_queue_bytes") or 0), state)


def growth_bytes(looks: list[Look]) -> float:
    """By how much the middle of the memory's last quarter is above that of the third."""
    n = len(looks)
    third, last = looks[n // 2 : n * 3 // 4], looks[n * 3 // 4 :]
    return statistics.median(one.memory_bytes for one in last) - statistics.median(one.memory_bytes for one in third)


def settled(client: Client, expected: list[int]) -> list[int]:
    """Counts of the longest window once they add up to what is expected, or after a minute."""
    end = time.monotonic() + 60
    while sum(counts_of(client, WINDOW)) < sum(expected) and time.monotonic() < end:
        time.sleep(0.5)
    time.sleep(6)  # a tick, for what may be counted twice
    return counts_of(client, WINDOW)


def run(minutes: float, folder: Path, look_seconds: float = LOOK_SECONDS) -> dict[str, Any]:
    """Load and look; what was seen."""
    port = free_port()
    config = folder / "kldrift.yaml"
    n_bins = len(EDGES) - 1
    edges, counts = ", ".join(map(str, EDGES)), ", ".join(["100"] * n_bins)
    config.write_text(CONFIG.format(port=port, windows=", ".join(WINDOWS), edges=edges, counts=counts))
    (folder / "live.ndjson").touch()
    looks: list[Look] = []
    with daemon(config, port, folder / "log") as client:
        loads = (posts, lines) = (Posts(port), Lines(folder / "live.ndjson"))
        for load in loads:
            load.start()
        started = time.monotonic()
        try:
            while time.monotonic() < started + minutes * 60:
                time.sleep(look_seconds)
                looks.append(look(client, folder, (time.monotonic() - started) / 60))
                assert all(load.is_alive() for load in loads), [load.failed for load in loads]
        finally:
            for load in loads:
                load.stop()
        expected = [a + b for a, b in zip(posts.sent, lines.sent, strict=True)]
        found = settled(client, expected)
    assert found[:n_bins] == expected, (found, expected)
    assert not any(found[n_bins:]), found
    grown, allowed = growth_bytes(looks), max(BYTES_PER_HOUR * minutes / 4 / 60, BREATH_BYTES)
    assert grown <= allowed, f"memory grew by {grown / 1e6:.1f} MB from the third quarter to the last: {looks}"
    return {
        "posts": posts.posts,
        "rows": sum(expected),
        "memory MB": [round(one.memory_bytes / 1e6, 1) for one in looks[:: max(1, len(looks) // 8)]],
        "grown from the third quarter to the last, MB": round(grown / 1e6, 2),
        "most queued bytes": max(one.queue_bytes for one in looks),
        "state file MB": [round(looks[at].state_bytes / 1e6, 2) for at in (0, len(looks) // 2, -1)],
    }


def main(minutes: float = 60) -> None:
    """The full run."""
    with tempfile.TemporaryDirectory() as name:
        print(f"{minutes:g} minutes of steady load, memory flat, every window right: {run(minutes, Path(name))}")


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
