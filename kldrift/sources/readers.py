"""Plain and compressed files as bytes with offsets."""

import os
import zlib
from collections.abc import Generator, Iterator
from errno import ENXIO
from pathlib import Path
from typing import Protocol

import zstandard

from kldrift.errors import SourceError
from kldrift.sources.recognition import ENDS_BYTES, ends_hash

_ARCHIVE_READ_BYTES = 64 << 10
# A zstd decoder returns everything that its input holds at once, up to 32 KiB for each byte: small bites bound that.
_ZSTD_BITE_BYTES = 4 << 10
_GZIP_BITE_BYTES = 1 << 20
_HOLE_BYTES = 1 << 20


def fingerprint(fd: int, offset: int) -> str:
    """Return a hash of the first 1 KiB and of the last 1 KiB before `offset`.

    It distinguishes a file that grew beyond `offset` from a different file in its place. The two parts together also
    detect a file that was truncated and rewritten past `offset` under the same header.
    """
    head = os.pread(fd, min(offset, ENDS_BYTES), 0)
    start = max(0, offset - ENDS_BYTES)
    return ends_hash(head, os.pread(fd, offset - start, start))


class FileReader(Protocol):
    """An open file as a `framing.Reader`, with what a position records."""

    def available(self, offset: int, n: int) -> int:
        """Return how many of the `n` bytes from `offset` exist now."""
        ...

    def read(self, offset: int, n: int) -> bytes:
        """Return the `n` bytes from `offset`."""
        ...

    def mark(self, offset: int) -> int:
        """Return how many bytes of the file itself were consumed to reach `offset`."""
        ...

    def ended(self, offset: int) -> bool:
        """Return whether `offset` is known to be the end of an archive, so that nothing can follow."""
        ...

    def skip(self, offset: int) -> Iterator[None]:
        """Move to `offset`, in steps short enough to check a stop flag between them."""
        ...

    def data_from(self, offset: int) -> int:
        """Return `offset`, or the end of the hole that the file has there without storing it."""
        ...


def hole_end(reader: FileReader, offset: int) -> Generator[None, None, int]:
    """Return where the NUL bytes from `offset` end for now, in steps short enough to check a stop flag between them."""
    while True:
        offset = reader.data_from(offset)
        block = reader.read(offset, reader.available(offset, _HOLE_BYTES))
        data = block.lstrip(b"\0")
        offset += len(block) - len(data)
        if data or not block:
            return offset
        yield None


class PlainReader:
    """An uncompressed file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def available(self, offset: int, n: int) -> int:
        """Return how many of the `n` bytes from `offset` exist now."""
        return max(0, min(n, os.fstat(self._fd).st_size - offset))

    def read(self, offset: int, n: int) -> bytes:
        """Return the `n` bytes from `offset`; fewer if the file was truncated."""
        return os.pread(self._fd, n, offset)

    def mark(self, offset: int) -> int:
        """Return the offset itself."""
        return offset

    def ended(self, offset: int) -> bool:  # noqa: ARG002 - it may always grow
        """Return False: a plain file may always grow."""
        return False

    def skip(self, offset: int) -> Iterator[None]:  # noqa: ARG002 - any offset can be read
        """Do nothing: any offset can be read."""
        return iter(())

    def data_from(self, offset: int) -> int:
        """Return the end of a hole in a sparse file."""
        if os.pread(self._fd, 1, offset) == b"\0":
            try:
                return os.lseek(self._fd, offset, os.SEEK_DATA)
            except OSError as error:  # no data up to the end, or a file system that cannot tell
                if error.errno == ENXIO:
                    return max(offset, os.fstat(self._fd).st_size)
        return offset


class Inflater(Protocol):
    """One member (gzip) or frame (zstd) while it is decompressed."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def bite(self, data: bytes) -> tuple[bytes, bytes]:
        """Decompress a part of `data`; return the output and the rest of the input."""
        ...


