"""Intakes: from bytes to work for the engine.

`PushIntake` takes bodies from HTTP and gathers those that wait for the same monitor into one decode, because a bulk
decode costs about the same for one row as for a thousand. `PullIntake` drives one source in a thread of its own.
"""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from kldrift.drift.monitor import Monitor
from kldrift.engine import Engine, Work
from kldrift.errors import Busy, KldriftError, SourceError
from kldrift.export.telemetry import Telemetry
from kldrift.records import (
    AddResult,
    BodyResult,
    Chunk,
    Decoded,
    Format,
    IntArray,
    Receipt,
    RowError,
    RowRange,
    SampleBatch,
)
from kldrift.sources.base import Source
from kldrift.wire import decode, decode_rows, field_names, file_field_names

HTTP = "http"

#: Bodies are gathered into one decode up to so many bytes; larger gathers only cost latency and memory.
GATHER_BYTES = 8 << 20

#: Waits between two tries of a source that fails.
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)


#: How often a row is looked at for fields that nobody watches.
UNKNOWN_FIELDS_SECONDS = 60.0

#: So many bytes of one turn of the event loop are decoded in it: some 50 one-row posts, a millisecond.
INLINE_BYTES = 64_000

#: Errors that an answer lists.
MAX_ERRORS = 10

FROM_THE_FUTURE = "future: expected a time up to now (and the allowed lateness); is a clock or the unit wrong?"

Target = tuple[str, Format]


@dataclass(slots=True)
class _Waiting:
    body: bytes
    answer: "asyncio.Future[Receipt]"


