"""The events of the daemon. Each is one method that updates metrics and, for a failure or a change, logs a line."""

import gzip
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from kldrift.export.drift_metrics import MAX_SERIES, DriftRenderer
from kldrift.export.server_events import ServerEvents
from kldrift.export.source_events import SourceEvents
from kldrift.records.snapshots import AddResult, DriftSnapshot

# 50,000 series (4.5 MB) take 17 ms at level 1; level 6 takes 40 ms and saves a tenth of the bytes.
_GZIP_LEVEL = 1


class Telemetry(SourceEvents, ServerEvents):
    """The metrics and the log of the daemon, and the body of a scrape. Safe to call from any thread.

    Label values come from the configuration and from bounded sets; only segment names come from the input.

    Parameters
    ----------
    logger : where failures are logged
    clock : Unix time, seconds
    max_series : limit of series in a scrape; beyond it, drift families are dropped
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
        """Start the series of these sources and monitors (name → features) at 0, and drop those of all others.

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
        """Log something about a valid configuration that its author should know."""
        self._log.event(logging.WARNING, "configuration", warning=warning)

    def kernels_not_kept(self, problem: str) -> None:
        """Log that the kernels are compiled at this start, and at every other one, and why."""
        self._log.event(
            logging.WARNING, "compiled kernels cannot be kept, so every start compiles them", reason=problem
        )

    def kernels_compiled_first(self) -> None:
        """Log that this start takes longer than later ones, since there are no compiled kernels yet."""
        self._log.event(logging.INFO, "compiling the kernels for this version; later starts load them")

    def ready(self, port: int, seconds: float) -> None:
        """Log that the daemon accepts samples and requests, `seconds` after it started."""
        self._log.event(logging.INFO, "ready", port=port, seconds=round(seconds, 3))

    def stopping(self) -> None:
        """Log that the daemon was asked to stop."""
        self._log.event(logging.INFO, "stopping")

    def posts_dropped(self, bodies: int) -> None:
        """Log that bodies were not counted, because decoding them would have taken longer than stopping may."""
        self._log.event(logging.WARNING, "stopped before these posts could be decoded and counted", posts=bodies)

    def stop_overdue(self, seconds: float) -> None:
        """Log that the process ends before everything is counted and stored."""
        self._log.event(
            logging.ERROR,
            "not everything could be counted and stored in the time for stopping; is the disk hanging?",
            seconds=seconds,
        )

    def stopped(self, rows: int) -> None:
        """Log that all accepted samples are counted, with the number of rows since the start."""
        self._log.event(logging.INFO, "stopped", rows_counted=rows)

    def monitor_changed(self, monitor: str, began: Sequence[str]) -> None:
        """Log that a monitor continues with other features, windows or segments, and what of it begins anew and why."""
        if not began:
            self._log.event(logging.INFO, "monitor changed, and goes on with all its counts", monitor=monitor)
        for text in began:
            self._log.event(logging.WARNING, "monitor changed, so part of it begins anew", monitor=monitor, part=text)

    def reload_succeeded(self, at_ms: int) -> None:
        """Record that a configuration was loaded, at start or by a reload."""
        self._metrics.reload_successful.set(1)
        self._metrics.reload_success_at.set(at_ms / 1000)
        self._log.event(logging.INFO, "configuration loaded")

    def reload_failed(self, problems: Sequence[str]) -> None:
        """Record that a new configuration was refused and the old one stays in use."""
        self._metrics.reload_successful.set(0)
        for problem in problems:
            self._log.event(logging.ERROR, "new configuration rejected, the old one stays in use", problem=problem)

    # --- the engine ------------------------------------------------------------------------------

    def rows_added(self, monitor: str, source: str, result: AddResult, feature_names: Sequence[str]) -> None:
        """Count the rows that a monitor took from a batch; `feature_names` is in the order of ``result.invalid``."""
        if result.counted:
            self._metrics.samples_counted.at(monitor).inc(result.counted)
        if result.late.size:
            self._metrics.samples_late.at(monitor).inc(result.late.size)
            self._log.repeated(
                ("late", monitor),
                logging.WARNING,
                "rows arrived too late and were not counted",
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
                "values of the wrong type count as invalid",
                {
                    "monitor": monitor,
                    "source": source,
                    "features": ", ".join(
                        f"{feature_names[f]}: {result.invalid[f]}" for f in worst if result.invalid[f]
                    ),
                },
            )

    def references_learned(self, monitor: str, problems: Mapping[str, str | None]) -> None:
        """Log that the references of these features have all the rows they learn from, and which support no verdict.

        Parameters
        ----------
        problems : why the reference of a feature supports no verdict, by its name; None where it supports one
        """
        usable = [name for name, problem in problems.items() if problem is None]
        if usable:
            self._log.event(logging.INFO, "reference learned", monitor=monitor, features=", ".join(usable))
        for name, problem in problems.items():
            if problem is not None:
                self._log.event(
                    logging.WARNING, "reference learned, but unusable", monitor=monitor, feature=name, reason=problem
                )

    def segments_folded(self, monitor: str, rows: int) -> None:
        """Count rows whose segment value exceeds the limit of segments, so they count as *other*."""
        if rows:
            self._metrics.segment_rows_folded.at(monitor).inc(rows)
            self._log.repeated(
                ("segments_folded", monitor),
                logging.INFO,
                "more segment values than the limit; the rows count as other",
                {"monitor": monitor, "rows": rows},
            )

    def committed(self, seconds: float, at_ms: int) -> None:
        """Record a commit that took `seconds`: counts were stored or, without a state file, only counted."""
        self._metrics.commit_seconds.observe(seconds)
        self._metrics.last_commit.set(at_ms / 1000)

    def commit_failed(self, error: BaseException) -> None:
        """Record that a commit failed. It is retried, and nothing more is counted until it succeeds."""
        self._metrics.commit_errors.inc()
        self._log.repeated(
            ("commit_failed",),
            logging.ERROR,
            "the state file cannot be written; counting is paused",
            {"error": str(error)},
        )

    def commit_recovered(self) -> None:
        """Log that commits succeed again."""
        self._log.event(logging.INFO, "the state file is written again")

    def history_failed(self, error: BaseException) -> None:
        """Log that the charts will lack a point; nothing else depends on it."""
        self._log.repeated(
            ("history_failed",),
            logging.WARNING,
            "a point of the chart history could not be written",
            {"error": str(error)},
        )

    def monitor_restored(self, monitor: str) -> None:
        """Log that a monitor continues from its stored counts."""
        self._log.event(logging.INFO, "monitor continues from its stored counts", monitor=monitor)

    def clock_jumped(self, ahead_ms: int, followed: bool) -> None:
        """Record that the wall clock jumped, came back (0 ahead), or has stayed there, so that it is followed."""
        if not followed:
            self._metrics.clock_jumps.inc()
            text = "the wall clock jumped; it is not followed until it has stayed there for five minutes"
        else:
            text = "the wall clock is where it was before it jumped" if not ahead_ms else "the wall clock is followed"
        self._log.event(logging.WARNING, text, ahead_seconds=ahead_ms / 1000)

    def state_moved(self, detail: str) -> None:
        """Record that the state file was unreadable and was moved aside, so counting starts from nothing."""
        self._metrics.state_damaged.inc()
        self._log.event(logging.ERROR, "the state file was damaged", detail=detail)

    def evaluation_failed(self, error: BaseException) -> None:
        """Log that an unexpected error prevented an evaluation; the timestamp of the last one does not advance."""
        self._log.repeated(
            ("evaluation_failed", type(error).__name__),
            logging.ERROR,
            "the divergences could not be computed",
            {"error": f"{type(error).__name__}: {error}"},
            error,
        )

    def evaluated(self, seconds: float, at_ms: int) -> None:
        """Record that all divergences were computed; the snapshot exports the time `at_ms`."""
        self._metrics.evaluation_seconds.observe(seconds)
        self._log.event(logging.DEBUG, "divergences computed", seconds=seconds, at_ms=at_ms)

    def queue_changed(self, queue_bytes: int) -> None:
        """Set the current size of the intake queue."""
        self._metrics.queue_bytes.set(queue_bytes)

    # --- scrapes ---------------------------------------------------------------------------------

    def series_limited(self, dropped: int) -> None:
        """Record that a scrape left out series."""
        self._metrics.series_limit_hit.inc()
        self._log.repeated(
            "series_limited",
            logging.WARNING,
            "too many series for one scrape, so some are left out; monitor fewer features, windows or divergences",
            {"dropped": dropped, "limit": self._max_series},
        )

    def exposition(self, openmetrics: bool, compress: bool, snapshot: DriftSnapshot) -> bytes:
        """Return the body of a scrape: kldrift's own metrics, then the drift families; gzipped if `compress`."""
        own = self._metrics.render(openmetrics)
        n_own = own.count(b"\n") - own.count(b"# HELP ") - own.count(b"# TYPE ")
        drift = self._renderer.render(snapshot, openmetrics, self._max_series - n_own)
        if drift.dropped:
            self.series_limited(drift.dropped)
        body = own + drift.body + (b"# EOF\n" if openmetrics else b"")
        return gzip.compress(body, _GZIP_LEVEL, mtime=0) if compress else body
