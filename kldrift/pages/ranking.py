"""The rows of the monitor page: features ranked by how much drift is certain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kldrift.drift.judging.states import STATES, State, feature_states, series_state
from kldrift.records.divergences import KL
from kldrift.records.snapshots import MonitorSnapshot, Track
from kldrift.records.types import FloatArray, IntArray

#: Index of the severity: whatever is critical has been a warning for at least as long.
_WARNING = 0

#: Number of points of a sparkline.
SLOTS = 40


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """One feature as tables show it; the figures are those of `window`.

    Parameters
    ----------
    index : in the monitor
    state : the verdict over all windows, or the state of a single window (`series_state`)
    window : the one with the largest lower bound, or with the largest divergence where none is decided
    since_ms : start of the uninterrupted verdict of drift; None without one
    """

    index: int
    name: str
    kind: str
    state: State
    window: str
    samples: int
    kl: float
    lower: float
    upper: float
    missing: float
    invalid: float
    outside: float
    warning: float
    problem: str | None
    since_ms: int | None


def rank(
    monitor: MonitorSnapshot,
    since: Mapping[str, Mapping[int, int]],
    window: str | None = None,
    most: int | None = None,
) -> list[FeatureRow]:
    """Rank the features by state, then by lower bound, then by divergence.

    Parameters
    ----------
    since : since when features have been drifting, by name and index of the severity
    window : None: for each feature, the window in which it drifts most
    most : maximum number of rows; None for all
    """
    lower = np.where(np.isnan(monitor.lower), -np.inf, monitor.lower)
    kl = np.where(np.isnan(monitor.divergences[:, :, KL]), -np.inf, monitor.divergences[:, :, KL])
    if window is None:
        of_window = _largest(lower, kl)
        states = feature_states(monitor)
    else:
        w = monitor.windows.index(window)
        of_window = np.full(len(monitor.features), w, dtype=np.int64)
        states = [series_state(monitor, w, f) for f in range(len(monitor.features))]
    at = (of_window, np.arange(len(monitor.features)))
    order = np.lexsort((-kl[at], -lower[at], np.array([STATES.index(word) for word in states])))
    return [_row(monitor, int(f), int(of_window[f]), states[f], since if window is None else {}) for f in order[:most]]


def _largest(lower: FloatArray, kl: FloatArray) -> IntArray:
    """Return for each feature the window with the largest bound, or the largest divergence where none is decided."""
    decided = np.isfinite(lower).any(axis=0)
    return np.asarray(np.where(decided, lower.argmax(axis=0), kl.argmax(axis=0)))


def _row(monitor: MonitorSnapshot, f: int, w: int, word: State, since: Mapping[str, Mapping[int, int]]) -> FeatureRow:
    info = monitor.features[f]
    outside = monitor.outside_ratio(w, f)
    since_ms = since.get(info.name, {}).get(_WARNING) if word in ("warning", "critical") else None
    return FeatureRow(
        f,
        info.name,
        info.kind,
        word,
        monitor.windows[w],
        int(monitor.samples[w, f]),
        float(monitor.divergences[w, f, KL]),
        float(monitor.lower[w, f]),
        float(monitor.upper[w, f]),
        float(monitor.missing_ratio[w, f]),
        float(monitor.invalid_ratio[w, f]),
        float("nan") if outside is None else outside,
        info.warning,
        info.problem,
        since_ms,
    )


def counted(states: Sequence[State]) -> dict[State, int]:
    """Count the features in each state."""
    return {word: states.count(word) for word in STATES}


def evenly(track: Track) -> FloatArray:
    """Return the largest lower bound of each feature over the windows of `track`, in equal stretches of time.

    Returns
    -------
    values : (SLOTS or fewer, F) float64, from the first point to the last; NaN where there are none
    """
    n = track.at_ms.size
    if n == 0:
        return np.empty((0, track.lower.shape[2]))
    of_features = np.fmax.reduce(track.lower.astype(np.float64), axis=1, initial=np.nan)
    slots = min(SLOTS, n)
    span = max(1, int(track.at_ms[-1] - track.at_ms[0]))
    slot = np.minimum((track.at_ms - track.at_ms[0]) * slots // span, slots - 1)
    values = np.full((slots, of_features.shape[1]), np.nan)
    np.fmax.at(values, slot, of_features)
    return values
