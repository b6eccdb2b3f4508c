"""Vector columns: what a vector is, in every format, and that the fast ways to a column agree with the slow one."""

import base64
import json
import random
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kldrift.records.samples import BatchSchema, Decoded, FeatureSchema, RowRange, SampleBatch
from kldrift.records.specs import TimestampSpec
from kldrift.wire import csv, decode, decode_rows, ndjson
from kldrift.wire.plan import MAX_BATCH_BYTES, plan_for
from kldrift.wire.tables import Decoding, finish

V = FeatureSchema("v", "vector", dimensions=3)
SCHEMA = BatchSchema((FeatureSchema("x", "numeric"), V))
NAN = float("nan")

# Written by pyarrow 26: [[1.5, 2.5], None, [3], [], [nan, 1], [None, 1], [-0.0, 4]] as List<float32>, whose offsets
# have 32 bits; polars only writes those of 64.
LIST_OF_FLOAT32 = zlib.decompress(
    base64.b85decode(
        "c-mc2F%H5o47|3XEhs~V3NbJ+Ffj6i_8APU3=C|D4bi9Y3`QQo&QroAy^5$-obx$8$5FiZ{t3V#*a8+MW~dp_GD8ls"
        "n!C}?wD3bMnQa)ale4Yx7IP-%9UAIORI#JeeOciWErjRm=>pb<`f{iPuktTOjp{6xn$*UQC=6DF14dhr+c<T2%TaHv"
        "@HdmhnXndaggap_+zYpfHc$GFedZH>pVS90<TL4m<~s`TZaGB<boBQF=-VM5vFGXn^YIUWABhqkjQ"
    )
)


def frame_of(vectors: list[Any]) -> pl.DataFrame:
    return pl.DataFrame({"x": np.arange(float(len(vectors))), "v": pl.Series(vectors, dtype=pl.List(pl.Float64))})


def rows_of(vectors: list[Any]) -> list[dict[str, Any]]:
    return [{"x": float(i), "v": vector} for i, vector in enumerate(vectors)]


def lines_of(vectors: list[Any]) -> bytes:
    return "\n".join(map(json.dumps, rows_of(vectors))).encode()


def stream(frame: pl.DataFrame) -> bytes:
    buffer = BytesIO()
    frame.write_ipc_stream(buffer, compat_level=pl.CompatLevel.newest())
    return buffer.getvalue()


def by_ndjson(vectors: list[Any], _: Path) -> Decoded:
    return decode("ndjson", [lines_of(vectors)], SCHEMA)


def by_ndjson_bulk(vectors: list[Any], _: Path) -> Decoded:
    """Many good rows before, so that bulk decoding is worth it, cut off again."""
    n = 3000
    decoded = decode("ndjson", [lines_of([[1.0, 2.0, 3.0]] * n + vectors)], SCHEMA)
    x, column = decoded.batch.columns
    assert column[:n].tolist() == [[1.0, 2.0, 3.0]] * n
    invalid = tuple((feature, rows - n) for feature, rows in decoded.batch.invalid)
    return Decoded(SampleBatch(len(vectors), (x[n:] - n, column[n:]), None, invalid), decoded.bodies)


def by_json(vectors: list[Any], _: Path) -> Decoded:
    return decode("json", [json.dumps(rows_of(vectors)).encode()], SCHEMA)


def by_json_columns(vectors: list[Any], _: Path) -> Decoded:
    return decode("json", [json.dumps({"x": [float(i) for i in range(len(vectors))], "v": vectors}).encode()], SCHEMA)


def by_csv(vectors: list[Any], _: Path) -> Decoded:
    cells = ["" if vector is None else json.dumps(vector).replace('"', '""') for vector in vectors]
    lines = [f'{i},"{cell}"\n' for i, cell in enumerate(cells)]
    return decode("csv", [("x,v\n" + "".join(lines)).encode()], SCHEMA)


def by_arrow(vectors: list[Any], _: Path) -> Decoded:
    return decode("arrow", [stream(frame_of(vectors))], SCHEMA)


def by_parquet(vectors: list[Any], folder: Path) -> Decoded:
    frame_of(vectors).write_parquet(folder / "v.parquet")
    return decode_rows("parquet", RowRange(folder / "v.parquet", 0, len(vectors)), SCHEMA)


