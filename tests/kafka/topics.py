"""Writes to a broker, and a reader that keeps what a daemon keeps."""

import json
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import Producer

from kldrift.errors import SourceError
from kldrift.records.samples import Chunk
from kldrift.records.sources import KafkaSourceConfig
from kldrift.sources.base import Surroundings
from kldrift.sources.kafka import KafkaSource
from kldrift.sources.kafka_settings import KafkaLimits

Positions = dict[str, Mapping[str, int | str]]


def produce(address: str, topic: str, values: Iterable[bytes | None], partitions: int, first_ms: int = 1000) -> None:
    """Write values to the partitions in turn; record k has the time ``first_ms + k``."""
    producer = Producer({"bootstrap.servers": address, "linger.ms": 5, "log_level": 0})
    for k, value in enumerate(values):
        producer.produce(topic, value, partition=k % partitions, timestamp=first_ms + k)
        if k % 10_000 == 9_999:
            producer.flush(30)
    assert producer.flush(30) == 0


def rows(start: int, stop: int) -> list[bytes]:
    return [b'{"x":%d}' % k for k in range(start, stop)]


class Reader:
    """Counts a source in a thread as the daemon does: counts and positions are stored together."""

    def __init__(self, address: str, topic: str, positions: Positions | None = None, **given: Any) -> None:
        self.counts: Counter[int] = Counter()
        self.positions: Positions = dict(positions or {})
        self.chunks: list[Chunk] = []
        self.errors: list[tuple[str, str]] = []
        self.streams: list[list[str]] = []
        self.failure: SourceError | None = None
        self.stop = threading.Event()
        self.source = KafkaSource(
            KafkaSourceConfig(
                name="scores",
                brokers=(address,),
                topic=topic,
                group=given.pop("group", "kldrift"),
                format=given.pop("format", "ndjson"),
                start=given.pop("start", "earliest"),
                member=given.pop("member", None),
                security=given.pop("security", None),
            ),
            Surroundings(
                clock_ms=lambda: 7,
                on_error=lambda reason, detail: self.errors.append((reason, detail)),
                once=given.pop("once", False),
                settled=given.pop("settled", lambda: self.positions),
                on_rebalance=lambda streams: self.streams.append(list(streams)),
            ),
            settings=given.pop("settings", None),
            limits=KafkaLimits(**{"commit_seconds": 0.2, **given}),
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            for chunk in self.source.chunks(dict(self.positions), self.stop):
                if chunk is not None:
                    self.take(chunk)
        except SourceError as error:
            self.failure = error

    def take(self, chunk: Chunk) -> None:
        assert isinstance(chunk.payload, bytes)
        self.chunks.append(chunk)
        self.counts.update(json.loads(line)["x"] for line in chunk.payload.splitlines())
        self.positions[chunk.stream] = chunk.position

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def assigned(self) -> list[str]:
        return self.streams[-1] if self.streams else []

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def read_to_end(self) -> "Reader":
        with self:
            self._thread.join(60)
        return self
