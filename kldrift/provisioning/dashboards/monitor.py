"""The monitor dashboard: the features of one monitor side by side, and its segments."""

from kldrift.provisioning.dashboards.panel import NATS, Board, Need, Panel, Query, Variable
from kldrift.provisioning.dashboards.shared import (
    ANY_IS_WARNING,
    FEATURE_UID,
    GOOD_ZERO,
    INSTANCE,
    MONITOR_UID,
    RELOADED,
    TIMES_TOLERANCE,
    drift_marks,
    lines,
    section,
    stat,
)

MATCHERS = 'instance=~"$instance",monitor="$monitor"'
WINDOW = f'{MATCHERS},window="$window"'
WHOLE = f'{WINDOW},segment=""'
SEGMENTS = f'{WINDOW},segment=~"$segment"'

RATIO = (
    f"kldrift_kl_divergence_lower_nats{{{WHOLE}}} / on (job, instance, monitor, feature) group_left ()"
    f' kldrift_drift_threshold_nats{{severity="warning",{MATCHERS}}}'
)

INVALID = f"kldrift_values_invalid_total{{{MATCHERS}}}"
VERDICTS = f'kldrift_drift_detected{{severity="warning",{MATCHERS},segment=~"$segment"}}'


def largest(metric: str, n: int) -> str:
    """Select the series of a metric that were largest in the time range, the same ones at every step."""
    series = f"{metric}{{{WHOLE}}}"
    return f"{series} and on (job, instance, feature) topk({n}, max_over_time({series}[$__range] @ end()))"


def of_features(
    title: str, metric: str, description: str, unit: str = NATS, width: int = 12, needs: Need | None = None
) -> Panel:
    """Return a panel with a line for each of the ten features with the largest values of a metric."""
    query = Query(largest(metric, 10), "{{feature}}")
    return lines(f"{title}, the ten largest", description, query, unit=unit, width=width, needs=needs)


def by_feature(metric: str, aggregate: str = "max", matchers: str = WHOLE) -> str:
    """Return the query for a column of the table of features."""
    return f"{aggregate} by (monitor, feature) ({metric}{{{matchers}}})"


NOW = section(
    "Now",
    stat("Features", f"count(kldrift_window_ready{{{WHOLE}}})", "Features monitored over this window."),
    stat(
        "Drift",
        f'sum(kldrift_drift_detected{{severity="warning",segment="",{MATCHERS}}}) or vector(0)',
        "Features with a verdict of drift over all windows, at the warning tolerance.",
        ANY_IS_WARNING,
    ),
    stat(
        "Critical",
        f'sum(kldrift_drift_detected{{severity="critical",segment="",{MATCHERS}}}) or vector(0)',
        "The same at the critical tolerance.",
        GOOD_ZERO,
    ),
    stat(
        "Undecided",
        f"count(kldrift_window_ready{{{WHOLE}}} == 0) or vector(0)",
        "Features that cannot be judged over this window.",
        ANY_IS_WARNING,
    ),
    stat("Samples", f"max(kldrift_window_samples{{{WHOLE}}})", "Samples in the window, of the feature with the most."),
    stat(
        "Oldest reference",
        f"time() - min(kldrift_reference_created_timestamp_seconds{{{MATCHERS}}})",
        "Age of the oldest reference. Empty where references move with time.",
        unit="s",
    ),
)

FEATURES = section(
    "Features",
    Panel(
        "table",
        "Features by lower bound",
        (
            Query(f"max by (monitor, feature) ({RATIO})", "bound / tolerance"),
            Query(by_feature("kldrift_kl_divergence_lower_nats"), "lower bound"),
            Query(by_feature("kldrift_kl_divergence_nats"), "KL"),
            Query(by_feature("kldrift_kl_divergence_upper_nats"), "upper bound"),
            Query(by_feature("kldrift_kl_noise_floor_nats"), "noise floor"),
            Query(by_feature("kldrift_window_samples"), "samples"),
            Query(by_feature("kldrift_missing_ratio"), "missing"),
            Query(by_feature("kldrift_invalid_ratio"), "invalid"),
            Query(by_feature("kldrift_unseen_ratio"), "unseen", "categorical"),
            Query(by_feature("kldrift_out_of_range_ratio"), "out of range", "numeric"),
        ),
        "The lower bound is the part of the divergence that chance does not explain. Tolerance: the warning one.",
        width=24,
        height=11,
        units=dict.fromkeys(("lower bound", "KL", "upper bound", "noise floor"), NATS)
        | dict.fromkeys(("missing", "invalid", "unseen", "out of range"), "percentunit"),
        sorted_by="bound / tolerance",
        steps=TIMES_TOLERANCE,
        link=("The feature", FEATURE_UID, ("monitor", "feature")),
    ),
    Panel(
        "status-history",
        "Lower bound / warning tolerance, the 40 worst features",
        (
            Query(
                f"({RATIO}) and on (job, instance, feature) topk(40, max_over_time("
                f"kldrift_kl_divergence_lower_nats{{{WHOLE}}}[$__range] @ end()))",
                "{{feature}}",
            ),
        ),
        "Green: within the warning tolerance. Red: ten times the tolerance or more. No colour: undecided.",
        width=24,
        height=12,
        steps=TIMES_TOLERANCE,
    ),
    of_features(
        "Lower bounds",
        "kldrift_kl_divergence_lower_nats",
        "A line above the tolerance of its feature is drift; a gap is a time without a verdict.",
    ),
    of_features(
        "Divergences",
        "kldrift_kl_divergence_nats",
        "The estimates themselves, including chance: in small windows they are large even without drift.",
    ),
)

