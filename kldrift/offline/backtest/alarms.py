"""Alarms in a series of lower bounds, by the rule that Prometheus evaluates.

A series is in alarm while its lower bound is above the tolerance. As in ``deploy/prometheus``, an alarm begins once
that has lasted a minute (``for: 1m``) and continues across breaks of up to five (``keep_firing_for: 5m``). A figure is
valid until the next step: with longer steps, each run of steps above the tolerance is an alarm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kldrift.records.snapshots import Track
from kldrift.records.types import Float32Array, IntArray

FOR_MS = 60_000
KEEP_FIRING_FOR_MS = 5 * 60_000

Beyond = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Episodes:
    """Alarms of one series: indices of the first step of each and of the step after its last, (n,) int64."""

    starts: IntArray
    stops: IntArray

    def __len__(self) -> int:
        return int(self.starts.size)


def episodes(beyond: Beyond, at_ms: IntArray, every_ms: int) -> Episodes:
    """Find the alarms of a series.

    Parameters
    ----------
    beyond : (T,) the lower bound is above the tolerance; False while undecided
    at_ms : (T,) int64, increasing; the ends of the steps
    every_ms : length of a step
    """
    goes_on = beyond[:-1] & beyond[1:] & (np.diff(at_ms) == every_ms)
    starts = np.flatnonzero(beyond & ~np.concatenate([[False], goes_on]))
    stops = np.flatnonzero(beyond & ~np.concatenate([goes_on, [False]])) + 1
    if not starts.size:
        return Episodes(starts, stops)
    begins, ends = at_ms[starts], at_ms[stops - 1] + every_ms
    apart = np.concatenate([[True], begins[1:] - ends[:-1] > KEEP_FIRING_FOR_MS])
    group = np.cumsum(apart) - 1
    fires = np.flatnonzero(ends - begins > FOR_MS)
    groups, first = np.unique(group[fires], return_index=True)
    last = np.searchsorted(group, groups, side="right") - 1
    return Episodes(starts[fires[first]], stops[last])


@dataclass(frozen=True, slots=True)
class Tally:
    """Alarms of a monitor at some tolerances.

    Parameters
    ----------
    pages : instants at which an alarm of any series began
    in_alarm : share of the steps at which any feature was in alarm
    feature_pages, feature_alarms : (F,) int64, the same for each feature; overlapping alarms of its series count once
    feature_in_alarm : (F,) float64
    """

    pages: int
    in_alarm: float
    feature_pages: IntArray
    feature_alarms: IntArray
    feature_in_alarm: npt.NDArray[np.float64]


class Bounds:
    """The lower bounds of all series of a monitor.

    Parameters
    ----------
    at_ms, every_ms : as for `episodes`
    features : (T, S) for each feature: its windows, of the whole and of the segments
    """

    def __init__(self, at_ms: IntArray, every_ms: int, features: Sequence[Float32Array]) -> None:
        self._at_ms = at_ms
        self._every_ms = every_ms
        self._features = features
        self._largest = [np.fmax.reduce(series, axis=0, initial=-np.inf) for series in features]

    @classmethod
    def of(cls, tracks: Mapping[str | None, Track], every_ms: int) -> "Bounds":
        """Take the bounds of the whole (None) and of each segment."""
        whole = tracks[None]
        series = [
            np.concatenate([track.lower[:, :, f] for track in tracks.values()], axis=1)
            for f in range(whole.lower.shape[2])
        ]
        return cls(whole.at_ms, every_ms, series)

    def without(self, features: IntArray) -> "Bounds":
        """Return the bounds of the other features."""
        gone = set(features.tolist())
        return Bounds(self._at_ms, self._every_ms, [s for f, s in enumerate(self._features) if f not in gone])

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self._features)

    def largest(self) -> npt.NDArray[np.float64]:
        """Return the largest lower bound of each feature, (F,); NaN where it was never decided."""
        most = np.array([largest.max() for largest in self._largest], dtype=np.float64)
        most[np.isneginf(most)] = np.nan
        return most

    def tally(self, tolerances: npt.NDArray[np.float64]) -> Tally:
        """Count the alarms that these tolerances, (F,), would have raised."""
        n_steps = self._at_ms.size
        begun, anywhere = np.zeros(n_steps, dtype=np.bool_), np.zeros(n_steps, dtype=np.bool_)
        counts = np.zeros((2, self.n_features), dtype=np.int64)
        shares = np.zeros(self.n_features)
        for f in range(self.n_features):
            of_feature = self._of_feature(f, float(tolerances[f]))
            if of_feature is None:
                continue
            starts, alarms, in_alarm = of_feature
            begun |= starts
            anywhere |= in_alarm
            counts[:, f] = np.count_nonzero(starts), alarms
            shares[f] = np.count_nonzero(in_alarm) / n_steps
        return Tally(int(begun.sum()), float(anywhere.mean()), counts[0], counts[1], shares)

    def _of_feature(self, f: int, tolerance: float) -> tuple[Beyond, int, Beyond] | None:
        """Find the steps at which alarms begin, the number of alarms of all series together, and the steps in alarm."""
        alarming = np.flatnonzero(self._largest[f] > tolerance)
        if not alarming.size:
            return None
        beyond = self._features[f][:, alarming] > tolerance
        starts, change = np.zeros(len(beyond), dtype=np.bool_), np.zeros(len(beyond) + 1, dtype=np.int64)
        for column in beyond.T:
            found = episodes(column, self._at_ms, self._every_ms)
            starts[found.starts] = True
            change[found.starts] += 1
            change[found.stops] -= 1
        in_alarm = np.cumsum(change)[:-1] > 0
        whole = episodes(in_alarm, self._at_ms, self._every_ms)
        return starts, len(whole), in_alarm
