"""Whether the order of a reference's rows is that of time, or its stretches are different data (README, 4.2)."""

import math

import numpy as np

from kldrift.drift.references.overdispersion import MIN_BLOCKS
from kldrift.records.types import FloatArray, IntArray

#: Of a stationary stream, stretches four times as long differ a quarter as much, or by up to half where its memory is
#: as long as the shorter ones. Where they differ by more, time does not even out what happens in it.
LASTING = 0.5

#: A difference counts if independent rows would show as much only this many standard deviations from what they do.
CERTAIN = 4.0


def lasting_difference(panes: IntArray) -> float:
    """Return by how much long stretches of a reference differ, in nats; 0 where a stationary stream may explain it.

    With P_k the shares of stretch k, w_k its part of all m rows, and Q the shares of all,
    D(K) = sum w_k D(P_k || Q) - (K - 1)(B - 1) / 2m for K stretches and the B cells that hold something.
    D(16) is returned where it is above half of D(64), as for rows that are sorted, joined from few parts, or drift.

    Parameters
    ----------
    panes : (K, B) int64, consecutive; fewer than 64 are too few to tell
    """
    if len(panes) < 4 * MIN_BLOCKS or len(panes) % 4:
        return 0.0
    blocks = panes.astype(np.float64)
    short, _ = _difference(blocks)
    long, chance = _difference(blocks.reshape(-1, 4, blocks.shape[1]).sum(axis=1))
    return long if long > CERTAIN * chance and long > LASTING * short else 0.0


def _difference(blocks: FloatArray) -> tuple[float, float]:
    """Return D(K) of (K, B) blocks, and its standard deviation for independent rows."""
    n = blocks.sum(axis=1)
    blocks, n = blocks[n > 0], n[n > 0]
    totals = blocks.sum(axis=0)
    blocks, totals = blocks[:, totals > 0], totals[totals > 0]
    m = float(totals.sum())
    degrees = (len(n) - 1) * (len(totals) - 1)
    if degrees <= 0:
        return 0.0, math.inf
    shares = blocks / n[:, np.newaxis]
    ratios = np.log(np.where(shares > 0, shares, 1.0) / (totals / m))
    information = float((n @ (shares * ratios).sum(axis=1)) / m)
    return information - degrees / (2 * m), math.sqrt(2 * degrees) / (2 * m)
