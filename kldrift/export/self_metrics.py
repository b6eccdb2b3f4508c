"""The metrics kldrift exports about itself, and their exposition."""

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Generic, TypeVar

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_latest_openmetrics

import kldrift
from kldrift.export.exposition import Family, label_set, printable, sample_lines, value_texts
from kldrift.records.types import IntArray

Instrument = TypeVar("Instrument", Counter, Gauge, Histogram)

_SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_VALUES_INVALID = Family("kldrift_values_invalid_total", "counter", "Values of the wrong type, which count as invalid.")


class Labelled(Generic[Instrument]):
    """The children of a labelled instrument, each looked up only once.

    Label values are made printable, since a single lone surrogate would fail the whole scrape.
    """

    def __init__(self, instrument: Instrument) -> None:
        self._instrument: Instrument = instrument
        self._children: dict[tuple[str, ...], Instrument] = {}

    def at(self, *labels: str) -> Instrument:
        """Return the child with these label values; from now on it is exported, starting at 0."""
        child = self._children.get(labels)
        if child is None:
            child = self._instrument.labels(*map(printable, labels))
            self._children[labels] = child
        return child

    def keep(self, first_labels: Iterable[str]) -> None:
        """Stop exporting the children whose first label is not in `first_labels`."""
        kept = frozenset(first_labels)
        for labels in [labels for labels in list(self._children) if labels[0] not in kept]:
            del self._children[labels]
            self._instrument.remove(*map(printable, labels))


class InvalidValues:
    """Counts of invalid values per feature, in arrays, because 10,000 counter objects cost 50 ms per scrape."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[tuple[str, ...], IntArray, list[bytes]]] = {}

    def add(self, monitor: str, features: Sequence[str], counts: IntArray) -> None:
        """Add (n_features,) counts. When the features of a monitor change, those that remain keep their totals."""
        known = self._counts.get(monitor)
        if known is None or (known[0] is not features and known[0] != tuple(features)):
            before = {} if known is None else dict(zip(known[0], known[1].tolist(), strict=True))
            totals = np.array([before.get(name, 0) for name in features], dtype=np.int64)
            labels = [label_set([("monitor", monitor), ("feature", name)]) for name in features]
            known = self._counts[monitor] = (tuple(features), totals, labels)
        known[1][:] += counts

    def keep(self, monitors: Iterable[str]) -> None:
        """Forget all other monitors."""
        kept = frozenset(monitors)
        self._counts = {name: counts for name, counts in self._counts.items() if name in kept}

    def render(self, openmetrics: bool) -> bytes:
        """Return the family, empty if there are no features."""
        name = _VALUES_INVALID.name.encode()
        blocks = [sample_lines(name, labels, value_texts(totals)) for _, totals, labels in self._counts.values()]
        return _VALUES_INVALID.header(openmetrics) + b"".join(blocks) if any(blocks) else b""


class _Present:
    """The families of a registry without samples that carry no information.

    It omits values that are not set yet (NaN: absent, not 0, until there is a value) and the ``_created`` times of
    prometheus-client, which would double the series of every counter.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [
                sample
                for sample in metric.samples
                if not sample.name.endswith("_created") and sample.value == sample.value
            ]
            if metric.samples:
                yield metric


