"""The drift families of a snapshot, rendered for a scrape.

A series without a value is absent, and a family without series is absent with its header. A family is contiguous
over all monitors, as both formats demand.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np

from kldrift.export.exposition import Family, label_set, sample_lines, value_texts
from kldrift.export.families import DRIFT_FAMILIES, DriftFamily, Per
from kldrift.records import DriftSnapshot, MonitorSnapshot

#: Series of a scrape beyond which families, then features, are left out.
MAX_SERIES = 50_000

#: The estimator that `kldrift_reference_info` names.
ESTIMATOR = "kl_plug_in"

_LAST_EVALUATION = Family(
    "kldrift_last_evaluation_timestamp_seconds", "gauge", "When the divergences were last computed."
)

# in the order in which they are left out
_OPTIONAL_FAMILIES = [
    f for _, f in sorted(((f.rank, f) for f in DRIFT_FAMILIES if f.rank is not None), key=lambda pair: pair[0])
]


@dataclass(frozen=True, slots=True)
class RenderedDrift:
    """The families as bytes, how many series they hold, and how many were left out for the limit."""

    body: bytes
    series: int
    dropped: int


class DriftRenderer:
    """Renders snapshots; keeps each monitor's label sets for as long as its features stay the same objects."""

    def __init__(self) -> None:
        self._texts: dict[str, _MonitorText] = {}

    def render(self, snapshot: DriftSnapshot, openmetrics: bool = False, max_series: int = MAX_SERIES) -> RenderedDrift:
        """Every family that the snapshot can fill, without the ``# EOF`` of OpenMetrics.

        Beyond `max_series`, whole families are left out, those of the lowest rank first; if the ones that are never
        left out are still too many, features from the end of the configuration. This is decided on the series that
        all windows have when none is empty, so that it does not come and go as they fill.
        """
        families, n_features, dropped = _within(snapshot.monitors, max_series)
        texts = {monitor.name: self._text(monitor, k) for monitor, k in zip(snapshot.monitors, n_features, strict=True)}
        self._texts = texts  # forgets monitors that are gone
        pieces: list[bytes] = []
        n_series = 0
        for drift_family in families:
            blocks, n_block_series = [], 0
            for monitor in snapshot.monitors:
                if drift_family.applies(monitor):
                    lines, n_lines = texts[monitor.name].lines(drift_family, monitor)
                    blocks.append(lines)
                    n_block_series += n_lines
            if n_block_series:
                pieces += [drift_family.family.header(openmetrics), *blocks]
                n_series += n_block_series
        if snapshot.monitors:
            pieces.append(_LAST_EVALUATION.header(openmetrics))
            evaluated = value_texts(np.array([snapshot.evaluated_ms / 1000]))
            pieces += [
                sample_lines(_LAST_EVALUATION.name.encode(), [texts[monitor.name].monitor], evaluated)
                for monitor in snapshot.monitors
            ]
            n_series += len(snapshot.monitors)
        return RenderedDrift(b"".join(pieces), n_series, dropped)

    def _text(self, monitor: MonitorSnapshot, n_features: int) -> "_MonitorText":
        text = self._texts.get(monitor.name)
        if text is None or not text.is_of(monitor, n_features):
            text = _MonitorText(monitor, n_features)
        return text


def render_drift(snapshot: DriftSnapshot, openmetrics: bool = False, max_series: int = MAX_SERIES) -> RenderedDrift:
    """Render once; see `DriftRenderer.render`."""
    return DriftRenderer().render(snapshot, openmetrics, max_series)


