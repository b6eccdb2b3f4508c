"""Sources where one case ends and another begins: pieces of files, positions of partitions, draws of made-up rows."""

import dataclasses
import os
import threading
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kldrift.errors import SourceError
from kldrift.records.samples import Chunk
from kldrift.records.sources import Distribution, KafkaSourceConfig, StdinSourceConfig, SyntheticSourceConfig
from kldrift.sources import framing, kafka_records
from kldrift.sources.base import Surroundings
from kldrift.sources.framing import read_records, records_end
from kldrift.sources.kafka import KafkaSource
from kldrift.sources.kafka_offsets import Offsets
from kldrift.sources.kafka_records import Records
from kldrift.sources.kafka_settings import client_settings
from kldrift.sources.readers import PlainReader, fingerprint, hole_end
from kldrift.sources.stdin import StdinSource
from kldrift.sources.synthetic import BLOCK_ROWS, SyntheticSource

# --- records ------------------------------------------------------------------------------------------


class Bytes:
    """A reader of bytes, which counts what is read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reads: list[int] = []

    def available(self, offset: int, n: int) -> int:
        return max(0, min(n, len(self.data) - offset))

    def read(self, offset: int, n: int) -> bytes:
        self.reads.append(n)
        return self.data[offset : offset + n]


@pytest.mark.parametrize("probe", [1, 3, 8, 100])
@pytest.mark.parametrize("quoted", [False, True])
def test_the_whole_records_of_a_stretch_are_read_whatever_its_size(
    probe: int, quoted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framing, "_PROBE_BYTES", probe)
    data = b'ab\ncd,"x\ny"\n\nlonger than any probe of these\nrest'
    for n in range(len(data) + 3):
        for offset in (0, 3):
            piece = data[offset : offset + n]
            expected = piece[: records_end(piece, quoted)]
            reader = Bytes(data)
            assert read_records(reader, offset, n, quoted) == expected
            assert max(reader.reads, default=0) <= max(probe, len(piece))
            if len(piece) <= probe:
                assert len(reader.reads) == 1


@pytest.mark.parametrize(
    ("data", "length"),
    [(b'"\n', 0), (b'"\n"\n', 4), (b'\n"\n', 1), (b'"a"\n"', 4), (b'\n"\n\n', 1), (b'x"\ny\n', 0), (b'"', 0)],
)
def test_a_quote_at_the_very_beginning_counts(data: bytes, length: int) -> None:
    assert records_end(data, quoted=True) == length


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


# --- standard input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "skipped"), [(15, False), (16, True)])
def test_a_record_without_an_end_is_skipped_from_the_limit_on(length: int, skipped: bool, tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    errors: list[str] = []
    source = StdinSource(
        StdinSourceConfig(name="stdin", format="ndjson"),
        Surroundings(lambda: 7, lambda reason, _: errors.append(reason)),
        fd=read_end,
        chunk_bytes=1,
        max_record_bytes=16,
        poll_seconds=0.01,
    )
    found = source.chunks({}, threading.Event())
    os.write(write_end, b"x" * length)
    until_none(found)
    os.write(write_end, b"\nnext\n")
    os.close(write_end)
    payload = b"".join(bytes(chunk.payload) for chunk in found if chunk is not None)  # type: ignore[arg-type]
    os.close(read_end)
    assert errors == (["record_too_long"] if skipped else [])
    assert payload == (b"next\n" if skipped else b"x" * length + b"\nnext\n")


def until_none(found: Generator[Chunk | None, None, None]) -> None:
    while next(found) is not None:
        pass


# --- made-up rows -------------------------------------------------------------------------------------


def synthetic(**changes: Any) -> SyntheticSource:
    given: dict[str, Any] = {
        "name": "demo",
        "rate_per_second": 0.0,
        "seed": 1,
        "rows": 2 * BLOCK_ROWS,
        "features": {"x": Distribution("uniform", {"low": 0, "high": 1}, missing=0.5)},
        "drift_after_ms": None,
        "drifted": {},
    }
    return SyntheticSource(SyntheticSourceConfig(**given | changes), Surroundings(lambda: 7, lambda *_: None))


def test_whether_a_value_is_missing_does_not_depend_on_the_value() -> None:
    plain = synthetic(features={"x": Distribution("uniform", {"low": 0, "high": 1})})
    holes = synthetic()
    values, with_holes = (made._column("x", 0) for made in (plain, holes))
    kept = [(a, b) for a, b in zip(values, with_holes, strict=True) if b is not None]
    assert all(a == b for a, b in kept)
    assert len(kept) == pytest.approx(BLOCK_ROWS / 2, rel=0.1)
    mean = sum(float(a) for a, _ in kept) / len(kept)  # type: ignore[arg-type]
    assert mean == pytest.approx(0.5, abs=0.05)


def test_the_rows_of_a_seed_stay_what_they_are_from_version_to_version() -> None:
    values = synthetic()._column("x", 0)
    assert [i for i, value in enumerate(values[:20]) if value is None] == [0, 3, 10, 11, 13, 15, 18]
    assert next(value for value in values if value is not None) == 0.38913203868492185
    assert [i for i, value in enumerate(synthetic()._column("x", 1)[:20]) if value is None] == [1, 2, 6, 9, 11, 14, 18]


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


# --- files --------------------------------------------------------------------------------------------


def test_a_plain_file_has_what_lies_between_an_offset_and_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDONLY)
    reader = PlainReader(fd)
    found = [reader.available(offset, 4) for offset in (0, 5, 8, 10, 12)]
    assert found == [4, 4, 2, 0, 0]
    assert reader.read(8, 4) == b"89"
    assert (reader.mark(3), reader.ended(10)) == (3, False)
    os.close(fd)


def test_a_hole_ends_where_data_begins(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.write(b"ab\0c")
        file.seek(1 << 20)
        file.write(b"end")
        file.truncate(3 << 20)
    fd = os.open(path, os.O_RDONLY)
    reader = PlainReader(fd)
    assert reader.data_from(0) == 0  # no NUL
    assert reader.data_from(1) == 1
    assert 4 < reader.data_from(8192) <= 1 << 20
    assert reader.data_from(2 << 20) in {2 << 20, 3 << 20}  # to the end, or as the file system has it
    assert reader.data_from(4 << 20) == 4 << 20  # beyond the end
    os.close(fd)
    end = hole_end_of(path, 8192)
    assert end == 1 << 20


def hole_end_of(path: Path, offset: int) -> int:
    fd = os.open(path, os.O_RDONLY)
    steps = hole_end(PlainReader(fd), offset)
    try:
        while True:
            next(steps)
    except StopIteration as ended:
        return int(ended.value)
    finally:
        os.close(fd)


def test_a_fingerprint_is_of_the_first_and_the_last_kilobyte(tmp_path: Path) -> None:
    def of(data: bytes, offset: int) -> str:
        path = tmp_path / "log"
        path.write_bytes(data)
        fd = os.open(path, os.O_RDONLY)
        try:
            return fingerprint(fd, offset)
        finally:
            os.close(fd)

    data = bytes(range(256)) * 20
    print_ = of(data, 5_000)
    assert len(print_) == 16
    assert print_ == of(data + b"more", 5_000)
    for changed, differs in ((0, True), (1_023, True), (1_024, False), (3_975, False), (3_976, True), (4_999, True)):
        other = bytearray(data)
        other[changed] ^= 1
        assert (of(bytes(other), 5_000) != print_) == differs, changed
    short = of(b"abc", 3)
    assert of(b"xbc", 3) != short
    assert of(b"abd", 3) != short
