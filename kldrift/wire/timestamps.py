"""Event times: text or numbers to int64 milliseconds since 1970, `NO_TIME` where there is none."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from kldrift.records.specs import TimestampSpec
from kldrift.records.types import FloatArray, IntArray, TimeUnit
from kldrift.wire.tables import NO_TIME

#: Milliseconds per unit. Seconds go through microseconds: 1700000000.123 * 1000 is a little less than it should be.
_PER_MS: Final[dict[TimeUnit, float]] = {"ms": 1.0, "us": 1e3, "ns": 1e6}
_END_MS: Final = int(datetime(2262, 1, 1, tzinfo=UTC).timestamp()) * 1000

#: The longest text that `_ISO` matches has this many characters.
_LONGEST: Final = 40

# The accepted part of ISO 8601. Stricter than datetime.fromisoformat, which then checks the calendar.
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:([T ])(\d\d:\d\d(?::\d\d)?)(?:(?<=:\d\d:\d\d)[.,](\d{1,12}))? ?(Z|z|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)


def times_from_numbers(values: FloatArray, unit: TimeUnit) -> IntArray:
    """Convert numbers since 1970 to instants, rounded down to milliseconds.

    Parameters
    ----------
    values : (n,) float64, NaN where missing
    unit : s, ms, us or ns
    """
    with np.errstate(invalid="ignore", over="ignore"):
        ms = np.floor(np.round(values * 1e6) / 1e3) if unit == "s" else np.floor(values / _PER_MS[unit])
        inside = (ms >= 0) & (ms < _END_MS)
        return np.where(inside, ms, NO_TIME).astype(np.int64)


def time_from_text(text: str) -> int:
    """Return the instant that an ISO 8601 text names; without an offset it is UTC."""
    match = _ISO.fullmatch(text)
    if match is None:
        return NO_TIME
    date, _, clock, fraction, zone = match.groups()
    try:
        offset = "+00:00" if zone in (None, "Z", "z") else zone
        instant = datetime.fromisoformat(f"{date}T{clock or '00:00'}{offset}")
        seconds = int(instant.timestamp())
    except (ValueError, OverflowError):
        return NO_TIME
    ms = seconds * 1000 + int((fraction or "0")[:3].ljust(3, "0"))
    return ms if 0 <= ms < _END_MS else NO_TIME


def times_from_texts(texts: Sequence[str | None]) -> IntArray:
    """Convert ISO 8601 texts to instants.

    Texts of one length mostly share one shape, and are then read as a matrix of digits, 20 times as fast as one by
    one; those that do not are read one by one.
    """
    out = np.full(len(texts), NO_TIME, dtype=np.int64)
    if len(texts) < 64:
        for i, text in enumerate(texts):
            if text is not None:
                out[i] = time_from_text(text)
        return out
    rows = np.array([i for i, text in enumerate(texts) if text is not None], dtype=np.int64)
    there = [text for text in texts if text is not None]
    lengths = np.array(list(map(len, there)), dtype=np.int64)
    for length in np.unique(lengths).tolist():
        if length < 10 or length > _LONGEST:
            continue
        alike = lengths == length
        group = there if alike.all() else [text for text, same in zip(there, alike.tolist(), strict=True) if same]
        out[rows[alike]] = _times_from_group(group, length)
    return out


def _times_from_group(group: list[str], length: int) -> IntArray:
    """Convert texts of one length."""
    joined = "".join(group).encode("ascii", "replace")
    chars = np.frombuffer(joined, dtype=np.uint8).reshape(len(group), length)
    match = _ISO.fullmatch(group[0])
    out = np.full(len(group), NO_TIME, dtype=np.int64)
    alike = np.zeros(len(group), dtype=np.bool_)
    if match is not None and match.group(3) is not None and len(match.group(3)) == 8:
        out, alike = _times_from_matrix(chars, match.end(4), match.group(5))
    for i in np.flatnonzero(~alike).tolist():
        out[i] = time_from_text(group[i])
    return out


def _times_from_matrix(
    chars: npt.NDArray[np.uint8], fraction_end: int, zone: str | None
) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    """Convert the texts that have the shape of the first row; also return which rows have it.

    Parameters
    ----------
    chars : (n, length) uint8
    fraction_end : where the fraction ends, -1 if there is none
    zone : the offset of the first row
    """
    first = chars[0]
    is_digit = (first >= 48) & (first <= 57)
    end = max(19, fraction_end)
    is_digit[end:] = False  # the offset has to be the same, digit for digit
    digits = chars - np.uint8(48)
    alike = (digits[:, is_digit] <= 9).all(axis=1) & (chars[:, ~is_digit] == first[~is_digit]).all(axis=1)

    def number(start: int, stop: int) -> IntArray:
        value = np.zeros(len(chars), dtype=np.int64)
        for i in range(start, stop):
            value = value * 10 + digits[:, i]
        return value

    year, month, day = number(0, 4), number(5, 7), number(8, 10)
    hour, minute, second = number(11, 13), number(14, 16), number(17, 19)
    milli = np.zeros(len(chars), dtype=np.int64)
    if fraction_end > 0:
        taken = min(3, fraction_end - 20)
        milli = number(20, 20 + taken) * 10 ** (3 - taken)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    alike &= (year >= 1) & (month >= 1) & (month <= 12) & (hour <= 23) & (minute <= 59) & (second <= 59)
    month = np.clip(month, 1, 12)
    last_day = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])[month] + (leap & (month == 2))
    alike &= (day >= 1) & (day <= last_day)
    months = (np.maximum(year, 1) - 1970) * 12 + month - 1
    days = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) + day - 1
    ms = ((days * 24 + hour) * 60 + minute - _offset_minutes(zone)) * 60_000 + second * 1000 + milli
    return np.where(alike & (ms >= 0) & (ms < _END_MS), ms, NO_TIME), alike


def _offset_minutes(zone: str | None) -> int:
    if zone is None or zone in "Zz":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[-2:]) if len(zone) > 3 else 0
    if hours > 23 or minutes > 59:
        return 1 << 40  # not an offset: every time comes out of range
    return (-1 if zone[0] == "-" else 1) * (hours * 60 + minutes)


def times_from_values(values: Sequence[object], spec: TimestampSpec) -> IntArray:
    """Convert decoded JSON values to instants; a value of another type than the unit's has no time."""
    if spec.unit == "iso8601":
        return times_from_texts([value if isinstance(value, str) else None for value in values])
    numbers = np.fromiter((_number(value) for value in values), np.float64, len(values))
    return times_from_numbers(numbers, spec.unit)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return np.nan
    try:
        return float(value)
    except OverflowError:
        return np.inf
