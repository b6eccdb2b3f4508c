"""Columns of reference data."""

import datetime
import gzip
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zstandard

from kldrift.datafiles.reference import read_columns
from kldrift.errors import ReferenceProblem
from kldrift.records.kinds import Kind
from kldrift.records.samples import CategoricalColumn

FEATURES: list[tuple[str, Kind]] = [("c", "categorical"), ("x", "numeric")]
ROWS = [{"x": 1.5, "c": "red"}, {"x": None, "c": "blue"}, {"x": 3.0, "c": None}, {"x": -1.0, "c": "red"}]
SHARED = Path(__file__).parents[2] / ".." / "shared"


def _parquet(path: Path) -> None:
    pl.DataFrame(ROWS).write_parquet(path)


def _csv(path: Path) -> None:
    path.write_bytes(_packed(path, pl.DataFrame(ROWS).write_csv().encode()))


def _ndjson(path: Path) -> None:
    path.write_bytes(_packed(path, "\n".join(map(json.dumps, ROWS)).encode()))


def _packed(path: Path, data: bytes) -> bytes:
    if path.suffix == ".gz":
        return gzip.compress(data)
    return zstandard.compress(data) if path.suffix == ".zst" else data


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("d.parquet", _parquet), ("d.csv", _csv), ("d.csv.gz", _csv), ("d.csv.zst", _csv), ("d.ndjson", _ndjson),
        ("d.2024.jsonl", _ndjson), ("d.ndjson.gz", _ndjson), ("d.ndjson.zst", _ndjson),
    ],
)  # fmt: skip
def test_every_format_gives_the_same_columns(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    path = tmp_path / name
    write(path)
    read = read_columns(path, FEATURES)
    assert read.n_rows == 4
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    colours, numbers = read.columns
    assert isinstance(colours, CategoricalColumn)
    assert colours.values == ("blue", "red")
    assert colours.codes.tolist() == [1, 0, -1, 1]
    assert colours.codes.dtype == np.int32
    assert isinstance(numbers, np.ndarray)
    np.testing.assert_array_equal(numbers, [1.5, np.nan, 3, -1])
    assert [rows.tolist() for rows in read.invalid] == [[], []]


def test_ndjson_with_bad_lines_and_values(tmp_path: Path) -> None:
    path = tmp_path / "d.ndjson"
    path.write_text(
        '{"x": NaN, "c": 1.0}\n{bad\n{"x": "1", "c": ["l"]}\n{"x": 2, "c": "[l]"}\n{"x": 1e400, "c": true}\n'
    )
    read = read_columns(path, FEATURES)
    assert (read.n_rows, read.n_rejected) == (4, 1)
    assert [rows.tolist() for rows in read.invalid] == [[1], [1]]
    colours, numbers = read.columns
    assert isinstance(colours, CategoricalColumn)
    assert colours.values == ("1", "[l]", "true")
    assert colours.codes.tolist() == [0, -1, 1, 2]
    np.testing.assert_array_equal(numbers, [np.nan, np.nan, 2, np.inf])


def test_csv_with_text_among_numbers(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("x,c\n1,\n?,1.0\n 3,red\n")
    read = read_columns(path, FEATURES)
    assert [rows.tolist() for rows in read.invalid] == [[], [1]]
    np.testing.assert_array_equal(read.columns[1], [1, np.nan, 3])
    assert isinstance(read.columns[0], CategoricalColumn)
    assert read.columns[0].values == ("1", "red")


def test_ndjson_in_several_chunks(tmp_path: Path) -> None:
    path = tmp_path / "d.ndjson"
    n = 300_000
    path.write_bytes(
        b"".join(b'{"x": %d, "c": "%s", "pad": "0123456789"}\n' % (i, b"ab"[i % 2 : i % 2 + 1]) for i in range(n))
    )
    read = read_columns(path, FEATURES)
    np.testing.assert_array_equal(read.columns[1], np.arange(n))
    assert isinstance(read.columns[0], CategoricalColumn)
    np.testing.assert_array_equal(read.columns[0].codes, np.arange(n) % 2)


@pytest.mark.parametrize("name", ["d.parquet", "d.csv", "d.ndjson"])
def test_a_missing_column_is_named_with_the_nearest_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    {"d.parquet": _parquet, "d.csv": _csv, "d.ndjson": _ndjson}[name](path)
    with pytest.raises(ReferenceProblem) as raised:
        read_columns(path, [("x", "numeric"), ("xx", "numeric"), ("absent", "categorical")])
    there = ", ".join(ROWS[0])
    assert str(raised.value).splitlines() == [
        f"{path}: expected a column 'xx'; did you mean 'x'? the file has {there}",
        f"{path}: expected a column 'absent'; the file has {there}",
    ]


@pytest.mark.parametrize(
    ("name", "content", "got"),
    [("d.csv", "x,c\nabc,red\n,\n", "text such as 'abc'"), ("d.ndjson", '{"x": "abc", "c": "red"}\n{}', "a string")],
)
def test_a_column_that_is_not_numeric(tmp_path: Path, name: str, content: str, got: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ReferenceProblem) as raised:
        read_columns(path, FEATURES)
    assert str(raised.value) == (
        f"{path}: x: expected numbers, got {got}; correct the data or make the feature categorical"
    )


def test_a_parquet_column_that_is_not_numeric(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    pl.DataFrame({"x": [True, None], "c": ["a", "b"]}).write_parquet(path)
    with pytest.raises(ReferenceProblem, match="x: expected numbers, got Boolean such as 'True'"):
        read_columns(path, FEATURES)


def test_a_column_of_nulls_is_all_missing(tmp_path: Path) -> None:
    for name in ("d.ndjson", "d.csv"):
        path = tmp_path / name
        path.write_text('{"x": null, "c": null}\n{}\n' if name == "d.ndjson" else "x,c\n,\n")
        read = read_columns(path, FEATURES)
        assert isinstance(read.columns[0], CategoricalColumn)
        assert read.columns[0].values == ()
        assert set(read.columns[0].codes.tolist()) == {-1}
        assert isinstance(read.columns[1], np.ndarray)
        assert np.isnan(read.columns[1]).all()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.parquet", b""), ("d.parquet", b"PAR1 no"), ("d.csv", b""), ("d.csv", b"x,c\n"), ("d.ndjson", b""),
        ("d.ndjson", b"\n\n"), ("d.ndjson", b"a,b\n1,2\n"), ("d.csv.gz", b"not gzip"), ("d.ndjson.gz", b"not gzip"),
        ("d.ndjson.zst", b"not zstd"), ("d.ndjson.gz", gzip.compress(b'{"x": 1}' * 100, mtime=0)[:20]),
        ("d.txt", b"x"), ("d", b"x"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ReferenceProblem) as raised:
        read_columns(path, FEATURES)
    assert str(raised.value).startswith(f"{path}: ")


def test_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(ReferenceProblem, match=r"d\.parquet: expected a data file, found none; check the path"):
        read_columns(tmp_path / "d.parquet", FEATURES)


def test_real_files() -> None:
    folder = SHARED / "data"
    files = sorted(folder.glob("employment_MA_*.parquet"))
    if not files:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{folder} is absent")
        pytest.skip(f"{folder} is absent")
    frame = pl.read_parquet(files[0])
    features: list[tuple[str, Kind]] = [
        (name, "numeric" if dtype.is_numeric() else "categorical") for name, dtype in frame.schema.items()
    ]
    read = read_columns(files[0], features)
    assert read.n_rows == frame.height
    for (name, kind), column in zip(features, read.columns, strict=True):
        if kind == "numeric":
            np.testing.assert_array_equal(column, frame[name].cast(pl.Float64).to_numpy())
        elif frame[name].dtype == pl.String:
            assert isinstance(column, CategoricalColumn)
            assert [None if code < 0 else column.values[code] for code in column.codes.tolist()] == frame[
                name
            ].to_list()


def test_a_categorical_feature_of_nothing_but_dates_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    pl.DataFrame({"day": [datetime.date(2024, 1, 1)] * 3}).write_parquet(path)
    with pytest.raises(ReferenceProblem, match=r"day: expected strings, numbers or booleans, got Date; .*remove"):
        read_columns(path, [("day", "categorical")])


# --- vectors, and one column asked for twice ------------------------------------------------------

VECTORS = [[1.0, 2.0], None, [3.0, 4.0, 5.0], [6.0, None], [7.0, 8.0], []]
EXPECTED = [[1, 2], [np.nan] * 2, [np.nan] * 2, [np.nan] * 2, [7, 8], [np.nan] * 2]


def _write_vectors(path: Path, vectors: Sequence[Sequence[float | None] | None]) -> None:
    frame = pl.DataFrame(
        {"v": pl.Series(vectors, dtype=pl.List(pl.Float64)), "c": [f"k{i}" for i in range(len(vectors))]}
    )
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    elif path.suffix == ".csv":
        texts = [None if vector is None else json.dumps(vector) for vector in vectors]
        frame.with_columns(v=pl.Series(texts, dtype=pl.String)).write_csv(path)
    else:
        path.write_text("\n".join(map(json.dumps, frame.to_dicts())))


every_format = pytest.mark.parametrize("name", ["d.parquet", "d.csv", "d.ndjson"])


@every_format
def test_vectors(tmp_path: Path, name: str) -> None:
    _write_vectors(tmp_path / name, VECTORS)
    read = read_columns(tmp_path / name, [("c", "categorical"), ("v", "vector", 2)])
    assert read.n_rows == 6
    assert [rows.tolist() for rows in read.invalid] == [[], [2, 3, 5]]
    vectors = read.columns[1]
    assert isinstance(vectors, np.ndarray)
    assert vectors.dtype == np.float64
    assert vectors.flags.c_contiguous
    np.testing.assert_array_equal(vectors, EXPECTED)


@every_format
@pytest.mark.parametrize(
    ("vectors", "got"),
    [
        ([None, [1.0, 2.0, 3.0], [1.0]], "a list of 3"),
        ([[1.0, None]], "a list with null, NaN or Inf"),
        ([None], "none"),
    ],
)
def test_a_column_without_any_vector(
    tmp_path: Path, name: str, vectors: Sequence[Sequence[float | None] | None], got: str
) -> None:
    path = tmp_path / name
    _write_vectors(path, vectors)
    with pytest.raises(ReferenceProblem) as raised:
        read_columns(path, [("v", "vector", 2)])
    assert str(raised.value) == (
        f"{path}: v: expected lists of 2 numbers, got {got}; correct the data or the number of dimensions"
    )


def test_vectors_of_fixed_length_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    numbers = np.arange(12, dtype=np.float32).reshape(-1, 4)
    pl.DataFrame({"v": numbers}).write_parquet(path)
    np.testing.assert_array_equal(read_columns(path, [("v", "vector", 4)]).columns[0], numbers)


def test_a_column_of_texts_holds_no_vectors(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    pl.DataFrame({"v": ["[1,2]"]}).write_parquet(path)
    with pytest.raises(ReferenceProblem, match="v: expected lists of 2 numbers, got a value of type String; "):
        read_columns(path, [("v", "vector", 2)])


def test_vectors_in_ndjson_among_what_is_none(tmp_path: Path) -> None:
    path = tmp_path / "d.ndjson"
    path.write_text('{"v": [1, 2]}\n{bad\n{"v": "[1, 2]"}\n{"v": [[1], [2]]}\n{}\n{"v": [3, 1e400]}\n{"v": [3, 4]}')
    read = read_columns(path, [("v", "vector", 2)])
    assert (read.n_rows, read.n_rejected) == (6, 1)
    assert read.invalid[0].tolist() == [1, 2, 4]
    np.testing.assert_array_equal(read.columns[0], [[1, 2], *[[np.nan] * 2] * 4, [3, 4]])


def test_vectors_in_several_chunks(tmp_path: Path) -> None:
    path = tmp_path / "d.ndjson"
    n = 200_000
    lines = [b'{"v": [%d, %d.5], "pad": "01234567890123456789"}\n' % (i, i) for i in range(n)]
    lines[150_000] = b'{"v": "one chunk is read row by row"}\n'
    path.write_bytes(b"".join(lines))
    read = read_columns(path, [("v", "vector", 2)])
    expected = np.column_stack([np.arange(n), np.arange(n) + 0.5])
    expected[150_000] = np.nan
    np.testing.assert_array_equal(read.columns[0], expected)
    assert read.invalid[0].tolist() == [150_000]


def test_the_dimensions_of_a_vector_have_to_be_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="v: expected the dimensions of a vector, got 0"):
        read_columns(tmp_path / "d.parquet", [("v", "vector")])


@every_format
@pytest.mark.parametrize("kinds", [("categorical", "categorical"), ("numeric", "categorical")])
def test_one_column_as_two_features(tmp_path: Path, name: str, kinds: tuple[Kind, Kind]) -> None:
    path = tmp_path / name
    frame = pl.DataFrame({"x": [7, None, 5, 7]})
    if name == "d.parquet":
        frame.write_parquet(path)
    else:
        path.write_text('{"x": 7}\n{"x": null}\n{"x": 5}\n{"x": 7}' if name == "d.ndjson" else "y,x\n,7\n,\n,5\n,7\n")
    first, second = read_columns(path, [("x", kinds[0]), ("x", kinds[1])]).columns
    assert isinstance(second, CategoricalColumn)
    assert second.values == ("5", "7")
    assert second.codes.tolist() == [1, -1, 0, 1]
    if isinstance(first, CategoricalColumn):
        assert first.codes.tolist() == [1, -1, 0, 1]
    else:
        np.testing.assert_array_equal(first, [7, np.nan, 5, 7])


def test_a_header_line_that_comes_again_in_a_file_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "joined.csv"
    path.write_text("x,c,z\n1,red,0\nx,c,z\n2,,0\nx,c,z\n,c,0\n")
    found = read_columns(path, [("x", "numeric"), ("c", "categorical")])
    assert found.n_rows == 3
    np.testing.assert_array_equal(found.columns[0], [1, 2, np.nan])
    assert [rows.size for rows in found.invalid] == [0, 0]


@pytest.mark.parametrize("joined", [False, True])
def test_a_row_that_begins_as_the_header_does_is_a_row(tmp_path: Path, joined: bool) -> None:
    """Three cells of the header in front were enough for a row to be left out."""
    path = tmp_path / "live.csv"
    again = "\ufeffa,b,c,d\n" if joined else ""
    path.write_text(f"\ufeffa,b,c,d\nu,v,w,red\na,b,c,blue\n{again}a,b,c,red\na,b,c,\n")
    found = read_columns(path, [("a", "categorical"), ("d", "categorical")])
    assert found.n_rows == 4
    column = found.columns[1]
    assert isinstance(column, CategoricalColumn)
    assert [column.values[code] if code >= 0 else None for code in column.codes] == ["red", "blue", "red", None]
