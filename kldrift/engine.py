"""The engine: the one owner of the counts.

Intakes put `Work` on a queue bounded in bytes (that is the back-pressure); the engine's thread adds each batch to its
monitors, says so to whoever waits for it, and at each tick swaps in a new `DriftSnapshot`. Readers see only that
snapshot. A caller with a few rows may have them counted at once (`try_apply`) while the thread has nothing to do: to
wake it and be woken again costs more than to count them.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kldrift.drift.monitor import Monitor
from kldrift.errors import Busy
from kldrift.export.telemetry import Telemetry
from kldrift.records import AddResult, DriftSnapshot, SampleBatch

Position = Mapping[str, int | str]


@dataclass(frozen=True, slots=True)
class Work:
    """Batches that are applied together, and the position of their source behind them.

    Parameters
    ----------
    source, stream, position : where the rows came from, and where to go on once they are counted
    parts : a batch for each monitor that is fed, decoded with its schema
    arrival_ms : when the rows came in
    n_bytes : what the work holds in memory
    done : called in the engine's thread once the rows are counted, with a result for each part; it must be quick
    failed : called instead where they could not be
    """

    source: str
    stream: str
    position: Position | None
    parts: Sequence[tuple[Monitor, SampleBatch]]
    arrival_ms: int
    n_bytes: int
    done: Callable[[Sequence[AddResult]], object] | None = None
    failed: Callable[[BaseException], object] | None = None


class WorkQueue:
    """A queue bounded in bytes: work, and calls to run between two works."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._items: deque[Work | Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, work: Work, stop: threading.Event | None = None, wait: bool = True) -> None:
        """Wait until there is room, then add; a work larger than the queue is taken when the queue is empty.

        Parameters
        ----------
        stop : ends the waiting
        wait : False adds a small work at once, room or not, for a caller that must not wait

        Raises
        ------
        Busy
            the queue is closed, or `stop` was set while waiting
        """
        with self._changed:
            while wait and self.n_bytes > 0 and self.n_bytes + work.n_bytes > self.max_bytes and not self._closed:
                if stop is not None and stop.is_set():
                    raise Busy("stopping")
                self._changed.wait(0.2)
            if self._closed:
                raise Busy("the daemon is stopping; send the samples again to the next one")
            self._items.append(work)
            self.n_bytes += work.n_bytes
            self._changed.notify_all()

    def call(self, function: Callable[[], None]) -> None:
        """Have `function` run in the engine's thread, behind the work that is queued."""
        with self._changed:
            self._items.append(function)
            self._changed.notify_all()

    def get(self, timeout_seconds: float) -> Work | Callable[[], None] | None:
        """The next item; None after the timeout or once closed and empty."""
        with self._changed:
            if not self._items and not self._closed:
                self._changed.wait(timeout_seconds)
            if not self._items:
                return None
            item = self._items.popleft()
            if isinstance(item, Work):
                self.n_bytes -= item.n_bytes
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Take no more; what is queued is still given out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def open_and_empty(self) -> bool:
        """Nothing waits, and more would be taken."""
        return not self._items and not self._closed

    @property
    def drained(self) -> bool:
        """Closed, and everything given out."""
        with self._changed:
            return self._closed and not self._items


