"""Alerts on what the features do."""

from collections.abc import Mapping

from kldrift.provisioning.alerts.rule import MINUTE, Alert, Case, RuleOptions, Severity, Watched

# evaluations that a drift has to outlast: fewer would be one reading, seen again and again
TICKS = 3

OF_FEATURE = "{{ $labels.feature }}{{ with $labels.segment }} in segment {{ . }}{{ end }}"


def drift_alerts(watched: Watched | None, options: RuleOptions) -> list[Alert]:
    """The alerts of a configuration, or of any; one that nothing could raise is left out."""
    hold_ms = MINUTE if watched is None else max(MINUTE, TICKS * watched.tick_ms)
    keep_ms = max(5 * MINUTE, hold_ms)
    alerts = [
        _feature_drift("warning", "drifts", 0.05, hold_ms, keep_ms, watched, options),
        _feature_drift("critical", "drifts far", 0.5, hold_ms, keep_ms, watched, options),
    ]
    if watched is None or any(len(monitor.features) >= 3 for monitor in watched.monitors):
        alerts.append(_many_features(hold_ms, keep_ms, watched, options))
    return [*alerts, _missing_ratio(watched, options), _reference_unusable(watched, options)]


def example(watched: Watched | None, options: RuleOptions) -> dict[str, str]:
    """Labels of a window of a feature, for unit tests."""
    labels = {"job": options.job_name, "instance": "a:9867"}
    if watched is None:
        return {**labels, "monitor": "loans", "feature": "amount", "window": "1h"}
    monitor = max(watched.monitors, key=lambda monitor: len(monitor.features))
    names = {"monitor": monitor.name, "feature": monitor.features[0].name, "window": monitor.windows[0].name}
    return {**labels, **names}


def without(labels: Mapping[str, str], *names: str) -> dict[str, str]:
    """Labels but for some."""
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
        f"Over {{{{ $labels.window }}}} the KL divergence of {OF_FEATURE} from its reference is at least"
        ' {{ $value | printf "%.4f" }} nats after what chance explains (its lower confidence bound), beyond its'
        f" {severity} tolerance. Look at which bins it sits in:"
        " /api/v1/monitors/{{ $labels.monitor }}/features/{{ $labels.feature }} of {{ $labels.instance }}.",
        fires=Case(f"the lower bound beyond the {severity} tolerance", series(lower), window, f"{lower:.4f}"),
        silent=Case("within it", series(lower / 2), window),
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
        "{{ $labels.monitor }}: {{ $value | humanizePercentage }} of the features drift",
        "{{ $value | humanizePercentage }} of the features of {{ $labels.monitor }} that can be judged drift beyond"
        " their warning tolerance (false discoveries controlled). That many at once is seldom the world: look at the"
        " pipeline first (a changed unit, join, default, or population).",
        fires=Case("three of six", series(3), monitor, "50%"),
        silent=Case("two of six", series(2), monitor),
        for_ms=hold_ms,
        keep_firing_ms=keep_ms,
        comment="A third of the features that have a verdict, three at least; by the verdict, which many features do"
        " not inflate. Segments do not count.",
    )


def _missing_ratio(watched: Watched | None, options: RuleOptions) -> Alert:
    of = options.selector
    window = example(watched, options)

    def series(ratio: str) -> tuple[tuple[str, Mapping[str, str], str], ...]:
        return (
            ("kldrift_missing_ratio", window, ratio),
            ("kldrift_reference_missing_ratio", without(window, "window"), "0.02"),
            ("kldrift_window_samples", window, "1000"),
        )

    return Alert(
        "KldriftMissingRatioHigh",
        f"""\
    {of("kldrift_missing_ratio")}
  - on (job, instance, monitor, feature) group_left ()
    {of("kldrift_reference_missing_ratio")}
>
  0.1
and
  {of("kldrift_window_samples")} >= 100""",
        "warning",
        f"{{{{ $labels.monitor }}}}: {OF_FEATURE} is missing more often than in its reference",
        f"The share of missing values (absent, null or of the wrong type) of {OF_FEATURE} over"
        " {{ $labels.window }} is higher than in the reference by {{ $value | humanizePercentage }} of all rows."
        " Compare kldrift_values_invalid_total: if it grows, the type has changed; if not, the field is gone or null.",
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
        "{{ $labels.monitor }}: the reference of {{ $labels.feature }} can support no verdict",
        "No drift of {{ $labels.feature }} would be seen: its reference is too short, constant, outside of the bins,"
        " or still being learned from the stream. /api/v1/monitors/{{ $labels.monitor }} of {{ $labels.instance }} and"
        ' "kldrift check -c FILE" say which.',
        fires=Case("it cannot", (("kldrift_reference_usable", feature, "0"),), feature),
        silent=Case("it can", (("kldrift_reference_usable", feature, "1"),), feature),
        for_ms=10 * MINUTE,
        comment="Too short, constant, or nothing in common with the bins: this feature is not watched, whatever comes.",
    )
