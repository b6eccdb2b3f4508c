"""What each line is: an object, another JSON value, or no JSON at all.

Rows that are not plain are decoded one by one, which takes a few microseconds each. A body may hold a million lines
that are no rows: they are recognised here, at the pace of the other kernels.
"""

import numpy as np
import numpy.typing as npt
from numba import types

from kldrift.kernels import compilation
from kldrift.kernels.arguments import array_type, input_type
from kldrift.kernels.parsing.json_rows import PADDING
from kldrift.kernels.parsing.json_syntax import IN_LINE, MAX_DEPTH, next_line, skip_blanks, skip_value
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
