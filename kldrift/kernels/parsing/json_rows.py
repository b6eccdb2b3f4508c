"""Rows of JSON, one a line or in a list, to columns or counts, in one pass over the bytes.

Structure. A general reader of JSON finds out anew at each byte what it stands for. Rows of one producer, however,
differ only in their values: what stands between two values, ``, "amount": `` with the comma and the spaces, is the same
in every row. So each such text, once met, is a *gap* with a number, and every gap remembers up to four that followed
it: the most likely successor is compared with the bytes, eight at a time, and where it is there the key is read,
looked up, and known to be wanted or not. A producer with other keys, or with some missing, adds successors; the begin
and the end of a row are gaps, too. Only a gap that was not expected is read as JSON is. Skipping over text by words
is after Langdale & Lemire, numbers are read as `decimal` tells.

What is plain is read here: numbers, true, false, null, texts without escapes, times in the usual form, any nesting in
fields that are not wanted. A row with anything else is left to the general decoder, and so is every line that is not
JSON: where it is is written down. Nothing here decides what a row means that is not plain.

In a list the text between two rows, ``},{``, is the end of one and the begin of the next, and a newline is a blank as
others are. Where a row that is not plain ends is found by reading it once more, as the value of a field that is not
wanted: a gap of no bytes, then any value, then the gap that ends a row but for its brace.

From value to count there is nothing in between but a block of rows in columns, which stays in the cache (`rows`): no
text is copied, no object is made, and no array as long as the body.

Bytes up to `PADDING` behind a row are looked at, so there have to be as many behind the last.

References
----------
Lemire (2021), Number parsing at a gigabyte per second, Software: Practice and Experience 51(8).
Langdale & Lemire (2019), Parsing gigabytes of JSON per second, VLDB Journal 28(6).
"""

from typing import Any

import numpy as np
from numba import config, types

from kldrift.kernels import compilation
from kldrift.kernels.memory import read_block, read_input, write_block
from kldrift.kernels.parsing.fields import Fields
from kldrift.kernels.parsing.gaps import (
    BEFORE,
    BLANKS,
    CATEGORY,
    END,
    FIELD,
    GAP,
    KIND,
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
    put_missing,
)
from kldrift.kernels.parsing.values import read_category, read_number, read_time
from kldrift.kernels.words import Bytes, byte_at, piece, word_at

#: Bytes behind the last row that may be looked at.
PADDING = 64
#: A row of a list that is not plain has at most so many bytes.
_LARGEST_LEFT = 1 << 16

_N0, _N7 = (np.uint64(n) for n in (0, 7))
_ONES = np.uint64(0x0101010101010101)
_SEVENS = np.uint64(0x7F7F7F7F7F7F7F7F)
_BYTE = np.uint64(0xFF)


@piece
def _put_missing(fields: Fields, learned: Learned, out: Output, row: int, place: int) -> None:
    for field in range(fields.counts[1]):
        if learned.seen[field] != row + 1:
            put_missing(fields, out, field, place)


@piece
def _scan_row(
    data: Bytes, at: int, gap: int, fields: Fields, learned: Learned, out: Output, row: int, place: int
) -> int:
    """Read the row at `at` into the columns at `place`; where the next one begins, -1 where it is not plain.

    Parameters
    ----------
    gap : `START`, or `BEFORE` to pass over it; then -1 where it is no JSON
    """
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
            if left > 0:
                _put_missing(fields, learned, out, row, place)
            return at
        if byte_at(data, at) <= 32:  # a gap that ends earlier than this one does
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
                at, value = read_number(data, at)
                write_block(out.numbers, field * stride + place, value)
            elif kind == CATEGORY:
                column = read_input(fields.first_columns, field - n_numbers)
                at = read_category(fields, column, data, at, place, out)
            else:
                at, ms = read_time(data, at)
                write_block(out.times, place, ms)
        if at < 0:
            return -1


def _vector(dtype: Any, readonly: bool = False) -> Any:
    return types.Array(dtype, 1, "C", readonly=readonly)


_INTEGERS, _WORDS = _vector(types.int64), _vector(types.uint64)


@compilation.kernel(
    _vector(types.uint8, readonly=True),
    types.int64,
    types.int64,
    types.NamedTuple([_INTEGERS, _INTEGERS, _INTEGERS, _WORDS, _INTEGERS, _INTEGERS], Fields),
    types.NamedTuple([_INTEGERS, _WORDS, _INTEGERS, _WORDS, _INTEGERS, _INTEGERS], Learned),
    OUTPUT,
    COUNTING,
)
def scan_rows(
    data: Bytes, base: int, stop: int, fields: Fields, learned: Learned, out: Output, counting: Counting
) -> int:
    """Read rows into columns, and count them if they are to be counted; goes on behind those of `out.state`.

    Parameters
    ----------
    data : whole lines up to `stop`, the last with its newline or not; or what follows the bracket of a list, or some
        row in it. `PADDING` bytes behind: newlines if they are lines, zeros if they are a list.
    base : where `data` begins among the bodies

    Returns
    -------
    int, behind the last row, and what ends it; in a list there is more where that is no bracket: the rows end before
    `stop`, or go beyond it, or are no JSON
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
        if place == out.stride[0]:  # no room: more rows than most_rows told of
            out.state[GIVEN_UP] = 1
            return at
        end = _scan_row(data, begin, gap, fields, learned, out, row, place)
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
            elif end - begin > _LARGEST_LEFT:  # it was read twice, and there may be more of them
                out.state[GIVEN_UP] = 1
                return at
            if not leave_row(out, row, base + begin, base + end - (0 if in_list else 1)):
                return at
        while base + begin >= out.ends[body]:
            body += 1
        out.n_rows[body] += 1
        row += 1
        at = end
        if plain or not counts:
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
    """Whether `scan_rows` can be called without compiling it."""
    return bool(config.DISABLE_JIT or scan_rows.overloads)  # type: ignore[attr-defined]


@compilation.kernel(_vector(types.uint8, readonly=True), types.int64)
def count_byte(data: Bytes, byte: int) -> int:
    """How many of the bytes are `byte`."""
    size: int = data.size
    whole = size & -8
    total = 0
    pattern = np.uint64(byte) * _ONES
    for block in range(0, whole, 8 * 255):  # no byte of the sums overflows
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
    """Newlines among the bytes."""
    with compilation.ieee():
        return count_byte(np.frombuffer(data, dtype=np.uint8), 10)
