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

Bytes up to `PADDING` behind a row are looked at, so there have to be as many behind the last.

References
----------
Langdale & Lemire (2019), Parsing gigabytes of JSON per second, VLDB Journal 28(6).
"""

from typing import Any, NamedTuple

import numpy as np
from numba import config, types

from kldrift.kernels import _jit
from kldrift.kernels._json import (
    IN_LINE,
    IN_LIST,
    NEWLINE,
    hash_at,
    mask_of,
    next_line,
    plain_text_end,
    skip_blanks,
    skip_text,
    skip_value,
)
from kldrift.kernels._memory import read_block, read_input, write_block
from kldrift.kernels._values import read_category, read_number, read_time
from kldrift.kernels._words import Bytes, Words, byte_at, piece, word_at
from kldrift.kernels.fields import Fields, find_text
from kldrift.kernels.rows import (
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
from kldrift.records import IntArray

#: Bytes behind the last row that may be looked at.
PADDING = 64
#: Gaps that are learned beyond two for each field: unknown fields, and the same with other spaces.
MORE_GAPS = 256
#: Words of text that gaps may take, beyond those of the fields' names.
MORE_WORDS = 4096

#: What is known of the gaps: how many, the words that they take, and what is blank in them.
GAPS, WORDS, _BLANKS = range(3)

_NUMBER, _CATEGORY, _TIME, _SKIP, _END = range(5)
#: What is known of a gap: its length, its first word, its field, the kind of that, and the gaps that followed it.
_LENGTH, _WORD, _FIELD, _KIND, _NEXT, _GAP = 0, 1, 2, 3, 4, 8
# Gaps without a text: before a row; one that was not learned; before a row that is only passed over, and that row.
_START, _ANY, _BEFORE, _WHOLE = range(4)
_PROBES = 16
#: A row of a list that is not plain has at most so many bytes.
_LARGEST_LEFT = 1 << 16

_N0, _N7 = (np.uint64(n) for n in (0, 7))
_ONES = np.uint64(0x0101010101010101)
_SEVENS = np.uint64(0x7F7F7F7F7F7F7F7F)
_BYTE = np.uint64(0xFF)


class Learned(NamedTuple):
    """The gaps met so far.

    Parameters
    ----------
    gaps : 8 numbers each, see `_GAP`
    words : their texts, a word and its mask in turns
    slots : an open hash table of their numbers; 0 is free
    hashes : the hash of each
    seen : the row in which each field was met last, plus 1
    state : see `GAPS`
    """

    gaps: IntArray
    words: Words
    slots: IntArray
    hashes: Words
    seen: IntArray
    state: IntArray


def nothing_learned(fields: Fields, in_list: bool = False) -> Learned:
    """Before the first row.

    Parameters
    ----------
    in_list : whether the rows are those of a list; else each has a line
    """
    n_fields = int(fields.counts[1])
    n_gaps = 2 * n_fields + MORE_GAPS
    gaps = np.zeros(n_gaps * _GAP, dtype=np.int64)
    gaps[_BEFORE * _GAP + _NEXT] = _WHOLE
    gaps[_WHOLE * _GAP + _KIND] = _SKIP  # its one word has the mask 0, and is everywhere
    words = np.empty(2 * (2 * len(fields.words) + 4 * n_fields + MORE_WORDS), dtype=np.uint64)
    words[:2] = 0
    return Learned(
        gaps,
        words,
        np.zeros(1 << (2 * n_gaps).bit_length(), dtype=np.int64),
        np.empty(n_gaps, dtype=np.uint64),
        np.zeros(n_fields, dtype=np.int64),
        np.array([_WHOLE + 1, 1, IN_LIST if in_list else IN_LINE], dtype=np.int64),
    )


def start_anew(learned: Learned) -> bool:
    """Prepare for other rows, with the gaps that are known; False where they take more than half of the room."""
    learned.seen[:] = 0
    return bool(2 * learned.state[GAPS] * _GAP < len(learned.gaps) and 4 * learned.state[WORDS] < len(learned.words))


# --- gaps -----------------------------------------------------------------------------------------


@piece
def _is_at(gap: int, learned: Learned, data: Bytes, at: int) -> bool:
    """Whether the text of a gap stands at `at`."""
    left = read_block(learned.gaps, gap * _GAP + _LENGTH)
    word = read_block(learned.gaps, gap * _GAP + _WORD)
    while True:
        if (word_at(data, at) ^ read_block(learned.words, word)) & read_block(learned.words, word + 1) != _N0:
            return False
        left -= 8
        if left <= 0:
            return True
        word += 2
        at += 8


@piece
def _row_end(data: Bytes, at: int, blanks: int) -> int:
    """Behind what ends a row: the newline, or the comma and blanks, or the bracket of the list; -1 where it is none."""
    at = skip_blanks(data, at, blanks)
    mark = byte_at(data, at)
    if blanks & NEWLINE == 0:
        return at + 1 if mark == 10 else -1
    if mark == 44:
        return skip_blanks(data, at + 1, blanks)
    return at + 1 if mark == 93 else -1


@piece
def _read_gap(data: Bytes, at: int, previous: int, blanks: int) -> tuple[int, int, int]:
    """Behind the gap at `at`, and where its name begins and ends; -1 where it is none.

    Without a name it is the end of the row.
    """
    begin = at
    first = previous == _START
    ended = previous == _WHOLE
    if not ended:
        at = skip_blanks(data, at, blanks)
        mark = byte_at(data, at)
        if first or mark != 125:
            if mark != (123 if first else 44):
                return -1, 0, 0
            at = skip_blanks(data, at + 1, blanks)
        if byte_at(data, at) == 125 and mark != 44:
            at += 1
            ended = True
    if ended:
        return _row_end(data, at, blanks), begin, begin
    if byte_at(data, at) != 34:
        return -1, 0, 0
    start = at + 1
    end = plain_text_end(data, start)
    if end < 0 or skip_text(data, start) != end + 1:
        return -1, 0, 0
    at = skip_blanks(data, end + 1, blanks)
    if byte_at(data, at) != 58:
        return -1, 0, 0
    return skip_blanks(data, at + 1, blanks), start, end


@piece
def _kind(fields: Fields, field: int) -> int:
    if field < 0:
        return _SKIP
    n_numbers = fields.counts[0]
    return _NUMBER if field < n_numbers else (_CATEGORY if field < n_numbers + fields.first_columns.size else _TIME)


@piece
def _learn(learned: Learned, fields: Fields, data: Bytes, begin: int, gap_end: int, start: int, end: int) -> int:
    """The number of the gap from `begin` to `gap_end`, a new one if need be; `_ANY` where there is no room.

    What is known of `_ANY` is that of the gap that came last.
    """
    gaps, words, slots, state = learned.gaps, learned.words, learned.slots, learned.state
    length = gap_end - begin
    hashed = hash_at(data, begin, length)
    last = np.int64(slots.size - 1)
    slot = np.int64(hashed) & last
    gap: int = _ANY
    for _ in range(_PROBES):
        known: int = slots[np.intp(slot)]
        if known == 0:
            n_words = (length + 7) >> 3
            if (state[GAPS] + 1) * _GAP <= gaps.size and 2 * (state[WORDS] + n_words) <= words.size:
                gap = state[GAPS]
                state[GAPS] += 1
                slots[np.intp(slot)] = gap
                learned.hashes[gap] = hashed
                gaps[gap * _GAP + _LENGTH] = length
                gaps[gap * _GAP + _WORD] = 2 * state[WORDS]
                for i in range(n_words):
                    mask = mask_of(length - 8 * i)
                    words[2 * (state[WORDS] + i)] = word_at(data, begin + 8 * i) & mask
                    words[2 * (state[WORDS] + i) + 1] = mask
                state[WORDS] += n_words
            break
        same = learned.hashes[known] == hashed and gaps[known * _GAP + _LENGTH] == length
        if same and _is_at(known, learned, data, begin):
            return known
        slot = (slot + 1) & last
    field = -1 if end == start and start == begin else find_text(fields, 0, data, start, end - start)
    gaps[gap * _GAP + _FIELD] = field
    gaps[gap * _GAP + _KIND] = _END if start == begin else _kind(fields, field)
    if gap == _ANY:
        gaps[gap * _GAP + _LENGTH] = length
    return gap


@piece
def _next_gap(previous: int, learned: Learned, fields: Fields, data: Bytes, at: int) -> int:
    """The number of the gap at `at`, -1 where it is none that is plain."""
    gaps = learned.gaps
    first = previous * _GAP + _NEXT
    for i in range(first, first + 4):
        gap: int = read_block(gaps, i)
        if gap == 0:
            break
        if _is_at(gap, learned, data, at):
            return gap
    gap_end, start, end = _read_gap(data, at, previous, read_input(learned.state, _BLANKS))
    if gap_end < 0:
        return -1
    gap = _learn(learned, fields, data, at, gap_end, start, end)
    if gap != _ANY:
        gaps[first + 3] = gaps[first + 2]
        gaps[first + 2] = gaps[first + 1]
        gaps[first + 1] = gaps[first]
        gaps[first] = gap
    return gap


# --- rows -----------------------------------------------------------------------------------------


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
    gap : `_START`, or `_BEFORE` to pass over it; then -1 where it is no JSON
    """
    left = read_input(fields.counts, 1)
    n_numbers = read_input(fields.counts, 0)
    stride = read_input(out.stride, 0)
    while True:
        gap = _next_gap(gap, learned, fields, data, at)
        if gap < 0:
            return -1
        at += read_block(learned.gaps, gap * _GAP + _LENGTH)
        kind = read_block(learned.gaps, gap * _GAP + _KIND)
        if kind == _END:
            if left > 0:
                _put_missing(fields, learned, out, row, place)
            return at
        if byte_at(data, at) <= 32:  # a gap that ends earlier than this one does
            at = skip_blanks(data, at, read_input(learned.state, _BLANKS))
        if kind == _SKIP:
            at = skip_value(data, at, read_input(learned.state, _BLANKS))
        else:
            field = read_block(learned.gaps, gap * _GAP + _FIELD)
            if read_block(learned.seen, field) == row + 1:
                return -1
            write_block(learned.seen, field, row + 1)
            left -= 1
            if kind == _NUMBER:
                at, value = read_number(data, at)
                write_block(out.numbers, field * stride + place, value)
            elif kind == _CATEGORY:
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


@_jit.kernel(
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
    blanks = learned.state[_BLANKS]
    in_list = blanks & NEWLINE != 0
    place: int = row * 0 if counts else row
    gap: int = _START
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
            if gap == _BEFORE:
                break
            gap = _BEFORE
            continue
        plain = end >= 0 and gap == _START
        gap = _START
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


@_jit.kernel(_vector(types.uint8, readonly=True), types.int64)
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
    with _jit.ieee():
        return count_byte(np.frombuffer(data, dtype=np.uint8), 10)
