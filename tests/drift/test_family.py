import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kldrift.drift.binning import QUANTILES
from kldrift.drift.judging.divergences import divergences
from kldrift.drift.references.data import build_references, count_panes
from kldrift.drift.references.family import family_reference
from kldrift.drift.references.file import dump_references
from kldrift.drift.references.measured import measure_reference
from kldrift.drift.references.overdispersion import UNMEASURED
from kldrift.drift.references.reference import FeatureReference
from kldrift.errors import ReferenceProblem
from kldrift.records.samples import CategoricalColumn
from kldrift.records.specs import Bins, FeatureSpec, ReferenceFamily, Smoothing
from kldrift.records.types import Family, FloatArray

QUANTILE_BINS = Bins()
NO_SMOOTHING = Smoothing("none", 0, 0)

#: family -> parameters of a plain member, and the same from scipy.stats
MEMBERS: dict[Family, tuple[dict[str, float], Any]] = {
    "normal": ({"mean": 3, "std": 2}, stats.norm(3, 2)),
    "lognormal": ({"mean": 1, "sigma": 0.5}, stats.lognorm(0.5, scale=np.e)),
    "exponential": ({"scale": 4}, stats.expon(scale=4)),
    "gamma": ({"shape": 2.5, "scale": 3}, stats.gamma(2.5, scale=3)),
    "beta": ({"a": 2, "b": 5}, stats.beta(2, 5)),
    "uniform": ({"low": -1, "high": 3}, stats.uniform(-1, 4)),
    "poisson": ({"rate": 4.5}, stats.poisson(4.5)),
    "bernoulli": ({"p": 0.3}, stats.bernoulli(0.3)),
}
every_family = pytest.mark.parametrize("family", MEMBERS)


def known(family: Family, bins: Bins = QUANTILE_BINS, kind: Any = "numeric", **parameters: float) -> FeatureReference:
    given = ReferenceFamily(family, tuple(parameters.items()))
    return family_reference(FeatureSpec("x", kind, bins), given, None, 0, "configuration")


def fitted(
    family: Family, column: FloatArray | CategoricalColumn, bins: Bins = QUANTILE_BINS, kind: Any = "numeric"
) -> FeatureReference:
    given = ReferenceFamily(family, fit=Path("r.csv"))
    return family_reference(FeatureSpec("x", kind, bins), given, column, 7, "r.csv")


def categorical(values: Sequence[str | None]) -> CategoricalColumn:
    names = tuple(sorted({value for value in values if value is not None}))
    codes = [-1 if value is None else names.index(value) for value in values]
    return CategoricalColumn(names, np.array(codes, dtype=np.int32))


def edges_of(reference: FeatureReference) -> FloatArray:
    assert reference.shape.edges is not None
    return reference.shape.edges


def q(reference: FeatureReference) -> FloatArray:
    assert reference.probabilities is not None
    return reference.probabilities


def counts_of(reference: FeatureReference, values: FloatArray) -> FloatArray:
    (panes,) = count_panes([reference.shape], [values])
    return panes.sum(axis=0).astype(np.float64)


# --- cells and their probabilities ---------------------------------------------------------------


@every_family
@pytest.mark.parametrize(
    "bins",
    [
        Bins(),
        Bins("uniform", 7, (0, 5)),
        Bins("logarithmic", 5, (0.01, 10)),
        Bins("edges", edges=(-1, 0, 0.25, 1, 4)),
        Bins(probabilities=(0.25, 0.5, 0.75)),
        Bins(value_range=(0, 1)),
    ],
    ids=lambda bins: f"{bins.method}{'' if bins.value_range is None else ' in a range'}",
)
def test_probabilities_are_those_of_scipy_between_the_edges(family: Family, bins: Bins) -> None:
    parameters, theirs = MEMBERS[family]
    made = known(family, bins, **parameters)
    edges = edges_of(made)
    if family in ("poisson", "bernoulli"):  # integers k with a <= k < b, in the last bin k <= b
        k = np.arange(200)
        mass = theirs.pmf(k)
        inside = [mass[(k >= a) & (k < b)].sum() for a, b in itertools.pairwise(edges)]
        inside[-1] += mass[k == edges[-1]].sum()
        ends = [mass[k < edges[0]].sum(), mass[k > edges[-1]].sum()]
    else:
        inside = np.diff(theirs.cdf(edges)).tolist()
        ends = [theirs.cdf(edges[0]), theirs.sf(edges[-1])]
    np.testing.assert_allclose(q(made), [*inside, *ends, 0, 0], rtol=1e-9, atol=1e-14)
    assert made.rows == np.inf
    assert made.counts is None
    assert dict(made.parameters) == parameters