class Gzip:
    """A gzip member."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        """Whether the member has ended."""
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        """Input after the end of the member."""
        return self._inflate.unused_data

    def bite(self, data: bytes) -> tuple[bytes, bytes]:
        """Decompress up to 1 MiB of output."""
        return self._inflate.decompress(data, _GZIP_BITE_BYTES), self._inflate.unconsumed_tail


class Zstandard:
    """A zstd frame."""

    def __init__(self) -> None:
        self._inflate = zstandard.ZstdDecompressor().decompressobj()

    @property
    def eof(self) -> bool:
        """Whether the frame has ended."""
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        """Input after the end of the frame."""
        return self._inflate.unused_data

    def bite(self, data: bytes) -> tuple[bytes, bytes]:
        """Decompress up to 4 KiB of input."""
        return self._inflate.decompress(data[:_ZSTD_BITE_BYTES]), data[_ZSTD_BITE_BYTES:]


class ArchiveReader:
    """A compressed file, decompressed as it is read; offsets count decompressed bytes and only move forward.

    It holds the decompressed bytes from the last requested offset onwards. An archive that is still being written
    continues once its file has grown. In a corrupt archive, everything before the damage can be read, except for the
    last MiB at most; then `problem` says what is wrong.

    Parameters
    ----------
    fd : the open file
    inflater : `Gzip` or `Zstandard`
    path : for error messages
    """

    def __init__(self, fd: int, inflater: type[Gzip] | type[Zstandard], path: str) -> None:
        self._fd = fd
        self._inflater = inflater
        self._path = path
        self._member: Inflater | None = None
        self._members_ended = 0
        self._raw = b""
        self._raw_offset = 0
        self._window = bytearray()
        self._start = 0
        self.complete = False
        self.problem: SourceError | None = None

    def available(self, offset: int, n: int) -> int:
        """Return how many of the `n` bytes from `offset` can be decompressed now."""
        self._forget(offset)
        # One byte more than requested finds the end together with the last records, not after them.
        while len(self._window) <= n and self._inflate():
            pass
        return min(n, len(self._window))

    def read(self, offset: int, n: int) -> bytes:
        """Return the `n` decompressed bytes from `offset`."""
        at = offset - self._start
        return bytes(memoryview(self._window)[at : at + n])

    def mark(self, offset: int) -> int:  # noqa: ARG002 - all of the input was consumed for one offset
        """Return how many compressed bytes were read."""
        return self._raw_offset

    def ended(self, offset: int) -> bool:
        """Return whether the last member ends where the file ends, with `offset` after it."""
        return self.complete and offset >= self._start + len(self._window)

    def skip(self, offset: int) -> Iterator[None]:
        """Decompress up to `offset`."""
        while self._start + len(self._window) < offset and self._inflate():
            self._forget(min(offset, self._start + len(self._window)))
            yield None
        self._forget(offset)

    def data_from(self, offset: int) -> int:
        """Return the offset itself: what is decompressed is stored."""
        return offset

    def _forget(self, offset: int) -> None:
        gone = min(offset - self._start, len(self._window))
        del self._window[:gone]
        self._start += gone

    def _inflate(self) -> bool:
        """Decompress a little more; False at the end of the file."""
        if self.problem:
            return False
        if not self._raw:
            self._raw = os.pread(self._fd, _ARCHIVE_READ_BYTES, self._raw_offset)
            self._raw_offset += len(self._raw)
            if not self._raw:
                self.complete = self._member is None and self._members_ended > 0
                return False
        self.complete = False
        if self._member is None:
            if self._members_ended:
                # Archives from tapes and block devices are padded with zeros; no member begins with one.
                self._raw = self._raw.lstrip(b"\0")
                if not self._raw:
                    return True
            self._member = self._inflater()
        try:
            data, self._raw = self._member.bite(self._raw)
        except (zlib.error, zstandard.ZstdError) as error:
            self.problem = SourceError(
                f"{self._path}: expected a whole {self._inflater.__name__.lower()} archive, but it is corrupt near its"
                f" byte {self._raw_offset} ({error}); replace the file",
                "corrupt",
            )
            return False
        self._window += data
        if self._member.eof:
            self._raw = self._member.unused_data + self._raw
            self._member = None
            self._members_ended += 1
        return True


#: Compression by the suffix of the name, or by the first bytes (a rotation may have appended a number to the name).
_ARCHIVES: dict[str, type[Gzip] | type[Zstandard]] = {".gz": Gzip, ".zst": Zstandard}
_MAGIC: dict[bytes, type[Gzip] | type[Zstandard]] = {b"\x1f\x8b\x08": Gzip, b"\x28\xb5\x2f\xfd": Zstandard}


def archive_kind(fd: int, path: str) -> type[Gzip] | type[Zstandard] | None:
    """Return how a file is compressed; None if it is not."""
    head = os.pread(fd, 4, 0)
    by_content = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    return by_content or _ARCHIVES.get(Path(path).suffix)