ways = pytest.mark.parametrize(
    "way", [by_ndjson, by_ndjson_bulk, by_json, by_json_columns, by_csv, by_arrow, by_parquet]
)
untyped_ways = pytest.mark.parametrize("way", [by_ndjson, by_ndjson_bulk, by_json, by_json_columns, by_csv])
Way = Callable[[list[Any], Path], Decoded]


@ways
def test_vectors_are_a_matrix(way: Way, tmp_path: Path) -> None:
    vectors = [[1.0, -2.5, 3e300], [0.0, 5e-324, -0.0], [4.0, 5.0, 6.0]]
    batch = way(vectors, tmp_path).batch
    column = batch.columns[1]
    assert column.dtype == np.float64
    assert column.shape == (3, 3)
    assert column.flags.c_contiguous
    np.testing.assert_array_equal(column, vectors)
    assert np.signbit(column[1, 2])
    assert batch.columns[0].tolist() == [0.0, 1.0, 2.0]
    assert batch.invalid == ()


@ways
def test_a_missing_vector_is_not_invalid(way: Way, tmp_path: Path) -> None:
    decoded = way([None, [1.0, 2.0, 3.0], None], tmp_path)
    np.testing.assert_array_equal(decoded.batch.columns[1], [[NAN] * 3, [1, 2, 3], [NAN] * 3])
    assert decoded.batch.invalid == ()
    assert decoded.bodies[0].errors == ()


@ways
def test_vectors_missing_in_all_rows(way: Way, tmp_path: Path) -> None:
    batch = way([None, None], tmp_path).batch
    np.testing.assert_array_equal(batch.columns[1], np.full((2, 3), NAN))
    assert batch.invalid == ()


@ways
@pytest.mark.parametrize(
    ("vector", "got"),
    [
        ([1.0, 2.0], "a list of 2"), ([1.0, 2.0, 3.0, 4.0], "a list of 4"), ([], "a list of 0"),
        ([1.0, None, 3.0], "a list with null, NaN or Inf"), ([1.0, NAN, 3.0], "a list with null, NaN or Inf"),
        ([1.0, float("inf"), 3.0], "a list with null, NaN or Inf"),
        ([-float("inf"), 1e308, 1e308], "a list with null, NaN or Inf"), ([None] * 3, "a list with null, NaN or Inf"),
    ],
)  # fmt: skip
def test_a_list_that_is_no_vector_costs_itself(way: Way, vector: list[Any], got: str, tmp_path: Path) -> None:
    decoded = way([[1.0, 2.0, 3.0], vector, [4.0, 5.0, 6.0]], tmp_path)
    np.testing.assert_array_equal(decoded.batch.columns[1], [[1, 2, 3], [NAN] * 3, [4, 5, 6]])
    assert decoded.batch.columns[0].tolist() == [0.0, 1.0, 2.0]
    assert [(feature, rows.tolist()) for feature, rows in decoded.batch.invalid] == [(1, [1])]
    (error,) = decoded.bodies[0].errors
    assert (error.feature, error.reason) == ("v", f"expected a list of 3 numbers, got {got}")


@untyped_ways
@pytest.mark.parametrize(
    ("vector", "got"),
    [
        ([[1, 2, 3]], "a list of 1"), ([[1], [2], [3]], "a list with a list"), ([1, "2", 3], "a list with a string"),
        ([1, True, 3], "a list with a boolean"), ([1, {}, 3], "a list with an object"),
        ([1, 10**400, 3], "a list with null, NaN or Inf"),
    ],
)  # fmt: skip
def test_a_list_of_other_things_costs_itself(way: Way, vector: list[Any], got: str, tmp_path: Path) -> None:
    decoded = way([[1, 2, 3], vector, [4, 5, 6]], tmp_path)
    np.testing.assert_array_equal(decoded.batch.columns[1], [[1, 2, 3], [NAN] * 3, [4, 5, 6]])
    assert [(feature, rows.tolist()) for feature, rows in decoded.batch.invalid] == [(1, [1])]
    assert decoded.bodies[0].errors[0].reason == f"expected a list of 3 numbers, got {got}"


@pytest.mark.parametrize("way", [by_ndjson, by_ndjson_bulk, by_json, by_json_columns])
@pytest.mark.parametrize(
    ("value", "got"),
    [
        (5, "a number"), (NAN, "a number"), ("[1, 2, 3]", "a string"), (True, "a boolean"),
        ({"0": 1, "1": 2, "2": 3}, "an object"),
    ],
)  # fmt: skip
def test_a_value_that_is_no_list_costs_itself(way: Way, value: object, got: str, tmp_path: Path) -> None:
    decoded = way([[1, 2, 3], value], tmp_path)
    np.testing.assert_array_equal(decoded.batch.columns[1], [[1, 2, 3], [NAN] * 3])
    assert [(feature, rows.tolist()) for feature, rows in decoded.batch.invalid] == [(1, [1])]
    assert decoded.bodies[0].errors[0].reason == f"expected a list of 3 numbers, got {got}"


