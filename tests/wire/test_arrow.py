"""Arrow IPC streams: types, shapes, and streams that lie."""

import random
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kldrift.records.categories import canonical
from kldrift.records.samples import BatchSchema, Decoded, FeatureSchema, Vocabulary
from kldrift.records.specs import TimestampSpec
from kldrift.wire import decode
from tests.wire.arrow_deltas import as_delta, end, messages

SCHEMA = BatchSchema(
    (FeatureSchema("x", "numeric"), FeatureSchema("c", "categorical", ("red", "1", "1.5", "true", "u" * 20)))
)


def stream(frame: pl.DataFrame, compat: bool = False, **options: Any) -> bytes:
    """The stream of a frame; `compat` writes strings and dictionaries as older writers do."""
    buffer = BytesIO()
    level = pl.CompatLevel.oldest() if compat else pl.CompatLevel.newest()
    frame.write_ipc_stream(buffer, compat_level=level, **options)
    return buffer.getvalue()


def decode_columns(columns: dict[str, Any], compat: bool = False) -> Decoded:
    return decode("arrow", [stream(pl.DataFrame(columns), compat)], SCHEMA)


def listed(decoded: Decoded, i: int = 0) -> list[float | None]:
    return [None if v != v else v for v in decoded.batch.columns[i].tolist()]


@pytest.mark.parametrize(
    "dtype", [pl.Float64, pl.Float32, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64]
)
def test_numbers_of_every_type(dtype: type[pl.DataType]) -> None:
    decoded = decode_columns({"x": pl.Series([1, None, 3] * 20, dtype=dtype)})
    assert listed(decoded) == [1, None, 3] * 20
    assert decoded.batch.columns[0].flags.c_contiguous
    assert decoded.batch.invalid == ()
    assert listed(decoded, 1) == [6] * 60


def test_decimals() -> None:
    values = [Decimal("1.25"), None, Decimal("-0.05"), Decimal("123456789012345678901234.5")]
    decoded = decode_columns({"x": pl.Series(values, dtype=pl.Decimal(38, 2))})
    assert listed(decoded) == [1.25, None, -0.05, 1.2345678901234568e23]


def test_float64_without_nulls_is_not_copied() -> None:
    body = stream(pl.DataFrame({"x": np.arange(1000.0)}))
    column = decode("arrow", [body], SCHEMA).batch.columns[0]
    assert np.shares_memory(column, np.frombuffer(body, dtype=np.uint8))


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize(
    "values",
    [
        pl.Series([True, None, False]), pl.Series(["1", None, "2"]), pl.Series([[1.0], None, [2.0]]),
        pl.Series([{"a": 1}, None, {"a": 2}]), pl.Series([date(2024, 1, 1), None, date(2024, 1, 2)]),
        pl.Series([b"1", None, b"2"]), pl.Series(["a", None, "b"], dtype=pl.Categorical),
    ],
)  # fmt: skip
def test_columns_of_another_type_are_invalid_where_they_have_values(values: pl.Series, compat: bool) -> None:
    decoded = decode_columns({"x": values, "c": ["red"] * 3}, compat)
    assert listed(decoded) == [None] * 3
    ((feature, rows),) = decoded.batch.invalid
    assert (feature, rows.tolist()) == (0, [0, 2])
    assert decoded.bodies[0].errors[0].reason.startswith("expected a number, got a value of Arrow type ")
    assert listed(decoded, 1) == [0, 0, 0]


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize(
    ("values", "codes"),
    [
        (pl.Series(["red", None, "blue", "1", "u" * 20, "", "v" * 30]), [0, 6, 5, 1, 4, 6, 5]),
        (pl.Series(["red", None, "blue", "u" * 20], dtype=pl.Categorical), [0, 6, 5, 4]),
        (pl.Series(["red", None], dtype=pl.Enum(["blue", "red"])), [0, 6]),
        (pl.Series([1, None, 2]), [1, 6, 5]),
        (pl.Series([1.0, None, 1.5, float("nan")]), [1, 6, 2, 6]),
        (pl.Series([Decimal("1.50"), Decimal("1.00")], dtype=pl.Decimal(10, 2)), [2, 1]),
        (pl.Series([True, None, False]), [3, 6, 5]),
        (pl.Series([None, None], dtype=pl.Null), [6, 6]),
    ],
)
def test_categories_of_every_type(values: pl.Series, codes: list[int], compat: bool) -> None:
    decoded = decode_columns({"c": values}, compat)
    assert decoded.batch.columns[1].tolist() == codes
    assert decoded.batch.columns[1].dtype == np.int32
    assert decoded.batch.invalid == ()


@pytest.mark.parametrize("compat", [False, True])
def test_nested_columns_between_are_skipped(compat: bool) -> None:
    nested = pl.DataFrame({
        "a": [[["p"]], None], "b": [{"p": 1, "q": ["r" * 20]}, None], "s": ["t" * 20, None],
        "d": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int8, 2)), "x": [1.0, 2.0], "e": [b"1", b"u" * 30],
        "c": ["red", "u" * 20],
    })  # fmt: skip
    decoded = decode("arrow", [stream(nested, compat)], SCHEMA)
    assert listed(decoded) == [1, 2]
    assert listed(decoded, 1) == [0, 4]


