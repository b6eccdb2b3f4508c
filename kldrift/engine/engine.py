"""The engine: the one owner of the counts.

Intakes put `Work` on a queue bounded in bytes. The engine's thread adds each batch to its monitors, has it stored,
notifies whoever waits for it, and swaps in a new `DriftSnapshot` at each tick. Readers see only that snapshot. If
nothing is stored, a caller with a few rows may count them itself (`try_apply`) while the thread is idle: waking it and
being woken again costs more than counting them.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

from kldrift.drift.monitor import Monitor
from kldrift.engine.commits import Commits
from kldrift.engine.queue import Work, WorkQueue
from kldrift.errors import Busy, KldriftError, StateError
from kldrift.export.telemetry import Telemetry
from kldrift.records.samples import SampleBatch
from kldrift.records.snapshots import AddResult, DriftSnapshot
from kldrift.state.base import NoStore, Position, Store

CANNOT_STORE = "State cannot be written, so no samples are accepted. Retry later."

#: How long the last commit is attempted when stopping.
LAST_COMMIT_SECONDS = 4.0


class Engine:
    """The thread that owns the monitors.

    Parameters
    ----------
    monitors : in the order in which they are exported
    tick_ms : how often divergences are computed
    queue_bytes : maximum size of the queue
    clock_ms : the time
    store : keeps counts, positions and answers across restarts; the monitors' counts are restored from it here
    commit_ms : how often to store what nobody waits for
    on_evaluated : called with each new snapshot
    ahead_ms : how far rows with times of their own may be ahead of the clock

    Raises
    ------
    StateError
        the state cannot be read
    """

    def __init__(
        self,
        monitors: Sequence[Monitor],
        tick_ms: int,
        queue_bytes: int,
        telemetry: Telemetry,
        clock_ms: Callable[[], int],
        store: Store | None = None,
        commit_ms: int = 1000,
        on_evaluated: Callable[[DriftSnapshot], None] = lambda _: None,
        ahead_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        self.store = store or NoStore()
        self.queue = WorkQueue(queue_bytes)
        self.positions: dict[str, dict[str, Position]] = {
            source: dict(streams) for source, streams in self.store.positions().items()
        }
        self._commits = Commits(self.store, commit_ms / 1000, telemetry, clock_ms)
        self._monitors = {monitor.spec.name: monitor for monitor in monitors}
        self._tick_seconds = tick_ms / 1000
        self._telemetry = telemetry
        self._clock_ms = clock_ms
        self._on_evaluated = on_evaluated
        self._ahead_ms = ahead_ms
        self._snapshot = DriftSnapshot(0)
        self._owner = threading.Lock()  # held while counts are changed or read
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        #: Monitors for which something was stored.
        self.restored: set[str] = set()
        self._rows = 0
        self._turned = time.monotonic()
        self._restore(monitors)

    @property
    def snapshot(self) -> DriftSnapshot:
        """The divergences as of the last tick."""
        return self._snapshot

    @property
    def monitors(self) -> Mapping[str, Monitor]:
        """The monitors by name; swapped whole on reload."""
        return self._monitors

    @property
    def cannot_store(self) -> str:
        """Why the last commit failed, so that no more samples should be accepted; empty if it did not."""
        return self._commits.problem

    def stored_positions(self, source: str) -> Mapping[str, Position]:
        """Return a copy of the positions of a source's streams up to which all counts are stored."""
        return dict(self._commits.stored_positions.get(source, {}))

    @property
    def seconds_in_turn(self) -> float:
        """How long the thread has been at its current step: a tick at most, unless it hangs."""
        return time.monotonic() - self._turned

    @property
    def rows_counted(self) -> int:
        """Rows counted since the start."""
        return self._rows

    def start(self) -> None:
        """Start the thread; the first snapshot is available at once."""
        self.evaluate()
        self._turned = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Accept no more work, finish the queue and compute the last snapshot."""
        self.queue.close()
        if self._thread.is_alive():
            self._thread.join()

    def _restore(self, monitors: Sequence[Monitor]) -> None:
        """Restore what is stored for the monitors."""
        for monitor in monitors:
            name = monitor.spec.name
            entries = self.store.entries(name)
            if not entries:
                continue
            self.restored.add(name)
            try:
                began = None if monitor.restore(entries) else monitor.take_over(entries, self._clock_ms())
            except (KldriftError, ValueError, KeyError) as error:
                raise StateError(
                    f"expected the state of monitor {name} as stored, got {type(error).__name__}: {error};"
                    " set state.path to another file, or restore a backup"
                ) from None
            if began is None:
                self._telemetry.monitor_restored(name)
            else:
                self._telemetry.monitor_changed(name, began)

    def swap(self, monitors: Sequence[Monitor], tick_ms: int) -> None:
        """Switch to other monitors from the next item in the queue on; returns once that is done."""

        def act() -> None:
            for monitor in monitors:
                self._take_over(monitor)
            self._commits.forget(self._monitors.keys() - {monitor.spec.name for monitor in monitors})
            self._monitors = {monitor.spec.name: monitor for monitor in monitors}
            self._tick_seconds = tick_ms / 1000
            self._tick()

        self._in_its_thread(act)

    def rename_sources(self, names: Mapping[str, str]) -> None:
        """Give sources their new names, by the old ones; what they read before goes on to be counted once."""

        def act() -> None:
            for old, new in names.items():
                self.positions[new] = self.positions.pop(old)
                self._commits.rename_source(old, new)
                self._telemetry.source_renamed(old, new)

        self._in_its_thread(act)

    def _in_its_thread(self, act: Callable[[], None]) -> None:
        """Do something between two items of the queue; returns once that is done."""
        done: Future[None] = Future()

        def run() -> None:
            try:
                act()
            except Exception as error:  # noqa: BLE001  # raised in the caller; it must not end the counting thread
                done.set_exception(error)
            else:
                done.set_result(None)

        self.queue.call(run)
        done.result()

    def _take_over(self, monitor: Monitor) -> None:
        """Let a new monitor continue with the counts of the one it replaces, where they mean the same."""
        old = self._monitors.get(monitor.spec.name)
        if old is None or old is monitor:
            return
        if monitor.counts_alike(old):
            monitor.go_on_from(old)
        else:
            began = monitor.take_over(old.everything(), self._clock_ms())
            self._telemetry.monitor_changed(monitor.spec.name, began)

    def try_apply(self, work: Work) -> Sequence[AddResult] | None:
        """Count a small piece of work in the caller's thread; None, with nothing done, if the engine is busy.

        `done` and `failed` are not called: the caller gets the results, or the error.
        """
        if self._commits.keeps or not self.queue.open_and_empty or not self._owner.acquire(blocking=False):
            return None
        try:
            return self._count(work)
        finally:
            self._owner.release()

    def evaluate(self) -> None:
        """Compute a snapshot; the thread calls this at each tick."""
        started = time.perf_counter()
        now_ms = self._clock_ms()
        self._snapshot = DriftSnapshot(now_ms, tuple(m.evaluate(now_ms) for m in self._monitors.values()))
        self._telemetry.evaluated(time.perf_counter() - started, now_ms)
        self._on_evaluated(self._snapshot)

    def _run(self) -> None:
        next_tick = time.monotonic() + self._tick_seconds
        gives_up = float("inf")
        while not self.queue.drained and time.monotonic() < gives_up:
            self._turned = time.monotonic()
            next_tick = min(next_tick, self._turned + self._tick_seconds)  # a reload may have made it shorter
            more = self.queue.n_items > 0
            wait = max(0.0, min(next_tick - time.monotonic(), self._commits.due_in(more)))
            if self._commits.failing:  # counting more would only add to what cannot be stored
                for work in self.queue.take_answerable():
                    assert work.failed is not None
                    work.failed(Busy(CANNOT_STORE, retry_after_seconds=5))
                self.queue.wait_for_close(min(wait, 0.5))
                item = None
                if self.queue.closed and gives_up == float("inf"):
                    gives_up = time.monotonic() + LAST_COMMIT_SECONDS
            else:
                item = self.queue.get(wait)
            with self._owner:
                if isinstance(item, Work):
                    self._apply(item)
                elif item is not None:
                    item()
                if self._commits.due_in(self.queue.n_items > 0) <= 0:
                    self._commits.commit(self._monitors)
                if time.monotonic() >= next_tick:
                    self._tick()
                    next_tick = max(next_tick + self._tick_seconds, time.monotonic())
        with self._owner:
            self._commits.commit(self._monitors)
            self._tick()
        self._refuse_rest()

    def _refuse_rest(self) -> None:
        """Refuse what is still queued, if the state cannot be written when stopping."""
        while (item := self.queue.get(0)) is not None:
            if not isinstance(item, Work):
                item()
            elif item.failed is not None:
                item.failed(Busy("the daemon is stopping; send the samples again once it is back"))

    def _tick(self) -> None:
        """Evaluate. A defect must not end the counting thread: the last snapshot stays, and its age shows."""
        try:
            self.evaluate()
        except Exception as error:  # noqa: BLE001
            self._telemetry.evaluation_failed(error)

    def _apply(self, work: Work) -> None:
        try:
            results = self._count(work)
        except Exception as error:  # noqa: BLE001  # one bad batch must not end the daemon: count, log and answer it
            if not isinstance(error, Busy):
                self._telemetry.batch_failed(work.source, error)
            if work.failed is not None:
                work.failed(error)
            return
        self._commits.counted(work, results)

    def _count(self, work: Work) -> Sequence[AddResult]:
        started = time.perf_counter()
        results = [self._add(work, monitor, batch) for monitor, batch in work.parts]
        if work.position is not None:
            self.positions.setdefault(work.source, {})[work.stream] = work.position
        if not self._commits.keeps:  # then work is done once it is counted
            self._telemetry.committed(time.perf_counter() - started, self._clock_ms())
        self._telemetry.queue_changed(self.queue.n_bytes)
        return results

    def _add(self, work: Work, monitor: Monitor, batch: SampleBatch) -> AddResult:
        name = monitor.spec.name
        if self._monitors.get(name) is not monitor:  # its codes and bins may have changed their meaning
            raise Busy(f"monitor {name} was changed by a reload while these samples were waiting; send them again")
        result = monitor.add(batch, f"{work.source}\x00{work.stream}", work.arrival_ms, self._ahead_ms())
        self._rows += result.counted
        self._telemetry.rows_added(name, work.source, result, monitor.feature_names)
        if result.folded:
            self._telemetry.segments_folded(name, result.folded)
        if result.learned:
            problems = {info.name: info.problem for info in monitor.features}
            self._telemetry.references_learned(name, {feature: problems[feature] for feature in result.learned})
        return result
