"""What a pull source is."""

import threading
from collections.abc import Generator, Mapping
from typing import Protocol

from kldrift.records.samples import Chunk

Positions = Mapping[str, Mapping[str, int | str]]


class Source(Protocol):
    """A log, or several (*streams*), that can be read again from a position.

    `name` is the name in the configuration. A chunk holds whole records of one stream. Its position is where that
    stream goes on after it: reading again from the last position of each stream gives exactly the rest, whatever the
    cuts between chunks (`tests/sources/test_conformance.py`). A source that cannot go back (a pipe) says so.
    """

    name: str

    def chunks(self, positions: Positions, stop: threading.Event) -> Generator[Chunk | None, None, None]:
        """Yield what comes after `positions` (a stream that is not in it: from its beginning), until the end of
        the source or until `stop` is set; None now and then while there is nothing to read.

        Runs in a thread of its own and may block for at most about half a second at a time. Close the iterator when
        it is given up early: it holds files open.

        Raises
        ------
        SourceError
            the source cannot be read now; the caller waits and calls again from the last position.
        """
        ...
