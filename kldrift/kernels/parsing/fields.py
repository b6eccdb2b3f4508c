"""The fields of a schema, laid out for the kernels that read rows: hash tables take texts to numbers."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from kldrift.kernels.arguments import tuple_type
from kldrift.kernels.memory import read_input
from kldrift.kernels.parsing.json_syntax import MULTIPLIER, hash_at, mask_of, skip_digits
from kldrift.kernels.words import Bytes, Words, byte_at, piece, piece_apart, word_at
from kldrift.records.types import IntArray

_WORD = 0xFFFFFFFFFFFFFFFF


class Fields(NamedTuple):
    """The fields of a schema, numbered: numeric ones first, then categorical ones, then a time as text if there is one.

    Parameters
    ----------
    counts : number of numeric fields, and of all fields
    tables : start and size of the hash tables: the one for names, then one for each categorical column, then the one
        for texts in place of a number that is missing
    entries : the tables; each entry has 4 numbers: hash, length (-1: free), first word, value
    words : the texts of the entries, each padded with zeros to whole words
    columns : (n_columns, 3) for each categorical column: the next one of the same field or -1, and the codes of a text
        that is not in its table (-1: leave the row) and of null
    first_columns : the first column of each categorical field
    watched : 1 for each field that is a feature: a row without any is no sample
    """

    counts: IntArray
    tables: IntArray
    entries: IntArray
    words: Words
    columns: IntArray
    first_columns: IntArray
    watched: IntArray


#: Its type in kernels.
FIELDS = tuple_type(Fields, readonly=False)


class Categories(NamedTuple):
    """A categorical column: its field, and the codes of its texts, of other texts (-1: leave the row) and of null."""

    field: str
    codes: Sequence[tuple[bytes, int]]
    unseen: int
    missing: int


def hash_text(text: bytes) -> int:
    """Return the hash of a text as the kernel computes it."""
    value = len(text) * MULTIPLIER & _WORD
    for at in range(0, len(text), 8):
        value = (value ^ int.from_bytes(text[at : at + 8], "little")) * MULTIPLIER & _WORD
        value ^= value >> 29
    return value ^ value >> 32


def make_fields(
    numbers: Sequence[str],
    categories: Sequence[Categories],
    time: str | None,
    missing: Sequence[bytes] = (),
    watched: Collection[str] | None = None,
) -> Fields:
    """Lay out the fields of a schema for `scan_rows`.

    Parameters
    ----------
    numbers : numeric fields
    categories : one for each column; several columns may have the same field
    time : the field of a time as text
    missing : texts that stand for a missing number
    watched : the fields that are features; None: all of them
    """
    names = [*numbers, *dict.fromkeys(category.field for category in categories), *([] if time is None else [time])]
    words: list[int] = []
    starts: list[int] = []
    entries: list[IntArray] = []
    position = 0
    for texts in (
        [(name.encode(), i) for i, name in enumerate(names)],
        *(c.codes for c in categories),
        [(text, 0) for text in missing],
    ):
        table = _table(texts, words)
        starts += [position, len(table)]
        entries.append(table)
        position += len(table)
    columns = np.array([(-1, c.unseen, c.missing) for c in categories], dtype=np.int64).reshape(-1, 3)
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for column, category in enumerate(categories):
        first.setdefault(category.field, column)
        if category.field in last:
            columns[last[category.field], 0] = column
        last[category.field] = column
    return Fields(
        np.array([len(numbers), len(names)], dtype=np.int64),
        np.array(starts, dtype=np.int64),
        np.concatenate(entries).reshape(-1),
        np.array([*words, 0], dtype=np.uint64),
        columns.reshape(-1),
        np.array(list(first.values()), dtype=np.int64),
        np.array([watched is None or name in watched for name in names], dtype=np.int64),
    )


def _table(texts: Sequence[tuple[bytes, int]], words: list[int]) -> IntArray:
    """Return an open hash table that is at most half full."""
    size = 1 << (2 * len(texts)).bit_length()
    table = np.full((size, 4), -1, dtype=np.int64)
    for text, value in texts:
        hashed = hash_text(text)
        at = hashed & (size - 1)
        while table[at, 1] >= 0:
            at = (at + 1) & (size - 1)
        table[at] = hashed - (1 << 64) if hashed >> 63 else hashed, len(text), len(words), value
        words += [int.from_bytes(text[i : i + 8], "little") for i in range(0, len(text), 8)]
    return table


@piece
def find_text(fields: Fields, table: int, data: Bytes, at: int, length: int) -> int:
    """Return the value of a text in a table, or -1 if it is not there."""
    hashed = np.int64(hash_at(data, at, length))
    start = read_input(fields.tables, 2 * table)
    last = read_input(fields.tables, 2 * table + 1) - 1
    slot = hashed & last
    while True:
        entry = 4 * (start + slot)
        size = read_input(fields.entries, entry + 1)
        if size < 0:
            return -1
        if size == length and read_input(fields.entries, entry) == hashed:
            word = read_input(fields.entries, entry + 2)
            left = length
            p = at
            while left > 0 and word_at(data, p) & mask_of(left) == read_input(fields.words, word):
                word += 1
                p += 8
                left -= 8
            if left <= 0:
                value: int = read_input(fields.entries, entry + 3)
                return value
        slot = (slot + 1) & last


@piece_apart
def _find_whole(fields: Fields, table: int, data: Bytes, at: int, length: int) -> int:
    """Return the value of the integer that a text such as ``1.00`` stands for, or -1 if there is none.

    The rule is that of `records.categories.canonical`.
    """
    point = at + length - 1
    while point > at and byte_at(data, point) == 48:
        point -= 1
    start = at + 1 if byte_at(data, at) == 45 else at
    if point == at + length - 1 or byte_at(data, point) != 46 or point == start:
        return -1
    if skip_digits(data, start) != point or (byte_at(data, start) == 48 and point > start + 1):
        return -1
    return find_text(fields, table, data, at, point - at)


@piece
def find_category(fields: Fields, column: int, data: Bytes, at: int, length: int) -> int:
    """Return the code of a text in the table of a column, however it is spelled, or -1 if it is not there."""
    code = find_text(fields, 1 + column, data, at, length)
    if code < 0 and length > 2 and byte_at(data, at + length - 1) == 48:
        code = _find_whole(fields, 1 + column, data, at, length)
    return code


@piece
def is_missing(fields: Fields, data: Bytes, at: int, length: int) -> bool:
    """Return whether a text stands for a number that is missing."""
    return find_text(fields, fields.tables.size // 2 - 1, data, at, length) >= 0
