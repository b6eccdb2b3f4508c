"""Work that intakes hand to the engine, and the queue between them; its bound in bytes creates back-pressure."""

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
    """Batches that are applied together, and the position of their source after them.

    Parameters
    ----------
    source, stream, position : where the rows came from, and where to continue once they are counted
    parts : a batch for each monitor that the source feeds, decoded with the monitor's schema
    arrival_ms : when the rows arrived
    n_bytes : memory held by the work
    answers : returns the answers to posts with keys, given a result for each part; they are stored with the counts
    done : called in the engine's thread once the rows are counted and stored, with a result for each part; it must be
        quick
    failed : called instead if they could not be; after `Uncommitted`, `done` is still called once they are stored
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
    """A queue of work, bounded in bytes, and of calls to run in between."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        #: Bytes of work whose sender waits for an answer.
        self.answerable_bytes = 0
        self._items: deque[Work | Callable[[], None]] = deque()
        self._line: deque[object] = deque()  # who waits for room, longest wait first
        self._changed = threading.Condition()
        self._closed = False

    def put(self, work: Work, stop: threading.Event | None = None, wait: bool = True) -> None:
        """Wait in line until there is room, then add. Work larger than the queue is accepted when the queue is empty.

        First come, first served: small pieces that find room do not overtake a large one forever.

        Parameters
        ----------
        stop : ends the wait
        wait : False adds a small piece at once, room or not, for a caller that must not wait

        Raises
        ------
        Busy
            the queue is closed, or `stop` was set while waiting
        """
        with self._changed:
            if wait:
                self._wait_for_room(work.n_bytes, stop)
            if self._closed:
                raise Busy("the daemon is stopping; send the samples again once it is back")
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
        """Whether somebody waits for room."""
        return bool(self._line)

    def call(self, function: Callable[[], None]) -> None:
        """Run `function` in the engine's thread, after the work that is queued."""
        with self._changed:
            self._items.append(function)
            self._changed.notify_all()

    def get(self, timeout_seconds: float) -> Work | Callable[[], None] | None:
        """Return the next item; None after the timeout, or once closed and empty."""
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
        """Whether the queue accepts nothing more."""
        return self._closed

    def close(self) -> None:
        """Accept nothing more; what is queued can still be taken out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take_answerable(self) -> list[Work]:
        """Take out the work whose sender waits for an answer and can send it again."""
        with self._changed:
            taken = [item for item in self._items if isinstance(item, Work) and item.failed is not None]
            self._items = deque(item for item in self._items if not any(item is work for work in taken))
            for work in taken:
                self._count(work, -work.n_bytes)
            self._changed.notify_all()
            return taken

    def wait_for_close(self, timeout_seconds: float) -> None:
        """Return once the queue is closed, or after the timeout."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, timeout_seconds)

    @property
    def n_items(self) -> int:
        """Number of items waiting."""
        return len(self._items)

    @property
    def open_and_empty(self) -> bool:
        """Whether nothing is waiting and more would be accepted."""
        return not self._items and not self._closed

    @property
    def drained(self) -> bool:
        """Whether it is closed and everything has been taken out."""
        with self._changed:
            return self._closed and not self._items
