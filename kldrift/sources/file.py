"""Files, read once or followed."""

import glob
import os
import stat
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kldrift.errors import SourceError
from kldrift.records.samples import Chunk
from kldrift.sources.base import Positions
from kldrift.sources.contents import Content, ErrorCallback, Identity, LineContent, Piece, Position, RowContent

# Handles are held so that what is written just before a rename or a deletion is read; not so many of them that a
# process with the usual limit of 1024 runs out.
_MAX_HANDLES = 256
# Positions remembered of files that went out of sight, should they come back under another name.
_MAX_REMEMBERED = 4096


@dataclass(slots=True)
class _File:
    """A file being read, under the name it has now."""

    path: str
    content: Content
    quiet_since_ms: int
    status: os.stat_result
    seen: tuple[int, int] | None = None  # size and mtime when it was last read
    renamed: bool = False
    gone: bool = False
    settled: bool = False


@dataclass(slots=True)
class _Reading:
    """What one call of `FileSource.chunks` keeps."""

    positions: Positions
    stop: threading.Event
    files: dict[str, _File] = field(default_factory=dict)
    held: dict[str, _File] = field(default_factory=dict)  # with an open handle; the last one was read last
    remembered: dict[str, Position] = field(default_factory=dict)  # out of sight
    complaints: dict[str, str] = field(default_factory=dict)
    n_bytes: int = 0


