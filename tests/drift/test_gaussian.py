"""KL of vectors: closed forms, references, and bounds that hold what they promise."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import norm

from kldrift.drift.kinds.gaussian import GaussianReference, degrees_of_freedom
from kldrift.drift.kinds.gaussian_bounds import bound_gaussian, dimension_kl
from kldrift.drift.kinds.posterior import Posterior, bound_mean, posterior_kl
from kldrift.drift.normal_kl import gaussian_kl, gaussian_kl_diagonal, kl_from_standard_normal
from kldrift.errors import ReferenceProblem
from kldrift.kernels.bounds import BOUNDS, bound_statistics
from kldrift.kernels.moments import Moments, add_moments, zero_moments
from kldrift.records.types import Covariance, FloatArray
from tests.kernels import test_bounds

BOTH = pytest.mark.parametrize("covariance", ["diagonal", "full"])
THRESHOLDS = np.array([0.01, 0.1])


def covariance_of(rng: np.random.Generator, d: int) -> FloatArray:
    root = rng.normal(size=(d, 2 * d))
    return np.asarray(root @ root.T / (2 * d))


def plain_kl(mean0: FloatArray, cov0: FloatArray, mean1: FloatArray, cov1: FloatArray) -> float:
    """The textbook's formula, by inverse and determinants."""
    inverse, difference = np.linalg.inv(cov1), mean0 - mean1
    logs = np.linalg.slogdet(cov1)[1] - np.linalg.slogdet(cov0)[1]
    return float(0.5 * (np.trace(inverse @ cov0) + difference @ inverse @ difference - len(mean0) + logs))


def moments_of(values: FloatArray, full: bool = False) -> Moments:
    out = zero_moments((1,), values.shape[1], full)
    add_moments(np.ascontiguousarray(values), None, *out)
    return out


def bound(moments: Moments, reference: GaussianReference, alpha: float = 0.025) -> dict[str, FloatArray]:
    return bound_gaussian(*moments, reference, float(norm.isf(alpha)), THRESHOLDS)


# --- closed forms ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), d=st.integers(1, 20))
def test_the_closed_forms_equal_the_plain_ones(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    mean0, mean1 = rng.normal(size=d), rng.normal(size=d)
    cov0, cov1 = covariance_of(rng, d), covariance_of(rng, d)
    expected = plain_kl(mean0, cov0, mean1, cov1)
    assert float(gaussian_kl(mean0, cov0, mean1, cov1)) == pytest.approx(expected, rel=1e-10, abs=1e-10)
    var0, var1 = np.diagonal(cov0), np.diagonal(cov1)
    expected = plain_kl(mean0, np.diag(var0), mean1, np.diag(var1))
    for got in (
        gaussian_kl_diagonal(mean0, var0, mean1, var1),
        gaussian_kl(mean0, np.diag(var0), mean1, np.diag(var1)),
    ):
        assert float(got) == pytest.approx(expected, rel=1e-10, abs=1e-10)
    expected = 0.5 * float((mean0**2 + var0 - 1 - np.log(var0)).sum())
    assert float(kl_from_standard_normal(mean0, var0)) == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_the_kl_is_0_only_for_equal_distributions_and_not_symmetric() -> None:
    rng = np.random.default_rng(2)
    mean, cov, other = rng.normal(size=5), covariance_of(rng, 5), covariance_of(rng, 5)
    assert float(gaussian_kl(mean, cov, mean, cov)) == pytest.approx(0, abs=1e-14)
    assert float(gaussian_kl_diagonal(mean, np.diagonal(cov), mean, np.diagonal(cov))) == 0
    assert float(gaussian_kl(mean, cov, mean + 1e-4, cov)) > 0
    there, back = float(gaussian_kl(mean, cov, mean, other)), float(gaussian_kl(mean, other, mean, cov))
    assert 0 < there != pytest.approx(back)
    # by hand: N(1, 4) from N(0, 1) is 1/2 (4 + 1 - 1 - ln 4)
    assert float(kl_from_standard_normal(np.ones(1), np.full(1, 4.0))) == pytest.approx(2 - math.log(2), rel=1e-15)


def test_a_tiny_difference_loses_no_digits() -> None:
    """1/4 e^2 for a variance of 1 + e."""
    e = 2.0**-20
    got = float(gaussian_kl_diagonal(np.zeros(1), np.full(1, 1 + e), np.zeros(1), np.ones(1)))
    assert got == pytest.approx(e**2 / 4 - e**3 / 6, rel=1e-6)


def test_leading_axes_broadcast() -> None:
    rng = np.random.default_rng(3)
    means, covs = rng.normal(size=(2, 3, 4)), np.array([[covariance_of(rng, 4) for _ in range(3)] for _ in range(2)])
    mean1, cov1 = rng.normal(size=4), covariance_of(rng, 4)
    got = gaussian_kl(means, covs, mean1, cov1)
    assert got.shape == (2, 3)
    assert got[1, 2] == pytest.approx(plain_kl(means[1, 2], covs[1, 2], mean1, cov1), rel=1e-10)
    assert gaussian_kl_diagonal(means, np.ones(4), mean1, np.ones(4)).shape == (2, 3)


def test_a_singular_live_covariance_is_infinitely_far() -> None:
    mean, identity = np.zeros(3), np.eye(3)
    flat = np.diag([1.0, 0.0, 1.0])
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1000, 2))
    dependent = np.cov(np.column_stack([z, z.sum(axis=1)]).T, bias=True)  # only rounding keeps it from being singular
    got = gaussian_kl(mean, np.array([flat, identity, dependent]), mean, identity)
    assert got.tolist() == [math.inf, pytest.approx(0), math.inf]
    assert gaussian_kl_diagonal(mean, np.array([1.0, 0.0, 1.0]), mean, np.ones(3)) == math.inf


