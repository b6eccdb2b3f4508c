"""Errors of the disk while keyed posts and a topic come in: no false 200, metrics alive, each row counted once.

How a daemon starts with such errors is in `disk_starts`.
"""

import http.client
import json
import random
import sqlite3
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from tests.e2e.processes import until
from tests.faults.crashing import EDGES, CrashingDaemon
from tests.faults.disk_starts import BAD_STARTS, run_starts
from tests.faults.http_kills import Posts, body_of
from tests.faults.injection import FAULTS, Fault, suffering, untraceable
from tests.faults.kafka_kills import FEEDS, PARTITIONS, Writer, sources
from tests.kafka.broker import Broker, broker, jars

N_BINS = len(EDGES) - 1
SENDERS = 4
RECORDS_PER_SECOND = 5_000.0

#: A sender has so many refused posts at most before it sends no new ones.
MOST_REFUSED = 100

#: The longest wait between two tries to commit is 5 s (`kldrift.engine.commits.RETRY_SECONDS`).
RECOVERY_SECONDS = 15.0

ERRORS = "kldrift_commit_errors_total"
COUNTED = 'kldrift_samples_counted_total{monitor="m"}'

Kill = Literal["never", "within", "after"]
KILLS: tuple[Kill, ...] = ("never", "within", "after")


class Sender(threading.Thread):
    """Sends new posts, and those that were refused once more, until each is answered 200."""

    def __init__(self, port: int, posts: Posts, seed: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._posts = posts
        self._random = random.Random(seed)
        self._refused: deque[int] = deque()
        self._connection: http.client.HTTPConnection | None = None
        self.answers: list[tuple[float, float, int]] = []  # sent, answered, status; 0 where the connection was lost
        self.wrong: list[str] = []
        self.abandoned = False

    def run(self) -> None:
        while not self.abandoned and (post := self._next()) is not None:
            started = time.monotonic()
            status = self._send(post)
            self.answers.append((started, time.monotonic(), status))
            if status != 200:
                self._refused.append(post)
                time.sleep(0.02 if status else 0.2)
        if self._connection is not None:
            self._connection.close()

    def _next(self) -> int | None:
        """One that was refused, or a new one; None once there are neither."""
        again = len(self._refused) >= MOST_REFUSED or self._random.random() < 0.5
        post = None if again and self._refused else self._posts.next()
        return self._refused.popleft() if post is None and self._refused else post

    def _send(self, post: int) -> int:
        body, bins = body_of(post)
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": f"post-{post}"}
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
            self._connection.request("POST", "/v1/monitors/m/samples", body, headers)
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException):
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            return 0
        if response.status == 200:
            right = json.loads(text)["accepted"] == len(bins)
        else:
            right = response.status in (409, 503) and int(response.headers["Retry-After"] or 0) > 0
        if not right:
            self.wrong.append(f"post {post}: {response.status} {response.headers.items()} {text!r}")
        return response.status


