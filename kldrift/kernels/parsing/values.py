"""Values of wanted fields: numbers, category texts, times. If a value is not plain, its end is returned as -1."""

import numpy as np

from kldrift.kernels.memory import read_input
from kldrift.kernels.parsing.decimal import parse_number
from kldrift.kernels.parsing.fields import Fields, find_category, is_missing
from kldrift.kernels.parsing.json_syntax import (
    FOUR_BYTES,
    NULL,
    literal_length,
    not_finite_length,
    plain_text_end,
    skip_digits,
    skip_text,
)
from kldrift.kernels.parsing.output import Output, put_code
from kldrift.kernels.words import Bytes, byte_at, piece, piece_apart, word_at

_NAN, _INFINITE = np.nan, np.inf
_DAYS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], dtype=np.int64)
_END_OF_TIMES = 9_214_646_400_000  # in 2262, the limit everywhere in kldrift


@piece_apart
def _read_no_digits(fields: Fields, data: Bytes, at: int) -> tuple[int, float]:
    """Return where null or a text for it, NaN or an infinity ends, and its value; -1 if it is none of them."""
    if word_at(data, at) & FOUR_BYTES == NULL:
        return at + 4, _NAN
    if byte_at(data, at) == 34:
        stop = plain_text_end(data, at + 1)
        return (stop + 1 if stop >= 0 and is_missing(fields, data, at + 1, stop - at - 1) else -1), _NAN
    negative = byte_at(data, at) == 45
    start = at + 1 if negative else at
    length = not_finite_length(data, start)
    if length == 8:
        return start + 8, -_INFINITE if negative else _INFINITE
    return (at + 3 if length == 3 and not negative else -1), _NAN


@piece
def read_number(fields: Fields, data: Bytes, at: int) -> tuple[int, float]:
    """Return where a number, null or a text for it ends, and its value, NaN for null; -1 if it is none of them."""
    end, value = parse_number(data, at)
    return (end, value) if end >= 0 else _read_no_digits(fields, data, at)


@piece
def _read_integer(data: Bytes, at: int) -> tuple[int, int]:
    """Return where an integer, possibly followed by ``.00``, ends and how many of its characters are its category text.

    The length is 0 for any other number, for -0, and where a float may not be exact.
    """
    start = at + 1 if byte_at(data, at) == 45 else at
    end = skip_digits(data, start)
    count = end - start
    length = end - at
    most = 18
    if byte_at(data, end) == 46 and byte_at(data, end + 1) == 48:
        end += 2
        while byte_at(data, end) == 48:
            end += 1
        most = 15
    byte = byte_at(data, end)
    if count == 0 or count > most or byte == 46 or byte | 32 == 101 or 48 <= byte <= 57:
        return end, 0
    return end, 0 if byte_at(data, start) == 48 and length > 1 else length


@piece
def read_category(fields: Fields, column: int, data: Bytes, at: int, place: int, out: Output) -> int:
    """Put the codes of a value in the columns of its field; return where it ends, -1 if it is not plain."""
    byte = byte_at(data, at)
    start = at
    if byte == 34:
        start = at + 1
        stop = plain_text_end(data, start)
        if stop < 0:
            return -1
        length = stop - start
        end = stop + 1
    else:
        length = literal_length(data, at)
        end = at + length
        if length == 0:
            end, length = _read_integer(data, at)
            if length == 0:
                return -1
    missing = byte == 110  # null
    while column >= 0:
        code = read_input(fields.columns, 3 * column + 2)
        if not missing:
            code = find_category(fields, column, data, start, length)
            if code < 0:
                code = read_input(fields.columns, 3 * column + 1)
                if code < 0 or (byte == 34 and skip_text(data, start) != end):
                    return -1
        put_code(out, column, place, code)
        column = read_input(fields.columns, 3 * column)
    return end


@piece
def _digits(data: Bytes, at: int, count: int) -> int:
    """Return the number that a few digits make; far below zero if one of them is not a digit."""
    value = 0
    for i in range(count):
        digit = byte_at(data, at + i) - 48
        value = value * 10 + (digit if 0 <= digit <= 9 else -1_000_000)
    return value


@piece
def _days(year: int, month: int, day: int) -> int:
    """Return the days since 1970-01-01 (Gregorian). Years start in March here, so that a leap day comes last."""
    early = month <= 2
    year = year - 1 if early else year
    months = month + 9 if early else month - 3
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * months + 2) // 5 + day - 719_469


@piece
def read_instant(data: Bytes, at: int) -> tuple[int, int]:
    """Return where ``YYYY-MM-DDTHH:MM:SS[.f][Z|±hh:mm]`` ends, and its milliseconds since 1970.

    The end is -1 for every other form and for instants that are not accepted; the general decoder reports why. No more
    than 32 bytes after the text are looked at.
    """
    year, month, day = _digits(data, at, 4), _digits(data, at + 5, 2), _digits(data, at + 8, 2)
    hour, minute, second = _digits(data, at + 11, 2), _digits(data, at + 14, 2), _digits(data, at + 17, 2)
    mark = byte_at(data, at + 10)
    dashes = byte_at(data, at + 4) == 45 and byte_at(data, at + 7) == 45 and (mark == 84 or mark == 32)
    if not (dashes and byte_at(data, at + 13) == 58 and byte_at(data, at + 16) == 58):
        return -1, -1
    if year < 1970 or month < 1 or month > 12 or day < 1 or hour < 0 or minute < 0 or second < 0:
        return -1, -1
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    last_day = read_input(_DAYS, month - 1) + (1 if leap else 0)
    if day > last_day or hour > 23 or minute > 59 or second > 59:
        return -1, -1
    ms = ((_days(year, month, day) * 24 + hour) * 60 + minute) * 60_000 + second * 1000
    at += 19
    if byte_at(data, at) == 46:
        start = at + 1
        at = skip_digits(data, start)
        if at == start or at > start + 12:
            return -1, -1
        scale = 100
        for i in range(start, min(at, start + 3)):
            ms += (byte_at(data, i) - 48) * scale
            scale //= 10
    sign = byte_at(data, at)
    if sign == 90:
        at += 1
    elif sign == 43 or sign == 45:
        hours, minutes = _digits(data, at + 1, 2), _digits(data, at + 4, 2)
        if byte_at(data, at + 3) != 58 or hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
            return -1, -1
        offset = (hours * 60 + minutes) * 60_000
        ms = ms - offset if sign == 43 else ms + offset
        at += 6
    return (at if 0 <= ms < _END_OF_TIMES else -1), ms


@piece
def read_time(data: Bytes, at: int) -> tuple[int, int]:
    """Return where an instant in quotes or null ends, -1 if it is neither, and its milliseconds, -1 for null."""
    if byte_at(data, at) != 34:
        return (at + 4 if word_at(data, at) & FOUR_BYTES == NULL else -1), -1
    if plain_text_end(data, at + 1) < at + 20:
        return -1, -1
    end, ms = read_instant(data, at + 1)
    return end + 1 if end >= 0 and byte_at(data, end) == 34 else -1, ms
