"""Alerts on incoming samples, and on whether there are enough of them for a verdict."""

from collections.abc import Iterable

from kldrift.export.exposition import printable
from kldrift.provisioning.alerts.drift import TICKS, example, without
from kldrift.provisioning.alerts.rule import (
    DAY,
    HOUR,
    MINUTE,
    Alert,
    Case,
    RuleOptions,
    Watched,
    ages,
    duration_words,
    humanized_duration,
    promql_text,
)
from kldrift.records.sources import PUSH, SourceConfig
from kldrift.records.specs import MonitorSpec
from kldrift.records.texts import duration_text


def intake_alerts(watched: Watched | None, options: RuleOptions) -> list[Alert]:
    """Return the alerts for a configuration, without those nothing could trigger; for None, all of them."""
    if watched is None:
        return [
            _silent_daemon(15 * MINUTE, options),
            _silent_source(HOUR, None, options),
            _window_not_ready(None, HOUR, None, options),
            _reference_stale(None, options),
            _rejected(None, options),
            _late(None, options),
            _source_down(None, options),
            _lag(None, options),
        ]
    alerts = [_absent_monitor(monitor, watched, options) for monitor in watched.monitors]
    lively = [monitor for monitor in watched.monitors if not watched.is_replay(monitor)]
    if lively:
        alerts.append(_silent_daemon(_silence_ms(lively), options))
    if len(watched.monitors) > 1:
        alerts += [_silent_monitor(monitor, options) for monitor in lively]
    for source in watched.sources:
        if source.endless and watched.feeds(source):
            alerts.append(_silent_source(min(4 * _silence_ms(watched.feeds(source)), DAY), source, options))
    windows = {window.name: window.duration_ms for monitor in watched.monitors for window in monitor.windows}
    for name, duration_ms in sorted(windows.items(), key=lambda window: window[1]):
        alerts.append(_window_not_ready(name, max(15 * MINUTE, duration_ms), watched, options))
    if any(map(ages, watched.monitors)):
        alerts.append(_reference_stale(watched, options))
    alerts.append(_rejected(watched, options))
    if can_be_late(watched):
        alerts.append(_late(watched, options))
    if watched.sources:
        alerts.append(_source_down(watched, options))
    if any(source.lag_unit for source in watched.sources):
        alerts.append(_lag(watched, options))
    return alerts


def can_be_late(watched: Watched) -> bool:
    """Whether rows carry a time, in a field or as records of a topic."""
    return any(monitor.timestamp for monitor in watched.monitors) or any(s.has_record_times for s in watched.sources)


def _silence_ms(monitors: Iterable[MonitorSpec]) -> int:
    """Return how long it takes for the smallest window to become empty, within five minutes and a day."""
    smallest = min(window.duration_ms for monitor in monitors for window in monitor.windows)
    return min(max(5 * MINUTE, smallest), DAY)


def daemon_labels(options: RuleOptions) -> dict[str, str]:
    """Return the labels that Prometheus adds, for unit tests."""
    return {"job": options.job_name, "instance": "a:9867"}


def source_name(watched: Watched | None) -> str:
    """Return the name of a source of the configuration, for unit tests."""
    return watched.sources[0].name if watched and watched.sources else PUSH if watched else "scores"


def _absent_monitor(monitor: MonitorSpec, watched: Watched, options: RuleOptions) -> Alert:
    job = {"job": options.job_name}
    ready = {
        spec.name: ("kldrift_window_ready", {**daemon_labels(options), "monitor": spec.name}, "0")
        for spec in watched.monitors
    }
    others = tuple(series for name, series in ready.items() if name != monitor.name)
    up = ("up", daemon_labels(options), "1")
    return Alert(
        "KldriftMonitorAbsent",
        f"""\
  absent(kldrift_window_ready{{job={promql_text(options.job_name)},monitor={promql_text(monitor.name)}}})
and on ()
  up{{job={promql_text(options.job_name)}}} == 1""",
        "critical",
        "{{ $labels.monitor }} is not being monitored",
        "These rules were generated for a configuration with the monitor {{ $labels.monitor }}, but no running kldrift"
        ' of the job "{{ $labels.job }}" exports it. Is kldrift running with a different configuration? If the monitor'
        ' was removed on purpose, generate the rules again with "kldrift rules".',
        fires=Case("a daemon is up but does not have it", (up, *others), {**job, "monitor": monitor.name}),
        silent=Case("it is exported", (up, *ready.values()), {}),
        for_ms=max(5 * MINUTE, TICKS * watched.tick_ms),
        labels={"monitor": monitor.name},
    )