def test_the_default_edges_are_the_familys_quantiles_with_open_ends() -> None:
    edges = edges_of(known("normal", mean=3, std=2))
    np.testing.assert_allclose(edges[1:-1], stats.norm(3, 2).ppf(QUANTILES), rtol=1e-12)
    assert (edges[0], edges[-1]) == (-np.inf, np.inf)


def test_a_range_closes_the_quantile_bins_and_the_quantiles_are_those_within() -> None:
    made = known("exponential", Bins(value_range=(1, 3), probabilities=(0.25, 0.5, 0.75)), scale=2)
    inside = np.exp(-0.5) - np.exp(-1.5)
    assert (edges_of(made)[0], edges_of(made)[-1]) == (1, 3)
    np.testing.assert_allclose(q(made), [*[inside / 4] * 4, 1 - np.exp(-0.5), np.exp(-1.5), 0, 0], rtol=1e-12)


def test_a_far_tail_keeps_its_digits() -> None:
    made = known("normal", Bins("edges", edges=(-40.0, -30.0, 0.0, 10.0, 20.0)), mean=0, std=1)
    tails = stats.norm.sf([10, 20, 30, 40])
    np.testing.assert_allclose(
        q(made), [tails[2] - tails[3], 0.5, 0.5, tails[0] - tails[1], tails[3], tails[1], 0, 0], rtol=1e-9
    )


def test_integers_have_bins_of_their_own_between_the_tails() -> None:
    edges = edges_of(known("poisson", rate=2))
    assert edges.tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, np.inf]  # P(X <= 8) > 0.999


def test_more_than_64_integers_are_merged_at_the_quantiles() -> None:
    edges = edges_of(known("poisson", rate=1000))
    assert edges.size <= len(QUANTILES) + 2
    assert np.all(edges[1:-1] % 1 == 0.5)
    np.testing.assert_array_equal(edges[1:-1], stats.poisson(1000).ppf(QUANTILES) - 0.5)
    assert edges_of(known("poisson", Bins("discrete"), rate=1000)).size > 190


def test_a_rare_event_still_has_a_bin() -> None:
    made = known("poisson", rate=1e-9)
    assert edges_of(made).tolist() == [-0.5, 0.5, np.inf]
    assert q(made)[1] == pytest.approx(1e-9, rel=1e-6)


def test_a_coin_is_numbers_or_categories() -> None:
    numbers = known("bernoulli", p=0.3)
    assert edges_of(numbers).tolist() == [-0.5, 0.5, 1.5]
    assert q(numbers).tolist() == pytest.approx([0.7, 0.3, 0, 0, 0, 0])
    words = known("bernoulli", kind="categorical", p=0.3)
    assert words.shape.categories == ("true", "false")
    assert q(words).tolist() == pytest.approx([0.3, 0.7, 0, 0, 0, 0])


positive = st.floats(1e-300, 1e300)
shapes = st.floats(1e-300, 0.99e12)
extreme: dict[Family, st.SearchStrategy[dict[str, float]]] = {
    "normal": st.fixed_dictionaries({"mean": st.floats(-1e308, 1e308), "std": positive}),
    "lognormal": st.fixed_dictionaries({"mean": st.floats(-699, 699), "sigma": positive}),
    "exponential": st.fixed_dictionaries({"scale": positive}),
    "gamma": st.fixed_dictionaries({"shape": shapes, "scale": positive}),
    "beta": st.fixed_dictionaries({"a": shapes, "b": shapes}),
    "uniform": st.fixed_dictionaries({"low": st.floats(-1e308, 1e308), "high": st.floats(-1e308, 1e308)}),
    "poisson": st.fixed_dictionaries({"rate": st.floats(1e-300, 9.9e9)}),
    "bernoulli": st.fixed_dictionaries({"p": st.floats(1e-300, 1 - 1e-16)}),
}
some_bins = st.sampled_from(
    [
        Bins(),
        Bins("uniform", 10, (-1e3, 1e3)),
        Bins("edges", edges=(-np.inf, 0.0, 1.0, np.inf)),
        Bins("edges", edges=(-1e308, 0.0, 5e-324, 1e308)),
        Bins("logarithmic", 9, (1e-300, 1e300)),
        Bins(value_range=(0.0, 1.0)),
    ]
)