def test_a_singular_reference_covariance_is_refused() -> None:
    mean, ones = np.zeros(2), np.ones((2, 2))
    with pytest.raises(ReferenceProblem, match="expected a positive definite matrix"):
        gaussian_kl(mean, np.eye(2), mean, ones)
    with pytest.raises(ReferenceProblem, match=r"dimension 1 .* expected a variance above 0"):
        gaussian_kl_diagonal(mean, np.ones(2), mean, np.array([1.0, 0.0]))


# --- references ------------------------------------------------------------------------------------


def stream(kind: str, n: int, d: int, seed: int = 1) -> FloatArray:
    rng = np.random.default_rng(seed)
    match kind:
        case "normal":
            return rng.normal(size=(n, d))
        case "t5":
            return rng.standard_t(5, size=(n, d))
        case "lognormal":
            return rng.lognormal(size=(n, d))
        case "ar9":
            return np.ascontiguousarray(lfilter([1], [1, -0.9], rng.normal(size=(n + 200, d)), axis=0)[200:])
        case "correlated":  # at 0.9
            return np.asarray(math.sqrt(0.9) * rng.normal(size=(n, 1)) + math.sqrt(0.1) * rng.normal(size=(n, d)))
    raise AssertionError(kind)


@BOTH
def test_a_reference_is_the_likeliest_normal_distribution(covariance: Covariance) -> None:
    values = stream("correlated", 3000, 3) * 2 + 1e6
    values[5] = np.nan
    values[7, 1] = np.inf
    reference = GaussianReference.from_vectors(values, covariance)
    kept = values[np.isfinite(values).all(axis=1)]
    expected = np.cov(kept.T, bias=True)
    np.testing.assert_allclose(reference.mean, kept.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(reference.covariance, expected if covariance == "full" else np.diagonal(expected))
    assert (reference.rows, reference.missing_ratio) == (2998, pytest.approx(2 / 3000))
    assert (reference.kind, reference.measured) == (covariance, True)
    if covariance == "diagonal":
        assert reference.correlation is not None
        np.testing.assert_allclose(reference.correlation, np.corrcoef(kept.T), rtol=1e-9)


@BOTH
@pytest.mark.parametrize(
    ("kind", "low", "high"), [("normal", 1.0, 1.15), ("t5", 1.25, 12.0), ("lognormal", 4.0, 80.0), ("ar9", 8.0, 18.0)]
)
def test_overdispersion_is_1_for_independent_normal_samples_and_else_above(
    covariance: Covariance, kind: str, low: float, high: float
) -> None:
    reference = GaussianReference.from_vectors(stream(kind, 10_000, 8), covariance)
    assert reference.block_samples.tolist() == [156.25, 312.5, 625.0]
    assert ((reference.phi >= low) & (reference.phi <= high)).all(), reference.phi
    assert (reference.lambda_ratio >= 1).all()


@BOTH
def test_small_blocks_do_not_look_dependent(covariance: Covariance) -> None:
    """Five samples a block; 2 n KL would be some times its degrees of freedom, or infinite."""
    found = [GaussianReference.from_vectors(stream("normal", 550, 4, seed), covariance).phi[0] for seed in range(20)]
    assert max(found) < 1.35
    assert float(np.mean(found)) < 1.08


def test_overdispersion_is_looked_up_at_the_nearest_block_size() -> None:
    reference = GaussianReference(
        np.zeros(1),
        np.ones(1),
        1e4,
        0.0,
        None,
        np.array([100.0, 200.0]),
        np.array([2.0, 5.0]),
        np.array([1, 3.0]),
    )
    phi, ratio = reference.spread.at(np.array([[1.0, 141.0], [142.0, 1e9]]))
    assert (phi.tolist(), ratio.tolist()) == ([[2, 2], [5, 5]], [[1, 1], [3, 3]])


@BOTH
def test_a_given_normal_distribution_is_known_exactly(covariance: Covariance) -> None:
    reference = GaussianReference.standard(2, [1.0, 2.0], 3.0, covariance)
    np.testing.assert_array_equal(reference.covariance, np.diag([9.0, 9.0]) if covariance == "full" else [9, 9])
    assert (reference.rows, reference.measured, reference.phi.tolist()) == (math.inf, False, [1])
    assert reference.kind == covariance


def test_a_digest_covers_everything_a_window_is_compared_with() -> None:
    reference = GaussianReference.from_vectors(stream("ar9", 1000, 3))
    again = GaussianReference.from_vectors(stream("ar9", 1000, 3))
    assert reference.digest() == again.digest()
    assert len(reference.digest()) == 16
    changes: Sequence[dict[str, object]] = [
        {"mean": reference.mean + 1e-9},
        {"covariance": reference.covariance * (1 + 1e-15)},
        {"rows": 1001.0},
        {"correlation": None},
        {"phi": reference.phi + 1},
        {"lambda_ratio": reference.lambda_ratio + 1},
        {"measured": False},
    ]
    digests = {dataclasses.replace(reference, **change).digest() for change in changes}  # type: ignore[arg-type]
    assert len(digests | {reference.digest()}) == len(changes) + 1
    full = GaussianReference.standard(1, covariance="full")
    assert full.digest() != GaussianReference.standard(1).digest()


def flat(column: int, value: float) -> FloatArray:
    values = stream("normal", 1000, 3)
    values[:, column] = value
    return values


DEPENDENT = stream("normal", 1000, 3) @ np.array([[1.0, 0, 1], [0, 1, 1], [0, 0, 0]])


@pytest.mark.parametrize(
    ("values", "covariance", "message"),
    [
        (stream("normal", 63, 1), "diagonal", "has 63 vectors that are not missing; .* needs 64: use a longer ref"),
        (stream("normal", 600, 32), "diagonal", "diagonal covariance of 32 dimensions needs 650: use a longer"),
        (stream("normal", 600, 32), "full", "needs 5,610: use a longer reference, or a diagonal covariance"),
        (np.full((500, 2), np.nan), "diagonal", "has 0 vectors"),
        (np.zeros((0, 2)), "diagonal", "has 0 vectors"),
        (np.zeros(5), "diagonal", r"expected vectors, \(n_rows, d\) .* got shape \(5,\)"),
        (flat(2, 0.1), "diagonal", "dimension 2 of the reference, counted from 0, is constant at 0.1; use"),
        (flat(0, 1e9), "full", "dimension 0 of the reference, counted from 0, is constant at 1e"),
        (np.ones((500, 3)), "diagonal", r"dimension 0 \(and 2 more\) of the reference"),
        (
            DEPENDENT,
            "full",
            r"is singular: dimension 2 \(counted from 0\) is determined by those before it; use a",
        ),
        (stream("normal", 500, 2) * 1e200, "diagonal", "too large: their squares overflow"),
    ],
)
def test_a_reference_that_supports_nothing_is_refused(values: FloatArray, covariance: Covariance, message: str) -> None:
    with pytest.raises(ReferenceProblem, match=message):
        GaussianReference.from_vectors(values, covariance)


def test_dependent_dimensions_are_fine_for_a_diagonal() -> None:
    assert GaussianReference.from_vectors(DEPENDENT).kind == "diagonal"


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (0.0, 0.0, "std: expected numbers above 0, got 0"),
        (0.0, -1.0, "std: expected numbers above 0, got -1"),
        (0.0, [1.0, math.nan], "std: expected numbers above 0"),
        (0.0, math.inf, "expected a variance above 0 and finite, got inf"),
        (0.0, 1e-200, "expected a variance above 0 and finite, got 0"),
        (math.nan, 1.0, "the mean of the reference: expected finite numbers"),
        ([0.0] * 3, 1.0, "mean: expected a number or 2 of them, got 3"),
        (0.0, [1.0], "std: expected a number or 2 of them, got 1"),
    ],
)
def test_unusable_parameters_are_refused(mean: float, std: float, message: str) -> None:
    with pytest.raises(ReferenceProblem, match=message):
        GaussianReference.standard(2, mean, std)


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ReferenceProblem, match=r"expected a mean \(d,\) and a covariance .* got \(2,\) and \(3,\)"):
        GaussianReference(np.zeros(2), np.ones(3))


