"""Rows of JSON, one on each line or in a list, to columns or counts in a single pass over the bytes.

Structure. A general JSON reader works out afresh at every byte what it is looking at. But rows from one producer differ
only in their values: the text between two values, such as ``, "amount": `` with its comma and spaces, is the same in
every row. So we call each such text a *gap*, give it a number when it first occurs, and remember for each gap up to
four that have followed it. The most likely successor is compared with the bytes, eight at a time; if it matches, the
key has been read and looked up, and we know whether it is wanted. A producer that uses other keys, or leaves some out,
adds successors. The start and the end of a row are gaps too. Only an unexpected gap is parsed as JSON. Scanning text by
words follows Langdale & Lemire; `decimal` explains how numbers are read.

Plain rows are read here: numbers, true, false, null, texts without escapes, times in the usual form, and any nesting in
fields that are not wanted. A row with anything else is left to the general decoder, as is every line that is not JSON:
we only record where it is. Nothing here decides what a row that is not plain means.

In a list, the text between two rows, ``},{``, is the end of one and the start of the next, and a newline is a blank
like any other. To find the end of a row that is not plain, we read it once more as the value of a field that is not
wanted: a gap of no bytes, then any value, then the gap that ends a row, without its brace.

Between value and count there is only a block of rows in columns, which stays in the cache (`output`): no text is
copied, no object is created, and no array as long as the body.

The kernel may look at up to `PADDING` bytes after a row, so that many must follow the last one.

References
----------
Lemire (2021), Number parsing at a gigabyte per second, Software: Practice and Experience 51(8).
Langdale & Lemire (2019), Parsing gigabytes of JSON per second, VLDB Journal 28(6).
"""

import numpy as np
from numba import config, types

from kldrift.kernels import compilation
from kldrift.kernels.arguments import input_type
from kldrift.kernels.memory import read_block, read_input, write_block
from kldrift.kernels.parsing.fields import FIELDS, Fields
from kldrift.kernels.parsing.gaps import (
    BEFORE,
    BLANKS,
    CATEGORY,
    END,
    FIELD,
    GAP,
    KIND,
    LEARNED,
    LENGTH,
    NUMBER,
    SKIP,
    START,
    Learned,
    next_gap,
)
from kldrift.kernels.parsing.json_syntax import NEWLINE, next_line, skip_blanks, skip_value
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
    note_bare_row,
    put_missing,
)
from kldrift.kernels.parsing.values import read_category, read_number, read_time
from kldrift.kernels.words import Bytes, byte_at, piece, word_at

#: Bytes after the last row that the kernel may look at.
PADDING = 64
#: Maximum length in bytes of a row of a list that is not plain.
_LARGEST_LEFT = 1 << 16

_N0, _N7 = (np.uint64(n) for n in (0, 7))
_ONES = np.uint64(0x0101010101010101)
_SEVENS = np.uint64(0x7F7F7F7F7F7F7F7F)
_BYTE = np.uint64(0xFF)


@piece
def _put_missing(fields: Fields, learned: Learned, out: Output, row: int, place: int) -> bool:
    """Put missing values for the fields that the row does not have; return whether it has a feature at all."""
    found = False
    for field in range(fields.counts[1]):
        if learned.seen[field] != row + 1:
            put_missing(fields, out, field, place)
        elif fields.watched[field] != 0:
            found = True
    return found


@piece
def _scan_row(
    data: Bytes, at: int, gap: int, fields: Fields, learned: Learned, out: Output, row: int, place: int
) -> int:
    """Read the row at `at` into the columns at `place`; return the start of the next row, or -1 if this is not plain.

    Of a row that holds no feature, -1 minus the start of the next one is returned.

    Parameters
    ----------
    gap : `START`, or `BEFORE` to skip the row; then -1 is returned if it is not JSON
    """
    skipped = gap == BEFORE
    left = read_input(fields.counts, 1)
    n_numbers = read_input(fields.counts, 0)
    stride = read_input(out.stride, 0)
    while True:
        gap = next_gap(gap, learned, fields, data, at)
        if gap < 0:
            return -1
        at += read_block(learned.gaps, gap * GAP + LENGTH)
        kind = read_block(learned.gaps, gap * GAP + KIND)
        if kind == END:
            if left > 0 and not skipped and not _put_missing(fields, learned, out, row, place):
                return -1 - at
            return at
        if byte_at(data, at) <= 32:  # there are more blanks than this gap ends with
            at = skip_blanks(data, at, read_input(learned.state, BLANKS))
        if kind == SKIP:
            at = skip_value(data, at, read_input(learned.state, BLANKS))
        else:
            field = read_block(learned.gaps, gap * GAP + FIELD)
            if read_block(learned.seen, field) == row + 1:
                return -1
            write_block(learned.seen, field, row + 1)
            left -= 1
            if kind == NUMBER:
                at, value = read_number(fields, data, at)
                write_block(out.numbers, field * stride + place, value)
            elif kind == CATEGORY:
                column = read_input(fields.first_columns, field - n_numbers)
                at = read_category(fields, column, data, at, place, out)
            else:
                at, ms = read_time(data, at)
                write_block(out.times, place, ms)
        if at < 0:
            return -1