class Scraper(threading.Thread):
    """Asks for the metrics all the time; `seen` are the last ones."""

    def __init__(self, daemon: CrashingDaemon) -> None:
        super().__init__(daemon=True)
        self._daemon = daemon
        self._enough = threading.Event()
        self._answering = threading.Lock()
        self.seen: dict[str, float] = {}
        self.longest = 0.0
        self.scrapes = 0
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            while not self._enough.wait(0.1):
                with self._answering:
                    started = time.monotonic()
                    self.seen = self._daemon.client.metrics()
                    self.longest = max(self.longest, time.monotonic() - started)
                    self.scrapes += 1
        except Exception as error:  # noqa: BLE001  # it fails the run
            self.failure = error

    def value(self, name: str) -> float:
        """The last one seen of a series; 0 where there is none yet."""
        assert self.failure is None, self.failure
        return self.seen.get(name, 0.0)

    def anew(self) -> None:
        """Wait for metrics that were asked for from now on."""
        scrapes = self.scrapes
        until(lambda: self.failure or self.scrapes >= scrapes + 2, what="metrics")

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody asks while the daemon is not there."""
        with self._answering:
            yield
            self.seen = self._daemon.client.metrics()

    def stop(self) -> None:
        """Ask no more."""
        self._enough.set()
        if self.ident is not None:
            self.join()


class Load:
    """A daemon that is fed by posts and by a topic, and watched."""

    def __init__(self, folder: Path, kafka: Broker, topic: str, seed: int) -> None:
        kafka.create(topic, PARTITIONS)
        self.daemon = CrashingDaemon(folder, seed, sources(kafka, topic, member="one"), FEEDS)
        self.state = folder / "state.db"
        self._enough = threading.Event()
        self.posts = Posts(0, lambda: not self._enough.is_set())
        self.senders = [Sender(self.daemon.port, self.posts, seed + n) for n in range(SENDERS)]
        self.writer = Writer(kafka, topic, 10**9, RECORDS_PER_SECOND, seed)
        self.scraper = Scraper(self.daemon)
        self.in_force: list[tuple[float, float]] = []  # the times in which every commit failed
        self.recoveries: list[float] = []
        self.kills = 0

    def start(self) -> None:
        """Start all of it, and wait until rows of both kinds are stored."""
        self.daemon.start()
        self.scraper.start()
        self.writer.start()
        until(lambda: self.scraper.value(COUNTED) >= RECORDS_PER_SECOND, 60, "records")
        for sender in self.senders:
            sender.start()
        until(lambda: self._answered_since(0.0), 30, "an answer")

    def suffer(self, fault: Fault, seconds: float, kill: Kill) -> None:
        """One fault for so long, and the first answer after it; with a SIGKILL while it lasts, or right after it."""
        self.scraper.anew()
        errors = self.scraper.value(ERRORS)
        with suffering(fault, self.daemon.client.process.pid, self.state):
            until(lambda: self.scraper.value(ERRORS) > errors, 20, f"a failed commit ({fault.name})")
            begun, written = time.monotonic(), self.writer.written
            self.scraper.anew()
            errors, counted = self.scraper.value(ERRORS), self.scraper.value(COUNTED)
            time.sleep(seconds)
            self.scraper.anew()
            assert self.scraper.value(COUNTED) == counted, f"{fault.name}: more is counted than can be stored"
            until(lambda: self.scraper.value(ERRORS) > errors, 10, f"another try ({fault.name})")
            assert self.writer.written > written
            self.in_force.append((begun, time.monotonic()))
            if kill == "within":
                self._kill_and_start()  # the one that starts does not suffer
        lifted = time.monotonic()
        until(lambda: self._answered_since(lifted), 60, f"an answer after {fault.name}")
        if kill == "after":
            self._kill_and_start()
        elif kill == "never":
            self.recoveries.append(time.monotonic() - lifted)
            until(lambda: self.scraper.value(COUNTED) > counted, 30, f"records after {fault.name}")

    def go_on(self, posts: int) -> None:
        """So many more posts are answered, without a fault."""
        enough = self.posts.taken + posts
        until(lambda: self.posts.taken >= enough, 120, "new posts")

    def _kill_and_start(self) -> None:
        process = self.daemon.client.process
        with self.scraper.away():
            process.kill()
            process.wait()
            self.kills += 1
            self.daemon.start()

    def _answered_since(self, moment: float) -> bool:
        """A post was sent and answered 200 since then."""
        last = [answer for sender in self.senders for answer in sender.answers[-20:]]
        return any(sent >= moment and status == 200 for sent, _, status in last)

    def finish(self) -> list[int]:
        """No more is sent; what was refused is sent until it is answered. The counts there have to be."""
        self.writer.stop()
        self.writer.check()
        self._enough.set()
        for sender in self.senders:
            sender.join(60)
            assert not sender.is_alive(), "posts are never answered 200"
        self.scraper.stop()
        self.scraper.value(COUNTED)
        expected = list(self.writer.expected)
        for post in range(self.posts.taken):
            for b in body_of(post)[1]:
                expected[b] += 1
        return expected

    def stop(self) -> None:
        """Stop all of it, whatever happened."""
        self._enough.set()
        for sender in self.senders:
            sender.abandoned = True
        self.writer.stop()
        self.scraper.stop()
        self.daemon.stop()

    def statuses(self) -> Counter[int]:
        """How many answers of each kind there were. Raises AssertionError where one is wrong."""
        wrong = [line for sender in self.senders for line in sender.wrong]
        assert not wrong, wrong[:5]
        answers = [answer for sender in self.senders for answer in sender.answers]
        for begun, ended in self.in_force:
            within = Counter(status for sent, answered, status in answers if begun <= sent and answered <= ended)
            assert within.keys() == {503}, within
        return Counter(status for _, _, status in answers)


def run(
    rounds: Sequence[tuple[Fault, Kill]],
    seconds: float,
    posts_between: int,
    folder: Path,
    kafka: Broker,
    topic: str = "disk",
) -> dict[str, float]:
    """Feed by posts and by a topic through faults of so many seconds each; what was seen.

    Raises AssertionError on a false answer, and where a count is off by one.
    """
    load = Load(folder, kafka, topic, 1)
    try:
        load.start()
        load.go_on(posts_between)
        for fault, kill in rounds:
            load.suffer(fault, seconds, kill)
            load.go_on(posts_between)
        expected = load.finish()
        counts = load.daemon.settled_counts(sum(expected))
    finally:
        load.stop()
    assert counts[:N_BINS] == expected, (counts, expected)
    assert not any(counts[N_BINS:]), counts
    statuses = load.statuses()
    posts, records = load.posts.taken, load.writer.written
    assert _stored(load.state) == (posts, records)
    assert max(load.recoveries, default=0.0) < RECOVERY_SECONDS
    return {
        "faults": len(rounds),
        "posts": posts,
        "records": records,
        "refused": statuses[503],
        "refused, their key under way": statuses[409],
        "connections lost": statuses[0],
        "kills": load.kills,
        "scrapes": load.scraper.scrapes,
        "longest scrape s": round(load.scraper.longest, 3),
        "longest recovery s": round(max(load.recoveries, default=0.0), 2),
    }


def _stored(state: Path) -> tuple[int, int]:
    """Keys and records that the state of a stopped daemon holds."""
    with closing(sqlite3.connect(state)) as database:
        (keys,) = database.execute("SELECT count(*) FROM answers").fetchone()
        (offsets,) = database.execute("SELECT sum(position ->> 'offset') FROM positions").fetchone()
    return keys, offsets


def main() -> None:
    """The full run."""
    missing = untraceable() or jars()
    assert missing is None, missing
    with tempfile.TemporaryDirectory() as folder:
        print(f"starts that end with what is wrong, and nothing lost: {run_starts(BAD_STARTS, Path(folder))}")
    rounds: list[tuple[Fault, Kill]] = [(fault, kill) for kill in KILLS for fault in FAULTS]
    with tempfile.TemporaryDirectory() as folder, broker(Path(folder) / "kafka") as kafka:
        started = time.monotonic()
        seen = run(rounds, 15, 1_000, Path(folder), kafka)
        assert seen["longest scrape s"] < 1, seen
        print(f"errors of the disk, each row counted once: {seen} in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
