"""A daemon that is killed at random moments and started again, and the counts that it has in the end."""

import random
import signal
import subprocess
import threading
import time
from pathlib import Path

from tests.e2e.processes import KLDRIFT, Client, free_port, until

#: Everything stays in one window, however long it takes.
WINDOW = "360d"
EDGES = tuple(range(17))
CONFIG = """\
server: {{listen: "127.0.0.1:{port}"}}
state: {{path: state.db, commit_interval: {commit_interval}}}
engine: {{tick: 1s, threads: 1}}
log: {{level: warning}}
{sources}
monitors:
  m:
    windows: [{window}]
    {feeds}
    features:
      x: {{kind: numeric, reference: {{edges: [{edges}], counts: [{counts}]}}}}
"""


class CrashingDaemon:
    """``kldrift run`` in `folder`, killed now and then with SIGKILL by a thread of its own.

    Parameters
    ----------
    sources, feeds : lines of the configuration
    seed : of the moments
    """

    def __init__(
        self, folder: Path, seed: int, sources: str = "", feeds: str = "", commit_interval: str = "50ms"
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.kills = 0
        self._random = random.Random(seed)
        self._config = folder / "kldrift.yaml"
        self._config.write_text(
            CONFIG.format(
                port=self.port,
                sources=sources,
                feeds=feeds,
                window=WINDOW,
                commit_interval=commit_interval,
                edges=", ".join(map(str, EDGES)),
                counts=", ".join(["100"] * (len(EDGES) - 1)),
            )
        )
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._enough = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def client(self) -> Client:
        """The daemon as it is now."""
        assert self._process is not None
        return Client(self.port, self._process, self._log)

    def start(self) -> None:
        """Start it and wait until it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [KLDRIFT, "run", "-c", str(self._config)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        process = self._process

        def ready() -> bool:
            assert process.poll() is None, f"the daemon ended:\n{self._log.read_text()}"
            try:
                return self.client.request("/-/ready")[0] == 200
            except OSError:
                return False

        until(ready, 60, "ready")

    def kill_now_and_then(self, times: int, within: tuple[float, float] = (0.05, 1.0)) -> None:
        """Kill it `times` times, each so many seconds after it was ready, and start it again."""

        def act() -> None:
            for _ in range(times):
                if self._enough.wait(self._random.uniform(*within)):
                    return
                assert self._process is not None
                self._process.send_signal(signal.SIGKILL)
                self._process.wait()
                self.kills += 1
                self.start()

        self._thread = threading.Thread(target=act)
        self._thread.start()

    @property
    def still_killing(self) -> bool:
        """More kills are to come."""
        return self._thread is not None and self._thread.is_alive()

    def wait_for_kills(self) -> None:
        """All kills have been."""
        if self._thread is not None:
            self._thread.join()

    def counts(self) -> list[int]:
        """Live counts of the feature."""
        body = self.client.json(f"/api/v1/monitors/m/features/x?window={WINDOW}")
        return list(body["live_counts"])

    def settled_counts(self, total: int, seconds: float = 60) -> list[int]:
        """Counts once they add up to `total`, or do not change any more."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.counts()
            if sum(found) >= total:
                break
            time.sleep(0.2)
        time.sleep(1.5)  # for what may be counted twice
        return self.counts()

    def stop(self) -> None:
        """Stop it for good."""
        self._enough.set()
        self.wait_for_kills()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                assert self._process.wait(15) == 0, self._log.read_text()
            finally:
                if self._process.poll() is None:
                    self._process.kill()
