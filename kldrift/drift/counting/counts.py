"""What a monitor has counted, and how it is stored: as entries of bytes by key, those that have changed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from kldrift.drift.counting.moment_windows import MomentPanes
from kldrift.drift.counting.windows import Panes
from kldrift.drift.entries import below

CLOCK = "clock"


@dataclass(slots=True)
class Counted:
    """Counts and moments in panes, and the time of the events that they came from.

    `panes` holds the cells of all features, once for each segment; `moments` those of the vectors, by feature index.
    """

    panes: Panes
    moments: dict[int, MomentPanes]
    newest_ms: dict[str, int] = field(default_factory=dict)  # newest event time of each stream …
    clock_ms: int | None = None  # … and of all
    clock_read_ms: int = 0  # when that one arrived
    of_events: bool = False  # rows have times of their own
    clock_stored: str = ""

    def advance(self, event_ms: int, read_ms: int) -> None:
        """An event of this time came in."""
        if self.clock_ms is None or event_ms >= self.clock_ms:
            self.clock_ms, self.clock_read_ms = event_ms, read_ms

    def close_before(self, instant_ms: int) -> None:
        """Nothing can come any more for the panes that end by `instant_ms`."""
        self.panes.close_before(instant_ms)
        for moments in self.moments.values():
            moments.close_before(instant_ms)

    def changes(self) -> dict[str, bytes | None]:
        """What has changed since `stored`."""
        found = {f"counts/{key}": value for key, value in self.panes.changes().items()}
        for f, moments in self.moments.items():
            found |= {f"moments/{f}/{key}": value for key, value in moments.changes().items()}
        clock = self._clock()
        if clock != self.clock_stored:
            found[CLOCK] = clock.encode()
        return found

    def touch(self) -> None:
        """All of it counts as changed."""
        self.panes.touch()
        for moments in self.moments.values():
            moments.touch()
        self.clock_stored = ""

    def stored(self) -> None:
        """The changes are stored."""
        self.panes.stored()
        for moments in self.moments.values():
            moments.stored()
        self.clock_stored = self._clock()

    def restore(self, entries: Mapping[str, bytes]) -> None:
        """Take back all that `changes` gave.

        Raises
        ------
        ValueError, KeyError
            the entries are not of this layout
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
