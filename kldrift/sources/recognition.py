"""Whether a file begins with all that was read of another one: it is that one written anew, or its archive."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from zlib import crc32

import numpy as np

from kldrift.sources.base import Position
from kldrift.sources.framing import Reader

#: Length of the parts at the beginning and before the end that are hashed by themselves.
ENDS_BYTES = 1024
_STEP_BYTES = 1 << 20
_WORD = 8
#: All of the first MiB is summed up, and an eighth of what follows: of each span, the first part.
_WHOLE_BYTES = 1 << 20
_SPAN_BYTES = 512 << 10
_PART_BYTES = 64 << 10


def ends_hash(head: bytes, tail: bytes) -> str:
    """Return a hash of the first and of the last KiB of some bytes."""
    return blake2b(head + tail, digest_size=8).hexdigest()


@dataclass(slots=True)
class Digest:
    """What identifies the first `length` bytes of a file, whatever the pieces in which they were added.

    `head` is a CRC of the first KiB, `total` a sum of 64-bit little-endian words: of all in the first MiB, and of the
    first 64 KiB of each 512 KiB behind that. With the hash of both ends, it decides whether two files are the same up
    to some place, and it continues from a stored position. To sum up everything would double the time of reading a
    large file, since a chunk has left the cache by then (270 MB: 40 to 60 ms more, instead of 10). So a file with a few
    bytes edited between the parts of its predecessor is read on, too.
    """

    length: int = 0
    head: int = 0
    total: int = 0

    def add(self, data: bytes) -> None:
        """Add the bytes that follow."""
        self._add_head(data)
        start, view = self.length, memoryview(data)
        at, end = start, start + len(data)
        while at < end:
            span = at - at % _SPAN_BYTES
            stop = min(end, _WHOLE_BYTES if at < _WHOLE_BYTES else span + _PART_BYTES)
            if at < stop:
                self._add_words(view[at - start : stop - start], at)
            at = stop if at < _WHOLE_BYTES else span + _SPAN_BYTES
        self.length = end

    def _add_words(self, data: memoryview, at: int) -> None:
        phase = at % _WORD
        lead = data[: -phase % _WORD]
        n_words = (len(data) - len(lead)) // _WORD
        rest = data[len(lead) + n_words * _WORD :]
        total = self.total + (int.from_bytes(lead, "little") << 8 * phase) + int.from_bytes(rest, "little")
        if n_words:
            total += int(np.frombuffer(data, "<u8", n_words, len(lead)).sum())
        self.total = total % (1 << 64)

    def add_hole(self, n: int) -> None:
        """Add NUL bytes."""
        self._add_head(bytes(min(n, ENDS_BYTES)))
        self.length += n

    def _add_head(self, data: bytes) -> None:
        if self.length < ENDS_BYTES:
            self.head = crc32(data[: ENDS_BYTES - self.length], self.head)


@dataclass(frozen=True, slots=True)
class Claim:
    """The position in a file that another one may continue.

    Parameters
    ----------
    replaced : the other one has its name, and took its place
    open : it is still being read
    """

    stream: str
    position: Position
    replaced: bool = False
    open: bool = False

    @property
    def offset(self) -> int:
        """How much of it was read."""
        return int(self.position["offset"])


def recognise(reader: Reader, claims: Sequence[Claim]) -> Generator[None, None, Claim | None]:
    """Return the longest claim that these bytes begin with, in steps short enough to check a stop flag between them."""
    head = reader.read(0, reader.available(0, ENDS_BYTES))
    digest, tail, found = Digest(), b"", None
    for claim in sorted(claims, key=lambda claim: claim.offset):
        while digest.length < claim.offset:
            n = reader.available(digest.length, min(_STEP_BYTES, claim.offset - digest.length))
            data = reader.read(digest.length, n)
            if not data:
                return found
            digest.add(data)
            tail = (tail + data if len(data) < ENDS_BYTES else data)[-ENDS_BYTES:]
            yield None
        same_ends = ends_hash(head[: claim.offset], tail) == claim.position["fingerprint"]
        if same_ends and digest.total == claim.position["sum"]:
            found = claim
    return found


def alike(reader: Reader, claims: Sequence[Claim]) -> list[Claim]:
    """Return the claims whose first KiB is the one of these bytes."""
    head = reader.read(0, reader.available(0, ENDS_BYTES)) if claims else b""
    heads: dict[int, int] = {}  # of each length
    found = []
    for claim in claims:
        n = min(claim.offset, ENDS_BYTES)
        if n not in heads:
            heads[n] = crc32(head[:n])
        if 0 < n <= len(head) and heads[n] == claim.position["head"]:
            found.append(claim)
    return found