class SelfMetrics:
    """Every instrument about kldrift itself, in a registry of its own.

    Only `Telemetry` updates counters of failures, and it logs in the same call.
    """

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Labelled[Counter]:
            return Labelled(Counter(name, text, labels, registry=registry))

        def gauge(name: str, text: str, *labels: str) -> Labelled[Gauge]:
            return Labelled(Gauge(name, text, labels, registry=registry))

        def unset(name: str, text: str) -> Gauge:
            instrument = Gauge(name, text, registry=registry)
            instrument.set(float("nan"))
            return instrument

        def seconds(name: str, text: str) -> Histogram:
            return Histogram(name, text, registry=registry, buckets=_SECONDS_BUCKETS)

        self.samples_received = counter(
            "kldrift_samples_received_total", "Rows delivered by a source, including rejected ones.", "source"
        )
        self.samples_rejected = counter(
            "kldrift_samples_rejected_total", "Rows rejected, by reason.", "source", "reason"
        )
        self.samples_counted = counter(
            "kldrift_samples_counted_total", "Rows counted into the windows of a monitor.", "monitor"
        )
        self.samples_late = counter(
            "kldrift_samples_late_total",
            "Rows not counted because they arrived later than the allowed lateness.",
            "monitor",
        )
        self.segment_rows_folded = counter(
            "kldrift_segment_rows_folded_total",
            "Rows whose segment value exceeds the limit of segments, counted as other.",
            "monitor",
        )
        self.values_invalid = InvalidValues()
        self.last_sample = gauge(
            "kldrift_last_sample_timestamp_seconds", "When a source last delivered a row.", "source"
        )
        self.source_up = gauge("kldrift_source_up", "1 if the source can be read, else 0.", "source")
        self.source_errors = counter(
            "kldrift_source_errors_total", "Failures to read a source, by reason.", "source", "reason"
        )
        self.lost_bytes = counter(
            "kldrift_source_lost_bytes_total",
            "Bytes that a source can no longer read, as far as it is known; at least this many.",
            "source",
        )
        self.rebalances = counter(
            "kldrift_source_rebalances_total", "Times that a source was assigned different streams to read.", "source"
        )
        self.lag_bytes = gauge("kldrift_source_lag_bytes", "Bytes of the source that are not yet read.", "source")
        self.lag_records = gauge("kldrift_source_lag_records", "Records of the source that are not yet read.", "source")
        self.evaluation_seconds = seconds(
            "kldrift_evaluation_duration_seconds", "Time to compute the divergences of all monitors once."
        )
        self.commit_seconds = seconds(
            "kldrift_commit_duration_seconds",
            "Time to count samples and store the counts; without a state file, only to count.",
        )
        self.last_commit = unset(
            "kldrift_last_commit_timestamp_seconds",
            "When counts were last stored; without a state file, when samples were last counted.",
        )
        self.commit_errors = Counter(
            "kldrift_commit_errors_total", "Commits that failed and were retried.", registry=registry
        )
        self.state_damaged = Counter(
            "kldrift_state_damaged_total", "State files that were unreadable and moved aside.", registry=registry
        )
        self.queue_bytes = Gauge(
            "kldrift_queue_bytes", "Bytes of decoded samples waiting to be counted.", registry=registry
        )
        self.clock_jumps = Counter(
            "kldrift_clock_jumps_total",
            "Jumps of the wall clock by more than a minute; they are followed once it has stayed for five.",
            registry=registry,
        )
        self.reload_successful = unset(
            "kldrift_config_last_reload_successful", "1 if the last reload of the configuration succeeded, else 0."
        )
        self.reload_success_at = unset(
            "kldrift_config_last_reload_success_timestamp_seconds",
            "When a configuration was last loaded.",
        )
        self.series_limit_hit = Counter(
            "kldrift_series_limit_hit_total",
            "Scrapes that left out series because there were too many.",
            registry=registry,
        )
        self.http_requests = counter(
            "kldrift_http_requests_total", "HTTP requests answered, by handler and status code.", "handler", "code"
        )
        self.http_seconds = Labelled(
            Histogram(
                "kldrift_http_request_duration_seconds",
                "Time to answer an HTTP request.",
                ["handler"],
                registry=registry,
                buckets=_SECONDS_BUCKETS,
            )
        )
        self.http_unauthorized = counter(
            "kldrift_http_unauthorized_total", "HTTP requests denied access, by reason.", "reason"
        )
        self.tls_failures = counter(
            "kldrift_tls_handshake_failures_total", "TLS handshakes that failed, by reason.", "reason"
        )
        self.tls_expiry = unset(
            "kldrift_tls_certificate_expiry_timestamp_seconds", "When the certificate in use expires."
        )
        self.server_files_successful = unset(
            "kldrift_server_files_last_reload_successful",
            "1 if the certificates, tokens and users in use are up to date with their files, else 0.",
        )
        self.http_connections = Gauge("kldrift_http_connections", "Open HTTP connections.", registry=registry)
        self.http_refused = counter(
            "kldrift_http_connections_refused_total",
            "Connections refused because there were too many, in total or from one client.",
            "reason",
        )
        self.http_evicted = counter(
            "kldrift_http_evicted_total",
            "Connections closed because they took too long, by what they were waiting for.",
            "reason",
        )
        Info("kldrift_build", "Versions of kldrift and of what it runs on.", registry=registry).info(
            {
                "version": kldrift.__version__,
                "python": platform.python_version(),
                "numba": version("numba"),
            }
        )

    def render(self, openmetrics: bool) -> bytes:
        """Return all families, without the ``# EOF`` of OpenMetrics."""
        generate: Callable[..., bytes] = generate_latest_openmetrics if openmetrics else generate_latest
        body = generate(_Present(self.registry)).removesuffix(b"# EOF\n")
        return body + self.values_invalid.render(openmetrics)
