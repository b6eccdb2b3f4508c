"""The feature dashboard: its divergence, how certain it is, and what is behind it."""

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
    """Return the query for a tolerance of the configuration."""
    return f'max(kldrift_drift_threshold_nats{{{MATCHERS},severity="{severity}"}})'


def by_window(divergences: Iterable[Divergence]) -> tuple[Query, ...]:
    """Return a query for each divergence, with a line per window."""
    return tuple(
        Query(f"max by (window) ({each.metric}{{{WHOLE}}})", f"{each.title} {{{{window}}}}", each)
        for each in divergences
    )


NOW = section(
    "Now",
    stat(
        "Verdict at the warning tolerance",
        f'max(kldrift_drift_detected{{severity="warning",segment="",{MATCHERS}}})',
        "Over all windows; false discovery rate controlled over the features of the monitor. Empty: undecided.",
        GOOD_ZERO,
        words=VERDICTS,
    ),
    stat(
        "Verdict at the critical tolerance",
        f'max(kldrift_drift_detected{{severity="critical",segment="",{MATCHERS}}})',
        "The same at the critical tolerance.",
        GOOD_ZERO,
        words=VERDICTS,
    ),
    stat(
        "Absent",
        f"max(kldrift_feature_absent{{{WHOLE}}})",
        "Whether one of the selected windows holds rows but no value of the feature.",
        GOOD_ZERO,
        words=(("0", "values arrive", "green"), ("1", "absent", "red")),
    ),
    stat(
        "Largest lower bound",
        f"max(kldrift_kl_divergence_lower_nats{{{WHOLE}}})",
        "The largest lower bound over the selected windows.",
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
        "Rows in the reference; infinite where its distribution is known exactly.",
    ),
    stat(
        "Reference age",
        f"time() - min(kldrift_reference_created_timestamp_seconds{{{MATCHERS}}})",
        "Empty where the reference moves with time.",
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
        "A window drifts when its lower bound (the lower edge of the band) is above a tolerance.",
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
        "Drift in a short window only is a burst; drift in a long window as well is there to stay.",
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
        "For a divergence within the warning tolerance; -4 is 1 in 10,000. Not corrected for the number of windows.",
        "none",
        maximum=0,
    ),
    lines(
        "Samples",
        "Samples of the feature in each window.",
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
        "The divergences that the monitor exports besides KL. Verdicts do not depend on them.",
        *by_window(OTHER_DIVERGENCES),
        unit="none",
    ),
    lines(
        "Entropy",
        "Entropy of the live window, and its cross-entropy relative to the reference. Their difference is the KL.",
        *by_window(ENTROPIES),
        unit=NATS,
    ),
    lines(
        "Dimensions, the ten largest",
        "The KL of single dimensions of a vector, where exported.",
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
        "Missing, invalid, unseen, out of range",
        "If these move with the divergence, the cause is the data, not the world.",
        Query(f"max by (window) (kldrift_missing_ratio{{{WHOLE}}})", "missing {{window}}"),
        Query(f"max by (window) (kldrift_invalid_ratio{{{WHOLE}}})", "invalid {{window}}"),
        Query(f"max by (window) (kldrift_unseen_ratio{{{WHOLE}}})", "unseen {{window}}", "categorical"),
        Query(f"max by (window) (kldrift_out_of_range_ratio{{{WHOLE}}})", "out of range {{window}}", "numeric"),
        Query(f"max(kldrift_reference_missing_ratio{{{MATCHERS}}})", "missing in the reference"),
        Query(f"max(kldrift_reference_invalid_ratio{{{MATCHERS}}})", "invalid in the reference"),
        Query(f"max(kldrift_unseen_expected_ratio{{{MATCHERS}}})", "unseen to expect", "categorical"),
        unit="percentunit",
        dashed={"missing in the reference": "text", "invalid in the reference": "text", "unseen to expect": "text"},
    ),
    lines(
        "Values of the wrong type",
        "These values count as invalid.",
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
        "Alerts compare them with the tolerance of the feature.",
        Query(
            f"max by (segment, window) (kldrift_kl_divergence_lower_nats{{{SEGMENTS}}})", "{{segment}} over {{window}}"
        ),
        unit=NATS,
    ),
    lines(
        "Samples of the segments",
        "It is normal for small segments to be undecided.",
        Query(f"sum by (segment, window) (kldrift_window_samples{{{SEGMENTS}}})", "{{segment}} over {{window}}"),
    ),
    needs="segments",
)

FEATURE = Board(
    FEATURE_UID,
    "kldrift: feature",
    "One feature over all its windows: divergence, bounds, tolerances, samples, data quality, segments.",
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
