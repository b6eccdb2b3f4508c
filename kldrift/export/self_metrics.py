"""kldrift's metrics about itself: the instruments, and how they are written for a scrape."""

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

_VALUES_INVALID = Family("kldrift_values_invalid_total", "counter", "Values of the wrong type, not counted.")


class Labelled(Generic[Instrument]):
    """The children of a labelled instrument, each looked up once.

    Label values are made printable: one lone surrogate would otherwise fail the whole scrape.
    """

    def __init__(self, instrument: Instrument) -> None:
        self._instrument: Instrument = instrument
        self._children: dict[tuple[str, ...], Instrument] = {}

    def at(self, *labels: str) -> Instrument:
        """The child of these label values; it is exported (at 0) from now on."""
        child = self._children.get(labels)
        if child is None:
            child = self._instrument.labels(*map(printable, labels))
            self._children[labels] = child
        return child

    def keep(self, first_labels: Iterable[str]) -> None:
        """Stop exporting children whose first label is not among these."""
        kept = frozenset(first_labels)
        for labels in [labels for labels in list(self._children) if labels[0] not in kept]:
            del self._children[labels]
            self._instrument.remove(*map(printable, labels))


class InvalidValues:
    """Counts of invalid values, a feature each; arrays, because 10,000 counter objects cost 50 ms a scrape."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[tuple[str, ...], IntArray, list[bytes]]] = {}

    def add(self, monitor: str, features: Sequence[str], counts: IntArray) -> None:
        """Add (n_features,) counts. A monitor with other features than before keeps those that it still has."""
        known = self._counts.get(monitor)
        if known is None or (known[0] is not features and known[0] != tuple(features)):
            before = {} if known is None else dict(zip(known[0], known[1].tolist(), strict=True))
            totals = np.array([before.get(name, 0) for name in features], dtype=np.int64)
            labels = [label_set([("monitor", monitor), ("feature", name)]) for name in features]
            known = self._counts[monitor] = (tuple(features), totals, labels)
        known[1][:] += counts

    def keep(self, monitors: Iterable[str]) -> None:
        """Forget all monitors but these."""
        kept = frozenset(monitors)
        self._counts = {name: counts for name, counts in self._counts.items() if name in kept}

    def render(self, openmetrics: bool) -> bytes:
        """The family, empty if there is no feature."""
        name = _VALUES_INVALID.name.encode()
        blocks = [sample_lines(name, labels, value_texts(totals)) for _, totals, labels in self._counts.values()]
        return _VALUES_INVALID.header(openmetrics) + b"".join(blocks) if any(blocks) else b""


class _Present:
    """A registry's families without the samples that say nothing.

    Left out are those not set yet (NaN: absent, not 0, until there is a value) and the ``_created`` times of
    prometheus-client, which would be a second series for every counter.
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
    """Every instrument of kldrift's own, in a registry of their own.

    Counters of failures are written by `Telemetry`, which logs with the same call.
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
            "kldrift_samples_received_total", "Rows that a source delivered, rejected ones among them.", "source"
        )
        self.samples_rejected = counter(
            "kldrift_samples_rejected_total", "Rows that were not counted, by reason.", "source", "reason"
        )
        self.samples_counted = counter(
            "kldrift_samples_counted_total", "Rows counted into the windows of a monitor.", "monitor"
        )
        self.samples_late = counter(
            "kldrift_samples_late_total", "Rows later than the allowed lateness, not counted.", "monitor"
        )
        self.segment_rows_folded = counter(
            "kldrift_segment_rows_folded_total", "Rows whose segment value has no segment of its own.", "monitor"
        )
        self.values_invalid = InvalidValues()
        self.last_sample = gauge(
            "kldrift_last_sample_timestamp_seconds", "When a source last delivered a row.", "source"
        )
        self.source_up = gauge("kldrift_source_up", "1 if the source can be read, else 0.", "source")
        self.source_errors = counter(
            "kldrift_source_errors_total", "Failures to read a source, by reason.", "source", "reason"
        )
        self.rebalances = counter(
            "kldrift_source_rebalances_total", "Times that a source was given other streams to read.", "source"
        )
        self.lag_bytes = gauge("kldrift_source_lag_bytes", "Bytes of the source not read yet.", "source")
        self.lag_records = gauge("kldrift_source_lag_records", "Records of the source not read yet.", "source")
        self.evaluation_seconds = seconds(
            "kldrift_evaluation_duration_seconds", "Time to compute the divergences of all monitors once."
        )
        self.commit_seconds = seconds(
            "kldrift_commit_duration_seconds", "Time to store what was counted; with no state, to count it."
        )
        self.last_commit = unset(
            "kldrift_last_commit_timestamp_seconds",
            "When what was counted was last stored; with no state, when samples were last counted.",
        )
        self.commit_errors = Counter(
            "kldrift_commit_errors_total", "Commits that failed and were tried again.", registry=registry
        )
        self.state_damaged = Counter(
            "kldrift_state_damaged_total", "State files that could not be read and were moved aside.", registry=registry
        )
        self.queue_bytes = Gauge("kldrift_queue_bytes", "Decoded samples that wait to be counted.", registry=registry)
        self.reload_successful = unset(
            "kldrift_config_last_reload_successful", "1 if the last configuration was taken over, else 0."
        )
        self.reload_success_at = unset(
            "kldrift_config_last_reload_success_timestamp_seconds",
            "When a configuration was last taken over.",
        )
        self.series_limit_hit = Counter(
            "kldrift_series_limit_hit_total",
            "Scrapes that left series out because there were too many.",
            registry=registry,
        )
        self.http_requests = counter(
            "kldrift_http_requests_total", "HTTP requests answered, by handler and status.", "handler", "code"
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
            "kldrift_http_unauthorized_total", "HTTP requests that were not let in, by reason.", "reason"
        )
        self.tls_failures = counter(
            "kldrift_tls_handshake_failures_total", "TLS handshakes that failed, by reason.", "reason"
        )
        self.tls_expiry = unset(
            "kldrift_tls_certificate_expiry_timestamp_seconds", "When the certificate in use expires."
        )
        self.server_files_successful = unset(
            "kldrift_server_files_last_reload_successful",
            "1 if the certificates, tokens and users in use are those of the files last read, else 0.",
        )
        self.http_connections = Gauge("kldrift_http_connections", "HTTP connections that are open.", registry=registry)
        self.http_refused = counter(
            "kldrift_http_connections_refused_total",
            "Connections refused because there were too many, in all or of one client.",
            "reason",
        )
        self.http_evicted = counter(
            "kldrift_http_evicted_total",
            "Connections closed because they took too long, by what was waited for.",
            "reason",
        )
        Info("kldrift_build", "Versions of kldrift and what it runs on.", registry=registry).info(
            {
                "version": kldrift.__version__,
                "python": platform.python_version(),
                "numba": version("numba"),
            }
        )

    def render(self, openmetrics: bool) -> bytes:
        """All families, without the ``# EOF`` of OpenMetrics."""
        generate: Callable[..., bytes] = generate_latest_openmetrics if openmetrics else generate_latest
        body = generate(_Present(self.registry)).removesuffix(b"# EOF\n")
        return body + self.values_invalid.render(openmetrics)
