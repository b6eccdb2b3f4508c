"""The divergences between two distributions, as definitions.

The daemon's hot path is `kernels.divergence.compare_counts`; this module is for anyone who wants to check a number.
"""

import numpy as np

from kldrift.errors import KldriftError
from kldrift.kernels.divergence import compare_probabilities
from kldrift.records.divergences import DIVERGENCES
from kldrift.records.types import FloatArray


def divergences(p: FloatArray, q: FloatArray) -> dict[str, float]:
    """Return every divergence of p from q, by the names of `records.divergences`; nats.

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
