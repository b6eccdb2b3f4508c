"""A reference is counted in the order of the monitor's timestamp where its data has it, in every format."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kldrift.assembly.monitors import build_monitor
from kldrift.assembly.references import read_in_order, reference_from_data
from kldrift.offline.compare import compare_files
from kldrift.records.specs import (
    FeatureSpec,
    MonitorSpec,
    ReferenceData,
    SegmentSpec,
    TimestampSpec,
    WindowSpec,
)

N = 6_400
FEATURES = (FeatureSpec("x", "numeric"), FeatureSpec("c", "categorical"))
ISO = TimestampSpec("t", "iso8601")


def frame() -> tuple[pl.DataFrame, np.ndarray]:
    """Rows sorted by x; and the order of their times."""
    rng = np.random.default_rng(3)
    order = rng.permutation(N)
    seconds = np.argsort(order)
    times = pl.Series("t", 1_700_000_000_000_000 + seconds * 1_000_000).cast(pl.Datetime("us", "UTC"))
    x = np.sort(rng.normal(size=N))
    return pl.DataFrame({"x": x, "c": np.where(x > 0, "high", "low"), "t": times}), order


def written(folder: Path, name: str, rows: pl.DataFrame) -> Path:
    path = folder / name
    texts = rows.with_columns(pl.col("t").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    match path.suffix:
        case ".parquet":
            rows.write_parquet(path)
        case ".csv":
            texts.write_csv(path)
        case _:
            path.write_text("".join(json.dumps(row) + "\n" for row in texts.to_dicts()))
    return path


@pytest.mark.parametrize("name", ["r.parquet", "r.csv", "r.ndjson"])
def test_rows_are_counted_in_the_order_of_their_times(tmp_path: Path, name: str) -> None:
    rows, order = frame()
    path = written(tmp_path, name, rows)
    (found, colour), table = reference_from_data(path, FEATURES, 0, timestamp=ISO)
    np.testing.assert_allclose(table.columns[0], rows["x"].to_numpy()[order])
    (as_it_is, _), _ = reference_from_data(path, FEATURES, 0)
    assert found.panes is not None
    assert as_it_is.panes is not None
    assert (found.panes.sum(axis=0) == as_it_is.panes.sum(axis=0)).all()
    assert (found.panes[:, :16] > 0).sum() > 800  # of 1,024: nearly every stretch has everything
    assert (as_it_is.panes[:, :16] > 0).sum() < 100
    assert colour.panes is not None
    assert (colour.panes[:, :2] > 20).all()


@pytest.mark.parametrize("unit", ["s", "ms"])
@pytest.mark.parametrize("name", ["r.parquet", "r.csv", "r.ndjson"])
def test_times_may_be_numbers(tmp_path: Path, name: str, unit: str) -> None:
    rows, order = frame()
    factor = {"s": 1_000_000, "ms": 1_000}[unit]
    numbers = rows.with_columns(pl.col("t").dt.epoch("us") // factor)
    path = tmp_path / name
    match path.suffix:
        case ".parquet":
            numbers.write_parquet(path)
        case ".csv":
            numbers.write_csv(path)
        case _:
            numbers.write_ndjson(path)
    _, table = reference_from_data(path, FEATURES, 0, timestamp=TimestampSpec("t", unit))  # type: ignore[arg-type]
    np.testing.assert_allclose(table.columns[0], rows["x"].to_numpy()[order])


def spec(path: Path, timestamp: TimestampSpec | None, segments: SegmentSpec | None = None) -> MonitorSpec:
    return MonitorSpec(
        "m", FEATURES, (WindowSpec("1h", 3_600_000),), ReferenceData(path), timestamp=timestamp, segments=segments
    )


def test_a_monitor_with_a_timestamp_can_judge_by_a_sorted_file_that_has_it(tmp_path: Path) -> None:
    rows, _ = frame()
    path = written(tmp_path, "r.parquet", rows)
    with_times = build_monitor(spec(path, ISO), 0)
    assert [info.problem for info in with_times.features] == [None, None]
    without = build_monitor(spec(path, None), 0)
    assert all(info.problem and "stretches of the reference differ" in info.problem for info in without.features)
    bare = written(tmp_path, "bare.csv", rows)
    bare.write_text(rows.drop("t").write_csv())
    assert all(info.problem for info in build_monitor(spec(bare, ISO), 0).features)


def test_segments_belong_to_the_rows_in_their_order(tmp_path: Path) -> None:
    rows, _ = frame()
    path = written(tmp_path, "r.parquet", rows)
    build_monitor(spec(path, ISO, SegmentSpec("c")), 0)
    by = read_in_order(path, [("c", "categorical")], ISO)[0].columns[0]
    x = read_in_order(path, [("x", "numeric")], ISO)[0].columns[0]
    assert (np.asarray(x) > 0).tolist() == [by.values[code] == "high" for code in by.codes]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["r.parquet", "r.csv", "r.ndjson"])
def test_compare_takes_rows_without_a_time_as_independent(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(5)
    reference, live = pl.DataFrame({"x": np.sort(rng.normal(size=5_000))}), pl.DataFrame({"x": rng.normal(3, 1, 2_000)})
    for stem, data in (("r", reference), ("l", live)):
        path = tmp_path / f"{stem}{Path(name).suffix}"
        {".parquet": data.write_parquet, ".csv": data.write_csv, ".ndjson": data.write_ndjson}[path.suffix](path)
    found = compare_files(tmp_path / name, tmp_path / f"l{Path(name).suffix}", now_ms=0)
    assert found.drifts("critical")
    assert 2.9 < found.monitor.lower[0, 0] < found.monitor.upper[0, 0] < 4.4
