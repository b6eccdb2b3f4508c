"""Columns of Parquet of types that polars does not read cost themselves, and not the file."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kldrift.config.load import parse_config
from kldrift.daemon.parts import run_once
from kldrift.datafiles.reference import read_columns
from kldrift.datafiles.sample import column_names, read_sample
from kldrift.errors import ReferenceProblem
from kldrift.export.telemetry import Telemetry
from kldrift.offline.compare import compare_files
from kldrift.records.kinds import INVALID
from kldrift.records.samples import BatchSchema, FeatureSchema, RowRange
from kldrift.wire import decode_rows
from tests.cli.command import kldrift
from tests.wire.parquet_files import Stored, doubles, intervals, parquet, wide_decimals

N = 2000

BAD = [wide_decimals("bad", range(N)), intervals("bad", N)]


def numbers(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=N)


@pytest.fixture(params=BAD, ids=["decimal256", "interval"])
def bad(request: pytest.FixtureRequest) -> Stored:
    return request.param


def written(path: Path, bad: Stored, seed: int) -> Path:
    path.write_bytes(parquet([doubles("good", numbers(seed)), bad, doubles("more", numbers(seed + 9))], N))
    return path


def test_compare_leaves_only_that_column_out(bad: Stored, tmp_path: Path) -> None:
    plain = tmp_path / "plain.parquet"
    pl.DataFrame({"good": numbers(3), "bad": numbers(4), "more": numbers(5)}).write_parquet(plain)
    one, other = written(tmp_path / "a.parquet", bad, 0), written(tmp_path / "b.parquet", bad, 1)
    for reference, live, which in ((one, other, ""), (one, plain, ""), (plain, one, "in the live data ")):
        found = compare_files(reference, live, now_ms=10**12)
        assert [info.name for info in found.monitor.features] == ["good", "more"]
        assert found.left_out["bad"].startswith(f"{which}it is of type ")
        assert "cannot be read" in found.left_out["bad"]
        assert not found.changed
        np.testing.assert_array_equal(found.monitor.samples, N)


CONFIG = """
state: none
sources:
  files: {type: file, path: live.parquet, format: parquet}
monitors:
  m:
    sources: [files]
    windows: [1h]
    reference: {data: reference.parquet}
    features: {good: {kind: numeric}, bad: {kind: numeric}}
"""


def test_a_source_counts_its_values_as_invalid(bad: Stored, tmp_path: Path) -> None:
    pl.DataFrame({"good": numbers(3), "bad": numbers(4)}).write_parquet(tmp_path / "reference.parquet")
    written(tmp_path / "live.parquet", bad, 0)
    snapshot, rows, _, failures = run_once(parse_config(CONFIG, tmp_path / "kldrift.yaml"), Telemetry())
    assert (rows, failures) == (N, [])
    monitor = snapshot.monitors[0]
    counts = [monitor.counts[0, monitor.offsets[f] : monitor.offsets[f + 1]] for f in (0, 1)]
    assert (counts[0].sum(), counts[0][INVALID]) == (N, 0)
    assert (counts[1].sum(), counts[1][INVALID]) == (N, N)


def test_a_column_that_nobody_wants_costs_nothing(bad: Stored, tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", bad, 0)
    assert column_names(path) == ["good", "bad", "more"]
    np.testing.assert_array_equal(read_columns(path, [("good", "numeric")]).columns[0], numbers(0))
    decoded = decode_rows("parquet", RowRange(path, 10, 30), BatchSchema((FeatureSchema("good", "numeric"),)))
    np.testing.assert_array_equal(decoded.batch.columns[0], numbers(0)[10:30])
    assert decoded.batch.invalid == ()


def test_a_file_of_nothing_else_keeps_its_rows(bad: Stored, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet([bad], N))
    decoded = decode_rows("parquet", RowRange(path, 10, 30), BatchSchema((FeatureSchema("bad", "numeric"),)))
    assert decoded.batch.n_rows == 20
    ((feature, rows),) = decoded.batch.invalid
    assert (feature, rows.tolist()) == (0, list(range(20)))
    assert decoded.bodies[0].errors[0].reason == "expected a number, got a value of a type that cannot be read"
    assert read_sample(path).columns[0].fault is not None


def test_a_reference_names_the_feature(bad: Stored, tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", bad, 0)
    with pytest.raises(ReferenceProblem, match=r"a\.parquet: bad: it is of type .*, which cannot be read"):
        read_columns(path, [("good", "numeric"), ("bad", "numeric")])


def test_with_a_monitor_the_column_is_left_out_too(bad: Stored, tmp_path: Path) -> None:
    one, other = written(tmp_path / "a.parquet", bad, 0), written(tmp_path / "b.parquet", bad, 1)
    given = parse_config(CONFIG, tmp_path / "kldrift.yaml").monitors[0]
    found = compare_files(one, other, given, now_ms=10**12)
    assert [info.name for info in found.monitor.features] == ["good"]
    assert "cannot be read" in found.left_out["bad"]


def test_init_writes_the_other_columns_down(bad: Stored, tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", bad, 0)
    assert kldrift("init", "a.parquet", cwd=tmp_path).returncode == 0
    text = (tmp_path / "kldrift.yaml").read_text()
    assert "good:" in text
    assert "# bad: it is of type " in " ".join(text.split())


def test_a_damaged_column_is_not_taken_for_one_of_such_a_type(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    content = bytearray(parquet([doubles("good", numbers(0)), doubles("bad", numbers(1))], N))
    content[8 * N + 30 : 8 * N + 60] = bytes(30)
    path.write_bytes(content)
    schema = BatchSchema((FeatureSchema("bad", "numeric"),))
    assert decode_rows("parquet", RowRange(path, 0, N), schema).bodies[0].unreadable is not None


@pytest.mark.skipif(not hasattr(pl, "BaseExtension"), reason="this polars knows no extension types")
def test_an_extension_type_is_what_it_is_stored_as(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    values = pl.Series("x", numbers(0)).ext.to(pl.Extension("test.unit", pl.Float64, ""))
    pl.DataFrame([values]).write_parquet(path)
    assert isinstance(pl.read_parquet_schema(path)["x"], pl.BaseExtension)
    np.testing.assert_array_equal(read_columns(path, [("x", "numeric")]).columns[0], numbers(0))
    decoded = decode_rows("parquet", RowRange(path, 0, N), BatchSchema((FeatureSchema("x", "numeric"),)))
    np.testing.assert_array_equal(decoded.batch.columns[0], numbers(0))
    assert read_sample(path).columns[0].holds.kind == "numeric"
