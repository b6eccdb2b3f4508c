"""The protocol that every pull source follows, and what a source is given by the program around it."""

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kldrift.records.samples import Chunk

Position = Mapping[str, int | str]
#: A position for each stream.
Positions = Mapping[str, Position]
#: Takes a reason from a bounded set and a sentence for the log.
ErrorCallback = Callable[[str, str], None]


def _ignore_streams(_: Sequence[str]) -> None: ...


def _ignore_loss(_: int, __: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a source needs besides its configuration.

    Parameters
    ----------
    clock_ms : returns the time in ms since the epoch
    on_error : called with each problem that the source skipped or will retry
    once : read to the end and stop, even where the configuration says to follow
    row_numbers : numbers read from each row, so that chunks of wide rows fit in memory
    settled : returns the positions of this source that are durably counted; None: nobody knows, so nothing is
        acknowledged upstream
    on_rebalance : called after each rebalance with the streams that this process now owns
    on_lost : called with the least number of bytes that cannot be read any more, and a sentence for the log
    """

    clock_ms: Callable[[], int]
    on_error: ErrorCallback
    once: bool = False
    row_numbers: int = 1
    settled: Callable[[], Positions] | None = None
    on_rebalance: Callable[[Sequence[str]], None] = _ignore_streams
    on_lost: Callable[[int, str], None] = _ignore_loss


class Source(Protocol):
    """One or more logs (*streams*), each of which can be read again from a position.

    `name` is the name in the configuration. A chunk holds whole records of one stream. Its position is where that
    stream continues after it: reading again from the last position of each stream yields exactly the rest, wherever
    the chunks were cut (`tests/sources/test_conformance.py`). A source that cannot go back (a pipe) documents that.
    """

    name: str

    def chunks(self, positions: Positions, stop: threading.Event) -> Generator[Chunk | None, None, None]:
        """Yield what follows `positions` (from the beginning of a stream that has none), until the source ends or
        `stop` is set. Yield None from time to time while there is nothing to read, and after a chunk that no other
        follows. Whatever is yielded says that the source can be read: one that waits for an answer yields nothing.

        Runs in its own thread and may block for about half a second at a time. Close the iterator to abandon it
        early: it holds files open.

        Raises
        ------
        SourceError
            the source cannot be read at the moment; the caller waits and calls again from the last position
        """
        ...