def _silent_daemon(limit_ms: int, options: RuleOptions) -> Alert:
    of = options.selector
    source = {**daemon_labels(options), "source": PUSH}

    def case(title: str, last: str) -> Case:
        series = (
            ("kldrift_last_sample_timestamp_seconds", source, last),
            ("kldrift_samples_received_total", source, "5"),
        )
        return Case(title, series, daemon_labels(options), holds_after_ms=limit_ms)

    return Alert(
        "KldriftNoSamples",
        f"""\
  time() - max by (job, instance) ({of("kldrift_last_sample_timestamp_seconds")}) > {limit_ms // 1000}
or
  sum by (job, instance) ({of("kldrift_samples_received_total")}) == 0""",
        "critical",
        "kldrift {{ $labels.instance }} is not receiving any samples",
        f"No source of {{{{ $labels.instance }}}} has delivered a sample for {duration_words(limit_ms)}, or since it"
        " started. Check the senders: producers, topics, files, and clients that post to /v1/monitors/…/samples.",
        fires=case("the last one arrived long ago", "0"),
        silent=case("they are arriving", "0+60"),
        for_ms=5 * MINUTE,
        keep_firing_ms=2 * MINUTE,
        comment="No source at all has delivered anything.",
    )


def _silent_monitor(monitor: MonitorSpec, options: RuleOptions) -> Alert:
    span_ms = _silence_ms([monitor])
    labels = {"job": options.job_name, "monitor": monitor.name}
    counted = {**daemon_labels(options), "monitor": monitor.name}
    return Alert(
        "KldriftNoSamples",
        f"sum by (job, monitor) (increase({options.selector('kldrift_samples_counted_total', monitor=monitor.name)}"
        f"[{duration_text(span_ms)}])) == 0",
        "warning",
        "{{ $labels.monitor }} is not receiving any samples",
        f"No samples of {{{{ $labels.monitor }}}} have been counted for {duration_words(span_ms)}. Check its sources"
        " and the clients that post to it.",
        fires=Case(
            "none is counted", (("kldrift_samples_counted_total", counted, "7"),), labels, holds_after_ms=2 * MINUTE
        ),
        silent=Case("they are counted", (("kldrift_samples_counted_total", counted, "0+7"),), labels),
        for_ms=5 * MINUTE,
        keep_firing_ms=2 * MINUTE,
        labels={"monitor": monitor.name},
        comment="One monitor, over all daemons of the job, because a daemon that shares a topic may have none of it.",
    )


def _silent_source(limit_ms: int, source: SourceConfig | None, options: RuleOptions) -> Alert:
    of = options.selector
    given = {} if source is None else {"source": source.name}
    labels = {**daemon_labels(options), "source": "scores", **given}

    def case(title: str, last: str) -> Case:
        series = (
            ("kldrift_last_sample_timestamp_seconds", {**labels, "source": PUSH}, "0+60"),
            ("kldrift_last_sample_timestamp_seconds", labels, last),
            ("kldrift_source_up", labels, "1"),
        )
        return Case(title, series, labels, humanized_duration, limit_ms)

    return Alert(
        "KldriftNoSamples",
        f"""\
  time() - {of("kldrift_last_sample_timestamp_seconds", **given)} > {limit_ms // 1000}
and on (job, instance, source)
  {of("kldrift_source_up", **given)} == 1""",
        "warning",
        "kldrift {{ $labels.instance }} is not receiving any samples from {{ $labels.source }}",
        "{{ $labels.source }} is readable, but has not delivered a sample for {{ $value | humanizeDuration }}. Check"
        " whatever writes to it.",
        fires=case("the last one arrived long ago", "0"),
        silent=case("they are arriving", "0+60"),
        for_ms=5 * MINUTE,
        keep_firing_ms=2 * MINUTE,
        labels=given,
        comment="One pull source while others deliver. kldrift_source_up excludes push, which may be idle.",
    )


