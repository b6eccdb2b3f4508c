import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kldrift.drift.binning import (
    MAX_DISCRETE_VALUES,
    MIN_LEVELS,
    QUANTILES,
    numeric_cells,
    numeric_edges,
    quantile_edges,
    too_coarse,
)
from kldrift.errors import ReferenceProblem
from kldrift.records.specs import Bins

finite = st.floats(-1e300, 1e300)


def test_quantile_bins_are_the_deciles_with_finer_tails_and_open_ends() -> None:
    values = np.random.default_rng(1).normal(size=100_000)
    edges = numeric_edges(Bins(), values)
    assert edges.size == 17
    assert edges[0] == -np.inf
    assert edges[-1] == np.inf
    np.testing.assert_allclose(edges[1:-1], np.quantile(values, QUANTILES), atol=0.02)


def test_a_tail_quantile_with_fewer_than_ten_values_outside_is_dropped() -> None:
    edges = numeric_edges(Bins(), np.arange(900.0))
    masses = np.histogram(np.arange(900.0), edges)[0]
    assert edges.size < 17
    assert masses.min() >= 10
    assert 9.0 not in edges  # the .01 quantile leaves nine below


@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_few_values_still_make_bins(n: int) -> None:
    edges = numeric_edges(Bins(), np.arange(float(n)))
    assert np.all(np.diff(edges) > 0)
    assert edges.size >= 3


def test_a_constant_feature_keeps_its_point_mass_in_a_bin_of_its_own() -> None:
    edges = numeric_edges(Bins(), np.full(5000, 3.5))
    assert edges.tolist() == [-np.inf, 3.5, np.nextafter(3.5, np.inf), np.inf]
    assert numeric_cells(edges)[1] == "= 3.5"


def test_a_tied_value_keeps_its_point_mass_among_others() -> None:
    values = np.concatenate([np.zeros(6000), np.random.default_rng(2).exponential(size=4000)])
    edges = numeric_edges(Bins(), values)
    place = edges.tolist().index(0.0)
    assert edges[place + 1] == np.nextafter(0.0, 1.0)
    assert np.histogram(values, edges)[0][place] == 6000


@given(arrays(np.float64, st.integers(1, 300), elements=st.sampled_from([-1e308, -1.0, -0.0, 0.0, 5e-324, 1.0, 7.0])))
def test_any_reference_gives_strictly_increasing_edges_that_hold_every_value(values: np.ndarray) -> None:
    for method in ("quantile", "uniform", "discrete"):
        edges = numeric_edges(Bins(method), values)
        assert np.all(np.diff(edges) > 0)
        assert np.histogram(values, edges)[0].sum() == values.size


@given(st.lists(finite, min_size=1, max_size=200))
def test_quantile_edges_do_not_depend_on_the_order_of_the_values(values: list[float]) -> None:
    forward = numeric_edges(Bins(), np.array(values))
    backward = numeric_edges(Bins(), np.array(values[::-1]))
    assert forward.tolist() == backward.tolist()


def test_a_declared_range_closes_the_quantile_bins() -> None:
    edges = numeric_edges(Bins(value_range=(0.0, 1.0)), np.random.default_rng(3).random(10_000))
    assert (edges[0], edges[-1]) == (0.0, 1.0)


def test_uniform_and_logarithmic_bins() -> None:
    np.testing.assert_allclose(numeric_edges(Bins("uniform", 4, (0, 100)), np.empty(0)), [0, 25, 50, 75, 100])
    np.testing.assert_allclose(numeric_edges(Bins("logarithmic", 3, (1, 1000)), np.empty(0)), [1, 10, 100, 1000])
    np.testing.assert_allclose(numeric_edges(Bins("uniform", 2), np.array([1.0, 5.0, np.inf])), [1, 3, 5])


def test_discrete_integers_have_half_integer_edges_and_gap_bins() -> None:
    assert numeric_edges(Bins("discrete"), np.array([1.0, 2, 2, 5])).tolist() == [0.5, 1.5, 2.5, 4.5, 5.5]


@pytest.mark.parametrize(
    ("bins", "values", "words"),
    [
        (Bins(), [np.inf, -np.inf], "expected at least one finite value"),
        (Bins("logarithmic"), [0.0, 1.0], "expected values above 0 for logarithmic bins, got a smallest value of 0"),
        (Bins("discrete"), np.arange(2000.0), "expected at most 1024 distinct values for discrete bins, got 2000"),
        (Bins(value_range=(5, 6)), [1.0, 2.0], r"expected reference values within the range \[5, 6\], got none"),
    ],
)
def test_a_reference_that_does_not_suit_its_bins_is_refused(bins: Bins, values: list[float], words: str) -> None:
    with pytest.raises(ReferenceProblem, match=words):
        numeric_edges(bins, np.array(values))


