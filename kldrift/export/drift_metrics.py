"""The exposition of the drift families of a snapshot.

A series without a value is absent, and so is a family without series, header included. Each family is contiguous over
all monitors, as both formats require.
"""

import operator
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import chain, compress

import numpy as np
import numpy.typing as npt

from kldrift.export.drift_families import DRIFT_FAMILIES, DriftFamily, Per, SeriesShape, is_segmented
from kldrift.export.exposition import Family, label_set, sample_lines, value_labels, value_texts
from kldrift.records.kinds import KINDS, Outside
from kldrift.records.snapshots import DriftSnapshot, FeatureInfo, MonitorSnapshot
from kldrift.records.specs import MonitorSpec
from kldrift.records.types import FloatArray, IntArray

#: Limit of series in a scrape; beyond it segments are dropped, then families, then features.
MAX_SERIES = 50_000

_LAST_EVALUATION = Family(
    "kldrift_last_evaluation_timestamp_seconds", "gauge", "When the divergences were last computed."
)

# in the order in which they are dropped; segments come right after the dimensions
_DIMENSIONS, *_OPTIONAL_FAMILIES = sorted(
    (f for f in DRIFT_FAMILIES if f.rank is not None), key=lambda f: -1 if f.rank is None else f.rank
)


@dataclass(frozen=True, slots=True)
class RenderedDrift:
    """The families as bytes, the number of series in them, and the number dropped because of the limit."""

    body: bytes
    series: int
    dropped: int


class DriftRenderer:
    """Renders snapshots, and caches the label sets of each monitor as long as its features are the same objects.

    Safe to call from any thread: cached objects are replaced, never modified.
    """

    def __init__(self) -> None:
        self._texts: dict[str, _MonitorText] = {}

    def render(self, snapshot: DriftSnapshot, openmetrics: bool = False, max_series: int = MAX_SERIES) -> RenderedDrift:
        """Render every family that has a value in the snapshot, without the ``# EOF`` of OpenMetrics.

        Beyond `max_series`, dimensions are dropped first, then segments (those with the fewest rows first), then whole
        families (those with the lowest rank first). If the families that are never dropped are still too many, features
        are dropped from the end of the configuration. The decision counts the series of windows that are all filled, so
        that series do not come and go as windows fill.
        """
        cut = _within(snapshot.monitors, max_series)
        texts = {m.name: self._text(m, n) for m, n in zip(snapshot.monitors, cut.n_features, strict=True)}
        self._texts = texts  # forgets removed monitors
        shown = [(m, *m.segments[:n]) for m, n in zip(snapshot.monitors, cut.n_segments, strict=True)]
        rows = [texts[own.name].row_labels(segments) for own, *segments in shown]
        pieces: list[bytes] = []
        n_series = 0
        for drift_family in cut.families:
            blocks, n_block_series = [], 0
            for snapshots, labels in zip(shown, rows, strict=True):
                lines, n_lines = texts[snapshots[0].name].lines(drift_family, snapshots, labels)
                blocks.append(lines)
                n_block_series += n_lines
            if n_block_series:
                pieces += [drift_family.family.header(openmetrics), *blocks]
                n_series += n_block_series
        if snapshot.monitors:
            pieces.append(_LAST_EVALUATION.header(openmetrics))
            evaluated = value_texts(np.array([snapshot.evaluated_ms / 1000]))
            pieces += [
                sample_lines(_LAST_EVALUATION.name.encode(), texts[monitor.name].labels.of("monitor"), evaluated)
                for monitor in snapshot.monitors
            ]
            n_series += len(snapshot.monitors)
        return RenderedDrift(b"".join(pieces), n_series, cut.dropped)

    def _text(self, monitor: MonitorSnapshot, n_features: int) -> "_MonitorText":
        text = self._texts.get(monitor.name)
        if text is None or not text.is_of(monitor, n_features):
            text = _MonitorText(monitor, n_features)
        return text


def render_drift(snapshot: DriftSnapshot, openmetrics: bool = False, max_series: int = MAX_SERIES) -> RenderedDrift:
    """Render a single snapshot; see `DriftRenderer.render`."""
    return DriftRenderer().render(snapshot, openmetrics, max_series)


def count_series(spec: MonitorSpec) -> int:
    """Return the number of series of a monitor once its windows are full, references exist and segments are used up."""
    shape = SeriesShape.of_spec(spec)
    n_segments = 0 if spec.segments is None else spec.segments.limit + 1
    own = sum(f.n_series(shape) for f in DRIFT_FAMILIES)
    return own + n_segments * _segment_series(shape) + 1  # the last evaluation