@untyped_ways
def test_integers_of_any_size_are_numbers(way: Way, tmp_path: Path) -> None:
    column = way([[2**53 + 1, 2**64, -(10**300)], [1, 2, 3]], tmp_path).batch.columns[1]
    np.testing.assert_array_equal(column, [[2.0**53, 2.0**64, -1e300], [1, 2, 3]])


def test_the_bytes_of_a_batch() -> None:
    assert decode("ndjson", [lines_of([[1.0, 2.0, 3.0], None])], SCHEMA).batch.n_bytes == 2 * (8 + 24)


def test_a_field_that_no_row_has() -> None:
    for n in (2, 9000):
        batch = decode("ndjson", [b'{"x": 1}\n' * n], SCHEMA).batch
        assert batch.columns[1].shape == (n, 3)
        assert np.isnan(batch.columns[1]).all()
        assert batch.invalid == ()
    for body_format, body in (
        ("csv", b"x\n1\n2\n"), ("json", b'{"x": [1, 2]}'), ("arrow", stream(pl.DataFrame({"x": [1.0, 2.0]}))),
        ("arrow", stream(pl.DataFrame({"v": pl.Series([None, None])}))),
    ):  # fmt: skip
        batch = decode(body_format, [body], SCHEMA).batch  # type: ignore[arg-type]
        assert np.isnan(batch.columns[1]).tolist() == [[True] * 3] * 2
        assert batch.invalid == ()


def test_rows_without_a_time_take_their_vectors_with_them() -> None:
    schema = BatchSchema((V,), TimestampSpec("ts", "s"))
    body = b'{"ts": 1, "v": [1, 2, 3]}\n{"v": [4, 5, 6]}\n{"ts": 2, "v": [7, 8]}\n{"ts": 3, "v": [9, 10, 11]}'
    decoded = decode("ndjson", [body], schema)
    np.testing.assert_array_equal(decoded.batch.columns[0], [[1, 2, 3], [NAN] * 3, [9, 10, 11]])
    assert decoded.batch.columns[0].flags.c_contiguous
    assert [(feature, rows.tolist()) for feature, rows in decoded.batch.invalid] == [(0, [1])]
    assert dict(decoded.bodies[0].rejected) == {"timestamp": 1}


def test_bodies_together_are_the_bodies_one_by_one() -> None:
    bodies = [lines_of([[1, 2, 3], None]), b"{bad", lines_of([[1, 2]]), lines_of([[4, 5, 6]])]
    decoded = decode("ndjson", bodies, SCHEMA)
    np.testing.assert_array_equal(decoded.batch.columns[1], [[1, 2, 3], [NAN] * 3, [NAN] * 3, [4, 5, 6]])
    assert [rows.tolist() for _, rows in decoded.batch.invalid] == [[2]]
    assert [body.accepted for body in decoded.bodies] == [2, 0, 1, 1]


def test_a_vector_is_read_as_long_as_a_feature_wants_it() -> None:
    """One field may be two features, of which at most one can fit."""
    schema = BatchSchema((V, FeatureSchema("v", "vector", dimensions=2), FeatureSchema("v", "categorical", ("a",))))
    for n in (1, 4000):
        batch = decode("ndjson", [b'{"v": [1, 2, 3]}\n' * n], schema).batch
        assert batch.columns[0][-1].tolist() == [1, 2, 3]
        assert np.isnan(batch.columns[1]).all()
        assert batch.columns[2][-1] == schema.features[2].missing_code
        assert [(feature, len(rows)) for feature, rows in batch.invalid] == [(1, n), (2, n)]