@every_family
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_probabilities_sum_to_one_or_the_member_is_refused(family: Family, data: st.DataObject) -> None:
    parameters, bins = data.draw(extreme[family]), data.draw(some_bins)
    try:
        made = known(family, bins, **parameters)
    except ReferenceProblem:
        return
    assert abs(q(made).sum() - 1) < 1e-12
    assert q(made).min() >= 0
    assert q(made).size == len(made.cells)
    assert np.all(np.diff(edges_of(made)) > 0)


@pytest.mark.parametrize("shape", [1e6, 0.9e12])
def test_large_shapes_are_nearly_normal(shape: float) -> None:
    z = stats.norm.ppf(QUANTILES)
    gamma = Bins("edges", edges=tuple(shape + z * shape**0.5))
    beta = Bins("edges", edges=tuple(0.5 + z / (8 * shape + 4) ** 0.5))
    for made in (known("gamma", gamma, shape=shape, scale=1), known("beta", beta, a=shape, b=shape)):
        np.testing.assert_allclose(np.cumsum(q(made)[:-4]), np.subtract(QUANTILES[1:], QUANTILES[0]), atol=3e-4)


@pytest.mark.parametrize(
    ("family", "parameters"),
    [
        *((family, parameters) for family, (parameters, _) in MEMBERS.items()),
        ("beta", {"a": 0.05, "b": 0.05}),  # a tenth of the values is 0 or 1 as a float
        ("gamma", {"shape": 0.01, "scale": 1.0}),
        ("poisson", {"rate": 300.0}),
        ("normal", {"mean": 1e9, "std": 1e-3}),
    ],
)
def test_samples_fill_the_bins_as_predicted(family: Family, parameters: dict[str, float]) -> None:
    rng = np.random.default_rng(20)
    n = 50_000
    if family == "bernoulli":
        values = rng.binomial(1, parameters["p"], n).astype(np.float64)
    else:
        values = getattr(rng, family)(*parameters.values(), size=n).astype(np.float64)
    made = known(family, **parameters)
    counts, expected = counts_of(made, values), n * q(made)
    assert counts[expected == 0].sum() == 0
    held = expected > 0
    assert expected[held].min() > 5
    assert stats.chisquare(counts[held], expected[held]).pvalue > 1e-3


def test_binned_divergence_of_shifted_normals_comes_from_below_to_half_the_squared_shift() -> None:
    shift, last = 0.7, 0.0
    for count in (2, 4, 16, 64, 1024):  # each cuts the bins of the one before
        bins = Bins("uniform", count, (-8, 8))
        p, r = (known("normal", bins, mean=mean, std=1) for mean in (shift, 0))
        kl = divergences(q(p), q(r))["kl"]
        assert last < kl < shift**2 / 2
        last = kl
    assert last == pytest.approx(shift**2 / 2, rel=1e-4)


# --- fits ----------------------------------------------------------------------------------------


def sample(family: Family, n: int = 2000) -> FloatArray:
    return np.asarray(MEMBERS[family][1].rvs(n, random_state=np.random.default_rng(5)), dtype=np.float64)


def log_likelihood(family: Family, values: FloatArray, *parameters: float) -> float:
    density: dict[Family, Callable[..., Any]] = {
        "normal": lambda mean, std: stats.norm.logpdf(values, mean, std),
        "lognormal": lambda mean, sigma: stats.lognorm.logpdf(values, sigma, 0, np.exp(mean)),
        "exponential": lambda scale: stats.expon.logpdf(values, 0, scale),
        "gamma": lambda shape, scale: stats.gamma.logpdf(values, shape, 0, scale),
        "beta": lambda a, b: stats.beta.logpdf(values, a, b),
        "uniform": lambda low, high: stats.uniform.logpdf(values, low, high - low),
        "poisson": lambda rate: stats.poisson.logpmf(values, rate),
        "bernoulli": lambda p: stats.bernoulli.logpmf(values, p),
    }
    return float(density[family](*parameters).mean())