DATA_QUALITY = section(
    "Data quality",
    of_features(
        "Missing",
        "kldrift_missing_ratio",
        "Values that are absent or null.",
        unit="percentunit",
        width=6,
    ),
    of_features(
        "Invalid",
        "kldrift_invalid_ratio",
        "Values of the wrong type, such as text where a number is expected.",
        unit="percentunit",
        width=6,
    ),
    of_features(
        "Unseen",
        "kldrift_unseen_ratio",
        "Categories that do not occur in the reference.",
        unit="percentunit",
        width=6,
        needs="categorical",
    ),
    of_features(
        "Out of range",
        "kldrift_out_of_range_ratio",
        "Values below or above the range of the reference.",
        unit="percentunit",
        width=6,
        needs="numeric",
    ),
    lines(
        "Rows",
        "Late rows arrived later than allowed_lateness permits and are in no window.",
        Query(f"sum(rate(kldrift_samples_counted_total{{{MATCHERS}}}[$__rate_interval]))", "counted"),
        Query(f"sum(rate(kldrift_samples_late_total{{{MATCHERS}}}[$__rate_interval]))", "late"),
        unit="cps",
    ),
    lines(
        "Values of the wrong type, the ten most frequent",
        "These values count as invalid.",
        Query(f"topk(10, sum by (feature) (rate({INVALID}[$__rate_interval])))", "{{feature}}"),
        unit="cps",
    ),
)

BY_SEGMENT = section(
    "Segments",
    Panel(
        "table",
        "Segments by their worst feature",
        (
            Query(f"max by (segment) (kldrift_kl_divergence_lower_nats{{{SEGMENTS}}})", "worst lower bound"),
            Query(f"sum by (segment) ({VERDICTS})", "drifting"),
            Query(f"max by (segment) (kldrift_window_samples{{{SEGMENTS}}})", "samples"),
        ),
        "The rows of each segment, compared with the reference rows of the same segment.",
        units={"worst lower bound": NATS},
        sorted_by="worst lower bound",
    ),
    lines(
        "Worst lower bound of each segment",
        "The largest lower bound over all features.",
        Query(f"max by (segment) (kldrift_kl_divergence_lower_nats{{{SEGMENTS}}})", "{{segment}}"),
        unit=NATS,
    ),
    lines(
        "Mix of the segments",
        "How far the shares of the segments have moved from those in the reference.",
        Query(f"kldrift_segment_mix_divergence_nats{{{WINDOW}}}", "mix"),
        unit=NATS,
    ),
    of_features(
        "Within the segments",
        "kldrift_within_segments_divergence_nats",
        "How far each feature has moved within the segments, weighted by their shares.",
    ),
    needs="segments",
)

MONITOR = Board(
    MONITOR_UID,
    "kldrift: monitor",
    "The features of one monitor over one window, ranked by lower bound, and its segments.",
    (
        INSTANCE,
        Variable("monitor", "Monitor", 'kldrift_window_ready{instance=~"$instance"}'),
        Variable("window", "Window", f"kldrift_window_ready{{{MATCHERS}}}"),
        Variable("segment", "Segment", f'kldrift_window_ready{{{MATCHERS},segment!=""}}', ".+", needs="segments"),
    ),
    (RELOADED, drift_marks(MATCHERS)),
    (NOW, FEATURES, DATA_QUALITY, BY_SEGMENT),
)
