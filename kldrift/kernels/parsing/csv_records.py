"""Records of CSV to columns or counts in a single pass over the bytes.

The place of a cell determines its field, so what to do with each cell is worked out once for each header: see `Cells`.
A number is parsed where its cell starts and has to end where the cell ends; every other cell ends at the next comma,
which is searched for by words, as in `json_rows`.

Plain records are read here: numbers as JSON writes them, with or without blanks around them, what stands for a missing
one, texts, times in the usual
form, all of them with or without quotes and with commas and newlines inside; and any cell that is not wanted. A record
with anything else is left to the general decoder, provided that it is certain to be on one line, which its number of
quotes tells. Otherwise its end depends on how the general decoder reads it, and everything is given up.

The kernel may look at up to `json_rows.PADDING` bytes after a record, so that many must follow the last one.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import config, types

from kldrift.kernels import compilation
from kldrift.kernels.arguments import input_type, tuple_type
from kldrift.kernels.memory import read_input, write_block
from kldrift.kernels.parsing.decimal import parse_number
from kldrift.kernels.parsing.fields import FIELDS, Fields, find_category, is_missing
from kldrift.kernels.parsing.json_syntax import utf8_length
from kldrift.kernels.parsing.output import (
    BODY,
    COUNTING,
    GIVEN_UP,
    OUTPUT,
    ROWS,
    Counting,
    Output,
    count_rows,
    leave_row,
    put_code,
)
from kldrift.kernels.parsing.values import read_instant
from kldrift.kernels.words import Bytes, byte_at, piece, piece_apart, trailing_zeros, word_at
from kldrift.records.types import IntArray

#: What is done with a cell.
NUMBER, CATEGORY, TIME, SKIP = range(4)
#: Maximum number of lines and bytes in a record; the general decoder takes no larger cell.
MAX_RECORD_LINES = 1000
MAX_RECORD_BYTES = 131_072

#: Returned in place of the end of a record: it is not plain; the data ends before it does.
_NOT_PLAIN, _NOT_WHOLE = -1, -2

_N0, _N1, _N7, _N56 = (np.uint64(n) for n in (0, 1, 7, 56))
_ONES = np.uint64(0x0101010101010101)
_HIGH_BITS = np.uint64(0x8080808080808080)
_SEVENS = np.uint64(0x7F7F7F7F7F7F7F7F)
_COMMAS = np.uint64(0x2C2C2C2C2C2C2C2C)
_QUOTES = np.uint64(0x2222222222222222)
_NEWLINES = np.uint64(0x0A0A0A0A0A0A0A0A)
_SPACES = np.uint64(0x2020202020202020)
_NAN = np.nan


class Cells(NamedTuple):
    """What to do with each cell of a record, in order.

    Parameters
    ----------
    kinds : see `NUMBER`
    targets : the field of a number, the first column of a category
    header : the line of names; a record that is the same is passed over; may be empty
    """

    kinds: IntArray
    targets: IntArray
    header: Bytes


# --- cells ----------------------------------------------------------------------------------------


@piece
def _marks(word: Any) -> Any:
    """Mark the high bits of bytes that may end a cell or are not ASCII; only the lowest mark is certain."""
    commas = word ^ _COMMAS
    quotes = word ^ _QUOTES
    found = ((commas - _ONES) & ~commas) | ((quotes - _ONES) & ~quotes) | ((word - _SPACES) & ~word) | word
    return found & _HIGH_BITS


@piece
def _text_end(data: Bytes, at: int, stop: int, quoted: bool, wanted: bool) -> tuple[int, int]:
    """Return where the text of a cell ends and how many newlines it has; -1 if not plain, -2 if not before `stop`.

    A doubled quote is plain if the text is not wanted.
    """
    newlines = 0
    while True:
        found = _marks(word_at(data, at))
        if found == _N0:
            at += 8
            continue
        at += trailing_zeros(found) >> 3
        byte = byte_at(data, at)
        if byte >= 128:
            length = utf8_length(data, at)
            if length == 0:
                return _NOT_PLAIN, 0
            at += length
        elif byte == 34:
            if not quoted:
                return _NOT_PLAIN, 0
            if byte_at(data, at + 1) != 34:
                return at, newlines
            if wanted:
                return _NOT_PLAIN, 0
            at += 2
        elif not quoted and (byte == 44 or byte == 10 or byte == 13):
            return at, 0
        else:
            at += 1
            if byte == 10:
                newlines += 1
                if at >= stop:
                    return _NOT_WHOLE, 0


@piece
def _skip_spaces(data: Bytes, at: int) -> int:
    byte = byte_at(data, at)
    while byte == 32 or byte == 9:
        at += 1
        byte = byte_at(data, at)
    return at


@piece
def _ends_cell(byte: int) -> bool:
    """Return whether a byte ends a cell: an empty one that starts with it, or a quoted one after its quote."""
    return byte == 44 or byte == 10 or byte == 13


@piece_apart
def _read_missing(fields: Fields, data: Bytes, at: int, stop: int, quoted: bool) -> int:
    """Return where a cell ends whose text stands for a missing number; -1 if it does not."""
    end, _ = _text_end(data, at, stop, quoted, True)
    last = end
    while last > at and (byte_at(data, last - 1) == 32 or byte_at(data, last - 1) == 9):
        last -= 1
    return end if end >= 0 and is_missing(fields, data, at, last - at) else _NOT_PLAIN


@piece
def _read_number(fields: Fields, data: Bytes, at: int, stop: int, quoted: bool) -> tuple[int, float]:
    """Return where the number of a cell ends, and the number, NaN if it is missing; -1 if it is neither."""
    byte = byte_at(data, at)
    start = at
    if byte <= 44:
        start = _skip_spaces(data, at)
        byte = byte_at(data, start)
        if byte == 34 if quoted else _ends_cell(byte):
            return start, _NAN
    end, value = parse_number(data, start)
    if end < 0:
        return _read_missing(fields, data, start, stop, quoted), _NAN
    if value == 0.0 and byte == 45:  # even an integer
        value = -0.0
    if byte_at(data, end) <= 32:
        end = _skip_spaces(data, end)
    return end, value


@piece
def _put_category(fields: Fields, column: int, data: Bytes, at: int, length: int, out: Output, place: int) -> bool:
    """Put the codes of a text in the columns of its field; return False if it is not plain."""
    while column >= 0:
        code = read_input(fields.columns, 3 * column + 2)
        if length > 0:
            code = find_category(fields, column, data, at, length)
            if code < 0:
                code = read_input(fields.columns, 3 * column + 1)
                if code < 0:
                    return False
        put_code(out, column, place, code)
        column = read_input(fields.columns, 3 * column)
    return True


@piece
def _read_record(data: Bytes, at: int, stop: int, fields: Fields, cells: Cells, out: Output, place: int) -> int:
    """Read the record at `at` into the columns at `place`.

    Return the start of the next record, `_NOT_PLAIN` or `_NOT_WHOLE`.
    """
    begin = at
    n_cells = cells.kinds.size
    newlines = 0
    stride = read_input(out.stride, 0)
    cell = 0
    mark = 44
    while mark == 44:
        if cell == n_cells:
            return _NOT_PLAIN
        kind = read_input(cells.kinds, cell)
        target = read_input(cells.targets, cell)
        quoted = byte_at(data, at) == 34
        if quoted:
            at += 1
        if kind == NUMBER:
            at, value = _read_number(fields, data, at, stop, quoted)
            write_block(out.numbers, target * stride + place, value)
        elif kind == TIME:
            ms: int = -1
            byte = byte_at(data, at)
            if not (byte == 34 if quoted else _ends_cell(byte)):
                at, ms = read_instant(data, at)
            write_block(out.times, place, ms)
        else:
            start = at
            at, more = _text_end(data, at, stop, quoted, kind == CATEGORY)
            newlines += more
            if kind == CATEGORY and at >= 0 and not _put_category(fields, target, data, start, at - start, out, place):
                return _NOT_PLAIN
        if at < 0:
            return at
        mark = byte_at(data, at)
        if quoted:
            if mark != 34:
                return _NOT_PLAIN
            at += 1
            mark = byte_at(data, at)
        at += 1
        cell += 1
    if mark == 13:
        mark = byte_at(data, at)
        at += 1
    plain = mark == 10 and cell == n_cells and newlines < MAX_RECORD_LINES and at - begin <= MAX_RECORD_BYTES
    return at if plain else _NOT_PLAIN


@piece_apart
def _header_end(data: Bytes, at: int, stop: int, header: Bytes) -> int:
    """Return the start of the record after `at` if this is the header line again, with or without a BOM, else -1."""
    if byte_at(data, at) == 239 and byte_at(data, at + 1) == 187 and byte_at(data, at + 2) == 191:
        at += 3
    end = at + int(header.size)
    if end > stop:
        return -1
    for i in range(header.size):
        if byte_at(data, at + i) != byte_at(header, i):
            return -1
    if byte_at(data, end) == 13:
        end += 1
    return end + 1 if byte_at(data, end) == 10 else -1


# --- records --------------------------------------------------------------------------------------


@piece
def line_end(data: Bytes, at: int) -> tuple[int, bool]:
    """Return the position after the next newline, and whether the number of quotes before it is even."""
    odd = _N0
    while True:
        word = word_at(data, at)
        quotes = word ^ _QUOTES
        quotes = ~(((quotes & _SEVENS) + _SEVENS) | quotes | _SEVENS)  # all of these are certain
        other = word ^ _NEWLINES
        found = (other - _ONES) & ~other & _HIGH_BITS
        before = (found & (_N0 - found)) - _N1  # all bits, or those below the first newline
        odd = odd ^ ((((quotes & before) >> _N7) * _ONES) >> _N56)
        if found != _N0:
            return at + (trailing_zeros(found) >> 3) + 1, odd & _N1 == _N0
        at += 8


@compilation.kernel(
    input_type(np.uint8),
    types.int64,
    types.int64,
    types.int64,
    FIELDS,
    tuple_type(Cells, readonly=False),
    OUTPUT,
    COUNTING,
)
def scan_records(
    data: Bytes, at: int, stop: int, base: int, fields: Fields, cells: Cells, out: Output, counting: Counting
) -> int:
    """Read records into columns, after those of `out.state`, and count them if they are to be counted.

    Parameters
    ----------
    data : lines from `at` to `stop`, each with its newline; followed by `json_rows.PADDING` bytes
    base : where `data` starts in the bodies

    Returns
    -------
    int, the start of the next record; before `stop` if the last one continues beyond it or everything is given up
    """
    row, body = out.state[ROWS], out.state[BODY]
    counts = counting.counts.size > 0
    place: int = row * 0 if counts else row
    first: int = byte_at(cells.header, 0) if cells.header.size > 0 else -1
    while True:
        if counts and place > 0 and (place == out.stride[0] or at >= stop):
            count_rows(counting, place)
            place = row * 0
        if at >= stop:
            break
        byte = byte_at(data, at)
        if byte == 10 or (byte == 13 and byte_at(data, at + 1) == 10):
            at += 1 if byte == 10 else 2
            continue
        if first == byte or (byte == 239 and first >= 0):
            end = _header_end(data, at, stop, cells.header)
            if end >= 0:
                at = end
                continue
        while base + at >= out.ends[body]:
            body += 1
        end = _read_record(data, at, stop, fields, cells, out, place)
        if end == _NOT_WHOLE:
            stop = at
            continue
        plain = end >= 0
        if plain:
            even = base + end <= out.ends[body]
        else:
            end, even = line_end(data, at)
        if not even:
            out.state[GIVEN_UP] = 1
            return at
        if not plain and not leave_row(out, row, base + at, base + end - 1):
            return at
        out.n_rows[body] += 1
        row += 1
        at = end
        if plain or not counts:
            place += 1
    out.state[ROWS], out.state[BODY] = row, body
    return at


def is_ready() -> bool:
    """Return whether `scan_records` can be called without compiling it."""
    return bool(config.DISABLE_JIT or scan_records.overloads)  # type: ignore[attr-defined]