@pytest.mark.parametrize(
    "change",
    [
        {"correlation": np.eye(2)},
        {"phi": np.ones(2)},
        {"phi": np.full(1, 0.5)},
        {"lambda_ratio": np.full(1, math.nan)},
        {"block_samples": np.ones(0), "phi": np.ones(0), "lambda_ratio": np.ones(0)},
        {"block_samples": np.array([2.0, 1.0]), "phi": np.ones(2), "lambda_ratio": np.ones(2)},
    ],
)
def test_an_unusable_overdispersion_is_refused(change: dict[str, FloatArray]) -> None:
    with pytest.raises(ReferenceProblem, match=r"expected correlations \(3, 3\), and phi .* make the reference again"):
        dataclasses.replace(GaussianReference.standard(3), **change)  # type: ignore[arg-type]


# --- bounds ----------------------------------------------------------------------------------------


def test_bounds_of_a_statistic_are_those_of_counts_with_that_statistic() -> None:
    arguments, expected = test_bounds.scenario(), test_bounds.results(1)
    series = expected.reshape(-1, len(BOUNDS))
    column = {name: np.ascontiguousarray(series[:, i]) for i, name in enumerate(BOUNDS)}
    rows = (column["n_bins"] > 1) & np.isfinite(column["statistic"])
    assert rows.sum() > 15
    out = np.empty((int(rows.sum()), len(BOUNDS)))
    names = ("statistic", "dispersion", "effective_samples")
    statistic, dispersion, effective = (column[name][rows] for name in names)
    dof = column["n_bins"][rows] - 1
    bound_statistics(statistic, dof, dispersion, effective, arguments["z_quantile"], THRESHOLDS, out)
    np.testing.assert_array_equal(out, series[rows])


