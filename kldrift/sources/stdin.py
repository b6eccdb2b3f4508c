"""Records piped into the daemon."""

import os
import select
import sys
import threading
from collections.abc import Generator

from kldrift.errors import SourceError
from kldrift.records.formats import FORMATS
from kldrift.records.samples import Chunk
from kldrift.records.sources import StdinSourceConfig
from kldrift.sources.base import Positions, Surroundings
from kldrift.sources.framing import first_record_end, records_end

_READ_BYTES = 64 << 10


class StdinSource:
    """Lines (NDJSON or CSV) that arrive through a pipe.

    The first record of CSV names the columns (`Chunk.header`), and newlines within quotes do not end a record.

    A pipe cannot go back: positions say how many bytes were handed over and cannot be used to read again. A restarted
    process begins with whatever comes next; what was read but not handed over is lost with the old process. Within a
    process, a later call continues where the previous one ended.

    `on_error` gets the reason `record_too_long` for each record that is skipped.

    Parameters
    ----------
    fd : the file descriptor to read
    chunk_bytes : approximate size of a chunk while more input is ready; a slow writer's lines are passed on at once
    max_record_bytes : longer records are skipped
    poll_seconds : how long to wait for input before checking the stop flag
    """

    stream = "stdin"

    def __init__(
        self,
        config: StdinSourceConfig,
        surroundings: Surroundings,
        *,
        fd: int = 0,
        chunk_bytes: int = 1 << 20,
        max_record_bytes: int = 16 << 20,
        poll_seconds: float = 0.25,
    ) -> None:
        self.name = config.name
        self._csv = FORMATS[config.format].header
        self._clock_ms = surroundings.clock_ms
        self._on_error = surroundings.on_error
        self._fd = fd
        self._chunk_bytes = chunk_bytes
        self._max_record_bytes = max(max_record_bytes, chunk_bytes)
        self._poll_ms = int(1000 * poll_seconds)
        self._pending = bytearray()
        self._header = b""
        self._n_bytes = 0
        self._skipping = False
        self._ended = False

    def chunks(self, positions: Positions, stop: threading.Event) -> Generator[Chunk | None, None, None]:  # noqa: ARG002
        """Yield what arrives through the pipe; see `Source`. The positions are not used."""
        if self._fd == 0 and sys.stdin is None:  # closed when the process started: 0 may be any file by now
            raise SourceError("standard input is closed; pipe data into it", "read")
        try:
            poller = select.poll()
            poller.register(self._fd, select.POLLIN)
        except (OSError, ValueError) as error:
            raise SourceError(f"standard input cannot be read ({error}); pipe data into it", "read") from error
        while not stop.is_set():
            if not self._ended and not self._gather(poller):
                yield None
                continue
            payload = self._take()
            if payload:
                yield Chunk(self.stream, {"offset": self._n_bytes}, payload, self._clock_ms(), header=self._header)
            elif self._ended:
                return

    def _gather(self, poller: select.poll) -> bool:
        """Read what is ready, up to about a chunk; False if nothing arrived in time."""
        timeout_ms = self._poll_ms
        n_new = 0
        while n_new < self._chunk_bytes and poller.poll(timeout_ms):
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                raise SourceError(f"standard input cannot be read ({error.strerror})", "read") from error
            if not data:
                self._ended = True
                return True
            self._pending += data
            n_new += len(data)
            timeout_ms = 0
        return n_new > 0

    def _take(self) -> bytes:
        """Remove the whole records from what was read and return them."""
        if self._skipping:
            end = self._pending.find(b"\n") + 1
            self._skipping = not end
            self._drop(end or len(self._pending))
        if self._csv and not self._header:
            end = first_record_end(self._pending, quoted=True)
            if not end and not self._ended:
                self._limit()
                return b""
            self._header = self._drop(end or len(self._pending))
        end = records_end(self._pending, self._csv) or (len(self._pending) if self._ended else 0)
        if not end:
            self._limit()
        return self._drop(end)

    def _limit(self) -> None:
        if len(self._pending) >= self._max_record_bytes:
            self._on_error(
                "record_too_long",
                f"standard input: offset {self._n_bytes}: expected a record of at most {self._max_record_bytes} bytes,"
                " found no end within them; the record is skipped",
            )
            self._skipping = True

    def _drop(self, n: int) -> bytes:
        data = bytes(memoryview(self._pending)[:n])
        del self._pending[:n]
        self._n_bytes += n
        return data