@every_family
def test_no_member_nearby_is_likelier_than_the_fitted_one(family: Family) -> None:
    values = sample(family)
    best = np.array([value for _, value in fitted(family, values).parameters])
    highest = log_likelihood(family, values, *best)
    for i in range(best.size):
        for factor in (0.9, 0.999, 1.001, 1.1):
            other = best.copy()
            other[i] *= factor
            assert log_likelihood(family, values, *other) < highest


@every_family
def test_a_fit_finds_the_parameters_again(family: Family) -> None:
    parameters = MEMBERS[family][0]
    found = fitted(family, sample(family, 50_000)).parameters
    assert [name for name, _ in found] == list(parameters)
    assert dict(found) == pytest.approx(parameters, rel=0.03)


@pytest.mark.parametrize(
    ("family", "values", "expected"),
    [
        ("normal", [1, 2, 3, 4, 5] * 2, {"mean": 3, "std": 2**0.5}),
        ("lognormal", [np.e, np.e**3] * 5, {"mean": 2, "sigma": 1}),
        ("exponential", [0, 1, 2, 5] * 3, {"scale": 2}),
        ("uniform", [3, 7, 1, 4, 4, 4, 4, 4, 4, 4], {"low": 1, "high": 7}),
        ("poisson", [0, 1, 2, 5] * 3, {"rate": 2}),
        ("bernoulli", [0, 0, 0, 1] * 3, {"p": 0.25}),
    ],
)
def test_closed_forms_by_hand(family: Family, values: list[float], expected: dict[str, float]) -> None:
    assert dict(fitted(family, np.array(values, dtype=np.float64)).parameters) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [0.05, 1.0, 1e4, 1e8])
def test_gamma_fits_solve_the_likelihood_equations(shape: float) -> None:
    values = np.random.default_rng(6).gamma(shape, 3, 5000)
    values = values[values > 0]
    found = dict(fitted("gamma", values, Bins("edges", edges=(0, 1))).parameters)
    assert found["shape"] * found["scale"] == pytest.approx(values.mean(), rel=1e-9)
    assert found["shape"] == pytest.approx(shape, rel=0.1)


def test_a_fitted_reference_has_the_familys_probabilities_and_the_datas_rows() -> None:
    values = sample("normal", 6400)
    made = fitted("normal", values)
    assert made.panes is not None
    assert made.counts is not None
    assert made.panes.shape == (64, len(made.cells))
    assert made.rows == 6400
    assert made.counts.tolist() == counts_of(made, values).tolist()
    given = known("normal", Bins("edges", edges=tuple(edges_of(made))), **dict(made.parameters))
    np.testing.assert_allclose(q(made), q(given), rtol=1e-12, atol=1e-300)
    assert np.abs(q(made) - made.counts / made.rows).max() > 1e-4  # they are not the data's shares
    assert (made.created_ms, made.source) == (7, "r.csv")
    assert measure_reference(made) is not UNMEASURED
    assert made.reference_hash != given.reference_hash


def test_a_fitted_reference_is_smoothed_as_a_sample_of_its_rows() -> None:
    made = fitted("normal", sample("normal", 1000))
    n_cells = len(made.cells)
    np.testing.assert_allclose(made.smoothed(Smoothing()), (1000 * q(made) + 0.5) / (1000 + 0.5 * n_cells))
    np.testing.assert_array_equal(made.smoothed(NO_SMOOTHING), q(made))
    given = known("normal", mean=3, std=2)
    assert given.smoothed(Smoothing())[-3] == pytest.approx(0.5e-6, rel=1e-4)


def test_tail_quantiles_that_few_rows_cannot_fill_are_dropped() -> None:
    assert edges_of(fitted("normal", sample("normal", 500))).size == len(QUANTILES) + 2 - 4
    assert edges_of(fitted("normal", sample("normal", 10))).size == 3
    assert edges_of(fitted("poisson", sample("poisson", 10))).size >= 3


