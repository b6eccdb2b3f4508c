"""Skipping over JSON: the text has to be valid, but its meaning is ignored.

Text is searched for its end in words of eight bytes. A function that skips something returns the position after it, or
-1 if it is not there or not valid.
"""

from typing import Any

import numpy as np

from kldrift.kernels.memory import read_input
from kldrift.kernels.parsing.decimal import count_digits, parse_exponent
from kldrift.kernels.words import Bytes, byte_at, piece, piece_apart, trailing_zeros, word_at

#: Maximum nesting in a field that is not wanted; there is a bit for each level.
MAX_DEPTH = 60

#: Blanks in JSON, one bit for each byte: space, tab, carriage return; and newline where it does not end a row.
IN_LINE = 1 << 32 | 1 << 9 | 1 << 13
NEWLINE = 1 << 10
IN_LIST = IN_LINE | NEWLINE

FOUR_BYTES = np.uint64(0xFFFFFFFF)
NULL = np.uint64(int.from_bytes(b"null", "little"))
_FIVE_BYTES = np.uint64(0xFFFFFFFFFF)
_TRUE = np.uint64(int.from_bytes(b"true", "little"))
_NAN = np.uint64(int.from_bytes(b"NaN", "little"))
_INFINITY = np.uint64(int.from_bytes(b"Infinity", "little"))
_THREE_BYTES = np.uint64(0xFFFFFF)
_FALSE = np.uint64(int.from_bytes(b"false", "little"))
_N0, _N1, _N29, _N32 = (np.uint64(n) for n in (0, 1, 29, 32))
_HIGH_BITS = np.uint64(0x8080808080808080)
_ONES = np.uint64(0x0101010101010101)
_QUOTES = np.uint64(0x2222222222222222)
_ESCAPES = np.uint64(0x5C5C5C5C5C5C5C5C)
_SPACES = np.uint64(0x2020202020202020)
_NEWLINES = np.uint64(0x0A0A0A0A0A0A0A0A)
_MASKS = np.array([(1 << 8 * n) - 1 for n in range(9)], dtype=np.uint64)

#: Multiplier of the hash of a text; odd, and an even mix of zeros and ones.
MULTIPLIER = 0x9E3779B97F4A7C15
_MULTIPLIER = np.uint64(MULTIPLIER)


@piece
def mask_of(length: int) -> Any:
    """Return a mask of the first `length` bytes of a word, at most 8."""
    return read_input(_MASKS, length if length < 8 else 8)  # noqa: FURB136 (one instruction)


@piece
def hash_at(data: Bytes, at: int, length: int) -> Any:
    """Return the hash of a text."""
    value = np.uint64(length) * _MULTIPLIER
    while length > 0:
        value = (value ^ (word_at(data, at) & mask_of(length))) * _MULTIPLIER
        value = value ^ (value >> _N29)
        at += 8
        length -= 8
    return value ^ (value >> _N32)


@piece
def _marks(word: Any) -> Any:
    """Mark the high bits of bytes that end plain text: quote, backslash, control; only the lowest mark is certain."""
    quotes = word ^ _QUOTES
    escapes = word ^ _ESCAPES
    found = ((quotes - _ONES) & ~quotes) | ((escapes - _ONES) & ~escapes) | ((word - _SPACES) & ~word)
    return found & _HIGH_BITS


@piece
def plain_text_end(data: Bytes, at: int) -> int:
    """Return the position of the quote that ends a text; -1 if there are escapes or control characters before it."""
    found = _marks(word_at(data, at))
    while found == _N0:
        at += 8
        found = _marks(word_at(data, at))
    at += trailing_zeros(found) >> 3
    return at if byte_at(data, at) == 34 else -1


@piece
def utf8_length(data: Bytes, at: int) -> int:
    """Return the length of the non-ASCII character at `at`; 0 if it is invalid (RFC 3629: only the shortest form)."""
    lead = byte_at(data, at)
    second = byte_at(data, at + 1)
    least = 0xA0 if lead == 0xE0 else (0x90 if lead == 0xF0 else 0x80)
    most = 0x9F if lead == 0xED else (0x8F if lead == 0xF4 else 0xBF)
    if lead < 0xC2 or lead > 0xF4 or second < least or second > most:
        return 0
    length = 2 if lead < 0xE0 else (3 if lead < 0xF0 else 4)
    for i in range(2, length):
        if byte_at(data, at + i) & 0xC0 != 0x80:
            return 0
    return length


@piece
def _escape_length(data: Bytes, at: int) -> int:
    """Return the length of the escape at `at`; 0 if it is invalid."""
    letter = byte_at(data, at + 1)
    if letter == 117:  # u
        for i in range(2, 6):
            digit = byte_at(data, at + i)
            if not (48 <= digit <= 57 or 97 <= digit | 32 <= 102):
                return 0
        return 6
    # " \ / b f n r t
    known = letter == 34 or letter == 92 or letter == 47 or letter == 98 or letter == 102
    return 2 if known or letter == 110 or letter == 114 or letter == 116 else 0


