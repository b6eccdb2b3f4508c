"""The content of one file of a format that is not a stream of bytes: ranges of rows (Parquet)."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kldrift.errors import KldriftError, SourceError
from kldrift.records.samples import RowRange
from kldrift.sources.base import Position
from kldrift.sources.contents import Identity, Piece, open_file
from kldrift.sources.readers import fingerprint
from kldrift.sources.recognition import Claim


class RowContent:
    """Rows of a file that is complete as soon as it exists (Parquet).

    A file that was written again is read from its beginning. It is recognized by its size and by its first and last
    1 KiB, where such formats keep their index.

    Parameters
    ----------
    identity : the file
    position : where to begin
    count_rows : counts the rows of a file; raises `KldriftError` or `OSError` if it cannot
    rows_per_piece : number of rows to hand over at a time
    claims : returns what this file may continue if nothing of it was read, given whether it is an archive
    """

    def __init__(
        self,
        identity: Identity,
        position: Position,
        count_rows: Callable[[Path], int],
        rows_per_piece: int,
        claims: Callable[[bool], Sequence[Claim]],
    ) -> None:
        self._identity = identity
        self._count_rows = count_rows
        self._rows_per_piece = rows_per_piece
        self._claims = claims
        self._row = int(position.get("row", 0))
        self._size = int(position.get("size", -1))
        self._fingerprint = str(position.get("fingerprint", ""))
        self._modified_ns = int(position.get("modified", 0))
        self.waits = False

    def open_fd(self) -> None:
        """Return None: rows are read by path, without an open handle."""
        return

    def close(self) -> None:
        """Do nothing: no handle is open."""

    def position(self) -> Position:
        """Return the next row, with what recognizes the file."""
        return {
            "row": self._row,
            "size": self._size,
            "fingerprint": self._fingerprint,
            "modified": self._modified_ns,
        }

    def read(self, path: str, final: bool, settled: bool) -> Iterator[Piece | None]:  # noqa: ARG002 - rows are always complete
        """Yield the rows that were not read yet; see `Content`."""
        fd = open_file(path, self._identity)
        try:
            status = os.fstat(fd)
            size, self._modified_ns = status.st_size, status.st_mtime_ns
            now = fingerprint(fd, size)
        finally:
            os.close(fd)
        try:
            n_rows = self._count_rows(Path(path))
        except KldriftError as error:
            if not settled:
                return
            raise SourceError(f"{path}: {error}", "unreadable") from error
        if (size, now) != (self._size, self._fingerprint):
            self._row, self._size, self._fingerprint = 0, size, now
            for claim in self._claims(False):
                if (claim.position["size"], claim.position["fingerprint"]) == (size, now):
                    self._row = int(claim.position["row"])
                    yield Piece(b"", self.position(), continues=claim)
        while self._row < n_rows:
            start, self._row = self._row, min(self._row + self._rows_per_piece, n_rows)
            yield Piece(RowRange(Path(path), start, self._row), self.position(), lag_records=n_rows - self._row)
