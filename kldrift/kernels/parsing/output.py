"""Where the values of rows go that a kernel reads: into columns, and from there into counts.

Where rows need not be told apart, the columns have room for a block of them only, which stays in the cache: once it is
full, or the rows have ended, it is counted, and used again. (To take each value to its cell as it is read was a
sixth slower: `fill` locates the values of a column several at a time.)
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types

from kldrift.kernels import compilation
from kldrift.kernels.bin_table import BinTable
from kldrift.kernels.fill import ALL_IN_SLOT_0, BLOCK, TABLE, fill_task, most_cells
from kldrift.kernels.memory import read_input, write_block
from kldrift.kernels.parsing.fields import Fields
from kldrift.kernels.words import piece
from kldrift.records.types import CodeArray, FloatArray, IntArray

#: Rows that are not plain, beyond a quarter of all, before it is not worth it.
FALLBACK_ROWS = 16

#: What the state of the output holds: rows so far, the body, rows that were left, whether the rest was given up.
ROWS, BODY, LEFT, GIVEN_UP = range(4)

_NAN = np.nan


class Output(NamedTuple):
    """Where the values of rows go.

    Parameters
    ----------
    stride : (1,) rows that there is room for in each column
    numbers : (n_numbers * stride,) float64, one column after another; NaN where missing
    codes : the same of the categorical columns
    times : (stride,) int64, milliseconds since 1970 of times in text, -1 where missing
    left : of each row that was left, three numbers: the row, where it begins and ends among the bodies; the columns
        hold anything there. When it is full, the rest is given up.
    ends : where each body ends
    n_rows : added to: rows of each body
    state : see `ROWS`
    """

    stride: IntArray
    numbers: FloatArray
    codes: CodeArray
    times: IntArray
    left: IntArray
    ends: IntArray
    n_rows: IntArray
    state: IntArray


class Counting(NamedTuple):
    """How the columns of the output are counted; nothing in it where they are not.

    Parameters
    ----------
    table : the bins of each column
    columns : the address of each
    counts : (1, 1, n_cells) int64, added to
    """

    table: BinTable
    columns: IntArray
    counts: IntArray


def _vector(dtype: Any) -> Any:
    return types.Array(dtype, 1, "C")


_INTEGERS = _vector(types.int64)
#: The types in kernels.
OUTPUT = types.NamedTuple([_INTEGERS, _vector(types.float64), _vector(types.int32), *[_INTEGERS] * 5], Output)
COUNTING = types.NamedTuple([TABLE, _INTEGERS, types.Array(types.int64, 3, "C")], Counting)


@piece
def put_code(out: Output, column: int, place: int, code: int) -> None:
    """The code of a category in one of the columns of its field."""
    write_block(out.codes, column * read_input(out.stride, 0) + place, np.int32(code))


@piece
def put_missing(fields: Fields, out: Output, field: int, place: int) -> None:
    """A field that the row does not have."""
    n_numbers = fields.counts[0]
    if field < n_numbers:
        write_block(out.numbers, field * read_input(out.stride, 0) + place, _NAN)
    elif field < n_numbers + np.int64(fields.first_columns.size):
        column = fields.first_columns[field - n_numbers]
        while column >= 0:
            put_code(out, column, place, fields.columns[3 * column + 2])
            column = fields.columns[3 * column]
    else:
        write_block(out.times, place, np.int64(-1))


@piece
def leave_row(out: Output, row: int, begin: int, end: int) -> bool:
    """Leave a row to the general decoder; False where there are too many of them, and the rest is given up."""
    n_left = out.state[LEFT]
    if n_left * 4 > row + 4 * FALLBACK_ROWS or 3 * n_left + 3 > out.left.size:
        out.state[GIVEN_UP] = 1
        return False
    out.left[3 * n_left] = row
    out.left[3 * n_left + 1] = begin
    out.left[3 * n_left + 2] = end
    out.state[LEFT] = n_left + 1
    return True


@compilation.jit
def count_rows(counting: Counting, n_rows: int) -> None:
    """Count the rows of the columns."""
    cells = np.empty(BLOCK, np.uint32)
    copies = np.empty(4 * most_cells(counting.table), np.int64)
    for column in range(counting.columns.size):
        fill_task(counting.table, counting.columns, n_rows, ALL_IN_SLOT_0, 1, counting.counts, column, cells, copies)
