"""From counted to stored: everything counted since the last commit goes into the next one."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from kldrift.drift.monitor import Monitor
from kldrift.engine.queue import Work
from kldrift.errors import Uncommitted
from kldrift.export.telemetry import Telemetry
from kldrift.records.snapshots import AddResult
from kldrift.state.base import Commit, KeyedAnswer, NoStore, Position, Store

#: While there is more to count, posts wait this long for others to share their commit.
GROUP_SECONDS = 0.02

#: Commits take at most a tenth of the time: the longer one takes, the less frequent they are.
PAUSE_PER_COMMIT = 10.0

#: Waits between attempts while the state cannot be written.
RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)


class Commits:
    """Gathers counted work and stores it: changed counts, positions and answers in one transaction.

    After a failed commit, nothing more should be counted until one succeeds (`failing`). What has been counted is kept
    for the next attempt, and callers that wait are notified at once. Only the owner of the counts calls this class.

    Parameters
    ----------
    interval_seconds : how often to store what nobody waits for
    clock_ms : the wall clock
    """

    def __init__(
        self, store: Store, interval_seconds: float, telemetry: Telemetry, clock_ms: Callable[[], int]
    ) -> None:
        self.keeps = not isinstance(store, NoStore)
        self._store = store
        self._interval = interval_seconds
        self._telemetry = telemetry
        self._clock_ms = clock_ms
        self._moved: dict[str, dict[str, Position]] = {}
        self._answers: list[KeyedAnswer] = []
        self._waiting: list[tuple[Work, Sequence[AddResult]]] = []
        self._untold = 0  # the last of the waiting, not yet notified of a failure
        self._forgotten: set[str] = set()
        self._renamed: dict[str, str] = {}
        #: Position of each stream, by source, up to which all counts are stored.
        self.stored_positions: dict[str, dict[str, Position]] = {
            source: dict(streams) for source, streams in store.positions().items()
        }
        self._first_waits_since: float | None = None
        self._last = time.monotonic()
        self._took = 0.0
        self._failures = 0
        #: Why the last commit failed; empty if it did not.
        self.problem = ""

    @property
    def failing(self) -> bool:
        """Whether the last commit failed."""
        return self._failures > 0

    def forget(self, monitors: Iterable[str]) -> None:
        """Delete what is stored for these monitors with the next commit."""
        self._forgotten.update(monitors)

    def rename_source(self, old: str, new: str) -> None:
        """Give the positions of a source another name; stored with the next commit."""
        for positions in (self.stored_positions, self._moved):
            if old in positions:
                positions[new] = positions.pop(old)
        self._renamed[old] = new

    def counted(self, work: Work, results: Sequence[AddResult]) -> None:
        """Add counted work; whoever waits for it is notified once it is stored."""
        if not self.keeps:
            if work.position is not None:
                self.stored_positions.setdefault(work.source, {})[work.stream] = work.position
            if work.done is not None:
                work.done(results)
            return
        if work.position is not None:
            self._moved.setdefault(work.source, {})[work.stream] = work.position
        if work.answers is not None:
            self._answers += work.answers(results)
        if work.done is not None:
            self._waiting.append((work, results))
            if self._first_waits_since is None:
                self._first_waits_since = time.monotonic()

    def due_in(self, more_to_count: bool) -> float:
        """Return the seconds until the next commit is due; 0 or less means now.

        If somebody waits, it is due as soon as there is nothing more to count, or after a short while.
        """
        if not self.keeps:
            return float("inf")
        now = time.monotonic()
        if self.failing:
            return self._last + RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS)) - 1] - now
        if self._first_waits_since is not None:
            return self._first_waits_since + max(GROUP_SECONDS, 2 * self._took) - now if more_to_count else 0.0
        return self._last + max(self._interval, PAUSE_PER_COMMIT * self._took) - now

    def commit(self, monitors: Mapping[str, Monitor]) -> bool:
        """Store what has changed. Returns False if that failed; callers that wait have been notified then.

        If nothing has changed, and nobody waits to hear so, an empty transaction shows whether the state is there.
        """
        if not self.keeps:
            return True
        started = time.monotonic()
        changes = {name: monitor.changes() for name, monitor in monitors.items()}
        commit = Commit(
            entries={name: entries for name, entries in changes.items() if entries},
            positions=self._moved,
            answers=self._answers,
            forgotten=sorted(self._forgotten | {name for name, monitor in monitors.items() if monitor.anew}),
            renamed=self._renamed,
        )
        changed = bool(commit.entries or commit.positions or commit.answers or commit.forgotten or commit.renamed)
        if not changed and self._waiting:
            self._last = started
            self._answer_waiting()  # nothing that they sent counted
            return True
        try:
            self._store.commit(commit)
        except Exception as error:  # noqa: BLE001  # even a defect must not end the counting thread or lose counts
            self._failed(error)
            return False
        for name, monitor in monitors.items():
            monitor.stored(changes[name])
        self._succeeded(started, changed)
        return True

    def _succeeded(self, started: float, changed: bool) -> None:
        for source, streams in self._moved.items():
            self.stored_positions.setdefault(source, {}).update(streams)
        self._moved, self._answers, self._forgotten, self._renamed = {}, [], set(), {}
        self._last = time.monotonic()
        self._took = self._last - started
        if self._failures:
            self._failures, self.problem = 0, ""
            self._telemetry.commit_recovered()
        if changed:
            self._telemetry.committed(self._took, self._clock_ms())
        self._answer_waiting()

    def _answer_waiting(self) -> None:
        waiting, self._waiting, self._untold = self._waiting, [], 0
        self._first_waits_since = None
        for work, results in waiting:
            if work.done is not None:
                work.done(results)

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self.problem = str(error) or type(error).__name__
        self._last = time.monotonic()
        self._first_waits_since = None
        self._telemetry.commit_failed(error)
        uncommitted = Uncommitted(
            "the samples are counted but cannot be stored yet;"
            " send them again later, with the same Idempotency-Key if they had one",
            retry_after_seconds=5,
        )
        for work, _ in self._waiting[self._untold :]:
            if work.failed is not None:
                work.failed(uncommitted)
        self._untold = len(self._waiting)
