"""Moments of a vector feature as panes and windows hold them, in groups of rows (segments)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kldrift.kernels.moments import Moments, merge_moments, zero_moments


@dataclass(frozen=True, slots=True)
class GroupMoments:
    """A `Tally` of moments.

    Parameters
    ----------
    n_groups : S, groups of rows (segments) that are kept apart
    dimensions : d
    full : whether to keep the products of deviations as well as their squares
    """

    n_groups: int
    dimensions: int
    full: bool = False

    def zeros(self) -> Moments:
        """Return S groups of no samples."""
        return zero_moments((self.n_groups,), self.dimensions, self.full)

    def add(self, into: Moments, other: Moments) -> None:
        """Merge the moments of each group."""
        merge_moments(into, other)

    def to_bytes(self, value: Moments) -> bytes:
        """Return the counts, means and squares (or products), one after another."""
        return b"".join(array.tobytes() for array in value)

    def from_bytes(self, stored: bytes) -> Moments:
        """Return the moments that `to_bytes` stored."""
        moments = self.zeros()
        expected = sum(array.nbytes for array in moments)
        if len(stored) != expected:
            raise ValueError(f"expected {expected} bytes of moments, got {len(stored)}")
        start = 0
        for array in moments:
            array[...] = np.frombuffer(stored, array.dtype, array.size, start).reshape(array.shape)
            start += array.nbytes
        return moments


def stacked(windows: Sequence[Moments]) -> Moments:
    """Combine the moments (S, ...) of W windows into arrays (W, S, ...)."""
    return Moments(*(np.stack(arrays) for arrays in zip(*windows, strict=True)))


def merged_groups(windows: Moments) -> Moments:
    """Merge all groups: moments (W, ...) from (W, S, ...)."""
    whole = group(windows, 0).copy()
    for slot in range(1, windows.n.shape[1]):
        merge_moments(whole, group(windows, slot))
    return whole


def group(windows: Moments, slot: int) -> Moments:
    """Return the moments (W, ...) of one group out of (W, S, ...)."""
    return Moments(windows.n[:, slot], windows.mean[:, slot], windows.second[:, slot])
