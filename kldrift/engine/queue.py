"""What the intakes hand to the engine, and the queue between them, bounded in bytes: that is the back-pressure."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kldrift.drift.monitor import Monitor
from kldrift.errors import Busy
from kldrift.records.samples import SampleBatch
from kldrift.records.snapshots import AddResult
from kldrift.state.base import KeyedAnswer, Position


@dataclass(frozen=True, slots=True)
class Work:
    """Batches that are applied together, and the position of their source behind them.

    Parameters
    ----------
    source, stream, position : where the rows came from, and where to go on once they are counted
    parts : a batch for each monitor that is fed, decoded with its schema
    arrival_ms : when the rows came in
    n_bytes : what the work holds in memory
    answers : what posts with keys are answered, given a result for each part; stored with the counts
    done : called in the engine's thread once the rows are counted and stored, with a result for each part; it must be
        quick
    failed : called instead where they could not be; with `Uncommitted`, `done` still comes when they are stored
    """

    source: str
    stream: str
    position: Position | None
    parts: Sequence[tuple[Monitor, SampleBatch]]
    arrival_ms: int
    n_bytes: int
    answers: Callable[[Sequence[AddResult]], Sequence[KeyedAnswer]] | None = None
    done: Callable[[Sequence[AddResult]], object] | None = None
    failed: Callable[[BaseException], object] | None = None


class WorkQueue:
    """A queue bounded in bytes: work, and calls to run between two works."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        #: Of them those of works whose sender waits for an answer.
        self.answerable_bytes = 0
        self._items: deque[Work | Callable[[], None]] = deque()
        self._line: deque[object] = deque()  # who waits for room, the longest first
        self._changed = threading.Condition()
        self._closed = False

    def put(self, work: Work, stop: threading.Event | None = None, wait: bool = True) -> None:
        """Wait in line until there is room, then add; a work larger than the queue is taken when the queue is empty.

        First come, first served: a large work is not overtaken for ever by small ones that find room.

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
            if wait:
                self._wait_for_room(work.n_bytes, stop)
            if self._closed:
                raise Busy("the daemon is stopping; send the samples again to the next one")
            self._items.append(work)
            self._count(work, work.n_bytes)
            self._changed.notify_all()

    def _wait_for_room(self, n_bytes: int, stop: threading.Event | None) -> None:
        place = object()
        self._line.append(place)
        try:
            while not self._closed and (
                self._line[0] is not place or (self.n_bytes > 0 and self.n_bytes + n_bytes > self.max_bytes)
            ):
                if stop is not None and stop.is_set():
                    raise Busy("stopping")
                self._changed.wait(0.2)
        finally:
            self._line.remove(place)
            self._changed.notify_all()

    def _count(self, work: Work, n_bytes: int) -> None:
        self.n_bytes += n_bytes
        if work.failed is not None:
            self.answerable_bytes += n_bytes

    @property
    def awaited(self) -> bool:
        """Somebody waits for room."""
        return bool(self._line)

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
                self._count(item, -item.n_bytes)
            self._changed.notify_all()
            return item

    @property
    def closed(self) -> bool:
        """Nothing more is taken."""
        return self._closed

    def close(self) -> None:
        """Take no more; what is queued is still given out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take_answerable(self) -> list[Work]:
        """Take out the works whose sender waits for an answer, and can send them again."""
        with self._changed:
            taken = [item for item in self._items if isinstance(item, Work) and item.failed is not None]
            self._items = deque(item for item in self._items if not any(item is work for work in taken))
            for work in taken:
                self._count(work, -work.n_bytes)
            self._changed.notify_all()
            return taken

    def wait_for_close(self, timeout_seconds: float) -> None:
        """Return once it is closed, or after the timeout."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, timeout_seconds)

    @property
    def n_items(self) -> int:
        """Items that wait."""
        return len(self._items)

    @property
    def open_and_empty(self) -> bool:
        """Nothing waits, and more would be taken."""
        return not self._items and not self._closed

    @property
    def drained(self) -> bool:
        """Closed, and everything given out."""
        with self._changed:
            return self._closed and not self._items
