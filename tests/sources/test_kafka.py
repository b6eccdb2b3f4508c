"""The Kafka source, except for group membership with a real broker (`tests/kafka`)."""

import io
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kldrift.errors import SourceError
from kldrift.records.samples import Chunk
from kldrift.records.sources import KafkaSecurity, KafkaSourceConfig
from kldrift.sources.base import Surroundings
from kldrift.sources.kafka import KafkaSource
from kldrift.sources.kafka_offsets import Offsets
from kldrift.sources.kafka_records import Records, lines_of, pieces
from kldrift.sources.kafka_settings import KafkaLimits, security_settings
from tests.sources.mock_kafka import MockKafka

SECRET = "hunter2"


@pytest.fixture(scope="module")
def mock() -> MockKafka:
    return MockKafka()


def source(brokers: tuple[str, ...], topic: str, **given: Any) -> KafkaSource:
    def fail(reason: str, detail: str) -> None:
        raise AssertionError(f"{reason}: {detail}")

    return KafkaSource(
        KafkaSourceConfig(
            name="scores",
            brokers=brokers,
            topic=topic,
            group="kldrift",
            format=given.pop("format", "ndjson"),
            start=given.pop("start", "earliest"),
            security=given.pop("security", None),
        ),
        Surroundings(
            clock_ms=lambda: 7,
            on_error=fail,
            once=given.pop("once", True),
            settled=given.pop("settled", None),
            on_rebalance=given.pop("on_rebalance", lambda _: None),
        ),
        limits=KafkaLimits(**given),
    )


def read(made: KafkaSource, positions: dict[str, Any] | None = None) -> list[Chunk]:
    return [chunk for chunk in made.chunks(positions or {}, threading.Event()) if chunk is not None]


def records(*values: bytes | None, first: int = 100) -> Records:
    n = len(values)
    return Records(list(values), np.arange(first, first + n), np.arange(5000, 5000 + n))


# --- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "ndjson", "json"),
    [
        (b'{"x":1}', [b'{"x":1}'], [b'{"x":1}']),
        (b'{"x":1}\n', [b'{"x":1}'], [b'{"x":1}']),
        (b'\xef\xbb\xbf{"x":1}\r\n', [b'{"x":1}\r'], [b'{"x":1}']),
        (b'{"x":1}\n\n{"x":2}', [b'{"x":1}', b'{"x":2}'], [b'{"x":1}  {"x":2}']),
        (b'{\n  "x": 1\n}', [b"{", b'  "x": 1', b"}"], [b'{   "x": 1 }']),
        (b' [{"x":1}, {"x":[2,3]}]', [b' [{"x":1}, {"x":[2,3]}]'], [b'{"x":1}', b'{"x":[2,3]}']),
        (b'[{"x":1},\n{]', [b'[{"x":1},', b"{]"], [b'[{"x":1}, {]']),
        (b"[]", [b"[]"], []),
        (b"\xff\xfe", [b"\xff\xfe"], [b"\xff\xfe"]),
        (b"", [], []),
        (b" \t\n ", [], []),
        (None, [], []),
    ],
)
def test_the_rows_of_a_value(value: bytes | None, ndjson: list[bytes], json: list[bytes]) -> None:
    for body_format, expected in (("ndjson", ndjson), ("json", json)):
        lines, empty = lines_of(records(b'{"a":0}', value, b'{"b":0}'), body_format)  # type: ignore[arg-type]
        assert lines.payload == b"".join(line + b"\n" for line in [b'{"a":0}', *expected, b'{"b":0}'])
        assert lines.offsets.tolist() == [100, *[101] * len(expected), 102]
        assert lines.times_ms.tolist() == [5000, *[5001] * len(expected), 5002]
        assert empty == ([] if expected else [101])


@given(
    st.lists(st.one_of(st.none(), st.binary(max_size=12), st.sampled_from([b'{"x":1}', b"{}\n{}", b"[1]"]))),
    st.sampled_from(["ndjson", "json"]),
)
def test_every_line_has_an_offset_and_a_time_whatever_the_values(values: list[bytes | None], body_format: Any) -> None:
    lines, empty = lines_of(records(*values), body_format)
    found = lines.payload.split(b"\n")
    assert found.pop() == b""
    assert len(found) == len(lines.offsets) == len(lines.times_ms)
    assert all(line.strip(b" \t\r") for line in found)
    assert sorted({*lines.offsets.tolist(), *empty}) == list(range(100, 100 + len(values)))
    assert (lines.times_ms - lines.offsets == 4900).all()


