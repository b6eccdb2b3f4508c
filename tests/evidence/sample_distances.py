"""Kolmogorov-Smirnov and Wasserstein distances of sliding windows from a reference, on the samples themselves.

scipy's take a sort a window; here a window that moves on by a pane is merged, not sorted again. For continuous values:
no value is in two samples. ``test_quick`` compares both with scipy's.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numba import njit

from kldrift.records.types import FloatArray, IntArray

Array = TypeVar("Array", FloatArray, IntArray)


@njit(inline="always")
def _slide(window, leaving, entering, moved):  # type: ignore[no-untyped-def]
    """`moved` is `window` without `leaving` and with `entering`, all sorted."""
    i, j, k = 0, 0, 0
    for place in range(moved.size):
        while i < window.size and j < leaving.size and window[i] == leaving[j]:
            i += 1
            j += 1
        if k == entering.size or (i < window.size and window[i] <= entering[k]):
            moved[place] = window[i]
            i += 1
        else:
            moved[place] = entering[k]
            k += 1


@njit(nogil=True)
def _kolmogorov_smirnov(ranks, window, m, length, first, out):  # type: ignore[no-untyped-def]
    n = window.size
    moved = window.copy()
    for t in range(first, ranks.shape[0]):
        _slide(window, ranks[t - length], ranks[t], moved)
        window, moved = moved, window
        distance = 0.0
        for i in range(n):
            below = window[i] / m
            distance = max(distance, abs(below - i / n), abs(below - (i + 1) / n))
        out[t - first] = distance


@njit(nogil=True)
def _wasserstein(values, window, reference, length, first, out):  # type: ignore[no-untyped-def]
    n = window.size
    repeat = reference.size // n
    moved = window.copy()
    for t in range(first, values.shape[0]):
        _slide(window, values[t - length], values[t], moved)
        window, moved = moved, window
        total = 0.0
        for i in range(n):
            x = window[i]
            for j in range(i * repeat, (i + 1) * repeat):
                total += abs(x - reference[j])
        out[t - first] = total / reference.size


def _each(run: Callable[[int], None], n_streams: int) -> None:
    """One stream after the other, on two threads."""
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(run, range(n_streams)))


def _first_windows(panes: Array, length: int, first: int) -> Array:
    """The window before the first that is judged, sorted, (R, samples)."""
    return np.sort(panes[:, first - length : first].reshape(len(panes), -1), axis=1)


def ranks_in(reference: FloatArray, panes: FloatArray) -> IntArray:
    """How many of the (R, m) reference lie below each sample of (R, n_panes, pane samples), sorted in each pane."""
    flat = panes.reshape(len(panes), -1)
    ranks = [np.searchsorted(np.sort(own), live) for own, live in zip(reference, flat, strict=True)]
    return np.asarray(np.sort(np.stack(ranks).reshape(panes.shape), axis=2))


def kolmogorov_smirnov(ranks: IntArray, m: int, length: int, first: int) -> FloatArray:
    """sup |F_live - F_reference| of the last `length` panes at each pane from `first` on, (R, n_panes - first).

    Parameters
    ----------
    ranks : (R, n_panes, pane samples) of `ranks_in` a reference of `m` samples
    """
    out = np.empty((len(ranks), ranks.shape[1] - first))
    windows = _first_windows(ranks, length, first)
    _each(lambda i: _kolmogorov_smirnov(ranks[i], windows[i], m, length, first, out[i]), len(ranks))
    return out


def wasserstein(panes: FloatArray, reference: FloatArray, length: int, first: int) -> FloatArray:
    """integral |F_live - F_reference| dx of the last `length` panes at each pane from `first` on, (R, n_panes - first).

    Parameters
    ----------
    panes : (R, n_panes, pane samples) float64
    reference : (R, m) float64, in any order; the samples of a window divide m
    """
    n, m = length * panes.shape[2], reference.shape[1]
    if m % n:
        raise ValueError(f"expected windows whose samples divide the {m} of the reference, got {n}")
    out = np.empty((len(panes), panes.shape[1] - first))
    ordered, references = np.sort(panes, axis=2), np.sort(reference, axis=1)
    windows = _first_windows(panes, length, first)
    _each(lambda i: _wasserstein(ordered[i], windows[i], references[i], length, first, out[i]), len(panes))
    return out
