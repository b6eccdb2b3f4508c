"""Kafka's records, offsets and settings, without a broker."""

import dataclasses
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kldrift.errors import SourceError
from kldrift.records.samples import Chunk
from kldrift.records.sources import KafkaSourceConfig
from kldrift.sources import kafka_records
from kldrift.sources.base import Surroundings
from kldrift.sources.kafka import KafkaSource
from kldrift.sources.kafka_offsets import Offsets
from kldrift.sources.kafka_records import Records
from kldrift.sources.kafka_settings import client_settings

# --- offsets of Kafka ---------------------------------------------------------------------------------


def records(*offsets: int) -> Records:
    return Records([b"{}"] * len(offsets), np.array(offsets), np.zeros(len(offsets), dtype=np.int64))


def test_a_partition_begins_at_offset_0_if_that_is_known() -> None:
    offsets = Offsets("t", {"t/1": {"offset": 0}, "t/2": {"offset": 5}}, None)
    assert [offsets.start(0, -1), offsets.start(0, 0), offsets.start(1, -1), offsets.start(2, 3)] == [None, 0, 0, 5]


def test_the_oldest_record_is_new() -> None:
    offsets = Offsets("t", {}, None)
    assert offsets.new(0, records(0, 1)).offsets.tolist() == [0, 1]
    assert offsets.new(0, records(1, 2, 2)).offsets.tolist() == [2]


@pytest.mark.parametrize(("settled", "counted"), [(9, False), (10, True), (15, True), (20, True), (21, False)])
def test_only_offsets_between_the_first_and_the_last_that_were_handed_over_are_committed(
    settled: int, counted: bool
) -> None:
    offsets = Offsets("t", {}, lambda: {"t/0": {"offset": settled}})
    offsets.begin(0, 10, -1)
    assert offsets.to_commit([0]) == {}  # nothing was handed over yet
    offsets.give(0, 20)
    assert offsets.to_commit([0]) == ({0: settled} if counted else {})
    assert offsets.all_settled([0]) == (settled == 20)
    offsets.end(0)
    assert offsets.to_commit([0]) == {}
    assert offsets.all_settled([0])


def test_the_beginning_of_a_partition_can_be_committed() -> None:
    offsets = Offsets("t", {}, lambda: {"t/0": {"offset": 0}})
    offsets.begin(0, -2, -1)
    offsets.give(0, 0)
    assert offsets.to_commit([0]) == {0: 0}
    offsets.commit({0: 0})
    assert offsets.to_commit([0]) == {}


class Member:
    """A member of a consumer group that is given what to say."""

    def __init__(self, taken: list[tuple[Any, bool]]) -> None:
        self.taken = taken
        self.connected = False
        self.left = self.closed = False

    @property
    def ended(self) -> bool:
        return not self.taken

    def take(self, seconds: float) -> Any:
        assert 0 < seconds <= 0.5
        chunk, self.connected = self.taken.pop(0)
        return chunk

    def leave(self) -> None:
        self.left = True

    def is_leaving(self, seconds: float) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


def test_what_is_yielded_says_that_a_broker_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    chunk = Chunk("t/0", {"offset": 1}, b"{}\n", 7)
    member = Member([(None, False), (chunk, False), (None, False), (None, False), (None, True), (chunk, True)])
    source = KafkaSource(SimpleNamespace(name="k"), Surroundings(lambda: 7, lambda *_: None))  # type: ignore[arg-type]
    monkeypatch.setattr(source, "_join", lambda _: member)
    # nothing while no broker has answered; one None after a chunk, which hands it over
    assert list(source.chunks({}, threading.Event())) == [chunk, None, None, chunk]
    assert member.left
    assert member.closed
    stopped = threading.Event()
    stopped.set()
    assert list(source.chunks({}, stopped)) == []


