"""Where records end in a run of bytes.

A record ends with a newline. In CSV a newline within double quotes does not end one: a newline ends a record when the
number of quotes before it, counted from the start of a record, is even (an escaped quote is two quotes, so it does not
change the parity; RFC 4180, section 2).
"""

from typing import Protocol

import numpy as np

_QUOTE = ord('"')
#: Bytes whose quotes are counted at once: what is made of them stays in the cache.
_BLOCK_BYTES = 64 << 10
#: Bytes looked at first, from the end of a window, for the last newline.
_PROBE_BYTES = 64 << 10


class Reader(Protocol):
    """Bytes with offsets, which may still grow at the end."""

    def available(self, offset: int, n: int) -> int:
        """How many of the `n` bytes from `offset` on are there now."""
        ...

    def read(self, offset: int, n: int) -> bytes:
        """The `n` bytes from `offset` on, of which all are available; fewer when they were truncated meanwhile."""
        ...


def records_end(data: bytes | bytearray, quoted: bool) -> int:
    """Length of the whole records at the front of `data`, which begins with a record; 0 when it holds none.

    Parameters
    ----------
    quoted : newlines within double quotes do not end a record
    """
    end = data.rfind(b"\n") + 1
    if not quoted:
        return end
    odd = _count_quotes(data, end) & 1
    while odd:
        # Newlines behind the last quote all have this parity: go on before it.
        before = data.rfind(b"\n", 0, data.rfind(b'"', 0, end)) + 1
        odd ^= data.count(b'"', before, end) & 1
        end = before
    return end


def _count_quotes(data: bytes | bytearray, end: int) -> int:
    """Quotes among the first `end` bytes; bytes.count takes five times as long where every cell is quoted."""
    if data.find(b'"', 0, end) < 0:
        return 0
    chars = np.frombuffer(data, np.uint8)[:end]
    return sum(
        int(np.count_nonzero(chars[start : start + _BLOCK_BYTES] == _QUOTE)) for start in range(0, end, _BLOCK_BYTES)
    )


def first_record_end(data: bytes | bytearray, quoted: bool) -> int:
    """Length of the first record of `data`; 0 when it does not end in it."""
    start, odd = 0, 0
    while end := data.find(b"\n", start) + 1:
        odd ^= data.count(b'"', start, end) & 1
        if not (quoted and odd):
            return end
        start = end
    return 0


def read_records(reader: Reader, offset: int, n: int, quoted: bool) -> bytes:
    """The whole records among the `n` bytes from `offset` on, which is where a record begins.

    The last newline is looked for from the back, so that the records are then read once, to their exact length: no copy
    is made to cut them off (this is half of the time of a plain file). Only where that newline is one within quotes,
    there is a copy after all.
    """
    n = reader.available(offset, n)
    if n <= _PROBE_BYTES:
        data = reader.read(offset, n)
        return data[: records_end(data, quoted)]
    high = n
    while high:
        low = max(0, high - _PROBE_BYTES)
        end = reader.read(offset + low, high - low).rfind(b"\n") + 1
        if end:
            data = reader.read(offset, low + end)
            # The file may have been truncated, and even written again, between the two reads.
            if len(data) != low + end or not data.endswith(b"\n"):
                return b""
            return data[: records_end(data, quoted)]  # all of it is no copy
        high = low
    return b""