def test_a_statistic_of_nothing_is_nan_and_an_infinite_one_infinite() -> None:
    ones, out = np.ones(3), np.empty((3, len(BOUNDS)))
    bound_statistics(
        np.array([math.nan, math.inf, 1.0]), ones * 4, ones, np.array([10.0, 10.0, 0.0]), 2.0, THRESHOLDS, out
    )
    got = dict(zip(BOUNDS, out.T, strict=True))
    assert np.isnan(got["lower"]).tolist() == [True, False, True]
    assert (got["lower"][1], got["upper"][1], got["log10_p_critical"][1]) == (math.inf, math.inf, -math.inf)
    assert got["noise_floor"][:2].tolist() == [0.2, 0.2]
    assert np.isnan(out[2]).all()
    with pytest.raises(ValueError, match="z_quantile: expected a finite number above 0"):
        bound_statistics(ones, ones, ones, ones, 0.0, THRESHOLDS, out)
    with pytest.raises(ValueError, match="dof: expected contiguous float64"):
        bound_statistics(ones, np.ones(2), ones, ones, 2.0, THRESHOLDS, out)


@pytest.mark.parametrize(("covariance", "dof"), [("diagonal", 8), ("full", 14)])
def test_the_kl_is_the_closed_form_without_its_null_bias(covariance: Covariance, dof: int) -> None:
    rng = np.random.default_rng(4)
    values, reference = (
        rng.normal(size=(500, 4)) + 0.2,
        GaussianReference.from_vectors(stream("normal", 9000, 4), covariance),
    )
    got = bound(moments_of(values, covariance == "full"), reference)
    live = np.cov(values.T, bias=True)
    if covariance == "full":
        plug_in = plain_kl(values.mean(axis=0), live, reference.mean, reference.covariance)
    else:
        plug_in = plain_kl(
            values.mean(axis=0), np.diag(np.diagonal(live)), reference.mean, np.diag(reference.covariance)
        )
    phi = reference.spread.at(np.array([500.0]))[0]
    effective = 1 / (phi / 500 + reference.phi.max() / 9000)
    assert degrees_of_freedom(4, covariance) == dof
    np.testing.assert_allclose(got["plug_in"], plug_in, rtol=1e-10)
    np.testing.assert_allclose(got["effective_samples"], effective)
    np.testing.assert_allclose(got["noise_floor"], dof / (2 * effective))
    np.testing.assert_allclose(got["kl"], plug_in - dof / (2 * effective))
    np.testing.assert_allclose(got["statistic"], 2 * effective * plug_in)
    assert got["n_bins"] == dof + 1
    assert 0 < got["lower"] < got["kl"] < got["upper"]
    assert set(got) == {*BOUNDS, "kl", "plug_in"}


