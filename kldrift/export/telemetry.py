"""The events of the daemon: each is one function, which counts and, where it is a failure, logs."""

import gzip
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from threading import Lock

import numpy as np

from kldrift.export.drift_metrics import MAX_SERIES, DriftRenderer
from kldrift.export.logs import EventLog
from kldrift.export.self_metrics import SelfMetrics
from kldrift.records.samples import BodyResult, Chunk
from kldrift.records.snapshots import AddResult, DriftSnapshot
from kldrift.records.types import IntArray

#: Reasons for which rows are rejected; their counters stand at 0 from the start, so that rates see the first one.
REJECT_REASONS = ("malformed", "not_an_object", "timestamp", "unreadable", "future")

#: The same for failures: a pull source cannot be read; a batch of any source hit an unforeseen error.
_READ, _BATCH = "read", "batch"

#: The same for connections.
REFUSED_REASONS = ("connections", "client")
EVICTED_REASONS = ("header", "body", "answer", "idle", "write")

# 50,000 series (4.5 MB) take 17 ms at level 1, 40 ms and a tenth less bytes at level 6.
_GZIP_LEVEL = 1

# Names of unknown fields come from the input: how many a monitor remembers, and how much of one is shown.
_MAX_UNKNOWN_FIELDS = 1000
_MAX_NAME_LENGTH = 100


