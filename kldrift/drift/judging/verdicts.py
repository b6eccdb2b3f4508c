"""Whether a divergence exceeds the tolerance by more than chance explains (README, section 4.8)."""

import numpy as np
import numpy.typing as npt

from kldrift.records.types import Correction, FloatArray


def feature_log10_p_values(log10_p: FloatArray) -> FloatArray:
    """Return one p-value per feature from those of its J windows, by Bonferroni: p = min(1, J min p).

    Parameters
    ----------
    log10_p : (J, ...) float64, NaN where a window is undecided; these count in J too, as another tick may decide them

    Returns
    -------
    log10_p : (...) float64, NaN where every window is undecided
    """
    least: FloatArray = np.fmin.reduce(log10_p, axis=0)
    return np.asarray(np.minimum(0.0, least + np.log10(len(log10_p))))


def discoveries(log10_p: FloatArray, alpha: float, correction: Correction) -> npt.NDArray[np.bool_]:
    """Return which of a family of hypotheses to reject at a false discovery rate of at most `alpha`.

    With the p-values sorted in ascending order, the first k are rejected for the largest k with p_k <= k alpha / m.
    Benjamini-Hochberg holds for independent and for positively dependent p-values; Benjamini-Yekutieli divides alpha by
    1 + 1/2 + ... + 1/m and holds for any.

    Parameters
    ----------
    log10_p : (m,) float64; NaN stands for no hypothesis: it is neither counted nor rejected

    References
    ----------
    Benjamini & Hochberg (1995); Benjamini & Yekutieli (2001).
    """
    rejected = np.zeros(log10_p.shape, dtype=np.bool_)
    decided = np.flatnonzero(~np.isnan(log10_p))
    if decided.size == 0:
        return rejected
    order = decided[np.argsort(log10_p[decided], kind="stable")]
    rank = np.arange(1, order.size + 1)
    if correction == "by":
        alpha /= float(np.sum(1.0 / rank))
    passed = np.flatnonzero(log10_p[order] <= np.log10(alpha * rank / order.size))
    if passed.size:
        rejected[order[: passed[-1] + 1]] = True
    return rejected


def verdicts(log10_p: FloatArray, alpha: float, correction: Correction) -> FloatArray:
    """Return the verdict on each feature at each severity: 1 drift, 0 none, NaN undecided.

    Whatever is critical is also a warning, because no feature's p-value there is larger.

    Parameters
    ----------
    log10_p : (J, F, 2) float64, p-values of "the divergence is within the tolerance", warning and critical

    Returns
    -------
    detected : (F, 2) float64
    """
    features = feature_log10_p_values(log10_p)
    detected = np.stack([discoveries(column, alpha, correction) for column in features.T], axis=1).astype(np.float64)
    detected[np.isnan(features)] = np.nan
    return detected