@BOTH
def test_the_dispersion_is_the_variance_of_the_plug_in_by_the_delta_method(covariance: Covariance) -> None:
    """Over 1,000 draws of live and reference Var K is V/n + W/m, which is 2 K c / N0."""
    rng = np.random.default_rng(5)
    d, n, m, draws = 3, 4000, 6000, 1000
    mixing = np.array([[1.0, 0, 0], [0.8, 0.6, 0], [0, 0.5, 1]])
    shift, scale = np.array([0.3, 0.5, -0.2]), 1.2
    plug_in, dispersion = [], []
    for _ in range(draws):
        reference = rng.normal(size=(m, d)) @ mixing.T
        live = rng.normal(size=(n, d)) @ mixing.T * scale + shift
        found = moments_of(reference, full=True)
        cov = found.second[0] / m
        std = np.sqrt(np.diagonal(cov))
        q = (
            GaussianReference(found.mean[0], cov, float(m))
            if covariance == "full"
            else GaussianReference(
                found.mean[0], np.diagonal(cov).copy(), float(m), correlation=cov / np.outer(std, std)
            )
        )
        got = bound(moments_of(live, covariance == "full"), q)
        plug_in.append(float(got["plug_in"][0]))
        dispersion.append(float(got["dispersion"][0]))
    independent = 1 / (1 / n + 1 / m)
    by_delta = float(np.mean(2 * np.array(plug_in) * np.array(dispersion) / independent))
    assert float(np.var(plug_in)) == pytest.approx(by_delta, rel=0.2)  # four standard errors of a variance of 1,000
    assert min(dispersion) > 1


@BOTH
def test_too_few_samples_have_no_kl(covariance: Covariance) -> None:
    least = 2 if covariance == "diagonal" else 5
    reference = GaussianReference.standard(4, covariance=covariance)
    none = zero_moments((2,), 4, covariance == "full")
    few = moments_of(stream("normal", least - 1, 4), covariance == "full")
    for moments in (none, few):
        got = bound(moments, reference)
        for name in ("kl", "plug_in", "lower", "upper", "log10_p_warning", "statistic"):
            assert np.isnan(got[name]).all(), name
    assert np.isfinite(bound(moments_of(stream("normal", least, 4), covariance == "full"), reference)["kl"]).all()
    assert np.isnan(dimension_kl(none, reference)).all()


@BOTH
@pytest.mark.parametrize("what", ["constant", "overflow"])
def test_a_stuck_dimension_or_an_overflow_is_infinitely_far(covariance: Covariance, what: str) -> None:
    values = stream("normal", 500, 3)
    values[:, 1] = 0.5 if what == "constant" else values[:, 1] * 1e300
    moments = moments_of(values, covariance == "full")
    reference = GaussianReference.standard(3, covariance=covariance)
    got = bound(moments, reference)
    assert [got[name].tolist() for name in ("kl", "plug_in", "lower", "upper")] == [[math.inf]] * 4
    assert got["log10_p_critical"] == -math.inf
    assert got["effective_samples"] == 500
    assert np.isinf(dimension_kl(moments, reference)).tolist() == [[False, True, False]]


@BOTH
def test_any_number_of_leading_axes(covariance: Covariance) -> None:
    full = covariance == "full"
    moments = zero_moments((6,), 3, full)
    add_moments(stream("normal", 900, 3), np.arange(900, dtype=np.int32) % 5, *moments)  # the last group is empty
    reference = GaussianReference.standard(3, covariance=covariance)
    whole = bound(Moments(*(array.reshape(2, 3, *array.shape[1:]) for array in moments)), reference)  # type: ignore[arg-type]
    for i in range(6):
        one = bound(moments.at(i), reference)
        for name, values in one.items():
            np.testing.assert_array_equal(whole[name][divmod(i, 3)], values)


