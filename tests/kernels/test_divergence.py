"""Divergences against scipy, golden vectors, and what must hold for any distributions."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import entr, rel_entr
from scipy.stats import entropy

from kldrift.kernels.divergence import compare_counts, compare_probabilities
from kldrift.records.divergences import DIVERGENCES, KNOWN_DIVERGENCES, N_DIVERGENCES
from tests import naive

COUNTS = st.lists(st.integers(0, 1000), min_size=1, max_size=40).filter(any)
WEIGHTS = st.lists(st.integers(1, 10_000), min_size=40, max_size=40)


def normalised(values):
    values = np.asarray(values, dtype=np.float64)
    return values / values.sum()


def compare(live, q, pseudocount=0.0, epsilon=0.0):
    live = np.asarray(live, dtype=np.int64).reshape(1, -1)
    out = np.empty((1, 1, N_DIVERGENCES))
    compare_counts(live, np.asarray(q, dtype=np.float64), np.array([0, live.size]), pseudocount, epsilon, out)
    return dict(zip(DIVERGENCES, out[0, 0].tolist(), strict=True))


@pytest.mark.parametrize("closeness", [0.3, 1e-2, 4e-3])
def test_scipy_agrees_to_1e_12_on_the_same_probabilities(closeness: float) -> None:
    """Down to divergences of 1e-6, where a rounding of p / q would already cost ten digits."""
    rng = np.random.default_rng(11)
    q = rng.dirichlet(np.full(64, 5.0), size=200)
    live = np.round(1e7 * q * np.exp(closeness * rng.normal(size=q.shape))).astype(np.int64)
    out = np.empty((1, 200, N_DIVERGENCES))
    offsets = np.arange(201, dtype=np.int64) * 64
    compare_counts(live.reshape(1, -1), q.ravel(), offsets, 0.5, 1e-6, out)
    n = live.sum(axis=1, keepdims=True)
    p, a = live / n, 0.5 + 1e-6 * n
    smoothed = (live + a) / (n + a * 64)
    middle = (p + q) / 2
    expected = {
        "kl": rel_entr(p, q).sum(axis=1),
        "reverse_kl": rel_entr(q, smoothed).sum(axis=1),
        "js": (rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=1) / 2,
        "psi": (rel_entr(q, smoothed) + rel_entr(smoothed, q)).sum(axis=1),
        "total_variation": np.abs(p - q).sum(axis=1) / 2,
        "hellinger": np.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum(axis=1) / 2),
        "entropy": entr(p).sum(axis=1),
        "cross_entropy": -(p * np.log(q)).sum(axis=1),
    }
    assert expected["kl"].min() < 1.2 * closeness**2  # the case is as near as it means to be
    for column, name in enumerate(DIVERGENCES):
        assert expected[name].min() > 1e-6
        np.testing.assert_allclose(out[0, :, column], expected[name], rtol=1e-12, err_msg=name)
    np.testing.assert_allclose(out[0, :, 0], entropy(p, q, axis=1), rtol=1e-9)  # renormalises q
    np.testing.assert_allclose(np.sqrt(out[0, :, 2]), jensenshannon(p, q, axis=1), rtol=1e-9)


def test_golden_vectors(golden_statistics: Path) -> None:
    vectors = json.loads(golden_statistics.read_text())["divergences"]
    assert len(vectors) >= 5
    for vector in vectors:
        got = dict(zip(DIVERGENCES, compare_probabilities(vector["p"], vector["q"]), strict=True))
        for name in ("kl", "reverse_kl", "js", "total_variation", "hellinger", "entropy"):
            expected = math.inf if vector[name] is None else vector[name]
            assert got[name] == pytest.approx(expected, rel=1e-12, abs=1e-15), name
        expected = math.inf if vector["jeffreys"] is None else vector["jeffreys"]
        assert got["psi"] == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_the_worked_example() -> None:
    assert compare([4, 6], [0.5, 0.5])["kl"] == pytest.approx(0.0201355, abs=5e-8)


@given(live=COUNTS, weights=WEIGHTS)
@settings(deadline=None)
def test_kl_is_positive_unless_the_distributions_are_equal(live, weights) -> None:
    q = normalised(weights[: len(live)])
    got = compare(live, q)
    assert all(value >= 0 for value in got.values())
    p = normalised(live)
    if np.abs(p - q).sum() > 1e-6:
        assert got["kl"] >= 2 * got["total_variation"] ** 2 * (1 - 1e-9)  # Pinsker
        assert got["kl"] > 0
    same = compare(live, p)
    for divergence in KNOWN_DIVERGENCES:
        name = divergence.name
        assert got[name] <= divergence.maximum * (1 + 1e-15), name
        assert divergence.is_entropy or same[name] == 0, name


@given(live=COUNTS, weights=WEIGHTS, cuts=st.sets(st.integers(1, 39)))
@settings(deadline=None)
def test_coarser_bins_never_increase_a_divergence(live, weights, cuts) -> None:
    q = normalised(weights[: len(live)])
    starts = [0, *sorted(cut for cut in cuts if cut < len(live))]
    fine = compare(live, q)
    coarse = compare(np.add.reduceat(live, starts), np.add.reduceat(q, starts))
    for name in (each.name for each in KNOWN_DIVERGENCES if not each.is_entropy):
        assert coarse[name] <= fine[name] * (1 + 1e-12) + 1e-15, name


@given(live=COUNTS, weights=st.lists(st.integers(0, 50), min_size=40, max_size=40))
@settings(deadline=None)
def test_unsmoothed_empty_cells_are_zero_or_infinite_and_never_nan(live, weights) -> None:
    weights = [weights[0] + 1, *weights[1 : len(live)]]
    q = normalised(weights)
    got = list(compare(live, q).values())
    assert not np.isnan(got).any()
    np.testing.assert_allclose(got, naive.compare_counts(live, q.tolist(), 0.0, 0.0), rtol=1e-12, atol=1e-13)


def test_empty_cells_by_hand() -> None:
    only_reference = compare([2, 0], [0.5, 0.5])
    assert only_reference["kl"] == pytest.approx(math.log(2))
    assert only_reference["reverse_kl"] == only_reference["psi"] == math.inf
    only_live = compare([1, 1], [1.0, 0.0])
    assert only_live["kl"] == only_live["psi"] == only_live["cross_entropy"] == math.inf
    assert only_live["reverse_kl"] == pytest.approx(math.log(2))
    neither = compare([1, 1, 0], [0.5, 0.5, 0.0])
    assert all(neither[each.name] == 0 for each in KNOWN_DIVERGENCES if not each.is_entropy)
    apart = compare([1, 0], [0.0, 1.0])
    assert apart["js"] == pytest.approx(math.log(2))
    assert apart["total_variation"] == apart["hellinger"] == 1.0
    assert math.copysign(1, apart["entropy"]) == 1  # not -0


def test_tiny_probabilities_keep_their_digits() -> None:
    """Subnormal and extreme ratios, where x / y would overflow or lose bits."""
    q = [1e-310, 5e-324, 1.0]
    got = compare([1, 10**18, 10**18], q)
    expected = naive.compare_counts([1, 10**18, 10**18], q, 0.0, 0.0)
    np.testing.assert_allclose(list(got.values()), expected, rtol=1e-12)


def test_an_empty_series_is_nan_and_its_neighbours_are_not() -> None:
    live = np.array([[1, 2, 0, 0], [0, 0, 3, 1]])
    out = np.zeros((2, 2, N_DIVERGENCES))
    compare_counts(live, np.full(4, 0.5), np.array([0, 2, 4]), 0.5, 0.0, out)
    np.testing.assert_array_equal(np.isnan(out).all(axis=2), [[False, True], [True, False]])
    np.testing.assert_array_equal(np.isnan(out).any(axis=2), [[False, True], [True, False]])


@pytest.mark.parametrize("name", ["live", "reference_probabilities", "offsets", "out"])
def test_another_type_or_shape_is_refused(name: str) -> None:
    arguments = {
        "live": np.ones((1, 4), dtype=np.int64),
        "reference_probabilities": np.full(4, 0.25),
        "offsets": np.array([0, 4]),
        "out": np.empty((1, 1, N_DIVERGENCES)),
    }
    arguments[name] = arguments[name].astype(np.float32)
    with pytest.raises(ValueError, match=f"{name}: expected contiguous .*, got float32"):
        compare_counts(**arguments, pseudocount=0.5, epsilon=0.0)


def test_vectors_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="expected two vectors of the same length, got shapes"):
        compare_probabilities([1.0], [0.5, 0.5])


@pytest.mark.parametrize("wrong", [-0.1, math.nan])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="expected probabilities, at least 0, got"):
        compare_probabilities([wrong, 1.0], [0.5, 0.5])
