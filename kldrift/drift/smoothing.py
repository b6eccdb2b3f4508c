"""Probabilities from the counts of a reference: pseudocounts keep every divergence finite."""

import numpy as np

from kldrift.records.specs import Smoothing
from kldrift.records.types import FloatArray, IntArray

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
