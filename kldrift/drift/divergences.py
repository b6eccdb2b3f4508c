"""Probabilities from counts, and the divergences between two distributions, as definitions.

The daemon's hot path is `kernels.divergence.compare_counts`; what is here serves references, the API and whoever wants
to check a number.
"""

import numpy as np

from kldrift.errors import KldriftError
from kldrift.kernels.divergence import compare_probabilities
from kldrift.records import DIVERGENCES, FloatArray, IntArray, Smoothing

#: A distribution that is known exactly is smoothed as if it had been read off so many samples, so that a value it calls
#: impossible costs much, but not infinitely much.
KNOWN_SAMPLE = 1_000_000


def smooth_counts(counts: IntArray, smoothing: Smoothing) -> FloatArray:
    """Probabilities of a reference from its counts: q = (y + a) / (m + a B), a = pseudocount + epsilon m.

    Parameters
    ----------
    counts : (B,) int64, one feature
    """
    return _smooth(counts.astype(np.float64), float(counts.sum()), smoothing)


def smooth_probabilities(probabilities: FloatArray, smoothing: Smoothing, sample: float = KNOWN_SAMPLE) -> FloatArray:
    """Probabilities of a reference that is given as such, smoothed like the shares of a sample of this size.

    Parameters
    ----------
    probabilities : (B,) float64, summing to 1
    sample : finite; of a fitted family the values it was fitted to
    """
    if smoothing.pseudocount == 0 and smoothing.epsilon == 0:
        return probabilities.copy()
    return _smooth(probabilities * sample, sample, smoothing)


def _smooth(counts: FloatArray, total: float, smoothing: Smoothing) -> FloatArray:
    added = smoothing.pseudocount + smoothing.epsilon * total
    return (counts + added) / (total + added * counts.size)


def divergences(p: FloatArray, q: FloatArray) -> dict[str, float]:
    """Every divergence of p from q, by the names of `records.DIVERGENCES`; nats.

    Parameters
    ----------
    p, q : (B,) float64, each non-negative and summing to 1

    Raises
    ------
    KldriftError
        p and q are not two distributions over the same cells
    """
    for name, vector in (("p", p), ("q", q)):
        if vector.ndim != 1 or vector.size == 0 or not np.all(vector >= 0) or abs(vector.sum() - 1) > 1e-6:
            raise KldriftError(f"{name}: expected probabilities >= 0 that sum to 1, got {vector!r}; divide by the sum")
    if p.size != q.size:
        raise KldriftError(f"expected p and q over the same cells, got {p.size} and {q.size}")
    return dict(zip(DIVERGENCES, compare_probabilities(p, q).tolist(), strict=True))