@piece_apart
def _skip_special(data: Bytes, at: int) -> int:
    """Skip the escapes and non-ASCII characters at `at`; -1 if one is invalid or a control character follows.

    They tend to come in runs, and skipping them one after another takes half as long as going word by word.
    """
    byte = byte_at(data, at)
    while byte == 92 or byte >= 0x80:
        length = _escape_length(data, at) if byte == 92 else utf8_length(data, at)
        if length == 0:
            return -1
        at += length
        byte = byte_at(data, at)
    return at if byte >= 32 else -1


@piece
def skip_text(data: Bytes, at: int) -> int:
    """Skip a text whose first character is at `at`, with its closing quote; -1 if it is not valid."""
    while True:
        word = word_at(data, at)
        found = _marks(word) | (word & _HIGH_BITS)
        if found == _N0:
            at += 8
            continue
        at += trailing_zeros(found) >> 3
        byte = byte_at(data, at)
        if byte == 34:
            return at + 1
        at = _skip_special(data, at)
        if at < 0:
            return -1


@piece
def skip_blanks(data: Bytes, at: int, blanks: int) -> int:
    """Skip the blanks at `at`.

    Parameters
    ----------
    blanks : `IN_LINE` or `IN_LIST`, a bit for each byte that is a blank
    """
    byte = byte_at(data, at)
    while byte <= 32 and (blanks >> byte) & 1 == 1:
        at += 1
        byte = byte_at(data, at)
    return at


@piece
def skip_digits(data: Bytes, at: int) -> int:
    """Skip the digits at `at`, if any."""
    count = 8
    while count == 8:
        count = count_digits(word_at(data, at))
        at += count
    return at


@piece
def _skip_number(data: Bytes, at: int) -> int:
    """Skip a number; -1 if it is not one."""
    if byte_at(data, at) == 45:
        at += 1
        if word_at(data, at) == _INFINITY:
            return at + 8
    end = skip_digits(data, at)
    if end == at or (byte_at(data, at) == 48 and end > at + 1):
        return -1
    if byte_at(data, end) == 46:
        at = end + 1
        end = skip_digits(data, at)
        if end == at:
            return -1
    if byte_at(data, end) | 32 == 101:
        end, _ = parse_exponent(data, end + 1)
    return end


@piece
def literal_length(data: Bytes, at: int) -> int:
    """Return the length of true, false or null; 0 for anything else."""
    word = word_at(data, at)
    if word & FOUR_BYTES == _TRUE or word & FOUR_BYTES == NULL:
        return 4
    return 5 if word & _FIVE_BYTES == _FALSE else 0


@piece
def not_finite_length(data: Bytes, at: int) -> int:
    """Return the length of NaN or Infinity, which Python's json module writes; 0 for anything else."""
    word = word_at(data, at)
    if word == _INFINITY:
        return 8
    return 3 if word & _THREE_BYTES == _NAN else 0


@piece
def skip_key(data: Bytes, at: int, blanks: int) -> int:
    """Skip a key, its colon and blanks, up to the value; -1 if there is none."""
    if byte_at(data, at) != 34:
        return -1
    at = skip_text(data, at + 1)
    if at < 0:
        return -1
    at = skip_blanks(data, at, blanks)
    return skip_blanks(data, at + 1, blanks) if byte_at(data, at) == 58 else -1


@piece
def skip_value(data: Bytes, at: int, blanks: int) -> int:
    """Skip a value of any kind; -1 if it is not valid or nested too deeply."""
    depth = 0
    objects = _N0  # one bit for each level: whether it is an object
    while True:
        byte = byte_at(data, at)
        if byte == 123 or byte == 91:  # { or [
            at = skip_blanks(data, at + 1, blanks)
            if byte_at(data, at) != byte + 2:
                depth += 1
                objects = (objects << _N1) | (_N1 if byte == 123 else _N0)
                if depth > MAX_DEPTH:
                    return -1
                if byte == 123:
                    at = skip_key(data, at, blanks)
                    if at < 0:
                        return -1
                continue
            at += 1
        elif byte == 34:
            at = skip_text(data, at + 1)
        elif byte == 45 or 48 <= byte <= 57:
            at = _skip_number(data, at)
        else:
            length = literal_length(data, at)
            if length == 0:
                length = not_finite_length(data, at)
            at = at + length if length > 0 else -1
        if at < 0:
            return -1
        more = False
        while depth > 0 and not more:
            at = skip_blanks(data, at, blanks)
            byte = byte_at(data, at)
            at = at + 1
            inside = objects & _N1 == _N1
            if byte == 44:
                at = skip_blanks(data, at, blanks)
                if inside:
                    at = skip_key(data, at, blanks)
                    if at < 0:
                        return -1
                more = True
            elif byte == (125 if inside else 93):
                depth -= 1
                objects = objects >> _N1
            else:
                return -1
        if not more:
            return at


@piece
def next_line(data: Bytes, at: int) -> int:
    """Return the position after the next newline."""
    while True:
        other = word_at(data, at) ^ _NEWLINES
        found = (other - _ONES) & ~other & _HIGH_BITS
        if found != _N0:
            return at + (trailing_zeros(found) >> 3) + 1
        at += 8
