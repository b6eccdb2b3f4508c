"""Bodies pushed over HTTP."""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from kldrift.engine.engine import CANNOT_STORE, Engine
from kldrift.engine.idempotency import Keys
from kldrift.engine.observing import UnknownFields, report
from kldrift.engine.queue import Work
from kldrift.errors import Busy, Uncommitted
from kldrift.export.telemetry import Telemetry
from kldrift.records.formats import Format
from kldrift.records.samples import Decoded, Receipt, RowError
from kldrift.records.snapshots import AddResult
from kldrift.records.sources import PUSH
from kldrift.records.types import IntArray
from kldrift.state.base import KeyedAnswer, NoStore
from kldrift.wire import decode, field_names

#: Bodies are gathered into one decode up to this size, at which its fixed cost is negligible. With an eighth of it, the
#: rate of posts of 200 rows fell by a third, and Arrow gained nothing.
GATHER_BYTES = 4 << 20

#: Bytes decoded within a turn of the event loop: some 50 one-row posts, a millisecond.
INLINE_BYTES = 64_000

#: Larger bodies have a line of their own, so that the others do not wait until they are decoded.
LARGE_BYTES = 256_000

#: Maximum number of errors listed in an answer.
MAX_ERRORS = 10

FROM_THE_FUTURE = "future: expected a time up to now (and the allowed lateness); is a clock or the unit wrong?"

Target = tuple[str, Format]


@dataclass(slots=True)
class _Waiting:
    body: bytes
    answer: "asyncio.Future[Receipt]"
    key: tuple[str, bytes] | None = None