class Engine:
    """The thread that owns the monitors.

    Parameters
    ----------
    monitors : in the order in which they are exported
    tick_ms : how often divergences are computed
    queue_bytes : bound of the queue
    clock_ms : the wall clock
    """

    def __init__(
        self,
        monitors: Sequence[Monitor],
        tick_ms: int,
        queue_bytes: int,
        telemetry: Telemetry,
        clock_ms: Callable[[], int],
    ) -> None:
        self.queue = WorkQueue(queue_bytes)
        self.positions: dict[str, dict[str, Position]] = {}
        self._monitors = {monitor.spec.name: monitor for monitor in monitors}
        self._tick_seconds = tick_ms / 1000
        self._telemetry = telemetry
        self._clock_ms = clock_ms
        self._snapshot = DriftSnapshot(0)
        self._owner = threading.Lock()  # held while counts are changed or read
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._rows = 0

    @property
    def snapshot(self) -> DriftSnapshot:
        """The divergences as of the last tick."""
        return self._snapshot

    @property
    def monitors(self) -> Mapping[str, Monitor]:
        """The monitors by name; swapped whole on reload."""
        return self._monitors

    @property
    def rows_counted(self) -> int:
        """Rows that went into counts since the start."""
        return self._rows

    def start(self) -> None:
        """Start the thread; the first snapshot is there at once."""
        self.evaluate()
        self._thread.start()

    def stop(self) -> None:
        """Take no more work, finish what is queued, compute the last snapshot."""
        self.queue.close()
        if self._thread.is_alive():
            self._thread.join()

    def swap(self, monitors: Sequence[Monitor], tick_ms: int) -> None:
        """Go on with other monitors, from the next item of the queue on; blocks until it is so."""
        swapped = threading.Event()

        def act() -> None:
            self._monitors = {monitor.spec.name: monitor for monitor in monitors}
            self._tick_seconds = tick_ms / 1000
            self._tick()
            swapped.set()

        self.queue.call(act)
        swapped.wait()

    def try_apply(self, work: Work) -> Sequence[AddResult] | None:
        """Count a small work in the caller's thread; None, and nothing done, where the engine is busy.

        `done` and `failed` are not called: the caller has the results, or the error.
        """
        if not self.queue.open_and_empty or not self._owner.acquire(blocking=False):
            return None
        try:
            return self._count(work)
        finally:
            self._owner.release()

    def evaluate(self) -> None:
        """Compute a snapshot; called by the thread at each tick."""
        started = time.perf_counter()
        now_ms = self._clock_ms()
        self._snapshot = DriftSnapshot(now_ms, tuple(m.evaluate(now_ms) for m in self._monitors.values()))
        self._telemetry.evaluated(time.perf_counter() - started, now_ms)

    def _run(self) -> None:
        next_tick = time.monotonic() + self._tick_seconds
        while not self.queue.drained:
            item = self.queue.get(max(0.0, next_tick - time.monotonic()))
            with self._owner:
                if isinstance(item, Work):
                    self._apply(item)
                elif item is not None:
                    item()
                if time.monotonic() >= next_tick:
                    self._tick()
                    next_tick = max(next_tick + self._tick_seconds, time.monotonic())
        with self._owner:
            self._tick()

    def _tick(self) -> None:
        """Evaluate; a defect in it must not end the thread that counts: the last snapshot stays, and its age shows."""
        try:
            self.evaluate()
        except Exception as error:  # noqa: BLE001
            self._telemetry.evaluation_failed(error)

    def _apply(self, work: Work) -> None:
        try:
            results = self._count(work)
        except Exception as error:  # noqa: BLE001  # one bad batch must not end the daemon: it is counted, logged, answered
            if not isinstance(error, Busy):
                self._telemetry.batch_failed(work.source, error)
            if work.failed is not None:
                work.failed(error)
            return
        if work.done is not None:
            work.done(results)

    def _count(self, work: Work) -> Sequence[AddResult]:
        started = time.perf_counter()
        results = [self._add(work, monitor, batch) for monitor, batch in work.parts]
        if work.position is not None:
            self.positions.setdefault(work.source, {})[work.stream] = work.position
        self._telemetry.committed(time.perf_counter() - started, self._clock_ms())
        self._telemetry.queue_changed(self.queue.n_bytes)
        return results

    def _add(self, work: Work, monitor: Monitor, batch: SampleBatch) -> AddResult:
        name = monitor.spec.name
        if self._monitors.get(name) is not monitor:  # its codes and bins may mean something else now
            raise Busy(f"monitor {name} was changed by a reload while these samples were under way; send them again")
        result = monitor.add(batch, f"{work.source}\x00{work.stream}", work.arrival_ms)
        self._rows += result.counted
        self._telemetry.rows_added(name, work.source, result, monitor.feature_names)
        if result.folded:
            self._telemetry.segments_folded(name, result.folded)
        if result.learned:
            self._telemetry.references_learned(name, result.learned)
        return result
