"""What a divergence consists of (README, section 5).

By cell; by missing, invalid and new values and the shape of the rest; by the mix of segments and what happens within
them. Every part is itself a divergence, hence >= 0, and the parts add up to the whole.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kldrift.errors import KldriftError
from kldrift.records.kinds import INVALID, KINDS, MISSING, STRUCTURAL_CELLS, Kind
from kldrift.records.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Explanation:
    """The parts of the KL divergence of one live histogram from its reference, in nats.

    All NaN where the window is empty or there is nothing to compare it with.

    Parameters
    ----------
    kl : missing + invalid + new + shape; the sum of the contributions
    missing : how much the share of missing values has changed
    invalid : how much the share of values of the wrong type has changed, among those that are not missing
    new : how much the shares of values without a bin of their own have changed, among the valid ones: unseen and
        other ones of a categorical feature, those outside the bins of a numeric one
    shape : how much the distribution over the bins has changed, among the values that have one
    contributions : (B,) float64, that of every cell
    shares : (B,) float64, the contributions as shares of `kl`; 0 where nothing diverges
    """

    kl: float
    missing: float
    invalid: float
    new: float
    shape: float
    contributions: FloatArray
    shares: FloatArray


def contributions(p: FloatArray, q: FloatArray) -> FloatArray:
    """Return what each cell adds to the divergence of p from q: p ln(p / q) - p + q.

    The term p ln(p / q) may be negative; with q - p, which sums to 0, it never is.

    Parameters
    ----------
    p, q : (..., B) float64, non-negative, summing to 1

    Returns
    -------
    contributions : (..., B) float64, nats, >= 0, summing to KL(p || q); infinite where q = 0 < p
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = p * (np.log(p) - np.log(q)) - p + q
    return np.maximum(np.where(p > 0, terms, q), 0.0)


def explain(counts: IntArray, q: FloatArray, kind: Kind) -> Explanation:
    """Break the divergence of one series into parts, missing values first:

    KL = KL(missing) + (1 - p_missing) (KL(invalid) + (1 - p_invalid) (KL(new) + (1 - p_new) KL(shape)))

    Each divergence is conditional on what the one before it leaves: missing or present; among those present, of the
    wrong type or not; among the others, with a bin or in one of the cells without; among those with a bin, the bins.

    Parameters
    ----------
    counts : (B,) int64, the live counts of a numeric or categorical feature, cells in the order of `FeatureInfo.cells`
    q : (B,) float64, the probabilities they are compared with; NaN in cells that are not, which contribute nothing

    Raises
    ------
    KldriftError
        counts and q do not have the same cells, or are those of a vector, which are not a histogram

    References
    ----------
    Cover & Thomas (2006), section 2.5 (chain rule).
    """
    if not KINDS[kind].histogram:
        raise KldriftError(f"expected a numeric or categorical feature, got a {kind}; only counts have contributions")
    if counts.shape != q.shape or counts.ndim != 1:
        raise KldriftError(f"expected counts and probabilities of the same cells, got {counts.shape} and {q.shape}")
    compared = np.isfinite(q)
    counts, q = np.where(compared, counts, 0), np.where(compared, q, 0.0)
    n = int(counts.sum())
    if n == 0 or not compared.any():
        nothing = np.full(counts.size, np.nan)
        return Explanation(np.nan, np.nan, np.nan, np.nan, np.nan, nothing, nothing)
    p = counts / n
    cells = contributions(p, q)
    present = np.ones(counts.size, dtype=np.bool_)
    present[MISSING] = False
    valid = present.copy()
    valid[INVALID] = False
    binned = np.arange(counts.size) < counts.size - STRUCTURAL_CELLS
    return Explanation(
        kl=float(cells.sum()),
        missing=_step(p, q, np.ones_like(present), present),
        invalid=_step(p, q, present, valid),
        new=_step(p, q, valid, binned),
        shape=_step(p, q, binned, np.zeros_like(present)),
        contributions=cells,
        shares=_shares(cells),
    )


def _step(p: FloatArray, q: FloatArray, among: npt.NDArray[np.bool_], kept: npt.NDArray[np.bool_]) -> float:
    """Return p(among) KL of the cells `among`, conditional on them; those `kept` for the next step count as one."""
    apart = among & ~kept
    p_cells, q_cells = (np.append(x[apart], x[kept].sum()) for x in (p, q))
    p_among, q_among = p_cells.sum(), q_cells.sum()
    # Without p there is nothing to explain; without q the step before is infinite, and this one has no reference.
    if p_among == 0 or q_among == 0:
        return 0.0
    return float(p_among * contributions(p_cells / p_among, q_cells / q_among).sum())


def _shares(cells: FloatArray) -> FloatArray:
    infinite = np.isinf(cells)
    if infinite.any():  # these share the whole evenly
        return infinite / np.count_nonzero(infinite)
    total = cells.sum()
    return cells / total if total > 0 else np.zeros_like(cells)


def segment_mix(rows: IntArray, q: FloatArray) -> FloatArray:
    """Return the KL of the live shares of the segments from those of the reference: how much the mix has changed.

    Together with `segment_within` it makes up the divergence of segment and value together:
    KL(joint) = KL(mix) + sum_s p_s KL(P_s || Q_s).

    Parameters
    ----------
    rows : (W, S) int64, live
    q : (S,) float64, shares of the segments in the reference

    Returns
    -------
    mix : (W,) float64, nats; NaN where the window is empty
    """
    totals = rows.sum(axis=1, keepdims=True)
    p = rows / np.maximum(totals, 1)
    mix: FloatArray = np.where(totals[:, 0] > 0, contributions(p, q).sum(axis=1), np.nan)
    return mix


def segment_within(kl: FloatArray, samples: IntArray) -> FloatArray:
    """Return how much the values have changed within segments: sum_s p_s KL(P_s || Q_s), p_s the live shares.

    Parameters
    ----------
    kl : (W, S, F) float64, that of each segment from its own reference; read only where there are samples
    samples : (W, S, F) int64

    Returns
    -------
    within : (W, F) float64, nats; NaN where no segment has samples
    """
    totals = samples.sum(axis=1)
    shares = samples / np.maximum(totals, 1)[:, np.newaxis]
    weighted = np.multiply(shares, kl, out=np.zeros(kl.shape), where=samples > 0)
    within: FloatArray = np.where(totals > 0, weighted.sum(axis=1), np.nan)
    return within