@pytest.mark.parametrize("dimensions", [1, 4096])
def test_more_numbers_than_memory_allows_are_refused(dimensions: int, tmp_path: Path) -> None:
    schema = BatchSchema((FeatureSchema("x", "numeric"), FeatureSchema("v", "vector", dimensions=dimensions)))
    limit = MAX_BATCH_BYTES // (8 * (dimensions + 2))
    assert plan_for(schema).max_rows == limit
    if dimensions == 1:  # too many rows for a test
        return
    n = limit + 1
    frame = pl.DataFrame({"x": np.zeros(n)})
    frame.write_parquet(tmp_path / "x.parquet")
    for decoded in (
        decode("ndjson", [b"{}\n" * n], schema),
        decode("json", [b"[" + b"{}," * (n - 1) + b"{}]"], schema),
        decode("csv", [b"x\n" + b"1\n" * n], schema),
        decode("arrow", [stream(frame)], schema),
        decode_rows("parquet", RowRange(tmp_path / "x.parquet", 0, n), schema),
    ):
        assert decoded.batch.n_rows == 0
        assert "to decode at once" in (decoded.bodies[0].unreadable or "")


# --- JSON -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "vectors", "invalid"),
    [
        (b'{"v": [1, 2, 3]}', [[1, 2, 3]], []), (b'{"v": [1, 2, 3], "tags": ["a"]}', [[1, 2, 3]], []),
        (b'{"v": [1, null, 3]}', [[NAN] * 3], [0]), (b'{"v": [1, 2]}', [[NAN] * 3], [0]),
        (b'{"v": [[1, 2, 3], null, [4, 5, 6]]}', [[1, 2, 3], [NAN] * 3, [4, 5, 6]], []),
        (b'{"v": [[1, 2, 3], 7]}', [[1, 2, 3], [NAN] * 3], [1]), (b'{"v": [null, null]}', [[NAN] * 3] * 2, []),
        (b'{"v": [1, 2, 3], "x": [5, 6, 7]}', [[NAN] * 3] * 3, [0, 1, 2]), (b'{"v": [], "x": []}', [], []),
    ],
)  # fmt: skip
def test_a_row_of_nothing_but_vectors_is_told_from_columns(
    body: bytes, vectors: list[list[float]], invalid: list[int]
) -> None:
    batch = decode("json", [body], SCHEMA).batch
    np.testing.assert_array_equal(batch.columns[1], np.array(vectors).reshape(-1, 3))
    assert [row for _, rows in batch.invalid for row in rows.tolist()] == invalid


# --- CSV ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["1", "abc", '"[1,2,3"', '"[1,2,3],4"', '"1],[2"', '"{""a"":1}"', "["])
def test_a_cell_that_is_no_json_list_costs_itself(cell: str) -> None:
    decoded = decode("csv", [f'v,x\n"[1,2,3]",1\n{cell},2\n'.encode()], SCHEMA)
    np.testing.assert_array_equal(decoded.batch.columns[1], [[1, 2, 3], [NAN] * 3])
    assert decoded.batch.columns[0].tolist() == [1, 2]
    assert [(feature, rows.tolist()) for feature, rows in decoded.batch.invalid] == [(1, [1])]
    assert decoded.bodies[0].errors[0].reason == "expected a list of 3 numbers, got a string"


def test_a_list_without_quotes_is_several_cells() -> None:
    decoded = decode("csv", [b'x,v\n1,[1,2,3]\n2,"[4, 5, 6]"\n3," "\n'], SCHEMA)
    np.testing.assert_array_equal(decoded.batch.columns[1], [[4, 5, 6], [NAN] * 3])
    assert decoded.bodies[0].errors[0].reason == "malformed: expected 2 fields as in the header, got 4"
    assert decoded.batch.invalid == ()


