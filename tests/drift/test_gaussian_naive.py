"""Vectors and constant dimensions against naive specifications: the formulas of the docstrings, term by term."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import beta, norm

from kldrift.drift.kinds.base import constant_problem
from kldrift.drift.kinds.constants import TOLERANCE, ConstantDimensions, share_bound
from kldrift.drift.kinds.gaussian import CORRELATION_ROWS, PANES, GaussianReference, degrees_of_freedom
from kldrift.drift.kinds.gaussian_bounds import bound_gaussian, dimension_kl
from kldrift.errors import ReferenceProblem
from kldrift.kernels.moments import Moments, add_moments, zero_moments
from kldrift.records.snapshots import Spread
from kldrift.records.types import Covariance, FloatArray

BOTH = pytest.mark.parametrize("covariance", ["diagonal", "full"])
THRESHOLDS = np.array([0.01, 0.1])
Z = float(norm.isf(0.025))


def moments_of(values: FloatArray, full: bool) -> Moments:
    out = zero_moments((1,), values.shape[1], full)
    add_moments(np.ascontiguousarray(values), None, *out)
    return out


def mixed(n: int, d: int, seed: int = 1) -> FloatArray:
    """Vectors whose dimensions are correlated, and longer-tailed than normal."""
    rng = np.random.default_rng(seed)
    x: FloatArray = rng.standard_t(6, (n, d)) @ (np.eye(d) + 0.6 * rng.normal(size=(d, d)))
    return x


# --- bounds -------------------------------------------------------------------------------------------


def naive_parts(live: Moments, reference: GaussianReference) -> tuple[float, float, float]:
    """K, V and W of one window."""
    n, d = float(live.n[0]), reference.dimensions
    delta, c = live.mean[0] - reference.mean, live.second[0] / n
    if reference.kind == "full":
        root = np.linalg.cholesky(reference.covariance)
        inverse = np.linalg.inv(root)
        m, a = inverse @ c @ inverse.T, inverse @ delta
        k = 0.5 * (np.trace(m) - d - np.linalg.slogdet(m)[1] + a @ a)
        v = 0.5 * ((m - np.eye(d)) ** 2).sum() + a @ m @ a
        w = a @ a + 0.5 * ((np.eye(d) - m - np.outer(a, a)) ** 2).sum()
        return float(k), float(v), float(w)
    r, a = c / reference.covariance, delta / np.sqrt(reference.covariance)
    k = sum(0.5 * (r[i] - 1 - math.log(r[i]) + a[i] ** 2) for i in range(d))
    plain = np.eye(d) if reference.correlation is None else reference.correlation
    x, y, g = r - 1, a * np.sqrt(r), 1 - r - a**2
    v = w = 0.0
    for i in range(d):
        for j in range(d):
            v += 0.5 * x[i] * plain[i, j] ** 2 * x[j] + y[i] * plain[i, j] * y[j]
            w += a[i] * plain[i, j] * a[j] + 0.5 * g[i] * plain[i, j] ** 2 * g[j]
    return float(k), float(v), float(w)


@BOTH
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("n", [7, 500, 20_000])
@pytest.mark.parametrize("shift", [0.0, 0.3, 5.0])
def test_figures_of_vectors_are_those_of_the_formulas(
    covariance: Covariance, known: bool, n: int, shift: float
) -> None:
    d = 3
    reference = (
        GaussianReference.standard(d, 0.5, 2.0, covariance)
        if known
        else GaussianReference.from_vectors(mixed(1_000, d), covariance)
    )
    assert known == (reference.correlation is None and reference.rows == math.inf)
    live = moments_of(1.5 * mixed(n, d, seed=2) + shift, covariance == "full")
    k, v, w = naive_parts(live, reference)
    m, dof = reference.rows, degrees_of_freedom(d, covariance)
    middles = np.sqrt(reference.block_samples[:-1] * reference.block_samples[1:])
    level = int((n >= middles).sum())
    phi, ratio = reference.phi[level], reference.lambda_ratio[level]
    effective = 1 / (phi / n + reference.phi.max() / m)
    dispersion = ratio * max(reference.concentration, (v / n + w / m) / (1 / n + 1 / m) / (2 * k))
    found = bound_gaussian(*live, reference, Z, THRESHOLDS)
    assert found["plug_in"][0] == pytest.approx(k, rel=1e-9)
    assert found["effective_samples"][0] == pytest.approx(effective, rel=1e-12)
    assert found["dispersion"][0] == pytest.approx(dispersion, rel=1e-9)
    assert found["kl"][0] == pytest.approx(max(0.0, k - dof / (2 * effective)), rel=1e-9, abs=1e-12)
    assert found["n_bins"][0] == dof + 1


@BOTH
def test_windows_need_two_vectors_or_more_than_there_are_dimensions(covariance: Covariance) -> None:
    d = 3
    reference = GaussianReference.standard(d, covariance=covariance)
    enough = 2 if covariance == "diagonal" else d + 1
    for n in range(6):
        live = moments_of(mixed(50, d)[:n], covariance == "full")
        found = bound_gaussian(*live, reference, Z, THRESHOLDS)
        assert np.isnan(found["plug_in"][0]) == (n < enough)
        np.testing.assert_equal(found["effective_samples"][0], n or np.nan)
        each = dimension_kl(live, reference)[0]
        assert np.isnan(each).all() == (n < 2)
        if n >= 2:
            r = np.var(mixed(50, d)[:n], axis=0)
            a = mixed(50, d)[:n].mean(axis=0)
            np.testing.assert_allclose(each, 0.5 * (r - 1 - np.log(r) + a**2), rtol=1e-9)


def test_an_empty_window_among_others_stays_empty() -> None:
    reference = GaussianReference.from_vectors(mixed(1_000, 2))
    one, none = moments_of(mixed(50, 2), False), zero_moments((1,), 2, False)
    both = Moments(*(np.concatenate(pair) for pair in zip(none, one, strict=True)))
    found = bound_gaussian(*both, reference, Z, THRESHOLDS)
    assert np.isnan(found["effective_samples"]).tolist() == [True, False]
    assert np.isnan(found["plug_in"]).tolist() == [True, False]


# --- references ---------------------------------------------------------------------------------------


def naive_overdispersion(values: FloatArray, n_blocks: int, reference: GaussianReference) -> tuple[float, float]:
    rows, d = values.shape
    bounds = np.arange(PANES + 1) * rows // PANES
    starts = bounds[:: PANES // n_blocks]
    means = rest = variances = 0.0
    for start, end in itertools.pairwise(starts):
        block = values[start:end]
        c, delta, n = np.cov(block.T, bias=True), block.mean(axis=0) - reference.mean, end - start
        if reference.kind == "full":
            inverse = np.linalg.inv(np.linalg.cholesky(reference.covariance))
            excess, a = inverse @ c @ inverse.T - np.eye(d), inverse @ delta
        else:
            excess = np.diag(np.diagonal(c) / reference.covariance - 1)
            a = delta / np.sqrt(reference.covariance)
        means += n * float(a @ a)
        variances += n * 0.5 * float((np.diagonal(excess) ** 2).sum())
        rest += n * 0.5 * float((excess**2).sum())
    degrees = n_blocks - 1
    phi = max(1.0, (means + rest) / (degrees * reference.degrees_of_freedom))
    return phi, max(1.0, max(means, variances) / (degrees * d) / phi)


@BOTH
@pytest.mark.parametrize("kind", ["long tails", "dependent"])
def test_the_spread_of_blocks_is_that_of_the_formulas(covariance: Covariance, kind: str) -> None:
    values = mixed(1_003, 3) if kind == "long tails" else np.repeat(mixed(101, 3), 10, axis=0)
    reference = GaussianReference.from_vectors(values, covariance)
    assert len(reference.phi) == 3
    for level, n_blocks in enumerate((64, 32, 16)):
        phi, ratio = naive_overdispersion(values, n_blocks, reference)
        assert reference.block_samples[level] == pytest.approx(len(values) / n_blocks)
        assert reference.phi[level] == pytest.approx(phi, rel=1e-9)
        assert reference.lambda_ratio[level] == pytest.approx(ratio, rel=1e-9)
    assert (reference.phi > 1).any()
    assert (reference.lambda_ratio > 1).any()


def test_dimensions_that_move_as_one_are_told_by_their_correlations() -> None:
    values = mixed(1_000, 4)
    values[:, 1:] = values[:, :1] + 0.1 * values[:, 1:]
    reference = GaussianReference.from_vectors(values)
    assert reference.correlation is not None
    np.testing.assert_allclose(reference.correlation, np.corrcoef(values.T), rtol=1e-9)
    squares = reference.correlation**2
    assert reference.concentration == pytest.approx(float((squares + squares**2).sum()) / 8, rel=1e-12)
    assert reference.concentration > 3
    assert GaussianReference.standard(4).concentration == 1


def test_correlations_are_those_of_every_so_manyth_row() -> None:
    n = 2 * CORRELATION_ROWS
    values = np.random.default_rng(3).normal(size=(n, 2))
    values[::2, 0] = 7.0  # constant in the rows that are used
    reference = GaussianReference.from_vectors(values)
    assert reference.correlation is not None
    np.testing.assert_allclose(reference.correlation, np.eye(2), atol=1e-12)


@BOTH
def test_a_reference_of_vectors_needs_as_many_rows_as_it_says(covariance: Covariance) -> None:
    values = mixed(500, 4)
    needed = next(n for n in range(1, 500) if _takes(values[:n], covariance))
    with pytest.raises(ReferenceProblem, match=f"has {needed - 1:,} vectors .* needs {needed:,}:"):
        GaussianReference.from_vectors(values[: needed - 1], covariance)
    assert needed == max(PANES, 10 * (degrees_of_freedom(4, covariance) + 1))


def _takes(values: FloatArray, covariance: Covariance) -> bool:
    try:
        GaussianReference.from_vectors(values, covariance)
    except ReferenceProblem:
        return False
    return True


@pytest.mark.parametrize("which", [0, 1, 2])
def test_the_dimension_that_others_determine_is_named(which: int) -> None:
    values = mixed(500, 3)
    values[:, which] = 0.0 if which == 0 else values[:, :which].sum(axis=1)
    covariance = np.cov(values.T, bias=True)
    with pytest.raises(ReferenceProblem, match=rf"dimension {which} \(counted from 0\) is determined|variance"):
        GaussianReference(np.zeros(3), covariance)


def test_one_and_several_constant_dimensions_are_named() -> None:
    for constant, words in (([1], "dimension 1 of"), ([1, 2], r"dimension 1 \(and 1 more\) of")):
        values = mixed(500, 4)
        values[:, constant] = 5.0
        with pytest.raises(ReferenceProblem, match=f"{words} the reference, counted from 0, is constant at 5"):
            GaussianReference.from_vectors(values)


def test_vectors_have_at_least_one_dimension() -> None:
    for shape in ((500,), (500, 0), (5, 5, 5)):
        with pytest.raises(ReferenceProblem, match="with d at least 1"):
            GaussianReference.from_vectors(np.zeros(shape))


# --- constant dimensions ------------------------------------------------------------------------------


def test_a_constant_is_the_middle_of_its_values_and_half_their_range_is_rounding() -> None:
    values = mixed(100, 5)
    eps = np.finfo(np.float64).eps
    values[:, 1] = 3.0
    values[:, 2] = np.where(np.arange(100) % 2, 3.0, 3.0 + 8 * 3.0 * eps)  # half the range is 4 eps of the middle
    values[:, 3] = np.where(np.arange(100) % 2, 3.0, 3.0 + 8 * 4.5 * eps)  # and here 6
    values[:, 4] = np.where(np.arange(100) % 2, 0.0, 1e-160)  # the variance underflows
    found = ConstantDimensions.of(values)
    assert found is not None
    assert found.dimensions.tolist() == [1, 2, 4]
    np.testing.assert_allclose(found.values, [3.0, 3.0 + 4 * 3.0 * eps, 0.5e-160], rtol=1e-15)
    np.testing.assert_allclose(found.tolerances, [3 * TOLERANCE, 3 * TOLERANCE, 1e-160], rtol=1e-9)
    assert found.varying.tolist() == [0, 3]


def json_of(dimensions: object, values: object = (1.0, 2.0), tolerances: object = (0.1, 0.2)) -> dict[str, object]:
    return {"dimensions": dimensions, "values": values, "tolerances": tolerances}


@pytest.mark.parametrize("dimensions", [[0, 1], [0, 3], [2, 3], [1, 2]])
def test_constant_dimensions_are_read_from_json(dimensions: list[int]) -> None:
    found = ConstantDimensions.from_json(4, json_of(dimensions))
    assert found.to_json() == json_of(dimensions, [1.0, 2.0], [0.1, 0.2])


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (json_of([1, 1]), "expected some of the dimensions 0 to 3"),
        (json_of([2, 1]), "expected some of the dimensions 0 to 3"),
        (json_of([-1, 1]), "expected some of the dimensions 0 to 3"),
        (json_of([1, 4]), "expected some of the dimensions 0 to 3"),
        (json_of([0, 1, 2, 3], [1.0] * 4, [0.1] * 4), "expected some of the dimensions 0 to 3"),
        (json_of([1]), "expected as many values and tolerances"),
        (json_of([1, 2], [1.0]), "expected as many values and tolerances"),
        (json_of([1, 2], (1.0, 2.0), [0.1]), "expected as many values and tolerances"),
        (json_of([[1, 2]], [[1.0, 2.0]], [[0.1, 0.2]]), "expected as many values and tolerances"),
    ],
)
def test_constant_dimensions_that_cannot_be_are_refused(item: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ConstantDimensions.from_json(4, item)


def naive_kl(p: float, q: float) -> float:
    """Of two shares; 0 where nothing is there, as that of the constants is."""
    if p == 0:
        return 0.0
    return p * math.log(p / q) + ((1 - p) * math.log((1 - p) / (1 - q)) if p < 1 else 0.0)


def naive_share_bound(others: float, n: float, m: float, alpha: float) -> float:
    p, q = float(beta.ppf(alpha / 2, others, n - others + 1)), 1 - (alpha / 2) ** (1 / m)
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)) if p > q else 0.0


@pytest.mark.parametrize("phi", [1.0, 2.5])
def test_bounds_of_constants_are_those_of_the_one_that_moved_most_corrected_for_all(phi: float) -> None:
    constants = ConstantDimensions(4, np.array([1, 3]), np.zeros(2), np.zeros(2), np.zeros((2, 4)))
    shares = np.array([[0.0, 0.0], [0.1, 0.3], [0.0, 0.001], [0.2, 0.0], [1.0, 0.5]])
    mean = np.zeros((5, 4))
    mean[:, [1, 3]] = shares
    live = Moments(np.full(5, 1000), mean, np.zeros((5, 4)))
    spread = Spread(np.array([10.0, 4_000.0]), np.array([phi, 3.0]), np.array([1.5, 1.5]))
    found = constants.bound(live, 900.0, spread, 3.0, np.array([0.01, 0.1]))
    n, m, alpha = 1000 / (phi if 1000 < 200 else 3.0), 900 / 3.0, float(norm.sf(3.0))
    for i, share in enumerate(shares.max(axis=1).tolist()):
        others = share * n
        lower = 0.0 if others == 0 else naive_share_bound(others, n, m, alpha / 2)
        assert found["lower"][i] == pytest.approx(lower, rel=1e-9)
        for name, threshold in (("log10_p_warning", 0.01), ("log10_p_critical", 0.1)):
            log10_p = found[name][i]
            assert log10_p <= 0
            if others == 0 or naive_share_bound(others, n, m, 1.0) <= threshold:
                assert log10_p == 0
            elif -200 < log10_p < -0.5:  # the smallest level, of one of two, at which the bound is above the threshold
                level = 10 ** (log10_p - math.log10(2))
                assert naive_share_bound(others, n, m, level * 1.001) > threshold
                assert naive_share_bound(others, n, m, level * 0.999) < threshold
    q = 0.5 / 901
    kl = [max(naive_kl(p, q) for p in pair) for pair in shares.tolist()]
    np.testing.assert_allclose(found["kl"], kl, rtol=1e-9)


def test_one_other_value_has_a_bound() -> None:
    assert share_bound(1.0, 1_000.0, 1e9, 0.01) == pytest.approx(naive_share_bound(1.0, 1_000.0, 1e9, 0.01), rel=1e-6)
    assert share_bound(1.0, 1_000.0, 1e9, 0.01) > 0
    assert share_bound(0.0, 1_000.0, 1e9, 0.01) == 0


def test_what_lies_in_one_cell_is_constant() -> None:
    assert constant_problem(("a", "b"), np.array([3, 4])) is None
    assert constant_problem(("a", "b"), np.array([0, 0])) is None
    found = constant_problem(("a", "b"), np.array([0, 4]))
    assert found is not None
    assert "all of it lies in 'b'" in found
