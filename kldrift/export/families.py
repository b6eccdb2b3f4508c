"""The drift families: names, meanings, and where their values stand in a snapshot."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kldrift.export.exposition import Family
from kldrift.records import DIVERGENCES, FeatureInfo, FloatArray, IntArray, Kind, MonitorSnapshot

#: What a family has a series for. `reference` is a feature as well, with the labels of `kldrift_reference_info`.
Per = Literal["window", "feature", "reference", "severity"]


@dataclass(frozen=True, slots=True)
class DriftFamily:
    """A family and its values.

    Parameters
    ----------
    values : (W, F) for `window`, (F,) for `feature` and `reference`, (F, 2) for `severity` (warning, critical);
        NaN where a series has no value
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

    def applies(self, monitor: MonitorSnapshot) -> bool:
        """Whether the monitor has this family at all."""
        return self.divergence in (None, "kl") or self.divergence in monitor.exported


def _gauge(name: str, text: str) -> Family:
    return Family(name, "gauge", text)


def _divergence(divergence: str, name: str, text: str, rank: int | None) -> DriftFamily:
    column = DIVERGENCES.index(divergence)
    return DriftFamily(_gauge(name, text), "window", lambda m: m.divergences[:, :, column], rank, divergence=divergence)


def _of_features(of: Callable[[FeatureInfo], float]) -> Callable[[MonitorSnapshot], FloatArray]:
    return lambda monitor: np.array([of(feature) for feature in monitor.features], dtype=np.float64)


def _thresholds(monitor: MonitorSnapshot) -> FloatArray:
    return np.array([(f.warning, f.critical) for f in monitor.features], dtype=np.float64).reshape(-1, 2)


def _created_seconds(feature: FeatureInfo) -> float:
    """NaN where it is not known when the reference was made."""
    return feature.reference_created_ms / 1000 if feature.reference_created_ms > 0 else np.nan


def _reference_missing(feature: FeatureInfo) -> float:
    """Share of missing values in the reference; *missing* is the last cell of every feature."""
    counts = feature.reference_counts
    if counts is None:
        return float(feature.reference_probabilities[-1])
    rows = int(counts.sum())
    return int(counts[-1]) / rows if rows else np.nan


DRIFT_FAMILIES = (
    _divergence(
        "kl",
        "kldrift_kl_divergence_nats",
        "Kullback-Leibler divergence of the live window from the reference, D(live || reference).",
        None,
    ),
    _divergence(
        "reverse_kl",
        "kldrift_reverse_kl_divergence_nats",
        "Kullback-Leibler divergence of the reference from the smoothed live window, D(reference || live).",
        8,
    ),
    _divergence(
        "js",
        "kldrift_js_divergence_nats",
        "Jensen-Shannon divergence of the live window and the reference, at most ln 2.",
        7,
    ),
    _divergence("psi", "kldrift_psi", "Population stability index (Jeffreys divergence).", 9),
    _divergence("total_variation", "kldrift_total_variation", "Total variation distance, 0 to 1.", 6),
    _divergence("hellinger", "kldrift_hellinger", "Hellinger distance, 0 to 1.", 5),
    _divergence("entropy", "kldrift_entropy_nats", "Entropy of the live window.", 3),
    _divergence(
        "cross_entropy",
        "kldrift_cross_entropy_nats",
        "Cross-entropy of the live window under the reference: its entropy plus its KL divergence.",
        4,
    ),
    DriftFamily(
        _gauge(
            "kldrift_kl_divergence_lower_nats",
            "Lower confidence bound on the KL divergence: 99.99 %, one side, shared by the windows of a feature.",
        ),
        "window",
        lambda m: m.lower,
    ),
    DriftFamily(
        _gauge(
            "kldrift_kl_divergence_upper_nats",
            "Upper confidence bound on the KL divergence: 99.99 %, one side, shared by the windows of a feature.",
        ),
        "window",
        lambda m: m.upper,
        0,
    ),
    DriftFamily(
        _gauge(
            "kldrift_drift_log10_p_value",
            "log10 of the p-value of a divergence within the warning tolerance.",
        ),
        "window",
        lambda m: m.log10_p_value,
        1,
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
        13,
    ),
    DriftFamily(
        _gauge("kldrift_unseen_ratio", "Share of the window's values that the reference never had."),
        "window",
        lambda m: m.unseen_ratio,
        11,
        kind="categorical",
    ),
    DriftFamily(
        _gauge("kldrift_out_of_range_ratio", "Share of the window's values below or above all bins."),
        "window",
        lambda m: m.out_of_range_ratio,
        10,
        kind="numeric",
    ),
    DriftFamily(
        Family("kldrift_reference_info", "info", "How the divergences are estimated, and against which bins."),
        "reference",
        lambda m: np.ones(len(m.features), dtype=np.int64),
        12,
    ),
    DriftFamily(
        _gauge("kldrift_reference_created_timestamp_seconds", "When the reference was made."),
        "feature",
        _of_features(_created_seconds),
        15,
    ),
    DriftFamily(
        _gauge(
            "kldrift_reference_rows",
            "Rows of the reference, +Inf where its distribution is known exactly.",
        ),
        "feature",
        _of_features(lambda feature: feature.reference_rows),
        2,
    ),
    DriftFamily(
        _gauge("kldrift_reference_missing_ratio", "Share of the reference's values that are missing."),
        "feature",
        _of_features(_reference_missing),
        14,
    ),
)