def several_batches(frames: Sequence[pl.DataFrame]) -> bytes:
    """One stream of several record batches: the schema of the first, the batches of each, the end mark."""
    parts = [stream(frame) for frame in frames]
    schema_end = 8 + int.from_bytes(parts[0][4:8], "little")
    return parts[0][:schema_end] + b"".join(part[schema_end:-8] for part in parts) + parts[0][-8:]


def test_several_record_batches() -> None:
    frames = [pl.DataFrame({"x": [1.0, 2.0], "c": ["red", None]}), pl.DataFrame({"x": [3.0], "c": ["u" * 20]})]
    body = several_batches(frames)
    decoded = decode("arrow", [body, body], SCHEMA)
    assert listed(decoded) == [1, 2, 3] * 2
    assert listed(decoded, 1) == [0, 6, 4] * 2
    assert [b.accepted for b in decoded.bodies] == [3, 3]


def categories(texts: list[str | None]) -> pl.DataFrame:
    return pl.DataFrame({"c": pl.Series(texts, dtype=pl.Enum(sorted({text for text in texts if text is not None})))})


def test_delta_dictionaries() -> None:
    schema, first, batch = messages(categories(["1", "red"]))
    _, more, _ = messages(categories(["1.5", "true", "other"]))
    _, _, of_five = messages(categories(["a", "b", "c", "d", "e"]))
    body = b"".join([schema, first, batch, as_delta(more), of_five, batch, more, batch, end()])
    decoded = decode("arrow", [body], SCHEMA)
    assert decoded.bodies[0].unreadable is None
    before, deltas, replaced = [1, 0], [1, 0, 2, 5, 3], [2, 5]  # 1, red; 1, red, 1.5, other, true; 1.5, other
    assert listed(decoded, 1) == [*before, *deltas, *before, *replaced]


def test_a_delta_before_its_dictionary_begins_one() -> None:
    schema, first, batch = messages(categories(["1", "red"]))
    decoded = decode("arrow", [schema + as_delta(first) + batch + as_delta(first) + batch + end()], SCHEMA)
    assert listed(decoded, 1) == [1, 0] * 2


@pytest.mark.parametrize("what", ["deltas", "deltas and batches", "batches"])
def test_the_cost_of_many_small_messages_grows_with_their_number(what: str) -> None:
    _, one, _ = messages(categories(["x"]))

    def seconds(n: int) -> float:
        many = pl.Enum([f"{i:06}" for i in range(5 * n)])
        schema, first, batch = messages(pl.DataFrame({"c": pl.Series(["000001"], dtype=many)}))
        repeated = {"deltas": as_delta(one), "deltas and batches": as_delta(one) + batch, "batches": batch}[what]
        body = schema + first + repeated * n + batch + end()
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            assert decode("arrow", [body], SCHEMA).bodies[0].unreadable is None
            best = min(best, time.process_time() - began)
        return best

    assert seconds(4_000) < 8 * seconds(1_000)  # it was 16 times as much


def test_long_strings_that_share_their_bytes() -> None:
    text = "w" * 1000
    frame = pl.DataFrame({"c": [text, "u" * 20]}).select(pl.col("c").gather([0, 1] * 5000))
    body = stream(frame)
    assert len(body) < 500_000
    assert decode("arrow", [body], SCHEMA).batch.columns[1].tolist() == [5, 4] * 5000


def test_an_empty_table_is_no_error() -> None:
    (body,) = decode_columns({"x": pl.Series([], dtype=pl.Float64)}).bodies
    assert (body.accepted, body.unreadable) == (0, None)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_of_every_type(unit: Any) -> None:
    moment = datetime(2024, 1, 1, 12, tzinfo=UTC)
    ms = 1704110400000
    for values, time_unit in [
        (pl.Series([moment, None], dtype=pl.Datetime(unit, "UTC")), "s"),
        (pl.Series([moment.replace(tzinfo=None), None], dtype=pl.Datetime(unit)), "iso8601"),
        (pl.Series(["2024-01-01T13:00:00+01:00", None]), "iso8601"),
        (pl.Series(["2024-01-01T13:00:00+01:00", None], dtype=pl.Categorical), "iso8601"),
        (pl.Series([ms / 1000, None]), "s"),
        (pl.Series([ms, None]), "ms"),
    ]:
        schema = BatchSchema((SCHEMA.features[0],), TimestampSpec("ts", time_unit))  # type: ignore[arg-type]
        decoded = decode("arrow", [stream(pl.DataFrame({"x": [1.0, 2.0], "ts": values}))], schema)
        assert decoded.batch.event_ms is not None
        assert decoded.batch.event_ms.tolist() == [ms]
        assert dict(decoded.bodies[0].rejected) == {"timestamp": 1}
    for values, time_unit in [(pl.Series([ms, ms]), "iso8601"), (pl.Series(["1704110400", None]), "s")]:
        schema = BatchSchema((SCHEMA.features[0],), TimestampSpec("ts", time_unit))  # type: ignore[arg-type]
        (body,) = decode("arrow", [stream(pl.DataFrame({"x": [1.0, 2.0], "ts": values}))], schema).bodies
        assert dict(body.rejected) == {"timestamp": 2}


