"""Alerts on the daemon itself."""

from kldrift.provisioning.alerts.rule import (
    DAY,
    MINUTE,
    Alert,
    Case,
    RuleOptions,
    Watched,
    humanized_duration,
    promql_text,
)
from kldrift.provisioning.alerts.samples import daemon_labels, source_name


def down_alert(options: RuleOptions) -> Alert:
    """Nothing can be scraped."""
    labels = daemon_labels(options)
    up = f"up{{job={promql_text(options.job_name)}}}"
    return Alert(
        "KldriftDown",
        f"{up} == 0 or absent({up})",
        "critical",
        "kldrift{{ with $labels.instance }} {{ . }}{{ end }} is down: nothing is watched",
        "Prometheus has not been able to scrape kldrift{{ with $labels.instance }} {{ . }}{{ end }} for two minutes. Is"
        ' it a target of the job "{{ $labels.job }}", is the process running, does GET /metrics answer? Its last log'
        " lines say why it ended.",
        fires=Case("cannot be scraped", (("up", labels, "0"),), labels),
        silent=Case("up", (("up", labels, "1"),), labels),
        for_ms=2 * MINUTE,
        keep_firing_ms=2 * MINUTE,
    )


def daemon_alerts(watched: Watched | None, options: RuleOptions) -> list[Alert]:
    """The alerts of a configuration, or of any; one that nothing could raise is left out."""
    of = options.selector
    labels = daemon_labels(options)
    alerts = [_commit_stale(options)]
    if watched is None or watched.has_state:
        alerts += _state(options)
    if watched is None or watched.has_tls:
        alerts.append(_certificate(options))
    batch = {**labels, "source": source_name(watched), "reason": "batch"}
    return [
        *alerts,
        Alert(
            "KldriftBatchFailed",
            f"increase({of('kldrift_source_errors_total', reason='batch')}[10m]) > 0",
            "critical",
            "kldrift {{ $labels.instance }} lost samples of {{ $labels.source }}",
            "An unforeseen error cost at least one batch of {{ $labels.source }}. The log has the traceback; please"
            " report it.",
            fires=Case(
                "batches are lost", (("kldrift_source_errors_total", batch, "0+1"),), batch, holds_after_ms=2 * MINUTE
            ),
            silent=Case(
                "a failure to read loses nothing",
                (
                    ("kldrift_source_errors_total", {**batch, "reason": "read"}, "0+1"),
                    ("kldrift_source_errors_total", batch, "0"),
                ),
                batch,
            ),
            keep_firing_ms=10 * MINUTE,
        ),
        Alert(
            "KldriftConfigReloadFailed",
            f"{of('kldrift_config_last_reload_successful')} == 0",
            "warning",
            "kldrift {{ $labels.instance }} refused its new configuration",
            'The last reload failed, so the old configuration is in use, and a restart would fail. "kldrift check -c'
            ' FILE" lists every problem.',
            fires=Case("the last one failed", (("kldrift_config_last_reload_successful", labels, "0"),), labels),
            silent=Case("it succeeded", (("kldrift_config_last_reload_successful", labels, "1"),), labels),
            for_ms=MINUTE,
        ),
        Alert(
            "KldriftSeriesLimitHit",
            f"increase({of('kldrift_series_limit_hit_total')}[10m]) > 0",
            "warning",
            "kldrift {{ $labels.instance }} leaves series out of its metrics",
            "There are more series than a scrape may hold. Segments are left out first, then optional families, then"
            " whole features, whose drift is not seen here: watch fewer features, segments, windows or divergences, or"
            " split the monitors over two daemons.",
            fires=Case(
                "at every scrape",
                (("kldrift_series_limit_hit_total", labels, "0+4"),),
                labels,
                holds_after_ms=2 * MINUTE,
            ),
            silent=Case("long ago", (("kldrift_series_limit_hit_total", labels, "3"),), labels),
            keep_firing_ms=10 * MINUTE,
        ),
    ]


def _commit_stale(options: RuleOptions) -> Alert:
    of = options.selector
    labels = daemon_labels(options)
    started = f"process_start_time_seconds{{job={promql_text(options.job_name)}}}"

    def series(last: str) -> tuple[tuple[str, dict[str, str], str], ...]:
        return (("kldrift_last_commit_timestamp_seconds", labels, last), ("kldrift_queue_bytes", labels, "1e6"))

    return Alert(
        "KldriftCommitStale",
        f"""\
  time()
- (
      {of("kldrift_last_commit_timestamp_seconds")}
    or on (job, instance)
      {started}
  )
> 120
and on (job, instance)
  (
      {of("kldrift_queue_bytes")} > 0
    or on (job, instance)
      sum by (job, instance) (rate({of("kldrift_samples_received_total")}[2m])) > 0
  )""",
        "critical",
        "kldrift {{ $labels.instance }} counts no samples though some are there",
        "Samples have come in, but none were counted for {{ $value | humanizeDuration }}. The engine hangs or fails:"
        " look at the log, and at whether the machine has memory and processor time left.",
        fires=Case(
            "samples are queued, the last commit was at the start", series("0"), labels, humanized_duration, 3 * MINUTE
        ),
        silent=Case("commits go on", series("0+60"), labels),
        for_ms=2 * MINUTE,
        keep_firing_ms=2 * MINUTE,
        comment="Work is there (queued, or still coming in), and none of it is finished. Before the first commit, the"
        " time runs from the start of the process.",
    )


def _state(options: RuleOptions) -> list[Alert]:
    of = options.selector
    labels = daemon_labels(options)
    return [
        Alert(
            "KldriftStateNotWritten",
            f"increase({of('kldrift_commit_errors_total')}[2m]) > 0",
            "critical",
            "kldrift {{ $labels.instance }} cannot store what it counts",
            "The state file cannot be written: posts are answered 503, sources wait, nothing more is counted until it"
            " can. The log says why; is the disk full?",
            fires=Case(
                "commits fail and are tried again",
                (("kldrift_commit_errors_total", labels, "0+10"),),
                labels,
                holds_after_ms=2 * MINUTE,
            ),
            silent=Case("it failed once, long ago", (("kldrift_commit_errors_total", labels, "1"),), labels),
            keep_firing_ms=2 * MINUTE,
        ),
        Alert(
            "KldriftStateDamaged",
            f"{of('kldrift_state_damaged_total')} > 0",
            "critical",
            "kldrift {{ $labels.instance }} found its state damaged and began anew",
            "The state file could not be read when kldrift started. It was moved aside, the log says where to; all"
            " windows started empty, and sources are read from their beginnings.",
            fires=Case("it was", (("kldrift_state_damaged_total", labels, "1"),), labels),
            silent=Case("it was read", (("kldrift_state_damaged_total", labels, "0"),), labels),
        ),
    ]


def _certificate(options: RuleOptions) -> Alert:
    expiry = "kldrift_tls_certificate_expiry_timestamp_seconds"
    labels = daemon_labels(options)
    week_s = 7 * DAY // 1000
    return Alert(
        "KldriftCertificateExpires",
        f"{options.selector(expiry)} - time() < 14 * 86400",
        "warning",
        "the certificate of kldrift {{ $labels.instance }} expires in {{ $value | humanizeDuration }}",
        "Put a new certificate and key in the place of the old ones: they are taken up within seconds, without a"
        " restart.",
        fires=Case(
            "in a week",
            ((expiry, labels, str(week_s)),),
            labels,
            lambda seconds: humanized_duration(week_s - seconds),
        ),
        silent=Case("in thirty years", ((expiry, labels, str(10**9)),), labels),
        for_ms=10 * MINUTE,
    )