@given(st.lists(st.one_of(st.none(), st.binary(max_size=9)), min_size=1), st.integers(0, 20))
def test_pieces_stay_within_their_size_except_for_single_records(values: list[bytes | None], max_bytes: int) -> None:
    cut = list(pieces(records(*values), max_bytes))
    assert [value for piece in cut for value in piece.values] == values
    assert np.concatenate([piece.offsets for piece in cut]).tolist() == list(range(100, 100 + len(values)))
    for piece in cut:
        assert len(piece.values) == 1 or sum(len(value or b"") for value in piece.values) <= max_bytes


# --- offsets ---------------------------------------------------------------------------------------


def test_a_partition_begins_at_the_larger_of_our_position_and_the_committed_offset() -> None:
    offsets = Offsets("t", {"t/0": {"offset": 50}, "t/1": {"offset": 50}, "other/2": {"offset": 9}}, None)
    assert offsets.start(0, -1001) == 50
    assert offsets.start(0, 20) == 50
    assert offsets.start(1, 70) == 70
    assert offsets.start(2, 70) == 70
    assert offsets.start(2, -1001) is None


def test_records_that_were_read_before_are_removed() -> None:
    offsets = Offsets("t", {}, None)
    offsets.begin(0, 100, -1)
    assert offsets.new(0, records(b"a", b"b", b"c")).values == [b"a", b"b", b"c"]
    # one batch with records from before a rebalance, and the same ones again after it
    again = Records([b"d", b"b", b"c", b"d", b"e"], np.array([103, 101, 102, 103, 104]), np.zeros(5, np.int64))
    assert offsets.new(0, again).values == [b"d", b"e"]
    assert offsets.new(0, records(b"a", b"b", first=103)).values == []
    # gaps (compaction, transactions) do not matter
    assert offsets.new(0, records(b"z", first=900)).values == [b"z"]


def test_only_settled_records_that_this_member_handed_over_are_committed() -> None:
    settled: dict[str, dict[str, int | str]] = {"t/0": {"offset": 100}}
    offsets = Offsets("t", {"t/0": {"offset": 100}}, lambda: settled)
    offsets.begin(0, 500, 500)  # another member continued to 500
    assert offsets.to_commit([0]) == {}
    offsets.give(0, 600)
    assert not offsets.all_settled([0])
    assert offsets.to_commit([0]) == {}  # the position 100 dates from before that
    settled["t/0"] = {"offset": 550}
    assert offsets.to_commit([0]) == {0: 550}
    settled["t/0"] = {"offset": 600}
    assert offsets.to_commit([0]) == {0: 600}
    assert offsets.all_settled([0])
    offsets.commit({0: 600})
    assert offsets.to_commit([0]) == {}
    offsets.end(0)
    assert offsets.start(0, 600) == 600


def test_a_topic_created_again_is_read_from_its_beginning_whatever_was_committed() -> None:
    settled: dict[str, dict[str, int | str]] = {"t/0": {"offset": 1000}}
    offsets = Offsets("t", {"t/0": {"offset": 1000}}, lambda: settled)
    offsets.begin(0, 1000, 1000)
    offsets.restart(0)
    assert offsets.new(0, records(b"a", b"b", first=0)).values == [b"a", b"b"]
    offsets.give(0, 2)
    assert offsets.to_commit([0]) == {}  # 1000 dates from the previous topic
    assert not offsets.all_settled([0])
    settled["t/0"] = {"offset": 2}
    assert offsets.to_commit([0]) == {0: 2}
    offsets.end(0)
    assert offsets.start(0, 1000) == 2


# --- secrets and settings --------------------------------------------------------------------------


