"""SIGKILL around commit and answer: posts with keys, sent again until they are answered, are counted exactly once."""

import http.client
import json
import queue
import random
import tempfile
import threading
import time
from pathlib import Path

from tests.faults.crashing import EDGES, CrashingDaemon

SENDERS = 8


def body_of(post: int) -> tuple[bytes, list[int]]:
    """The rows of a post, known from its number, and the bins that they fall into."""
    rng = random.Random(post)
    bins = [rng.randrange(len(EDGES) - 1) for _ in range(rng.randrange(1, 8))]
    return b"".join(b'{"x": %.1f}\n' % (b + 0.5) for b in bins), bins


class Sender(threading.Thread):
    """Sends posts until each is answered; connection errors, 409 and 503 are tried again with the same key."""

    def __init__(self, port: int, posts: "queue.SimpleQueue[int]") -> None:
        super().__init__()
        self._port = port
        self._posts = posts
        self._connection: http.client.HTTPConnection | None = None
        self.replayed = 0
        self.retries = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        while True:
            try:
                post = self._posts.get_nowait()
            except queue.Empty:
                break
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
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    expected = [0] * (len(EDGES) - 1)
    for post in range(posts):
        waiting.put(post)
        for b in body_of(post)[1]:
            expected[b] += 1
    daemon = CrashingDaemon(folder, seed)
    senders = [Sender(daemon.port, waiting) for _ in range(SENDERS)]
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
        counts = daemon.settled_counts(sum(expected))
    finally:
        daemon.stop()
    assert counts[: len(expected)] == expected, (counts, expected)
    assert not any(counts[len(expected) :]), counts
    return {
        "posts": posts,
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
