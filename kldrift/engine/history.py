"""The history of what was evaluated: taken from each snapshot by a thread of its own, read by pages and the API."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kldrift.errors import StateError
from kldrift.export.telemetry import Telemetry
from kldrift.records.divergences import KL
from kldrift.records.snapshots import DriftSnapshot, MonitorSnapshot, Track
from kldrift.records.types import Float32Array
from kldrift.state.history import LEVELS, Layout, Row, SqliteHistory

#: Of each series: KL, its lower and its upper bound.
N_QUANTITIES = 3

#: Segments are kept at a period of a minute and more: there may be many.
_FINEST_OF_SEGMENTS = 1

Scope = tuple[str, str | None]


@dataclass(slots=True)
class _Period:
    """The most of each series since a period began."""

    number: int
    at_ms: int
    layout: Layout
    points: Float32Array


@dataclass(slots=True)
class _Scope:
    """What is known of a monitor or a segment: the periods under way by level, since when features drift."""

    periods: dict[int, _Period] = field(default_factory=dict)
    since: dict[str, dict[int, int]] = field(default_factory=dict)


class History:
    """Records snapshots; a point is the most that a series had in its period.

    A snapshot is taken by `record` at once and written by a thread; where that is slow the latest one counts.

    Parameters
    ----------
    clock_ms : the wall clock
    """

    def __init__(self, store: SqliteHistory, telemetry: Telemetry, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._telemetry = telemetry
        self._clock_ms = clock_ms
        self._scopes: dict[Scope, _Scope] = {}
        for scope, since in store.since().items():
            self._scopes[scope] = _Scope(since={feature: dict(found) for feature, found in since.items()})
        self._unsaved: dict[Scope, Mapping[str, Mapping[int, int]]] = {}
        self._changed = threading.Condition()
        self._next: DriftSnapshot | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._thread.start()

    def record(self, snapshot: DriftSnapshot) -> None:
        """Take a snapshot; returns at once."""
        with self._changed:
            self._next = snapshot
            self._changed.notify()

    def track(self, monitor: MonitorSnapshot, features: Sequence[int], windows: Sequence[int], span_ms: int) -> Track:
        """Some features and windows of a monitor, or of a segment; empty where the history cannot be read."""
        now_ms = self._clock_ms()
        layout = Layout(tuple(monitor.windows[w] for w in windows), tuple(monitor.features[f].name for f in features))
        args = (monitor.name, monitor.segment, layout, now_ms - span_ms, now_ms, N_QUANTITIES)
        try:
            at_ms, points = self._store.read(*args)
        except StateError as error:
            self._telemetry.history_failed(error)
            return Track.empty(len(windows), len(features))
        return Track(at_ms, points[:, 0], points[:, 1], points[:, 2])

    def since(self, monitor: MonitorSnapshot) -> Mapping[str, Mapping[int, int]]:
        """Since when each drifting feature has been so, without a break: milliseconds by index of the severity."""
        with self._changed:
            scope = self._scopes.get((monitor.name, monitor.segment))
            return {} if scope is None else {feature: dict(found) for feature, found in scope.since.items()}

    def close(self) -> None:
        """Write what is under way, and stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._store.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._next is None and not self._closed:
                    self._changed.wait()
                snapshot, self._next = self._next, None
                if snapshot is None:
                    break
            try:
                self._take(snapshot)
            except Exception as error:  # noqa: BLE001  # a defect here costs a point, not all that would follow
                self._telemetry.history_failed(error)
        self._write([row for scope, known in self._scopes.items() for row in _rows(scope, known.periods)])

    def _take(self, snapshot: DriftSnapshot) -> None:
        rows: list[Row] = []
        gone = dict(self._scopes)
        for monitor in _with_segments(snapshot):
            scope = (monitor.name, monitor.segment)
            gone.pop(scope, None)
            known = self._scopes.setdefault(scope, _Scope())
            rows += _rows(scope, _advance(known, monitor, snapshot.evaluated_ms))
            since = _since(monitor, known.since, snapshot.evaluated_ms)
            if since != known.since:
                with self._changed:
                    known.since = since
                self._unsaved[scope] = since
        for scope in gone:  # removed by a reload, or without rows now
            del self._scopes[scope]
            self._unsaved[scope] = {}
        if rows or self._unsaved:
            self._write(rows)

    def _write(self, rows: list[Row]) -> None:
        try:
            self._store.write(rows, self._unsaved, self._clock_ms())
            self._unsaved = {}  # else they go with the next points
        except StateError as error:  # charts lack a point; counts and verdicts do not depend on it
            self._telemetry.history_failed(error)


def _with_segments(snapshot: DriftSnapshot) -> Iterator[MonitorSnapshot]:
    for monitor in snapshot.monitors:
        yield monitor
        yield from monitor.segments


def _advance(known: _Scope, monitor: MonitorSnapshot, at_ms: int) -> dict[int, _Period]:
    """Add an evaluation to the periods under way; returns those that ended, by level."""
    layout = Layout(monitor.windows, tuple(feature.name for feature in monitor.features))
    with np.errstate(over="ignore"):  # beyond float32 it is infinite
        points = np.stack((monitor.divergences[:, :, KL], monitor.lower, monitor.upper)).astype(np.float32)
    ended = {}
    for level in range(0 if monitor.segment is None else _FINEST_OF_SEGMENTS, len(LEVELS)):
        number = at_ms // LEVELS[level].period_ms
        period = known.periods.get(level)
        if period is not None and (period.number, period.layout) == (number, layout):
            period.points = np.fmax(period.points, points)
            period.at_ms = at_ms
            continue
        if period is not None:
            ended[level] = period
        known.periods[level] = _Period(number, at_ms, layout, points)
    return ended


def _rows(scope: Scope, periods: Mapping[int, _Period]) -> list[Row]:
    return [Row(*scope, level, period.at_ms, period.layout, period.points) for level, period in periods.items()]


def _since(monitor: MonitorSnapshot, before: Mapping[str, Mapping[int, int]], now_ms: int) -> dict[str, dict[int, int]]:
    """Since when the features that drift now have done so, by index of the severity."""
    found: dict[str, dict[int, int]] = {}
    for f, i in np.argwhere(monitor.detected == 1).tolist():
        name = monitor.features[f].name
        found.setdefault(name, {})[i] = before.get(name, {}).get(i, now_ms)
    return found
