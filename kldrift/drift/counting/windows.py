"""Time cut into panes, and sliding windows made of them.

    base panes   |--|--|--|--|--|--|--|--|          a sample is counted once, in one pane
    window 5m    |--slice--|--slice--| … 12 of them
    window 1h    |---------- slice -----------| …

A closed pane is added to the slice of each window that it lies in. A window at instant t is the slice that holds t and
the eleven before it: between 11/12 of its length and all of it, never more.
"""

from collections.abc import Mapping, Sequence
from math import gcd
from typing import TypeVar

import numpy as np

from kldrift.drift.entries import below
from kldrift.records.specs import WindowSpec
from kldrift.records.types import IntArray

SLICES = 12

Instant = TypeVar("Instant", int, IntArray)


def slice_ms(window: WindowSpec) -> int:
    """Length of a slice; the configuration sees to it that it is a whole number."""
    return window.duration_ms // SLICES


def pane_ms(windows: Sequence[WindowSpec]) -> int:
    """The base pane: the longest that every window's slices are made of."""
    return gcd(*(slice_ms(window) for window in windows))


def ring_slices(window: WindowSpec, history_ms: int = 0) -> int:
    """Slices of a window and of the time before it that is remembered; one more for where that ends within a slice."""
    return SLICES + (-(-history_ms // slice_ms(window)) + 1 if history_ms else 0)


class Ring:
    """The counts of one window: a ring of slices.

    Parameters
    ----------
    window : its specification
    n_cells : cells over all features
    history_ms : the window can be asked for as it was so long before
    """

    def __init__(self, window: WindowSpec, n_cells: int, history_ms: int = 0) -> None:
        self.slice_ms = slice_ms(window)
        n_slices = ring_slices(window, history_ms)
        self._counts = np.zeros((n_slices, n_cells), dtype=np.int64)
        self._held = np.full(n_slices, np.iinfo(np.int64).min, dtype=np.int64)
        self._changed: set[int] = set()

    def oldest_ms(self, at_ms: Instant) -> Instant:
        """Where the window that ends at `at_ms`, an instant or an array of them, begins."""
        return (at_ms // self.slice_ms - SLICES + 1) * self.slice_ms

    def add(self, start_ms: int, counts: IntArray, at_ms: int) -> None:
        """Add a pane's counts, (n_cells,), to its slice; what is older than the ring has no place and falls out.

        A slice that lies ahead of `at_ms` gives way: a clock that was set back must not find all places taken.
        """
        number = start_ms // self.slice_ms
        place = number % len(self._held)
        if number < self._held[place] <= at_ms // self.slice_ms:
            return
        if number != self._held[place]:
            self._counts[place] = 0
            self._held[place] = number
        self._counts[place] += counts
        self._changed.add(place)

    def total(self, at_ms: int, out: IntArray) -> None:
        """Sum of the slices of the window that ends at `at_ms`, into `out` (n_cells,)."""
        last = at_ms // self.slice_ms
        inside = (self._held > last - SLICES) & (self._held <= last)
        np.sum(self._counts[inside], axis=0, out=out)

    def rearrange(self, cells: IntArray) -> None:
        """Take cell ``cells[i]`` of before as cell i; -1 begins at 0."""
        self._counts = _rearranged(self._counts, cells)

    def changes(self) -> dict[str, bytes]:
        """Slices that have changed since `stored`, by place: the number of the slice, then its counts."""
        return {str(place): np.append(self._held[place], self._counts[place]).tobytes() for place in self._changed}

    def stored(self) -> None:
        """The changes are stored."""
        self._changed.clear()

    def touch(self) -> None:
        """All of it counts as changed."""
        self._changed.update(np.flatnonzero(self._held != np.iinfo(np.int64).min).tolist())

    def restore(self, entries: Mapping[str, bytes]) -> None:
        """Take slices back that `changes` gave."""
        for place, value in entries.items():
            self._held[int(place)], self._counts[int(place)] = _split_number(value)


class Panes:
    """The counts of one monitor over time: open base panes and a ring for each window.

    Parameters
    ----------
    windows : at least one
    n_cells : cells over all features
    history_ms : the windows can be asked for as they were so long before
    """

    def __init__(self, windows: Sequence[WindowSpec], n_cells: int, history_ms: int = 0) -> None:
        self.pane_ms = pane_ms(windows)
        self._rings = tuple(Ring(window, n_cells, history_ms) for window in windows)
        self._longest = max(self._rings, key=lambda ring: ring.slice_ms)
        self._open: dict[int, IntArray] = {}
        self._n_cells = n_cells
        self._changed: set[int] = set()  # panes that were added to or closed

    def oldest_ms(self, at_ms: Instant) -> Instant:
        """Beginning of the longest window at `at_ms`, an instant or an array of them: what is older has no place."""
        return self._longest.oldest_ms(at_ms)

    def open_pane(self, pane: int) -> IntArray:
        """The counts (1, n_cells) of a pane, by its number since the epoch, to add to; opened where it is not."""
        counts = self._open.get(pane)
        self._changed.add(pane)
        if counts is None:
            counts = self._open[pane] = np.zeros((1, self._n_cells), dtype=np.int64)
        return counts

    def close_before(self, instant_ms: int) -> None:
        """Move the panes that end by `instant_ms` into the rings. A pane that is opened again later adds to them."""
        for pane in sorted(p for p in self._open if (p + 1) * self.pane_ms <= instant_ms):
            counts = self._open.pop(pane)[0]
            self._changed.add(pane)
            for ring in self._rings:
                ring.add(pane * self.pane_ms, counts, instant_ms)

    def totals(self, at_ms: int) -> IntArray:
        """Counts of every window that ends at `at_ms`, (n_windows, n_cells)."""
        out = np.zeros((len(self._rings), self._n_cells), dtype=np.int64)
        for row, ring in zip(out, self._rings, strict=True):
            ring.total(at_ms, row)
            oldest = ring.oldest_ms(at_ms)
            for pane, counts in self._open.items():
                if oldest <= pane * self.pane_ms <= at_ms:
                    row += counts[0]
        return out

    def rearrange(self, cells: IntArray) -> None:
        """Go on with other cells: cell i is cell ``cells[i]`` of before, -1 begins at 0."""
        for ring in self._rings:
            ring.rearrange(cells)
        self._open = {pane: _rearranged(counts, cells) for pane, counts in self._open.items()}
        self._n_cells = cells.size

    def changes(self) -> dict[str, bytes | None]:
        """What has changed since `stored`: open panes (None: closed), and slices of the rings."""
        found: dict[str, bytes | None] = {}
        for pane in self._changed:
            counts = self._open.get(pane)
            found[f"pane/{pane}"] = None if counts is None else counts.tobytes()
        for w, ring in enumerate(self._rings):
            found |= {f"ring/{w}/{place}": value for place, value in ring.changes().items()}
        return found

    def stored(self) -> None:
        """The changes are stored."""
        self._changed.clear()
        for ring in self._rings:
            ring.stored()

    def touch(self) -> None:
        """All of it counts as changed."""
        self._changed.update(self._open)
        for ring in self._rings:
            ring.touch()

    def restore(self, entries: Mapping[str, bytes]) -> None:
        """Take back what `changes` gave, all of it together."""
        for key, value in below("pane", entries).items():
            self._open[int(key)] = np.frombuffer(value, dtype=np.int64).reshape(1, self._n_cells).copy()
        for w, ring in enumerate(self._rings):
            ring.restore(below(f"ring/{w}", entries))
        self._changed.clear()


def _split_number(value: bytes) -> tuple[int, IntArray]:
    numbers = np.frombuffer(value, dtype=np.int64)
    return int(numbers[0]), numbers[1:]


def _rearranged(counts: IntArray, cells: IntArray) -> IntArray:
    """The columns `cells` of `counts`, zeros where -1."""
    out = counts[:, cells]
    out[:, cells < 0] = 0
    return out
