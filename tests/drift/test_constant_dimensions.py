"""Dimensions of vectors that are constant in the reference: the others are compared as ever, and these are watched."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kldrift.assembly.references import reference_from_data
from kldrift.drift.kinds.vector import Vector
from kldrift.drift.monitor import Monitor
from kldrift.drift.normal_kl import gaussian_kl, gaussian_kl_diagonal
from kldrift.drift.references.file import dump_references, load_references
from kldrift.drift.references.learned import to_learn
from kldrift.records.samples import RowRange, SampleBatch
from kldrift.records.snapshots import MonitorSnapshot
from kldrift.records.specs import FeatureSpec, MonitorSpec, WindowSpec
from kldrift.records.types import FloatArray
from kldrift.wire import decode, decode_rows
from tests.drift.builders import HOUR, vector_reference

NOW = 1_700_000_000_000 // HOUR * HOUR
SPEC = FeatureSpec("z", "vector", dimensions=5, per_dimension=True)


def relu(n: int, seed: int, shift: float = 0.0) -> FloatArray:
    """Return activations of 5 units, of which 1 and 3 are dead."""
    values = np.maximum(np.random.default_rng(seed).normal(0.5 + shift, 1, (n, 5)), 0)
    values[:, [1, 3]] = 0, 0.1
    return values


def judged(spec: FeatureSpec, reference: FloatArray, live: FloatArray) -> MonitorSnapshot:
    found = vector_reference(spec, reference, NOW)
    watched = Monitor(MonitorSpec("m", (spec,), (WindowSpec("1h", HOUR),)), [found])
    watched.add(SampleBatch(len(live), (np.ascontiguousarray(live),)), "s", NOW)
    return watched.evaluate(NOW)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_the_others_have_the_closed_form(covariance: str) -> None:
    reference, live = relu(20_000, 1), relu(5_000, 2, shift=0.4)
    spec = replace(SPEC, covariance=covariance)
    found = judged(spec, reference, live)
    kept = [0, 2, 4]
    a, b = live[:, kept], reference[:, kept]
    if covariance == "full":
        moments = (a.mean(0), np.cov(a.T, bias=True), b.mean(0), np.cov(b.T, bias=True))
        expected, dof = gaussian_kl(*moments), 9
    else:
        expected, dof = gaussian_kl_diagonal(a.mean(0), a.var(0), b.mean(0), b.var(0)), 6
    assert found.divergences[0, 0, 0] == pytest.approx(expected - dof / (2 * found.effective_samples[0, 0]), rel=1e-9)
    assert found.per_dimension[0][0, [1, 3]].tolist() == [0, 0]
    assert found.features[0].problem is None
    assert found.features[0].limits[0].startswith("2 of 5 dimensions are constant in the reference: 1, 3; ")


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_one_that_comes_alive_drifts_and_is_told_even_if_its_mean_stays(covariance: str) -> None:
    live = relu(5_000, 2)
    live[::8, 3] = 0.1 + np.random.default_rng(3).choice([-1.0, 1.0], 625)
    found = judged(replace(SPEC, covariance=covariance), relu(20_000, 1), live)
    assert found.lower[0, 0] > 0.1
    assert found.detected[0, 0] == 1
    assert np.argmax(found.per_dimension[0][0]) == 3
    share, q = 1 / 8, 0.5 / 20_001
    expected = share * np.log(share / q) + (1 - share) * np.log((1 - share) / (1 - q))
    assert found.per_dimension[0][0, 3] == pytest.approx(expected, rel=1e-9)


def test_one_row_and_rounding_to_float32_are_no_drift() -> None:
    live = relu(50_000, 2)
    live[7, 1] = 5.0
    live[:, 3] = np.float32(0.1)
    found = judged(SPEC, relu(20_000, 1), live)
    assert found.lower[0, 0] == 0
    assert found.detected[0, 0] == 0
    assert found.per_dimension[0][0, 3] == 0


def test_one_hot_vectors_without_one_of_the_classes() -> None:
    rng = np.random.default_rng(4)
    reference, live = np.eye(5)[rng.integers(0, 4, 10_000)], np.eye(5)[rng.integers(0, 5, 3_000)]
    found = judged(SPEC, reference, live)
    assert found.features[0].limits[0].startswith("1 of 5 dimensions is constant in the reference: 4; ")
    assert found.lower[0, 0] > 0.1


def test_a_variance_below_what_float64_holds_is_constant() -> None:
    reference = relu(2_000, 1)
    reference[::2, 1] = 1e-200
    shape, flaw = Vector(5).fitted(reference)
    assert flaw is None
    assert shape.constants is not None
    assert shape.constants.dimensions.tolist() == [1, 3]
    assert shape.rows(reference)[:, [1, 3]].max() == 0


def test_a_mean_of_a_billion_is_not_constant() -> None:
    reference = relu(2_000, 1)
    reference[:, 1] = 1e9 + np.random.default_rng(5).normal(0, 1, 2_000)
    shape, _ = Vector(5).fitted(reference)
    assert shape.constants is not None
    assert shape.constants.dimensions.tolist() == [3]


def test_all_constant_supports_nothing() -> None:
    _, flaw = Vector(5).fitted(np.ones((500, 5)))
    assert flaw is not None
    assert "dimension 0 (and 4 more) of the reference, counted from 0, is constant at 1" in flaw


def test_a_file_keeps_them() -> None:
    reference = vector_reference(SPEC, relu(2_000, 1), NOW)
    (loaded,) = load_references(dump_references([reference]), "file")
    assert loaded.reference_hash == reference.reference_hash
    assert loaded.bins_hash == reference.bins_hash
    assert np.array_equal(loaded.shape.moments.rows(relu(50, 2)), reference.shape.moments.rows(relu(50, 2)))


def test_a_reference_that_is_learned_leaves_them_out_and_watches_what_comes_behind_it() -> None:
    watched = Monitor(MonitorSpec("m", (SPEC,), (WindowSpec("1h", HOUR),)), [to_learn(SPEC, 3_000)])
    live = relu(5_000, 1)
    live[3_000::4, 1] = -2.0
    watched.add(SampleBatch(len(live), (live,)), "s", NOW)
    found = watched.evaluate(NOW)
    assert found.features[0].limits[0].startswith("2 of 5 dimensions are constant in the reference: 1, 3; ")
    share, q = 500 / 2_000, 0.5 / 3_001
    expected = share * np.log(share / q) + (1 - share) * np.log((1 - share) / (1 - q))
    assert found.per_dimension[0][0, 1] == pytest.approx(expected, rel=1e-9)
    assert found.detected[0, 0] == 1


def test_border_pixels_that_stay_dark_are_quiet_in_nearly_all_windows() -> None:
    rng = np.random.default_rng(6)
    spec = FeatureSpec("z", "vector", dimensions=36)
    inner = np.zeros((6, 6), dtype=bool)
    inner[1:-1, 1:-1] = True
    images = rng.uniform(0, 1, (40, 1_000, 36)) * inner.ravel()
    reference = rng.uniform(0, 1, (10_000, 36)) * inner.ravel()
    assert sum(judged(spec, reference, live).detected[0, 0] for live in images) == 0
    images[0][::10, 0] = 0.5
    assert judged(spec, reference, images[0]).detected[0, 0] == 1


Made = Callable[[int, int], FloatArray]
FULL = FeatureSpec("z", "vector", dimensions=5, covariance="full", per_dimension=True)


def one_hot(n: int, seed: int, p: tuple[float, ...] = (0.3, 0.25, 0.2, 0.15, 0.1)) -> FloatArray:
    return np.eye(5)[np.random.default_rng(seed).choice(5, n, p=p)]


def softmax(n: int, seed: int) -> FloatArray:
    raw = np.exp(np.random.default_rng(seed).normal(size=(n, 5))).astype(np.float32)
    return (raw / raw.sum(axis=1, keepdims=True)).astype(np.float64)


def doubled(n: int, seed: int) -> FloatArray:
    values = np.random.default_rng(seed).normal(3.0, 2.0, (n, 5))
    values[:, 2] = values[:, 0]
    values[:, 4] = 2 * values[:, 1] - 0.5 * values[:, 3] + 7
    return values


@pytest.mark.parametrize(("made", "determined"), [(one_hot, [4]), (softmax, [4]), (doubled, [2, 4])])
def test_dimensions_that_others_determine_are_left_out_of_a_full_covariance(made: Made, determined: list[int]) -> None:
    reference, live = made(20_000, 1), made(5_000, 2)
    found = judged(FULL, reference, live)
    kept = [i for i in range(5) if i not in determined]
    expected = gaussian_kl(
        live[:, kept].mean(0),
        np.cov(live[:, kept].T, bias=True),
        reference[:, kept].mean(0),
        np.cov(reference[:, kept].T, bias=True),
    )
    k = len(kept) * (len(kept) + 3) // 2
    floor = k / (2 * found.effective_samples[0, 0])
    assert found.divergences[0, 0, 0] == pytest.approx(max(0.0, expected - floor), rel=1e-6, abs=1e-9)
    assert found.features[0].problem is None
    (said,) = found.features[0].limits
    assert "determined by others in the reference: " + ", ".join(map(str, determined)) in said
    assert found.lower[0, 0] == 0
    assert found.detected[0, 0] == 0


@pytest.mark.parametrize("made", [one_hot, softmax, doubled])
def test_rows_in_which_they_are_not_what_the_others_say_drift(made: Made) -> None:
    live = made(5_000, 2)
    live[::10, 4] += 0.5
    found = judged(FULL, made(20_000, 1), live)
    assert found.lower[0, 0] > 0.1
    assert np.argmax(found.per_dimension[0][0]) == 4
    share, q = 0.1, 0.5 / 20_001
    expected = share * np.log(share / q) + (1 - share) * np.log((1 - share) / (1 - q))
    assert found.per_dimension[0][0, 4] == pytest.approx(expected, rel=1e-9)


def test_the_shift_of_classes_is_found() -> None:
    found = judged(FULL, one_hot(20_000, 1), one_hot(5_000, 2, (0.1, 0.25, 0.2, 0.15, 0.3)))
    assert found.lower[0, 0] > 0.1


def test_a_file_keeps_what_determines_them() -> None:
    reference = vector_reference(FULL, doubled(2_000, 1), NOW)
    (loaded,) = load_references(dump_references([reference]), "file")
    assert loaded.bins_hash == reference.bins_hash
    live = doubled(50, 2)
    live[::5, 2] += 1
    assert np.array_equal(loaded.shape.moments.rows(live), reference.shape.moments.rows(live))
    assert loaded.shape.moments.rows(live)[:, 2].sum() == 10


def test_strongly_correlated_dimensions_are_no_sums_of_each_other() -> None:
    rng = np.random.default_rng(7)
    values = rng.normal(size=(5_000, 5))
    values[:, 1] = values[:, 0] + 1e-4 * rng.normal(size=5_000)
    shape, flaw = Vector(5, full=True).fitted(values)
    assert flaw is None
    assert shape.constants is None


def test_a_diagonal_covariance_needs_no_dimension_left_out() -> None:
    shape, _ = Vector(5).fitted(one_hot(5_000, 1))
    assert shape.constants is None


def test_one_value_that_differs_by_rounding_alone_costs_only_its_dimension() -> None:
    values = relu(2_000, 1)
    values[:, 1] = 1.0
    values[7, 1] = 1 + 2e-14
    shape, flaw = Vector(5).fitted(values)
    assert flaw is None
    assert shape.constants is not None
    assert shape.constants.dimensions.tolist() == [1, 3]


@pytest.mark.parametrize("name", ["live.ndjson", "live.parquet", "live.arrow", "live.json"])
def test_every_format_has_them(name: str, tmp_path: Path) -> None:
    """Vectors as lists, in a reference and live: one constant dimension, and one that the others determine."""
    reference, live = doubled(2_000, 1), doubled(500, 2)
    reference[:, 3], live[:, 3] = 0, 0
    reference[:, 4], live[:, 4] = 2 * reference[:, 1], 2 * live[:, 1]
    live[::5, 3] = 1
    as_written = "reference.parquet" if name in ("live.parquet", "live.arrow") else "reference.ndjson"
    frame = pl.DataFrame({"z": reference.tolist()})
    frame.write_parquet(tmp_path / as_written) if as_written.endswith("t") else frame.write_ndjson(
        tmp_path / as_written
    )
    ((made,), _) = reference_from_data(tmp_path / as_written, [FULL], NOW)
    watched = Monitor(MonitorSpec("m", (FULL,), (WindowSpec("1h", HOUR),)), [made])
    rows = pl.DataFrame({"z": live.tolist()})
    if name == "live.parquet":
        rows.write_parquet(tmp_path / name)
        decoded = decode_rows("parquet", RowRange(tmp_path / name, 0, 500), watched.schema)
    else:
        out = BytesIO()
        {"live.ndjson": rows.write_ndjson, "live.arrow": rows.write_ipc_stream, "live.json": rows.write_json}[name](out)
        decoded = decode(name.removeprefix("live."), [out.getvalue()], watched.schema)  # type: ignore[arg-type]
    watched.add(decoded.batch, "s", NOW)
    found = watched.evaluate(NOW)
    said = found.features[0].limits
    assert "1 of 5 dimensions is constant in the reference: 3" in said[0]
    assert "2 of 5 dimensions are determined by others in the reference: 2, 4" in said[1]
    share, q = 0.2, 0.5 / 2_001
    expected = share * np.log(share / q) + (1 - share) * np.log((1 - share) / (1 - q))
    assert found.per_dimension[0][0].argmax() == 3
    assert found.per_dimension[0][0, 3] == pytest.approx(expected, rel=1e-9)


def test_the_upper_bound_is_one() -> None:
    """Of 200 windows of 2,000 rows, 5 % of which have another value, hardly any has its upper bound below the truth."""
    rng = np.random.default_rng(8)
    shape, _ = Vector(5).fitted(relu(20_000, 1))
    assert shape.constants is not None
    share = rng.binomial(2_000, 0.05, 200) / 2_000
    truth = 0.05 * np.log(0.05 / (0.5 / 20_001)) + 0.95 * np.log(0.95 / (1 - 0.5 / 20_001))
    upper = shape.constants._upper(share, np.full(200, 2_000.0), 20_000, 0.025)
    assert 0 < np.count_nonzero(upper < truth) < 0.06 * 200
    assert (upper > shape.constants._upper(share, np.full(200, 2_000.0), 20_000, 0.5)).all()
    quiet = judged(SPEC, relu(20_000, 1), relu(5_000, 2))
    assert quiet.upper[0, 0] > quiet.divergences[0, 0, 0]
