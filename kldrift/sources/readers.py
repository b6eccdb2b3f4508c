"""Plain and compressed files as bytes with offsets."""

import os
import zlib
from collections.abc import Iterator
from hashlib import blake2b
from typing import Protocol

import zstandard

from kldrift.errors import SourceError

_FINGERPRINT_BYTES = 1024
_ARCHIVE_READ_BYTES = 64 << 10
# A zstd decoder gives all that its input holds at once, up to 32 KiB for each byte: small bites bound that.
_ZSTD_BITE_BYTES = 4 << 10
_GZIP_BITE_BYTES = 1 << 20


def fingerprint(fd: int, offset: int) -> str:
    """What tells a file that grew behind `offset` from another one in its place: a hash of the first 1 KiB and of the
    last 1 KiB before `offset`. The two together also notice a file that was truncated and written again past
    `offset` under the same header.
    """
    head = os.pread(fd, min(offset, _FINGERPRINT_BYTES), 0)
    start = max(0, offset - _FINGERPRINT_BYTES)
    return blake2b(head + os.pread(fd, offset - start, start), digest_size=8).hexdigest()


class FileReader(Protocol):
    """An open file as `framing.Reader`, with what a position needs to know."""

    def available(self, offset: int, n: int) -> int:
        """How many of the `n` bytes from `offset` on are there now."""
        ...

    def read(self, offset: int, n: int) -> bytes:
        """The `n` bytes from `offset` on."""
        ...

    def mark(self, offset: int) -> int:
        """How many bytes of the file itself were taken to come to `offset`."""
        ...

    def ended(self, offset: int) -> bool:
        """Whether `offset` is known to be the end, behind which nothing can follow (of an archive)."""
        ...

    def skip(self, offset: int) -> Iterator[None]:
        """Go to `offset`, in steps short enough to look at a stop flag between them."""
        ...


class PlainReader:
    """A file read as it is."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def available(self, offset: int, n: int) -> int:
        """How many of the `n` bytes from `offset` on are there now."""
        return max(0, min(n, os.fstat(self._fd).st_size - offset))

    def read(self, offset: int, n: int) -> bytes:
        """The `n` bytes from `offset` on; fewer when the file was truncated."""
        return os.pread(self._fd, n, offset)

    def mark(self, offset: int) -> int:
        """The offset itself."""
        return offset

    def ended(self, offset: int) -> bool:  # noqa: ARG002 - it may always grow
        """Never."""
        return False

    def skip(self, offset: int) -> Iterator[None]:  # noqa: ARG002 - any offset is at hand
        """Nothing to do."""
        return iter(())


class Inflater(Protocol):
    """One member (gzip) or frame (zstd) being decompressed."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def bite(self, data: bytes) -> tuple[bytes, bytes]:
        """Decompress a part of `data`: the bytes out of it, the input that is left."""
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
        """Input behind its end."""
        return self._inflate.unused_data

    def bite(self, data: bytes) -> tuple[bytes, bytes]:
        """Decompress up to 1 MiB."""
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
        """Input behind its end."""
        return self._inflate.unused_data

    def bite(self, data: bytes) -> tuple[bytes, bytes]:
        """Decompress 4 KiB of input."""
        return self._inflate.decompress(data[:_ZSTD_BITE_BYTES]), data[_ZSTD_BITE_BYTES:]


class ArchiveReader:
    """A compressed file, decompressed as it is read; offsets count decompressed bytes and only go forward.

    Holds the decompressed bytes from the last offset asked for on. An archive that is still being written goes on when
    its file has grown. In a corrupt one, what comes before the damage (but for the last MiB at most) can be read; then
    `problem` says what is wrong.

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
        """How many of the `n` bytes from `offset` on could be decompressed now."""
        self._forget(offset)
        # One byte more than asked for finds the end with the last records, not after them.
        while len(self._window) <= n and self._inflate():
            pass
        return min(n, len(self._window))

    def read(self, offset: int, n: int) -> bytes:
        """The `n` decompressed bytes from `offset` on."""
        at = offset - self._start
        return bytes(memoryview(self._window)[at : at + n])

    def mark(self, offset: int) -> int:  # noqa: ARG002 - the whole input is behind one offset
        """How many compressed bytes were read."""
        return self._raw_offset

    def ended(self, offset: int) -> bool:
        """Whether a member ended where the file ends, and `offset` is behind it."""
        return self.complete and offset >= self._start + len(self._window)

    def skip(self, offset: int) -> Iterator[None]:
        """Decompress up to `offset`."""
        while self._start + len(self._window) < offset and self._inflate():
            self._forget(min(offset, self._start + len(self._window)))
            yield None
        self._forget(offset)

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
