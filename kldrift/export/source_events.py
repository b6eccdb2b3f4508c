"""Events of the sources: what was decoded, what was rejected, what could not be read."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from kldrift.export.events import Events
from kldrift.records.samples import BodyResult, Chunk
from kldrift.records.types import IntArray

#: Reasons for rejecting rows. Their counters start at 0, so that `rate` and `increase` see the first rejection.
REJECT_REASONS = ("malformed", "not_an_object", "no_known_field", "timestamp", "unreadable", "future")

#: Likewise for failures: a pull source cannot be read; an unexpected error hit a batch of any source; a file is gone
#: before it was read to its end.
_READ, _BATCH, _LOST = "read", "batch", "rest_lost"

# Names of unknown fields come from the input: how many to remember for each monitor, and how much of one to show.
_MAX_UNKNOWN_FIELDS = 1000
_MAX_NAME_LENGTH = 100


class SourceEvents(Events):
    """Counts and logs what happens to the sources."""

    def __init__(self, logger: logging.Logger | None = None, clock: Callable[[], float] = time.time) -> None:
        super().__init__(logger, clock)
        self._unknown_fields: dict[str, set[str]] = {}
        self._up: dict[str, bool] = {}
        self._last_errors: dict[str, str] = {}
        self._lag_records: dict[str, int] = {}
        self._lags: dict[str, dict[str, tuple[int | None, int | None]]] = {}  # by source, by stream

    def _configure_sources(self, pull: Collection[str], push: Collection[str]) -> None:
        """Start the series of these sources at 0 and end those of all others. Only a pull source is up or down."""
        metrics, sources = self._metrics, (*pull, *push)
        for source in sources:
            metrics.samples_received.at(source)
            metrics.source_errors.at(source, _BATCH)
            for reason in REJECT_REASONS:
                metrics.samples_rejected.at(source, reason)
        for source in pull:
            metrics.source_up.at(source)
            metrics.source_errors.at(source, _READ)
            metrics.source_errors.at(source, _LOST)
            metrics.lost_bytes.at(source)
        for of_sources in (metrics.samples_received, metrics.samples_rejected, metrics.source_errors):
            of_sources.keep(sources)
        metrics.last_sample.keep(sources)
        for of_pull in (metrics.source_up, metrics.lag_bytes, metrics.lag_records, metrics.lost_bytes):
            of_pull.keep(pull)
        for state in (self._up, self._last_errors, self._lag_records, self._lags):
            for gone in state.keys() - set(pull):
                del state[gone]

    def batch_decoded(self, source: str, accepted: int, rejected: Mapping[str, int]) -> None:
        """Count decoded rows of a source; `rejected` has the number of rejected ones by reason."""
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
        """Record whether a pull source can be read."""
        self._up[source] = up
        self._metrics.source_up.at(source).set(up)

    def source_ended(self, source: str) -> None:
        """Log that a pull source was read to its end, and nothing more will come."""
        self._log.event(logging.INFO, "source ended", source=source)

    def source_renamed(self, old: str, new: str) -> None:
        """Log that a source has another name in the configuration and continues where it was."""
        self._log.event(logging.INFO, "source has a new name and continues where it was", source=new, formerly=old)

    def source_failed(self, source: str, reason: str, message: str) -> None:
        """Record that a pull source could not be read; it stays down until `source_up` is called."""
        self.source_up(source, False)
        self._source_trouble(source, reason, message, logging.ERROR, "source failed")

    def source_error(self, source: str, reason: str, message: str) -> None:
        """Record that a part of a pull source (one file of many) could not be read; the rest is still being read."""
        self._source_trouble(source, reason, message, logging.WARNING, "part of the source could not be read")

    def source_lost(self, source: str, n_bytes: int, message: str) -> None:
        """Record that the rest of a file, of `n_bytes` at least, was not read and is gone."""
        self._metrics.lost_bytes.at(source).inc(n_bytes)
        self._source_trouble(source, _LOST, message, logging.WARNING, "a part of the source is lost")

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
        """Return whether a pull source can be read, its lag in records (if known) and its last error (if any)."""
        return self._up.get(source, False), self._lag_records.get(source), self._last_errors.get(source)

    def source_lag(self, source: str, chunk: Chunk) -> None:
        """Set the lag of a source behind this chunk, summed over its streams, as far as it is known."""
        if chunk.lag_bytes is None and chunk.lag_records is None:
            return
        with self._lock:
            lags = self._lags.setdefault(source, {})
            lags[chunk.stream] = (chunk.lag_bytes, chunk.lag_records)
            of_bytes = [lag for lag, _ in lags.values() if lag is not None]
            of_records = [lag for _, lag in lags.values() if lag is not None]
            if not (chunk.lag_bytes or chunk.lag_records):  # caught up: it adds nothing, and files come and go
                del lags[chunk.stream]
        if of_bytes:
            self._metrics.lag_bytes.at(source).set(sum(of_bytes))
        if of_records:
            self._lag_records[source] = sum(of_records)
            self._metrics.lag_records.at(source).set(sum(of_records))

    def source_assigned(self, source: str, streams: Collection[str]) -> None:
        """Record the streams that a source now has of those it shares; other members account for the others' lag."""
        self._metrics.rebalances.at(source).inc()
        with self._lock:
            lags = self._lags.get(source, {})
            for stream in lags.keys() - set(streams):
                del lags[stream]
        self._log.event(logging.INFO, "streams assigned", source=source, streams=len(streams))

    def bodies_decoded(
        self, source: str, stream: str, bodies: Sequence[BodyResult], offsets: IntArray | None = None
    ) -> None:
        """Log what was wrong with a piece of a pull source, since there is no client to send an answer to.

        Parameters
        ----------
        offsets : position of each record in the stream, if known
        """
        for body in bodies:
            if body.unreadable is not None:
                self._log.repeated(
                    ("unreadable", source, stream),
                    logging.ERROR,
                    "a chunk of the source could not be read",
                    {"source": source, "stream": stream, "error": body.unreadable},
                )
            elif body.errors:
                first = body.errors[0]
                place = stream if offsets is None else f"{stream}/{offsets[first.row]}"
                self._log.repeated(
                    ("row_errors", source, stream),
                    logging.WARNING,
                    "some rows or values of the source could not be read",
                    {"source": source, "stream": place, "feature": first.feature, "error": first.reason},
                )

    def batch_failed(self, source: str, error: BaseException) -> None:
        """Record that a batch was lost to an unexpected error: a bug in kldrift, or no memory left."""
        self._last_errors[source] = f"{type(error).__name__}: {error}"
        self._metrics.source_errors.at(source, _BATCH).inc()
        self._log.repeated(
            ("batch_failed", source, type(error).__name__),
            logging.ERROR,
            "a batch was lost to an unexpected error",
            {"source": source, "error": f"{type(error).__name__}: {error}"},
            error,
        )

    def unknown_fields(self, monitor: str, names: Iterable[str]) -> None:
        """Log fields of rows that the monitor does not know, each once."""
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
