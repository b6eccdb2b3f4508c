"""One pull source, driven in a thread of its own."""

import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace

import numpy as np

from kldrift.drift.monitor import Monitor
from kldrift.engine.engine import Engine
from kldrift.engine.observing import UnknownFields, report
from kldrift.engine.queue import Work
from kldrift.errors import Busy, KldriftError, SourceError
from kldrift.export.telemetry import Telemetry
from kldrift.records.formats import Format
from kldrift.records.samples import BatchSchema, Chunk, Decoded, RowRange
from kldrift.records.types import IntArray
from kldrift.sources.base import Source
from kldrift.wire import decode, decode_rows, field_names

#: Waits between attempts to read a source that fails.
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)


#: Chunks decoded at a time: one more than a small machine has cores. With fewer, cores are idle whenever reading or
#: handing over holds up a thread.
DECODES = 3

Part = tuple[Monitor, Decoded]


class _End:
    """Marks the end of a source."""


END = _End()


class PullIntake:
    """One source in a thread: read, decode for every monitor it feeds, hand over; on failure, wait and retry.

    Parameters
    ----------
    source, body_format : where the bytes come from, and their format
    missing_values : texts that stand for a missing value, instead of those of the monitors
    monitors : names of the monitors it feeds
    once : stop at the first failure instead of retrying
    """

    def __init__(
        self,
        source: Source,
        body_format: Format,
        monitors: Sequence[str],
        engine: Engine,
        telemetry: Telemetry,
        once: bool = False,
        missing_values: tuple[str, ...] | None = None,
    ) -> None:
        self.name = source.name
        self.failure: KldriftError | None = None
        self._source = source
        self._format = body_format
        self._feeds = tuple(monitors)
        self._engine = engine
        self._telemetry = telemetry
        self._once = once
        self._missing = None if missing_values is None else frozenset(missing_values)
        self._schemas: dict[str, tuple[BatchSchema, BatchSchema]] = {}
        self._unknown = UnknownFields(telemetry)
        self._stop = threading.Event()
        # Positions of what was handed over: where to resume after a failure or a stop. The engine's own positions lag
        # behind by its queue and matter only at the start.
        self._handed: dict[str, Mapping[str, int | str]] = dict(engine.positions.get(source.name, {}))
        # Chunks read but not handed over when stopped: a pipe cannot be read again.
        self._left: deque[Chunk] = deque()
        # Why no row could be read, by stream and monitor; None once one was.
        self._unreadable: dict[tuple[str, str], str | None] = {}
        self._thread: threading.Thread | None = None

    def failures(self) -> list[SourceError]:
        """Return why the source was not read to its end, and of which streams (files, partitions) no row could be."""
        found = [] if self.failure is None else [str(self.failure)]
        found += [
            f"expected rows for monitor {monitor}, none could be read: {why}"
            for (_, monitor), why in self._unreadable.items()
            if why is not None
        ]
        if not found and not self._unreadable:
            found = ["expected rows, found none"]
        return [SourceError(f"source {self.name}: {why}") for why in found]

    def start(self) -> None:
        """Start reading, or resume where it was stopped."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name=f"source-{self.name}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Ask it to stop reading."""
        self._stop.set()

    def stop(self) -> None:
        """Stop reading; what has been handed over is counted."""
        self.end()
        if self._thread is not None:
            self._thread.join()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for the source to end or fail for good; returns True once it has."""
        if self._thread is None:
            return False
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            handed = dict(self._handed)
            try:
                self._take_left()
                with (
                    closing(self._source.chunks(self._handed, self._stop)) as chunks,
                    ThreadPoolExecutor(DECODES + 1, f"source-{self.name}") as pool,
                    closing(self._read_ahead(chunks, pool)) as ahead,
                ):
                    self._take(ahead, pool)
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
                # a source that has made progress since starts over
                failures = 0 if handed != dict(self._handed) else failures + 1
                self._stop.wait(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            except Exception as error:  # noqa: BLE001  # an unexpected error must not end a source silently
                self._telemetry.batch_failed(self.name, error)
                self._telemetry.source_up(self.name, up=False)
                self.failure = SourceError(f"{self.name}: {type(error).__name__}: {error}")
                if self._once:
                    return
                self._stop.wait(RETRY_SECONDS[-1])

    def _read_ahead(
        self, chunks: Iterator[Chunk | None], pool: ThreadPoolExecutor
    ) -> Generator[Chunk | None, None, None]:
        """Yield the chunks; the next one is read while those before it are decoded."""
        ahead = pool.submit(next, chunks, END)
        try:
            while not isinstance(chunk := ahead.result(), _End):
                ahead = pool.submit(next, chunks, END)
                yield chunk
        finally:
            with suppress(Exception):  # raised already, or raised again when the source is read again
                if isinstance(left := ahead.result(), Chunk):
                    self._left.append(left)

    def _take_left(self) -> None:
        while self._left:
            self._hand_over(self._left[0], self._decode(self._left[0]))
            self._left.popleft()

    def _take(self, chunks: Iterator[Chunk | None], pool: ThreadPoolExecutor) -> None:
        """Decode chunks, `DECODES` at a time, and hand them over in order."""
        decoding: deque[Future[list[Part]]] = deque()

        def hand_over(keep: int) -> None:
            while len(decoding) > keep:
                self._hand_over(self._left[0], decoding.popleft().result())
                self._left.popleft()

        try:
            for chunk in chunks:
                if chunk is not None:
                    self._left.append(chunk)
                    decoding.append(pool.submit(self._decode, chunk))
                hand_over(keep=0 if chunk is None else DECODES - 1)
                self._telemetry.source_up(self.name, up=True)
        except SourceError:
            hand_over(keep=0)  # what came before the failure
            raise
        hand_over(keep=0)

    def _decode(self, chunk: Chunk) -> list[Part]:
        """Decode a chunk for each monitor that it feeds; nothing where only the position moves."""
        if chunk.payload == b"":
            return []
        monitors = self._engine.monitors
        fed = [monitors[name] for name in self._feeds if name in monitors]
        if isinstance(chunk.payload, RowRange):
            rows = chunk.payload
            return [(monitor, decode_rows(self._format, rows, self._schema(monitor))) for monitor in fed]
        return [(monitor, self._decode_bytes(chunk, chunk.payload, monitor)) for monitor in fed]

    def _decode_bytes(self, chunk: Chunk, payload: bytes, monitor: Monitor) -> Decoded:
        header, times_ms = chunk.header, chunk.times_ms
        if times_ms is None:
            return decode(self._format, [payload], self._schema(monitor), header=header, bins=monitor.bins)
        return _timed(decode(self._format, [payload], self._schema(monitor), header=header), times_ms)

    def _schema(self, monitor: Monitor) -> BatchSchema:
        """Return the schema of a monitor with the missing values of the source; one object each, for its plan."""
        schema = monitor.schema
        if self._missing is None:
            return schema
        own, made = self._schemas.get(monitor.spec.name, (None, schema))
        if own is not schema:
            made = replace(schema, missing_values=self._missing)
            self._schemas[monitor.spec.name] = schema, made
        return made

    def _hand_over(self, chunk: Chunk, parts: list[Part]) -> None:
        size = len(chunk.payload) if isinstance(chunk.payload, bytes) else 0
        self._engine.queue.put(
            Work(
                source=self.name,
                stream=chunk.stream,
                position=chunk.position,
                parts=[(monitor, decoded.batch) for monitor, decoded in parts],
                arrival_ms=chunk.arrival_ms,
                n_bytes=size + sum(decoded.batch.n_bytes for _, decoded in parts),
            ),
            self._stop,
        )
        self._handed[chunk.stream] = chunk.position
        # Reported only now: a chunk that a stop held back is handed over and reported later.
        path = str(chunk.position.get("path", chunk.stream))
        for i, (monitor, decoded) in enumerate(parts):
            if i == 0:  # rows are counted once, however many monitors they feed
                report(self._telemetry, self.name, decoded.bodies, [other.bodies for _, other in parts[1:]])
            self._telemetry.bodies_decoded(self.name, path, decoded.bodies, chunk.offsets)
            self._note(chunk.stream, path, monitor, decoded)
            if self._unknown.due(monitor.spec.name):
                self._unknown.tell(monitor, field_names(self._format, chunk.payload, chunk.header))
        self._telemetry.source_lag(self.name, chunk)

    def _note(self, stream: str, path: str, monitor: Monitor, decoded: Decoded) -> None:
        """Take note whether a row of the stream could be read, and of the first reason while none could."""
        key = stream, monitor.spec.name
        if decoded.batch.n_rows:
            self._unreadable[key] = None
        elif key not in self._unreadable:
            told = [
                body.unreadable or body.errors[0].reason for body in decoded.bodies if body.unreadable or body.errors
            ]
            if told:
                self._unreadable[key] = f"{path}: {told[0]}"


def _timed(decoded: Decoded, times_ms: IntArray) -> Decoded:
    """Give rows without a time of their own the time of their record."""
    if decoded.batch.event_ms is not None:
        return decoded
    (body,) = decoded.bodies
    times = times_ms[: body.accepted] if body.rows is None else times_ms[body.rows]
    return replace(decoded, batch=replace(decoded.batch, event_ms=np.ascontiguousarray(times)))