def _dimensions_of(monitor: MonitorSnapshot) -> tuple[tuple[int, int], ...]:
    """Return the features with a KL per dimension: (index, number of dimensions)."""
    return tuple((f, monitor.per_dimension[f].shape[1]) for f in sorted(monitor.per_dimension))


class _Labels:
    """The label sets of the series of the first `n_features` features of a monitor."""

    def __init__(self, monitor: MonitorSnapshot, n_features: int) -> None:
        self._monitor = [("monitor", monitor.name)]
        self._segment: list[tuple[str, str]] = []
        self._windows = monitor.windows
        self._features = monitor.features[:n_features]
        self._identity = [("estimator", monitor.estimator), ("smoothing", monitor.smoothing)]
        self._dimensions = _dimensions_of(monitor)
        self._made: dict[Per, list[bytes]] = {}

    def of_segment(self, segment: str) -> "_Labels":
        """Return these labels with the label of a segment added."""
        labels = copy(self)
        labels._segment, labels._made = [("segment", segment)], {}  # noqa: SLF001  # of its own class
        return labels

    def of(self, per: Per) -> list[bytes]:
        """Return the label sets of a family, in the order of its values."""
        if per not in self._made:
            self._made[per] = [label_set(self._monitor + labels + self._segment) for labels in self._varying(per)]
        return self._made[per]

    def _varying(self, per: Per) -> list[list[tuple[str, str]]]:
        """Return the labels that distinguish the series of a family."""
        features = [("feature", feature.name) for feature in self._features]
        windows = [("window", window) for window in self._windows]
        match per:
            case "window":
                return [[feature, window] for window in windows for feature in features]
            case "feature":
                return [[feature] for feature in features]
            case "severity":
                severities = [("severity", "warning"), ("severity", "critical")]
                return [[feature, severity] for feature in features for severity in severities]
            case "identity":
                return [[("feature", f.name), *self._identity, *_hashes(f)] for f in self._features]
            case "dimension":
                return [
                    [features[f], window, ("dimension", str(i))]
                    for f, n in self._dimensions
                    for window in windows
                    for i in range(n)
                ]
            case "mix":
                return [[window] for window in windows]
            case "monitor":
                return [[]]


def _hashes(feature: FeatureInfo) -> list[tuple[str, str]]:
    return [("bins_hash", feature.bins_hash), ("reference_hash", feature.reference_hash)]


class _RowLabels:
    """The label sets of a monitor followed by those of its segments that are shown."""

    def __init__(self, own: _Labels, of_segments: Mapping[str, _Labels]) -> None:
        self.of_segments = of_segments
        self._parts = (own, *of_segments.values())
        self._made: dict[Per, list[bytes]] = {}

    def of(self, per: Per) -> list[bytes]:
        """Return the label sets of a family, in the order of its values."""
        if per not in self._made:
            self._made[per] = list(chain.from_iterable(labels.of(per) for labels in self._parts))
        return self._made[per]


class _MonitorText:
    """What does not change between scrapes of a monitor: label sets, and the families of its reference.

    Only its first `n_features` features are rendered.
    """

    def __init__(self, monitor: MonitorSnapshot, n_features: int) -> None:
        self._features = monitor.features
        self._layout = _layout(monitor, n_features)
        self._n_features = n_features
        self.labels = _Labels(monitor, n_features)
        self._row_labels = _RowLabels(self.labels, {})
        outside = [KINDS[feature.kind].outside for feature in monitor.features[:n_features]]
        self._other_kind: dict[Outside, npt.NDArray[np.bool_]] = {
            own: np.tile(np.array([other != own for other in outside], dtype=np.bool_), len(monitor.windows))
            for own in {f.outside for f in DRIFT_FAMILIES if f.outside is not None}
        }
        self._constant: dict[str, tuple[bytes, int]] = {}

    def is_of(self, monitor: MonitorSnapshot, n_features: int) -> bool:
        """Whether this belongs to the monitor. Features are compared by identity, since they contain arrays."""
        return (
            self._layout == _layout(monitor, n_features)
            and len(self._features) == len(monitor.features)
            and all(map(operator.is_, self._features, monitor.features))
        )

    def row_labels(self, segments: Sequence[MonitorSnapshot]) -> _RowLabels:
        """Return the labels of the monitor and these segments; only those new since the last scrape are built."""
        names = value_labels(segment.segment or "" for segment in segments)
        labels = self._row_labels
        if tuple(labels.of_segments) != names:
            known = labels.of_segments
            labels = _RowLabels(self.labels, {name: known.get(name) or self.labels.of_segment(name) for name in names})
            self._row_labels = labels
        return labels

    def lines(
        self, drift_family: DriftFamily, snapshots: Sequence[MonitorSnapshot], row_labels: _RowLabels
    ) -> tuple[bytes, int]:
        """Return the sample lines of a family, and their number.

        Parameters
        ----------
        snapshots : the monitor, followed by the segments that are shown
        """
        if not drift_family.applies(snapshots[0].exported, is_segmented(snapshots[0])):
            return b"", 0
        if drift_family.scope == "rows":
            return self._render(drift_family, snapshots, row_labels.of(drift_family.per))
        name, labels = drift_family.family.name, self.labels.of(drift_family.per)
        if drift_family.scope != "reference":
            return self._render(drift_family, snapshots[:1], labels)
        if name not in self._constant:
            self._constant[name] = self._render(drift_family, snapshots[:1], labels)
        return self._constant[name]

    def _render(
        self, drift_family: DriftFamily, snapshots: Sequence[MonitorSnapshot], labels: Sequence[bytes]
    ) -> tuple[bytes, int]:
        values = np.concatenate([self._kept(drift_family, snapshot) for snapshot in snapshots])
        absent = np.isnan(values)
        if drift_family.outside is not None:
            absent |= np.resize(self._other_kind[drift_family.outside], absent.shape)  # repeated for each window
        if absent.any():
            present = ~absent
            labels = list(compress(labels, present.tolist()))
            values = values[present]
        return sample_lines(drift_family.family.name.encode(), labels, value_texts(values)), len(values)

    def _kept(self, drift_family: DriftFamily, snapshot: MonitorSnapshot) -> FloatArray | IntArray:
        """Return the values of the rendered features as a one-dimensional array."""
        values = drift_family.values(snapshot)
        if drift_family.per == "window":
            values = values[:, : self._n_features]
        elif drift_family.per in ("feature", "identity", "severity"):
            values = values[: self._n_features]
        return values.ravel()


