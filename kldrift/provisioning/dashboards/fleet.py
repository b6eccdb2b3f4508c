"""All monitors of all daemons: which drift, and which cannot tell."""

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

# features that no window of theirs can judge
UNDECIDED = f"max by (job, instance, monitor, feature) (kldrift_window_ready{{{WHOLE}}}) == 0"

ROWS = 'kldrift_samples_counted_total{monitor=~"$monitor"}'

NOW = section(
    "Now",
    stat("Monitors", f"count(count by (monitor) (kldrift_window_ready{{{WHOLE}}}))", "Monitors watched."),
    stat(
        "Features",
        f"count(count by (job, instance, monitor, feature) (kldrift_window_ready{{{WHOLE}}}))",
        "Features watched.",
    ),
    stat(
        "Drift",
        f'sum(kldrift_drift_detected{{severity="warning",{WHOLE}}}) or vector(0)',
        "By the verdict over all windows at the warning tolerance, false discoveries controlled.",
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
        "Features that no window can judge: too few samples, or a reference that supports no verdict.",
        ANY_IS_WARNING,
    ),
    stat(
        "Daemons down",
        "count(up == 0 and on (job, instance) last_over_time(kldrift_build_info[1d])) or vector(0)",
        "Scrapes that fail, of daemons that were there within a day.",
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
            Query(f"max by (monitor) ({RATIO})", "worst bound / tolerance"),
            Query(f"sum by (monitor) (rate({ROWS}[5m]))", "rows/s"),
        ),
        "Each monitor's verdicts; the largest lower bound in units of its feature's warning tolerance.",
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
        "By the largest lower bound over their windows, in units of the warning tolerance.",
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
        "By the verdict at the warning tolerance. A monitor without any verdict has no line.",
        Query(f'sum by (monitor) (kldrift_drift_detected{{severity="warning",{WHOLE}}})', "{{monitor}}"),
    ),
    lines(
        "Share that drifts, of the features that can be judged",
        "A third or more is seldom the world (KldriftManyFeaturesDrift): look at the pipeline first.",
        Query(f'avg by (monitor) (kldrift_drift_detected{{severity="warning",{WHOLE}}})', "{{monitor}}"),
        unit="percentunit",
        maximum=1,
    ),
    Panel(
        "status-history",
        "Worst feature of each monitor, lower bound / warning tolerance",
        (Query(f"max by (monitor) ({RATIO})", "{{monitor}}"),),
        "Green within the warning tolerance, red from ten times of it. No colour: nothing can be judged.",
        steps=TIMES_TOLERANCE,
    ),
    lines(
        "Rows counted",
        "Rows that went into the windows of each monitor.",
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
        "No drift would be seen there: too few samples, or a reference that supports no verdict.",
        width=24,
        sorted_by="samples",
        link=("The feature", FEATURE_UID, ("monitor", "feature")),
    ),
)

FLEET = Board(
    FLEET_UID,
    "kldrift: fleet",
    "All monitors: their verdicts, the features that drift most, and what is undecided.",
    (Variable("monitor", "Monitor", "kldrift_window_ready", ".*"),),
    (RELOADED, drift_marks('monitor=~"$monitor"')),
    (NOW, MONITORS, OVER_TIME, UNDECIDED_WINDOWS),
)
