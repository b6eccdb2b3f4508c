"""The events of the daemon: each is one function, which counts and, where it is a failure, logs."""

import gzip
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from kldrift.export.drift_metrics import MAX_SERIES, DriftRenderer
from kldrift.export.server_events import ServerEvents
from kldrift.export.source_events import SourceEvents
from kldrift.records.snapshots import AddResult, DriftSnapshot

# 50,000 series (4.5 MB) take 17 ms at level 1, 40 ms and a tenth less bytes at level 6.
_GZIP_LEVEL = 1


class Telemetry(SourceEvents, ServerEvents):
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
        super().__init__(logger, clock)
        self._renderer = DriftRenderer()
        self._max_series = max_series

    # --- configuration ---------------------------------------------------------------------------

    def configure(
        self, pull_sources: Iterable[str], push_sources: Iterable[str], monitors: Mapping[str, Sequence[str]]
    ) -> None:
        """Start the series of these sources and monitors (name → features) at 0; end those of all others.

        Only a pull source is up or down.
        """
        metrics = self._metrics
        with self._lock:
            self._configure_sources(tuple(pull_sources), tuple(push_sources))
            for name, features in monitors.items():
                metrics.samples_counted.at(name)
                metrics.samples_late.at(name)
                metrics.segment_rows_folded.at(name)
                metrics.values_invalid.add(name, features, np.zeros(len(features), dtype=np.int64))
            for of_monitors in (metrics.samples_counted, metrics.samples_late, metrics.segment_rows_folded):
                of_monitors.keep(monitors)
            metrics.values_invalid.keep(monitors)
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

    # --- scrapes ---------------------------------------------------------------------------------

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
