"""The content of one file of lines (NDJSON, CSV), and what every content does."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from kldrift.errors import SourceError
from kldrift.records.samples import RowRange
from kldrift.sources.base import ErrorCallback, Position
from kldrift.sources.framing import first_record_end, read_records
from kldrift.sources.readers import ArchiveReader, FileReader, PlainReader, archive_kind, fingerprint, hole_end
from kldrift.sources.recognition import Claim, Digest, alike, recognise

_SKIP_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Identity:
    """What stays the same when a file is renamed."""

    device: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Identity":
        """Return the identity of the file with this status."""
        return cls(status.st_dev, status.st_ino)

    @property
    def stream(self) -> str:
        """The key of the file's position."""
        return f"{self.device}:{self.inode}"


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole records of a file, the position after them, and how much is left behind them.

    Parameters
    ----------
    payload : empty where only the position moves, to go on behind what was read of another file
    continues : what was read of it
    """

    payload: bytes | RowRange
    position: Position
    header: bytes = b""
    lag_bytes: int | None = None
    lag_records: int | None = None
    continues: Claim | None = None


class Content(Protocol):
    """The records of a file, read as far as it goes now; a later call continues from there.

    `waits` says that nothing is read before another file was finished.
    """

    waits: bool

    def read(self, path: str, final: bool, settled: bool) -> Iterator[Piece | None]:
        """Yield what is new, and None from time to time while the work yields nothing.

        A file that was truncated or replaced is read from its beginning.

        Parameters
        ----------
        path : the file's current path
        final : nothing more will be written, so an incomplete last line is a record as well
        settled : nothing was written for a while, so an archive or a Parquet file that is incomplete now is an error

        Raises
        ------
        SourceError
            the content cannot be read
        OSError
            the file cannot be read
        """
        ...

    def open_fd(self) -> int | None:
        """Return the open handle on the file, if there is one."""
        ...

    def position(self) -> Position:
        """Return where the next read begins."""
        ...

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        ...


def open_file(path: str, identity: Identity) -> int:
    """Open the file of this name if it still is this one; returns the handle."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if Identity.of(os.fstat(fd)) != identity:
        os.close(fd)
        raise FileNotFoundError(2, "the file was just replaced", path)
    return fd