def _window_not_ready(name: str | None, hold_ms: int, watched: Watched | None, options: RuleOptions) -> Alert:
    of = options.selector
    given = {} if name is None else {"window": name}
    window = {**example(watched, options), **given}
    if watched is not None:
        monitor = next(m for m in watched.monitors if name in [window.name for window in m.windows])
        window |= {"monitor": monitor.name, "feature": monitor.features[0].name}
    labels = without(window, "feature")
    return Alert(
        "KldriftWindowNotReady",
        f"""\
  count by (job, instance, monitor, window) (
      {of("kldrift_window_ready", segment="", **given)} == 0
    unless on (job, instance, monitor, feature)
      {of("kldrift_reference_usable")} == 0
    unless on (job, instance, monitor, feature, window)
      {of("kldrift_feature_absent", segment="")} == 1
  )
> 0""",
        "warning",
        "{{ $labels.monitor }}: {{ $value }} feature(s) cannot be judged over {{ $labels.window }}",
        f"For {duration_words(hold_ms)}, {{{{ $value }}}} feature(s) of {{{{ $labels.monitor }}}} have had too few"
        " samples over {{ $labels.window }}, so their drift would go unnoticed. Check kldrift_window_samples. If"
        " traffic is always this low, configure longer windows or fewer bins.",
        fires=Case("one feature", (("kldrift_window_ready", window, "0"),), labels, "1"),
        silent=Case("it is ready", (("kldrift_window_ready", window, "1"),), labels),
        for_ms=hold_ms,
        keep_firing_ms=5 * MINUTE,
        labels=given,
        comment="Excludes segments, which are often small, and unusable references and absent features, which have"
        " alerts of their own.",
    )


def _reference_stale(watched: Watched | None, options: RuleOptions) -> Alert:
    limit_s = options.stale_ms // 1000
    aging = [] if watched is None else [monitor.name for monitor in watched.monitors if ages(monitor)]
    given = "" if watched is None or len(aging) == len(watched.monitors) else f"monitor=~{promql_text(_any_of(aging))}"
    job = "" if options.job is None else f"job={promql_text(options.job)}"
    matchers = ",".join(filter(None, (job, given)))
    created = f"kldrift_reference_created_timestamp_seconds{f'{{{matchers}}}' if matchers else ''}"
    monitor = without(example(watched, options), "window", "feature")
    feature = {**monitor, "monitor": aging[0] if aging else monitor["monitor"], "feature": "amount"}
    limit = f"{limit_s // 86400} * 86400" if limit_s % 86400 == 0 else f"{limit_s}"

    def case(title: str, age_s: int) -> Case:
        series = (("kldrift_reference_created_timestamp_seconds", feature, str(-age_s)),)
        return Case(title, series, without(feature, "feature"), lambda seconds: humanized_duration(seconds + age_s))

    return Alert(
        "KldriftReferenceStale",
        f"time() - min by (job, instance, monitor) ({created}) > {limit}",
        "warning",
        "{{ $labels.monitor }}: the reference is {{ $value | humanizeDuration }} old",
        "The oldest reference of {{ $labels.monitor }} was created {{ $value | humanizeDuration }} ago. Does it still"
        " describe the data the model was trained on? If so, raise the limit; if not, build a new one.",
        fires=case("it is older", limit_s + 86400),
        silent=case("it is not", -(10**9)),
        for_ms=HOUR,
    )


def _any_of(names: Iterable[str]) -> str:
    r"""Return an RE2 regular expression in which all but letters and digits are escaped as ``\x{2e}``."""
    return "|".join("".join(c if c.isalnum() else f"\\x{{{ord(c):x}}}" for c in printable(name)) for name in names)