class _MonitorText:
    """What stays the same of a monitor from scrape to scrape: label sets, and the families of its reference.

    Only its first `n_features` features are rendered.
    """

    def __init__(self, monitor: MonitorSnapshot, n_features: int) -> None:
        self._windows = monitor.windows
        self._features = monitor.features
        self._smoothing = monitor.smoothing
        self._n_features = n_features
        name = ("monitor", monitor.name)
        kept = monitor.features[:n_features]
        self.monitor = label_set([name])
        self._labels: dict[Per, list[bytes]] = {
            "window": [
                label_set([name, ("feature", f.name), ("window", window)]) for window in monitor.windows for f in kept
            ],
            "feature": [label_set([name, ("feature", f.name)]) for f in kept],
            "severity": [
                label_set([name, ("feature", f.name), ("severity", severity)])
                for f in kept
                for severity in ("warning", "critical")
            ],
            "reference": [
                label_set(
                    [
                        name,
                        ("feature", f.name),
                        ("estimator", ESTIMATOR),
                        ("smoothing", monitor.smoothing),
                        ("bins_hash", f.bins_hash),
                    ]
                )
                for f in kept
            ],
        }
        self._other_kind = {
            kind: np.array([f.kind != kind for f in kept], dtype=np.bool_) for kind in ("numeric", "categorical")
        }
        self._constant: dict[str, tuple[bytes, int]] = {}

    def is_of(self, monitor: MonitorSnapshot, n_features: int) -> bool:
        """Whether this is the text of the monitor. Features are compared by identity: they hold arrays."""
        return (
            self._n_features == n_features
            and self._windows == monitor.windows
            and self._smoothing == monitor.smoothing
            and len(self._features) == len(monitor.features)
            and all(map(operator.is_, self._features, monitor.features))
        )

    def lines(self, drift_family: DriftFamily, monitor: MonitorSnapshot) -> tuple[bytes, int]:
        """The sample lines of a family, and how many they are."""
        name = drift_family.family.name
        if drift_family.per != "window":
            # of the reference and the configuration, hence as constant as the features are
            if name not in self._constant:
                self._constant[name] = self._render(drift_family, monitor)
            return self._constant[name]
        return self._render(drift_family, monitor)

    def _render(self, drift_family: DriftFamily, monitor: MonitorSnapshot) -> tuple[bytes, int]:
        values = drift_family.values(monitor)
        values = values[:, : self._n_features] if drift_family.per == "window" else values[: self._n_features]
        absent = np.isnan(values)
        if drift_family.kind is not None:
            absent |= self._other_kind[drift_family.kind]
        labels: Sequence[bytes] = self._labels[drift_family.per]
        values, absent = values.ravel(), absent.ravel()
        if absent.any():
            present = ~absent
            labels = list(compress(labels, present.tolist()))
            values = values[present]
        return sample_lines(drift_family.family.name.encode(), labels, value_texts(values)), len(values)


def _n_series(drift_family: DriftFamily, monitor: MonitorSnapshot, n_features: int | None = None) -> int:
    """Series of the monitor's first `n_features` features when no window is empty."""
    if not drift_family.applies(monitor):
        return 0
    kind = drift_family.kind
    kept = monitor.features[:n_features]
    n = len(kept) if kind is None else sum(f.kind == kind for f in kept)
    return n * {"window": len(monitor.windows), "severity": 2, "feature": 1, "reference": 1}[drift_family.per]


def _within(monitors: Sequence[MonitorSnapshot], max_series: int) -> tuple[list[DriftFamily], list[int], int]:
    """The families, and the number of features of each monitor, that `max_series` allows; the series left out."""
    sizes = {f.family.name: sum(_n_series(f, m) for m in monitors) for f in DRIFT_FAMILIES}
    total = sum(sizes.values())
    budget = max(0, max_series - len(monitors))  # a monitor's last evaluation is always told
    excess = total - budget
    families = list(DRIFT_FAMILIES)
    for drift_family in _OPTIONAL_FAMILIES:
        if excess > 0:
            families.remove(drift_family)
            excess -= sizes[drift_family.family.name]
    n_features = [len(monitor.features) for monitor in monitors]
    if excess <= 0:
        return families, n_features, total - sum(sizes[f.family.name] for f in families)
    rendered = 0
    for i, monitor in enumerate(monitors):
        a_feature = sum(_n_series(f, monitor, 1) for f in families)  # families for every kind: all alike
        n_features[i] = min(n_features[i], (budget - rendered) // a_feature) if a_feature else 0
        rendered += n_features[i] * a_feature
    return families, n_features, total - rendered
