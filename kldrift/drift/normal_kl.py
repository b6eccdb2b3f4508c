"""KL between normal distributions in closed form, in nats (README, section 3.4).

The live normal is p = N(m0, S0), the reference q = N(m1, S1); covariances have the divisor n (maximum likelihood). In
the coordinates in which q is N(0, I) the live mean is a and the live covariance M; with a diagonal, r = s0^2 / s1^2.
"""

import numpy as np

from kldrift.errors import ReferenceProblem
from kldrift.records.types import FloatArray

#: The share of a dimension's variance that other dimensions leave unexplained; anything below this is rounding.
_SINGULAR = 1e-13


def marginal_kl(mean0: FloatArray, var0: FloatArray, mean1: FloatArray, var1: FloatArray) -> FloatArray:
    """Return the KL of each dimension by itself: 1/2 (r - 1 - ln r + (m0 - m1)^2 / s1^2); infinite where s0 is 0."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        excess = (var0 - var1) / var1  # r - 1, to full precision where they differ little
        own = np.maximum(excess - np.log1p(excess), 0.0)  # below 0 by rounding only
        return np.asarray(0.5 * (own + (mean0 - mean1) ** 2 / var1))


def gaussian_kl_diagonal(mean0: FloatArray, var0: FloatArray, mean1: FloatArray, var1: FloatArray) -> FloatArray:
    """Return D_KL(N(m0, diag s0^2) || N(m1, diag s1^2)): the sum of `marginal_kl` over the dimensions.

    Parameters
    ----------
    mean0, var0, mean1, var1 : (..., d), broadcast against each other; where a live variance is 0 the KL is infinite

    Raises
    ------
    ReferenceProblem : a reference variance is not above 0
    """
    mean0, var0, mean1, var1 = (np.asarray(array, dtype=np.float64) for array in (mean0, var0, mean1, var1))
    require_variances(var1)
    return np.asarray(marginal_kl(mean0, var0, mean1, var1).sum(axis=-1))


def kl_from_standard_normal(mean: FloatArray, var: FloatArray) -> FloatArray:
    """Return D_KL(N(m, diag s^2) || N(0, I)) = 1/2 sum (m^2 + s^2 - 1 - ln s^2); (..., d) to (...)."""
    return gaussian_kl_diagonal(mean, var, np.zeros(1), np.ones(1))


def gaussian_kl(mean0: FloatArray, cov0: FloatArray, mean1: FloatArray, cov1: FloatArray) -> FloatArray:
    """Return D_KL(N(m0, S0) || N(m1, S1)) = 1/2 [tr(S1^-1 S0) + D' S1^-1 D - d + ln |S1| / |S0|], D = m0 - m1.

    With Cholesky factors S = L L', A = L1^-1 L0 and a = L1^-1 D it is
    1/2 [sum (A_jj^2 - 1 - ln A_jj^2) + sum of the other A_ij^2 + a'a].

    Parameters
    ----------
    mean0, mean1 : (..., d)
    cov0, cov1 : (..., d, d), symmetric; where the live one is singular the KL is infinite

    Raises
    ------
    ReferenceProblem : a reference covariance is not positive definite
    """
    mean0, cov0, mean1, cov1 = (np.asarray(array, dtype=np.float64) for array in (mean0, cov0, mean1, cov1))
    lower1 = cholesky(cov1)
    if np.isnan(lower1).any():
        raise ReferenceProblem(
            "the covariance of the reference: expected a positive definite matrix, got one that is singular or not"
            " finite; leave out the dimensions that others determine, or use a diagonal covariance"
        )
    finite = np.isfinite(cov0).all(axis=(-2, -1)) & np.isfinite(mean0).all(axis=-1)
    kl = whitened_kl(*whiten(mean0 - mean1, cholesky(cov0), lower1))
    return np.asarray(np.where(np.isnan(kl) & finite, np.inf, kl))


def cholesky(covariance: FloatArray) -> FloatArray:
    """Return the lower factors (..., d, d); NaN where a matrix is not positive definite, or is so only by rounding."""
    out = np.full(covariance.shape, np.nan)
    for i in np.ndindex(covariance.shape[:-2]):
        if np.isfinite(covariance[i]).all():
            try:
                lower = np.linalg.cholesky(covariance[i]).astype(np.float64, copy=False)
            except np.linalg.LinAlgError:
                continue
            # what the dimensions before each one leave of its variance
            if (np.diagonal(lower) ** 2 > _SINGULAR * len(lower) * np.diagonal(covariance[i])).all():
                out[i] = lower
    return out


def whiten(difference: FloatArray, lower0: FloatArray, lower1: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the live mean a (..., d) and the root A (..., d, d) of the live covariance M = A A', both whitened."""
    with np.errstate(over="ignore", invalid="ignore"):
        a = np.linalg.solve(lower1, difference[..., np.newaxis])[..., 0]
        root = np.tril(np.linalg.solve(lower1, lower0))
    return np.asarray(a, dtype=np.float64), np.asarray(root, dtype=np.float64)


def whitened_kl(a: FloatArray, root: FloatArray) -> FloatArray:
    """Return the KL from N(0, I); `root` is A."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        variances = np.diagonal(root, axis1=-2, axis2=-1) ** 2
        rest = (np.tril(root, -1) ** 2).sum(axis=(-2, -1))
        own = np.maximum(variances - 1 - np.log(variances), 0.0)  # below 0 by rounding only
        return np.asarray(0.5 * (own.sum(axis=-1) + rest + (a * a).sum(axis=-1)))


def require_variances(variances: FloatArray) -> None:
    """Raise `ReferenceProblem` where a variance is not a finite number above 0."""
    wrong = ~((variances > 0) & (variances < np.inf))
    if wrong.any():
        dimension = int(np.argwhere(wrong)[0][-1])
        raise ReferenceProblem(
            f"dimension {dimension} (counted from 0) of the reference: expected a variance above 0 and finite, got"
            f" {variances[wrong][0]:g}; use a reference in which it varies, or leave the dimension out"
        )
