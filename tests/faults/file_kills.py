"""SIGKILL while a file is followed through rotations: every line is counted exactly once."""

import random
import tempfile
import threading
import time
from pathlib import Path

from tests.e2e.processes import until
from tests.faults.crashing import EDGES, CrashingDaemon

SOURCES = 'sources: {{s: {{type: file, path: "logs/{path}", format: ndjson, follow: true}}}}'
LINES_PER_WRITE = 2_000


class Writer(threading.Thread):
    """Appends lines to a file and rotates it: it is renamed, and a new one begun."""

    def __init__(self, folder: Path, lines: int, seed: int, pace: float) -> None:
        super().__init__()
        self._folder = folder
        self._lines = lines
        self._random = random.Random(seed)
        self._pace = pace
        self.expected = [0] * (len(EDGES) - 1)
        self.rotations = 0

    def run(self) -> None:
        path = self._folder / "live.ndjson"
        file = path.open("ab", buffering=0)
        left = self._lines
        while left > 0:
            n = min(left, self._random.randrange(1, LINES_PER_WRITE))
            left -= n
            text = bytearray()
            for b in self._random.choices(range(len(EDGES) - 1), k=n):
                self.expected[b] += 1
                text += b'{"x": %.1f}\n' % (b + 0.5)
            cut = self._random.randrange(len(text))  # a line may be seen half written
            file.write(text[:cut])
            time.sleep(self._pace)
            file.write(text[cut:])
            if self._random.random() < 0.05:
                file.close()
                self.rotations += 1
                path.rename(self._folder / f"live.ndjson.{self.rotations}")
                file = path.open("ab", buffering=0)
        file.close()


def run(lines: int, kills: int, seed: int, folder: Path, path: str = "*.ndjson*") -> dict[str, int]:
    """Write, rotate and kill; what was seen. Raises AssertionError where a count is off by one.

    With an exact `path`, rotated files leave what the source is given, while it is up or down.
    """
    logs = folder / "logs"
    logs.mkdir()
    daemon = CrashingDaemon(folder, seed, SOURCES.format(path=path), "sources: [s]")
    writer = Writer(logs, lines, seed, pace=min(0.05, 4 * kills / lines * 500))
    (logs / "live.ndjson").write_bytes(b'{"x": 0.5}\n')  # a file that came and went before any was seen is nobody's
    writer.expected[0] += 1
    try:
        daemon.start()
        until(lambda: sum(daemon.counts()) == 1, what="the first line counted")
        time.sleep(0.5)  # and stored
        daemon.kill_now_and_then(kills)
        writer.start()
        writer.join()
        daemon.wait_for_kills()
        counts = daemon.settled_counts(lines + 1)
    finally:
        daemon.stop()
    assert counts[: len(writer.expected)] == writer.expected, (counts, writer.expected)
    assert not any(counts[len(writer.expected) :]), counts
    return {"lines": lines, "rotations": writer.rotations, "kills": daemon.kills}


def main() -> None:
    """The full run."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        seen = run(5_000_000, 50, 1, Path(folder))
        print(f"every line counted exactly once: {seen} in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
