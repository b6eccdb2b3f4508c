"""Durations are quantities in seconds: as references, live values in Parquet and Arrow, in `compare` and in `init`."""

import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kldrift.datafiles.reference import read_columns
from kldrift.offline.compare import compare_files
from kldrift.records.samples import BatchSchema, FeatureSchema, RowRange
from kldrift.wire import decode, decode_rows
from tests.cli.command import kldrift

N = 2000
UNITS = {"ms": 10**3, "us": 10**6, "ns": 10**9}
SCHEMA = BatchSchema((FeatureSchema("took", "numeric"),))


def seconds(seed: int, mean: float = 30.0) -> np.ndarray:
    return np.round(np.random.default_rng(seed).exponential(mean, N), 3)


def durations(values: np.ndarray, unit: str) -> pl.Series:
    ticks = pl.Series("took", np.rint(values * UNITS[unit]).astype(np.int64))
    return ticks.set(pl.Series(np.arange(N) % 10 == 0), None).cast(pl.Duration(unit))  # type: ignore[arg-type]


def expected(values: np.ndarray) -> np.ndarray:
    return np.where(np.arange(N) % 10 == 0, np.nan, values)


@pytest.mark.parametrize("unit", UNITS)
def test_they_are_seconds_wherever_they_are_read(unit: str, tmp_path: Path) -> None:
    path, values = tmp_path / "a.parquet", seconds(0)
    frame = pl.DataFrame([durations(values, unit)])
    frame.write_parquet(path)
    np.testing.assert_array_equal(read_columns(path, [("took", "numeric")]).columns[0], expected(values))
    of_rows = decode_rows("parquet", RowRange(path, 0, N), SCHEMA).batch
    body = io.BytesIO()
    frame.write_ipc_stream(body)
    of_body = decode("arrow", [body.getvalue()], SCHEMA).batch
    for batch in (of_rows, of_body):
        np.testing.assert_array_equal(batch.columns[0], expected(values))
        assert batch.invalid == ()


@pytest.mark.parametrize("live", ["live.parquet", "live.ndjson", "live.csv"])
def test_they_are_compared_with_numbers_of_seconds(live: str, tmp_path: Path) -> None:
    reference = tmp_path / "reference.parquet"
    pl.DataFrame([durations(seconds(0), "us")]).write_parquet(reference)
    path = tmp_path / live
    for mean, drifts in ((30.0, False), (60.0, True)):
        # with a second column, as a blank line is no row
        numbers = pl.DataFrame({"took": expected(seconds(1, mean)), "new": np.arange(N)}, nan_to_null=True)
        {".csv": numbers.write_csv, ".ndjson": numbers.write_ndjson, ".parquet": numbers.write_parquet}[path.suffix](
            path
        )
        found = compare_files(reference, path, now_ms=10**12)
        assert [(info.name, info.kind) for info in found.monitor.features] == [("took", "numeric")]
        assert found.drifts("warning") == drifts


def test_init_watches_them_and_shows_a_row_in_seconds(tmp_path: Path) -> None:
    pl.DataFrame([durations(seconds(0), "us")]).tail(-1).write_parquet(tmp_path / "a.parquet")
    done = kldrift("init", "a.parquet", cwd=tmp_path)
    assert done.returncode == 0
    assert "took: {kind: numeric}" in (tmp_path / "kldrift.yaml").read_text()
    (row,) = (part for part in done.stdout.split("'") if part.startswith("{"))
    assert json.loads(row) == {"took": seconds(0)[1]}