def _rejected(watched: Watched | None, options: RuleOptions) -> Alert:
    of = options.selector
    labels = {**daemon_labels(options), "source": source_name(watched)}

    def series(rejected: int) -> tuple[tuple[str, dict[str, str], str], ...]:
        return (
            ("kldrift_samples_received_total", labels, "0+1000"),
            ("kldrift_samples_rejected_total", {**labels, "reason": "malformed"}, f"0+{rejected}"),
        )

    return Alert(
        "KldriftSamplesRejected",
        f"""\
  sum by (job, instance, source) (rate({of("kldrift_samples_rejected_total")}[5m]))
/
  sum by (job, instance, source) (rate({of("kldrift_samples_received_total")}[5m]))
> 0.01""",
        "warning",
        "kldrift {{ $labels.instance }} rejects {{ $value | humanizePercentage }} of rows from {{ $labels.source }}",
        "Of the rows from {{ $labels.source }}, {{ $value | humanizePercentage }} are unusable. The label reason of"
        " kldrift_samples_rejected_total and the log say what is wrong with them.",
        fires=Case("one in 20", series(50), labels, "5%", 2 * MINUTE),
        silent=Case("one in a thousand", series(1), labels),
        for_ms=5 * MINUTE,
        keep_firing_ms=5 * MINUTE,
    )


def _late(watched: Watched | None, options: RuleOptions) -> Alert:
    of = options.selector
    labels = without(example(watched, options), "feature", "window")
    late, counted = of("kldrift_samples_late_total"), of("kldrift_samples_counted_total")

    def series(n_late: int) -> tuple[tuple[str, dict[str, str], str], ...]:
        return (
            ("kldrift_samples_counted_total", labels, "0+1000"),
            ("kldrift_samples_late_total", labels, f"0+{n_late}"),
        )

    return Alert(
        "KldriftSamplesLate",
        f"""\
  rate({late}[5m])
/
  (rate({late}[5m]) + rate({counted}[5m]))
> 0.01""",
        "warning",
        "{{ $labels.monitor }}: {{ $value | humanizePercentage }} of the samples arrive too late",
        "Of the samples of {{ $labels.monitor }}, {{ $value | humanizePercentage }} arrived later than its"
        " allowed_lateness permits, so they were not counted. Look for a producer that lags, a clock that is wrong, or"
        " a source that runs ahead of the others.",
        fires=Case("one in five", series(250), labels, "20%", 2 * MINUTE),
        silent=Case("one in a thousand", series(1), labels),
        for_ms=5 * MINUTE,
        keep_firing_ms=5 * MINUTE,
    )


def _source_down(watched: Watched | None, options: RuleOptions) -> Alert:
    labels = {**daemon_labels(options), "source": source_name(watched)}
    return Alert(
        "KldriftSourceDown",
        f"{options.selector('kldrift_source_up')} == 0",
        "critical",
        "kldrift {{ $labels.instance }} cannot read {{ $labels.source }}",
        "{{ $labels.source }} has been unreadable for five minutes. kldrift keeps retrying; the label reason of"
        " kldrift_source_errors_total and the log say what fails.",
        fires=Case("it is down", (("kldrift_source_up", labels, "0"),), labels),
        silent=Case("it is up", (("kldrift_source_up", labels, "1"),), labels),
        for_ms=5 * MINUTE,
        keep_firing_ms=2 * MINUTE,
    )


def _lag(watched: Watched | None, options: RuleOptions) -> Alert:
    units = {"bytes", "records"} if watched is None else {source.lag_unit for source in watched.sources}
    limits = {"bytes": "256e6", "records": "1e6"}
    unit = next(unit for unit in limits if unit in units)
    waiting = [f"{options.selector(f'kldrift_source_lag_{u}')} > {limit}" for u, limit in limits.items() if u in units]
    lagging = [] if watched is None else [source.name for source in watched.sources if source.lag_unit == unit]
    labels = {**daemon_labels(options), "source": next(iter(lagging), "scores")}
    return Alert(
        "KldriftLagHigh",
        " or ".join(waiting),
        "warning",
        "kldrift {{ $labels.instance }} is far behind on {{ $labels.source }}",
        "kldrift has been far behind on {{ $labels.source }} for ten minutes, so the divergences describe the past:"
        " {{ $value | humanize }} bytes or records are waiting to be read. Check whether the CPU is saturated, or"
        " kldrift_queue_bytes is at its limit.",
        fires=Case("far behind", ((f"kldrift_source_lag_{unit}", labels, "3e8"),), labels, "300M"),
        silent=Case("a little behind", ((f"kldrift_source_lag_{unit}", labels, "2e4"),), labels),
        for_ms=10 * MINUTE,
        keep_firing_ms=5 * MINUTE,
    )
