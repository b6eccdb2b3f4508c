"""Overdispersion of a reference's panes: the naive specification, independent and autocorrelated streams."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import chi2, norm, t

from kldrift.drift.kinds.categorical import Categorical
from kldrift.drift.kinds.numeric import Numeric
from kldrift.drift.references.measured import measure_reference
from kldrift.drift.references.overdispersion import UNMEASURED, Overdispersion, OverdispersionTable, measure_panes
from kldrift.drift.references.reference import FeatureReference
from kldrift.kernels.bounds import BOUNDS, bound_counts
from tests import naive_bounds

EDGES = norm.ppf(np.linspace(0, 1, 17)[1:-1])


def autocorrelated(correlation, n, rng):
    """An AR(1) stream, standard normal at each step."""
    start = rng.normal(size=1) * correlation
    noise = rng.normal(size=n) * math.sqrt(1 - correlation**2)
    return lfilter([1], [1, -correlation], noise, zi=start)[0]


def panes_of(values, n_panes, edges=EDGES):
    cells = np.searchsorted(edges, values)
    return np.stack([np.bincount(part, minlength=len(edges) + 1) for part in np.array_split(cells, n_panes)])


def independent(seed):
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(rng.integers(1, 8), 5.0))
    return rng.multinomial(rng.integers(1, 300), shares, size=rng.integers(16, 70))


@given(
    panes=st.integers(0, 2**32).map(independent)
    | st.integers(1, 6).flatmap(
        lambda width: st.lists(
            st.lists(st.integers(0, 30), min_size=width, max_size=width), min_size=0, max_size=70
        ).map(lambda rows: np.array(rows, dtype=np.int64).reshape(-1, width))
    ),
    ordered=st.booleans(),
)
@settings(deadline=None)
def test_the_naive_specification_agrees(panes, ordered) -> None:
    expected = naive_bounds.overdispersion(panes.tolist(), ordered)
    got = measure_panes(panes, ordered)
    assert got.measured == bool(expected)
    if expected:
        np.testing.assert_allclose(np.transpose([got.block_samples, got.phi, got.lambda_]), expected, rtol=1e-9)
    assert (got.phi >= 1).all()
    assert (got.lambda_ >= got.phi).all()
    assert got.phi_max == got.phi.max()


def test_blocks_of_64_panes_are_1_2_and_4_panes() -> None:
    rng = np.random.default_rng(0)
    got = measure_panes(rng.multinomial(100, [0.25] * 4, size=64), ordered=True)
    np.testing.assert_array_equal(got.block_samples, [100, 200, 400])
    assert len(measure_panes(rng.multinomial(100, [0.25] * 4, size=31), ordered=True).phi) == 1


def test_independent_samples_show_no_overdispersion() -> None:
    rng = np.random.default_rng(1)
    measured = [measure_panes(panes_of(rng.normal(size=10_000), 64), ordered=True) for _ in range(50)]
    phi = np.mean([one.phi for one in measured], axis=0)
    assert (phi < 1.06).all()
    assert max(one.phi_max for one in measured) < 1.4


@pytest.mark.parametrize(
    ("n_bins", "ordered", "at_least"), [(10, True, 0.95), (16, True, 0.9), (10, False, 0.9), (64, True, 0.85)]
)
def test_the_worst_cut_of_independent_samples_is_attributed_to_chance(n_bins, ordered, at_least) -> None:
    """Nearly always: the largest of many cuts passes now and then, and so much the more often as there are more."""
    rng = np.random.default_rng(6)
    measured = [measure_panes(rng.multinomial(156, [1 / n_bins] * n_bins, size=64), ordered) for _ in range(300)]
    by_chance = np.mean([one.lambda_ == one.phi for one in measured], axis=0)
    assert by_chance.shape == (3,)
    assert (by_chance > at_least).all()
    assert (by_chance < 1).all()


@pytest.mark.parametrize(("correlation", "at_least"), [(0.5, [0.95, 0.9, 0.7]), (0.9, [1, 1, 1]), (0.98, [1, 1, 1])])
def test_the_worst_cut_of_autocorrelated_samples_is_not(correlation: float, at_least: list[Any]) -> None:
    """The fewer the blocks the less there is to tell weak dependence from chance."""
    rng = np.random.default_rng(7)
    streams = [autocorrelated(correlation, 10_000, rng) for _ in range(100)]
    measured = [measure_panes(panes_of(stream, 64), ordered=True) for stream in streams]
    passed = np.mean([one.lambda_ > one.phi for one in measured], axis=0)
    assert (passed >= at_least).all()


@pytest.mark.parametrize("n_blocks", [16, 17, 31, 64, 100])
def test_a_spread_above_the_chi_squared_quantile_is_scaled_by_students_t(n_blocks) -> None:
    """Of two cells with one cut the spread is phi (K - 1) / K: it tells on which side of the threshold it lies."""
    rng = np.random.default_rng(8)
    threshold = chi2.isf(0.005, n_blocks - 1) / (n_blocks - 1)
    factor = t.isf(1.1e-5, n_blocks - 1) / norm.isf(1.1e-5)
    sides = set()
    for excess in np.linspace(0.6, 1.4, 60):
        half = rng.normal(500, math.sqrt(250 * threshold * excess), size=n_blocks).round().astype(np.int64)
        got = measure_panes(np.stack([half, 1000 - half], axis=1), ordered=True)
        share = half.sum() / (1000 * n_blocks)
        spread = np.mean((half - 1000 * share) ** 2 / (1000 * share * (1 - share)))
        passes = bool(spread > threshold)
        sides.add(passes)
        assert got.lambda_[0] == pytest.approx(got.phi[0] * (factor if passes else 1), rel=1e-9)
        assert got.phi[0] == pytest.approx(max(1, spread * n_blocks / (n_blocks - 1)), rel=1e-9)
    assert sides == {False, True}
    assert 1 < factor < 1.43


def test_autocorrelated_samples_show_much_overdispersion() -> None:
    """Without end AR(.9) makes cuts in the middle spread about (1 + .9)/(1 - .9) = 19 times as much, at most."""
    rng = np.random.default_rng(2)
    got = measure_panes(panes_of(autocorrelated(0.9, 64_000, rng), 64), ordered=True)
    assert 3 < got.phi[0] < 19
    assert 8 < got.lambda_[0] < 30
    assert got.lambda_[0] > 1.5 * got.phi[0]
    weak = measure_panes(panes_of(autocorrelated(0.5, 64_000, rng), 64), ordered=True)
    assert 1.1 < weak.phi[0] < got.phi[0] / 2


def test_a_category_that_comes_in_bursts_shows_without_an_order() -> None:
    """The middle one of many: no cut isolates it."""
    rng = np.random.default_rng(3)
    share = np.where(np.arange(64) % 8 < 4, 0.02, 0.18)
    others = np.full(8, 1 / 8)
    panes = np.stack(
        [rng.multinomial(500, np.concatenate([[0.45 - s / 2], [s], others * (0.55 - s / 2)])) for s in share]
    )
    ordered, unordered = (measure_panes(panes, ordered) for ordered in (True, False))
    assert unordered.lambda_[0] > 1.3 * ordered.lambda_[0]
    np.testing.assert_array_equal(unordered.phi, ordered.phi)


def test_a_stream_that_repeats_itself_exactly_shows_no_overdispersion() -> None:
    got = measure_panes(np.tile([10, 20, 30], (64, 1)), ordered=True)
    np.testing.assert_array_equal(got.phi, 1)
    np.testing.assert_array_equal(got.lambda_, 1)
    assert got.measured


@pytest.mark.parametrize(
    "panes",
    [
        np.full((15, 4), 100),
        np.full((0, 4), 100),
        np.tile([100, 0, 0], (64, 1)),  # a constant feature
        np.zeros((64, 3), dtype=np.int64),
        np.concatenate([np.full((15, 4), 100), np.zeros((49, 4), dtype=np.int64)]),
    ],
)
def test_too_little_data_counts_as_unmeasured(panes) -> None:
    got = measure_panes(panes, ordered=True)
    assert got == UNMEASURED
    assert not got.measured
    phi, lambda_ = got.at(np.array([0.0, 1e9]))
    np.testing.assert_array_equal([phi, lambda_], 1)


def test_a_window_takes_the_block_size_nearest_in_log() -> None:
    one = Overdispersion(np.array([100.0, 200.0, 400.0]), np.array([1.0, 2.0, 3.0]), np.array([2.0, 5.0, 9.0]))
    n = np.array([0, 1, 100, 141, 142, 200, 282, 283, 400, 10**9])
    phi, lambda_ = one.at(n)
    np.testing.assert_array_equal(phi, [1, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    np.testing.assert_array_equal(lambda_, [2, 2, 2, 2, 5, 5, 5, 9, 9, 9])
    np.testing.assert_array_equal(one.at(n.reshape(2, 5))[0], phi.reshape(2, 5))
    assert one.phi_max == 3


def test_a_table_looks_up_what_each_feature_would() -> None:
    rng = np.random.default_rng(4)
    sizes = [(100.0, 200.0, 400.0), (7.0,), (50.0, 90.0)]
    features = [Overdispersion(np.array(s), 1 + rng.random(len(s)), 2 + rng.random(len(s))) for s in sizes]
    features.append(UNMEASURED)
    table = OverdispersionTable(features)
    samples = rng.integers(0, 600, (40, 4))
    samples[0] = 100
    phi, ratio = table.at(samples)
    for i, feature in enumerate(features):
        expected_phi, expected_lambda = feature.at(samples[:, i])
        np.testing.assert_array_equal(phi[:, i], expected_phi)
        np.testing.assert_array_equal(ratio[:, i], expected_lambda / expected_phi)
    np.testing.assert_array_equal(table.phi_max, [feature.phi_max for feature in features])
    assert all(array.flags.c_contiguous for array in (phi, ratio))
    assert OverdispersionTable([]).at(np.zeros((2, 0), dtype=np.int64))[0].shape == (2, 0)


def test_a_reference_is_measured_in_the_order_of_its_values() -> None:
    """Underflow, kept behind the bins, lies below them: a stream that moves between the low half and the high."""
    low = np.arange(64) % 32 < 16
    cells = np.zeros((64, 3 + 4), dtype=np.int64)  # three bins, underflow, overflow, missing, invalid
    cells[:, 0] = cells[:, 3] = np.where(low, 40, 10)
    cells[:, 1] = cells[:, 2] = np.where(low, 10, 40)
    reference = FeatureReference("x", Numeric(np.array([0.0, 1.0, 2.0, 3.0])), cells)
    in_order = cells[:, [3, 0, 1, 2, 4, 5, 6]]
    expected = measure_panes(in_order, ordered=True)
    np.testing.assert_array_equal(measure_reference(reference).lambda_, expected.lambda_)
    assert expected.lambda_[0] > measure_panes(cells, ordered=True).lambda_[0]
    categorical = FeatureReference("x", Categorical(("a", "b", "c")), cells)
    np.testing.assert_array_equal(measure_reference(categorical).lambda_, measure_panes(cells, ordered=False).lambda_)


def test_a_reference_known_exactly_or_given_as_totals_is_not_measured() -> None:
    shape = Numeric(np.array([0.0, 1.0]))
    known = FeatureReference("x", shape, panes=None, probabilities=np.array([1.0, 0, 0, 0, 0]))
    totals = FeatureReference("x", shape, panes=np.array([[5, 0, 0, 5, 0]]))
    assert not measure_reference(known).measured
    assert not measure_reference(totals).measured


def test_measured_overdispersion_keeps_autocorrelated_windows_quiet() -> None:
    rng = np.random.default_rng(5)
    n_windows, n = 400, 1000
    reference = panes_of(autocorrelated(0.9, 10_000, rng), 64)
    live = panes_of(autocorrelated(0.9, n * n_windows, rng), n_windows)
    y = reference.sum(axis=0)
    q = (y + 0.5) / (y.sum() + y.size / 2)

    def alarms(measured):
        table = OverdispersionTable([measured])
        phi, ratio = table.at(live.sum(axis=1, keepdims=True))
        out = np.zeros((n_windows, 1, len(BOUNDS)))
        offsets, rows = np.array([0, y.size]), np.array([float(y.sum())])
        always, thresholds = np.ones(y.size, dtype=np.bool_), np.array([[0.005, 0.1]])
        bound_counts(live, q, always, offsets, rows, phi, table.phi_max, ratio, 3.72, thresholds, out)
        return int((out[:, 0, BOUNDS.index("lower")] > 0.005).sum())

    assert alarms(UNMEASURED) > 40
    shape = Numeric(np.arange(y.size + 1, dtype=np.float64))
    assert alarms(measure_reference(FeatureReference("x", shape, panes=pad(reference)))) == 0


def pad(panes):
    """Room for underflow, overflow, missing and invalid."""
    return np.pad(panes, ((0, 0), (0, 4)))


def bursts(n_panes: int = 64) -> np.ndarray:
    """One category of ten comes in bursts, in the middle of the others; then underflow, overflow, missing, invalid."""
    rng = np.random.default_rng(3)
    share = np.where(np.arange(n_panes) % 8 < 4, 0.02, 0.18)
    others = np.full(8, 1 / 8)
    return pad(
        np.stack([rng.multinomial(500, np.concatenate([[0.45 - s / 2], [s], others * (0.55 - s / 2)])) for s in share])
    )


def test_only_the_cells_of_numbers_are_in_an_order() -> None:
    panes = bursts()
    number = FeatureReference("x", Numeric(np.arange(11.0)), panes)
    category = FeatureReference("x", Categorical(tuple("abcdefghijk")), panes)
    ordered, unordered = measure_panes(panes, ordered=True).lambda_, measure_panes(panes, ordered=False).lambda_
    assert unordered[0] > 1.3 * ordered[0]
    np.testing.assert_array_equal(measure_reference(number).lambda_, ordered)
    np.testing.assert_array_equal(measure_reference(category).lambda_, unordered)


def test_the_spread_of_a_single_category_is_that_of_its_count() -> None:
    panes = bursts()[:, :10].astype(np.float64)
    n, share = panes.sum(axis=1), panes.sum(axis=0) / panes.sum()
    spread = max(np.mean((panes[:, i] - n * share[i]) ** 2 / (n * share[i] * (1 - share[i]))) for i in range(10))
    factor = t.isf(1.1e-5, 63) / norm.isf(1.1e-5)
    assert measure_panes(bursts(), ordered=False).lambda_[0] == pytest.approx(spread * factor, rel=1e-9)


def test_blocks_without_samples_are_left_out_and_those_with_one_are_not() -> None:
    panes = bursts()
    panes[::7] = 0
    panes[1::7] = 0
    panes[1::7, 2] = 1
    kept = panes[panes.sum(axis=1) > 0]
    got, expected = (measure_panes(each, ordered=True) for each in (panes, kept))
    assert len(kept) < len(panes)
    assert (got.block_samples[0], got.phi[0]) == (expected.block_samples[0], expected.phi[0])
    assert got.lambda_[0] == expected.lambda_[0]


def test_in_the_middle_between_two_sizes_the_larger_counts() -> None:
    one = Overdispersion(np.array([100.0, 400.0]), np.array([1.0, 2.0]), np.array([3.0, 5.0]))
    table = OverdispersionTable([one])
    assert [table.at(np.array([[n]]))[0].item() for n in (199, 200)] == [1, 2]
    assert [one.at(np.array([float(n)]))[0].item() for n in (199, 200)] == [1, 2]
