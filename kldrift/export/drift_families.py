"""The metric families about drift: names, help texts, and where their values are in a snapshot."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kldrift.export.exposition import Family
from kldrift.records.divergences import DIVERGENCES, KL, KNOWN_DIVERGENCES, Divergence
from kldrift.records.kinds import INVALID, KINDS, MISSING, Kind, Outside
from kldrift.records.snapshots import FeatureInfo, MonitorSnapshot
from kldrift.records.specs import MonitorSpec, ReferenceFamily, ReferenceInline
from kldrift.records.types import FloatArray, IntArray

#: What a family has a series for within a monitor. `identity` is one per feature, with the labels of
#: `kldrift_reference_info`; `mix` is one per window.
Per = Literal["window", "feature", "identity", "severity", "dimension", "mix", "monitor"]

#: What the values describe: the `reference` and the configuration, which do not change between scrapes; the live `rows`
#: of the monitor and of each segment; `all_rows`, of the monitor only; the `segments` themselves, where configured.
Scope = Literal["reference", "rows", "all_rows", "segments"]


@dataclass(frozen=True, slots=True)
class SeriesShape:
    """What determines the number of series of a monitor once no window is empty and every reference exists.

    Parameters
    ----------
    kinds : number of features of each kind
    n_dimensions : total dimensions of the features whose KL is exported per dimension
    n_silent : number of features whose reference does not say how many values are missing
    """

    kinds: Mapping[Kind, int]
    n_windows: int
    exported: tuple[str, ...]
    n_dimensions: int
    segmented: bool
    n_silent: int = 0

    @property
    def n_features(self) -> int:
        """Number of features of all kinds."""
        return sum(self.kinds.values())

    @classmethod
    def of_snapshot(cls, monitor: MonitorSnapshot) -> "SeriesShape":
        """Return the shape of a running monitor."""
        return cls(
            Counter(feature.kind for feature in monitor.features),
            len(monitor.windows),
            monitor.exported,
            sum(divergences.shape[1] for divergences in monitor.per_dimension.values()),
            is_segmented(monitor),
            sum(not feature.knows_missing for feature in monitor.features),
        )

    @classmethod
    def of_spec(cls, spec: MonitorSpec) -> "SeriesShape":
        """Return the shape of a configured monitor."""
        return cls(
            Counter(feature.kind for feature in spec.features),
            len(spec.windows),
            spec.divergences,
            sum(feature.dimensions for feature in spec.features if feature.per_dimension),
            spec.segments is not None,
            sum(
                isinstance(given := feature.reference, ReferenceInline | ReferenceFamily) and not given.knows_missing
                for feature in spec.features
            ),
        )


def is_segmented(monitor: MonitorSnapshot) -> bool:
    """Whether the monitor has segments, even if none of them has rows yet."""
    return bool(monitor.segments) or monitor.segment_mix.size > 0


@dataclass(frozen=True, slots=True)
class DriftFamily:
    """A metric family and where its values come from.

    Parameters
    ----------
    values : (W, F) for `window`, (F,) for `feature` and `identity`, (F, 2) for `severity` (warning, critical), (n,)
        for `dimension` (by feature, window and dimension), (W,) for `mix`, (1,) for `monitor`; NaN where a series has
        no value
    rank : families with the lowest rank are dropped first when there are too many series; None: never dropped
    outside : only features whose values can lie outside their cells in this way have it
    divergence : only monitors that export it have it
    of_missing : only features have it whose reference says how many values are missing
    """

    family: Family
    per: Per
    values: Callable[[MonitorSnapshot], FloatArray | IntArray]
    rank: int | None = None
    outside: Outside | None = None
    divergence: str | None = None
    of_missing: bool = False
    scope: Scope = "rows"

    def applies(self, exported: Sequence[str], segmented: bool) -> bool:
        """Whether a monitor has this family at all."""
        return self.divergence in (None, DIVERGENCES[KL], *exported) and (segmented or self.scope != "segments")

    def n_series(self, shape: SeriesShape) -> int:
        """Return the number of series of a monitor without its segments."""
        if not self.applies(shape.exported, shape.segmented):
            return 0
        n_features = sum(n for kind, n in shape.kinds.items() if self.outside in (None, KINDS[kind].outside))
        return {
            "window": n_features * shape.n_windows,
            "severity": n_features * 2,
            "feature": n_features - (shape.n_silent if self.of_missing else 0),
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
    """NaN where the creation time is unknown, or the reference does not exist yet."""
    return feature.reference_created_ms / 1000 if feature.reference_created_ms > 0 else np.nan


def _reference_missing(feature: FeatureInfo) -> float:
    """Return the share of missing values in the reference; NaN where it says nothing about them."""
    unknown = bool(np.isnan(feature.reference_probabilities[MISSING:]).any())
    return np.nan if unknown else _reference_share(feature, MISSING)


def _reference_invalid(feature: FeatureInfo) -> float:
    """Return the share of invalid values in the reference; 0 where it says nothing about them."""
    return _reference_share(feature, INVALID)


def _reference_share(feature: FeatureInfo, cell: int) -> float:
    """Return the share of the reference in a cell; of counts as they are, otherwise of what they were smoothed to."""
    counts, probabilities = feature.reference_counts, feature.reference_probabilities
    if counts is None:
        return float(np.nan_to_num(probabilities[cell])) if probabilities.size else np.nan
    rows = int(counts.sum())
    return int(counts[cell]) / rows if rows else np.nan


def _dimensions(monitor: MonitorSnapshot) -> FloatArray:
    """Return the KL of each dimension, by feature, window and dimension."""
    return np.concatenate([np.empty(0), *(monitor.per_dimension[f].ravel() for f in sorted(monitor.per_dimension))])


DRIFT_FAMILIES = (
    *(_of_divergence(column, divergence) for column, divergence in enumerate(KNOWN_DIVERGENCES)),
    DriftFamily(
        _gauge(
            "kldrift_kl_divergence_lower_nats",
            "Lower confidence bound of the KL divergence, one-sided; the windows of a feature share the confidence.",
        ),
        "window",
        lambda m: m.lower,
    ),
    DriftFamily(
        _gauge(
            "kldrift_kl_divergence_upper_nats",
            "Upper confidence bound of the KL divergence, one-sided; the windows of a feature share the confidence.",
        ),
        "window",
        lambda m: m.upper,
        3,
    ),
    DriftFamily(
        _gauge(
            "kldrift_drift_log10_p_value",
            "log10 of the p-value for a true divergence within the warning tolerance.",
        ),
        "window",
        lambda m: m.log10_p_value,
        4,
    ),
    DriftFamily(
        _gauge(
            "kldrift_kl_noise_floor_nats",
            "KL divergence expected from chance alone at this number of samples, including overdispersion.",
        ),
        "window",
        lambda m: m.noise_floor,
    ),
    DriftFamily(
        _gauge("kldrift_drift_threshold_nats", "Tolerance of the KL divergence, from the configuration."),
        "severity",
        _thresholds,
        scope="reference",
    ),
    DriftFamily(
        _gauge(
            "kldrift_drift_detected",
            "1 if the feature drifts, else 0. A verdict over all windows, with the false discovery rate controlled over"
            " the features of the monitor.",
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
            "1 if the window has enough samples and the reference can support a verdict, else 0.",
        ),
        "window",
        lambda m: m.ready.astype(np.int64),
    ),
    DriftFamily(
        _gauge(
            "kldrift_feature_absent",
            "1 if the window holds rows but no value of the feature, whose reference has some, else 0.",
        ),
        "window",
        lambda m: m.absent.astype(np.int64),
        23,
    ),
    DriftFamily(
        _gauge("kldrift_missing_ratio", "Share of missing values in the window."),
        "window",
        lambda m: m.missing_ratio,
        19,
    ),
    DriftFamily(
        _gauge("kldrift_invalid_ratio", "Share of values of the wrong type in the window."),
        "window",
        lambda m: m.invalid_ratio,
        17,
    ),
    DriftFamily(
        _gauge("kldrift_unseen_ratio", "Share of values in the window that do not occur in the reference."),
        "window",
        lambda m: m.unseen_ratio,
        15,
        outside="unseen_ratio",
    ),
    DriftFamily(
        _gauge("kldrift_out_of_range_ratio", "Share of values in the window outside the range of the reference."),
        "window",
        lambda m: m.out_of_range_ratio,
        13,
        outside="out_of_range_ratio",
    ),
    DriftFamily(
        Family(
            "kldrift_reference_info", "info", "How the divergences are estimated, and with which bins and reference."
        ),
        "identity",
        lambda m: np.ones(len(m.features), dtype=np.int64),
        16,
        scope="reference",
    ),
    DriftFamily(
        _gauge("kldrift_reference_created_timestamp_seconds", "When the reference was created."),
        "feature",
        _of_features(_created_seconds),
        21,
        scope="reference",
    ),
    DriftFamily(
        _gauge(
            "kldrift_reference_rows",
            "Rows in the reference, +Inf where its distribution is known exactly.",
        ),
        "feature",
        _of_features(lambda feature: feature.reference_rows),
        5,
        scope="reference",
    ),
    DriftFamily(
        _gauge(
            "kldrift_reference_missing_ratio",
            "Share of missing values in the reference, where it says how many there are.",
        ),
        "feature",
        _of_features(_reference_missing),
        20,
        of_missing=True,
        scope="reference",
    ),
    DriftFamily(
        _gauge(
            "kldrift_reference_invalid_ratio",
            "Share of values of the wrong type in the reference, 0 where it does not say.",
        ),
        "feature",
        _of_features(_reference_invalid),
        18,
        scope="reference",
    ),
    DriftFamily(
        _gauge(
            "kldrift_unseen_expected_ratio",
            "Share of new categories to expect though nothing drifts, estimated from the rare ones of the reference.",
        ),
        "feature",
        _of_features(lambda feature: feature.expected_unseen),
        14,
        outside="unseen_ratio",
        scope="reference",
    ),
    DriftFamily(
        _gauge("kldrift_reference_usable", "1 if the reference can support a verdict, else 0."),
        "feature",
        lambda m: np.array([f.problem is None for f in m.features], dtype=np.int64),
        22,
        scope="reference",
    ),
    DriftFamily(
        _gauge("kldrift_segments", "Segments with rows in a window, including the one for all other values."),
        "monitor",
        lambda m: np.array([len(m.segments)], dtype=np.int64),
        scope="segments",
    ),
    DriftFamily(
        _gauge(
            "kldrift_segment_mix_divergence_nats",
            "KL divergence of the live segment shares from those in the reference.",
        ),
        "mix",
        lambda m: m.segment_mix,
        2,
        scope="segments",
    ),
    DriftFamily(
        _gauge(
            "kldrift_within_segments_divergence_nats",
            "Mean KL divergence within the segments, weighted by their live shares.",
        ),
        "window",
        lambda m: m.within_segments,
        1,
        scope="segments",
    ),
    DriftFamily(
        _gauge(
            "kldrift_dimension_kl_divergence_nats",
            "KL divergence of one dimension of the live window from the reference.",
        ),
        "dimension",
        _dimensions,
        0,
        scope="all_rows",
    ),
)
