"""Probabilities from the counts of a reference: pseudocounts keep every divergence finite (README, section 1)."""

import numpy as np

from kldrift.records.specs import Smoothing
from kldrift.records.types import FloatArray, IntArray

#: Pseudo sample size used to smooth a distribution that is known exactly, so that a value it calls impossible costs
#: much but not infinitely much.
KNOWN_SAMPLE = 1_000_000


def smooth_counts(counts: IntArray, smoothing: Smoothing) -> FloatArray:
    """Return the probabilities of a reference from its counts: q = (y + a) / (m + a B), a = pseudocount + epsilon m.

    Parameters
    ----------
    counts : (B,) int64, one feature
    """
    return _smooth(counts.astype(np.float64), float(counts.sum()), smoothing)


def smooth_probabilities(probabilities: FloatArray, smoothing: Smoothing, sample: float = KNOWN_SAMPLE) -> FloatArray:
    """Return the smoothed probabilities of a reference given as probabilities, as of a sample of this size.

    Parameters
    ----------
    probabilities : (B,) float64, summing to 1
    sample : finite; for a fitted family, the number of values it was fitted to
    """
    if smoothing.pseudocount == 0 and smoothing.epsilon == 0:
        return probabilities.copy()
    return _smooth(probabilities * sample, sample, smoothing)


def _smooth(counts: FloatArray, total: float, smoothing: Smoothing) -> FloatArray:
    added = smoothing.pseudocount + smoothing.epsilon * total
    return (counts + added) / (total + added * counts.size)
