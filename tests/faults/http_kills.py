"""SIGKILL around commit and answer: posts with keys, sent again until they are answered, are counted exactly once."""

import http.client
import json
import random
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.crashing import EDGES, CrashingDaemon

SENDERS = 8


def body_of(post: int) -> tuple[bytes, list[int]]:
    """The rows of a post, known from its number, and the bins that they fall into."""
    rng = random.Random(post)
    bins = [rng.randrange(len(EDGES) - 1) for _ in range(rng.randrange(1, 8))]
    return b"".join(b'{"x": %.1f}\n' % (b + 0.5) for b in bins), bins


class Posts:
    """Numbers of posts to send: so many, and further ones for as long as there are kills to come."""

    def __init__(self, at_least: int, more: Callable[[], bool]) -> None:
        self.taken = 0
        self._at_least = at_least
        self._more = more
        self._lock = threading.Lock()

    def next(self) -> int | None:
        """The next one; None where it is enough."""
        with self._lock:
            if self.taken >= self._at_least and not self._more():
                return None
            self.taken += 1
            return self.taken - 1


class Sender(threading.Thread):
    """Sends posts until each is answered; connection errors, 409 and 503 are tried again with the same key."""

    def __init__(self, port: int, posts: Posts) -> None:
        super().__init__()
        self._port = port
        self._posts = posts
        self._connection: http.client.HTTPConnection | None = None
        self.replayed = 0
        self.retries = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        while (post := self._posts.next()) is not None:
            self._send(post)
        if self._connection is not None:
            self._connection.close()

    def _send(self, post: int) -> None:
        body, bins = body_of(post)
        for _ in range(3_000):
            answer = self._once(post, body)
            if answer is None:
                self.retries += 1
                time.sleep(0.02)
                continue
            status, replayed, text = answer
            if status == 200:
                self.replayed += replayed
                if json.loads(text)["accepted"] != len(bins):
                    self.wrong.append(f"post {post}: {text!r}")
                return
            if status not in (409, 503):
                self.wrong.append(f"post {post}: {status} {text!r}")
                return
            self.retries += 1
            time.sleep(0.02)
        self.wrong.append(f"post {post}: never answered")

    def _once(self, post: int, body: bytes) -> tuple[int, bool, bytes] | None:
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
            headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": f"post-{post}"}
            self._connection.request("POST", "/v1/monitors/m/samples", body, headers)
            response = self._connection.getresponse()
            return response.status, response.headers["Idempotent-Replayed"] == "true", response.read()
        except (OSError, http.client.HTTPException):
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            return None


def run(posts: int, kills: int, seed: int, folder: Path) -> dict[str, int]:
    """Send and kill; what was seen. Raises AssertionError where a count is off by one."""
    daemon = CrashingDaemon(folder, seed)
    numbers = Posts(posts, lambda: daemon.still_killing)
    senders = [Sender(daemon.port, numbers) for _ in range(SENDERS)]
    expected = [0] * (len(EDGES) - 1)
    try:
        daemon.start()
        daemon.kill_now_and_then(kills)
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        daemon.wait_for_kills()
        wrong = [line for sender in senders for line in sender.wrong]
        assert not wrong, wrong[:5]
        for post in range(numbers.taken):
            for b in body_of(post)[1]:
                expected[b] += 1
        counts = daemon.settled_counts(sum(expected))
    finally:
        daemon.stop()
    assert counts[: len(expected)] == expected, (counts, expected)
    assert not any(counts[len(expected) :]), counts
    return {
        "posts": numbers.taken,
        "rows": sum(expected),
        "kills": daemon.kills,
        "retries": sum(sender.retries for sender in senders),
        "answered again from the store": sum(sender.replayed for sender in senders),
    }


def main() -> None:
    """The full run."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        seen = run(100_000, 100, 1, Path(folder))
        print(f"each key counted exactly once: {seen} in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