# --- Arrow and Parquet ----------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [pl.Float64, pl.Float32, pl.Int8, pl.UInt16, pl.Int64, pl.UInt64])
@pytest.mark.parametrize("fixed", [False, True])
def test_lists_of_every_type(inner: type[pl.DataType], fixed: bool, tmp_path: Path) -> None:
    dtype = pl.Array(inner, 3) if fixed else pl.List(inner)
    frame = pl.DataFrame({"x": [0.0, 1.0, 2.0], "v": pl.Series([[1, 2, 3], None, [4, None, 6]], dtype=dtype)})
    frame.write_parquet(tmp_path / "v.parquet")
    for decoded in (
        decode("arrow", [stream(frame)], SCHEMA),
        decode_rows("parquet", RowRange(tmp_path / "v.parquet", 0, 3), SCHEMA),
    ):
        np.testing.assert_array_equal(decoded.batch.columns[1], [[1, 2, 3], [NAN] * 3, [NAN] * 3])
        assert [(feature, rows.tolist()) for feature, rows in decoded.batch.invalid] == [(1, [2])]


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([["1", "2", "3"], None]), pl.Series([[[1.0, 2.0, 3.0]], None]), pl.Series([[True] * 3, None]),
        pl.Series(["[1,2,3]", None]), pl.Series([1.0, None]), pl.Series([{"a": 1}, None]),
        pl.Series([[[1, 2], [3, 4]], None], dtype=pl.Array(pl.Int64, (2, 2))),
        pl.Series([[], None], dtype=pl.Array(pl.Float64, 0)),
        pl.Series([["a", "b", "c"], None], dtype=pl.List(pl.Categorical)),
    ],
)  # fmt: skip
def test_columns_of_another_type_are_invalid_where_they_have_values(values: pl.Series, tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": [0.0, 1.0], "v": values})
    frame.write_parquet(tmp_path / "v.parquet")
    for decoded in (
        decode("arrow", [stream(frame)], SCHEMA),
        decode_rows("parquet", RowRange(tmp_path / "v.parquet", 0, 2), SCHEMA),
    ):
        assert np.isnan(decoded.batch.columns[1]).tolist() == [[True] * 3] * 2
        assert [(feature, rows.tolist()) for feature, rows in decoded.batch.invalid] == [(1, [0])]
        assert decoded.bodies[0].errors[0].reason.startswith("expected a list of 3 numbers, got ")


def test_fixed_lists_of_float64_are_not_copied() -> None:
    numbers = np.arange(3000.0).reshape(-1, 3)
    body = stream(pl.DataFrame({"v": numbers}))
    column = decode("arrow", [body], SCHEMA).batch.columns[1]
    np.testing.assert_array_equal(column, numbers)
    assert np.shares_memory(column, np.frombuffer(body, dtype=np.uint8))


def test_lists_with_offsets_of_32_bits() -> None:
    decoded = decode("arrow", [LIST_OF_FLOAT32], BatchSchema((FeatureSchema("v", "vector", dimensions=2),)))
    nan = [NAN, NAN]
    np.testing.assert_array_equal(decoded.batch.columns[0], [[1.5, 2.5], nan, nan, nan, nan, nan, [-0.0, 4.0]])
    assert [(feature, rows.tolist()) for feature, rows in decoded.batch.invalid] == [(0, [2, 3, 4, 5])]


def test_a_null_list_is_missing_whatever_its_slot_holds() -> None:
    frame = pl.DataFrame({"v": np.arange(6.0).reshape(2, 3)}).with_columns(
        v=pl.when(pl.Series([False, True])).then(pl.col("v"))
    )
    decoded = decode("arrow", [stream(frame)], SCHEMA)
    np.testing.assert_array_equal(decoded.batch.columns[1], [[NAN] * 3, [3, 4, 5]])
    assert decoded.batch.invalid == ()


def test_fixed_lists_of_nothing_may_not_claim_a_trillion_rows() -> None:
    """A list of size 0 takes no byte, so that any number of them fits into a body."""
    body = stream(pl.DataFrame({"v": pl.Series([[]] * 12345, dtype=pl.Array(pl.Float64, 0))}))
    lie = body.replace((12345).to_bytes(8, "little"), (10**12).to_bytes(8, "little"))
    assert lie != body
    (result,) = decode("arrow", [lie], SCHEMA).bodies
    assert result.unreadable is not None


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("body", [
    stream(pl.DataFrame({"v": pl.Series([[1.0, 2.0, 3.0], None, [4.0, 5.0, 6.0]] * 9, dtype=pl.Array(pl.Float32, 3))})),
    stream(pl.DataFrame({"v": [[1.0, 2.0, 3.0], None, [4.0, None], [5.0, 6.0, 7.0]] * 9, "x": np.arange(36.0)})),
    stream(pl.DataFrame({"v": [[[1, 2], [3]], None, [], [[4]]] * 9, "x": np.arange(36.0)})),
    LIST_OF_FLOAT32,
], ids=["fixed", "list", "nested", "list32"])  # fmt: skip
def test_corrupted_streams_are_survived(seed: int, body: bytes) -> None:
    """Every one decodes to something of the right shape or is unreadable."""
    choose = random.Random(seed)
    for _ in range(400):
        damaged = bytearray(body)
        for _ in range(choose.choice([1, 1, 2, 4])):
            damaged[choose.randrange(len(body))] = choose.choice([0, 1, 127, 128, 255, choose.randrange(256)])
        decoded = decode("arrow", [bytes(damaged)], SCHEMA)
        n = decoded.batch.n_rows
        assert n == decoded.bodies[0].accepted
        assert decoded.batch.columns[0].shape == (n,)
        assert decoded.batch.columns[1].shape == (n, 3)
        there = np.isfinite(decoded.batch.columns[1])
        assert (there.all(axis=1) | ~there.any(axis=1)).all()
        for _, rows in decoded.batch.invalid:
            assert len(rows) == 0 or rows[-1] < n


# --- the passes agree -----------------------------------------------------------------------------

NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
ODD = st.none() | st.booleans() | st.floats() | st.text(max_size=2) | st.lists(NUMBERS, max_size=3)
VALUES = st.one_of(
    st.none(),
    st.lists(NUMBERS, min_size=3, max_size=3),
    st.lists(NUMBERS, max_size=4),
    st.lists(NUMBERS | st.none(), min_size=3, max_size=3),
    st.lists(NUMBERS | ODD, max_size=4),
    ODD,
    st.dictionaries(st.text(max_size=2), NUMBERS, max_size=2),
)


def assert_same(a: Decoded, b: Decoded) -> None:
    assert a.bodies == b.bodies
    for left, right in zip(a.batch.columns, b.batch.columns, strict=True):
        assert left.shape == right.shape
        np.testing.assert_array_equal(left, right)
        np.testing.assert_array_equal(np.signbit(left), np.signbit(right))
    assert [(f, rows.tolist()) for f, rows in a.batch.invalid] == [(f, rows.tolist()) for f, rows in b.batch.invalid]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.fixed_dictionaries({}, optional={"v": VALUES, "x": NUMBERS}), min_size=1, max_size=5), st.booleans())