class PushIntake:
    """Bodies pushed over HTTP; implements the web layer's ingest port.

    What comes in one turn of the event loop is gathered. A few rows are decoded and counted right there; more go to a
    thread, which gathers what came while it was busy.

    Parameters
    ----------
    engine : takes the decoded batches
    loop : the event loop that `submit` is called in
    """

    def __init__(
        self,
        engine: Engine,
        telemetry: Telemetry,
        loop: asyncio.AbstractEventLoop,
        clock_ms: Callable[[], int],
    ) -> None:
        self._engine = engine
        self._telemetry = telemetry
        self._loop = loop
        self._clock_ms = clock_ms
        self._unknown = _UnknownFields(telemetry)
        self._turn: dict[Target, list[_Waiting]] = {}
        self._turn_bytes = 0
        self._waiting: OrderedDict[Target, list[_Waiting]] = OrderedDict()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="push-intake", daemon=True)

    def start(self) -> None:
        """Start the decoding thread."""
        self._thread.start()

    def stop(self) -> None:
        """Decode what waits, take no more."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def monitors(self) -> Collection[str]:
        """Names of the monitors that samples can be sent to."""
        return self._engine.monitors.keys()

    def submit(self, monitor: str, format: Format, body: bytes) -> "asyncio.Future[Receipt]":  # noqa: A002
        """Queue a body; the future resolves once its samples are counted. Call it in the event loop.

        Raises
        ------
        Busy
            too many bytes are waiting already
        """
        pending = self._turn_bytes + self._waiting_bytes + self._engine.queue.n_bytes
        if self._stopped:
            raise Busy("the daemon is stopping; send the samples again")
        if pending > 0 and pending + len(body) > self._engine.queue.max_bytes:
            raise Busy(f"expected room in the queue, {pending} bytes are waiting; send the samples again later")
        if not self._turn:
            self._loop.call_soon(self._end_turn)
        answer: asyncio.Future[Receipt] = self._loop.create_future()
        self._turn.setdefault((monitor, format), []).append(_Waiting(body, answer))
        self._turn_bytes += len(body)
        return answer

    def _end_turn(self) -> None:
        turn, self._turn, self._turn_bytes = self._turn, {}, 0
        for target, waiting in turn.items():
            size = sum(len(item.body) for item in waiting)
            if size <= INLINE_BYTES and not self._waiting:
                self._take(target, waiting, size, here=True)
                continue
            with self._changed:
                self._waiting.setdefault(target, []).extend(waiting)
                self._waiting_bytes += size
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._stopped:
                    self._changed.wait()
                if not self._waiting:
                    return
                target, waiting = self._waiting.popitem(last=False)
                taken, size = 0, 0
                while taken < len(waiting) and (taken == 0 or size + len(waiting[taken].body) <= GATHER_BYTES):
                    size += len(waiting[taken].body)
                    taken += 1
                if taken < len(waiting):  # the rest goes to the back of the line
                    self._waiting[target] = waiting[taken:]
                    del waiting[taken:]
                self._waiting_bytes -= size
            self._take(target, waiting, size, here=False)

    def _take(self, target: Target, waiting: list[_Waiting], size: int, here: bool) -> None:
        """Decode bodies and have them counted, `here` if the engine is idle; whatever happens, each is answered."""
        name, body_format = target
        try:
            monitor = self._engine.monitors.get(name)
            if monitor is None:
                raise Busy(f"monitor {name} went away with a reload")
            decoded = decode(body_format, [item.body for item in waiting], monitor.schema)
            _report(self._telemetry, HTTP, decoded.bodies)
            if self._unknown.due(name):
                self._unknown.tell(monitor, field_names(body_format, waiting[0].body))
            work = Work(
                source=HTTP,
                stream="",
                position=None,
                parts=[(monitor, decoded.batch)] if decoded.batch.n_rows else [],
                arrival_ms=self._clock_ms(),
                n_bytes=decoded.batch.n_bytes + size,
                done=lambda results: self._loop.call_soon_threadsafe(self._answer, waiting, decoded, results),
                failed=lambda error: self._fail(waiting, error),
            )
            results = self._engine.try_apply(work) if here else None
            if results is None:
                self._engine.queue.put(work, wait=not here)
            else:
                self._answer(waiting, decoded, results)
        except Exception as error:  # noqa: BLE001  # a body must not end the intake: it is logged, counted, answered
            if not isinstance(error, Busy):
                self._telemetry.batch_failed(HTTP, error)
            self._fail(waiting, error)

    @staticmethod
    def _answer(waiting: list[_Waiting], decoded: Decoded, results: Sequence[AddResult]) -> None:
        for item, receipt in zip(waiting, _receipts(decoded, results), strict=True):
            if not item.answer.done():  # the client may have gone
                item.answer.set_result(receipt)

    def _fail(self, waiting: Iterable[_Waiting], error: BaseException) -> None:
        shown = error if isinstance(error, Busy) else Busy("the samples could not be counted; the log says why")

        def resolve() -> None:
            for item in waiting:
                if not item.answer.done():
                    item.answer.set_exception(shown)

        self._loop.call_soon_threadsafe(resolve)


def _receipts(decoded: Decoded, results: Sequence[AddResult]) -> list[Receipt]:
    """What each body is answered: its own rows among those counted, late, and rejected."""
    receipts = []
    first = 0
    result = results[0] if results else None  # no result: no row could be decoded
    for body in decoded.bodies:
        rejected = sum(body.rejected.values())
        errors = body.errors
        late = n_future = 0
        if result is not None and (result.late.size or result.future.size):
            own = slice(first, first + body.accepted)
            late = _within(result.late, own).size
            future = _within(result.future, own) - first
            n_future = future.size
            numbers = future if body.rows is None else body.rows[future]
            told = [RowError(row, None, FROM_THE_FUTURE) for row in numbers[:MAX_ERRORS].tolist()]
            errors = tuple(sorted((*errors, *told), key=lambda error: error.row))[:MAX_ERRORS]
        counted = body.accepted - late - n_future
        receipts.append(Receipt(counted, rejected + n_future, late, errors, body.unreadable))
        first += body.accepted
    return receipts


def _within(rows: IntArray, bounds: slice) -> IntArray:
    low, high = np.searchsorted(rows, (bounds.start, bounds.stop))
    return rows[low:high]


def _report(telemetry: Telemetry, source: str, bodies: Sequence[BodyResult]) -> None:
    rejected: dict[str, int] = {}
    for body in bodies:
        for reason, count in body.rejected.items():
            rejected[reason] = rejected.get(reason, 0) + count
        if body.unreadable is not None and not body.rejected:
            rejected["unreadable"] = rejected.get("unreadable", 0) + 1
    telemetry.batch_decoded(source, sum(body.accepted for body in bodies), rejected)


class PullIntake:
    """One source in a thread: read, decode for every monitor it feeds, hand over; on failure wait and go on.

    Parameters
    ----------
    source, body_format : where the bytes come from and what they are
    monitors : names of the monitors it feeds
    once : end at the first failure instead of trying again
    """

    def __init__(
        self,
        source: Source,
        body_format: Format,
        monitors: Sequence[str],
        engine: Engine,
        telemetry: Telemetry,
        once: bool = False,
    ) -> None:
        self.name = source.name
        self.failure: KldriftError | None = None
        self._source = source
        self._format = body_format
        self._feeds = tuple(monitors)
        self._engine = engine
        self._telemetry = telemetry
        self._once = once
        self._unknown = _UnknownFields(telemetry)
        self._stop = threading.Event()
        # Positions of what was handed over: where to go on after a failure or a stop. The engine's own are behind by
        # its queue, and count at the beginning only.
        self._handed: dict[str, Mapping[str, int | str]] = dict(engine.positions.get(source.name, {}))
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start reading, or go on where it was stopped."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name=f"source-{self.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop reading; what was handed over is counted."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for the end of the source, or its failure for good; True when it is reached."""
        if self._thread is None:
            return False
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                with closing(self._source.chunks(self._handed, self._stop)) as chunks:
                    for chunk in chunks:
                        if chunk is not None:
                            self._take(chunk)
                            failures = 0
                        self._telemetry.source_up(self.name, up=True)
                if not self._stop.is_set():
                    self._telemetry.source_ended(self.name)
                return
            except Busy:  # stopping
                return
            except KldriftError as error:
                reason = error.reason if isinstance(error, SourceError) else "read"
                self._telemetry.source_failed(self.name, reason, str(error))
                self._telemetry.source_up(self.name, up=False)
                if self._once:
                    self.failure = error
                    return
                self._stop.wait(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1
            except Exception as error:  # noqa: BLE001  # an unforeseen error of one source must not end it silently
                self._telemetry.batch_failed(self.name, error)
                self._telemetry.source_up(self.name, up=False)
                self.failure = SourceError(f"{self.name}: {type(error).__name__}: {error}")
                if self._once:
                    return
                self._stop.wait(RETRY_SECONDS[-1])

    def _take(self, chunk: Chunk) -> None:
        monitors = self._engine.monitors
        parts: list[tuple[Monitor, SampleBatch]] = []
        for i, name in enumerate(name for name in self._feeds if name in monitors):
            decoded = self._decode(chunk, monitors[name])
            if i == 0:  # rows are counted once, however many monitors they feed
                _report(self._telemetry, self.name, decoded.bodies)
            self._telemetry.bodies_decoded(self.name, str(chunk.position.get("path", chunk.stream)), decoded.bodies)
            if self._unknown.due(name):
                self._unknown.tell(monitors[name], self._fields(chunk))
            parts.append((monitors[name], decoded.batch))
        size = len(chunk.payload) if isinstance(chunk.payload, bytes) else 0
        self._engine.queue.put(
            Work(
                source=self.name,
                stream=chunk.stream,
                position=chunk.position,
                parts=parts,
                arrival_ms=chunk.arrival_ms,
                n_bytes=size + sum(batch.n_bytes for _, batch in parts),
            ),
            self._stop,
        )
        self._handed[chunk.stream] = chunk.position
        self._telemetry.source_lag(self.name, chunk)

    def _fields(self, chunk: Chunk) -> frozenset[str]:
        if isinstance(chunk.payload, RowRange):
            return file_field_names(chunk.payload.path)
        return field_names(self._format, chunk.payload, chunk.header)

    def _decode(self, chunk: Chunk, monitor: Monitor) -> Decoded:
        if isinstance(chunk.payload, RowRange):
            rows = chunk.payload
            return decode_rows(rows.path, rows.start, rows.stop, monitor.schema)
        return decode(self._format, [chunk.payload], monitor.schema, header=chunk.header)


class _UnknownFields:
    """Tells which fields of the rows nobody watches: looks at one row a monitor and minute, not at every one."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._next: dict[str, float] = {}

    def due(self, monitor: str) -> bool:
        """Whether it is time to look at a row for this monitor."""
        now = time.monotonic()
        if now < self._next.get(monitor, 0.0):
            return False
        self._next[monitor] = now + UNKNOWN_FIELDS_SECONDS
        return True

    def tell(self, monitor: Monitor, fields: frozenset[str]) -> None:
        """Log the fields that are neither features nor the timestamp."""
        known = {feature.name for feature in monitor.schema.features}
        if monitor.schema.timestamp is not None:
            known.add(monitor.schema.timestamp.field)
        if unknown := fields - known:
            self._telemetry.unknown_fields(monitor.spec.name, sorted(unknown))


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000
