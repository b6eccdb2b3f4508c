"""Row ranges of Parquet files."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kldrift.errors import DecodeError
from kldrift.records.samples import BatchSchema, FeatureSchema, RowRange
from kldrift.records.specs import TimestampSpec
from kldrift.wire import count_rows, decode, decode_rows

SCHEMA = BatchSchema(
    (FeatureSchema("x", "numeric"), FeatureSchema("c", "categorical", ("red", "1", "1.5", "true"))),
)
TIMED = BatchSchema(SCHEMA.features, TimestampSpec("ts", "iso8601"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data.parquet"
    times = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 1, 0, 0, 9), "1s", eager=True)
    pl.DataFrame({"c": ["red", None, "blue", "1", "1.5"] * 2, "x": [1, 2, None, 4, 5] * 2, "ts": times}).write_parquet(
        path, row_group_size=3
    )
    return path


def test_a_range_of_rows(path: Path) -> None:
    assert count_rows("parquet", path) == 10
    decoded = decode_rows("parquet", RowRange(path, 2, 7), TIMED)
    np.testing.assert_array_equal(decoded.batch.columns[0], [np.nan, 4, 5, 1, 2])
    assert decoded.batch.columns[1].tolist() == [4, 1, 2, 0, 5]
    assert decoded.batch.event_ms is not None
    assert decoded.batch.event_ms.tolist() == [1704067200000 + 1000 * i for i in range(2, 7)]
    assert decoded.bodies[0].accepted == 5
    assert all(column.flags.c_contiguous for column in decoded.batch.columns)


def test_ranges_together_are_the_file(path: Path) -> None:
    whole = decode_rows("parquet", RowRange(path, 0, 10), SCHEMA).batch
    parts = [decode_rows("parquet", RowRange(path, start, start + 4), SCHEMA).batch for start in (0, 4, 8)]
    assert [part.n_rows for part in parts] == [4, 4, 2]
    for i in range(2):
        np.testing.assert_array_equal(np.concatenate([part.columns[i] for part in parts]), whole.columns[i])


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        (pl.Series([1, None, 2]), [1, 5, 4]),
        (pl.Series([1.0, 1.5, float("nan"), None, 1e22]), [1, 2, 5, 5, 4]),
        (pl.Series([True, None, False]), [3, 5, 4]),
        (pl.Series(["red", None], dtype=pl.Categorical), [0, 5]),
        (pl.Series([None, None], dtype=pl.Null), [5, 5]),
    ],
)
def test_typed_columns_give_the_codes_of_json(tmp_path: Path, values: pl.Series, codes: list[int]) -> None:
    path = tmp_path / "typed.parquet"
    frame = pl.DataFrame({"c": values})
    frame.write_parquet(path)
    assert decode_rows("parquet", RowRange(path, 0, 99), SCHEMA).batch.columns[1].tolist() == codes
    if values.dtype != pl.Categorical:
        rows = frame.write_ndjson().encode()
        assert decode("ndjson", [rows], SCHEMA).batch.columns[1].tolist() == codes


def test_a_category_that_is_no_unicode_keeps_its_code_from_the_others(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    pl.DataFrame({"c": ["red", "blue", None]}).write_parquet(path)
    schema = BatchSchema((FeatureSchema("c", "categorical", ("\ud800", "red")),))
    assert decode_rows("parquet", RowRange(path, 0, 3), schema).batch.columns[0].tolist() == [1, 2, 3]


def test_other_types_are_invalid(tmp_path: Path) -> None:
    path = tmp_path / "typed.parquet"
    pl.DataFrame({"x": ["1", None, "2"], "c": [[1], None, [2]]}).write_parquet(path)
    decoded = decode_rows("parquet", RowRange(path, 0, 3), SCHEMA)
    assert [(f, rows.tolist()) for f, rows in decoded.batch.invalid] == [(0, [0, 2]), (1, [0, 2])]
    assert decoded.bodies[0].errors[0].reason == "expected a number, got a value of type String"


def test_no_feature_among_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pl.DataFrame({"a": [1]}).write_parquet(path)
    (body,) = decode_rows("parquet", RowRange(path, 0, 1), SCHEMA).bodies
    assert body.unreadable == f"{path}: no column is a feature: expected some of x, c, got a"


def test_what_is_no_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "no.parquet"
    for content in (b"", b"PAR1", b"x,c\n1,red\n" * 10):
        path.write_bytes(content)
        with pytest.raises(DecodeError, match=r"^expected a Parquet file, got "):
            count_rows("parquet", path)
        (body,) = decode_rows("parquet", RowRange(path, 0, 1), SCHEMA).bodies
        assert "expected rows 0 to 1 of a Parquet file" in (body.unreadable or "")
    with pytest.raises(DecodeError):
        count_rows("parquet", tmp_path / "absent.parquet")
