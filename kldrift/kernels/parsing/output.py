"""Where a kernel puts the values of the rows it reads: into columns, and from there into counts.

If rows do not have to be kept apart, the columns only have room for one block, which stays in the cache: once the block
is full, or the rows have ended, it is counted and used again. (Taking each value to its cell as it is read was a sixth
slower: `fill` locates several values of a column at a time.)
"""

from typing import NamedTuple

import numpy as np
from numba import types

from kldrift.kernels import compilation
from kldrift.kernels.arguments import array_type, tuple_type
from kldrift.kernels.bin_table import TABLE, BinTable
from kldrift.kernels.fill import ALL_IN_SLOT_0, BLOCK, Batch, fill_task, most_cells
from kldrift.kernels.memory import read_input, write_block
from kldrift.kernels.parsing.fields import Fields
from kldrift.kernels.words import piece
from kldrift.records.types import CodeArray, FloatArray, IntArray

#: Number of rows that may be left to the general decoder in addition to a quarter of all rows; with more of them, the
#: kernel is not worth it.
FALLBACK_ROWS = 16

#: Entries of the output's state: rows so far, the current body, rows left, whether the rest was given up, and rows
#: without a feature.
N_STATE = 5
ROWS, BODY, LEFT, GIVEN_UP, BARE = range(N_STATE)
#: Rows without a feature of each body whose place is noted, so that messages can show them.
SHOWN = 10

_NAN = np.nan


class Output(NamedTuple):
    """Where the values of rows go.

    Parameters
    ----------
    stride : (1,) number of rows that each column has room for
    numbers : (n_numbers * stride,) float64, one column after another; NaN where missing
    codes : int32, the categorical columns, laid out likewise
    times : (stride,) int64, milliseconds since 1970 of times given as text, -1 where missing
    left : three numbers for each row left to the general decoder: the row, and where it starts and ends in the bodies;
        the columns hold arbitrary values there. When it is full, the rest is given up.
    bare : the rows that hold no feature; the columns hold arbitrary values there
    shown : (n_bodies * 2 * SHOWN,) where the first of these rows of each body start and end in the bodies
    ends : where each body ends
    n_rows, n_bare : rows of each body, and those that hold no feature; added to
    state : see `ROWS`
    """

    stride: IntArray
    numbers: FloatArray
    codes: CodeArray
    times: IntArray
    left: IntArray
    bare: IntArray
    shown: IntArray
    ends: IntArray
    n_rows: IntArray
    n_bare: IntArray
    state: IntArray


class Counting(NamedTuple):
    """How to count the columns of the output; empty if they are not counted.

    Parameters
    ----------
    table : the bins of each column
    columns : the address of each column
    counts : (1, 1, n_cells) int64, added to
    """

    table: BinTable
    columns: IntArray
    counts: IntArray


#: Their types in kernels.
OUTPUT = tuple_type(Output, readonly=False)
COUNTING = types.NamedTuple([TABLE, array_type(np.int64), array_type(np.int64, 3)], Counting)


@piece
def put_code(out: Output, column: int, place: int, code: int) -> None:
    """Put the code of a category in one of the columns of its field."""
    write_block(out.codes, column * read_input(out.stride, 0) + place, np.int32(code))


@piece
def put_missing(fields: Fields, out: Output, field: int, place: int) -> None:
    """Put a missing value for a field that the row does not have."""
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
    """Leave a row to the general decoder; return False if there are too many of them, and give up the rest."""
    n_left = out.state[LEFT]
    if n_left * 4 > row + 4 * FALLBACK_ROWS or 3 * n_left + 3 > out.left.size:
        out.state[GIVEN_UP] = 1
        return False
    out.left[3 * n_left] = row
    out.left[3 * n_left + 1] = begin
    out.left[3 * n_left + 2] = end
    out.state[LEFT] = n_left + 1
    return True


@piece
def note_bare_row(out: Output, body: int, row: int, begin: int, end: int) -> bool:
    """Take note of a row that holds no feature; return False if there is no room, and give up the rest."""
    n_bare = out.state[BARE]
    if n_bare >= out.bare.size:
        out.state[GIVEN_UP] = 1
        return False
    out.bare[n_bare] = row
    out.state[BARE] = n_bare + 1
    if out.n_bare[body] < SHOWN:
        place = 2 * (body * SHOWN + out.n_bare[body])
        out.shown[place] = begin
        out.shown[place + 1] = end
    out.n_bare[body] += 1
    return True


@compilation.jit
def count_rows(counting: Counting, n_rows: int) -> None:
    """Count the rows in the columns."""
    cells = np.empty(BLOCK, np.uint32)
    copies = np.empty(4 * most_cells(counting.table), np.int64)
    batch = Batch(counting.columns, ALL_IN_SLOT_0, n_rows, 1)
    for column in range(counting.columns.size):
        fill_task(counting.table, batch, counting.counts, column, cells, copies)
