"""What a monitor has counted, and how it is stored: as entries of bytes by key, only those that have changed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from kldrift.drift.counting.windows import Panes
from kldrift.drift.entries import below
from kldrift.kernels.moments import Moments
from kldrift.records.types import IntArray

CLOCK = "clock"


@dataclass(frozen=True, slots=True)
class CellCounts:
    """A `Tally` of counts.

    Parameters
    ----------
    n_cells : cells over all features and segments
    """

    n_cells: int

    def zeros(self) -> IntArray:
        """Return (n_cells,) int64 zeros."""
        return np.zeros(self.n_cells, dtype=np.int64)

    def add(self, into: IntArray, other: IntArray) -> None:
        """Add the counts of each cell."""
        into += other

    def to_bytes(self, value: IntArray) -> bytes:
        """Return the counts, one after another."""
        return value.tobytes()

    def from_bytes(self, stored: bytes) -> IntArray:
        """Return the counts that `to_bytes` stored."""
        if len(stored) != 8 * self.n_cells:
            raise ValueError(f"expected {8 * self.n_cells} bytes of counts, got {len(stored)}")
        return np.frombuffer(stored, dtype=np.int64).copy()


@dataclass(slots=True)
class Counted:
    """Counts and moments in panes, and the event time they have reached.

    `panes` holds the cells of all features, once for each segment; `moments` those of the vectors, by feature index.
    """

    panes: Panes[IntArray]
    moments: dict[int, Panes[Moments]]
    newest_ms: dict[str, int] = field(default_factory=dict)  # newest event time of each stream …
    clock_ms: int | None = None  # … and of all streams
    clock_read_ms: int = 0  # when the latter arrived
    of_events: bool = False  # whether rows carry their own times
    clock_stored: str = ""

    def advance(self, event_ms: int, read_ms: int) -> None:
        """Move the clock to an event that arrived at `read_ms`; it never goes back."""
        if self.clock_ms is None or event_ms >= self.clock_ms:
            self.clock_ms, self.clock_read_ms = event_ms, read_ms

    def close_before(self, instant_ms: int) -> None:
        """Close the panes that end by `instant_ms`: no more rows can arrive for them."""
        self.panes.close_before(instant_ms)
        for moments in self.moments.values():
            moments.close_before(instant_ms)

    def rearrange(self, cells: IntArray) -> None:
        """Continue with other cells: cell i is the former cell ``cells[i]``, or starts at 0 where that is -1."""

        def rearranged(counts: IntArray) -> IntArray:
            return np.where(cells < 0, 0, counts[cells])

        self.panes.convert(CellCounts(cells.size), rearranged)

    def changes(self) -> dict[str, bytes | None]:
        """Return what has changed since `stored`."""
        found = {f"counts/{key}": value for key, value in self.panes.changes().items()}
        for f, moments in self.moments.items():
            found |= {f"moments/{f}/{key}": value for key, value in moments.changes().items()}
        clock = self._clock()
        if clock != self.clock_stored:
            found[CLOCK] = clock.encode()
        return found

    def touch(self) -> None:
        """Mark everything as changed."""
        self.panes.touch()
        for moments in self.moments.values():
            moments.touch()
        self.clock_stored = ""

    def stored(self) -> None:
        """Note that the changes have been stored."""
        self.panes.stored()
        for moments in self.moments.values():
            moments.stored()
        self.clock_stored = self._clock()

    def restore(self, entries: Mapping[str, bytes]) -> None:
        """Put back everything that `changes` has returned.

        Raises
        ------
        ValueError, KeyError
            the entries do not have this layout
        """
        self.panes.restore(below("counts", entries))
        for f, moments in self.moments.items():
            moments.restore(below(f"moments/{f}", entries))
        if CLOCK in entries:
            clock = json.loads(entries[CLOCK])
            self.newest_ms, self.clock_ms, self.clock_read_ms = clock["newest"], clock["at"], clock["read"]
            self.of_events = clock["of_events"]
        self.clock_stored = self._clock()

    def _clock(self) -> str:
        return json.dumps(
            {
                "newest": self.newest_ms,
                "at": self.clock_ms,
                "read": self.clock_read_ms,
                "of_events": self.of_events,
            }
        )
