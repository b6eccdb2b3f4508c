"""The drift families: names, meanings, and where their values stand in a snapshot."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kldrift.export.exposition import Family
from kldrift.records.divergences import DIVERGENCES, KL, KNOWN_DIVERGENCES, Divergence
from kldrift.records.kinds import Kind
from kldrift.records.snapshots import FeatureInfo, MonitorSnapshot
from kldrift.records.specs import MonitorSpec
from kldrift.records.types import FloatArray, IntArray

#: What a family has a series for, beside the monitor. `identity` is a feature as well, with the labels of
#: `kldrift_reference_info`; `mix` is a window of all features.
Per = Literal["window", "feature", "identity", "severity", "dimension", "mix", "monitor"]

#: What the values tell of: the `reference` and the configuration, which stay as they are from scrape to scrape; the
#: live `rows`, then of each segment as well; `all_rows`, not of a segment; the `segments`, where there are any.
Scope = Literal["reference", "rows", "all_rows", "segments"]


@dataclass(frozen=True, slots=True)
class SeriesShape:
    """What decides how many series a monitor has when no window is empty and every reference is there.

    Parameters
    ----------
    kinds : number of features of each kind
    n_dimensions : dimensions of the features that have their KL exported for each
    """

    kinds: Mapping[Kind, int]
    n_windows: int
    exported: tuple[str, ...]
    n_dimensions: int
    segmented: bool

    @property
    def n_features(self) -> int:
        """Features of all kinds."""
        return sum(self.kinds.values())

    @classmethod
    def of_snapshot(cls, monitor: MonitorSnapshot) -> "SeriesShape":
        """The shape of a monitor that runs."""
        return cls(
            Counter(feature.kind for feature in monitor.features),
            len(monitor.windows),
            monitor.exported,
            sum(divergences.shape[1] for divergences in monitor.per_dimension.values()),
            is_segmented(monitor),
        )

    @classmethod
    def of_spec(cls, spec: MonitorSpec) -> "SeriesShape":
        """The shape of a monitor that is configured."""
        return cls(
            Counter(feature.kind for feature in spec.features),
            len(spec.windows),
            spec.divergences,
            sum(feature.dimensions for feature in spec.features if feature.per_dimension),
            spec.segments is not None,
        )


def is_segmented(monitor: MonitorSnapshot) -> bool:
    """Whether the monitor has segments; there may be none with rows yet."""
    return bool(monitor.segments) or monitor.segment_mix.size > 0


@dataclass(frozen=True, slots=True)
class DriftFamily:
    """A family and its values.

    Parameters
    ----------
    values : (W, F) for `window`, (F,) for `feature` and `identity`, (F, 2) for `severity` (warning, critical), (n,)
        for `dimension` (by feature, window and dimension), (W,) for `mix`, (1,) for `monitor`; NaN where a series has
        no value
    rank : families of the lowest rank are left out first when there are too many series; None: never left out
    kind : only features of this kind have it
    divergence : only monitors that export it have it
    """

    family: Family
    per: Per
    values: Callable[[MonitorSnapshot], FloatArray | IntArray]
    rank: int | None = None
    kind: Kind | None = None
    divergence: str | None = None
    scope: Scope = "rows"

    def applies(self, exported: Sequence[str], segmented: bool) -> bool:
        """Whether a monitor has this family at all."""
        return self.divergence in (None, DIVERGENCES[KL], *exported) and (segmented or self.scope != "segments")

    def n_series(self, shape: SeriesShape) -> int:
        """Series of a monitor, those of its segments not among them."""
        if not self.applies(shape.exported, shape.segmented):
            return 0
        n_features = shape.n_features if self.kind is None else shape.kinds.get(self.kind, 0)
        return {
            "window": n_features * shape.n_windows,
            "severity": n_features * 2,
            "feature": n_features,
            "identity": n_features,
            "dimension": shape.n_dimensions * shape.n_windows,
            "mix": shape.n_windows,
            "monitor": 1,
        }[self.per]


def _gauge(name: str, text: str) -> Family:
    return Family(name, "gauge", text)


def _of_divergence(column: int, divergence: Divergence) -> DriftFamily:
    return DriftFamily(
        _gauge(divergence.metric, divergence.help),
        "window",
        lambda m: m.divergences[:, :, column],
        divergence.rank,
        divergence=divergence.name,
    )


def _of_features(of: Callable[[FeatureInfo], float]) -> Callable[[MonitorSnapshot], FloatArray]:
    return lambda monitor: np.array([of(feature) for feature in monitor.features], dtype=np.float64)


def _thresholds(monitor: MonitorSnapshot) -> FloatArray:
    return np.array([(f.warning, f.critical) for f in monitor.features], dtype=np.float64).reshape(-1, 2)


def _created_seconds(feature: FeatureInfo) -> float:
    """NaN where it is not known when the reference was made, or it is still to come."""
    return feature.reference_created_ms / 1000 if feature.reference_created_ms > 0 else np.nan


def _reference_missing(feature: FeatureInfo) -> float:
    """Share of missing values in the reference; *missing* is the last cell of every feature."""
    counts = feature.reference_counts
    if counts is None:
        probabilities = feature.reference_probabilities
        return float(probabilities[-1]) if probabilities.size else np.nan
    rows = int(counts.sum())
    return int(counts[-1]) / rows if rows else np.nan


def _dimensions(monitor: MonitorSnapshot) -> FloatArray:
    """The KL of each dimension, by feature, window and dimension."""
    return np.concatenate([np.empty(0), *(monitor.per_dimension[f].ravel() for f in sorted(monitor.per_dimension))])


DRIFT_FAMILIES = (
    *(_of_divergence(column, divergence) for column, divergence in enumerate(KNOWN_DIVERGENCES)),
    DriftFamily(
        _gauge(
            "kldrift_kl_divergence_lower_nats",
            "Lower bound on the KL divergence at the monitor's confidence, one side, shared by a feature's windows.",
        ),
        "window",
        lambda m: m.lower,
    ),
    DriftFamily(
        _gauge(
            "kldrift_kl_divergence_upper_nats",
            "Upper bound on the KL divergence at the monitor's confidence, one side, shared by a feature's windows.",
        ),
        "window",
        lambda m: m.upper,
        3,
    ),
    DriftFamily(
        _gauge(
            "kldrift_drift_log10_p_value",
            "log10 of the p-value of a divergence within the warning tolerance.",
        ),
        "window",
        lambda m: m.log10_p_value,
        4,
    ),
    DriftFamily(
        _gauge(
            "kldrift_kl_noise_floor_nats",
            "KL divergence to expect at this number of samples with no drift at all, overdispersion included.",
        ),
        "window",
        lambda m: m.noise_floor,
    ),
    DriftFamily(
        _gauge("kldrift_drift_threshold_nats", "Tolerated KL divergence, from the configuration."),
        "severity",
        _thresholds,
        scope="reference",
    ),
    DriftFamily(
        _gauge(
            "kldrift_drift_detected",
            "1 if the feature drifts, else 0; over all windows, with the false discovery rate controlled over the"
            " monitor's features.",
        ),
        "severity",
        lambda m: m.detected,
    ),
    DriftFamily(
        _gauge("kldrift_window_samples", "Samples of the feature in the window."),
        "window",
        lambda m: m.samples,
    ),
    DriftFamily(
        _gauge(
            "kldrift_window_ready",
            "1 if the window holds enough samples, and the reference is good enough, to judge; else 0.",
        ),
        "window",
        lambda m: m.ready.astype(np.int64),
    ),
    DriftFamily(
        _gauge("kldrift_missing_ratio", "Share of the window's values that are missing."),
        "window",
        lambda m: m.missing_ratio,
        16,
    ),
    DriftFamily(
        _gauge("kldrift_unseen_ratio", "Share of the window's values that the reference never had."),
        "window",
        lambda m: m.unseen_ratio,
        14,
        kind="categorical",
    ),
    DriftFamily(
        _gauge("kldrift_out_of_range_ratio", "Share of the window's values below or above all bins."),
        "window",
        lambda m: m.out_of_range_ratio,
        13,
        kind="numeric",
    ),
    DriftFamily(
        Family("kldrift_reference_info", "info", "How the divergences are estimated, and against which bins."),
        "identity",
        lambda m: np.ones(len(m.features), dtype=np.int64),
        15,
        scope="reference",
    ),
    DriftFamily(
        _gauge("kldrift_reference_created_timestamp_seconds", "When the reference was made."),
        "feature",
        _of_features(_created_seconds),
        18,
        scope="reference",
    ),
    DriftFamily(
        _gauge(
            "kldrift_reference_rows",
            "Rows of the reference, +Inf where its distribution is known exactly.",
        ),
        "feature",
        _of_features(lambda feature: feature.reference_rows),
        5,
        scope="reference",
    ),
    DriftFamily(
        _gauge("kldrift_reference_missing_ratio", "Share of the reference's values that are missing."),
        "feature",
        _of_features(_reference_missing),
        17,
        scope="reference",
    ),
    DriftFamily(
        _gauge("kldrift_reference_usable", "1 if the reference can support a verdict, else 0."),
        "feature",
        lambda m: np.array([f.problem is None for f in m.features], dtype=np.int64),
        19,
        scope="reference",
    ),
    DriftFamily(
        _gauge("kldrift_segments", "Segments with rows in a window, that of all other values among them."),
        "monitor",
        lambda m: np.array([len(m.segments)], dtype=np.int64),
        scope="segments",
    ),
    DriftFamily(
        _gauge(
            "kldrift_segment_mix_divergence_nats",
            "KL divergence of the live shares of the segments from the reference's.",
        ),
        "mix",
        lambda m: m.segment_mix,
        2,
        scope="segments",
    ),
    DriftFamily(
        _gauge(
            "kldrift_within_segments_divergence_nats",
            "KL divergence within the segments, weighted by their live shares.",
        ),
        "window",
        lambda m: m.within_segments,
        1,
        scope="segments",
    ),
    DriftFamily(
        _gauge(
            "kldrift_dimension_kl_divergence_nats",
            "Kullback-Leibler divergence of one dimension of the live window from the reference.",
        ),
        "dimension",
        _dimensions,
        0,
        scope="all_rows",
    ),
)
