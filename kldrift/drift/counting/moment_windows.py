"""Moments of one vector feature over panes and sliding windows: what `windows` is for counts."""

from collections.abc import Mapping, Sequence

import numpy as np

from kldrift.drift.counting.windows import SLICES, pane_ms, slice_ms
from kldrift.drift.entries import below
from kldrift.kernels.moments import Moments, merge_moments, zero_moments
from kldrift.records.specs import WindowSpec
from kldrift.records.types import Covariance


class _MomentRing:
    """The moments of one window: a ring of slices of S groups each; the rules are those of `windows.Ring`."""

    def __init__(self, window: WindowSpec, n_groups: int, d: int, full: bool) -> None:
        self.slice_ms = slice_ms(window)
        self._moments = zero_moments((SLICES, n_groups), d, full)
        self._held = np.full(SLICES, np.iinfo(np.int64).min, dtype=np.int64)
        self._changed: set[int] = set()

    def oldest_ms(self, at_ms: int) -> int:
        """Where the window that ends at `at_ms` begins."""
        return (at_ms // self.slice_ms - SLICES + 1) * self.slice_ms

    def add(self, start_ms: int, moments: Moments, at_ms: int) -> None:
        """Add a pane's moments, of S groups, to its slice; what is older than the ring falls out."""
        number = start_ms // self.slice_ms
        place = number % SLICES
        if number < self._held[place] <= at_ms // self.slice_ms:
            return
        held = self._moments.at(place)
        if number != self._held[place]:
            for array in held:
                array[...] = 0
            self._held[place] = number
        merge_moments(held, moments)
        self._changed.add(place)

    def changes(self) -> dict[str, bytes]:
        """Slices that have changed since `stored`, by place: the number of the slice, then its moments."""
        return {str(place): self._held[place].tobytes() + to_bytes(self._moments.at(place)) for place in self._changed}

    def stored(self) -> None:
        """The changes are stored."""
        self._changed.clear()

    def touch(self) -> None:
        """All of it counts as changed."""
        self._changed.update(np.flatnonzero(self._held != np.iinfo(np.int64).min).tolist())

    def restore(self, entries: Mapping[str, bytes]) -> None:
        """Take slices back that `changes` gave."""
        for place, value in entries.items():
            self._held[int(place)] = np.frombuffer(value[:8], dtype=np.int64)[0]
            from_bytes(value[8:], self._moments.at(int(place)))

    def total(self, at_ms: int, out: Moments) -> None:
        """Merge the slices of the window that ends at `at_ms`, oldest first, into `out`, of S groups."""
        last = at_ms // self.slice_ms
        for number in range(last - SLICES + 1, last + 1):
            place = number % SLICES
            if self._held[place] == number:
                merge_moments(out, self._moments.at(place))


class MomentPanes:
    """The moments of one vector feature over time: open base panes and a ring for each window.

    Which pane is in which window, what may be opened again and what falls out is as with `windows.Panes`.

    Parameters
    ----------
    windows : at least one
    n_groups : S, groups of rows (segments) that are told apart
    dimensions : d
    covariance : whether the products of deviations are kept as well as their squares
    """

    def __init__(
        self, windows: Sequence[WindowSpec], n_groups: int, dimensions: int, covariance: Covariance = "diagonal"
    ) -> None:
        self.pane_ms = pane_ms(windows)
        self._shape = (n_groups, dimensions, covariance == "full")
        self._rings = tuple(_MomentRing(window, *self._shape) for window in windows)
        self._open: dict[int, Moments] = {}
        self._changed: set[int] = set()  # panes that were added to or closed

    def open_pane(self, pane: int) -> Moments:
        """The moments (S groups) of a pane, by its number since the epoch, to add to; opened where it is not."""
        moments = self._open.get(pane)
        self._changed.add(pane)
        if moments is None:
            n_groups, d, full = self._shape
            moments = self._open[pane] = zero_moments((n_groups,), d, full)
        return moments

    def close_before(self, instant_ms: int) -> None:
        """Move the panes that end by `instant_ms` into the rings. A pane that is opened again later adds to them."""
        for pane in sorted(p for p in self._open if (p + 1) * self.pane_ms <= instant_ms):
            moments = self._open.pop(pane)
            self._changed.add(pane)
            for ring in self._rings:
                ring.add(pane * self.pane_ms, moments, instant_ms)

    def totals(self, at_ms: int) -> Moments:
        """Moments of every window that ends at `at_ms`, (W, S) groups."""
        n_groups, d, full = self._shape
        out = zero_moments((len(self._rings), n_groups), d, full)
        for w, ring in enumerate(self._rings):
            total = out.at(w)
            ring.total(at_ms, total)
            oldest = ring.oldest_ms(at_ms)
            for pane in sorted(self._open):
                if oldest <= pane * self.pane_ms <= at_ms:
                    merge_moments(total, self._open[pane])
        return out

    def changes(self) -> dict[str, bytes | None]:
        """What has changed since `stored`: open panes (None: closed), and slices of the rings."""
        found: dict[str, bytes | None] = {}
        for pane in self._changed:
            moments = self._open.get(pane)
            found[f"pane/{pane}"] = None if moments is None else to_bytes(moments)
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
            from_bytes(value, self.open_pane(int(key)))
        for w, ring in enumerate(self._rings):
            ring.restore(below(f"ring/{w}", entries))
        self._changed.clear()


def to_bytes(moments: Moments) -> bytes:
    """Moments of groups as bytes: n, means, squares."""
    return moments.n.tobytes() + moments.mean.tobytes() + moments.second.tobytes()


def from_bytes(value: bytes, into: Moments) -> None:
    """Put moments back into arrays of the shapes that they had."""
    if len(value) != sum(array.nbytes for array in into):
        raise ValueError(f"expected {sum(array.nbytes for array in into)} bytes of moments, got {len(value)}")
    start = 0
    for array in into:
        array[...] = np.frombuffer(value, array.dtype, array.size, start).reshape(array.shape)
        start += array.nbytes


def merged_groups(groups: Moments) -> Moments:
    """The moments (W, ...) of all groups (W, S, ...) together."""
    whole = group(groups, 0).copy()
    for slot in range(1, groups.n.shape[1]):
        merge_moments(whole, group(groups, slot))
    return whole


def group(groups: Moments, slot: int) -> Moments:
    """The moments (W, ...) of one of the groups (W, S, ...)."""
    return Moments(groups.n[:, slot], groups.mean[:, slot], groups.second[:, slot])
