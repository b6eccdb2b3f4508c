"""Where the records of CSV are, and which of them are certainly none.

The rules are those of Python's csv module (strict), which decodes the records that are not plain, one by one at a few
microseconds each. A body may hold a million lines that are no records: they are recognised here, at the pace of the
other kernels.
"""

import numpy as np
import numpy.typing as npt
from numba import types

from kldrift.kernels import compilation
from kldrift.kernels.arguments import array_type, input_type
from kldrift.kernels.parsing.csv_records import MAX_RECORD_BYTES, MAX_RECORD_LINES, line_end
from kldrift.kernels.parsing.json_rows import PADDING
from kldrift.kernels.parsing.json_syntax import utf8_length
from kldrift.kernels.words import Bytes, byte_at, piece
from kldrift.records.types import IntArray

_START, _PLAIN, _QUOTED, _CLOSED, _RETURN = range(5)


@piece
def _count_fields(data: Bytes, at: int, end: int) -> int:
    """Return the number of fields of a record; 0 if it is none, negative if they are not all UTF-8.

    Parameters
    ----------
    end : of the record, without its newline
    """
    fields = 1
    valid = True
    state = _START
    n_chars = 0
    while at < end:
        byte = byte_at(data, at)
        if byte >= 0x80:
            length = utf8_length(data, at)
            valid = valid and length > 0
            at += length - 1 if length > 0 else 0
        n_chars += 1
        if state == _QUOTED:
            if byte == 34:
                state = _CLOSED
                n_chars -= 1
        elif byte == 44 and state != _RETURN:
            fields += 1
            state = _START
            n_chars = 0
        elif byte == 10:  # the record would end before its last line
            return 0
        elif byte == 13:
            state = _RETURN
        elif byte == 34 and state == _START:
            state = _QUOTED
            n_chars = 0
        elif byte == 34 and state == _CLOSED:
            state = _QUOTED
        elif state in (_CLOSED, _RETURN):
            return 0
        else:
            state = _PLAIN
        if n_chars > MAX_RECORD_BYTES and state != _RETURN:
            return 0
        at += 1
    if state == _QUOTED:
        return 0
    return fields if valid else -fields


@compilation.kernel(
    input_type(np.uint8),
    types.int64,
    types.int64,
    array_type(np.int64),
    array_type(np.int64),
    array_type(np.bool_),
)
def _sort_records(
    data: Bytes, stop: int, width: int, starts: IntArray, stops: IntArray, good: npt.NDArray[np.bool_]
) -> tuple[int, int]:
    n_records = 0
    longest = MAX_RECORD_LINES
    first_cut = -1
    at = 0
    while at < stop:
        end, even = line_end(data, at)
        byte = byte_at(data, at)
        if byte == 10 or (byte == 13 and end == at + 2):
            at = end
            continue
        first_end = end
        n_lines = 1
        while not even and end < stop and n_lines < longest:
            end, also_even = line_end(data, end)
            even = even == also_even
            n_lines += 1
        last = end - 1
        if last > at and byte_at(data, last - 1) == 13:
            last -= 1
        fields = _count_fields(data, at, last) if even else 0
        if fields == 0 and n_lines > 1:  # from here on, no record spans lines
            end = first_end
            longest = 1
            if first_cut < 0:
                first_cut = n_records
        starts[n_records], stops[n_records], good[n_records] = at, end - 1, fields == width
        n_records += 1
        at = end
    return n_records, n_records if first_cut < 0 else first_cut + 1


def sort_records(data: bytes, width: int, n_lines: int) -> tuple[IntArray, IntArray, npt.NDArray[np.bool_], int]:
    """Return where the records start and stop, which may be good, and from which one on none may span lines.

    Blank lines are left out. A record with as many fields as it should have may still be none for other reasons.

    Parameters
    ----------
    width : fields of a record
    n_lines : how many lines there are, or more
    """
    padded = np.frombuffer(data + b"\n" * PADDING, dtype=np.uint8)
    starts, stops = np.empty(n_lines, dtype=np.int64), np.empty(n_lines, dtype=np.int64)
    good = np.empty(n_lines, dtype=np.bool_)
    with compilation.ieee():
        n, first_cut = _sort_records(padded, len(data), width, starts, stops, good)
    return starts[:n], stops[:n], good[:n], first_cut