def test_secrets_are_read_from_their_files_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "user").write_text("us\n")
    (tmp_path / "password").write_text(f"{SECRET}\r\n")
    security = KafkaSecurity(
        "sasl_ssl", "SCRAM-SHA-512", tmp_path / "user", tmp_path / "password", ca=tmp_path / "ca.pem"
    )
    assert security_settings(security) == {
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "us",
        "sasl.password": SECRET,
        "ssl.ca.location": str(tmp_path / "ca.pem"),
    }
    made = source(("127.0.0.1:1",), "t", security=security)
    with pytest.raises(SourceError, match="the Kafka client refuses its settings") as refused:
        read(made)  # ca.pem does not exist
    assert refused.value.reason == "configuration"
    assert SECRET not in f"{security!r}{made!r}{refused.value!r}{refused.value.__cause__!r}"


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff" + SECRET.encode(), b"a\0b"])
def test_a_file_without_a_secret(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match="expected a") as refused:
        security_settings(KafkaSecurity("sasl_ssl", "PLAIN", password_file=path))
    assert refused.value.reason == "secret"
    assert str(path) in str(refused.value)
    assert SECRET not in f"{refused.value!r}{refused.value.__cause__!r}"


def test_without_the_client_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("kldrift.sources.kafka_")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(SourceError, match=r"pip install 'kldrift\[kafka\]'") as refused:
        read(source(("127.0.0.1:1",), "t"))
    assert refused.value.reason == "not_installed"


def test_no_broker_answers() -> None:
    made = source(("127.0.0.1:1",), "t", once=False, down_seconds=0.1)
    with pytest.raises(SourceError, match="no broker answers") as refused:
        read(made)
    assert refused.value.reason == "unreachable"


# --- reading ---------------------------------------------------------------------------------------


def test_a_member_reads_every_partition_and_leaves_when_it_is_stopped(mock: MockKafka) -> None:
    for partition in range(4):
        mock.write("grouped", [b'{"x":%d}' % k for k in range(100)], partition)
    stop, positions, streams = threading.Event(), {}, []
    made = source(mock.brokers, "grouped", once=False, settled=lambda: positions, on_rebalance=streams.append)
    for chunk in made.chunks({}, stop):
        if chunk is not None:
            assert chunk.payload == b"".join(b'{"x":%d}\n' % k for k in range(100))
            assert chunk.times_ms is not None
            assert chunk.times_ms.tolist() == list(range(1000, 1100))
            assert chunk.arrival_ms == 7
            positions[chunk.stream] = chunk.position
            if len(positions) == 4:
                stop.set()
    assert positions == {f"grouped/{p}": {"offset": 100} for p in range(4)}
    assert streams == [[f"grouped/{p}" for p in range(4)], []]


def test_lists_of_rows(mock: MockKafka) -> None:
    mock.write("lists", [b'[{"x":1},{"x":2}]', b'{\n"x":3}', b'[\n{"x":4}\n]'])
    (chunk,) = read(source(mock.brokers, "lists", format="json"))
    assert chunk.payload == b'{"x":1}\n{"x":2}\n{ "x":3}\n{"x":4}\n'
    assert chunk.times_ms is not None
    assert chunk.times_ms.tolist() == [1000, 1000, 1001, 1002]


def test_an_arrow_stream_is_a_chunk_with_the_time_of_its_record(mock: MockKafka) -> None:
    streams = []
    for x in range(3):
        stream = io.BytesIO()
        pl.DataFrame({"x": [float(x)] * 2}).write_ipc_stream(stream)
        streams.append(stream.getvalue())
    mock.write("arrows", streams)
    chunks = read(source(mock.brokers, "arrows", format="arrow"))
    assert [chunk.payload for chunk in chunks] == streams
    assert [chunk.arrival_ms for chunk in chunks] == [1000, 1001, 1002]
    assert [chunk.position for chunk in chunks] == [{"offset": 1}, {"offset": 2}, {"offset": 3}]
    assert all(chunk.times_ms is None for chunk in chunks)


def test_once_does_not_begin_beyond_its_end(mock: MockKafka) -> None:
    mock.write("ended", [b'{"x":1}'])
    assert read(source(mock.brokers, "ended", start="latest")) == []
    assert read(source(mock.brokers, "ended"), {"ended/0": {"offset": 1}}) == []