class Telemetry:
    """Counts and logs what happens; writes the body of a scrape. May be called from any thread.

    Label values are names from the configuration and words from bounded sets; input only where it names a segment.

    Parameters
    ----------
    logger : where failures are logged
    clock : Unix time, seconds
    max_series : series of a scrape beyond which drift families are left out
    """

    def __init__(
        self,
        logger: logging.Logger | None = None,
        clock: Callable[[], float] = time.time,
        max_series: int = MAX_SERIES,
    ) -> None:
        self._clock = clock
        self._log = EventLog(logger or logging.getLogger("kldrift"), clock=clock)
        self._metrics = SelfMetrics()
        for reason in REFUSED_REASONS:
            self._metrics.http_refused.at(reason)
        for reason in EVICTED_REASONS:
            self._metrics.http_evicted.at(reason)
        self._renderer = DriftRenderer()
        self._max_series = max_series
        self._unknown_fields: dict[str, set[str]] = {}
        self._up: dict[str, bool] = {}
        self._last_errors: dict[str, str] = {}
        self._lag_records: dict[str, int] = {}
        self._lags: dict[str, dict[str, tuple[int | None, int | None]]] = {}  # by source, by stream
        self._lock = Lock()

    # --- configuration ---------------------------------------------------------------------------

    def configure(
        self, pull_sources: Iterable[str], push_sources: Iterable[str], monitors: Mapping[str, Sequence[str]]
    ) -> None:
        """Start the series of these sources and monitors (name → features) at 0; end those of all others.

        Only a pull source is up or down.
        """
        metrics, pull = self._metrics, tuple(pull_sources)
        sources = (*pull, *push_sources)
        with self._lock:
            for source in sources:
                metrics.samples_received.at(source)
                metrics.source_errors.at(source, _BATCH)
                for reason in REJECT_REASONS:
                    metrics.samples_rejected.at(source, reason)
            for source in pull:
                metrics.source_up.at(source)
                metrics.source_errors.at(source, _READ)
            for name, features in monitors.items():
                metrics.samples_counted.at(name)
                metrics.samples_late.at(name)
                metrics.segment_rows_folded.at(name)
                metrics.values_invalid.add(name, features, np.zeros(len(features), dtype=np.int64))
            for of_sources in (metrics.samples_received, metrics.samples_rejected, metrics.source_errors):
                of_sources.keep(sources)
            metrics.last_sample.keep(sources)
            for of_pull in (metrics.source_up, metrics.lag_bytes, metrics.lag_records):
                of_pull.keep(pull)
            for of_monitors in (metrics.samples_counted, metrics.samples_late, metrics.segment_rows_folded):
                of_monitors.keep(monitors)
            metrics.values_invalid.keep(monitors)
            for state in (self._up, self._last_errors, self._lag_records, self._lags):
                for gone in state.keys() - set(pull):
                    del state[gone]
            self._unknown_fields = {m: n for m, n in self._unknown_fields.items() if m in monitors}

    def config_warning(self, warning: str) -> None:
        """The configuration holds, but has something the user should know."""
        self._log.event(logging.WARNING, "configuration", warning=warning)

    def ready(self, port: int, seconds: float) -> None:
        """The daemon takes samples and answers, `seconds` after its start."""
        self._log.event(logging.INFO, "ready", port=port, seconds=round(seconds, 3))

    def stopping(self) -> None:
        """The daemon was told to stop."""
        self._log.event(logging.INFO, "stopping")

    def stopped(self, rows: int) -> None:
        """Everything that was taken is counted: so many rows since the start."""
        self._log.event(logging.INFO, "stopped", rows_counted=rows)

    def monitor_started_anew(self, monitor: str) -> None:
        """A reload changed a monitor's bins, windows or reference, so that its counts could not be kept."""
        self._log.event(logging.WARNING, "monitor changed, its windows start empty", monitor=monitor)

    def reload_succeeded(self, at_ms: int) -> None:
        """A configuration was taken over, the first one at start as well."""
        self._metrics.reload_successful.set(1)
        self._metrics.reload_success_at.set(at_ms / 1000)
        self._log.event(logging.INFO, "configuration loaded")

    def reload_failed(self, problems: Sequence[str]) -> None:
        """A new configuration was refused; the old one stays."""
        self._metrics.reload_successful.set(0)
        for problem in problems:
            self._log.event(logging.ERROR, "configuration refused, the old one stays", problem=problem)

    # --- sources ---------------------------------------------------------------------------------

    def batch_decoded(self, source: str, accepted: int, rejected: Mapping[str, int]) -> None:
        """Rows of a source were decoded; `rejected` counts those that were not taken, by reason."""
        n_rejected = sum(rejected.values())
        if not accepted + n_rejected:
            return
        self._metrics.samples_received.at(source).inc(accepted + n_rejected)
        self._metrics.last_sample.at(source).set(self._clock())
        for reason, count in rejected.items():
            self._rejected(source, reason, count)

    def _rejected(self, source: str, reason: str, count: int) -> None:
        if not count:
            return
        self._metrics.samples_rejected.at(source, reason).inc(count)
        self._log.repeated(
            ("rejected", source, reason),
            logging.WARNING,
            "rows rejected",
            {"source": source, "reason": reason, "rows": count},
        )

    def source_up(self, source: str, up: bool) -> None:
        """A pull source can be read, or cannot."""
        self._up[source] = up
        self._metrics.source_up.at(source).set(up)

    def source_ended(self, source: str) -> None:
        """A pull source was read to its end; there is nothing more to come."""
        self._log.event(logging.INFO, "source ended", source=source)

    def source_failed(self, source: str, reason: str, message: str) -> None:
        """A pull source could not be read; it is down until `source_up` says otherwise."""
        self.source_up(source, False)
        self._source_trouble(source, reason, message, logging.ERROR, "source failed")

    def source_error(self, source: str, reason: str, message: str) -> None:
        """A part of a pull source (one file of many) could not be read; the rest of it goes on."""
        self._source_trouble(source, reason, message, logging.WARNING, "a part of the source could not be read")

    def _source_trouble(self, source: str, reason: str, message: str, level: int, event: str) -> None:
        self._last_errors[source] = message
        self._metrics.source_errors.at(source, reason).inc()
        self._log.repeated(
            (event, source, reason),
            level,
            event,
            {"source": source, "reason": reason, "error": message},
        )

    def source_state(self, source: str) -> tuple[bool, int | None, str | None]:
        """Whether a pull source can be read, how many records wait (if it knows), and its last error (if any)."""
        return self._up.get(source, False), self._lag_records.get(source), self._last_errors.get(source)

    def source_lag(self, source: str, chunk: Chunk) -> None:
        """What of a source waits to be read behind this chunk, as far as it knows: the sum over its streams."""
        if chunk.lag_bytes is None and chunk.lag_records is None:
            return
        with self._lock:
            lags = self._lags.setdefault(source, {})
            lags[chunk.stream] = (chunk.lag_bytes, chunk.lag_records)
            of_bytes = [lag for lag, _ in lags.values() if lag is not None]
            of_records = [lag for _, lag in lags.values() if lag is not None]
            if not (chunk.lag_bytes or chunk.lag_records):  # caught up: adds nothing, and files come and go
                del lags[chunk.stream]
        if of_bytes:
            self._metrics.lag_bytes.at(source).set(sum(of_bytes))
        if of_records:
            self._lag_records[source] = sum(of_records)
            self._metrics.lag_records.at(source).set(sum(of_records))

    def source_assigned(self, source: str, streams: Collection[str]) -> None:
        """A source that shares its streams with others has these now; the lag of the others is theirs."""
        self._metrics.rebalances.at(source).inc()
        with self._lock:
            lags = self._lags.get(source, {})
            for stream in lags.keys() - set(streams):
                del lags[stream]
        self._log.event(logging.INFO, "streams assigned", source=source, streams=len(streams))

    def bodies_decoded(
        self, source: str, stream: str, bodies: Sequence[BodyResult], offsets: IntArray | None = None
    ) -> None:
        """A piece of a pull source was decoded: nobody is answered what was wrong with it, so the log says it.

        Parameters
        ----------
        offsets : where each record is in the stream, if that is known
        """
        for body in bodies:
            if body.unreadable is not None:
                self._log.repeated(
                    ("unreadable", source, stream),
                    logging.ERROR,
                    "a piece of the source could not be read",
                    {"source": source, "stream": stream, "error": body.unreadable},
                )
            elif body.errors:
                first = body.errors[0]
                place = stream if offsets is None else f"{stream}/{offsets[first.row]}"
                self._log.repeated(
                    ("row_errors", source, stream),
                    logging.WARNING,
                    "rows or values of the source could not be read",
                    {"source": source, "stream": place, "feature": first.feature, "error": first.reason},
                )

    def batch_failed(self, source: str, error: BaseException) -> None:
        """An unforeseen error cost a batch: a bug of kldrift's or no memory left."""
        self._last_errors[source] = f"{type(error).__name__}: {error}"
        self._metrics.source_errors.at(source, _BATCH).inc()
        self._log.repeated(
            ("batch_failed", source, type(error).__name__),
            logging.ERROR,
            "a batch was lost to an unforeseen error",
            {"source": source, "error": f"{type(error).__name__}: {error}"},
            error,
        )

    def unknown_fields(self, monitor: str, names: Iterable[str]) -> None:
        """Rows had fields that the monitor does not know; each is logged once."""
        with self._lock:
            known = self._unknown_fields.setdefault(monitor, set())
            if len(known) >= _MAX_UNKNOWN_FIELDS:
                return
            room = _MAX_UNKNOWN_FIELDS - len(known)
            shown = {name[:_MAX_NAME_LENGTH] for name in names}
            new = sorted(shown - known)[:room]
            known.update(new)
            full = len(known) >= _MAX_UNKNOWN_FIELDS
        for name in new:
            self._log.event(logging.INFO, "unknown field ignored", monitor=monitor, field=name)
        if full:
            self._log.event(logging.WARNING, "further unknown fields are not listed", monitor=monitor)

    # --- the engine ------------------------------------------------------------------------------

    def rows_added(self, monitor: str, source: str, result: AddResult, feature_names: Sequence[str]) -> None:
        """A monitor took a batch of a source; `feature_names` is in the order of ``result.invalid``."""
        if result.counted:
            self._metrics.samples_counted.at(monitor).inc(result.counted)
        if result.late.size:
            self._metrics.samples_late.at(monitor).inc(result.late.size)
            self._log.repeated(
                ("late", monitor),
                logging.WARNING,
                "rows came too late and were not counted",
                {"monitor": monitor, "source": source, "rows": result.late.size},
            )
        self._rejected(source, "future", result.future.size)
        if result.invalid.any():
            with self._lock:
                self._metrics.values_invalid.add(monitor, feature_names, result.invalid)
            worst = np.argsort(-result.invalid, kind="stable")[:5]
            self._log.repeated(
                ("invalid", monitor),
                logging.WARNING,
                "values of the wrong type were not counted",
                {
                    "monitor": monitor,
                    "source": source,
                    "features": ", ".join(
                        f"{feature_names[f]}: {result.invalid[f]}" for f in worst if result.invalid[f]
                    ),
                },
            )

    def references_learned(self, monitor: str, features: Sequence[str]) -> None:
        """The references of these features have all the rows that they are learned from."""
        self._log.event(logging.INFO, "reference learned", monitor=monitor, features=", ".join(features))

    def segments_folded(self, monitor: str, rows: int) -> None:
        """So many rows had a segment value beyond the limit of segments: they count as *other*."""
        if rows:
            self._metrics.segment_rows_folded.at(monitor).inc(rows)
            self._log.repeated(
                ("segments_folded", monitor),
                logging.INFO,
                "rows have more segment values than there may be segments, and count as other",
                {"monitor": monitor, "rows": rows},
            )

    def committed(self, seconds: float, at_ms: int) -> None:
        """What was counted is stored, or with no state counted, `seconds` after that was begun."""
        self._metrics.commit_seconds.observe(seconds)
        self._metrics.last_commit.set(at_ms / 1000)

    def commit_failed(self, error: BaseException) -> None:
        """What was counted could not be stored; it is tried again, and nothing more is counted until it is."""
        self._metrics.commit_errors.inc()
        self._log.repeated(
            ("commit_failed",), logging.ERROR, "the state cannot be written, counting waits", {"error": str(error)}
        )

    def commit_recovered(self) -> None:
        """What was counted is stored again."""
        self._log.event(logging.INFO, "the state is written again")

    def history_failed(self, error: BaseException) -> None:
        """Charts lack a point; nothing else depends on it."""
        self._log.repeated(
            ("history_failed",), logging.WARNING, "the history of the charts lacks a point", {"error": str(error)}
        )

    def monitor_restored(self, monitor: str) -> None:
        """A monitor goes on with the counts that were stored."""
        self._log.event(logging.INFO, "monitor goes on with its stored counts", monitor=monitor)

    def state_moved(self, detail: str) -> None:
        """The state could not be read: it was moved aside, and all counting begins anew."""
        self._metrics.state_damaged.inc()
        self._log.event(logging.ERROR, "the state was damaged", detail=detail)

    def evaluation_failed(self, error: BaseException) -> None:
        """An unforeseen error cost an evaluation; the timestamp of the last one stands still."""
        self._log.repeated(
            ("evaluation_failed", type(error).__name__),
            logging.ERROR,
            "the divergences could not be computed",
            {"error": f"{type(error).__name__}: {error}"},
            error,
        )

    def evaluated(self, seconds: float, at_ms: int) -> None:
        """The divergences of all monitors were computed at this instant (which the snapshot exports)."""
        self._metrics.evaluation_seconds.observe(seconds)
        self._log.event(logging.DEBUG, "divergences computed", seconds=seconds, at_ms=at_ms)

    def queue_changed(self, queue_bytes: int) -> None:
        """The intake queue holds this much now."""
        self._metrics.queue_bytes.set(queue_bytes)

    # --- HTTP ------------------------------------------------------------------------------------

    def http_answered(self, handler: str, code: int, seconds: float) -> None:
        """A request was answered; `handler` is the name of the route, never the path that was asked for."""
        self._metrics.http_requests.at(handler, str(code)).inc()
        self._metrics.http_seconds.at(handler).observe(seconds)

    def watch_entry(self, refusals: Iterable[str], handshake_failures: Iterable[str]) -> None:
        """Start the series of these reasons at 0: not everybody is let in."""
        for reason in refusals:
            self._metrics.http_unauthorized.at(reason)
        for reason in handshake_failures:
            self._metrics.tls_failures.at(reason)

    def http_unauthorized(self, reason: str, client: str) -> None:
        """A request was not let in; `reason` is a word from a bounded set."""
        self._metrics.http_unauthorized.at(reason).inc()
        self._log.repeated(
            ("unauthorized", reason),
            logging.WARNING,
            "a request was not let in",
            {"reason": reason, "client": client},
        )

    def tls_failed(self, reason: str) -> None:
        """A TLS handshake failed; `reason` is a word from a bounded set."""
        self._metrics.tls_failures.at(reason).inc()
        self._log.repeated(("tls", reason), logging.WARNING, "a TLS handshake failed", {"reason": reason})

    def certificate_used(self, expires: float) -> None:
        """New connections are shown a certificate that expires then."""
        self._metrics.tls_expiry.set(expires)
        self._log.event(logging.INFO, "certificate loaded", expires=datetime.fromtimestamp(expires, UTC).isoformat())

    def server_files_read(self, problems: Sequence[str]) -> None:
        """Certificates, tokens or users were read again; with problems the old ones stay."""
        self._metrics.server_files_successful.set(not problems)
        for problem in problems:
            self._log.event(logging.ERROR, "refused, the old one stays", problem=problem)
        if not problems:
            self._log.event(logging.INFO, "certificates, tokens and users are those of their files")

    def http_connections(self, n_open: int) -> None:
        """So many connections are open."""
        self._metrics.http_connections.set(n_open)

    def http_refused(self, reason: str) -> None:
        """A connection was refused: there are too many, in all or of its client."""
        self._metrics.http_refused.at(reason).inc()
        self._log.repeated(("refused", reason), logging.WARNING, "connection refused", {"too_many": reason})

    def http_evicted(self, reason: str) -> None:
        """A connection was closed because it took too long; one that was merely idle is no news."""
        self._metrics.http_evicted.at(reason).inc()
        if reason != "idle":
            self._log.repeated(
                ("evicted", reason), logging.WARNING, "connection closed, it took too long", {"waited_for": reason}
            )

    def open_files(self, before: int, after: int, connections: int, wanted: int) -> None:
        """The limit of open files was raised, or allows fewer connections than wanted."""
        if after > before:
            self._log.event(logging.INFO, "limit of open files raised", before=before, after=after)
        if connections < wanted:
            self._log.event(
                logging.WARNING,
                "the limit of open files allows fewer connections than server.max_connections: raise it (ulimit -n)",
                open_files=after,
                connections=connections,
                wanted=wanted,
            )

    def series_limited(self, dropped: int) -> None:
        """A scrape left out series."""
        self._metrics.series_limit_hit.inc()
        self._log.repeated(
            "series_limited",
            logging.WARNING,
            "too many series for one scrape: some are left out; watch fewer features, windows or divergences",
            {"dropped": dropped, "limit": self._max_series},
        )

    def exposition(self, openmetrics: bool, compress: bool, snapshot: DriftSnapshot) -> bytes:
        """The body of a scrape, gzipped or not: kldrift's own metrics, then the drift families."""
        own = self._metrics.render(openmetrics)
        n_own = own.count(b"\n") - own.count(b"# HELP ") - own.count(b"# TYPE ")
        drift = self._renderer.render(snapshot, openmetrics, self._max_series - n_own)
        if drift.dropped:
            self.series_limited(drift.dropped)
        body = own + drift.body + (b"# EOF\n" if openmetrics else b"")
        return gzip.compress(body, _GZIP_LEVEL, mtime=0) if compress else body