class FileSource:
    """Files that a pattern names, in the order of their names.

    A stream is a file, whatever its name: its key is ``device:inode``, so that a renamed file goes on where it was.
    A position holds `path` (for people), `device`, `inode`, `fingerprint` and `offset`, in decompressed bytes (lines),
    or `row` (rows). The fingerprint covers the bytes at the front and just before the offset: a file that was
    truncated, even if it has grown past the offset again, or another file that got the same inode, is read from its
    beginning.

    Followed, a file is read as it grows, through renames and truncation; what is behind its last newline waits for
    the rest of the line. A file that was renamed, or is not named by the pattern any more, is read on by its open
    handle; once nothing was added for `rotated_wait_ms`, what is behind its last newline is taken as a record.
    The copies that copy-truncate and compression leave are other files with the same records: the pattern must not
    name them.

    Parameters
    ----------
    name : in the configuration
    pattern : a path, or a glob (``*``, ``?``, ``[]``, ``**`` for any folders)
    framing : `lines`: NDJSON or CSV, plain, gzip or zstd; `rows`: files that are whole when they are there (Parquet)
    header : CSV: the first record names the columns (`Chunk.header`), newlines within quotes do not end a record
    follow : go on for ever, also with files that appear later; else end after the last file
    clock_ms : the time, in ms since the epoch
    on_error : told of each file that cannot be read and of what is passed over: a word out of `not_found`,
        `vanished`, `permission`, `read`, `not_a_file`, `corrupt`, `truncated`, `unreadable`, `record_too_long`,
        `unbalanced_quote`, and a sentence. Once a file and reason, until the file can be read again.
    chunk_bytes : how much of a file to read at a time
    rows_per_chunk : rows of a `RowRange`
    count_rows : counts the rows of a file (`rows`); raises `KldriftError` or `OSError` when it cannot
    max_record_bytes : a longer record is passed over
    poll_seconds : between two looks for something new
    rotated_wait_ms : how long a renamed file must be quiet to be done with
    wait : waits until the event is set, at most so many seconds
    """

    def __init__(
        self,
        name: str,
        pattern: str,
        framing: Literal["lines", "rows"],
        header: bool,
        follow: bool,
        clock_ms: Callable[[], int],
        on_error: ErrorCallback,
        *,
        chunk_bytes: int = 8 << 20,
        rows_per_chunk: int = 1 << 16,
        count_rows: Callable[[Path], int] | None = None,
        max_record_bytes: int = 16 << 20,
        poll_seconds: float = 0.25,
        rotated_wait_ms: int = 5_000,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        if framing == "rows" and count_rows is None:
            raise ValueError("framing 'rows' needs count_rows")
        self.name = name
        self._pattern = pattern
        self._header = header
        self._follow = follow
        self._clock_ms = clock_ms
        self._on_error = on_error
        self._chunk_bytes = chunk_bytes
        self._rows_per_chunk = rows_per_chunk
        self._count_rows = count_rows
        self._max_record_bytes = max_record_bytes
        self._poll_seconds = poll_seconds
        self._rotated_wait_ms = rotated_wait_ms
        self._wait = wait

    def chunks(self, positions: Positions, stop: threading.Event) -> Generator[Chunk | None, None, None]:
        """Yield the records of every file; see `Source`.

        Raises
        ------
        SourceError
            not followed: no file is there (`not_found`), or, after the last file, some could not be read to their
            end (`incomplete`; `on_error` had each of them)
        """
        reading = _Reading(positions, stop)
        try:
            yield from self._follow_files(reading) if self._follow else self._read_once(reading)
        finally:
            for file in reading.files.values():
                file.content.close()

    def _read_once(self, reading: _Reading) -> Iterator[Chunk | None]:
        paths = self._paths()
        if not paths:
            raise SourceError(
                f"expected files named by {self._pattern!r}, found none; check the path and the working directory",
                "not_found",
            )
        for path in paths:
            if reading.stop.is_set():
                return
            stream, file = self._look_at(reading, path)
            if file is None or file.settled:
                continue
            file.settled = True
            yield from self._read_file(reading, stream, file, final=True)
            file.content.close()
        if reading.complaints and not reading.stop.is_set():
            raise SourceError(
                f"{len(reading.complaints)} of {len(paths)} files could not be read to their end:"
                f" {', '.join(sorted(reading.complaints)[:5])}",
                "incomplete",
            )

    def _follow_files(self, reading: _Reading) -> Iterator[Chunk | None]:
        while not reading.stop.is_set():
            self._scan(reading)
            reading.n_bytes = 0
            for stream, file in list(reading.files.items()):
                yield from self._follow_file(reading, stream, file)
                if reading.stop.is_set():
                    return
            # Waiting also while little comes gathers what is written line by line into chunks worth decoding.
            if reading.n_bytes < self._chunk_bytes:
                yield None
                self._wait(reading.stop, self._poll_seconds)

    def _paths(self) -> list[str]:
        if os.path.lexists(self._pattern):
            return [self._pattern]
        return sorted(glob.glob(self._pattern, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern

    def _scan(self, reading: _Reading) -> None:
        """Find new files, new names of known ones, and those that have gone."""
        paths = self._paths()
        if paths:
            reading.complaints.pop("", None)
        elif not reading.files:
            self._complain(
                reading,
                "",
                "not_found",
                f"expected files named by {self._pattern!r}, found none at first; one that comes is read",
            )
        in_sight = {stream for path in paths for stream, file in [self._look_at(reading, path)] if file}
        for stream, file in reading.files.items():
            if stream not in in_sight and not file.gone:
                file.gone, file.quiet_since_ms, file.settled = True, self._clock_ms(), False

    def _look_at(self, reading: _Reading, path: str) -> tuple[str, _File | None]:
        """The file of this name, if there is one that can be read."""
        try:
            status = os.stat(path)  # noqa: PTH116 - for a thousand files at each poll
        except OSError as error:
            self._complain_of(reading, path, error)
            return "", None
        if stat.S_ISDIR(status.st_mode) and path != self._pattern:
            return "", None
        if not stat.S_ISREG(status.st_mode):
            self._complain(
                reading, path, "not_a_file", f"{path}: expected a file, it is none; name files, as in DIR/*.ndjson"
            )
            return "", None
        identity = Identity.of(status)
        file = reading.files.get(identity.stream)
        if file is None:
            file = self._take_up(reading, path, status)
        elif file.path != path and (file.gone or not _is_at(file.path, identity)):
            file.path, file.renamed, file.settled = path, True, False
            file.quiet_since_ms = self._clock_ms()
        file.gone, file.status = False, status
        return identity.stream, file

    def _take_up(self, reading: _Reading, path: str, status: os.stat_result) -> _File:
        identity = Identity.of(status)
        position = reading.remembered.pop(identity.stream, reading.positions.get(identity.stream, {}))
        content: Content
        if self._count_rows is not None:
            content = RowContent(identity, position, self._count_rows, self._rows_per_chunk)
        else:
            content = LineContent(
                identity, position, self._header, self._chunk_bytes, self._max_record_bytes, self._on_error
            )
        renamed = bool(position) and position.get("path") != _printable(path)
        file = _File(path, content, self._clock_ms(), status, renamed=renamed)
        reading.files[identity.stream] = file
        return file

    def _follow_file(self, reading: _Reading, stream: str, file: _File) -> Iterator[Chunk | None]:
        """Read what is new in a file; once it is quiet, finish it if nothing can follow."""
        if file.gone:
            fd = file.content.open_fd()
            if fd is None:
                self._let_go(reading, stream, file)
                return
            file.status = os.fstat(fd)
        now = (file.status.st_size, file.status.st_mtime_ns)
        if now != file.seen:
            file.seen, file.settled, file.quiet_since_ms = now, False, self._clock_ms()
            yield from self._read_file(reading, stream, file, final=False)
        elif not file.settled and self._clock_ms() - file.quiet_since_ms >= self._rotated_wait_ms:
            file.settled = True
            yield from self._read_file(reading, stream, file, final=file.renamed or file.gone)
            if file.gone and not reading.stop.is_set():
                self._let_go(reading, stream, file)

    def _read_file(self, reading: _Reading, stream: str, file: _File, final: bool) -> Iterator[Chunk | None]:
        try:
            for piece in file.content.read(file.path, final, file.settled):
                yield None if piece is None else self._chunk(reading, stream, file, piece)
                if reading.stop.is_set():
                    return
        except SourceError as error:
            # The same bytes would fail the same way: it is read again when it has changed.
            file.content.close()
            self._complain(reading, file.path, error.reason, str(error))
        except OSError as error:
            file.content.close()
            file.seen = None
            self._complain_of(reading, file.path, error)
        else:
            reading.complaints.pop(file.path, None)
            self._hold(reading, stream, file)

    def _chunk(self, reading: _Reading, stream: str, file: _File, piece: Piece) -> Chunk:
        device, inode = (int(part) for part in stream.split(":"))
        if isinstance(piece.payload, bytes):
            reading.n_bytes += len(piece.payload)
        return Chunk(
            stream=stream,
            position={"path": _printable(file.path), "device": device, "inode": inode, **piece.position},
            payload=piece.payload,
            arrival_ms=self._clock_ms(),
            lag_records=piece.lag_records,
            header=piece.header,
            lag_bytes=piece.lag_bytes,
        )

    def _let_go(self, reading: _Reading, stream: str, file: _File) -> None:
        """Forget a file that is out of sight, but for its position if it is not deleted."""
        fd = file.content.open_fd()
        if fd is None or os.fstat(fd).st_nlink:
            reading.remembered[stream] = {"path": _printable(file.path), **file.content.position()}
            if len(reading.remembered) > _MAX_REMEMBERED:
                del reading.remembered[next(iter(reading.remembered))]
        file.content.close()
        del reading.files[stream]
        reading.held.pop(stream, None)
        reading.complaints.pop(file.path, None)

    def _hold(self, reading: _Reading, stream: str, file: _File) -> None:
        """Close the handles of the files that were read longest ago, lest there be too many."""
        reading.held.pop(stream, None)
        if file.content.open_fd() is None:
            return
        reading.held[stream] = file
        if len(reading.held) > _MAX_HANDLES:
            oldest = next((s for s, f in reading.held.items() if not f.gone), stream)
            reading.held.pop(oldest).content.close()

    def _complain_of(self, reading: _Reading, path: str, error: OSError) -> None:
        match error:
            case FileNotFoundError():
                reason = "vanished"
            case PermissionError():
                reason = "permission"
            case _:
                reason = "read"
        self._complain(reading, path, reason, f"{path}: cannot be read ({error.strerror}); it is tried again")

    def _complain(self, reading: _Reading, path: str, reason: str, detail: str) -> None:
        if reading.complaints.get(path) != reason:
            reading.complaints[path] = reason
            self._on_error(reason, detail)


def _is_at(path: str, identity: Identity) -> bool:
    try:
        return Identity.of(Path(path).stat()) == identity
    except OSError:
        return False


def _printable(path: str) -> str:
    """A path as text that can be stored and logged, whatever its bytes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
