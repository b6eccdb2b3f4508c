"""Files, read once or followed."""

import glob
import os
import stat
import threading
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path

from kldrift.errors import SourceError
from kldrift.records.formats import FORMATS
from kldrift.records.samples import MAX_CHUNK_NUMBERS, Chunk
from kldrift.records.sources import FileSourceConfig
from kldrift.sources.base import Position, Positions, Surroundings
from kldrift.sources.contents import Content, Identity, LineContent, Piece
from kldrift.sources.reading import DELETED, FINISHED, OpenFile, Reading, is_at, look_again, placed, printable
from kldrift.sources.recognition import Claim
from kldrift.sources.rotation import Sought, generations, renamed_to
from kldrift.sources.row_content import RowContent

# A chunk of a Parquet file has at most this many rows.
_MAX_CHUNK_ROWS = 1 << 16
#: A file that has not grown for this long is looked at once more: an archive may be cut short.
_QUIET_MS = 5_000
#: Files that have not grown for a while are looked at for as much of a core as this, but at least this often.
_LOOKING_SHARE = 0.02
_MAX_LATENCY_SECONDS = 10.0


class FileSource:
    """Files that match a pattern, in the order of their names.

    A stream is a file, whatever its name: its key is ``device:inode``, so a renamed file continues where it was.
    A position holds `path` (for the reader's benefit only), `device`, `inode`, `fingerprint` and `offset`, in
    decompressed bytes (lines), or `row` (rows). The fingerprint covers the bytes at the start of the file and those
    just before the offset. A file that was truncated, even one that has since grown past the offset, or a different
    file that got the same inode, is therefore read from its beginning. A file that replaces a deleted one under its
    name, and begins with all the bytes that were read of that (or is the same Parquet file), is read on from there:
    `head` and `sum` of a position cover them (`Digest`), and `modified` tells which was the last of a name.
    `state` is that of a file of which nothing more is expected.

    NDJSON and CSV files, plain, gzip or zstd, are read as lines; in CSV the first record names the columns
    (`Chunk.header`) and newlines within quotes do not end a record. Parquet files are complete as soon as they exist
    and are read as ranges of rows.

    A followed file is read as it grows, through renames and truncation; an incomplete last line waits for its
    newline. A file that was renamed, or that the pattern no longer matches, is still read through its open handle;
    once it has not grown for `rotate_wait_ms`, its incomplete last line is taken as a record. An archive that begins
    with all that was read of a file goes on behind that, once it is whole and the file was finished. A file that is
    not where it was, after a restart or a truncation, is looked for beside its name (`sources/rotation.py`), and what
    was not read of it is read first. The plain copies that copy-truncate makes are separate files with the same
    records: the pattern must not match them.

    `on_error` is called for each file that cannot be read and for each record that is skipped, with a reason out of
    `not_found`, `vanished`, `permission`, `read`, `not_a_file`, `corrupt`, `truncated`, `unreadable`,
    `record_too_long`, `unbalanced_quote`, `line_ends` and `hole`: once per file and reason, until the file can be read
    again.

    Parameters
    ----------
    count_rows : counts the rows of a file that is read by row ranges; raises `KldriftError` or `OSError` if it cannot
    chunk_bytes : how much of a file to read at a time
    rows_per_chunk : rows of a `RowRange`; None: as many as fit in memory, given how much is read from each row
    max_record_bytes : longer records are skipped
    poll_seconds : time between two looks for new data; of thousands of files, those that have not grown for 10 s are
        looked at less often, so that it takes 2 % of a core, but at least every 10 s
    wait : waits until the event is set, for at most the given number of seconds
    """

    def __init__(
        self,
        config: FileSourceConfig,
        surroundings: Surroundings,
        *,
        count_rows: Callable[[Path], int] | None = None,
        chunk_bytes: int = 8 << 20,
        rows_per_chunk: int | None = None,
        max_record_bytes: int = 16 << 20,
        poll_seconds: float = 0.25,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        info = FORMATS[config.format]
        if info.framing == "rows" and count_rows is None:
            raise ValueError(f"{config.format} files need count_rows")
        self.name = config.name
        self._pattern = config.path
        self._header = info.header
        self._follow = config.follow and not surroundings.once
        self._clock_ms = surroundings.clock_ms
        self._on_error = surroundings.on_error
        self._on_lost = surroundings.on_lost
        self._chunk_bytes = chunk_bytes
        self._rows_per_chunk = rows_per_chunk or max(
            1, min(_MAX_CHUNK_ROWS, MAX_CHUNK_NUMBERS // max(1, surroundings.row_numbers))
        )
        self._count_rows = count_rows if info.framing == "rows" else None
        self._max_record_bytes = max_record_bytes
        self._poll_seconds = poll_seconds
        self._rotate_wait_ms = config.rotate_wait_ms
        self._wait = wait

    def chunks(self, positions: Positions, stop: threading.Event) -> Generator[Chunk | None, None, None]:
        """Yield the records of every file; see `Source`.

        Raises
        ------
        SourceError
            not followed: no file matches (`not_found`), or, after the last file, some could not be read to their
            end (`incomplete`; each was passed to `on_error`)
        """
        reading = Reading(positions, stop, self._on_error)
        try:
            yield from self._follow_files(reading) if self._follow else self._read_once(reading)
        finally:
            reading.close()

    def _read_once(self, reading: Reading) -> Iterator[Chunk | None]:
        paths = self._paths()
        if not paths:
            raise SourceError(
                f"expected files that match {self._pattern!r}, found none; check the path and the working directory",
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

    def _follow_files(self, reading: Reading) -> Iterator[Chunk | None]:
        passes = 0  # until all files are looked at
        active: list[tuple[str, OpenFile]] = []
        while not reading.stop.is_set():
            passes -= 1
            if passes < 0 or reading.sought or not look_again(active):
                began = time.thread_time()
                self._scan(reading)
                active = [pair for pair in reading.files.items() if not pair[1].is_idle(self._clock_ms())]
                cost = 0.0 if reading.first_pass else time.thread_time() - began
                passes = int(min(cost / _LOOKING_SHARE, _MAX_LATENCY_SECONDS) / self._poll_seconds)
            reading.n_bytes = 0
            for stream, file in active:
                if reading.files.get(stream) is file:
                    yield from self._follow_file(reading, stream, file)
                if reading.stop.is_set():
                    return
            reading.first_pass = False
            yield from self._give_up(reading)
            # Waiting even while a little arrives gathers lines written one by one into chunks worth decoding.
            if reading.n_bytes < self._chunk_bytes:
                yield None
                self._wait(reading.stop, self._poll_seconds)

    def _paths(self) -> list[str]:
        if os.path.lexists(self._pattern):
            return [self._pattern]
        return sorted(glob.glob(self._pattern, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern

    def _scan(self, reading: Reading) -> None:
        """Find new files, new names of known files, and files that have gone."""
        paths = self._paths()
        if paths:
            reading.complaints.pop("", None)
        elif not reading.files:
            reading.complain(
                "",
                "not_found",
                f"expected files that match {self._pattern!r}, found none yet; files that appear will be read",
            )
        in_sight = {stream for path in paths for stream, file in [self._look_at(reading, path)] if file}
        for stream, file in list(reading.files.items()):
            if stream not in in_sight and not file.gone:
                file.gone, file.quiet_since_ms, file.settled = True, self._clock_ms(), False
                # Another one may have had its name, and have been rotated away as well, since the last look.
                self._take_up_rotated(reading, file.path, file.status.st_mtime_ns, anew=True)
                file.path = self._current_path(reading, stream, file)
        if reading.first_pass:
            for stream, position in reading.open_positions():
                if stream not in reading.files:
                    self._seek(reading, stream, position)

    def _current_path(self, reading: Reading, stream: str, file: OpenFile) -> str:
        """Return the name under which a file whose handle was closed can be read on, out of the pattern."""
        position = reading.position(stream)
        if file.content.open_fd() is not None or "sum" not in position:
            return file.path
        path = renamed_to(stream, position)
        file.aside = path is not None
        return path or file.path

    def _seek(self, reading: Reading, stream: str, position: Position) -> bool:
        """Read the rest of a file that is no longer where it was first; returns whether it is looked for in others.

        It is beside its old name: under another one, or its bytes are in a copy or an archive. Files that were rotated
        away since it was read, while nothing was, are read from their beginning.
        """
        path = renamed_to(stream, position)
        if path is not None and stream not in reading.files:
            self._set_aside(reading, path, Path(path).stat(), anew=False)
        if "sum" not in position:
            return False
        among = self._take_up_rotated(
            reading, str(position["path"]), int(position["modified"]), anew=reading.first_pass
        )
        claim = Claim(stream, position)
        if path is None and not reading.is_continued(stream, claim.offset, among):
            reading.sought[stream] = Sought(claim, among - {stream})
        return bool(stream in reading.sought and reading.sought[stream].among)

    def _take_up_rotated(self, reading: Reading, path: str, since_ns: int, anew: bool) -> set[str]:
        """Take up what `path` may have become since; with `anew`, what was changed later is read from its beginning."""
        streams = set()
        for other, status in generations(path, since_ns):
            stream = Identity.of(status).stream
            if reading.is_wanted(stream):
                self._set_aside(reading, other, status, anew and status.st_mtime_ns > since_ns)
            streams.add(stream)
        return streams

    def _set_aside(self, reading: Reading, path: str, status: os.stat_result, anew: bool) -> None:
        """Read a file that the pattern does not match, before those that it matches."""
        others, reading.files = reading.files, {}
        file = self._take_up(reading, path, status, anew)
        file.gone = file.aside = True
        reading.files |= others

    def _give_up(self, reading: Reading) -> Iterator[Chunk]:
        """Report the files whose rest is nowhere."""
        for stream, sought in list(reading.sought.items()):
            if any(other in reading.files and not reading.files[other].decided for other in sought.among):
                continue
            del reading.sought[stream]
            path = str(sought.claim.position["path"])
            if not os.path.lexists(path):  # it may come back, as a file system that is not mounted yet
                continue
            self._on_lost(
                sought.known_loss,
                f"{path}: expected to read on behind byte {sought.claim.offset}, but another file took its place, or it"
                f" was truncated, and its rest was not found beside it; at least {sought.known_loss} bytes are lost;"
                " keep rotated files in its folder until they were read, and rotate by renaming",
            )
            if stream not in reading.files:
                yield self._mark(reading, stream, {**sought.claim.position, "state": FINISHED})

    def _look_at(self, reading: Reading, path: str) -> tuple[str, OpenFile | None]:
        """Return the file of this name, if there is a readable one."""
        try:
            status = os.stat(path)  # noqa: PTH116 - fast enough for a thousand files at each poll
        except OSError as error:
            reading.complain_of(path, error)
            return "", None
        if stat.S_ISDIR(status.st_mode) and path != self._pattern:
            return "", None
        if not stat.S_ISREG(status.st_mode):
            reading.complain(path, "not_a_file", f"{path}: not a regular file; name files, as in DIR/*.ndjson")
            return "", None
        identity = Identity.of(status)
        file = reading.files.get(identity.stream)
        if file is None:
            file = self._take_up(reading, path, status)
        elif file.path != path and (file.gone or not is_at(file.path, identity)):
            file.path, file.renamed, file.settled = path, True, False
            file.quiet_since_ms = self._clock_ms()
        file.gone, file.status = False, status
        return identity.stream, file

    def _take_up(self, reading: Reading, path: str, status: os.stat_result, anew: bool = True) -> OpenFile:
        identity = Identity.of(status)
        position = reading.position(identity.stream)
        if not position:
            reading.has_other_content(identity.stream)
        claims = partial(reading.claims, identity.stream, path)
        content: Content
        if self._count_rows is not None:
            content = RowContent(identity, position, self._count_rows, self._rows_per_chunk, claims)
        else:
            content = LineContent(
                identity,
                position,
                self._header,
                self._chunk_bytes,
                self._max_record_bytes,
                self._on_error,
                claims,
                partial(self._has_other_content, reading, identity.stream),
                anew,
            )
        renamed = bool(position) and position.get("path") != printable(path)
        file = OpenFile(path, content, self._clock_ms(), status, renamed=renamed)
        reading.files[identity.stream] = file
        return file

    def _has_other_content(self, reading: Reading, stream: str) -> bool:
        """Remember what was read of a truncated file, or one whose inode is in use again; look for its rest."""
        before = reading.position(stream)
        reading.has_other_content(stream)
        reading.files[stream].renamed = False
        return self._follow and "sum" in before and "state" not in before and self._seek(reading, stream, before)

    def _follow_file(self, reading: Reading, stream: str, file: OpenFile) -> Iterator[Chunk | None]:
        """Read what is new in a file; once it is quiet, finish it if nothing more can follow."""
        if stream in reading.sought:  # its position may be needed until the rest of the old content was found
            file.seen = None
            return
        if file.gone:
            fd = file.content.open_fd()
            if fd is not None:
                file.status = os.fstat(fd)
            elif not file.aside:
                reading.let_go(stream, file, deleted=False)
                return
        now = (file.status.st_size, file.status.st_mtime_ns)
        if now != file.seen:
            file.seen, file.settled, file.quiet_since_ms = now, False, self._clock_ms()
            yield from self._read_file(reading, stream, file, final=False)
            return
        left = file.renamed or file.gone
        wait_ms = self._rotate_wait_ms if left and not file.content.waits else _QUIET_MS
        if not file.settled and self._clock_ms() - file.quiet_since_ms >= wait_ms:
            file.settled = True
            yield from self._read_file(reading, stream, file, final=left)
            file.settled = not file.content.waits
            if left and not file.content.waits and not reading.stop.is_set():
                yield from self._finish(reading, stream, file)

    def _finish(self, reading: Reading, stream: str, file: OpenFile) -> Iterator[Chunk]:
        """Store that a file which its writer has left was read to its end, and let go of it if it is out of sight."""
        before, whole = reading.position(stream), file.path not in reading.complaints
        state = DELETED if file.deleted else FINISHED
        if file.gone:
            reading.let_go(stream, file, deleted=state == DELETED)
        if before and whole and before.get("state") != state:
            yield self._mark(reading, stream, {**before, "state": state})

    def _read_file(self, reading: Reading, stream: str, file: OpenFile, final: bool) -> Iterator[Chunk | None]:
        try:
            for piece in file.content.read(file.path, final, file.settled):
                claim = piece.continues if piece else None
                if claim and claim.replaced and claim.stream != stream:  # not if the inode is in use again
                    old = reading.superseded(claim.stream, file)
                    yield None if old is None else self._mark(reading, claim.stream, old)
                yield None if piece is None else self._chunk(reading, stream, file, piece)
                sought = reading.sought.pop(claim.stream, None) if claim else None
                if sought and claim and not claim.replaced and claim.stream not in reading.files:
                    yield self._mark(reading, claim.stream, {**claim.position, "state": FINISHED})
                if reading.stop.is_set():
                    return
        except SourceError as error:
            # The same bytes would fail the same way: read the file again only once it has changed.
            file.content.close()
            reading.complain(file.path, error.reason, str(error))
        except OSError as error:
            file.content.close()
            file.seen = None
            reading.complain_of(file.path, error)
            if file.aside:
                reading.let_go(stream, file, deleted=False)
        else:
            reading.complaints.pop(file.path, None)
            reading.hold(stream, file)

    def _chunk(self, reading: Reading, stream: str, file: OpenFile, piece: Piece) -> Chunk:
        if isinstance(piece.payload, bytes):
            reading.n_bytes += len(piece.payload)
        position = placed(stream, file.path, piece.position)
        reading.moved(stream, position)
        return Chunk(
            stream=stream,
            position=position,
            payload=piece.payload,
            arrival_ms=self._clock_ms(),
            lag_records=piece.lag_records,
            header=piece.header,
            lag_bytes=piece.lag_bytes,
        )

    def _mark(self, reading: Reading, stream: str, position: Position) -> Chunk:
        """Store the state of a file of which nothing is read."""
        reading.moved(stream, position)
        return Chunk(stream, position, b"", self._clock_ms())