def test_bulk_and_rowwise_agree(rows: list[dict[str, Any]], repeated: bool) -> None:
    lines = [json.dumps(row) for row in rows]
    if repeated:
        lines[0] = lines[0][:-1] + (", " if rows[0] else "") + '"v": [7, 8, 9]}'
    data = "\n".join(lines).encode()
    plan = plan_for(SCHEMA)
    table = ndjson.decode_bulk(data, plan)
    slow = finish(ndjson.decode_one_by_one([data], plan), plan)
    if table is not None:
        assert_same(finish(Decoding(table, [table.n_records]), plan), slow)
    assert_same(decode("json", [("[" + ",".join(lines) + "]").encode()], SCHEMA), slow)


@pytest.mark.parametrize(
    "vectors",
    [
        [[1.0, 2.0, 3.0]], [None, [1.0, 2.0, 3.0]], [[1.0], []], [[None] * 3, [1.0, None, 3.0]], [None],
        [[2**70, -(2**63), 1e300]],
    ],
)  # fmt: skip
def test_the_bulk_decoder_takes_lists_of_numbers_and_nulls(vectors: list[Any]) -> None:
    assert ndjson.decode_bulk(lines_of(vectors), plan_for(SCHEMA)) is not None


@settings(max_examples=150, deadline=None)
@given(st.lists(st.none() | st.lists(st.none() | st.floats(), max_size=4), min_size=1, max_size=6))
def test_typed_and_untyped_formats_agree(vectors: list[Any]) -> None:
    by_lists = decode("arrow", [stream(frame_of(vectors))], SCHEMA)
    assert_same(by_lists, decode("ndjson", [lines_of(vectors)], SCHEMA))
    assert_same(by_lists, by_csv(vectors, Path()))
    fixed = [None if vector is None or len(vector) != 3 else vector for vector in vectors]
    frame = pl.DataFrame({"x": np.arange(float(len(fixed))), "v": pl.Series(fixed, dtype=pl.Array(pl.Float64, 3))})
    assert_same(decode("arrow", [stream(frame)], SCHEMA), decode("ndjson", [lines_of(fixed)], SCHEMA))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text('[]123,. eN"', max_size=12), min_size=1, max_size=4))
def test_any_cell_of_csv_is_survived(cells: list[str]) -> None:
    body = "x,v\n" + "".join('1,"' + cell.replace('"', '""') + '"\n' for cell in cells)
    batch = decode("csv", [body.encode()], SCHEMA).batch
    assert batch.columns[1].shape == (len(cells), 3)
    plan = plan_for(SCHEMA)
    table = csv._decode_recordwise(body.encode().partition(b"\n")[2], ["x", "v"], plan)
    np.testing.assert_array_equal(batch.columns[1], table.columns[1])