def test_missing_values_and_infinities_keep_their_shares() -> None:
    values = sample("exponential", 90)
    column = np.concatenate([values, np.full(6, np.nan), np.full(3, np.inf), [-np.inf]])
    made = fitted("exponential", column)
    assert dict(made.parameters) == {"scale": pytest.approx(values.mean())}
    finite = q(fitted("exponential", values))
    assert q(made)[-4:].tolist() == pytest.approx([0, 0, 0.06, 0])
    bins = 0.9 * finite[:-4]
    assert q(made)[:-4].tolist() == pytest.approx([bins[0] + 0.01, *bins[1:-1], bins[-1] + 0.03])
    assert made.counts is not None
    assert made.counts[-4:].tolist() == [0, 0, 6, 0]
    assert made.counts.sum() == 100


def test_invalid_values_keep_their_share() -> None:
    values = sample("exponential", 90)
    column = np.concatenate([values, np.full(10, np.nan)])
    given = ReferenceFamily("exponential", fit=Path("r.csv"))
    made = family_reference(FeatureSpec("x", "numeric"), given, column, 7, "r.csv", np.arange(90, 96))
    assert q(made)[-4:].tolist() == pytest.approx([0, 0, 0.04, 0.06])
    assert q(made).sum() == pytest.approx(1, abs=1e-12)
    assert made.counts is not None
    assert made.counts[-2:].tolist() == [4, 6]


def test_a_coin_of_categories_is_fitted() -> None:
    made = fitted("bernoulli", categorical(["true"] * 30 + ["false"] * 10 + [None] * 10), kind="categorical")
    assert dict(made.parameters) == {"p": 0.75}
    assert q(made).tolist() == pytest.approx([0.6, 0.2, 0, 0, 0.2, 0])
    assert made.counts is not None
    assert made.counts.tolist() == [30, 10, 0, 0, 10, 0]
    assert made.cells == ("true", "false", "other", "unseen", "missing", "invalid")


def test_fitted_categories_are_the_datas_shares() -> None:
    column = categorical(["a"] * 30 + ["b"] * 15 + ["c"] * 5)
    made = fitted("categorical", column, kind="categorical")
    (built,) = build_references([FeatureSpec("x", "categorical")], [column], 0, "r.csv")
    assert made.reference_hash == built.reference_hash
    assert made.probabilities is None


def test_a_fitted_family_is_not_written_as_counts() -> None:
    with pytest.raises(ReferenceProblem, match="belong in the configuration"):
        dump_references([fitted("normal", sample("normal"))])


def test_uniform_bins_of_a_fit_take_the_datas_range() -> None:
    values = sample("normal")
    edges = edges_of(fitted("normal", values, Bins("uniform", 5)))
    assert (edges[0], edges[-1], edges.size) == (values.min(), values.max(), 6)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "parameters", "words"),
    [
        ("normal", {"mean": 0}, "expected the parameters mean, std of the family normal, got mean; give those"),
        ("gamma", {}, "got none"),
        ("normal", {"mean": 0, "sigma": 1}, "got mean, sigma"),
        ("normal", {"mean": 0, "std": 0}, "expected a finite number > 0 as std of the family normal, got 0"),
        ("normal", {"mean": np.nan, "std": 1}, "expected a finite number as mean .* got nan"),
        ("normal", {"mean": 0, "std": np.inf}, "expected a finite number > 0 as std .* got inf"),
        ("lognormal", {"mean": 800, "sigma": 1}, "expected a number between -700 and 700 as mean"),
        ("beta", {"a": -1, "b": 1}, "expected a number > 0 and below 1e12 as a of the family beta, got -1"),
        ("uniform", {"low": 3, "high": 3}, "for the family uniform, got low 3 and high 3"),
        ("uniform", {"low": -1e308, "high": 1e308}, "expected low below high, a finite distance apart,"),
        ("poisson", {"rate": 1e12}, "expected a number > 0 and below 1e10 as rate"),
        (
            "bernoulli",
            {"p": 1},
            "expected a number between 0 and 1, both excluded, as p of the family bernoulli, got 1",
        ),
        ("normal", {"mean": 1e300, "std": 1}, "expected a distribution whose quantiles float64 numbers can tell apart"),
    ],
)
def test_unusable_parameters_are_refused(family: Family, parameters: dict[str, float], words: str) -> None:
    with pytest.raises(ReferenceProblem, match=words):
        known(family, **parameters)


