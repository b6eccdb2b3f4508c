"""Replay a history through a monitor, which is evaluated as the daemon does at its ticks.

    rows   . ...   .. .      ....                        .. .
    steps  |  e  |  e  |  e  |  e  | e … e (empty)            | e |

A step is evaluated at its last millisecond, when all of its rows are counted. In a gap without rows, steps are
evaluated until every window is empty; the rest of the gap is skipped.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kldrift.drift.counting.windows import slice_ms
from kldrift.drift.monitor import Monitor
from kldrift.drift.references.learned import split
from kldrift.offline.backtest.rows import History, times_of
from kldrift.records.divergences import KL
from kldrift.records.snapshots import FeatureInfo, MonitorSnapshot, Track
from kldrift.records.specs import MonitorSpec
from kldrift.records.types import Float32Array, IntArray

#: Number of steps for which memory is allocated at a time.
BLOCK = 512

#: The stream by which lateness is judged; all rows belong to one log, in order.
STREAM = "history"


@dataclass(frozen=True, slots=True)
class Replay:
    """What the daemon would have reported.

    Parameters
    ----------
    every_ms : length of a step
    at_ms : (T,) int64, the ends of the steps that were evaluated
    tracks : KL and bounds at those steps, of the whole (None) and of each segment
    features : as they were at the end
    invalid : (F,) int64, values of the wrong type
    """

    every_ms: int
    at_ms: IntArray
    tracks: Mapping[str | None, Track]
    features: tuple[FeatureInfo, ...]
    windows: tuple[str, ...]
    invalid: IntArray


def default_step_ms(spec: MonitorSpec) -> int:
    """Return the length of a slice, a twelfth, of the smallest window.

    The counts of that window only grow until a slice is complete; at its end they are largest and the bounds narrowest.
    """
    return min(map(slice_ms, spec.windows))


def replay(
    monitor: Monitor, history: History, every_ms: int, progress: Callable[[int], object] = lambda _: None
) -> Replay:
    """Count all rows and evaluate at each step.

    Parameters
    ----------
    monitor : a new one, not to be used afterwards
    progress : called with the event time that was reached
    """
    course = _Course(monitor, every_ms)
    invalid = np.zeros(len(monitor.feature_names), dtype=np.int64)
    for batch in history.batches(monitor.schema):
        rest = batch
        while rest.n_rows:
            times = times_of(rest)
            course.go_to(int(times[0]) // every_ms, progress)
            within = int(np.searchsorted(times, course.end_ms, side="right"))
            head, rest = split(rest, within)
            invalid += monitor.add(head, STREAM, int(times[within - 1])).invalid
    course.evaluate()
    return Replay(every_ms, *course.recorded(), course.features, course.windows, invalid)


class _Course:
    """Evaluates step after step and records the figures."""

    def __init__(self, monitor: Monitor, every_ms: int) -> None:
        self._monitor = monitor
        self._every_ms = every_ms
        self._step: int | None = None
        self._at_ms: list[int] = []
        self._blocks: dict[str | None, list[Float32Array]] = {None: []}
        self.features: tuple[FeatureInfo, ...] = ()
        self.windows: tuple[str, ...] = ()

    @property
    def end_ms(self) -> int:
        """The last millisecond of the current step."""
        assert self._step is not None
        return (self._step + 1) * self._every_ms - 1

    def go_to(self, step: int, progress: Callable[[int], object]) -> None:
        """Evaluate everything before this step, whose rows come next."""
        while self._step is not None and self._step < step:
            empty = self.evaluate()
            self._step = step if empty else self._step + 1
            progress(self.end_ms)
        self._step = step

    def evaluate(self) -> bool:
        """Evaluate the current step; return whether all windows are empty."""
        snapshot = self._monitor.evaluate(self.end_ms)
        place = len(self._at_ms)
        self._at_ms.append(self.end_ms)
        self.features, self.windows = snapshot.features, snapshot.windows
        for one in (snapshot, *snapshot.segments):
            self._record(one, place)
        return not snapshot.samples.any()

    def _record(self, snapshot: MonitorSnapshot, place: int) -> None:
        blocks = self._blocks.setdefault(snapshot.segment, [])
        while len(blocks) <= place // BLOCK:
            blocks.append(np.full((BLOCK, 3, *snapshot.lower.shape), np.nan, dtype=np.float32))
        row = blocks[-1][place % BLOCK]
        row[0], row[1], row[2] = snapshot.divergences[:, :, KL], snapshot.lower, snapshot.upper

    def recorded(self) -> tuple[IntArray, dict[str | None, Track]]:
        """Return the instants, and the figures of the whole and of each segment at them."""
        at_ms = np.array(self._at_ms, dtype=np.int64)
        return at_ms, {name: _track(at_ms, blocks) for name, blocks in self._blocks.items()}


def _track(at_ms: IntArray, blocks: list[Float32Array]) -> Track:
    figures = np.concatenate(blocks)[: at_ms.size]
    if len(figures) < at_ms.size:  # the segment was no longer seen
        rest: npt.NDArray[np.float32] = np.full((at_ms.size - len(figures), *figures.shape[1:]), np.nan, np.float32)
        figures = np.concatenate([figures, rest])
    return Track(at_ms, figures[:, 0], figures[:, 1], figures[:, 2])
