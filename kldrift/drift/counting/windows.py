"""Time cut into panes, and the sliding windows made of them.

    base panes   |--|--|--|--|--|--|--|--|          a sample is counted once, in one pane
    window 5m    |--slice--|--slice--| … 12 of them
    window 1h    |---------- slice -----------| …

When a pane closes, it is added to the slice of each window that contains it. The window at instant t consists of the
slice containing t and the eleven before it: at least 11/12 of its nominal length, and never more than all of it.

What a pane holds is up to its `Tally`: counts of cells (`counts.CellCounts`) or moments of vectors
(`moment_windows.GroupMoments`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import gcd
from sys import byteorder
from typing import Generic, Protocol, TypeVar

from kldrift.drift.entries import below
from kldrift.records.specs import WindowSpec
from kldrift.records.types import IntArray

SLICES = 12
#: Bytes in front of a stored slice: its number, an int64 in the machine's byte order.
_NUMBER_BYTES = 8

Instant = TypeVar("Instant", int, IntArray)
T = TypeVar("T")


class Tally(Protocol[T]):
    """A kind of value that panes and slices add up."""

    def zeros(self) -> T:
        """Return the value of a pane that nothing has been added to."""
        ...

    def add(self, into: T, other: T) -> None:
        """Add `other` to `into`, in place."""
        ...

    def to_bytes(self, value: T) -> bytes:
        """Return a value as it is stored."""
        ...

    def from_bytes(self, stored: bytes) -> T:
        """Return the value that `to_bytes` stored; ValueError if it has another size."""
        ...


def slice_ms(window: WindowSpec) -> int:
    """Length of a slice; the configuration ensures that it is a whole number."""
    return window.duration_ms // SLICES


def pane_ms(windows: Sequence[WindowSpec]) -> int:
    """Length of the base pane: the longest that divides the slices of every window."""
    return gcd(*(slice_ms(window) for window in windows))


def ring_slices(window: WindowSpec, history_ms: int = 0) -> int:
    """Slices kept for a window and the history before it; one more because the history may end within a slice."""
    return SLICES + (-(-history_ms // slice_ms(window)) + 1 if history_ms else 0)


class Ring(Generic[T]):
    """The slices of one window. Slice number n has place n modulo the size of the ring.

    Parameters
    ----------
    window : its specification
    tally : what a slice holds
    history_ms : how far back in time the window can be asked for
    """

    def __init__(self, window: WindowSpec, tally: Tally[T], history_ms: int = 0) -> None:
        self.slice_ms = slice_ms(window)
        self._tally = tally
        self._size = ring_slices(window, history_ms)
        self._held: dict[int, tuple[int, T]] = {}  # by place: the number of the slice, and its value
        self._changed: set[int] = set()  # places

    def oldest_ms(self, at_ms: Instant) -> Instant:
        """Start of the window that ends at `at_ms`, an instant or an array of them."""
        return (at_ms // self.slice_ms - SLICES + 1) * self.slice_ms

    def add(self, start_ms: int, value: T, at_ms: int) -> None:
        """Add the value of a pane that starts at `start_ms` to its slice; drop it if it is older than the ring.

        A slice that lies ahead of `at_ms` is replaced: otherwise, after the clock is set back, no place would be free.
        """
        number = start_ms // self.slice_ms
        place = number % self._size
        held = self._held.get(place)
        if held is not None and number < held[0] <= at_ms // self.slice_ms:
            return
        if held is None or number != held[0]:
            held = self._held[place] = number, self._tally.zeros()
        self._tally.add(held[1], value)
        self._changed.add(place)

    def add_to(self, total: T, at_ms: int) -> None:
        """Add the slices of the window that ends at `at_ms` to `total`, oldest first."""
        last = at_ms // self.slice_ms
        for number in range(last - SLICES + 1, last + 1):
            held = self._held.get(number % self._size)
            if held is not None and held[0] == number:
                self._tally.add(total, held[1])

    def slices(self) -> Iterator[tuple[int, T]]:
        """Yield start (ms) and value of the slices that it holds, oldest first."""
        for number, value in sorted(self._held.values(), key=lambda held: held[0]):
            yield number * self.slice_ms, value

    def covers_ms(self, at_ms: int) -> int:
        """Start of the oldest slice that has a place at `at_ms`."""
        return (at_ms // self.slice_ms - self._size + 1) * self.slice_ms

    def convert(self, tally: Tally[T], change: Callable[[T], T]) -> None:
        """Replace every value by what `change` makes of it, and the tally by the one for the new values."""
        self._tally = tally
        self._held = {place: (number, change(value)) for place, (number, value) in self._held.items()}

    def changes(self) -> dict[str, bytes]:
        """Return the slices that have changed since `stored`, by place: the number of the slice, then its value."""
        found = {}
        for place in self._changed:
            number, value = self._held[place]
            found[str(place)] = number.to_bytes(_NUMBER_BYTES, byteorder, signed=True) + self._tally.to_bytes(value)
        return found

    def stored(self) -> None:
        """Note that the changes have been stored."""
        self._changed.clear()

    def touch(self) -> None:
        """Mark everything as changed."""
        self._changed.update(self._held)

    def restore(self, entries: Mapping[str, bytes]) -> None:
        """Put back the slices that `changes` returned."""
        for place, stored in entries.items():
            number = int.from_bytes(stored[:_NUMBER_BYTES], byteorder, signed=True)
            self._held[int(place)] = number, self._tally.from_bytes(stored[_NUMBER_BYTES:])


class Panes(Generic[T]):
    """One tally over time: the open base panes and a ring of slices for each window.

    Parameters
    ----------
    windows : at least one
    tally : what a pane holds
    history_ms : how far back in time the windows can be asked for
    """

    def __init__(self, windows: Sequence[WindowSpec], tally: Tally[T], history_ms: int = 0) -> None:
        self.pane_ms = pane_ms(windows)
        self._tally = tally
        self._rings = tuple(Ring(window, tally, history_ms) for window in windows)
        self._longest = max(self._rings, key=lambda ring: ring.slice_ms)
        self._open: dict[int, T] = {}
        self._changed: set[int] = set()  # panes that have been added to or closed

    def oldest_ms(self, at_ms: Instant) -> Instant:
        """Start of the longest window at `at_ms`, an instant or an array of them; anything older has no place."""
        return self._longest.oldest_ms(at_ms)

    def open_pane(self, pane: int) -> T:
        """Return a pane to add to, by its number since the epoch; open it if necessary."""
        self._changed.add(pane)
        if pane not in self._open:
            self._open[pane] = self._tally.zeros()
        return self._open[pane]

    def close_before(self, instant_ms: int) -> None:
        """Move the panes that end by `instant_ms` into the rings. A pane reopened later adds to what is there."""
        for pane in sorted(p for p in self._open if (p + 1) * self.pane_ms <= instant_ms):
            value = self._open.pop(pane)
            self._changed.add(pane)
            for ring in self._rings:
                ring.add(pane * self.pane_ms, value, instant_ms)

    @property
    def rings(self) -> Mapping[int, Ring[T]]:
        """The slices of each window, by the length of a slice in ms."""
        return {ring.slice_ms: ring for ring in self._rings}

    def open_panes(self) -> Iterator[tuple[int, T]]:
        """Yield number and value of the panes that are not closed."""
        yield from sorted(self._open.items(), key=lambda pane: pane[0])

    def close_all(self) -> None:
        """Move every pane into the rings, also the latest: totals stay, because each lies in one slice of a window."""
        self.close_before(max((pane + 1 for pane in self._open), default=0) * self.pane_ms)

    def totals(self, at_ms: int) -> list[T]:
        """Return the total of each window that ends at `at_ms`."""
        totals = []
        for ring in self._rings:
            total = self._tally.zeros()
            ring.add_to(total, at_ms)
            oldest = ring.oldest_ms(at_ms)
            for pane in sorted(self._open):
                if oldest <= pane * self.pane_ms <= at_ms:
                    self._tally.add(total, self._open[pane])
            totals.append(total)
        return totals

    def convert(self, tally: Tally[T], change: Callable[[T], T]) -> None:
        """Replace every value by what `change` makes of it, and the tally by the one for the new values."""
        self._tally = tally
        self._open = {pane: change(value) for pane, value in self._open.items()}
        for ring in self._rings:
            ring.convert(tally, change)

    def changes(self) -> dict[str, bytes | None]:
        """Return what has changed since `stored`: open panes (None: closed) and slices of the rings."""
        found: dict[str, bytes | None] = {}
        for pane in self._changed:
            found[f"pane/{pane}"] = self._tally.to_bytes(self._open[pane]) if pane in self._open else None
        for w, ring in enumerate(self._rings):
            found |= {f"ring/{w}/{place}": value for place, value in ring.changes().items()}
        return found

    def stored(self) -> None:
        """Note that the changes have been stored."""
        self._changed.clear()
        for ring in self._rings:
            ring.stored()

    def touch(self) -> None:
        """Mark everything as changed."""
        self._changed.update(self._open)
        for ring in self._rings:
            ring.touch()

    def restore(self, entries: Mapping[str, bytes]) -> None:
        """Put back everything that `changes` has returned."""
        for pane, stored in below("pane", entries).items():
            self._open[int(pane)] = self._tally.from_bytes(stored)
        for w, ring in enumerate(self._rings):
            ring.restore(below(f"ring/{w}", entries))
        self._changed.clear()
