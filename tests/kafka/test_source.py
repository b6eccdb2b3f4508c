"""The Kafka source against a real broker."""

import json
import threading
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.e2e.processes import until
from tests.kafka.broker import Broker, broker
from tests.kafka.topics import Reader, produce, rows

PARTITIONS = 12
N = 20_000
CONTINUES = "continuing at the oldest record. Is its retention too short?"


@pytest.fixture
def topic(kafka: Broker, request: pytest.FixtureRequest) -> str:
    """A topic that only this test uses."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    kafka.create(name, PARTITIONS)
    return name


def committed(kafka: Broker, topic: str, group: str = "kldrift") -> dict[str, int]:
    asking = Consumer({"bootstrap.servers": kafka.address, "group.id": group, "log_level": 0})
    try:
        found = asking.committed([TopicPartition(topic, partition) for partition in range(PARTITIONS)], 10)
        return {f"{topic}/{part.partition}": part.offset for part in found if part.offset >= 0}
    finally:
        asking.close()


def offsets(reader: Reader) -> dict[str, int]:
    return {stream: int(position["offset"]) for stream, position in reader.positions.items()}


def test_every_record_comes_once_with_its_time_and_the_committed_offsets_follow(kafka: Broker, topic: str) -> None:
    produce(kafka.address, topic, rows(0, N), PARTITIONS, first_ms=5_000)
    with Reader(kafka.address, topic, group=topic) as reader:
        until(lambda: reader.total >= N)
        until(lambda: committed(kafka, topic, topic) == offsets(reader))
    assert reader.counts == Counter(range(N))
    assert reader.errors == []
    for chunk in reader.chunks:
        values = [json.loads(line)["x"] for line in chunk.payload.splitlines()]  # type: ignore[union-attr]
        assert chunk.times_ms is not None
        assert chunk.times_ms.tolist() == [5_000 + x for x in values]
    last = {chunk.stream: chunk.lag_records for chunk in reader.chunks}
    assert last == dict.fromkeys(offsets(reader), 0)
    assert reader.streams[-1] == []


def test_a_member_that_leaves_has_committed_what_was_settled(kafka: Broker, topic: str) -> None:
    produce(kafka.address, topic, rows(0, N), PARTITIONS)
    with Reader(kafka.address, topic, group=topic, commit_seconds=1e6) as reader:
        until(lambda: reader.total >= N)
    assert committed(kafka, topic, topic) == offsets(reader)


def test_what_was_never_settled_is_not_committed(kafka: Broker, topic: str) -> None:
    produce(kafka.address, topic, rows(0, N), PARTITIONS)
    with Reader(kafka.address, topic, group=topic, settled=dict, settle_seconds=0.2) as reader:
        until(lambda: reader.total >= N)
    assert committed(kafka, topic, topic) == {}


def test_it_continues_from_its_own_positions_though_nothing_was_committed(kafka: Broker, topic: str) -> None:
    produce(kafka.address, topic, rows(0, N), PARTITIONS)
    with Reader(kafka.address, topic, group=topic, settled=None) as first:
        until(lambda: first.total >= N)
    produce(kafka.address, topic, rows(N, N + 1200), PARTITIONS)
    with Reader(kafka.address, topic, first.positions, group=topic, settled=None) as second:
        until(lambda: second.total >= 1200)
    assert second.counts == Counter(range(N, N + 1200))
    assert committed(kafka, topic, topic) == {}


def test_it_continues_after_what_another_member_committed(kafka: Broker, topic: str) -> None:
    produce(kafka.address, topic, rows(0, N), PARTITIONS)
    with Reader(kafka.address, topic, group=topic) as first:
        until(lambda: first.total >= N)
    produce(kafka.address, topic, rows(N, N + 1200), PARTITIONS)
    old = {stream: {"offset": 5} for stream in first.positions}
    with Reader(kafka.address, topic, old, group=topic) as second:
        until(lambda: second.total >= 1200)
    assert second.counts == Counter(range(N, N + 1200))


def test_latest_begins_at_the_end(kafka: Broker, topic: str) -> None:
    produce(kafka.address, topic, rows(0, N), PARTITIONS)
    with Reader(kafka.address, topic, group=topic, start="latest") as reader:
        until(lambda: reader.assigned)
        produce(kafka.address, topic, rows(N, N + 1200), PARTITIONS)
        until(lambda: reader.total >= 1200)
    assert reader.counts == Counter(range(N, N + 1200))


def test_once_reads_to_the_end_that_was_there_at_the_beginning(kafka: Broker, topic: str) -> None:
    produce(kafka.address, topic, rows(0, N), PARTITIONS)
    reader = Reader(kafka.address, topic, group=topic, once=True).read_to_end()
    assert reader.failure is None
    assert reader.counts == Counter(range(N))
    again = Reader(kafka.address, topic, reader.positions, group=topic, once=True).read_to_end()
    assert (again.failure, again.total) == (None, 0)
    assert committed(kafka, topic, topic) == {}


def test_members_that_join_and_leave_in_order_together_count_each_record_once(kafka: Broker, topic: str) -> None:
    written, stop = 0, threading.Event()

    def write() -> None:
        nonlocal written
        while not stop.wait(0.05):
            produce(kafka.address, topic, rows(written, written + 1200), PARTITIONS)
            written += 1200

    writing = threading.Thread(target=write)
    writing.start()
    readers = []
    try:
        with Reader(kafka.address, topic, group=topic) as first:
            readers.append(first)
            until(lambda: first.total)
            for _ in range(2):
                with Reader(kafka.address, topic, group=topic) as other:
                    readers.append(other)
                    until(lambda: other.total)
                until(lambda: len(first.assigned) == PARTITIONS)
            stop.set()
            writing.join()
            until(lambda: sum(reader.total for reader in readers) >= written)
    finally:
        stop.set()
        writing.join()
    counts = sum((reader.counts for reader in readers), Counter())
    assert counts == Counter(range(written))
    assert [reader.errors for reader in readers] == [[], [], []]


def test_while_nobody_takes_chunks_it_stays_in_the_group_and_loses_nothing(kafka: Broker, topic: str) -> None:
    produce(kafka.address, topic, rows(0, N), PARTITIONS)
    settings = {"max.poll.interval.ms": 6_000, "session.timeout.ms": 6_000, "fetch.message.max.bytes": 10_000}
    gate = threading.Event()
    reader = Reader(
        kafka.address, topic, group=topic, buffer_bytes=1, block_seconds=0.05, chunk_bytes=2_000, settings=settings
    )
    take = reader.take

    def held(chunk: object) -> None:
        if len(reader.chunks) == 3:
            gate.wait(60)
        take(chunk)  # type: ignore[arg-type]

    reader.take = held  # type: ignore[method-assign]
    with reader:
        until(lambda: len(reader.chunks) == 3)
        # Another member gets its share, which requires the first one to respond to the group.
        with Reader(kafka.address, topic, group=topic, settle_seconds=0.1) as other:
            until(lambda: len(other.assigned) == PARTITIONS // 2)
            until(lambda: len(reader.assigned) == PARTITIONS // 2)
            other_counts = other.counts
        gate.set()
        until(lambda: (reader.counts.copy() | other_counts).total() >= N)  # a copy, as the reader counts on
    assert reader.errors == []
    assert set(reader.counts) | set(other_counts) == set(range(N))
    assert max(reader.counts.values()) == 1


def test_a_position_the_topic_no_longer_holds_continues_at_the_oldest_record_and_is_reported(
    kafka: Broker, topic: str
) -> None:
    produce(kafka.address, topic, rows(0, 1200), PARTITIONS)
    with Reader(kafka.address, topic, group=topic) as first:
        until(lambda: first.total >= 1200)
    produce(kafka.address, topic, rows(1200, 3600), PARTITIONS)
    admin = AdminClient({"bootstrap.servers": kafka.address, "log_level": 0})
    cut = [TopicPartition(topic, partition, 200) for partition in range(PARTITIONS)]
    for done in admin.delete_records(cut).values():
        done.result(10)
    with Reader(kafka.address, topic, first.positions, group=topic) as reader:
        until(lambda: reader.total >= 1200)
        until(lambda: committed(kafka, topic, topic) == offsets(reader))
    assert reader.counts == Counter(range(2400, 3600))
    assert sorted(reader.errors) == sorted(
        ("out_of_range", f"{topic}/{partition}: the topic no longer holds our position 100; {CONTINUES}")
        for partition in range(PARTITIONS)
    )


def test_tombstones_and_empty_values_are_reported_with_their_place(kafka: Broker, topic: str) -> None:
    produce(kafka.address, topic, [b'{"x":1}', None, b"", b" \n", b'{"x":2}'], 1)
    reader = Reader(kafka.address, topic, group=topic, once=True).read_to_end()
    assert reader.counts == Counter([1, 2])
    assert reader.positions == {f"{topic}/0": {"offset": 5}}
    assert reader.errors == [
        ("tombstone", f"{topic}/0/1: the record has no value and is skipped"),
        ("empty", f"{topic}/0/2: expected rows, but the value holds none; the record is skipped"),
        ("empty", f"{topic}/0/3: expected rows, but the value holds none; the record is skipped"),
    ]


def test_a_record_larger_than_a_chunk_is_a_chunk_of_its_own(kafka: Broker, topic: str) -> None:
    large = json.dumps({"x": 2, "text": "a" * 900_000}).encode()
    produce(kafka.address, topic, [b'{"x":1}', large, b'{"x":3}'], 1)
    reader = Reader(kafka.address, topic, group=topic, once=True, chunk_bytes=1000).read_to_end()
    assert [len(chunk.payload) for chunk in reader.chunks] == [8, len(large) + 1, 8]  # type: ignore[arg-type]
    assert reader.counts == Counter([1, 2, 3])


def test_a_topic_that_does_not_exist(kafka: Broker) -> None:
    for once in (False, True):
        reader = Reader(kafka.address, "nowhere", group="nowhere", once=once).read_to_end()
        assert reader.failure is not None
        assert reader.failure.reason == "unknown_topic"
        assert "create it, or correct `topic`" in str(reader.failure)


def test_a_broker_that_goes_away_and_comes_back_loses_nothing(kafka_jars: None, tmp_path: Path) -> None:
    with broker(tmp_path / "kafka") as own:
        own.create("t", PARTITIONS)
        produce(own.address, "t", rows(0, N), PARTITIONS)
        with Reader(own.address, "t", down_seconds=60) as reader:
            until(lambda: reader.total >= N // 2)
            own.stop(kill=True)
            own.start()
            produce(own.address, "t", rows(N, 2 * N), PARTITIONS)
            until(lambda: reader.total >= 2 * N, 60)
        assert reader.counts == Counter(range(2 * N))
        assert reader.failure is None

        own.stop()
        with Reader(own.address, "t", reader.positions, down_seconds=0.5) as down:
            until(lambda: down.failure is not None)
        assert down.failure is not None
        assert down.failure.reason == "unreachable"
        assert "no broker answers" in str(down.failure)
