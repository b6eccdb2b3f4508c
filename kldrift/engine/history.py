"""The history of evaluations: recorded from snapshots by a thread of its own, read by pages and the API."""

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

#: Quantities of each series: KL, its lower and its upper bound.
N_QUANTITIES = 3

#: There may be many segments, so they are kept at periods of a minute and longer only.
_FINEST_OF_SEGMENTS = 1

Scope = tuple[str, str | None]


@dataclass(slots=True)
class _Period:
    """The maximum of each series since a period began."""

    number: int
    at_ms: int
    layout: Layout
    points: Float32Array


@dataclass(slots=True)
class _Scope:
    """The state of a monitor or segment: current periods by level, and since when features have been drifting."""

    periods: dict[int, _Period] = field(default_factory=dict)
    since: dict[str, dict[int, int]] = field(default_factory=dict)


class History:
    """Records snapshots; a point is the maximum of a series within its period.

    `record` accepts a snapshot at once and a thread writes it; if that is slow, only the latest one is written.

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
        """Accept a snapshot; returns at once."""
        with self._changed:
            self._next = snapshot
            self._changed.notify()

    def track(self, monitor: MonitorSnapshot, features: Sequence[int], windows: Sequence[int], span_ms: int) -> Track:
        """Return some features and windows of a monitor or segment; empty if the history cannot be read."""
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
        """Return since when each drifting feature has been drifting without a break: milliseconds by severity index."""
        with self._changed:
            scope = self._scopes.get((monitor.name, monitor.segment))
            return {} if scope is None else {feature: dict(found) for feature, found in scope.since.items()}

    def close(self) -> None:
        """Write the current periods, and stop."""
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
            except Exception as error:  # noqa: BLE001  # a defect here costs one point, not all later ones
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
        for scope in gone:  # removed by a reload, or no longer has rows
            del self._scopes[scope]
            self._unsaved[scope] = {}
        if rows or self._unsaved:
            self._write(rows)

    def _write(self, rows: list[Row]) -> None:
        try:
            self._store.write(rows, self._unsaved, self._clock_ms())
            self._unsaved = {}  # otherwise they are written with the next points
        except StateError as error:  # charts lack a point; counts and verdicts are unaffected
            self._telemetry.history_failed(error)


def _with_segments(snapshot: DriftSnapshot) -> Iterator[MonitorSnapshot]:
    for monitor in snapshot.monitors:
        yield monitor
        yield from monitor.segments


def _advance(known: _Scope, monitor: MonitorSnapshot, at_ms: int) -> dict[int, _Period]:
    """Add an evaluation to the current periods; returns those that ended, by level."""
    layout = Layout(monitor.windows, tuple(feature.name for feature in monitor.features))
    with np.errstate(over="ignore"):  # values beyond float32 become infinite
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
    """Return since when the features that drift now have been drifting, by severity index."""
    found: dict[str, dict[int, int]] = {}
    for f, i in np.argwhere(monitor.detected == 1).tolist():
        name = monitor.features[f].name
        found.setdefault(name, {})[i] = before.get(name, {}).get(i, now_ms)
    return found
