"""Identities to 1e-12, against scipy and the definitions."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr

from kldrift.drift.judging.explanation import _shares, contributions, explain, segment_mix, segment_within
from kldrift.errors import KldriftError
from tests.web.certificates import Pair

#: The sums are of at most some dozen terms of size 1; identities hold to so much of the divergence, or absolutely.
TIGHT = {"rel": 1e-12, "abs": 1e-12}

KINDS = ["numeric", "categorical"]


def histograms(n_cells, largest=10**6):
    return st.lists(st.integers(0, largest), min_size=n_cells, max_size=n_cells).map(
        lambda counts: np.array(counts, dtype=np.int64)
    )


def smoothed(counts):
    return (counts + 0.5) / (counts.sum() + 0.5 * counts.size)


def kl(p, q):
    return float(rel_entr(p, q).sum())


pairs = st.integers(5, 40).flatmap(lambda n: st.tuples(histograms(n), histograms(n))).filter(lambda pair: pair[0].any())


# --- contributions ---------------------------------------------------------------------------------


@given(pair=pairs)
def test_contributions_are_not_negative_and_sum_to_the_divergence(pair: Pair) -> None:
    p, q = pair[0] / pair[0].sum(), smoothed(pair[1])
    cells = contributions(p, q)
    assert (cells >= 0).all()
    assert cells.sum() == pytest.approx(kl(p, q), **TIGHT)


@given(pair=pairs)
def test_contributions_are_scipys_terms_made_non_negative(pair: Pair) -> None:
    p, q = pair[0] / pair[0].sum(), smoothed(pair[1])
    np.testing.assert_allclose(contributions(p, q), rel_entr(p, q) - p + q, rtol=1e-12, atol=1e-12)


def test_the_worked_example_cell_by_cell() -> None:
    cells = contributions(np.array([0.4, 0.6]), np.array([0.5, 0.5]))
    np.testing.assert_allclose(cells, [0.4 * math.log(0.8) + 0.1, 0.6 * math.log(1.2) - 0.1], rtol=1e-13)
    assert cells.sum() == pytest.approx(0.0201355, abs=1e-7)


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    [
        ([0.5, 0.5], [0.5, 0.5], [0, 0]),
        ([1, 0], [1, 0], [0, 0]),
        ([0, 1], [0.25, 0.75], [0.25, math.log(4 / 3) - 0.25]),
        ([0.5, 0.5], [1, 0], [0.5 * math.log(0.5) + 0.5, math.inf]),
        ([0.5, 0.5], [1, 5e-324], [0.5 * math.log(0.5) + 0.5, 0.5 * math.log(0.5) + 0.5 * 744.4400719213812 - 0.5]),
    ],
)
def test_contributions_of_empty_cells(p: list[Any], q: list[Any], expected: list[Any]) -> None:
    np.testing.assert_allclose(contributions(np.array(p, float), np.array(q, float)), expected, rtol=1e-12)


# --- missing, invalid, new, shape ---------------------------------------------------------------------------


def chain(p, q):
    """The four parts by their definitions, one division after the other; all of q is above 0."""
    bins, flow, missing, invalid = slice(0, -4), slice(-4, -2), -2, -1
    parts = [kl([p[missing], 1 - p[missing]], [q[missing], 1 - q[missing]]), 0.0, 0.0, 0.0]
    p_present, q_present = np.delete(p, missing), np.delete(q, missing)
    if p_present.any():
        valid = [p_present[:-1].sum(), q_present[:-1].sum()]
        sums = [p_present.sum(), q_present.sum()]
        parts[1] = sums[0] * kl([p[invalid] / sums[0], valid[0] / sums[0]], [q[invalid] / sums[1], valid[1] / sums[1]])
        if valid[0] > 0:
            given_valid = [p_present[:-1] / valid[0], q_present[:-1] / valid[1]]
            (p_flow, p_bins), (q_flow, q_bins) = ((x[-2:], x[:-2].sum()) for x in given_valid)
            parts[2] = valid[0] * kl([*p_flow, p_bins], [*q_flow, q_bins])
            if p_bins > 0:
                parts[3] = p[bins].sum() * kl(p[bins] / p[bins].sum(), q[bins] / q[bins].sum())
    assert p[flow].size == 2
    return parts


@given(pair=pairs, kind=st.sampled_from(KINDS))
def test_missing_invalid_new_and_shape_make_up_the_divergence(pair: Pair, kind) -> None:
    counts, q = pair[0], smoothed(pair[1])
    found = explain(counts, q, kind)
    parts = [found.missing, found.invalid, found.new, found.shape]
    assert sum(parts) == pytest.approx(found.kl, **TIGHT)
    assert found.kl == pytest.approx(kl(counts / counts.sum(), q), **TIGHT)
    assert parts == pytest.approx(chain(counts / counts.sum(), q), **TIGHT)
    assert min(parts) >= 0


@given(pair=pairs, kind=st.sampled_from(KINDS))
def test_the_shares_add_up_to_the_whole(pair: Pair, kind) -> None:
    found = explain(pair[0], smoothed(pair[1]), kind)
    if found.kl > 0:
        assert found.shares.sum() == pytest.approx(1, **TIGHT)
        np.testing.assert_allclose(found.shares * found.kl, found.contributions, rtol=1e-12, atol=1e-300)
    else:
        assert not found.shares.any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("counts", "part"),
    [
        ([250, 250, 0, 0, 500, 0], "missing"),
        ([250, 250, 0, 0, 0, 500], "invalid"),
        ([250, 250, 500, 0, 0, 0], "new"),
        ([250, 250, 0, 500, 0, 0], "new"),
        ([899, 100, 0, 0, 1, 1], "shape"),
    ],
)
def test_a_change_shows_in_its_own_part(counts: list[int], part: str, kind: str) -> None:
    q = np.array([0.497, 0.497, 0.001, 0.001, 0.002, 0.002])
    found = explain(np.array(counts), q, kind)
    assert getattr(found, part) > 0.99 * found.kl > 0.2


def test_only_missing_values() -> None:
    q = np.array([0.4, 0.2, 0.1, 0.1, 0.1, 0.1])
    found = explain(np.array([0, 0, 0, 0, 7, 0]), q, "numeric")
    assert (found.missing, found.invalid, found.new, found.shape) == (pytest.approx(math.log(10)), 0, 0, 0)
    assert found.kl == pytest.approx(math.log(10))


def test_a_window_without_any_value_in_a_bin() -> None:
    found = explain(np.array([0, 0, 5, 5, 0, 0]), np.array([0.35, 0.15, 0.1, 0.1, 0.2, 0.1]), "categorical")
    assert found.missing == pytest.approx(math.log(1 / 0.8))
    assert found.invalid == pytest.approx(math.log(0.8 / 0.7))
    assert found.new == pytest.approx(kl([0.5, 0.5, 0], [1 / 7, 1 / 7, 5 / 7]))
    assert found.shape == 0


@pytest.mark.parametrize(
    ("counts", "q", "infinite"),
    [
        ([1, 1, 0, 0, 2, 0], [0.5, 0.5, 0, 0, 0, 0], "missing"),
        ([1, 1, 0, 0, 0, 2], [0.5, 0.5, 0, 0, 0, 0], "invalid"),
        ([1, 1, 0, 2, 0, 0], [0.5, 0.5, 0, 0, 0, 0], "new"),
        ([1, 1, 0, 0, 0, 0], [0.5, 0, 0, 0, 0.5, 0], "shape"),
        ([0, 0, 0, 2, 0, 0], [0, 0, 0, 0, 1, 0], "missing"),
        ([1, 0, 0, 0, 0, 0], [0, 0, 0.5, 0, 0.5, 0], "new"),
    ],
)
def test_an_impossible_value_is_infinite_where_it_is_and_finite_elsewhere(
    counts: list[int], q: list[Any], infinite: str
) -> None:
    found = explain(np.array(counts), np.array(q, float), "numeric")
    assert found.kl == math.inf
    parts = {name: getattr(found, name) for name in ("missing", "invalid", "new", "shape")}
    assert [name for name, value in parts.items() if math.isinf(value)] == [infinite]
    assert not any(math.isnan(value) for value in parts.values())
    cells = np.isinf(found.contributions)
    np.testing.assert_array_equal(found.shares, cells / cells.sum())


@pytest.mark.parametrize("q", [[0.2] * 5, [math.nan] * 5])
def test_an_empty_window_or_a_missing_reference_has_no_explanation(q) -> None:
    counts = np.zeros(5, dtype=np.int64) if q[0] == 0.2 else np.ones(5, dtype=np.int64)
    found = explain(counts, np.array(q), "categorical")
    assert all(math.isnan(value) for value in (found.kl, found.missing, found.invalid, found.new, found.shape))
    assert np.isnan(found.contributions).all()
    assert np.isnan(found.shares).all()


def test_a_feature_without_a_histogram_is_refused() -> None:
    with pytest.raises(KldriftError, match="expected a numeric or categorical feature, got a vector"):
        explain(np.array([1, 0]), np.array([0.5, 0.5]), "vector")
    with pytest.raises(KldriftError, match="of the same cells"):
        explain(np.array([1, 0, 0, 0]), np.array([0.5, 0.5]), "numeric")


# --- segments --------------------------------------------------------------------------------------

segmented = st.tuples(st.integers(1, 5), st.integers(2, 8)).flatmap(
    lambda size: st.tuples(histograms(size[0] * size[1], 1000), histograms(size[0] * size[1], 1000)).map(
        lambda pair: tuple(counts.reshape(size) for counts in pair)
    )
)


@given(pair=segmented.filter(lambda pair: pair[0].any()))
def test_mix_and_within_make_up_the_divergence_of_segment_and_value_together(pair: Pair) -> None:
    live, q = pair[0], smoothed(pair[1])
    n, w = live.sum(axis=1), q.sum(axis=1)
    with np.errstate(invalid="ignore"):
        each = rel_entr(live / n[:, np.newaxis], q / w[:, np.newaxis]).sum(axis=1)  # NaN without samples
    [mix] = segment_mix(n[np.newaxis], w)
    [[within]] = segment_within(each[np.newaxis, :, np.newaxis], n[np.newaxis, :, np.newaxis])
    assert mix + within == pytest.approx(kl((live / live.sum()).ravel(), q.ravel()), **TIGHT)


def test_windows_and_features_do_not_mix() -> None:
    rng = np.random.default_rng(4)
    samples = rng.integers(0, 5, size=(3, 4, 6))
    divergences = rng.random(samples.shape)
    within = segment_within(divergences, samples)
    for w in range(3):
        for f in range(6):
            n = samples[w, :, f]
            assert within[w, f] == pytest.approx(sum(n * divergences[w, :, f]) / n.sum(), rel=1e-14)
    rows = rng.integers(1, 50, size=(3, 4))
    q = np.array([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(segment_mix(rows, q), [kl(row / row.sum(), q) for row in rows], rtol=1e-13)


def test_a_segment_without_samples_contributes_nothing_whatever_its_divergence() -> None:
    samples = np.array([[[10], [0], [0]]])
    for nothing in (math.nan, math.inf):
        assert segment_within(np.array([[[0.25], [nothing], [nothing]]]), samples) == 0.25


def test_empty_windows_and_new_segments() -> None:
    assert np.isnan(segment_mix(np.zeros((1, 2), dtype=np.int64), np.array([0.5, 0.5]))).all()
    assert np.isnan(segment_within(np.full((1, 2, 3), np.nan), np.zeros((1, 2, 3), dtype=np.int64))).all()
    np.testing.assert_array_equal(segment_mix(np.array([[1, 1], [2, 0]]), np.array([1.0, 0.0])), [math.inf, 0])


def test_windows_of_a_single_row_have_a_mix_and_a_divergence_within() -> None:
    rows, q = np.array([[1, 0], [0, 0], [1, 3]]), np.array([0.25, 0.75])
    np.testing.assert_allclose(segment_mix(rows, q), [math.log(4), np.nan, 0.0], atol=1e-12)
    kls = np.array([[[0.5], [7.0]], [[1.0], [1.0]], [[0.25], [0.5]]])
    samples = rows[:, :, np.newaxis]
    np.testing.assert_allclose(segment_within(kls, samples), [[0.5], [np.nan], [0.4375]], rtol=1e-12)


@pytest.mark.parametrize(
    ("cells", "shares"),
    [
        ([0.1, 0.3], [0.25, 0.75]),
        ([0.0, 0.0], [0.0, 0.0]),
        ([np.inf, 0.5, np.inf], [0.5, 0.0, 0.5]),
    ],
)
def test_shares_of_a_divergence_sum_to_one_unless_there_is_none(cells: list[float], shares: list[float]) -> None:
    np.testing.assert_allclose(_shares(np.array(cells)), shares, rtol=1e-12)
