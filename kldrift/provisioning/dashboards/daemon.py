"""The daemon dashboard: what comes in, what it costs, what fails."""

from functools import partial

from kldrift.provisioning.dashboards.panel import Board, Panel, Query
from kldrift.provisioning.dashboards.shared import DAEMON_UID, GOOD_ONE, INSTANCE, RELOADED, lines, section, stat

HERE = 'instance=~"$instance"'

#: Three panels side by side.
third = partial(lines, width=8)


def rate(metric: str, *labels: str, matchers: str = HERE) -> str:
    """Return the query for events per second, by labels."""
    return f"sum by ({', '.join(labels)}) (rate({metric}{{{matchers}}}[$__rate_interval]))"


def quantile(share: float, metric: str, *labels: str) -> str:
    """Return the query for a quantile of a histogram, by labels."""
    return f"histogram_quantile({share:g}, {rate(f'{metric}_bucket', 'le', *labels)})"


NOW = section(
    "Now",
    stat(
        "Up",
        "min(up and on (job, instance) last_over_time(kldrift_build_info{" + HERE + "}[1d]))",
        "Whether all daemons can be scraped.",
        GOOD_ONE,
        words=(("0", "down", "red"), ("1", "up", "green")),
    ),
    stat(
        "Last reload",
        f"min(kldrift_config_last_reload_successful{{{HERE}}})",
        "Whether the last configuration was loaded. If not, the old one stays in use, and a restart would fail.",
        GOOD_ONE,
        words=(("0", "refused", "red"), ("1", "loaded", "green")),
    ),
    stat(
        "Since last sample",
        f"time() - max(kldrift_last_sample_timestamp_seconds{{{HERE}}})",
        "Time since any source delivered a sample.",
        unit="s",
    ),
    stat(
        "Since last evaluation",
        f"time() - min(kldrift_last_evaluation_timestamp_seconds{{{HERE}}})",
        "Time since divergences were computed, of the daemon furthest behind.",
        unit="s",
    ),
    stat(
        "Since last commit",
        f"time() - min(kldrift_last_commit_timestamp_seconds{{{HERE}}})",
        "Time since counts were last stored (without a state file: since samples were last counted).",
        unit="s",
    ),
    stat(
        "Series",
        "sum(scrape_samples_scraped and on (job, instance) kldrift_build_info{" + HERE + "})",
        "Series in a scrape. Beyond 50,000, some are left out.",
        ((None, "green"), (40_000.0, "orange"), (50_000.0, "red")),
    ),
)

ROWS = section(
    "Rows",
    third(
        "Received",
        "Rows delivered by each source.",
        Query(rate("kldrift_samples_received_total", "source"), "{{source}}"),
        unit="cps",
    ),
    third(
        "Not counted",
        "Unusable rows, by reason, and rows that arrived too late.",
        Query(rate("kldrift_samples_rejected_total", "source", "reason"), "{{source}}: {{reason}}"),
        Query(rate("kldrift_samples_late_total", "monitor"), "{{monitor}}: late"),
        unit="cps",
    ),
    third(
        "Queue",
        "Decoded samples waiting to be counted. When engine.queue is reached, senders have to wait.",
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
        "What is waiting to be read.",
        Query(f"sum by (source) (kldrift_source_lag_records{{{HERE}}})", "{{source}}: records", "lag_records"),
        Query(f"sum by (source) (kldrift_source_lag_bytes{{{HERE}}})", "{{source}}: bytes", "lag_bytes"),
    ),
    third(
        "Failures and rebalances",
        "Failures to read, by reason, and how often a source was assigned different streams.",
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
        "Time to compute the divergences of all monitors.",
        Query(quantile(0.5, "kldrift_evaluation_duration_seconds"), "median"),
        Query(quantile(0.99, "kldrift_evaluation_duration_seconds"), "99 %"),
        unit="s",
    ),
    third(
        "Commit",
        "Time to count samples and store the counts (without a state file: only to count).",
        Query(quantile(0.5, "kldrift_commit_duration_seconds"), "median"),
        Query(quantile(0.99, "kldrift_commit_duration_seconds"), "99 %"),
        unit="s",
    ),
    third(
        "Commits",
        "Commits, and those that failed and were retried.",
        Query(rate("kldrift_commit_duration_seconds_count", "instance"), "{{instance}}"),
        Query(rate("kldrift_commit_errors_total", "instance"), "{{instance}}: failed", "state"),
        unit="cps",
    ),
)

HTTP = section(
    "HTTP",
    third(
        "Requests",
        "Requests by handler and status code.",
        Query(rate("kldrift_http_requests_total", "handler", "code"), "{{handler}} {{code}}"),
        unit="reqps",
    ),
    third(
        "Time to answer, 99 %",
        "Time to answer, by handler.",
        Query(quantile(0.99, "kldrift_http_request_duration_seconds", "handler"), "{{handler}}"),
        unit="s",
    ),
    third(
        "Connections",
        "Open connections, and those refused, or closed for taking too long, within five minutes.",
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
        "Resident memory.",
        Query("process_resident_memory_bytes and on (job, instance) kldrift_build_info{" + HERE + "}", "{{instance}}"),
        unit="bytes",
    ),
    third(
        "CPU",
        "CPU time in units of one core.",
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
        "Versions of kldrift and of what its figures depend on.",
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
