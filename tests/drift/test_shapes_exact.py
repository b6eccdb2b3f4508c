"""Kinds and states where one case ends and another begins."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from kldrift.drift.judging.states import STATES, State, feature_states, readiness, series_state, severity
from kldrift.drift.kinds.categorical import Categorical
from kldrift.drift.kinds.gaussian_bounds import bound_gaussian
from kldrift.drift.kinds.numeric import Numeric
from kldrift.drift.kinds.posterior import Posterior, bound_mean, posterior_kl
from kldrift.drift.kinds.vector import Vector, presence
from kldrift.drift.normal_kl import cholesky, gaussian_kl, require_variances
from kldrift.drift.smoothing import smooth_probabilities
from kldrift.errors import ReferenceProblem
from kldrift.kernels.moments import Moments, add_moments, zero_moments
from kldrift.records.samples import CategoricalColumn, Vocabulary
from kldrift.records.specs import FeatureSpec, Smoothing
from kldrift.records.types import Covariance
from tests.export.snapshots import feature, monitor

INF = float("inf")

# --- numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edges", [[0.0], [], [1.0, 1.0], [2.0, 1.0]])
def test_edges_that_do_not_increase_are_refused(edges: list[float]) -> None:
    with pytest.raises(ValueError, match="x: expected strictly increasing edges"):
        Numeric.from_json("x", {"edges": edges})


def test_numbers_are_written_and_read_back() -> None:
    for edges, value_range in (([0.5, 1.5], (0.5, 0.5)), ([-INF, 0.0, INF], (-3.0, 4.0)), ([-INF, 0.5, 2.0], None)):
        made = Numeric(np.array(edges), value_range)
        again = Numeric.from_json("x", made.to_json())
        assert again.edges.tolist() == edges
        assert again.value_range == value_range
    assert Numeric(np.array([-INF, INF])).to_json() == {"edges": ["-Inf", "+Inf"]}
    with pytest.raises(ValueError, match=r"expected a range \[low, high\]"):
        Numeric.from_json("x", {"edges": [0.0, 1.0], "range": [1.0, 0.5]})


@pytest.mark.parametrize("edges", [[-INF, 0.0, 1.0], [0.0, 1.0, INF], [-INF, 0.0, 1.0, INF]])
def test_without_a_range_open_ends_are_a_limit(edges: list[float]) -> None:
    (limit,) = Numeric(np.array(edges)).limits
    assert "only infinite values count as out of range" in limit
    assert Numeric(np.array(edges), (-1.0, 1.0)).limits == ()
    assert Numeric(np.array([0.0, 1.0])).limits == ()
    assert Numeric(np.array(edges)).beyond == ()


def test_cells_in_the_order_of_their_values_begin_with_underflow() -> None:
    assert Numeric(np.array([0.0, 1.0, 2.0])).cell_order.tolist() == [2, 0, 1, 3, 4, 5]


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ([0, 0, 5, 5, 3, 0], "no value of the reference lies within the bins"),
        ([0, 5, 0, 0, 0, 0], "all of it lies in '[1, 2)'"),
        ([1, 5, 0, 0, 0, 0], None),
        ([0, 5, 0, 0, 3, 0], None),
    ],
)
def test_what_a_reference_of_numbers_lacks(held: list[int], words: str | None) -> None:
    found = Numeric(np.array([0.0, 1.0, 2.0])).problem(np.array(held))
    assert (found is None) if words is None else (found is not None and words in found)


# --- categories -----------------------------------------------------------------------------------------


def test_ten_of_a_category_have_a_cell() -> None:
    codes = np.repeat([0, 1, 2, 3], [10, 9, 12, 0]).astype(np.int32)
    made = Categorical.from_column(FeatureSpec("c", "categorical"), CategoricalColumn(("a", "b", "c", "d"), codes))
    assert made.categories == ("c", "a")
    assert made.folded == ("b",)
    assert Categorical(("a",)).problem(np.array([5, 0, 0, 0, 0])) is not None
    assert Categorical(("a",)).problem(np.array([5, 1, 0, 0, 0])) is None


def test_codes_of_a_vocabulary_lead_to_the_cells_of_their_texts() -> None:
    made = Categorical(("a", "b"), ("rare",))
    vocabulary = Vocabulary(6)
    for text in ("new", "rare", "b", "a"):
        vocabulary.code(text)
    lookup = made.bins(vocabulary).lookup.tolist()
    assert lookup == [3, 2, 1, 0, 3, 3, 3, 4]  # unseen also where no text is yet, or beyond the limit; then missing
    assert Categorical(("a", "b"), ("rare",), open_ended=True).bins(vocabulary).lookup.tolist() == [
        *[2, 2, 1, 0, 2, 2, 2],
        4,
    ]


# --- posteriors ---------------------------------------------------------------------------------------


def test_a_posterior_comes_with_twice_as_many_numbers_as_dimensions() -> None:
    assert Posterior(3).schema("z").dimensions == 6
    for shape in ((4,), (4, 0), (4, 3), (2, 2, 2)):
        with pytest.raises(ValueError, match=r"expected \(n_rows, 2 d\)"):
            posterior_kl(np.zeros(shape))


def test_the_kl_of_dimensions_is_there_with_the_first_sample() -> None:
    live = Moments(np.array([0, 1, 2]), np.array([[1.0, 2.0, 3.0]] * 3), np.zeros((3, 3)))
    np.testing.assert_array_equal(Posterior(2).dimension_kl(live), [[np.nan, np.nan], [1.0, 2.0], [1.0, 2.0]])


def test_the_bounds_of_a_mean_by_hand() -> None:
    n, mean, second = (
        np.array([0, 1, 2, 50]),
        np.array([[0.5], [0.5], [0.5], [0.5]]),
        np.array([[0.0], [0.0], [0.08], [4.0]]),
    )
    found = bound_mean(n, mean, second, 2.0, np.array([0.3, 0.5]))
    nan = np.nan
    error = [nan, nan, math.sqrt(0.08 / 1 / 2), math.sqrt(4 / 49 / 50)]
    np.testing.assert_allclose(found["kl"], [nan, nan, 0.5, 0.5])
    np.testing.assert_allclose(found["lower"], np.maximum(0, 0.5 - 2 * np.array(error)), rtol=1e-12)
    np.testing.assert_allclose(found["upper"], 0.5 + 2 * np.array(error), rtol=1e-12)
    np.testing.assert_allclose(found["n_bins"], [nan, nan, 2, 2])
    np.testing.assert_allclose(found["dispersion"], [nan, nan, 1, 1])
    np.testing.assert_allclose(found["effective_samples"], [nan, nan, 2, 50])
    np.testing.assert_allclose(found["noise_floor"], [nan, nan, 0, 0])
    np.testing.assert_allclose(found["log10_p_warning"][2:], np.log10(norm.sf(0.2 / np.array(error[2:]))), rtol=1e-9)
    np.testing.assert_allclose(found["log10_p_critical"][2:], math.log10(0.5), rtol=1e-9)


# --- normal distributions -----------------------------------------------------------------------------


def test_a_matrix_is_singular_where_a_dimension_leaves_too_little_of_its_own_variance() -> None:
    for scale in (1e-6, 1.0, 1e6):  # whatever unit it is in
        for rest, fine in ((1e-11, True), (1e-16, False)):
            covariance = scale * np.array([[1.0, 1.0], [1.0, 1.0 + rest]])
            assert np.isfinite(cholesky(covariance)).all() == fine, (scale, rest)


def test_a_live_distribution_that_is_not_finite_has_no_kl() -> None:
    identity, zero = np.eye(2), np.zeros(2)
    assert gaussian_kl(zero, np.ones((2, 2)), zero, identity) == INF  # singular
    for mean, covariance in ((zero, np.full((2, 2), np.nan)), (np.array([np.nan, 0.0]), identity)):
        assert np.isnan(gaussian_kl(mean, covariance, zero, identity))


def test_the_dimension_of_an_unusable_variance_is_named() -> None:
    for variances, dimension in (([1.0, 0.0, 1.0], 1), ([[1.0, 1.0], [1.0, INF]], 1), ([np.nan], 0)):
        with pytest.raises(ReferenceProblem, match=rf"dimension {dimension} \(counted from 0\)"):
            require_variances(np.array(variances))


@pytest.mark.parametrize(
    ("smoothing", "expected"),
    [
        (Smoothing("none", 0, 0), [0.25, 0.75]),
        (Smoothing("laplace", 1, 0), [26 / 102, 76 / 102]),
        (Smoothing("epsilon", 0, 1), [125 / 300, 175 / 300]),
        (Smoothing("epsilon", 0, 1e-3), [25.1 / 100.2, 75.1 / 100.2]),
    ],
)
def test_known_probabilities_are_smoothed_as_those_of_a_sample(smoothing: Smoothing, expected: list[float]) -> None:
    found = smooth_probabilities(np.array([0.25, 0.75]), smoothing, 100.0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


# --- states -------------------------------------------------------------------------------------------


def test_a_lower_bound_is_above_a_tolerance_and_not_on_it() -> None:
    assert [severity(lower, 0.1, 0.2) for lower in (0.1, 0.11, 0.2, 0.21, np.nan)] == [
        *[None, "warning", "warning", "critical"],
        None,
    ]
    assert readiness(0, ready=False, absent=False) == "empty"
    assert readiness(1, ready=False, absent=False) == "undecided"
    assert readiness(1, ready=True, absent=False) == "ready"
    assert readiness(0, ready=False, absent=True) == "absent"
    assert len(STATES) == 6


@pytest.mark.parametrize(
    ("lower", "detected", "state"),
    [
        (0.5, (1, 1), "critical"),
        (0.5, (1, 0), "warning"),
        (0.5, (0, 0), "quiet"),
        (0.05, (1, 1), "warning"),
        (0.05, (0, 1), "quiet"),
        (0.005, (1, 1), "quiet"),
        (0.005, (1, 0), "quiet"),
    ],
)
def test_a_window_says_what_its_bound_and_the_verdict_say(
    lower: float, detected: tuple[int, int], state: State
) -> None:
    made = monitor(
        features=[feature("x")],
        windows=("1h",),
        lower=np.array([[lower]]),
        ready=np.array([[True]]),
        detected=np.array([detected], dtype=float),
    )
    assert series_state(made, 0, 0) == state


@pytest.mark.parametrize(
    ("samples", "ready", "absent", "detected", "state"),
    [
        ([0, 0], [False, False], [False, False], (np.nan, np.nan), "empty"),
        ([0, 1], [False, False], [False, False], (np.nan, np.nan), "undecided"),
        ([0, 9], [False, True], [False, False], (0, 0), "quiet"),
        ([5, 9], [True, True], [False, False], (1, 0), "warning"),
        ([5, 9], [True, True], [True, False], (1, 0), "absent"),
        ([5, 9], [True, True], [True, False], (1, 1), "critical"),
    ],
)
def test_a_feature_says_the_worst_of_its_windows(
    samples: list[int], ready: list[bool], absent: list[bool], detected: tuple[float, float], state: State
) -> None:
    made = monitor(
        features=[feature("x")],
        samples=np.array([samples]).T,
        ready=np.array([ready]).T,
        absent=np.array([absent]).T,
        detected=np.array([detected]),
    )
    assert feature_states(made) == [state]


# --- vectors ------------------------------------------------------------------------------------------


def learned(covariance: Covariance, constant: bool) -> Vector:
    spec = FeatureSpec("v", "vector", dimensions=3, covariance=covariance)
    values = np.random.default_rng(1).normal(size=(900, 3))
    if constant:
        values[:, 1] = 4.0
    shape, flaw = Vector.with_cells(spec, ()).fitted(values)
    assert flaw is None
    return shape


@pytest.mark.parametrize(("covariance", "degrees"), [("diagonal", 6), ("full", 9)])
def test_a_vector_needs_ten_samples_for_each_degree_of_freedom_and_one(covariance: Covariance, degrees: int) -> None:
    assert learned(covariance, constant=False).samples_needed == 10 * (degrees + 1)
    assert learned(covariance, constant=True).samples_needed == 10 * ({6: 4, 9: 5}[degrees] + 1)
    json = learned(covariance, constant=False).to_json()
    assert (json["dimensions"], json["other_is_open"]) == (3, False)


def test_a_vector_is_present_or_missing_by_its_first_number() -> None:
    rows = np.array([[1.0, 2.0], [np.nan, np.nan], [3.0, np.inf]])
    lookup = learned("diagonal", constant=False).bins().lookup
    assert lookup[presence(rows)].tolist() == [0, 3, 0]  # present, other, unseen, missing, invalid


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
@pytest.mark.parametrize("moved", ["the others", "the constant", "both", "neither"])
def test_either_of_two_statements_has_half_of_the_error_probability(covariance: Covariance, moved: str) -> None:
    shape, thresholds = learned(covariance, constant=True), np.array([0.01, 0.1])
    assert shape.gaussian is not None
    assert shape.constants is not None
    values = np.random.default_rng(2).normal(size=(400, 3))
    values[:, 1] = 4.0
    if moved in ("the others", "both"):
        values[:, 0] += 1.0
    if moved in ("the constant", "both"):
        values[:120, 1] = 5.0
    live = zero_moments((1,), 3, covariance == "full")
    add_moments(np.ascontiguousarray(shape.rows(values)), None, *live)
    found = shape.bound(live, 3.0, thresholds)
    half = float(norm.isf(norm.sf(3.0) / 2))
    own = bound_gaussian(*shape.constants.varying_moments(live), shape.gaussian, half, thresholds)
    other = shape.constants.bound(live, shape.gaussian.rows, shape.gaussian.spread, half, thresholds)
    assert found["lower"][0] == max(own["lower"][0], other["lower"][0])
    assert found["kl"][0] == max(own["kl"][0], other["kl"][0])
    assert found["upper"][0] >= max(own["upper"][0], found["lower"][0])
    for name in ("log10_p_warning", "log10_p_critical"):
        expected = min(0.0, min(own[name][0], other[name][0]) + math.log10(2))
        assert found[name][0] == pytest.approx(expected, rel=1e-12)
    assert (found["lower"][0] > 0.1) == (moved != "neither")


def test_the_kl_of_a_constant_dimension_is_there_with_two_samples() -> None:
    shape = learned("diagonal", constant=True)
    for n in range(4):
        live = zero_moments((1,), 3, False)
        add_moments(np.ascontiguousarray(shape.rows(np.tile([0.5, 4.0, 0.2], (n, 1)))), None, *live)
        assert np.isnan(shape.dimension_kl(live)[0, 1]) == (n < 2)
