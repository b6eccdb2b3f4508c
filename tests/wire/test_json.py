"""JSON bodies: a row, a list of rows, columns."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kldrift.records.samples import BatchSchema, FeatureSchema
from kldrift.records.specs import TimestampSpec
from kldrift.wire import decode

SCHEMA = BatchSchema((FeatureSchema("x", "numeric"), FeatureSchema("c", "categorical", ("red", "1", "true"))))
TIMED = BatchSchema((FeatureSchema("x", "numeric"),), TimestampSpec("ts", "iso8601"))


def test_the_three_shapes_give_the_same_columns() -> None:
    rows = [{"x": 1.5, "c": "red"}, {"x": None, "c": 1.0}, {"x": 3, "c": True}, {"x": 4, "c": "blue"}]
    as_columns = {name: [row[name] for row in rows] for name in ("x", "c")}
    one_by_one = decode("json", [json.dumps(row).encode() for row in rows], SCHEMA)
    listed = decode("json", [json.dumps(rows, indent=2).encode()], SCHEMA)
    columns = decode("json", [json.dumps(as_columns).encode()], SCHEMA)
    for decoded in (one_by_one, listed, columns):
        np.testing.assert_array_equal(decoded.batch.columns[0], [1.5, np.nan, 3, 4])
        assert decoded.batch.columns[1].tolist() == [0, 1, 2, 3]
        assert decoded.batch.columns[1].dtype == np.int32
    assert [body.accepted for body in one_by_one.bodies] == [1, 1, 1, 1]


def test_bodies_of_every_shape_keep_their_order() -> None:
    bodies = [b'{"x": 1}', b'{"x": [2, 3]}', b'[{"x": 4}, 5, {"x": 6}]', b'{"x": 7', b'{"x": [8]}', b"[]"]
    decoded = decode("json", bodies, SCHEMA)
    assert decoded.batch.columns[0].tolist() == [1, 2, 3, 4, 6, 8]
    assert [body.accepted for body in decoded.bodies] == [1, 2, 2, 0, 1, 0]
    assert dict(decoded.bodies[2].rejected) == {"not_an_object": 1}
    (error,) = decoded.bodies[2].errors
    assert (error.row, error.reason) == (1, "not_an_object: expected a JSON object, got a number")
    assert [i for i, body in enumerate(decoded.bodies) if body.unreadable] == [3]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty body: expected a JSON object, a list of objects, or columns (an object of lists)"),
        (b" \n", "empty body: expected a JSON object, a list of objects, or columns (an object of lists)"),
        (b"5", "expected a JSON object, a list of objects, or columns (an object of lists), got a number"),
        (
            b'{"x": [1, 2], "c": ["red"]}',
            "ragged columns: expected lists of equal length, got 1 values in 'c' and 2 in 'x'",
        ),
        (b"[1, 2]", "none of the 2 rows could be read; row 0 is not_an_object: expected a JSON object, got a number"),
    ],
)
def test_unreadable(body: bytes, message: str) -> None:
    decoded = decode("json", [body, b'{"x": 1}'], SCHEMA)
    assert decoded.bodies[0].unreadable == message
    assert decoded.bodies[0].accepted == 0
    assert decoded.batch.columns[0].tolist() == [1]


@pytest.mark.parametrize(
    "body", [b'{"x": 1', b'{"x": "\xff"}', b"[" * 200_000, b'{"a":' * 50_000, b"\x00", b'[{"x": 1},]']
)
def test_syntax_errors_say_where(body: bytes) -> None:
    (result,) = decode("json", [body], SCHEMA).bodies
    assert result.unreadable is not None
    assert result.unreadable.startswith("malformed JSON: ")


def test_a_syntax_error_has_its_place() -> None:
    (result,) = decode("json", [b'[{"x": 1},\n {"x": }]'], SCHEMA).bodies
    assert "line 2 column 8" in (result.unreadable or "")


@pytest.mark.parametrize(
    "body", [b'{"x": 1, "x": 2}', b'[{"x": 1, "x": 2}]', b'{"x": [1], "x": [2]}', b'{"x" :1,"x" :2}']
)
def test_the_first_value_of_a_repeated_key_counts(body: bytes) -> None:
    assert decode("json", [body], SCHEMA).batch.columns[0].tolist() == [1]


def test_python_literals_and_numbers_beyond_float64() -> None:
    body = b'{"x": [NaN, Infinity, -Infinity, 1e400, %s, "1", false, null]}' % (b"9" * 400)
    decoded = decode("json", [body], SCHEMA)
    nan, inf = np.nan, np.inf
    np.testing.assert_array_equal(decoded.batch.columns[0], [nan, inf, -inf, inf, inf, nan, nan, nan])
    ((feature, rows),) = decoded.batch.invalid
    assert (feature, rows.tolist()) == (0, [5, 6])
    assert [e.reason for e in decoded.bodies[0].errors] == [
        "expected a number, got a string",
        "expected a number, got a boolean",
    ]


def test_columns_without_some_features() -> None:
    decoded = decode("json", [b'{"x": [1, 2], "z": ["a", [1]]}'], SCHEMA)
    assert decoded.batch.columns[1].tolist() == [4, 4]


def test_times_in_columns() -> None:
    decoded = decode("json", [b'{"x": [1, 2], "ts": ["2024-01-01T00:00:00Z", 5]}', b'{"x": [3]}'], TIMED)
    assert decoded.batch.event_ms is not None
    assert decoded.batch.event_ms.tolist() == [1704067200000]
    assert [dict(body.rejected) for body in decoded.bodies] == [{"timestamp": 1}, {"timestamp": 1}]


def test_more_rows_than_memory_allows_are_refused() -> None:
    schema = BatchSchema(tuple(FeatureSchema(f"f{i}", "numeric") for i in range(20_000)))
    (body,) = decode("json", [b"[" + b"{}," * 20_000 + b"{}]"], schema).bodies
    assert body.unreadable is not None
    assert "too many to decode at once" in body.unreadable


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "x": st.one_of(
                    st.none(), st.floats(), st.integers(-(2**80), 2**80), st.text(max_size=3), st.booleans()
                ),
                "c": st.one_of(
                    st.none(), st.sampled_from(["red", "1"]), st.integers(0, 2), st.lists(st.none(), max_size=1)
                ),
            },
        ),
        min_size=1,
        max_size=6,
    )
)
def test_rows_as_json_and_as_ndjson_agree(rows: list[dict[str, Any]]) -> None:
    a = decode("json", [json.dumps(rows).encode()], SCHEMA)
    b = decode("ndjson", ["\n".join(map(json.dumps, rows)).encode()], SCHEMA)
    assert a.bodies == b.bodies
    for left, right in zip(a.batch.columns, b.batch.columns, strict=True):
        np.testing.assert_array_equal(left, right)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=100), st.text('[]{}:,"x1 \\', max_size=30).map(str.encode)))
def test_any_bytes_are_survived(data: bytes) -> None:
    (body,) = decode("json", [data], SCHEMA).bodies
    assert body.accepted == 0 or body.unreadable is None