def plain_quantile_edges(
    values: list[float], probabilities: tuple[float, ...], value_range: tuple[float, float] | None
) -> list[float]:
    """What `quantile_edges` says it does, one value at a time."""
    low, high = value_range or (-np.inf, np.inf)
    ordered = sorted(value for value in values if low <= value <= high)
    n = len(ordered)
    quantiles = [ordered[int(p * n)] for p in probabilities]
    tied = {value for value in quantiles if quantiles.count(value) > 1 or len(set(ordered)) == 1}
    after = {float(np.nextafter(value, np.inf)) for value in tied}
    inner = []
    for edge in sorted({*quantiles, *after}):
        below = sum(value < edge for value in ordered)
        if (edge in tied or edge in after or (below >= 10 and n - below >= 10)) and low < edge < high:
            inner.append(edge)
    if not inner and value_range is None:
        inner = [ordered[n // 2]]
    return [low, *inner, high]


@given(
    st.lists(st.integers(0, 12).map(float), min_size=1, max_size=90),
    st.sampled_from([QUANTILES, (0.5,), (0.3, 0.6), (0.1, 0.5, 0.998)]),
    st.sampled_from([None, (0.0, 12.0), (0.0, 5.0), (3.0, 12.5)]),
)
def test_quantile_edges_are_where_the_naive_specification_has_them(
    values: list[float], probabilities: tuple[float, ...], value_range: tuple[float, float] | None
) -> None:
    if value_range is not None and not any(value_range[0] <= value <= value_range[1] for value in values):
        return
    found = quantile_edges(np.array(values), probabilities, value_range)
    assert found.tolist() == plain_quantile_edges(values, probabilities, value_range)


@pytest.mark.parametrize(
    ("values", "probabilities", "value_range"),
    [
        ([3.5] * 30, (0.5,), None),
        ([3.0] * 15 + [4.0] * 15, (0.5,), None),
        ([1.0, 2.0, 3.0], (0.5,), None),
        ([float(i) for i in range(19)], QUANTILES, None),
        ([0.0] * 20 + [float(i % 10 + 1) for i in range(100)], QUANTILES, (0.0, 10.0)),
        ([10.0] * 20 + [float(i % 10) for i in range(100)], QUANTILES, (0.0, 10.0)),
        ([float(i) for i in range(5)], QUANTILES, (0.0, 10.0)),
        ([0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0] * 3, (0.01, 0.05, 0.5), None),
        ([float(i) for i in range(40)] + [50.0] * 30, (0.25, 0.7, 0.8), None),
    ],
)
def test_quantile_edges_of_few_and_tied_values(
    values: list[float], probabilities: tuple[float, ...], value_range: tuple[float, float] | None
) -> None:
    found = quantile_edges(np.array(values), probabilities, value_range)
    assert found.tolist() == plain_quantile_edges(values, probabilities, value_range)


def test_logarithmic_bins_may_begin_anywhere_above_0_and_twenty_bins_are_usual() -> None:
    edges = numeric_edges(Bins("logarithmic"), np.array([1e-6, 1.0]))
    assert edges.size == 21
    assert (edges[0], edges[-1]) == (1e-6, 1.0)
    assert numeric_edges(Bins("uniform"), np.array([0.0, 1.0])).size == 21


def test_up_to_1024_values_have_a_bin_each() -> None:
    edges = numeric_edges(Bins("discrete"), np.arange(float(MAX_DISCRETE_VALUES)))
    assert edges.tolist() == (np.arange(MAX_DISCRETE_VALUES + 1) - 0.5).tolist()
    with pytest.raises(ReferenceProblem, match="got 1025"):
        numeric_edges(Bins("discrete"), np.arange(MAX_DISCRETE_VALUES + 1.0))


@pytest.mark.parametrize("sign", [1, -1])
def test_integers_have_bins_around_them_as_far_as_halves_go(sign: int) -> None:
    largest = sign * (2.0**51 - 1)
    assert numeric_edges(Bins("discrete"), np.array([largest])).tolist() == [largest - 0.5, largest + 0.5]
    beyond = sign * 2.0**51
    assert numeric_edges(Bins("discrete"), np.array([beyond])).tolist() == [beyond, np.nextafter(beyond, np.inf)]


LIMIT = 2.0**53  # from here on, floats are 2 apart


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (LIMIT - 10, LIMIT - 1, None),
        (LIMIT - 10, LIMIT, "fall on 6 values"),
        (-LIMIT, -LIMIT, "one in 2: all of them, from -9007199254740992 to -9007199254740992, fall on one value;"),
        (LIMIT, LIMIT + 2, "fall on 2 values;"),
        (LIMIT, LIMIT + 2 * (MIN_LEVELS - 2), f"fall on {MIN_LEVELS - 1} values;"),
        (LIMIT, LIMIT + 2 * (MIN_LEVELS - 1), None),
        (LIMIT, np.inf, None),
        (0.0, 1.0, None),
    ],
)
def test_values_that_float64_cannot_tell_apart_are_told(low: float, high: float, words: str | None) -> None:
    found = too_coarse(low, high)
    assert (found is None) if words is None else (found is not None and words in found)
