import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kldrift.drift.binning import QUANTILES, numeric_cells, numeric_edges
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
