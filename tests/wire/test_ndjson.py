"""NDJSON: what a row means, what a bad one costs, and that the bulk and the row-wise pass agree."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kldrift.records.samples import BatchSchema, Decoded, FeatureSchema
from kldrift.records.specs import TimestampSpec
from kldrift.wire import decode, ndjson
from kldrift.wire.plan import plan_for
from kldrift.wire.tables import finish

CATEGORIES = ("red", "1", "1.5", "true", "", "a\nb", 'qu"ote', "ü", "x" * 10_000, "1000", "18446744073709551616")
X = FeatureSchema("x", "numeric")
Y = FeatureSchema("y", "numeric")
C = FeatureSchema("c", "categorical", CATEGORIES)
SCHEMA = BatchSchema((X, C, Y))
TIMED = BatchSchema((X, C), TimestampSpec("ts", "iso8601"))
NUMBERED = BatchSchema((X,), TimestampSpec("ts", "ms"))


def rowwise(data: bytes, schema: BatchSchema) -> Decoded:
    plan = plan_for(schema)
    return finish(ndjson.decode_rowwise([data], plan), plan)


def bulk(data: bytes, schema: BatchSchema) -> Decoded | None:
    plan = plan_for(schema)
    table = ndjson.decode_bulk(data, plan)
    return None if table is None else finish(ndjson.Decoding(table, [table.n_records]), plan)


def assert_same(a: Decoded, b: Decoded) -> None:
    assert a.batch.n_rows == b.batch.n_rows
    for left, right in zip(a.batch.columns, b.batch.columns, strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
        if left.dtype == np.float64:  # 0.0 and -0.0 too, but a NaN is one whatever its bits
            np.testing.assert_array_equal(np.signbit(left) & ~np.isnan(left), np.signbit(right) & ~np.isnan(right))
    if a.batch.event_ms is None:
        assert b.batch.event_ms is None
    else:
        np.testing.assert_array_equal(a.batch.event_ms, b.batch.event_ms)
    assert a.bodies == b.bodies


def values(column: Any) -> list[Any]:
    return [None if value != value else value for value in column.tolist()]


@pytest.mark.parametrize("n_copies", [1, 4000], ids=["rowwise", "bulk"])
def test_columns_are_contiguous_and_typed(n_copies: int) -> None:
    line = b'{"x": 1.5, "c": "red", "y": null, "z": [1]}\n'
    batch = decode("ndjson", [line * n_copies], SCHEMA).batch
    assert batch.n_rows == n_copies
    assert [column.dtype for column in batch.columns] == [np.float64, np.int32, np.float64]
    assert all(column.flags.c_contiguous and column.shape == (n_copies,) for column in batch.columns)
    assert batch.columns[0][0] == 1.5
    assert batch.columns[1][-1] == 0
    assert np.isnan(batch.columns[2]).all()
    assert batch.n_bytes == n_copies * 20


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1.0), ("1e400", np.inf), ("-1e400", -np.inf), ("NaN", None), ("Infinity", np.inf), ("-Infinity", -np.inf),
        ("null", None), ("123456789012345678901234567890", 1.2345678901234568e29), ("1" * 400, np.inf),
        ("-" + "1" * 5000, -np.inf), ("9007199254740993", 9007199254740992.0), ("5e-324", 5e-324),
    ],
)  # fmt: skip
def test_numbers(text: str, number: float | None) -> None:
    decoded = decode("ndjson", [b'{"x": %s}' % text.encode()], SCHEMA)
    assert values(decoded.batch.columns[0]) == [number]
    assert decoded.batch.invalid == ()
    assert decoded.bodies[0].accepted == 1


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ('"1.5"', "a string"),
        ("true", "a boolean"),
        ("[1]", "a list"),
        ('{"a":1}', "an object"),
        ('"\\ud800"', "a string"),
    ],
)
@pytest.mark.parametrize("n_before", [0, 4000])
def test_a_value_that_is_no_number_costs_itself(text: str, got: str, n_before: int) -> None:
    data = b'{"x": 1, "y": 1}\n' * n_before + b'{"x": %s, "y": 2}\n' % text.encode()
    decoded = decode("ndjson", [data], SCHEMA)
    ((feature, rows),) = decoded.batch.invalid
    assert (feature, rows.tolist()) == (0, [n_before])
    assert np.isnan(decoded.batch.columns[0][n_before])
    assert decoded.batch.columns[2][n_before] == 2
    body = decoded.bodies[0]
    assert body.accepted == n_before + 1
    assert [(e.row, e.feature, e.reason) for e in body.errors] == [(n_before, "x", f"expected a number, got {got}")]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('"red"', 0), ("1", 1), ("1.0", 1), ("1.50", 2), ("true", 3), ('""', 4), ('"a\\nb"', 5), ('"qu\\"ote"', 6),
        ('"\\u00fc"', 7), ('"' + "x" * 10_000 + '"', 8), ("1e3", 9), ("18446744073709551616", 10),
        ("null", 12), ("NaN", 12), ('"blue"', 11), ('"\\ud800"', 11), ('"a\\u0000"', 11), ("false", 11), ("1e400", 11),
        ('"[1]"', 11),
    ],
)  # fmt: skip
@pytest.mark.parametrize("n_before", [0, 4000])
def test_categories(text: str, code: int, n_before: int) -> None:
    decoded = decode("ndjson", [b'{"c": "red"}\n' * n_before + b'{"c": %s}' % text.encode()], SCHEMA)
    assert decoded.batch.columns[1].tolist() == [0] * n_before + [code]
    assert decoded.batch.invalid == ()


@pytest.mark.parametrize("text", ["[1]", "{}", '{"a": [1]}'])
@pytest.mark.parametrize("n_before", [0, 4000])
def test_a_list_or_an_object_is_no_category(text: str, n_before: int) -> None:
    decoded = decode("ndjson", [b'{"c": "red"}\n' * n_before + b'{"c": %s}' % text.encode()], SCHEMA)
    ((feature, rows),) = decoded.batch.invalid
    assert (feature, rows.tolist()) == (1, [n_before])
    assert decoded.batch.columns[1][-1] == C.missing_code


def test_a_category_that_reads_like_a_list_is_told_from_one() -> None:
    schema = BatchSchema((FeatureSchema("c", "categorical", ("[1]",)),))
    for n in (1, 4000):
        decoded = decode("ndjson", [b'{"c": [1]}\n{"c": "[1]"}\n' * n], schema)
        assert decoded.batch.columns[0].tolist() == [2, 0] * n
        assert len(decoded.batch.invalid[0][1]) == n


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"x": 1', "malformed"), (b'{"x": 1}}', "malformed"), (b'{"x": 1}{"x": 2}', "malformed"),
        (b'{"x": 01}', "malformed"), (b'{"c": "\xff"}', "malformed"), (b"\x00", "malformed"),
        (b'{"x": ' + b"[" * 100_000, "malformed"), (b'{"z": ' + b"[" * 5000 + b"]" * 5000 + b"}", "malformed"),
        (b'{"c": "a\tb"}', "malformed"), (b"'x'", "malformed"), (b'{"x": 1}\x0c', "malformed"),
        (b"5", "not_an_object"), (b"null", "not_an_object"), (b'[{"x": 1}]', "not_an_object"),
        (b'"x"', "not_an_object"), (b"NaN", "not_an_object"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("n_around", [1, 4000])
def test_a_bad_line_costs_itself(line: bytes, reason: str, n_around: int) -> None:
    good = b'{"x": 1, "c": "red"}\n' * n_around
    decoded = decode("ndjson", [good, good + line + b"\n" + good, good], SCHEMA)
    assert [body.accepted for body in decoded.bodies] == [n_around, 2 * n_around, n_around]
    assert [dict(body.rejected) for body in decoded.bodies] == [{}, {reason: 1}, {}]
    (error,) = decoded.bodies[1].errors
    assert (error.row, error.feature) == (n_around, None)
    assert error.reason.startswith(f"{reason}: ")
    assert decoded.batch.columns[0].tolist() == [1.0] * (4 * n_around)
    assert all(body.unreadable is None for body in decoded.bodies)


def test_bad_lines_in_several_pieces_keep_their_row_numbers() -> None:
    lines = [b'{"x": %d, "c": "red", "pad": "%s"}' % (i, b"p" * 100) for i in range(20_000)]
    bad = [7, 9_000, 19_999]
    for i in bad:
        lines[i] = b"{"
    lines[12_000] = b'{"x": "1", "c": "red"}'
    decoded = decode("ndjson", [b"\n".join(lines)], SCHEMA)
    body = decoded.bodies[0]
    assert [error.row for error in body.errors] == [7, 9_000, 12_000, 19_999]
    expected = [float(i) for i in range(20_000) if i not in bad]
    column = decoded.batch.columns[0].tolist()
    ((_, rows),) = decoded.batch.invalid
    assert rows.tolist() == [11_998]
    assert column[:11_998] == expected[:11_998]
    assert column[11_999:] == expected[11_999:]


@pytest.mark.parametrize("n", [1, 4000])
def test_the_first_value_of_a_repeated_key_counts(n: int) -> None:
    lines = [
        b'{"x": 1, "x": 2, "y": 7}', b'{"x" : 1, "x" : 2, "y": 7}', b'{"x": null, "x": 2, "y": 7}',
        b'{"x": 1, "\\u0078": 2, "y": 7}', b'{"c": "a\\" b", "x": 1, "y": 7, "x": 3}',
    ]  # fmt: skip
    decoded = decode("ndjson", [b"\n".join(lines * n)], SCHEMA)
    assert values(decoded.batch.columns[0]) == [1, 1, None, 1, 1] * n
    assert values(decoded.batch.columns[2]) == [7] * 5 * n


@pytest.mark.parametrize("body", [b"", b"\n", b" \r\n\t\n", b"\xef\xbb\xbf"])
def test_an_empty_body_is_unreadable_and_costs_the_others_nothing(body: bytes) -> None:
    for n in (1, 4000):
        good = b'{"x": 1}\n' * n
        decoded = decode("ndjson", [good, body, good], SCHEMA)
        assert [b.accepted for b in decoded.bodies] == [n, 0, n]
        assert decoded.bodies[1].unreadable == "empty body: expected one JSON object on each line"
        assert decoded.batch.n_rows == 2 * n


def test_a_body_of_which_nothing_parses_is_unreadable() -> None:
    decoded = decode("ndjson", [b"a,b\n1,2\n", b'{"x": 1}'], SCHEMA)
    body = decoded.bodies[0]
    assert body.unreadable is not None
    assert body.unreadable.startswith("none of the 2 rows could be read; row 0 is malformed: ")
    assert dict(body.rejected) == {"malformed": 2}
    assert decoded.batch.n_rows == 1


def test_blank_lines_carriage_returns_and_a_byte_order_mark_are_no_rows() -> None:
    body = b'\xef\xbb\xbf{"x": 1}\r\n\r\n  \n{"x": 2}\n\n'
    for n in (1, 3000):
        decoded = decode("ndjson", [body * 1, body.removeprefix(b"\xef\xbb\xbf") * n], SCHEMA)
        assert [b.accepted for b in decoded.bodies] == [2, 2 * n]
        assert decoded.batch.columns[0].tolist() == [1, 2] * (n + 1)


def test_only_the_first_ten_errors_are_told() -> None:
    decoded = decode("ndjson", [b'{"x": "a", "y": true}\n' * 50, b"x\n" * 30 + b'{"x": 1}'], SCHEMA)
    assert [len(body.errors) for body in decoded.bodies] == [10, 10]
    assert [(e.row, e.feature) for e in decoded.bodies[0].errors[:4]] == [(0, "x"), (0, "y"), (1, "x"), (1, "y")]
    assert dict(decoded.bodies[1].rejected) == {"malformed": 30}


@pytest.mark.parametrize("n", [1, 2000])
def test_rows_without_a_readable_time_are_rejected(n: int) -> None:
    rows = [
        {"x": 0, "ts": "2024-02-29T12:00:00Z"}, {"x": "bad"}, {"x": "1", "ts": "2024-02-29T13:00:00+01:00"},
        {"x": 2, "ts": None}, {"x": 3, "ts": "2023-02-29T12:00:00Z"}, {"x": 4, "ts": 1709208000},
        {"x": 5, "ts": "1969-12-31T23:59:59Z"}, {"x": 6, "ts": "2262-01-01T00:00:00Z"},
        {"x": 7, "ts": "2024-02-29T12:00:00Z"},
    ] * n  # fmt: skip
    decoded = decode("ndjson", ["\n".join(map(json.dumps, rows)).encode()], TIMED)
    body = decoded.bodies[0]
    assert body.accepted == 3 * n
    assert dict(body.rejected) == {"timestamp": 6 * n}
    assert values(decoded.batch.columns[0]) == [0, None, 7] * n
    assert decoded.batch.event_ms is not None
    assert decoded.batch.event_ms.tolist() == [1709208000000] * 3 * n
    ((_, invalid),) = decoded.batch.invalid
    assert invalid.tolist() == list(range(1, 3 * n, 3))
    assert body.errors[0].row == 1
    assert "field 'ts'" in body.errors[0].reason
    assert body.unreadable is None


def test_numeric_times() -> None:
    lines = [
        b'{"x": 1, "ts": %s}' % ts for ts in (b"1700000000000", b"1.7e12", b'"1700000000000"', b"true", b"-1", b"1e400")
    ]
    for n in (1, 3000):
        decoded = decode("ndjson", [b"\n".join(lines * n)], NUMBERED)
        assert decoded.batch.event_ms is not None
        assert decoded.batch.event_ms.tolist() == [1700000000000] * 2 * n


def test_more_rows_than_memory_allows_are_refused() -> None:
    schema = BatchSchema(tuple(FeatureSchema(f"f{i}", "numeric") for i in range(20_000)))
    decoded = decode("ndjson", [b'{"f1": 1}', b"{}\n" * 100_000], schema)
    assert [body.accepted for body in decoded.bodies] == [1, 0]
    assert decoded.bodies[1].unreadable is not None
    assert "too many to decode at once" in decoded.bodies[1].unreadable


def test_a_field_wanted_twice() -> None:
    schema = BatchSchema((X, FeatureSchema("x", "categorical", ("1700000000",))), TimestampSpec("x", "s"))
    for n in (1, 5000):
        batch = decode("ndjson", [b'{"x": 1700000000}\n' * n], schema).batch
        assert batch.n_rows == n
        assert batch.columns[0][-1] == 1.7e9
        assert batch.columns[1][-1] == 0
        assert batch.event_ms is not None
        assert batch.event_ms[-1] == 1_700_000_000_000


# --- the two passes agree -------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=5),
    st.sampled_from(CATEGORIES),
    st.sampled_from(["\ud800", "\x00", "[", "{1", "\ud800A", "2024-01-01T00:00:00Z"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=3,
)
FINITE = st.none() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
USUAL = {  # what the bulk decoder takes, so that it is reached
    "x": FINITE,
    "y": FINITE,
    "c": st.none() | st.booleans() | FINITE | st.sampled_from(CATEGORIES),
    "ts": st.none() | st.sampled_from(["2024-01-01T00:00:00Z", 1700000000000]),
}
KEYS = st.sampled_from(["x", "y", "c", "ts", "z", "\x00", "ü", "\ud800"])


@st.composite
def line(draw: st.DrawFn) -> bytes:
    pairs = draw(
        st.lists(KEYS.flatmap(lambda key: st.tuples(st.just(key), USUAL.get(key, VALUES) | VALUES)), max_size=5)
    )
    ascii_only = draw(st.booleans())
    colon = draw(st.sampled_from([":", ": ", " : ", "\t:"]))
    text = "{" + ", ".join(json.dumps(k) + colon + json.dumps(v, ensure_ascii=ascii_only) for k, v in pairs) + "}"
    data = text.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 29)) == 29:
        data = data[: draw(st.integers(0, len(data)))]
    return data + draw(st.sampled_from([b"", b"\r", b" "]))


@settings(max_examples=400, deadline=None)
@given(st.lists(line(), max_size=4), st.sampled_from([SCHEMA, TIMED, NUMBERED]))
def test_bulk_and_rowwise_agree(lines: list[bytes], schema: BatchSchema) -> None:
    data = b"\n".join(lines)
    fast = bulk(data, schema)
    if fast is not None:
        assert_same(fast, rowwise(data, schema))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.integers(-(2**80), 2**80), st.floats(allow_nan=False, allow_infinity=False)), min_size=1
    ),
    st.lists(st.one_of(SCALARS), min_size=1),
)
def test_bulk_and_rowwise_agree_on_clean_rows(numbers: list[Any], categories: list[Any]) -> None:
    schema = BatchSchema((X, FeatureSchema("c", "categorical", ("red", "1", "true", str(2**65), "-0"))))
    rows = [{"x": x, "c": c} for x, c in zip(numbers, categories, strict=False)]
    data = "\n".join(map(json.dumps, rows)).encode()
    fast = bulk(data, schema)
    if fast is not None:
        assert_same(fast, rowwise(data, schema))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(line(), max_size=3).map(b"\n".join), min_size=1, max_size=4))
def test_gathering_changes_nothing(bodies: list[bytes]) -> None:
    gathered = decode("ndjson", bodies, SCHEMA)
    alone = [decode("ndjson", [body], SCHEMA) for body in bodies]
    assert gathered.bodies == tuple(one.bodies[0] for one in alone)
    for i, column in enumerate(gathered.batch.columns):
        np.testing.assert_array_equal(column, np.concatenate([one.batch.columns[i] for one in alone]))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_survived(data: bytes) -> None:
    (body,) = decode("ndjson", [data], TIMED).bodies
    assert body.accepted >= 0
    fast = bulk(data, SCHEMA)
    if fast is not None:
        assert fast.batch.n_rows == decode("ndjson", [data], SCHEMA).batch.n_rows