FRAME = pl.DataFrame({
    "x": [1.0, None, 3.0] * 9, "c": ["red", None, "u" * 20] * 9,
    "k": pl.Series(["p", "q", None] * 9, dtype=pl.Categorical),
    "b": [True, None, False] * 9, "l": [[1], None, [2, 3]] * 9,
})  # fmt: skip


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "an empty body"),
        (b'{"x": 1}', "expected a message at byte 0, got b'{\"x\"'"),
        (b"ARROW1\0\0" + b"x" * 50, "this is the Arrow file format; send the stream format"),
        (b"\xff\xff\xff\xff\0\0\0\0", "expected a schema, got the end of the stream"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f", "the stream is cut short"),
        (b"\xff\xff\xff\xff\x08\0\0\0" + b"\xff" * 8, ""),
        (stream(pl.DataFrame({"z": [1.0]})), "no column is a feature (expected some of x, c)"),
        (stream(FRAME, compression="zstd"), "compressed record batches"),
        (stream(FRAME, compression="lz4"), "compressed record batches"),
    ],
)
def test_unreadable(body: bytes, message: str) -> None:
    decoded = decode("arrow", [body, stream(pl.DataFrame({"x": [1.0]}))], SCHEMA)
    assert (decoded.bodies[0].unreadable or "").startswith("expected an Arrow IPC stream, got: " + message)
    assert [b.accepted for b in decoded.bodies] == [0, 1]


@pytest.mark.parametrize("compat", [False, True])
def test_a_stream_cut_anywhere_is_whole_batches_or_unreadable(compat: bool) -> None:
    body = stream(FRAME, compat)
    whole = decode("arrow", [body], SCHEMA)
    for size in range(0, len(body), 5):
        (result,) = decode("arrow", [body[:size]], SCHEMA).bodies
        if result.unreadable is None:  # cut between messages, which the format allows
            assert result.accepted in (0, whole.batch.n_rows)
        else:
            assert result.accepted == 0


def test_a_column_of_nulls_may_not_claim_a_trillion_rows() -> None:
    body = stream(pl.DataFrame({"c": pl.Series([None] * 12345, dtype=pl.Null)}))
    lie = body.replace((12345).to_bytes(8, "little"), (10**12).to_bytes(8, "little"))
    assert lie != body
    (result,) = decode("arrow", [lie], SCHEMA).bodies
    assert "too many rows" in (result.unreadable or "")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("compat", [False, True])
def test_corrupted_streams_are_survived(seed: int, compat: bool) -> None:
    """Every one decodes to something of the right shape or is unreadable; some of these make polars abort."""
    choose = random.Random(seed)
    body = stream(FRAME, compat)
    features = (
        *SCHEMA.features,
        FeatureSchema("k", "categorical", ("p",)),
        FeatureSchema("b", "categorical", ("true",)),
        FeatureSchema("k", "categorical", vocabulary=Vocabulary(5)),
        FeatureSchema("l", "vector", dimensions=2),
    )
    schema = BatchSchema(features, TimestampSpec("x", "s"))
    for _ in range(400):
        damaged = bytearray(body)
        for _ in range(choose.choice([1, 1, 2, 4])):
            damaged[choose.randrange(len(body))] = choose.choice([0, 1, 127, 128, 255, choose.randrange(256)])
        decoded = decode("arrow", [bytes(damaged)], schema)
        assert all(len(column) == decoded.batch.n_rows for column in decoded.batch.columns)
        assert decoded.batch.n_rows == decoded.bodies[0].accepted
        for _, rows in decoded.batch.invalid:
            assert len(rows) == 0 or rows[-1] < decoded.batch.n_rows


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_unreadable(data: bytes) -> None:
    (body,) = decode("arrow", [b"\xff\xff\xff\xff" + data], SCHEMA).bodies
    assert body.unreadable is not None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.floats(allow_nan=False)), min_size=1, max_size=20),
    st.lists(st.one_of(st.none(), st.text(max_size=15), st.sampled_from(["red", "u" * 20])), min_size=1, max_size=20),
    st.booleans(),
)
def test_what_is_written_is_read(numbers: list[float | None], texts: list[str | None], compat: bool) -> None:
    n = min(len(numbers), len(texts))
    frame = pl.DataFrame({"c": texts[:n], "x": numbers[:n]}, schema={"c": pl.String, "x": pl.Float64})
    decoded = decode("arrow", [stream(frame, compat)], SCHEMA)
    assert listed(decoded) == numbers[:n]
    known = {text: code for code, text in enumerate(SCHEMA.features[1].categories)}
    assert listed(decoded, 1) == [known.get(canonical(text), 5) if text else 6 for text in texts[:n]]