def test_dimensions_add_up_to_the_kl_of_a_diagonal() -> None:
    reference = GaussianReference.from_vectors(stream("correlated", 2000, 6))
    moments = moments_of(stream("t5", 300, 6))
    each = dimension_kl(moments, reference)
    assert (each >= 0).all()
    np.testing.assert_allclose(each.sum(axis=1), bound(moments, reference)["plug_in"], rtol=1e-12)
    full = GaussianReference(reference.mean, np.diag(reference.covariance))
    np.testing.assert_allclose(dimension_kl(moments_of(stream("t5", 300, 6), full=True), full), each, rtol=1e-12)


# --- whether they keep their promise ---------------------------------------------------------------


def draw(rng: np.random.Generator, shift: float, n: int, d: int, draws: int) -> Moments:
    """Moments of n independent normal samples of variance 1, by their own distribution."""
    return Moments(
        np.full(draws, n, dtype=np.int64),
        rng.normal(shift, 1 / math.sqrt(n), size=(draws, d)),
        rng.chisquare(n - 1, size=(draws, d)),
    )


def simulate(
    shift: float, alpha: float, n: int = 500, m: int = 10_000, d: int = 8, draws: int = 50
) -> dict[str, FloatArray]:
    """Bounds of `draws` windows for each of 40 references."""
    rng = np.random.default_rng(6)
    found = []
    for _ in range(40):
        q = draw(rng, 0.0, m, d, 1)
        reference = GaussianReference(q.mean[0], q.second[0] / m, float(m))
        found.append(bound(draw(rng, shift, n, d, draws), reference, alpha))
    return {name: np.concatenate([each[name] for each in found]) for name in found[0]}


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.25, 0.5])
def test_a_95_percent_interval_covers_in_95_percent(shift: float) -> None:
    got, kl = simulate(shift, 0.025), 8 * shift**2 / 2
    covered = float(((got["lower"] <= kl) & (kl <= got["upper"])).mean())
    assert 0.92 < covered < 0.985
    assert float((got["lower"] > kl).mean()) < 0.04
    unbiased = float((got["plug_in"] - got["noise_floor"]).mean())
    assert unbiased == pytest.approx(kl, abs=0.001 + 0.01 * kl)


def test_quiet_windows_raise_no_alarm() -> None:
    got = simulate(0.0, 0.01, draws=100)
    assert float((got["lower"] > 0).mean()) < 0.015
    got = simulate(0.0, 1e-4, n=10_000, draws=100)
    assert (got["lower"] > 0).sum() <= 4
    assert (got["lower"] > 0.01).sum() == 0


def test_dimensions_that_move_as_one_raise_no_more_alarms() -> None:
    """All correlated at 0.9; as if they were independent it is one quiet window in ten."""
    alarms, unaware = 0, 0
    for seed in range(20):
        reference = GaussianReference.from_vectors(stream("correlated", 5000, 16, seed))
        moments = zero_moments((50,), 16, full=False)
        slots = np.repeat(np.arange(50, dtype=np.int32), 400)
        add_moments(stream("correlated", 20_000, 16, 100 + seed), slots, *moments)
        alarms += int((bound(moments, reference, 0.01)["lower"] > 0).sum())
        unaware += int((bound(moments, dataclasses.replace(reference, correlation=None), 0.01)["lower"] > 0).sum())
    assert alarms <= 25 < 60 <= unaware


def test_dependent_or_long_tailed_samples_raise_few_more_alarms() -> None:
    """At alpha = 0.01 at most 14 of 400; as if they were independent and normal, more than half, or a tenth."""
    for kind, unaware_share in (("ar9", 0.5), ("t5", 0.1)):
        alarms, unaware = 0, 0
        for seed in range(20):
            reference = GaussianReference.from_vectors(stream(kind, 10_000, 4, seed))
            moments = zero_moments((20,), 4, full=False)
            add_moments(stream(kind, 20_000, 4, 100 + seed), np.repeat(np.arange(20, dtype=np.int32), 1000), *moments)
            one = np.ones(1)
            naive = dataclasses.replace(reference, block_samples=one, phi=one, lambda_ratio=one)
            alarms += int((bound(moments, reference, 0.01)["lower"] > 0).sum())
            unaware += int((bound(moments, naive, 0.01)["lower"] > 0).sum())
        assert alarms <= 14, kind
        assert unaware > 400 * unaware_share, kind


