"""What each line, or each element of a list, is: an object, another JSON value, or no JSON at all.

Rows that are not plain are decoded one by one, which takes a few microseconds each. A body may hold a million lines
that are no rows: they are recognised here, at the pace of the other kernels.
"""

import numpy as np
import numpy.typing as npt
from numba import types

from kldrift.kernels import compilation
from kldrift.kernels.arguments import array_type, input_type
from kldrift.kernels.parsing.json_rows import PADDING, count_byte
from kldrift.kernels.parsing.json_syntax import (
    IN_LINE,
    IN_LIST,
    MAX_DEPTH,
    next_line,
    skip_blanks,
    skip_key,
    skip_value,
)
from kldrift.kernels.words import Bytes, byte_at, piece
from kldrift.records.types import IntArray

#: What a line is; `UNSURE` is nested too deeply to tell.
OBJECT, OTHER, MALFORMED, UNSURE = range(4)


@piece
def _is_deep(data: Bytes, at: int, end: int) -> bool:
    """Return whether a line has more brackets than are kept track of."""
    brackets = 0
    for i in range(at, end):
        byte = byte_at(data, i)
        brackets += 1 if byte == 91 or byte == 123 else 0
    return brackets > MAX_DEPTH


@compilation.kernel(input_type(np.uint8), types.int64, array_type(np.int64), array_type(np.int64), array_type(np.uint8))
def _sort_lines(data: Bytes, stop: int, starts: IntArray, stops: IntArray, kinds: npt.NDArray[np.uint8]) -> int:
    n_lines = 0
    at = 0
    while at < stop:
        end = next_line(data, at)
        first = skip_blanks(data, at, IN_LINE)
        if byte_at(data, first) != 10:
            after = skip_value(data, first, IN_LINE)
            if after >= 0 and skip_blanks(data, after, IN_LINE) == end - 1:
                kind = OBJECT if byte_at(data, first) == 123 else OTHER
            else:
                kind = UNSURE if _is_deep(data, first, end) else MALFORMED
            starts[n_lines], stops[n_lines], kinds[n_lines] = at, end - 1, kind
            n_lines += 1
        at = end
    return n_lines


def sort_lines(body: bytes, n_lines: int) -> tuple[IntArray, IntArray, npt.NDArray[np.uint8]]:
    """Return where the lines of a body start and stop, and what each is; lines of nothing but blanks are left out.

    Parameters
    ----------
    n_lines : how many there are, or more
    """
    data = np.frombuffer(body + b"\n" * PADDING, dtype=np.uint8)
    starts, stops = np.empty(n_lines, dtype=np.int64), np.empty(n_lines, dtype=np.int64)
    kinds = np.empty(n_lines, dtype=np.uint8)
    with compilation.ieee():
        n = _sort_lines(data, len(body), starts, stops, kinds)
    return starts[:n], stops[:n], kinds[:n]


@compilation.kernel(
    input_type(np.uint8), types.int64, types.int64, array_type(np.int64), array_type(np.int64), array_type(np.uint8)
)
def _sort_elements(
    data: Bytes, at: int, stop: int, starts: IntArray, stops: IntArray, kinds: npt.NDArray[np.uint8]
) -> int:
    n_elements = 0
    at = skip_blanks(data, at, IN_LIST)
    mark = 44
    if byte_at(data, at) == 93:
        mark = 93
        at += 1
    while mark == 44:
        at = skip_blanks(data, at, IN_LIST)
        end = skip_value(data, at, IN_LIST)
        if end < 0 or end > stop:
            return -1
        starts[n_elements], stops[n_elements] = at, end
        kinds[n_elements] = OBJECT if byte_at(data, at) == 123 else OTHER
        n_elements += 1
        at = skip_blanks(data, end, IN_LIST)
        mark = byte_at(data, at)
        at += 1
    return n_elements if mark == 93 and skip_blanks(data, at, IN_LIST) == stop else -1


def sort_elements(body: bytes, begin: int) -> tuple[IntArray, IntArray, npt.NDArray[np.uint8]] | None:
    """Return where the elements of a list start and stop, and what each is; None if it is no list or nested too deeply.

    Parameters
    ----------
    begin : the position after the bracket that opens the list
    """
    data = np.frombuffer(body + b"\0" * PADDING, dtype=np.uint8)
    with compilation.ieee():
        most = count_byte(data, ord(",")) + 1
        starts, stops = np.empty(most, dtype=np.int64), np.empty(most, dtype=np.int64)
        kinds = np.empty(most, dtype=np.uint8)
        n = _sort_elements(data, begin, len(body), starts, stops, kinds)
    return None if n < 0 else (starts[:n], stops[:n], kinds[:n])


@compilation.kernel(input_type(np.uint8), types.int64, types.int64, array_type(np.int64))
def _find_members(data: Bytes, at: int, stop: int, places: IntArray) -> int:
    n_members = 0
    at = skip_blanks(data, at, IN_LIST)
    mark = 44
    if byte_at(data, at) == 125:
        mark = 125
        at += 1
    while mark == 44:
        if 3 * n_members + 3 > places.size:
            return -1
        key = skip_blanks(data, at, IN_LIST)
        value = skip_key(data, key, IN_LIST)
        end = skip_value(data, value, IN_LIST) if value >= 0 else -1
        if end < 0 or end > stop:
            return -1
        places[3 * n_members], places[3 * n_members + 1], places[3 * n_members + 2] = key, value, end
        n_members += 1
        at = skip_blanks(data, end, IN_LIST)
        mark = byte_at(data, at)
        at += 1
    return n_members if mark == 125 and skip_blanks(data, at, IN_LIST) == stop else -1


def find_members(body: bytes, begin: int, most: int) -> IntArray | None:
    """Return (n, 3) where the key of each member of an object starts, and where its value starts and stops.

    None if it is no object, nested too deeply to tell, or has too many members.

    Parameters
    ----------
    begin : the position after the brace that opens the object
    most : members that it may have
    """
    places = np.empty(3 * most, dtype=np.int64)
    with compilation.ieee():
        n = _find_members(np.frombuffer(body + b"\0" * PADDING, dtype=np.uint8), begin, len(body), places)
    return None if n < 0 else places[: 3 * n].reshape(n, 3)
