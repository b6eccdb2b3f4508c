"""The text between the values of JSON rows, learned as it occurs; `json_rows` explains the idea."""

from typing import NamedTuple

import numpy as np

from kldrift.kernels.arguments import tuple_type
from kldrift.kernels.memory import read_block, read_input
from kldrift.kernels.parsing.fields import Fields, find_text
from kldrift.kernels.parsing.json_syntax import (
    IN_LINE,
    IN_LIST,
    NEWLINE,
    hash_at,
    mask_of,
    plain_text_end,
    skip_blanks,
    skip_text,
)
from kldrift.kernels.words import Bytes, Words, byte_at, piece, word_at
from kldrift.records.types import IntArray

#: Gaps that can be learned in addition to two for each field: unknown fields, and known ones with other spaces.
MORE_GAPS = 256
#: Words of text that gaps may take in addition to those of the fields' names.
MORE_WORDS = 4096

#: Entries of the state: the number of gaps, the words that they take, and the bytes that are blank in them.
GAPS, WORDS, BLANKS = range(3)
#: What follows a gap: a value of one of these kinds, or the next row.
NUMBER, CATEGORY, TIME, SKIP, END = range(5)
#: Entries of a gap: its length, first word, field, the kind of that field, and the gaps that have followed it.
#: `GAP` is the number of entries.
LENGTH, _WORD, FIELD, KIND, _NEXT, GAP = 0, 1, 2, 3, 4, 8
#: Gaps without text: before a row; one that was not learned; before a row that is only skipped, and that row.
START, _ANY, BEFORE, _WHOLE = range(4)
_PROBES = 16

_N0 = np.uint64(0)


class Learned(NamedTuple):
    """The gaps found so far.

    Parameters
    ----------
    gaps : 8 numbers each, see `LENGTH`
    words : their texts, words alternating with their masks
    slots : an open hash table of gap numbers; 0 is free
    hashes : the hash of each gap
    seen : 1 plus the last row in which each field occurred
    state : see `GAPS`
    """

    gaps: IntArray
    words: Words
    slots: IntArray
    hashes: Words
    seen: IntArray
    state: IntArray


#: Its type in kernels.
LEARNED = tuple_type(Learned, readonly=False)


def nothing_learned(fields: Fields, in_list: bool = False) -> Learned:
    """Return the state before the first row.

    Parameters
    ----------
    in_list : whether the rows are elements of a list; otherwise each has its own line
    """
    n_fields = int(fields.counts[1])
    n_gaps = 2 * n_fields + MORE_GAPS
    gaps = np.zeros(n_gaps * GAP, dtype=np.int64)
    gaps[BEFORE * GAP + _NEXT] = _WHOLE
    gaps[_WHOLE * GAP + KIND] = SKIP  # its only word has mask 0, and so matches anywhere
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
    """Prepare for other rows, keeping the known gaps; return False if these take up more than half of the room."""
    learned.seen[:] = 0
    return bool(2 * learned.state[GAPS] * GAP < len(learned.gaps) and 4 * learned.state[WORDS] < len(learned.words))


@piece
def _is_at(gap: int, learned: Learned, data: Bytes, at: int) -> bool:
    """Return whether the text of a gap is at `at`."""
    left = read_block(learned.gaps, gap * GAP + LENGTH)
    word = read_block(learned.gaps, gap * GAP + _WORD)
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
    """Return the position after the end of a row, -1 if it does not end here.

    A row ends with a newline; in a list, with a comma and blanks, or with the bracket of the list.
    """
    at = skip_blanks(data, at, blanks)
    mark = byte_at(data, at)
    if blanks & NEWLINE == 0:
        return at + 1 if mark == 10 else -1
    if mark == 44:
        return skip_blanks(data, at + 1, blanks)
    return at + 1 if mark == 93 else -1


@piece
def _read_gap(data: Bytes, at: int, previous: int, blanks: int) -> tuple[int, int, int]:
    """Return the position after the gap at `at`, and where its name starts and ends; -1 if there is no gap.

    A gap without a name ends the row.
    """
    begin = at
    first = previous == START
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
        return SKIP
    n_numbers = fields.counts[0]
    return NUMBER if field < n_numbers else (CATEGORY if field < n_numbers + fields.first_columns.size else TIME)


@piece
def _learn(learned: Learned, fields: Fields, data: Bytes, begin: int, gap_end: int, start: int, end: int) -> int:
    """Return the number of the gap from `begin` to `gap_end`, a new one if necessary; `_ANY` if there is no room.

    The entries of `_ANY` describe the most recent such gap.
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
            if (state[GAPS] + 1) * GAP <= gaps.size and 2 * (state[WORDS] + n_words) <= words.size:
                gap = state[GAPS]
                state[GAPS] += 1
                slots[np.intp(slot)] = gap
                learned.hashes[gap] = hashed
                gaps[gap * GAP + LENGTH] = length
                gaps[gap * GAP + _WORD] = 2 * state[WORDS]
                for i in range(n_words):
                    mask = mask_of(length - 8 * i)
                    words[2 * (state[WORDS] + i)] = word_at(data, begin + 8 * i) & mask
                    words[2 * (state[WORDS] + i) + 1] = mask
                state[WORDS] += n_words
            break
        same = learned.hashes[known] == hashed and gaps[known * GAP + LENGTH] == length
        if same and _is_at(known, learned, data, begin):
            return known
        slot = (slot + 1) & last
    field = -1 if end == start and start == begin else find_text(fields, 0, data, start, end - start)
    gaps[gap * GAP + FIELD] = field
    gaps[gap * GAP + KIND] = END if start == begin else _kind(fields, field)
    if gap == _ANY:
        gaps[gap * GAP + LENGTH] = length
    return gap


@piece
def next_gap(previous: int, learned: Learned, fields: Fields, data: Bytes, at: int) -> int:
    """Return the number of the gap at `at`, or -1 if there is no plain gap there."""
    gaps = learned.gaps
    first = previous * GAP + _NEXT
    for i in range(first, first + 4):
        gap: int = read_block(gaps, i)
        if gap == 0:
            break
        if _is_at(gap, learned, data, at):
            return gap
    gap_end, start, end = _read_gap(data, at, previous, read_input(learned.state, BLANKS))
    if gap_end < 0:
        return -1
    gap = _learn(learned, fields, data, at, gap_end, start, end)
    if gap != _ANY:
        gaps[first + 3] = gaps[first + 2]
        gaps[first + 2] = gaps[first + 1]
        gaps[first + 1] = gaps[first]
        gaps[first] = gap
    return gap
