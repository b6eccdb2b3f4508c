"""A disk that fills up and is emptied again: no false 200, metrics alive, and in the end every key counted once.

The limit on the size of files (RLIMIT_FSIZE) is what fills the disk: it can be set and lifted on a running process.
"""

import resource
import tempfile
import time
from pathlib import Path

from tests.e2e.processes import until
from tests.faults.crashing import EDGES, CrashingDaemon
from tests.faults.http_kills import body_of


def run(posts: int, seconds_full: float, folder: Path) -> dict[str, float]:
    """Post before, while and after the disk is full; what was seen. Raises AssertionError on a false answer."""
    daemon = CrashingDaemon(folder, 0)
    expected = [0] * (len(EDGES) - 1)

    def post(number: int) -> int:
        body, bins = body_of(number)
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": f"post-{number}"}
        status, _ = daemon.client.request("/v1/monitors/m/samples", body, headers)
        if status == 200:
            answered.add(number)
            for b in bins:
                expected[b] += 1
        return status

    answered: set[int] = set()
    try:
        daemon.start()
        pid = daemon.client.process.pid
        for number in range(posts):
            assert post(number) == 200
        unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, unlimited[1]))
        refused, worst_scrape, end = 0, 0.0, time.monotonic() + seconds_full
        number = posts
        while time.monotonic() < end:
            status = post(number)
            assert status in (503, 409), status  # full, or the key of a post that waits to be stored
            refused += 1
            number += 1
            started = time.monotonic()
            assert (daemon.client.metric("kldrift_commit_errors_total") or 0) > 0
            assert daemon.client.request("/-/ready")[0] == 503
            worst_scrape = max(worst_scrape, time.monotonic() - started)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
        started = time.monotonic()
        recovered = None
        for again in range(posts, number):
            until(lambda n=again: post(n) == 200, 30, "an answer after the disk was emptied")  # type: ignore[misc]
            recovered = recovered or time.monotonic() - started
        assert recovered is not None
        counts = daemon.settled_counts(sum(expected))
        assert counts[: len(expected)] == expected, (counts, expected)
    finally:
        daemon.stop()
    again_started = CrashingDaemon(folder, 0)
    try:
        again_started.start()
        assert again_started.counts()[: len(expected)] == expected
    finally:
        again_started.stop()
    return {
        "posts": posts,
        "refused while full": refused,
        "worst scrape s": round(worst_scrape, 3),
        "first answer after it was emptied s": round(recovered, 2),
    }


def main() -> None:
    """The full run."""
    with tempfile.TemporaryDirectory() as folder:
        print(f"disk full for a minute: {run(2_000, 60, Path(folder))}")


if __name__ == "__main__":
    main()