@compilation.kernel(input_type(np.uint8), types.int64, types.int64, FIELDS, LEARNED, OUTPUT, COUNTING)
def scan_rows(
    data: Bytes, base: int, stop: int, fields: Fields, learned: Learned, out: Output, counting: Counting
) -> int:
    """Read rows into columns, after those of `out.state`, and count them if they are to be counted.

    Parameters
    ----------
    data : whole lines up to `stop`, the last one with or without its newline; or what follows the bracket of a list or
        one of its rows. Followed by `PADDING` bytes: newlines after lines, zeros after a list.
    base : where `data` starts in the bodies

    Returns
    -------
    int, the position after the last row and whatever ends it. If that is not the bracket of a list, the list is not
    complete: its rows end before `stop`, continue beyond it, or are not JSON.
    """
    row, body = out.state[ROWS], out.state[BODY]
    counts = counting.counts.size > 0
    blanks = learned.state[BLANKS]
    in_list = blanks & NEWLINE != 0
    place: int = row * 0 if counts else row
    gap: int = START
    at = 0
    while at < stop:
        begin = at
        if byte_at(data, at) != 123:
            at = skip_blanks(data, at, blanks)
            if in_list:
                begin = at
            elif byte_at(data, at) == 10:
                at += 1
                continue
        if place == out.stride[0]:  # no room: more rows than expected
            out.state[GIVEN_UP] = 1
            return at
        end = _scan_row(data, begin, gap, fields, learned, out, row, place)
        bare = end < -1
        if bare:
            end = -1 - end
        if end < 0 and in_list:
            if gap == BEFORE:
                break
            gap = BEFORE
            continue
        plain = end >= 0 and gap == START
        gap = START
        if not plain:
            if not in_list:
                end = next_line(data, begin)
            elif end - begin > _LARGEST_LEFT:  # it was read twice, and there may be more such rows
                out.state[GIVEN_UP] = 1
                return at
            if not leave_row(out, row, base + begin, base + end - (0 if in_list else 1)):
                return at
        while base + begin >= out.ends[body]:
            body += 1
        if bare and not note_bare_row(out, body, row, base + begin, base + end):
            return at
        out.n_rows[body] += 1
        row += 1
        at = end
        if (plain and not bare) or not counts:
            place += 1
        if counts and place == out.stride[0]:
            count_rows(counting, place)
            place = row * 0
        if in_list and byte_at(data, end - 1) == 93:
            break
    if counts and place > 0:
        count_rows(counting, place)
    out.state[ROWS], out.state[BODY] = row, body
    return at


def is_ready() -> bool:
    """Return whether `scan_rows` can be called without compiling it."""
    return bool(config.DISABLE_JIT or scan_rows.overloads)  # type: ignore[attr-defined]


@compilation.kernel(input_type(np.uint8), types.int64)
def count_byte(data: Bytes, byte: int) -> int:
    """Count the bytes equal to `byte`."""
    size: int = data.size
    whole = size & -8
    total = 0
    pattern = np.uint64(byte) * _ONES
    for block in range(0, whole, 8 * 255):  # short enough that no byte of the sums overflows
        sums = _N0
        for at in range(block, min(block + 8 * 255, whole), 8):
            other = word_at(data, at) ^ pattern
            sums += (~(((other & _SEVENS) + _SEVENS) | other | _SEVENS)) >> _N7
        for shift in range(0, 64, 8):
            total += int((sums >> np.uint64(shift)) & _BYTE)
    for at in range(whole, size):
        total += 1 if byte_at(data, at) == byte else 0
    return total


def count_newlines(data: bytes | memoryview) -> int:
    """Count the newlines."""
    with compilation.ieee():
        return count_byte(np.frombuffer(data, dtype=np.uint8), 10)
