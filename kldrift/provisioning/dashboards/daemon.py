"""The daemon itself: what comes in, what it costs, what fails."""

from functools import partial

from kldrift.provisioning.dashboards.panel import Board, Panel, Query
from kldrift.provisioning.dashboards.shared import DAEMON_UID, GOOD_ONE, INSTANCE, RELOADED, lines, section, stat

HERE = 'instance=~"$instance"'

#: Three panels side by side.
third = partial(lines, width=8)


def rate(metric: str, *labels: str, matchers: str = HERE) -> str:
    """Events a second, by labels."""
    return f"sum by ({', '.join(labels)}) (rate({metric}{{{matchers}}}[$__rate_interval]))"


def quantile(share: float, metric: str, *labels: str) -> str:
    """A quantile of a histogram, by labels."""
    return f"histogram_quantile({share:g}, {rate(f'{metric}_bucket', 'le', *labels)})"


NOW = section(
    "Now",
    stat(
        "Up",
        "min(up and on (job, instance) last_over_time(kldrift_build_info{" + HERE + "}[1d]))",
        "Whether every daemon can be scraped.",
        GOOD_ONE,
        words=(("0", "down", "red"), ("1", "up", "green")),
    ),
    stat(
        "Last configuration",
        f"min(kldrift_config_last_reload_successful{{{HERE}}})",
        "Whether it was taken over; if not, the old one stays in use, and a restart would fail.",
        GOOD_ONE,
        words=(("0", "refused", "red"), ("1", "taken over", "green")),
    ),
    stat(
        "Since a sample",
        f"time() - max(kldrift_last_sample_timestamp_seconds{{{HERE}}})",
        "Since any source delivered one.",
        unit="s",
    ),
    stat(
        "Since an evaluation",
        f"time() - min(kldrift_last_evaluation_timestamp_seconds{{{HERE}}})",
        "Of the daemon that lags most.",
        unit="s",
    ),
    stat(
        "Since a commit",
        f"time() - min(kldrift_last_commit_timestamp_seconds{{{HERE}}})",
        "Since what was counted was last stored (with no state: since samples were last counted).",
        unit="s",
    ),
    stat(
        "Series",
        "sum(scrape_samples_scraped and on (job, instance) kldrift_build_info{" + HERE + "})",
        "Of one scrape. From 50,000 on some are left out.",
        ((None, "green"), (40_000.0, "orange"), (50_000.0, "red")),
    ),
)

ROWS = section(
    "Rows",
    third(
        "Received",
        "Rows that each source delivered.",
        Query(rate("kldrift_samples_received_total", "source"), "{{source}}"),
        unit="cps",
    ),
    third(
        "Not counted",
        "Rows that could not be used, by reason, and rows that came too late.",
        Query(rate("kldrift_samples_rejected_total", "source", "reason"), "{{source}}: {{reason}}"),
        Query(rate("kldrift_samples_late_total", "monitor"), "{{monitor}}: late"),
        unit="cps",
    ),
    third(
        "Queue",
        "Decoded samples that wait to be counted. At engine.queue senders are held back.",
        Query(f"kldrift_queue_bytes{{{HERE}}}", "{{instance}}"),
        unit="bytes",
    ),
)

SOURCES = section(
    "Sources",
    Panel(
        "status-history",
        "Readable",
        (Query(f"min by (source) (kldrift_source_up{{{HERE}}})", "{{source}}"),),
        "Whether each source can be read.",
        width=8,
        steps=GOOD_ONE,
        words=(("0", "down", "red"), ("1", "up", "green")),
    ),
    third(
        "Lag",
        "What waits to be read.",
        Query(f"sum by (source) (kldrift_source_lag_records{{{HERE}}})", "{{source}}: records", "lag_records"),
        Query(f"sum by (source) (kldrift_source_lag_bytes{{{HERE}}})", "{{source}}: bytes", "lag_bytes"),
    ),
    third(
        "Failures and rebalances",
        "Failures to read, by reason; times that a source was given other streams to read.",
        Query(rate("kldrift_source_errors_total", "source", "reason"), "{{source}}: {{reason}}"),
        Query(rate("kldrift_source_rebalances_total", "source"), "{{source}}: rebalance", "lag_records"),
        unit="cps",
    ),
    needs="sources",
)

WORK = section(
    "Work",
    third(
        "Evaluation",
        "Time to compute the divergences of all monitors once.",
        Query(quantile(0.5, "kldrift_evaluation_duration_seconds"), "median"),
        Query(quantile(0.99, "kldrift_evaluation_duration_seconds"), "99 %"),
        unit="s",
    ),
    third(
        "Commit",
        "Time to store what was counted (with no state: to count it).",
        Query(quantile(0.5, "kldrift_commit_duration_seconds"), "median"),
        Query(quantile(0.99, "kldrift_commit_duration_seconds"), "99 %"),
        unit="s",
    ),
    third(
        "Commits",
        "Commits, and those that failed and were tried again.",
        Query(rate("kldrift_commit_duration_seconds_count", "instance"), "{{instance}}"),
        Query(rate("kldrift_commit_errors_total", "instance"), "{{instance}}: failed", "state"),
        unit="cps",
    ),
)

HTTP = section(
    "HTTP",
    third(
        "Requests",
        "By handler and status.",
        Query(rate("kldrift_http_requests_total", "handler", "code"), "{{handler}} {{code}}"),
        unit="reqps",
    ),
    third(
        "Time to answer, 99 %",
        "By handler.",
        Query(quantile(0.99, "kldrift_http_request_duration_seconds", "handler"), "{{handler}}"),
        unit="s",
    ),
    third(
        "Connections",
        "Open ones, and those that were refused or closed for taking too long, within five minutes.",
        Query(f"sum(kldrift_http_connections{{{HERE}}})", "open"),
        Query(
            f"sum by (reason) (increase(kldrift_http_connections_refused_total{{{HERE}}}[5m]))", "refused: {{reason}}"
        ),
        Query(f"sum by (reason) (increase(kldrift_http_evicted_total{{{HERE}}}[5m]))", "closed: {{reason}}"),
    ),
)

PROCESS = section(
    "Process",
    third(
        "Memory",
        "Resident.",
        Query("process_resident_memory_bytes and on (job, instance) kldrift_build_info{" + HERE + "}", "{{instance}}"),
        unit="bytes",
    ),
    third(
        "Processor",
        "Of one core.",
        Query(
            "rate(process_cpu_seconds_total[$__rate_interval]) and on (job, instance) kldrift_build_info{" + HERE + "}",
            "{{instance}}",
        ),
        unit="percentunit",
    ),
    Panel(
        "table",
        "Versions",
        (Query(f"max by (instance, version, python, numba) (kldrift_build_info{{{HERE}}})", "daemons"),),
        "Of kldrift and of what its figures depend on.",
        width=8,
    ),
)

DAEMON = Board(
    DAEMON_UID,
    "kldrift: daemon",
    "kldrift itself: rows, lag, queue, commits, evaluations, HTTP, errors, memory.",
    (INSTANCE,),
    (RELOADED,),
    (NOW, ROWS, SOURCES, WORK, HTTP, PROCESS),
)
