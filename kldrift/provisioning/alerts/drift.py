"""Alerts on drift and on the data of features."""

from collections.abc import Mapping

from kldrift.provisioning.alerts.rule import MINUTE, Alert, Case, RuleOptions, Severity, Watched

# evaluations that a drift has to persist for; with fewer, an alert could rest on a single one
TICKS = 3

OF_FEATURE = "{{ $labels.feature }}{{ with $labels.segment }} in segment {{ . }}{{ end }}"


def drift_alerts(watched: Watched | None, options: RuleOptions) -> list[Alert]:
    """Return the alerts for a configuration, without those nothing could trigger; for None, all of them."""
    hold_ms = MINUTE if watched is None else max(MINUTE, TICKS * watched.tick_ms)
    keep_ms = max(5 * MINUTE, hold_ms)
    alerts = [
        _feature_drift("warning", "has drifted", 0.05, hold_ms, keep_ms, watched, options),
        _feature_drift("critical", "has drifted far", 0.5, hold_ms, keep_ms, watched, options),
    ]
    if watched is None or any(len(monitor.features) >= 3 for monitor in watched.monitors):
        alerts.append(_many_features(hold_ms, keep_ms, watched, options))
    return [
        *alerts,
        _absent(watched, options),
        _missing_ratio(watched, options),
        _invalid_ratio(watched, options),
        _reference_unusable(watched, options),
    ]


def example(watched: Watched | None, options: RuleOptions) -> dict[str, str]:
    """Return the labels of a window of a feature, for unit tests."""
    labels = {"job": options.job_name, "instance": "a:9867"}
    if watched is None:
        return {**labels, "monitor": "loans", "feature": "amount", "window": "1h"}
    monitor = max(watched.monitors, key=lambda monitor: len(monitor.features))
    names = {"monitor": monitor.name, "feature": monitor.features[0].name, "window": monitor.windows[0].name}
    return {**labels, **names}


def without(labels: Mapping[str, str], *names: str) -> dict[str, str]:
    """Return the labels without some of them."""
    return {name: value for name, value in labels.items() if name not in names}


def _feature_drift(
    severity: Severity,
    drifts: str,
    lower: float,
    hold_ms: int,
    keep_ms: int,
    watched: Watched | None,
    options: RuleOptions,
) -> Alert:
    of = options.selector
    window = example(watched, options)
    feature = without(window, "window")

    def series(bound: float) -> tuple[tuple[str, Mapping[str, str], str], ...]:
        return (
            ("kldrift_kl_divergence_lower_nats", window, f"{bound:g}"),
            ("kldrift_window_ready", window, "1"),
            ("kldrift_drift_threshold_nats", {**feature, "severity": severity}, "0.04" if lower < 0.1 else "0.4"),
        )

    return Alert(
        "KldriftFeatureDrift",
        f"""\
  {of("kldrift_kl_divergence_lower_nats")}
> on (job, instance, monitor, feature) group_left ()
  {of("kldrift_drift_threshold_nats", severity=severity)}
and
  {of("kldrift_window_ready")} == 1""",
        severity,
        f"{{{{ $labels.monitor }}}}: {OF_FEATURE} {drifts} from its reference",
        f"Over {{{{ $labels.window }}}}, the KL divergence of {OF_FEATURE} from its reference is at least"
        ' {{ $value | printf "%.4f" }} nats (the lower confidence bound, so chance is already accounted for), above the'
        f" {severity} tolerance. To see which bins have changed, open"
        " /api/v1/monitors/{{ $labels.monitor }}/features/{{ $labels.feature }} on {{ $labels.instance }}.",
        fires=Case(f"the lower bound above the {severity} tolerance", series(lower), window, f"{lower:.4f}"),
        silent=Case("below it", series(lower / 2), window),
        for_ms=hold_ms,
        keep_firing_ms=keep_ms,
    )


def _many_features(hold_ms: int, keep_ms: int, watched: Watched | None, options: RuleOptions) -> Alert:
    verdicts = options.selector("kldrift_drift_detected", severity="warning", segment="")
    monitor = without(example(watched, options), "feature", "window")

    def series(n_drifting: int) -> tuple[tuple[str, Mapping[str, str], str], ...]:
        return tuple(
            (
                "kldrift_drift_detected",
                {**monitor, "feature": f"f{i}", "severity": "warning"},
                "1" if i < n_drifting else "0",
            )
            for i in range(6)
        )

    return Alert(
        "KldriftManyFeaturesDrift",
        f"""\
  (
      count by (job, instance, monitor) ({verdicts} == 1)
    >= 3
  )
/
  count by (job, instance, monitor) ({verdicts})
>= 1 / 3""",
        "critical",
        "{{ $labels.monitor }}: {{ $value | humanizePercentage }} of the features have drifted",
        "Of the features of {{ $labels.monitor }} that can be judged, {{ $value | humanizePercentage }} have drifted"
        " beyond their warning tolerance (false discovery rate controlled). When this many change at once, the cause"
        " is usually the data pipeline, not the world. Check for a changed unit or default, a failing join, or a"
        " missing part of the population.",
        fires=Case("three of six", series(3), monitor, "50%"),
        silent=Case("two of six", series(2), monitor),
        for_ms=hold_ms,
        keep_firing_ms=keep_ms,
        comment="A third of the features that have a verdict, and at least three. Based on verdicts, which are"
        " corrected for the number of features. Segments do not count.",
    )