def test_drift_is_found() -> None:
    got = simulate(0.25, 1e-4)
    assert float((got["lower"] > 0.1).mean()) > 0.9
    assert float((got["log10_p_critical"] < -4).mean()) > 0.9


# --- posteriors ------------------------------------------------------------------------------------


def test_the_kl_of_a_posterior_is_that_of_its_normal_distribution() -> None:
    rng = np.random.default_rng(8)
    mean, log_var = rng.normal(size=(50, 4)), rng.normal(size=(50, 4))
    got = posterior_kl(np.hstack([mean, log_var]))
    assert got.shape == (50, 5)
    np.testing.assert_allclose(got[:, 4], kl_from_standard_normal(mean, np.exp(log_var)), rtol=1e-12)
    np.testing.assert_allclose(got[:, :4].sum(axis=1), got[:, 4], rtol=1e-14)
    assert (got >= 0).all()
    assert not posterior_kl(np.zeros((1, 6))).any()


@pytest.mark.parametrize(
    "row",
    [[0.0, 0.0, 0.0, 710.0], [0.0, 1e200, 0.0, 0.0], [math.nan] * 4, [0, 0, math.inf, 0]],
)
def test_a_posterior_without_a_finite_kl_is_missing(row: list[float]) -> None:
    got = posterior_kl(np.array([row, [0.0, 0.0, -1e300, 0.0], [1.0, 0.0, 0.0, 0.0]]))
    assert np.isnan(got[0]).all()
    assert got[1:].tolist() == [[5e299, 0, 5e299], [0.5, 0, 0.5]]


def test_a_posterior_has_as_many_variances_as_means() -> None:
    with pytest.raises(ValueError, match=r"values: expected \(n_rows, 2 d\).*got \(4, 3\)"):
        posterior_kl(np.zeros((4, 3)))


def test_the_mean_over_samples_has_the_interval_of_a_mean() -> None:
    rng = np.random.default_rng(9)
    values = posterior_kl(np.hstack([rng.normal(size=(400, 2)), rng.normal(size=(400, 2)) - 1]))
    moments = moments_of(values)
    got = bound_mean(*moments, 1.96, np.array([1.0, values[:, 2].mean()]))
    error = values[:, 2].std(ddof=1) / 20
    np.testing.assert_allclose(got["kl"], values[:, 2].mean())
    np.testing.assert_allclose(got["lower"], values[:, 2].mean() - 1.96 * error)
    np.testing.assert_allclose(got["upper"], values[:, 2].mean() + 1.96 * error)
    np.testing.assert_allclose(10 ** got["log10_p_warning"], norm.sf((values[:, 2].mean() - 1) / error))
    np.testing.assert_allclose(10 ** got["log10_p_critical"], 0.5)
    assert (got["noise_floor"], got["effective_samples"]) == (0, 400)
    assert set(got) == {*BOUNDS, "kl", "plug_in"}
    np.testing.assert_allclose(Posterior(2).dimension_kl(moments)[0], values[:, :2].mean(axis=0))


def constant_moments(value: float, n: int) -> Moments:
    return Moments(np.array([n]), np.array([[value, value]]), np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("n", "value", "lower", "log10_p"),
    [(0, 0.0, math.nan, math.nan), (1, 1.0, math.nan, math.nan), (5, 0.5, 0.5, -math.inf), (5, 0.01, 0.01, 0.0)],
)
def test_a_mean_of_few_or_equal_values(n: int, value: float, lower: float, log10_p: float) -> None:
    got = bound_mean(*constant_moments(value, n), 2.0, THRESHOLDS)
    np.testing.assert_array_equal(got["lower"], [lower])
    np.testing.assert_array_equal(got["log10_p_warning"], [log10_p])


def test_p_values_of_a_mean_go_below_the_smallest_float() -> None:
    moments = Moments(np.array([10**6]), np.array([[0.0, 5.0]]), np.array([[0.0, 1e6]]))
    got: npt.NDArray[np.float64] = bound_mean(*moments, 2.0, THRESHOLDS)["log10_p_critical"]
    assert -6e6 < got[0] < -5e6