class _Line:
    """Bodies that wait to be decoded, by target, and the thread that decodes them.

    Parameters
    ----------
    take : decodes and counts bodies of one target, of some bytes together
    """

    def __init__(self, name: str, take: Callable[[Target, list[_Waiting], int], None]) -> None:
        self._take = take
        self._waiting: OrderedDict[Target, list[_Waiting]] = OrderedDict()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._decoding = 0  # bodies
        #: Bytes that wait or are being decoded.
        self.n_bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits; something may be being decoded."""
        return not self._waiting

    def start(self) -> None:
        """Start decoding."""
        self._thread.start()

    def end(self) -> None:
        """Decode what waits, except for those who have been told that it is not counted, and end."""
        with self._changed:
            self._stopped = True
            for target, waiting in list(self._waiting.items()):
                self._waiting[target] = [item for item in waiting if not item.answer.cancelled()]
                if not self._waiting[target]:
                    del self._waiting[target]
            self._changed.notify()

    def join(self, until: float | None) -> int:
        """Wait until it has ended, at most until this time (monotonic); returns how many bodies are dropped then."""
        if self._thread.is_alive():
            self._thread.join(None if until is None else max(0.0, until - time.monotonic()))
        with self._changed:
            dropped = sum(map(len, self._waiting.values())) + self._decoding
            self._waiting.clear()
        return dropped

    def put(self, target: Target, waiting: list[_Waiting], size: int) -> None:
        """Add bodies at the end of the line."""
        with self._changed:
            self._waiting.setdefault(target, []).extend(waiting)
            self.n_bytes += size
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._stopped:
                    self._changed.wait()
                if not self._waiting:
                    return
                target, waiting = self._waiting.popitem(last=False)
                taken, size = 1, len(waiting[0].body)
                while taken < len(waiting) and size < GATHER_BYTES:
                    size += len(waiting[taken].body)
                    taken += 1
                if taken < len(waiting):  # the rest goes to the back of the line
                    self._waiting[target] = waiting[taken:]
                    del waiting[taken:]
                self._decoding = len(waiting)
            self._take(target, waiting, size)
            with self._changed:
                self._decoding = 0
                self.n_bytes -= size


class PushIntake:
    """Bodies pushed over HTTP; implements the web layer's ingest port.

    Bodies that arrive in one turn of the event loop are gathered. A few rows are decoded and counted right there; more
    go to a thread, which gathers what arrives while it is busy, and large bodies to another.

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
        self._unknown = UnknownFields(telemetry)
        self._keys = Keys(engine.store)
        self._turn: dict[Target, list[_Waiting]] = {}
        self._turn_bytes = 0
        self._small = _Line("push-intake", self._take_from_line)
        self._large = _Line("push-intake-large", self._take_from_line)
        self._stopped = False

    def start(self) -> None:
        """Start the decoding threads."""
        self._small.start()
        self._large.start()

    def stop(self, until: float | None = None) -> int:
        """Accept no more, and decode what is waiting; returns the number of bodies that are dropped.

        Parameters
        ----------
        until : when to drop what is left (monotonic); a thread that is still decoding then is left to itself
        """
        self._stopped = True
        for line in (self._small, self._large):
            line.end()
        return sum(line.join(until) for line in (self._small, self._large))

    def monitors(self) -> Collection[str]:
        """Names of the monitors that samples can be sent to."""
        return self._engine.monitors.keys()

    @property
    def honours_keys(self) -> bool:
        """Whether idempotency keys are remembered."""
        return not isinstance(self._engine.store, NoStore)

    def submit(
        self,
        monitor: str,
        format: Format,  # noqa: A002
        body: bytes,
        key: str | None = None,
    ) -> "asyncio.Future[Receipt]":
        """Queue a body; the future resolves once its samples are counted and stored. Call it in the event loop.

        Raises
        ------
        Busy
            too many bytes of posts are already waiting
        KeyConflict
            the idempotency key is in use, or was used with another body
        StateError
            the key could not be looked up in the state
        """
        # What sources have queued does not count: they fill the queue whenever they are behind, and posts wait in line
        # with them.
        pending = self._turn_bytes + self._small.n_bytes + self._large.n_bytes + self._engine.queue.answerable_bytes
        if self._stopped:
            raise Busy("the daemon is stopping; send the samples again once it is back")
        if self._engine.cannot_store:
            raise Busy(CANNOT_STORE, retry_after_seconds=5)
        if pending > 0 and pending + len(body) > self._engine.queue.max_bytes:
            raise Busy(f"expected room in the queue, {pending} bytes are waiting; send the samples again later")
        answer: asyncio.Future[Receipt] = self._loop.create_future()
        kept = None
        if key is not None and self.honours_keys:
            begun = self._keys.begin(monitor, key, format, body)
            if isinstance(begun, Receipt):
                answer.set_result(begun)
                return answer
            kept = begun
        if not self._turn:
            self._loop.call_soon(self._end_turn)
        self._turn.setdefault((monitor, format), []).append(_Waiting(body, answer, kept))
        self._turn_bytes += len(body)
        return answer

    def _end_turn(self) -> None:
        turn, self._turn, self._turn_bytes = self._turn, {}, 0
        for target, waiting in turn.items():
            small = [item for item in waiting if len(item.body) <= LARGE_BYTES]
            size = sum(len(item.body) for item in small)
            if len(small) < len(waiting):
                large = [item for item in waiting if len(item.body) > LARGE_BYTES]
                self._large.put(target, large, sum(len(item.body) for item in large))
            if not small:
                continue
            if size <= INLINE_BYTES and self._small.is_empty and not self._engine.queue.awaited:
                self._take(target, small, size, here=True)
            else:
                self._small.put(target, small, size)

    def _take_from_line(self, target: Target, waiting: list[_Waiting], size: int) -> None:
        self._take(target, waiting, size, here=False)

    def _take(self, target: Target, waiting: list[_Waiting], size: int, here: bool) -> None:
        """Decode bodies and count them, `here` if the engine is idle; every body is answered, whatever happens."""
        name, body_format = target
        try:
            monitor = self._engine.monitors.get(name)
            if monitor is None:
                raise Busy(f"monitor {name} was removed by a reload")
            bodies = [item.body for item in waiting]
            decoded = decode(body_format, bodies, monitor.schema, bins=monitor.bins)
            report(self._telemetry, PUSH, decoded.bodies)
            if self._unknown.due(name):
                self._unknown.tell(monitor, field_names(body_format, waiting[0].body))
            work = Work(
                source=PUSH,
                stream="",
                position=None,
                parts=[(monitor, decoded.batch)] if decoded.batch.n_rows else [],
                arrival_ms=self._clock_ms(),
                n_bytes=decoded.batch.n_bytes + size,
                answers=lambda results: self._keyed(waiting, decoded, results),
                done=lambda results: self._loop.call_soon_threadsafe(self._answer, waiting, decoded, results),
                failed=lambda error: self._fail(waiting, error),
            )
            results = self._engine.try_apply(work) if here else None
            if results is None:
                self._engine.queue.put(work, wait=not here)
            else:
                self._answer(waiting, decoded, results)
        except Exception as error:  # noqa: BLE001  # a body must not end the intake: log, count and answer it
            if not isinstance(error, Busy):
                self._telemetry.batch_failed(PUSH, error)
            self._fail(waiting, error)

    def _keyed(self, waiting: list[_Waiting], decoded: Decoded, results: Sequence[AddResult]) -> Sequence[KeyedAnswer]:
        if all(item.key is None for item in waiting):
            return ()
        keys = [item.key for item in waiting]
        return self._keys.answers(zip(keys, _receipts(decoded, results), strict=True))

    def _answer(self, waiting: list[_Waiting], decoded: Decoded, results: Sequence[AddResult]) -> None:
        self._end_keys(waiting)
        for item, receipt in zip(waiting, _receipts(decoded, results), strict=True):
            if not item.answer.done():  # the client may have disconnected
                item.answer.set_result(receipt)

    def _fail(self, waiting: Iterable[_Waiting], error: BaseException) -> None:
        shown = error if isinstance(error, Busy) else Busy("the samples could not be counted; the log has the reason")

        def resolve() -> None:
            if not isinstance(error, Uncommitted):  # otherwise they are counted, and their keys are used
                self._end_keys(waiting)
            for item in waiting:
                if not item.answer.done():
                    item.answer.set_exception(shown)

        with suppress(RuntimeError):  # the loop is closed: it took longer than stopping may, and nobody waits any more
            self._loop.call_soon_threadsafe(resolve)

    def _end_keys(self, waiting: Iterable[_Waiting]) -> None:
        self._keys.end(item.key[0] for item in waiting if item.key is not None)


def _receipts(decoded: Decoded, results: Sequence[AddResult]) -> list[Receipt]:
    """Return the receipt of each body: its own counted, late and rejected rows."""
    receipts = []
    first = 0
    result = results[0] if results else None  # no result if no row could be decoded
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
            from_the_future = [RowError(row, None, FROM_THE_FUTURE) for row in numbers[:MAX_ERRORS].tolist()]
            errors = tuple(sorted((*errors, *from_the_future), key=lambda error: error.row))[:MAX_ERRORS]
        counted = body.accepted - late - n_future
        receipts.append(Receipt(counted, rejected + n_future, late, errors, body.unreadable))
        first += body.accepted
    return receipts


def _within(rows: IntArray, bounds: slice) -> IntArray:
    low, high = np.searchsorted(rows, (bounds.start, bounds.stop))
    return rows[low:high]
