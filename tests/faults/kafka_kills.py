"""SIGKILL while a topic is consumed: every record is counted exactly once."""

import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

from tests.faults.crashing import EDGES, CrashingDaemon
from tests.kafka.broker import Broker, broker, jars

PARTITIONS = 12
N_BINS = len(EDGES) - 1
VALUES = [b'{"x": %.1f}' % (b + 0.5) for b in range(N_BINS)]
BATCH = 500
FEEDS = "sources: [s]"

#: Seconds from ready to the kill: before it has joined the group, while it catches up, and after that.
WITHIN = (0.05, 1.5)


def sources(kafka: Broker, topic: str, member: str | None = None) -> str:
    """Lines of the configuration: a source of the topic."""
    named = f", member: {member}" if member else ""
    return (
        f'sources: {{s: {{type: kafka, brokers: ["{kafka.address}"], topic: {topic}, group: {topic}, format: ndjson,'
        f" start: earliest{named}}}}}"
    )


class Writer(threading.Thread):
    """Writes records to random partitions of a topic, about so many a second, and counts them.

    Idempotent: the broker holds each of them once.
    """

    def __init__(self, kafka: Broker, topic: str, records: int, per_second: float, seed: int) -> None:
        super().__init__()
        self._kafka = kafka
        self._topic = topic
        self._records = records
        self._per_second = per_second
        self._random = random.Random(seed)
        self._enough = threading.Event()
        self._may_write = threading.Event()
        self._may_write.set()
        self._without_client = threading.Event()
        self.expected = [0] * N_BINS

    @property
    def written(self) -> int:
        """Records so far."""
        return sum(self.expected)

    def run(self) -> None:
        left = self._records
        while left and not self._enough.is_set():
            left = self._write(left)
            self._without_client.set()
            self._may_write.wait()
            self._without_client.clear()

    def _write(self, left: int) -> int:
        """Write until it is enough for now; how many are left. All that was written is at the broker then."""
        producer = Producer(
            {"bootstrap.servers": self._kafka.address, "enable.idempotence": True, "linger.ms": 20, "log_level": 0}
        )
        started, before = time.monotonic(), left
        while left and self._may_write.is_set() and not self._enough.is_set():
            n = min(left, BATCH)
            left -= n
            bins, partitions = self._random.choices(range(N_BINS), k=n), self._random.choices(range(PARTITIONS), k=n)
            for b, partition in zip(bins, partitions, strict=True):
                producer.produce(self._topic, VALUES[b], partition=partition)
                self.expected[b] += 1
            producer.poll(0)
            self._enough.wait(max(0.0, started + (before - left) / self._per_second - time.monotonic()))
        producer.flush(120)
        return left

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No client of it is there while the broker is away: one that asks a broker just starting may never come back
        (librdkafka #5301), and it is not the one that is tested."""
        self._may_write.clear()
        assert self._without_client.wait(150)
        try:
            yield
        finally:
            self._may_write.set()

    def stop(self) -> None:
        """Write no more; all that was written is at the broker."""
        self._enough.set()
        if self.ident is not None:
            self.join()

    def check(self) -> None:
        """The topic holds what was written: else the counts that are expected mean nothing."""
        asking = Consumer({"bootstrap.servers": self._kafka.address, "group.id": "asking", "log_level": 0})
        try:
            held = sum(
                high - low
                for low, high in (
                    asking.get_watermark_offsets(TopicPartition(self._topic, partition), 10)
                    for partition in range(PARTITIONS)
                )
            )
        finally:
            asking.close()
        assert held == self.written, (held, self.written)


class ConsumingDaemon(CrashingDaemon):
    """Remembers what was stored each time it starts."""

    def __init__(self, folder: Path, seed: int, sources: str) -> None:
        super().__init__(folder, seed, sources, FEEDS)
        self.stored: list[int] = []

    def start(self) -> None:
        super().start()
        self.stored.append(sum(self.counts()))

    @property
    def lives(self) -> int:
        """Lives that stored something before they were killed."""
        return sum(after > before for before, after in zip(self.stored, self.stored[1:], strict=False))


def run(
    records: int, kills: int, per_second: float, seed: int, folder: Path, kafka: Broker, topic: str = "kills"
) -> dict[str, int]:
    """Write, consume and kill; what was seen. Raises AssertionError where a count is off by one."""
    kafka.create(topic, PARTITIONS)
    daemon = ConsumingDaemon(folder, seed, sources(kafka, topic, member="one"))
    writer = Writer(kafka, topic, records, per_second, seed)
    try:
        daemon.start()
        writer.start()
        daemon.kill_now_and_then(kills, WITHIN)
        writer.join()
        kills_while_written = daemon.kills
        daemon.wait_for_kills()
        writer.check()
        counts = daemon.settled_counts(records)
    finally:
        writer.stop()
        daemon.stop()
    assert writer.written == records
    assert counts[:N_BINS] == writer.expected, (counts, writer.expected)
    assert not any(counts[N_BINS:]), counts
    return {
        "records": records,
        "kills": daemon.kills,
        "kills while records came": kills_while_written,
        "kills after something was stored": daemon.lives,
    }


def main() -> None:
    """The full run."""
    missing = jars()
    assert missing is None, f"{missing} is not here"
    with tempfile.TemporaryDirectory() as folder, broker(Path(folder) / "kafka") as kafka:
        started = time.monotonic()
        seen = run(10_000_000, 200, 20_000, 1, Path(folder), kafka)
        print(f"every record counted exactly once: {seen} in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
