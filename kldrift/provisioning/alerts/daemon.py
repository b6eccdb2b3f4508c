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
    """Return the alert for a daemon that cannot be scraped."""
    labels = daemon_labels(options)
    up = f"up{{job={promql_text(options.job_name)}}}"
    return Alert(
        "KldriftDown",
        f"{up} == 0 or absent({up})",
        "critical",
        "kldrift{{ with $labels.instance }} {{ . }}{{ end }} is down, so nothing is being monitored",
        "Prometheus has been unable to scrape kldrift{{ with $labels.instance }} {{ . }}{{ end }} for two minutes."
        ' Check that it is a target of the job "{{ $labels.job }}", that the process is running, and that GET /metrics'
        " answers. If the process has exited, the end of its log says why.",
        fires=Case("cannot be scraped", (("up", labels, "0"),), labels),
        silent=Case("up", (("up", labels, "1"),), labels),
        for_ms=2 * MINUTE,
        keep_firing_ms=2 * MINUTE,
    )


def daemon_alerts(watched: Watched | None, options: RuleOptions) -> list[Alert]:
    """Return the alerts for a configuration, without those nothing could trigger; for None, all of them."""
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
            "kldrift {{ $labels.instance }} lost samples from {{ $labels.source }}",
            "At least one batch of samples from {{ $labels.source }} was lost to an unexpected error. The traceback is"
            " in the log; please report it.",
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
        *([] if watched is not None and not watched.sources else [_bytes_lost(watched, options)]),
        Alert(
            "KldriftConfigReloadFailed",
            f"{of('kldrift_config_last_reload_successful')} == 0",
            "warning",
            "kldrift {{ $labels.instance }} refused its new configuration",
            "The last reload failed. The previous configuration is still in use, but a restart would fail. Run"
            ' "kldrift check -c FILE" to list every problem.',
            fires=Case("the last reload failed", (("kldrift_config_last_reload_successful", labels, "0"),), labels),
            silent=Case("it succeeded", (("kldrift_config_last_reload_successful", labels, "1"),), labels),
            for_ms=MINUTE,
        ),
        Alert(
            "KldriftSeriesLimitHit",
            f"increase({of('kldrift_series_limit_hit_total')}[10m]) > 0",
            "warning",
            "kldrift {{ $labels.instance }} is leaving series out of its metrics",
            "There are more series than a scrape may hold. Segments are dropped first, then optional metrics, then"
            " whole features, whose drift goes unnoticed. Monitor fewer features, segments, windows or divergences, or"
            " split the monitors between two daemons.",
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
        "kldrift {{ $labels.instance }} has stopped counting samples",
        "Samples are waiting, but none have been counted for {{ $value | humanizeDuration }}. The engine is stuck or"
        " failing. Check the log, and whether the machine has run out of memory or CPU time.",
        fires=Case(
            "samples are queued, the last commit was at the start", series("0"), labels, humanized_duration, 3 * MINUTE
        ),
        silent=Case("commits continue", series("0+60"), labels),
        for_ms=2 * MINUTE,
        keep_firing_ms=2 * MINUTE,
        comment="There is work (queued, or still arriving), and none of it gets done. Before the first commit, the time"
        " runs from the start of the process.",
    )


def _state(options: RuleOptions) -> list[Alert]:
    of = options.selector
    labels = daemon_labels(options)
    return [
        Alert(
            "KldriftStateNotWritten",
            f"increase({of('kldrift_commit_errors_total')}[2m]) > 0",
            "critical",
            "kldrift {{ $labels.instance }} cannot write its state file",
            "Until the state file can be written again, nothing more is counted: posts are answered with 503, and pull"
            " sources wait. The log says why. Check first whether the disk is full.",
            fires=Case(
                "commits fail and are retried",
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
            "kldrift {{ $labels.instance }} found its state file damaged and started empty",
            "The state file could not be read when kldrift started, so it was moved aside; the log says where. All"
            " windows started empty, and sources are read again from where the configuration says.",
            fires=Case("it was damaged", (("kldrift_state_damaged_total", labels, "1"),), labels),
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
        "The TLS certificate of kldrift {{ $labels.instance }} expires in {{ $value | humanizeDuration }}",
        "Replace the certificate and key files of server.tls. kldrift picks up the new ones within seconds, without a"
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


def _bytes_lost(watched: Watched | None, options: RuleOptions) -> Alert:
    family = "kldrift_source_lost_bytes_total"
    labels = {**daemon_labels(options), "source": source_name(watched)}
    return Alert(
        "KldriftSourceBytesLost",
        f"increase({options.selector(family)}[10m]) > 0",
        "warning",
        "kldrift {{ $labels.instance }} cannot read a part of {{ $labels.source }} any more",
        "A followed file of {{ $labels.source }} was deleted, truncated or moved to another folder before it was read"
        " to its end. The log names it. Let rotation rename files and keep them in their folder until they were read.",
        fires=Case(
            "a file was deleted with an unread rest", ((family, labels, "0+5000"),), labels, holds_after_ms=2 * MINUTE
        ),
        silent=Case("nothing is lost", ((family, labels, "5000"),), labels),
        keep_firing_ms=10 * MINUTE,
    )