def _absent(watched: Watched | None, options: RuleOptions) -> Alert:
    window = example(watched, options)
    return Alert(
        "KldriftFeatureAbsent",
        f"""\
max by (job, instance, monitor, feature) (
  {options.selector("kldrift_feature_absent", segment="")}
) == 1""",
        "warning",
        "{{ $labels.monitor }}: no value of {{ $labels.feature }} arrives",
        "Rows of {{ $labels.monitor }} arrive, and in a whole window none of them has a value of"
        " {{ $labels.feature }}, which the reference has. Was the field renamed, or did a join fail? If it never comes"
        " in live rows, like the label of training data, remove it from the monitor.",
        fires=Case("no value in a window", (("kldrift_feature_absent", window, "1"),), without(window, "window")),
        silent=Case("some values", (("kldrift_feature_absent", window, "0"),), without(window, "window")),
        for_ms=5 * MINUTE,
        keep_firing_ms=5 * MINUTE,
        comment="Not a drift: an absent feature has no divergence, and the other alerts on it are silent meanwhile.",
    )


def _missing_ratio(watched: Watched | None, options: RuleOptions) -> Alert:
    return _above_reference(
        "missing",
        "KldriftMissingRatioHigh",
        f"{OF_FEATURE} is missing more often than in its reference",
        f"missing values (absent or null) of {OF_FEATURE}",
        watched,
        options,
    )


def _invalid_ratio(watched: Watched | None, options: RuleOptions) -> Alert:
    return _above_reference(
        "invalid",
        "KldriftInvalidRatioHigh",
        f"{OF_FEATURE} is of the wrong type more often than in its reference",
        f"values of the wrong type (text where a number is expected) of {OF_FEATURE}",
        watched,
        options,
    )


def _above_reference(
    share: str, name: str, summary: str, values: str, watched: Watched | None, options: RuleOptions
) -> Alert:
    """Return the alert on a share of the rows that exceeds that of the reference by a tenth."""
    of = options.selector
    window = example(watched, options)

    def series(ratio: str) -> tuple[tuple[str, Mapping[str, str], str], ...]:
        return (
            (f"kldrift_{share}_ratio", window, ratio),
            (f"kldrift_reference_{share}_ratio", without(window, "window"), "0.02"),
            ("kldrift_window_samples", window, "1000"),
        )

    return Alert(
        name,
        f"""\
    {of(f"kldrift_{share}_ratio")}
  - on (job, instance, monitor, feature) group_left ()
    {of(f"kldrift_reference_{share}_ratio")}
>
  0.1
and
  {of("kldrift_window_samples")} >= 100
unless
  {of("kldrift_feature_absent")} == 1""",
        "warning",
        f"{{{{ $labels.monitor }}}}: {summary}",
        f"Over {{{{ $labels.window }}}}, the share of {values} exceeds that of the reference by"
        " {{ $value | humanizePercentage }} of all rows.",
        fires=Case("20 percent against 2", series("0.2"), window, "18%"),
        silent=Case("5 percent against 2", series("0.05"), window),
        for_ms=5 * MINUTE,
        keep_firing_ms=5 * MINUTE,
    )


def _reference_unusable(watched: Watched | None, options: RuleOptions) -> Alert:
    feature = without(example(watched, options), "window")
    return Alert(
        "KldriftReferenceUnusable",
        f"{options.selector('kldrift_reference_usable')} == 0",
        "warning",
        "{{ $labels.monitor }}: {{ $labels.feature }} cannot be judged, because its reference is unusable",
        "Drift of {{ $labels.feature }} would go unnoticed: its reference has too few rows, is constant, lies outside"
        " the bins, or is still being learned from the stream. To find out which, open"
        ' /api/v1/monitors/{{ $labels.monitor }} on {{ $labels.instance }}, or run "kldrift check -c FILE".',
        fires=Case("it is unusable", (("kldrift_reference_usable", feature, "0"),), feature),
        silent=Case("it is usable", (("kldrift_reference_usable", feature, "1"),), feature),
        for_ms=10 * MINUTE,
        comment="A feature with such a reference is not being monitored, whatever arrives.",
    )