def _layout(monitor: MonitorSnapshot, n_features: int) -> tuple[object, ...]:
    """What label sets depend on besides the features themselves."""
    return n_features, monitor.windows, monitor.smoothing, monitor.estimator, _dimensions_of(monitor)


@dataclass(frozen=True, slots=True)
class _Cut:
    """The families, and the number of features and segments of each monitor, that fit into the limit.

    `dropped` is the number of series that do not.
    """

    families: list[DriftFamily]
    n_features: list[int]
    n_segments: list[int]
    dropped: int


def _segment_series(shape: SeriesShape) -> int:
    """Return the number of series of one segment."""
    return sum(f.n_series(shape) for f in DRIFT_FAMILIES if f.scope == "rows")


def _within(monitors: Sequence[MonitorSnapshot], max_series: int) -> _Cut:
    """Choose what to show of the monitors within `max_series`."""
    shapes = [SeriesShape.of_snapshot(monitor) for monitor in monitors]
    families = list(DRIFT_FAMILIES)
    n_features = [shape.n_features for shape in shapes]
    n_segments = [len(monitor.segments) for monitor in monitors]
    of_segment = [_segment_series(shape) if n else 0 for shape, n in zip(shapes, n_segments, strict=True)]
    sizes = {f.family.name: sum(map(f.n_series, shapes)) for f in DRIFT_FAMILIES}
    # the last evaluation and the number of segments of each monitor are always exported
    always = len(monitors) + sum(sizes[f.family.name] for f in DRIFT_FAMILIES if f.per == "monitor")
    total = len(monitors) + sum(sizes.values()) + sum(map(operator.mul, n_segments, of_segment))
    room = max(max_series, always)
    rendered = total
    for drift_family in (_DIMENSIONS, None, *_OPTIONAL_FAMILIES):
        if rendered <= room:
            break
        if drift_family is None:
            rendered -= _leave_out_segments(n_segments, of_segment, rendered - room)
        elif drift_family in families:
            families.remove(drift_family)
            rendered -= sizes[drift_family.family.name]
    if rendered > room:
        rendered = always
        for i, shape in enumerate(shapes):
            series = sum(f.n_series(shape) for f in families if f.per != "monitor")
            # the families left apply to every kind, so all features cost the same
            a_feature = series // shape.n_features if shape.n_features else 0
            n_features[i] = min(n_features[i], (room - rendered) // a_feature) if a_feature else 0
            rendered += n_features[i] * a_feature
    return _Cut(families, n_features, n_segments, total - rendered)


def _leave_out_segments(n_segments: list[int], of_segment: Sequence[int], excess: int) -> int:
    """Reduce `n_segments`, last segments first, until `excess` series are gone; return the number removed.

    Monitors with more segments lose theirs first.
    """
    gone = 0
    for _, i in sorted(((n, i) for i, m in enumerate(n_segments) for n in range(m)), reverse=True):
        if gone >= excess:
            break
        n_segments[i] -= 1
        gone += of_segment[i]
    return gone
