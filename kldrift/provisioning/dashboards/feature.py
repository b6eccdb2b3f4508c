"""One feature: its divergence, how sure it is, and why."""

from collections.abc import Iterable

from kldrift.provisioning.dashboards.panel import NATS, Board, Panel, Query, Variable
from kldrift.provisioning.dashboards.shared import (
    FEATURE_UID,
    GOOD_ONE,
    GOOD_ZERO,
    INSTANCE,
    RELOADED,
    drift_marks,
    lines,
    section,
    stat,
)
from kldrift.records.divergences import ENTROPIES, OTHER_DIVERGENCES, Divergence

MATCHERS = 'instance=~"$instance",monitor="$monitor",feature="$feature"'
WINDOW = f'{MATCHERS},window=~"$window"'
WHOLE = f'{WINDOW},segment=""'
SEGMENTS = f'{WINDOW},segment=~"$segment"'

VERDICTS = (("0", "none", "green"), ("1", "drift", "red"))
USABLE = (("0", "no", "red"), ("1", "yes", "green"))


def tolerance(severity: str) -> str:
    """What the configuration accepts."""
    return f'max(kldrift_drift_threshold_nats{{{MATCHERS},severity="{severity}"}})'


def by_window(divergences: Iterable[Divergence]) -> tuple[Query, ...]:
    """A line for each divergence and window."""
    return tuple(
        Query(f"max by (window) ({each.metric}{{{WHOLE}}})", f"{each.title} {{{{window}}}}", each)
        for each in divergences
    )


NOW = section(
    "Now",
    stat(
        "Verdict at the warning tolerance",
        f'max(kldrift_drift_detected{{severity="warning",segment="",{MATCHERS}}})',
        "Over all windows, false discoveries controlled over the monitor's features. Nothing: undecided.",
        GOOD_ZERO,
        words=VERDICTS,
    ),
    stat(
        "At the critical one",
        f'max(kldrift_drift_detected{{severity="critical",segment="",{MATCHERS}}})',
        "The same at the critical tolerance.",
        GOOD_ZERO,
        words=VERDICTS,
    ),
    stat(
        "Largest lower bound",
        f"max(kldrift_kl_divergence_lower_nats{{{WHOLE}}})",
        "Over the windows chosen.",
        unit=NATS,
    ),
    stat(
        "Reference usable",
        f"min(kldrift_reference_usable{{{MATCHERS}}})",
        "Whether the reference can support a verdict.",
        GOOD_ONE,
        words=USABLE,
    ),
    stat(
        "Reference rows",
        f"min(kldrift_reference_rows{{{MATCHERS}}})",
        "Infinite where its distribution is known exactly.",
    ),
    stat(
        "Reference age",
        f"time() - min(kldrift_reference_created_timestamp_seconds{{{MATCHERS}}})",
        "Nothing where it moves on with time.",
        unit="s",
    ),
)

DIVERGENCE = section(
    "Divergence",
    Panel(
        "timeseries",
        "KL over $window",
        (
            Query(f"max(kldrift_kl_divergence_nats{{{WHOLE}}})", "KL"),
            Query(f"max(kldrift_kl_divergence_lower_nats{{{WHOLE}}})", "lower bound"),
            Query(f"max(kldrift_kl_divergence_upper_nats{{{WHOLE}}})", "upper bound"),
            Query(f"max(kldrift_kl_noise_floor_nats{{{WHOLE}}})", "noise floor"),
            Query(tolerance("warning"), "warning tolerance"),
            Query(tolerance("critical"), "critical tolerance"),
        ),
        "A drift is a lower bound (the lower edge of the band) above a tolerance.",
        NATS,
        height=10,
        minimum=0,
        dashed={"warning tolerance": "orange", "critical tolerance": "red", "noise floor": "text"},
        band=("lower bound", "upper bound"),
        repeat="window",
    ),
)

