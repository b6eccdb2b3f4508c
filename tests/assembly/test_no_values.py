"""Rows without values of a feature, in every format: nothing is learned from them, and they are no drift."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kldrift.config.load import load_config
from kldrift.daemon.parts import run_once
from kldrift.drift.judging.states import feature_states
from kldrift.export.telemetry import Telemetry
from kldrift.records.snapshots import MonitorSnapshot

FORMATS = ["live.ndjson", "live.csv", "live.parquet"]
COLOURS = ["red", "green"]


def run(folder: Path, name: str, rows: pl.DataFrame, reference: str) -> MonitorSnapshot:
    """The monitor of two features after these rows."""
    path = folder / name
    match path.suffix:
        case ".ndjson":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows.to_dicts()))
        case ".csv":
            rows.write_csv(path)
        case _:
            rows.write_parquet(path)
    config = folder / "kldrift.yaml"
    config.write_text(
        f"sources: {{s: {{type: file, path: {path}}}}}\n"
        f"monitors: {{m: {{sources: [s], windows: [1h], reference: {reference},"
        " features: {x: {kind: numeric}, colour: {kind: categorical}}}}\n"
    )
    snapshot, _, _, failures = run_once(load_config(config), Telemetry())
    assert failures == []
    (found,) = snapshot.monitors
    return found


def rows_with_values(n: int, n_all: int) -> pl.DataFrame:
    rng = np.random.default_rng(1)
    none = [None] * (n_all - n)
    x = pl.Series("x", [*rng.normal(size=n).tolist(), *none], pl.Float64)
    colour = pl.Series("colour", [*(COLOURS[i % 2] for i in range(n)), *none], pl.String)
    return pl.DataFrame([x, colour, pl.Series("other", [1] * n_all)])


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_green_after_learning_from_next_to_nothing(name: str, tmp_path: Path) -> None:
    found = run(tmp_path, name, rows_with_values(5, 1_505), "{learn: 1000}")
    assert found.samples.tolist() == [[505, 505]]
    assert found.missing_ratio.tolist() == [[1.0, 1.0]]
    assert not found.ready.any()
    assert feature_states(found) == ["undecided", "undecided"]
    for info in found.features:
        assert "has a value in only 5 of its 1,000 rows" in str(info.problem)


@pytest.mark.parametrize("name", FORMATS)
def test_features_that_never_come_are_absent(name: str, tmp_path: Path) -> None:
    rows_with_values(2_000, 2_000).write_parquet(tmp_path / "reference.parquet")
    reference = f"{{data: {tmp_path / 'reference.parquet'}}}"
    found = run(tmp_path, name, rows_with_values(0, 500), reference)
    assert found.samples.tolist() == [[500, 500]]
    assert found.absent.all()
    assert not found.ready.any()
    assert np.isnan(found.divergences).all()
    assert not (found.detected == 1).any()
    assert feature_states(found) == ["absent", "absent"]


def test_rows_without_a_field_of_the_monitor_teach_nothing(tmp_path: Path) -> None:
    """Five rows with the features, and 1,500 of something else in the same log: still learning."""
    rows = [{"x": 0.5, "colour": "red"}] * 5 + [{"other": 1}] * 1_500
    (tmp_path / "live.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "kldrift.yaml").write_text(
        f"sources: {{s: {{type: file, path: {tmp_path / 'live.ndjson'}}}}}\n"
        "monitors: {m: {sources: [s], windows: [1h], reference: {learn: 1000},"
        " features: {x: {kind: numeric}, colour: {kind: categorical}}}}\n"
    )
    snapshot, *_ = run_once(load_config(tmp_path / "kldrift.yaml"), Telemetry())
    (found,) = snapshot.monitors
    assert not found.ready.any()
    assert "still learning" in str(found.features[0].problem)