class LineContent:
    """Records that end with a newline, from a plain file, ``.gz`` or ``.zst``.

    An unfinished record is not kept in memory: it is read again when the file has grown.

    Parameters
    ----------
    identity : the file
    position : where to begin
    csv : the first record is a header, and newlines within quotes do not end a record
    chunk_bytes : how much to read at a time
    max_record_bytes : longer records are skipped
    on_error : called with each record that is skipped
    claims : returns what this file may continue if nothing of it was read, given whether it is an archive
    on_other_content : called when the file turns out not to hold what was read; returns whether to wait
    anew : read the file from its beginning if it does not continue another one
    """

    def __init__(
        self,
        identity: Identity,
        position: Position,
        csv: bool,
        chunk_bytes: int,
        max_record_bytes: int,
        on_error: ErrorCallback,
        claims: Callable[[bool], Sequence[Claim]],
        on_other_content: Callable[[], bool],
        anew: bool = True,
    ) -> None:
        self._identity = identity
        self._csv = csv
        self._chunk_bytes = chunk_bytes
        self._max_record_bytes = max(max_record_bytes, chunk_bytes)
        self._on_error = on_error
        self._claims = claims
        self._on_other_content = on_other_content
        self._anew = anew
        self._fd: int | None = None
        self._reader: FileReader | None = None
        self._header: bytes | None = None
        self._begin = 0
        self._skipping = False
        self._offset = int(position.get("offset", 0))
        self._mark = int(position.get("mark", self._offset))
        self._fingerprint = str(position.get("fingerprint", ""))
        self._complete = bool(position.get("complete", 0))
        # Of plain files. None: the position is of a version that kept none.
        self._digest = Digest(self._offset, int(position.get("head", 0)), int(position.get("sum", 0)))
        self._digested = "sum" in position or not self._offset
        self._modified_ns = int(position.get("modified", 0))
        self._size = int(position.get("size", 0))
        self._continues = str(position.get("continues", ""))
        self.waits = False
        self._like = ""  # what it waits for

    def open_fd(self) -> int | None:
        """Return the open handle on the file, if there is one."""
        return self._fd

    def position(self) -> Position:
        """Return the offset in decompressed bytes; for archives also `mark` and `complete`, else what is recognised."""
        position: dict[str, int | str] = {"offset": self._offset, "fingerprint": self._fingerprint}
        if self._mark != self._offset or self._complete:
            position |= {"mark": self._mark, "complete": int(self._complete)}
        elif self._digested:
            position |= {"head": self._digest.head, "sum": self._digest.total}
            position |= {"modified": self._modified_ns, "size": self._size}
        if self._continues:
            position["continues"] = self._continues
        return position

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd = self._reader = None

    def read(self, path: str, final: bool, settled: bool) -> Iterator[Piece | None]:
        """Yield the new records; see `Content`."""
        if self._fd is None:
            self._fd = open_file(path, self._identity)
        status = os.fstat(self._fd)
        size = status.st_size
        if size < self._mark or (self._mark and fingerprint(self._fd, self._mark) != self._fingerprint):
            self._start_over()
            if self._on_other_content():
                return
        self._size, self._modified_ns = size, status.st_mtime_ns
        if self._complete and size == self._mark:
            self.close()
            return
        if self._reader is None:
            self._reader = self._made_reader(self._fd, path)
        if not self._offset:
            yield from self._recognise(self._reader, path, settled)
            if self.waits or not (self._offset or self._anew):
                return
        reader = self._reader
        if self._offset <= self._begin or (self._csv and self._header is None):
            yield from self._skip_hole(reader, path)
        if self._csv and self._header is None and not self._read_header(reader, path, final):
            yield from self._at_end(reader, path, final, settled)
            return
        yield from reader.skip(self._offset)
        yield from self._read_on(reader, path, size)
        yield from self._at_end(reader, path, final, settled)

    def _start_over(self) -> None:
        self._offset = self._mark = self._begin = 0
        self._fingerprint = self._continues = ""
        self._complete = self._skipping = False
        self._digest, self._digested = Digest(), True
        self._reader = self._header = None

    def _made_reader(self, fd: int, path: str) -> FileReader:
        archive = archive_kind(fd, path)
        self._header = None
        self._digested = self._digested and archive is None
        return ArchiveReader(fd, archive, path) if archive else PlainReader(fd)

    def _recognise(self, reader: FileReader, path: str, settled: bool) -> Iterator[Piece | None]:
        """Go on behind what was read of another file, if this one begins with all of that.

        An archive is written while the file that it is made of is still there, and perhaps still read: that it begins
        alike is enough to wait for its end, and then for that of the file.
        """
        assert self._fd is not None, "a reader reads an open file"
        archived = isinstance(reader, ArchiveReader)
        claims = alike(reader, self._claims(archived))
        self.waits = (
            archived and bool(claims) and (not settled or any(c.open and c.stream == self._like for c in claims))
        )
        if self.waits or not claims:
            return
        found = yield from recognise(reader, claims)
        if isinstance(reader, ArchiveReader):
            if found is None and not reader.available(max(claim.offset for claim in claims), 1) and not reader.complete:
                self._require_whole(reader, path)
            reader = self._reader = self._made_reader(self._fd, path)
            self.waits = found is not None and found.open
            self._like = found.stream if found else ""
        if found is not None and not self.waits:
            yield from reader.skip(found.offset)
            reader.available(found.offset, 1)  # whether it ends there
            self._offset, self._continues = found.offset, found.stream
            self._digest = Digest(found.offset, int(found.position["head"]), int(found.position["sum"]))
            self._move(reader)
            self._reader = self._made_reader(self._fd, path)
            yield Piece(b"", self.position(), continues=found)

    def _skip_hole(self, reader: FileReader, path: str) -> Iterator[None]:
        """Find where the records begin. A hole may come, or grow, for as long as nothing has been read."""
        self._begin = yield from hole_end(reader, self._begin)
        if self._offset < self._begin:
            self._on_error(
                "hole",
                f"{path}: {self._begin} NUL bytes at its beginning were skipped, as are left where a file is truncated"
                " under a writer that does not append; let it open the file for appending",
            )
            self._digest.add_hole(self._begin - self._offset)
            self._offset = self._begin
            self._move(reader)

    def _read_header(self, reader: FileReader, path: str, final: bool) -> bool:
        """Read the first record; False if it is not complete yet."""
        want = min(_SKIP_BYTES, self._max_record_bytes)
        while True:
            n = reader.available(self._begin, want)
            data = reader.read(self._begin, n)
            end = first_record_end(data, quoted=True)
            if not end and n == want:
                if n >= self._max_record_bytes:
                    raise SourceError(
                        f"{path}: expected a CSV header, but the first record is longer than"
                        f" {self._max_record_bytes} bytes; check the format and the quotes of the first line",
                        "record_too_long",
                    )
                want = min(2 * want, self._max_record_bytes)
                continue
            if not end and b"\r" in data[:-1]:
                raise SourceError(line_ends(path), "line_ends")
            if not end and not (final and n):
                return False
            self._header = data[: end or n]
            self._advance(self._header if self._offset == self._begin else b"", reader)
            return True

    def _read_on(self, reader: FileReader, path: str, size: int) -> Iterator[Piece | None]:
        """Yield records up to the end of the file; for a plain file, up to the end it had when this began."""
        want = self._chunk_bytes
        while True:
            if self._skipping:
                if not self._skip_record(reader):
                    return
                yield None
                continue
            payload = read_records(reader, self._offset, want, self._csv)
            if payload:
                yield self._piece(payload, reader, size)
                want = self._chunk_bytes
                if reader.mark(self._offset) >= size and isinstance(reader, PlainReader):
                    return
            elif (n := reader.available(self._offset, want)) < want:
                if self._offset == self._begin and b"\r" in reader.read(self._offset, n)[:-1]:
                    raise SourceError(line_ends(path), "line_ends")
                return
            elif want < self._max_record_bytes:
                want = min(2 * want, self._max_record_bytes)
            else:
                payload = self._unclosed_line(reader, want) if self._csv else b""
                if payload:
                    self._on_error(
                        "unbalanced_quote",
                        f"{path}: offset {self._offset}: a quote is not closed within {want} bytes;"
                        " its line is taken as a record of its own",
                    )
                    yield self._piece(payload, reader, size)
                    want = self._chunk_bytes
                else:
                    self._on_error(
                        "record_too_long",
                        f"{path}: offset {self._offset}: expected a record of at most {want} bytes, but found"
                        " no end of line within them; the record is skipped",
                    )
                    self._skipping = True

    def _unclosed_line(self, reader: FileReader, n: int) -> bytes:
        data = reader.read(self._offset, n)
        return data[: data.find(b"\n") + 1]

    def _skip_record(self, reader: FileReader) -> bool:
        """Skip to the end of the record; False at the end of the file."""
        data = reader.read(self._offset, reader.available(self._offset, _SKIP_BYTES))
        end = data.find(b"\n") + 1
        self._skipping = not end
        self._advance(data[: end or len(data)], reader)
        return bool(data)

    def _at_end(self, reader: FileReader, path: str, final: bool, settled: bool) -> Iterator[Piece]:
        """Take an incomplete last line as a record if nothing can follow it."""
        archived = isinstance(reader, ArchiveReader)
        if isinstance(reader, ArchiveReader) and not reader.complete:
            if settled or reader.problem:
                self._require_whole(reader, path)
            return
        if (final or archived) and not self._skipping:
            n = reader.available(self._offset, self._max_record_bytes)
            rest = reader.read(self._offset, n)
            if b"\r" in rest.rstrip():
                self._on_error("line_ends", line_ends(path))
            if rest and (self._header is not None or not self._csv):
                yield self._piece(rest, reader, reader.mark(self._offset + n))
        if archived:
            self._move(reader)
            self.close()

    def _require_whole(self, reader: ArchiveReader, path: str) -> None:
        """Raise if an archive that nobody writes any more is not whole."""
        if reader.problem:
            raise reader.problem
        raise SourceError(
            f"{path}: expected a whole archive, but it ends early; the records before its end were read;"
            " replace the file",
            "truncated",
        )

    def _advance(self, data: bytes, reader: FileReader) -> None:
        """Move behind these bytes."""
        if self._digested:
            self._digest.add(data)
        self._offset += len(data)
        self._move(reader)

    def _move(self, reader: FileReader) -> None:
        assert self._fd is not None, "a reader reads an open file"
        self._mark = reader.mark(self._offset)
        self._complete = reader.ended(self._offset)
        self._fingerprint = fingerprint(self._fd, self._mark)

    def _piece(self, payload: bytes, reader: FileReader, size: int) -> Piece:
        self._advance(payload, reader)
        lag_bytes = max(0, size - self._offset) if isinstance(reader, PlainReader) else None
        return Piece(payload, self.position(), self._header or b"", lag_bytes)


def line_ends(path: str) -> str:
    """Say that the lines of a file end with carriage returns alone."""
    return (
        f"{path}: expected lines that end with a newline, got carriage returns alone; convert it, as with"
        " tr '\\r' '\\n' < old > new"
    )