@pytest.mark.parametrize(
    ("missing", "said"), [("confluent_kafka", True), ("confluent_kafka.cimpl", True), ("ssl", False)]
)
def test_only_the_client_library_is_said_to_be_not_installed(
    missing: str, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import builtins

    original = builtins.__import__

    def importing(name: str, *rest: Any) -> Any:
        if name == "kldrift.sources.kafka_member":
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", importing)
    source = KafkaSource(SimpleNamespace(name="k"), Surroundings(lambda: 7, lambda *_: None))  # type: ignore[arg-type]
    with pytest.raises(SourceError if said else ModuleNotFoundError):
        next(source.chunks({}, threading.Event()))


# --- records of Kafka ---------------------------------------------------------------------------------


class Message:
    """A message as the client library hands it over."""

    def __init__(self, offset: int, kind: int, time_ms: int) -> None:
        self._offset, self._stamp = offset, (kind, time_ms)

    def value(self) -> bytes:
        return b"{}"

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return self._stamp


def test_a_record_without_a_time_has_minus_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_records, "Message", Message)
    found = kafka_records.records_of([Message(5, 0, 99), Message(6, 1, 0), Message(7, 2, 1234)])  # type: ignore[list-item]
    assert found.times_ms.tolist() == [-1, 0, 1234]
    assert found.offsets.tolist() == [5, 6, 7]


@pytest.mark.parametrize(
    ("values", "rows", "offsets", "empty"),
    [
        ([b'{"a":1}', b'{"a":2}'], [b'{"a":1}', b'{"a":2}'], [0, 1], []),
        ([b'{"a":1}', None, b"", b'{"a":2}'], [b'{"a":1}', b'{"a":2}'], [0, 3], [1, 2]),
        ([b'{"a":\n1}', b'{"a":2}'], [b'{"a": 1}', b'{"a":2}'], [0, 1], []),
        ([b'[{"a":1},{"a":2}]', b'{"a":3}'], [b'{"a":1}', b'{"a":2}', b'{"a":3}'], [0, 0, 1], []),
        ([b" {}"], [b"{}"], [0], []),
        ([b"[]"], [], [], [0]),
        ([None], [], [], [0]),
    ],
)
def test_rows_of_records_with_their_offsets(
    values: list[bytes | None], rows: list[bytes], offsets: list[int], empty: list[int]
) -> None:
    n = len(values)
    lines, without = kafka_records.lines_of(Records(values, np.arange(n), np.arange(n) + 100), "json")
    assert lines.payload.splitlines() == rows
    assert lines.offsets.tolist() == offsets
    assert lines.times_ms.tolist() == [offset + 100 for offset in offsets]
    assert without == empty


def test_plain_rows_are_joined_without_a_look_into_them(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[bytes] = []
    plain = kafka_records._json_lines
    monkeypatch.setattr(kafka_records, "_json_lines", lambda value: (looked.append(value), plain(value))[1])
    for values, seen in (([b'{"a":1}', b'{"b":2}'], 0), ([b"{}", b"[]"], 2), ([b"{}", b"{\n}"], 2), ([b"{}", None], 1)):
        looked.clear()
        kafka_records.lines_of(Records(values, np.arange(2), np.zeros(2, dtype=np.int64)), "json")
        assert len(looked) == seen, values


def test_offsets_are_committed_by_us_alone() -> None:
    config = KafkaSourceConfig(
        name="k", brokers=("a:1", "b:2"), topic="t", group="g", format="ndjson", start="earliest"
    )
    made = client_settings(config, once=False)
    assert made["bootstrap.servers"] == "a:1,b:2"
    assert (made["enable.auto.commit"], made["enable.auto.offset.store"]) == (False, False)
    assert made["session.timeout.ms"] == 10_000
    assert made["enable.partition.eof"] is False
    assert client_settings(config, once=True)["enable.partition.eof"] is True
    static = client_settings(dataclasses.replace(config, member="one"), once=False)
    assert static["group.instance.id"] == "one"
    assert "session.timeout.ms" not in static