WINDOWS_SIDE_BY_SIDE = section(
    "Windows side by side",
    lines(
        "Lower bounds",
        "A drift in a short window only is a burst; one in a long window too is there to stay.",
        Query(f"max by (window) (kldrift_kl_divergence_lower_nats{{{WHOLE}}})", "{{window}}"),
        Query(tolerance("warning"), "warning tolerance"),
        Query(tolerance("critical"), "critical tolerance"),
        unit=NATS,
        dashed={"warning tolerance": "orange", "critical tolerance": "red"},
    ),
    Panel(
        "timeseries",
        "log10 of the p-value",
        (Query(f"min by (window) (kldrift_drift_log10_p_value{{{WHOLE}}})", "{{window}}"),),
        "Of a divergence within the warning tolerance; -4 is one in 10,000. One window, not corrected.",
        "none",
        maximum=0,
    ),
    lines(
        "Samples",
        "Of the feature in each window.",
        Query(f"sum by (window) (kldrift_window_samples{{{WHOLE}}})", "{{window}}"),
    ),
    Panel(
        "status-history",
        "Ready",
        (Query(f"min by (window) (kldrift_window_ready{{{WHOLE}}})", "{{window}}"),),
        "Whether the window can be judged.",
        steps=GOOD_ONE,
        words=(("0", "undecided", "orange"), ("1", "ready", "green")),
    ),
    lines(
        "Other divergences",
        "Those that the monitor is configured to export. No verdict is made of them.",
        *by_window(OTHER_DIVERGENCES),
        unit="none",
    ),
    lines(
        "Entropy",
        "Of the live window, and under the reference; what lies between them is the KL.",
        *by_window(ENTROPIES),
        unit=NATS,
    ),
    lines(
        "Dimensions, the ten largest",
        "The KL of single dimensions of a vector, where it is exported.",
        Query(
            f"topk(10, max by (window, dimension) (kldrift_dimension_kl_divergence_nats{{{WINDOW}}}))",
            "{{dimension}} over {{window}}",
        ),
        unit=NATS,
        needs="dimensions",
    ),
)

DATA_QUALITY = section(
    "Data quality",
    lines(
        "Missing, unseen, out of range",
        "If these move with the divergence, it is the data, not the world.",
        Query(f"max by (window) (kldrift_missing_ratio{{{WHOLE}}})", "missing {{window}}"),
        Query(f"max by (window) (kldrift_unseen_ratio{{{WHOLE}}})", "unseen {{window}}", "categorical"),
        Query(f"max by (window) (kldrift_out_of_range_ratio{{{WHOLE}}})", "out of range {{window}}", "numeric"),
        Query(f"max(kldrift_reference_missing_ratio{{{MATCHERS}}})", "missing in the reference"),
        unit="percentunit",
        dashed={"missing in the reference": "text"},
    ),
    lines(
        "Values of the wrong type",
        "They count as missing.",
        Query(
            f"sum by (instance) (rate(kldrift_values_invalid_total{{{MATCHERS}}}[$__rate_interval]))", "{{instance}}"
        ),
        unit="cps",
    ),
)

BY_SEGMENT = section(
    "Segments",
    lines(
        "Lower bounds of the segments",
        "Held against the tolerance of the feature.",
        Query(
            f"max by (segment, window) (kldrift_kl_divergence_lower_nats{{{SEGMENTS}}})", "{{segment}} over {{window}}"
        ),
        unit=NATS,
    ),
    lines(
        "Samples of the segments",
        "Small segments may rightly be undecided.",
        Query(f"sum by (segment, window) (kldrift_window_samples{{{SEGMENTS}}})", "{{segment}} over {{window}}"),
    ),
    needs="segments",
)

FEATURE = Board(
    FEATURE_UID,
    "kldrift: feature",
    "One feature over all of its windows: divergence, bounds, tolerances, samples, data quality, segments.",
    (
        INSTANCE,
        Variable("monitor", "Monitor", 'kldrift_window_ready{instance=~"$instance"}'),
        Variable("feature", "Feature", 'kldrift_window_ready{instance=~"$instance",monitor="$monitor"}'),
        Variable("window", "Window", f"kldrift_window_ready{{{MATCHERS}}}", ".*"),
        Variable("segment", "Segment", f'kldrift_window_ready{{{MATCHERS},segment!=""}}', ".+", needs="segments"),
    ),
    (RELOADED, drift_marks(MATCHERS)),
    (NOW, DIVERGENCE, WINDOWS_SIDE_BY_SIDE, DATA_QUALITY, BY_SEGMENT),
)
