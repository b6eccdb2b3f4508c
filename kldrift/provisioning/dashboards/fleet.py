"""The fleet dashboard: all monitors of all daemons, which drift, and which cannot be judged."""

from kldrift.provisioning.dashboards.panel import NATS, Board, Panel, Query, Variable
from kldrift.provisioning.dashboards.shared import (
    ANY_IS_WARNING,
    FEATURE_UID,
    FLEET_UID,
    GOOD_ZERO,
    MONITOR_UID,
    RELOADED,
    TIMES_TOLERANCE,
    drift_marks,
    lines,
    section,
    stat,
)

# the whole of each monitor, without its segments
WHOLE = 'segment="",monitor=~"$monitor"'

RATIO = (
    f"kldrift_kl_divergence_lower_nats{{{WHOLE}}} / on (job, instance, monitor, feature) group_left ()"
    ' kldrift_drift_threshold_nats{severity="warning"}'
)

# features that cannot be judged over any window
UNDECIDED = f"max by (job, instance, monitor, feature) (kldrift_window_ready{{{WHOLE}}}) == 0"

ROWS = 'kldrift_samples_counted_total{monitor=~"$monitor"}'

NOW = section(
    "Now",
    stat("Monitors", f"count(count by (monitor) (kldrift_window_ready{{{WHOLE}}}))", "Number of monitors."),
    stat(
        "Features",
        f"count(count by (job, instance, monitor, feature) (kldrift_window_ready{{{WHOLE}}}))",
        "Number of monitored features.",
    ),
    stat(
        "Drift",
        f'sum(kldrift_drift_detected{{severity="warning",{WHOLE}}}) or vector(0)',
        "Features with a verdict of drift over all windows, at the warning tolerance; false discovery rate controlled.",
        ANY_IS_WARNING,
    ),
    stat(
        "Critical",
        f'sum(kldrift_drift_detected{{severity="critical",{WHOLE}}}) or vector(0)',
        "The same at the critical tolerance.",
        GOOD_ZERO,
    ),
    stat(
        "Undecided",
        f"count({UNDECIDED}) or vector(0)",
        "Features that cannot be judged over any window: too few samples, or an unusable reference.",
        ANY_IS_WARNING,
    ),
    stat(
        "Daemons down",
        "count(up == 0 and on (job, instance) last_over_time(kldrift_build_info[1d])) or vector(0)",
        "Failing scrapes of daemons that were up within the last day.",
        GOOD_ZERO,
    ),
)

MONITORS = section(
    "Monitors",
    Panel(
        "table",
        "Verdicts of the monitors",
        (
            Query(f"count by (monitor) (max by (monitor, feature) (kldrift_window_ready{{{WHOLE}}}))", "features"),
            Query(f'sum by (monitor) (kldrift_drift_detected{{severity="warning",{WHOLE}}})', "drifting"),
            Query(f'sum by (monitor) (kldrift_drift_detected{{severity="critical",{WHOLE}}})', "critical"),
            Query(f"sum by (monitor) (1 - max by (monitor, feature) (kldrift_window_ready{{{WHOLE}}}))", "undecided"),
            Query(f"sum by (monitor) (max by (monitor, feature) (kldrift_feature_absent{{{WHOLE}}}))", "absent"),
            Query(f"max by (monitor) ({RATIO})", "worst bound / tolerance"),
            Query(f"sum by (monitor) (rate({ROWS}[5m]))", "rows/s"),
        ),
        "Verdicts per monitor, and its largest lower bound in units of the feature's warning tolerance.",
        height=9,
        sorted_by="worst bound / tolerance",
        steps=TIMES_TOLERANCE,
        link=("The monitor", MONITOR_UID, ("monitor",)),
    ),
    Panel(
        "table",
        "Features that drift most",
        (
            Query(f"topk(20, max by (monitor, feature) ({RATIO}))", "bound / tolerance"),
            Query(
                f"max by (monitor, feature) (kldrift_kl_divergence_lower_nats{{{WHOLE}}}) and on (monitor,"
                f" feature) topk(20, max by (monitor, feature) ({RATIO}))",
                "lower bound",
            ),
        ),
        "Ranked by their largest lower bound over all windows, in units of the warning tolerance.",
        height=9,
        units={"lower bound": NATS},
        sorted_by="bound / tolerance",
        steps=TIMES_TOLERANCE,
        link=("The feature", FEATURE_UID, ("monitor", "feature")),
    ),
)

OVER_TIME = section(
    "Over time",
    lines(
        "Features that drift",
        "Features with a verdict of drift at the warning tolerance. A monitor without any verdict has no line.",
        Query(f'sum by (monitor) (kldrift_drift_detected{{severity="warning",{WHOLE}}})', "{{monitor}}"),
    ),
    lines(
        "Share of features that drift, among those that can be judged",
        "When a third or more drift (KldriftManyFeaturesDrift), suspect the pipeline before the world.",
        Query(f'avg by (monitor) (kldrift_drift_detected{{severity="warning",{WHOLE}}})', "{{monitor}}"),
        unit="percentunit",
        maximum=1,
    ),
    Panel(
        "status-history",
        "Worst feature of each monitor, lower bound / warning tolerance",
        (Query(f"max by (monitor) ({RATIO})", "{{monitor}}"),),
        "Green: within the warning tolerance. Red: ten times the tolerance or more. No colour: nothing can be judged.",
        steps=TIMES_TOLERANCE,
    ),
    lines(
        "Rows counted",
        "Rows counted into the windows of each monitor.",
        Query(f"sum by (monitor) (rate({ROWS}[$__rate_interval]))", "{{monitor}}"),
        unit="cps",
    ),
)

UNDECIDED_WINDOWS = section(
    "Undecided",
    Panel(
        "table",
        "Windows that cannot be judged",
        (
            Query(
                f"max by (monitor, feature, window) (kldrift_window_samples{{{WHOLE}}}) and on (monitor,"
                f" feature, window) kldrift_window_ready{{{WHOLE}}} == 0",
                "samples",
            ),
        ),
        "Drift would go unnoticed here: too few samples, or an unusable reference.",
        width=24,
        sorted_by="samples",
        link=("The feature", FEATURE_UID, ("monitor", "feature")),
    ),
)

FLEET = Board(
    FLEET_UID,
    "kldrift: fleet",
    "All monitors: their verdicts, the features that drift most, and what cannot be judged.",
    (Variable("monitor", "Monitor", "kldrift_window_ready", ".*"),),
    (RELOADED, drift_marks('monitor=~"$monitor"')),
    (NOW, MONITORS, OVER_TIME, UNDECIDED_WINDOWS),
)
