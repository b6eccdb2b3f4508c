"""Dimensions of vectors that are constant in the reference: the others are compared as ever, and these are watched."""

from dataclasses import replace

import numpy as np
import pytest

from kldrift.drift.kinds.vector import Vector
from kldrift.drift.monitor import Monitor
from kldrift.drift.normal_kl import gaussian_kl, gaussian_kl_diagonal
from kldrift.drift.references.file import dump_references, load_references
from kldrift.drift.references.learned import to_learn
from kldrift.records.samples import SampleBatch
from kldrift.records.snapshots import MonitorSnapshot
from kldrift.records.specs import FeatureSpec, MonitorSpec, WindowSpec
from kldrift.records.types import FloatArray
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