@pytest.mark.parametrize(
    ("family", "values", "words"),
    [
        ("lognormal", [1, 2, 3] * 1000 + [0, -1, -2], r"values > 0 to fit a lognormal .* got 3 of 3,003 that are <= 0"),
        ("gamma", [1, 2] * 5 + [0], "got 1 of 11 that are <= 0"),
        ("exponential", [0, 1] * 5 + [-1], "got 1 of 11 that are < 0"),
        ("beta", [0.5, 0.4] * 5 + [0, 1], "expected values between 0 and 1 .* got 2 of 12 that are <= 0 or >= 1"),
        ("poisson", [1, 2] * 5 + [0.5, -1], "values that are integers >= 0 .* got 2 of 12 that are negative or not"),
        ("bernoulli", [0, 1] * 5 + [2], "expected values 0 and 1 to fit .* got 1 of 11 that are neither"),
        ("normal", [1, 2] * 4, "expected at least 10 finite values to fit a normal distribution to, got 8; use more"),
        ("normal", [np.nan, np.inf] * 10, "expected at least 10 finite values .* got 0"),
        ("normal", [2.5] * 20, "expected values that differ .* got 20 values, all 2.5"),
        ("normal", [-1e308, 1e308] * 10, "expected a finite number as mean|expected a finite number > 0 as std"),
        (
            "gamma",
            [1, 1 + 1e-9] * 10,
            "can be fitted, but the fit failed: their standard deviation is",
        ),
        ("beta", [1e-300, 0.5, 1 - 1e-16] * 10, "float64|can be fitted, but"),
        (
            "beta",
            (np.arange(1, 21) * 1e-12),
            "to which a beta distribution can be fitted, but the fit failed",
        ),
    ],
)
def test_data_that_cannot_be_fitted_is_refused(family: Family, values: list[float], words: str) -> None:
    with pytest.raises(ReferenceProblem, match=rf"^(?=expected ).*({words}).*\(reference r.csv\)$"):
        fitted(family, np.asarray(values, dtype=np.float64))


@pytest.mark.parametrize(
    ("bins", "words"),
    [
        (Bins("discrete"), "expected a family of integers for discrete bins, got normal; use quantile bins"),
        (Bins("uniform", 5), "expected a range for uniform bins of a family with given parameters"),
        (Bins(value_range=(50, 60)), r"expected some of the distribution within the range \[50, 60\], got 0 of normal"),
        (Bins("edges", edges=(0, 1e17)), "much wider than the spacing of float64"),
    ],
)
def test_bins_that_do_not_suit_the_family_are_refused(bins: Bins, words: str) -> None:
    mean = 1e17 if bins.method == "edges" else 0
    with pytest.raises(ReferenceProblem, match=words):
        known("normal", bins, mean=mean, std=1)


def test_too_many_integers_are_refused() -> None:
    with pytest.raises(ReferenceProblem, match="expected at most 1024 integers for discrete bins, got 6"):
        known("poisson", Bins("discrete"), rate=1e6)


@pytest.mark.parametrize(
    ("family", "kind", "words"),
    [
        ("normal", "categorical", "expected a numeric or vector feature for the family normal, got a categorical one"),
        ("gamma", "vector", "expected a numeric feature for the family gamma, got a vector one"),
        ("bernoulli", "vector", "expected a numeric or categorical feature for the family bernoulli"),
        ("categorical", "numeric", "expected a categorical feature for the family categorical, got a numeric one"),
        ("categorical", "categorical", "expected a data file to fit .* use `reference: {probabilities: …}`"),
    ],
)
def test_a_feature_of_another_kind_is_refused(family: Family, kind: Any, words: str) -> None:
    with pytest.raises(ReferenceProblem, match=words):
        known(family, kind=kind)


def test_a_coin_with_a_third_side_is_refused() -> None:
    column = categorical(["true", "false"] * 10 + ["2", "maybe", "2", None])
    with pytest.raises(ReferenceProblem, match="got 3 of 23 values that are neither: '2', 'maybe'"):
        fitted("bernoulli", column, kind="categorical")


def test_categories_that_are_all_missing_are_refused() -> None:
    with pytest.raises(ReferenceProblem, match=r"^expected at least one value .* \(reference r.csv\)$"):
        fitted("categorical", categorical([None] * 20), kind="categorical")
