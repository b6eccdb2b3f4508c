"""Bounds on the KL of live moments from the normal distribution of a reference (README, section 4.5).

`normal_kl` has the closed forms.
"""

import numpy as np

from kldrift.drift.kinds.gaussian import GaussianReference
from kldrift.drift.normal_kl import (
    cholesky,
    marginal_kl,
    whiten,
    whitened_kl,
)
from kldrift.kernels.bounds import BOUNDS, bound_statistics
from kldrift.kernels.moments import Moments
from kldrift.records.types import FloatArray, IntArray

#: A divergence below this is nothing but rounding.
_ROUNDING = 1e-14


def bound_gaussian(
    n: IntArray,
    mean: FloatArray,
    second: FloatArray,
    reference: GaussianReference,
    z_quantile: float,
    thresholds: FloatArray,
) -> dict[str, FloatArray]:
    """Return the KL of live moments from a reference, and confidence bounds on it, in nats.

    With K the closed form, N0 = 1 / (1/n + 1/m), N = 1 / (phi/n + phi_max/m), T = 2 N K and
    c = lambda_ratio max(1, concentration, (V/n + W/m) N0 / (2 K)), T/c is approximately noncentral chi-squared with
    dof/c degrees of freedom and noncentrality 2 N D/c, as in `kernels.bounds`. V is the variance of ln p/q under the
    live normal distribution, and V/n + W/m that of K by the delta method:

    full covariance: V = 1/2 |M - I|^2 + a'M a, W = a'a + 1/2 |I - M - a a'|^2
    independent dimensions: V = sum 1/2 (r - 1)^2 + r a^2, W = sum a^2 + 1/2 (1 - r - a^2)^2
    dimensions with correlations R: V = 1/2 x'R2 x + y'R y, W = a'R a + 1/2 g'R2 g, R2 = R squared element by element,
    x = r - 1, y = a sqrt(r), g = 1 - r - a^2

    Tails longer than those of a normal distribution are covered as far as the reference had them.

    Parameters
    ----------
    n, mean, second : `Moments` of any groups, (...), (..., d), (..., d) or (..., d, d) like the reference
    z_quantile, thresholds : see `kernels.bounds.bound_counts`; thresholds (2,)

    Returns
    -------
    arrays (...) by the names of `BOUNDS` (`n_bins` is dof + 1), ``plug_in``, which is K, and ``kl``, which is
    max(0, K - dof / (2 N)). NaN where there are too few samples for a covariance: fewer than 2, or at most d for a full
    one. Infinite where the live covariance is singular or the moments overflowed.
    """
    samples = np.asarray(n, dtype=np.float64)
    d = reference.dimensions
    dof = float(reference.degrees_of_freedom)
    decided = samples >= (2 if reference.lower is None else d + 1)
    with np.errstate(all="ignore"):
        covariance = second / samples.reshape(*samples.shape, *[1] * reference.covariance.ndim)
        kl, live_part, reference_part = _compare(mean - reference.mean, covariance, reference)
        kl = np.where(np.isnan(kl), np.inf, kl)
        independent = 1 / (1 / samples + 1 / reference.rows)
        phi, lambda_ratio = reference.spread.at(samples)
        effective = np.where(samples > 0, 1 / (phi / samples + reference.phi.max() / reference.rows), 0.0)
        matched = (live_part / samples + reference_part / reference.rows) * independent / (2 * kl)
        least = reference.concentration
        dispersion = lambda_ratio * np.where(kl > _ROUNDING, np.maximum(matched, least), least)
        statistic = np.where(np.isfinite(dispersion), 2 * effective * kl, np.inf)
        dispersion = np.where(np.isfinite(dispersion), dispersion, 1.0)
        corrected = np.maximum(0.0, kl - dof / (2 * effective))
    out = np.empty((samples.size, len(BOUNDS)))
    bound_statistics(
        np.where(decided, statistic, np.nan).ravel(),
        np.full(samples.size, dof),
        dispersion.ravel(),
        effective.ravel(),
        z_quantile,
        np.ascontiguousarray(thresholds, dtype=np.float64),
        out,
    )
    found = {name: out[:, i].reshape(samples.shape) for i, name in enumerate(BOUNDS)}
    found["plug_in"] = np.where(decided, kl, np.nan)
    found["kl"] = np.where(decided, corrected, np.nan)
    return found


def _compare(
    difference: FloatArray, covariance: FloatArray, reference: GaussianReference
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return K, V and W of `bound_gaussian`, (...) each; NaN where the live covariance is singular."""
    if reference.lower is not None:
        a, root = whiten(difference, cholesky(covariance), reference.lower)
        excess = root @ np.swapaxes(root, -1, -2) - np.eye(reference.dimensions)  # M - I
        square, length = (excess**2).sum(axis=(-2, -1)), (a * a).sum(axis=-1)
        along = (a * (excess @ a[..., np.newaxis])[..., 0]).sum(axis=-1)
        # a'M a = a'(M - I)a + a'a, |I - M - a a'|^2 = |M - I|^2 + 2 a'(M - I)a + (a'a)^2
        return (
            whitened_kl(a, root),
            0.5 * square + along + length,
            length + 0.5 * (square + 2 * along + length**2),
        )
    a = difference / np.sqrt(reference.covariance)
    excess = (covariance - reference.covariance) / reference.covariance
    kl = marginal_kl(difference, covariance, np.zeros(1), reference.covariance).sum(axis=-1)
    pulled = a * np.sqrt(1 + excess)
    gradient = excess + a * a
    if reference.correlation is None:
        return kl, (0.5 * excess**2 + pulled**2).sum(axis=-1), (a**2 + 0.5 * gradient**2).sum(axis=-1)
    plain, squared = reference.correlation, reference.correlation**2
    return (
        kl,
        0.5 * _quadratic(excess, squared) + _quadratic(pulled, plain),
        _quadratic(a, plain) + 0.5 * _quadratic(gradient, squared),
    )


def _quadratic(x: FloatArray, matrix: FloatArray) -> FloatArray:
    """Return x' matrix x over the last axis, for a positive semidefinite matrix."""
    return np.asarray(np.maximum((x @ matrix * x).sum(axis=-1), 0.0))


def dimension_kl(moments: Moments, reference: GaussianReference) -> FloatArray:
    """Return the plug-in KL of each dimension by itself, (..., d), nats; NaN where there are fewer than 2 samples.

    Each has a null bias of 1/N. They add up to the KL where the covariance is diagonal.
    """
    n = moments.n[..., np.newaxis]
    full = reference.kind == "full"
    second = np.diagonal(moments.second, axis1=-2, axis2=-1) if full else moments.second
    variances = np.diagonal(reference.covariance) if full else reference.covariance
    kl = marginal_kl(moments.mean, second / np.maximum(n, 1), reference.mean, variances)
    return np.where(n > 1, np.where(np.isnan(kl), np.inf, kl), np.nan)
