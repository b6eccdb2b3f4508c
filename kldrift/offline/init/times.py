"""Which column is the time of a row, in which unit, and which windows and lateness follow from it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from kldrift.datafiles.columns import Column
from kldrift.records.specs import TimestampSpec
from kldrift.records.types import IntArray, TimeUnit
from kldrift.wire.columns import typed_times
from kldrift.wire.timestamps import time_from_text, times_from_numbers, times_from_texts

#: Share of the values of a column that must be readable as times, and of the rows that must have an event time.
READABLE = 0.99
#: Numbers are times if they are between these years.
_FROM_MS, _TO_MS = 631_152_000_000, 4_102_444_800_000  # 1990 to 2100
_UNITS: tuple[TimeUnit, ...] = ("s", "ms", "us", "ns")
_BEST_NAMES = re.compile(r"(?i)^(ts|time|timestamp|datetime|date_?time|event_?time|event_?ts|_time|@timestamp)$")
_TIME_NAMES = re.compile(
    r"(?i)(^|[_ .-])(ts|time|timestamp|date|datetime|at|on|epoch)($|[_ .-])|(?<=[a-z])(Time|At|Date)$"
)
#: Without the name of a time, this many different numbers must be dates; one in 27 of that size is one by chance.
_FEW_DATES = 5
#: Number of texts tried before all of them are read.
_TRIED = 20
_SECOND, _MINUTE, _HOUR, _DAY = 1000, 60_000, 3_600_000, 86_400_000
#: Window lengths to choose from, each several times the one before.
LADDER = (
    ("5m", 5 * _MINUTE), ("1h", _HOUR), ("24h", _DAY), ("1w", 7 * _DAY), ("4w", 28 * _DAY), ("12w", 84 * _DAY),
    ("1y", 365 * _DAY), ("5y", 1825 * _DAY), ("10y", 3650 * _DAY),
)  # fmt: skip
_LATENESSES = (
    ("1m", _MINUTE), ("5m", 5 * _MINUTE), ("15m", 15 * _MINUTE), ("1h", _HOUR), ("6h", 6 * _HOUR), ("1d", _DAY),
    ("2d", 2 * _DAY), ("1w", 7 * _DAY), ("4w", 28 * _DAY),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TimeColumn:
    """A column of times.

    Parameters
    ----------
    ms : (n,) int64 of the rows that have one, in the order of the file
    n_unreadable : rows without one
    """

    name: str
    unit: TimeUnit
    ms: IntArray
    n_unreadable: int

    @property
    def of_every_row(self) -> bool:
        """Whether nearly every row has one, so that it can be the event time."""
        return len(self.ms) >= READABLE * (len(self.ms) + self.n_unreadable)

    @property
    def span_ms(self) -> int:
        """Length from the first to the last instant."""
        return int(self.ms.max() - self.ms.min())


def time_columns(columns: Sequence[Column]) -> list[TimeColumn]:
    """Find the columns of times, the likeliest event time first.

    Those that nearly every row has come first; then by name, by being in order, and by position.
    """
    usable = [column for column in columns if column.fault is None and column.name.strip() and "\0" not in column.name]
    found = [time for column in usable if (time := _time_of(column)) is not None]
    return sorted(
        found,
        key=lambda time: (not time.of_every_row, _by_name(time.name), not bool((np.diff(time.ms) >= 0).all())),
    )


def _by_name(name: str) -> int:
    return 0 if _BEST_NAMES.search(name) else 1 if _TIME_NAMES.search(name) else 2


def _time_of(column: Column) -> TimeColumn | None:
    series = column.values
    present = series.drop_nulls()
    if present.len() == 0:
        return None
    if series.dtype in (pl.Date, pl.Datetime):
        return _readable(column, "iso8601", typed_times(present, TimestampSpec(column.name, "iso8601")))
    if series.dtype == pl.String:
        texts = present.head(_TRIED).to_list()
        if any(time_from_text(text) < 0 for text in texts[:3]) or len(texts[0]) < 10:
            return None
        return _readable(column, "iso8601", times_from_texts(present.to_list()))
    if series.dtype.is_integer() or series.dtype.is_float():
        return _numeric_time(column, present)
    return None


def _readable(column: Column, unit: TimeUnit, ms: IntArray) -> TimeColumn | None:
    kept = ms[ms >= 0]
    if len(kept) < READABLE * len(ms):
        return None
    return TimeColumn(column.name, unit, kept, len(column.values) - len(kept))


def is_calendar_date(column: Column) -> bool:
    """Return whether a column holds whole numbers that are all dates written as YYYYMMDD, such as 20240131."""
    if column.fault is not None or not column.values.dtype.is_numeric():
        return False
    levels = column.values.drop_nulls().unique()
    numbers = np.asarray(levels.cast(pl.Float64).to_numpy(), dtype=np.float64)
    if numbers.size < (1 if _by_name(column.name) < 2 else _FEW_DATES):
        return False
    if not bool(((numbers >= 1900_01_01) & (numbers <= 2100_12_31) & (numbers == np.rint(numbers))).all()):
        return False
    dates = levels.cast(pl.Int64).cast(pl.String).str.to_date("%Y%m%d", strict=False)
    return dates.null_count() == 0


def _numeric_time(column: Column, present: pl.Series) -> TimeColumn | None:
    """Recognise numbers of a plausible size with the name of a time, or in ms, us or ns that never decrease."""
    numbers = np.asarray(present.cast(pl.Float64).to_numpy(), dtype=np.float64)
    for unit in _UNITS:
        ms = times_from_numbers(numbers, unit)
        if bool(((ms >= _FROM_MS) & (ms < _TO_MS)).all()):
            named = _by_name(column.name) < 2
            rising = unit != "s" and len(ms) > 1 and bool((np.diff(ms) >= 0).all() and ms[-1] > ms[0])
            return _readable(column, unit, ms) if named or rising else None
    return None


def latenesses(ms: IntArray) -> IntArray:
    """Return how much earlier each row is than the newest one so far, (n,) ms."""
    return np.asarray(np.maximum.accumulate(ms) - ms)


def choose_lateness(ms: IntArray, shortest_ms: int) -> tuple[str, str] | None:
    """Choose an allowed lateness, with its reason; None if the rows are not in order of their times at all.

    Parameters
    ----------
    shortest_ms : the shortest window; open panes cost memory, and a window that waits longer than it lasts is useless
    """
    late = latenesses(ms)
    n_late = int(np.count_nonzero(late))
    if n_late == 0:
        return "1m", "the rows are in order; later ones still count for this long"
    wanted = int(np.quantile(late, 0.999, method="higher"))
    for text, length in _LATENESSES:
        if wanted <= length <= max(shortest_ms, _MINUTE):
            return text, f"{n_late / len(ms):.2g} of the rows come after a newer one, nearly all by less than this"
    return None


def choose_windows(n_rows: int, span_ms: int, needed: int) -> tuple[list[str], str]:
    """Choose up to three windows; at the rate of the data, the first holds what a verdict needs."""
    rate = n_rows / span_ms
    first = next((i for i, (_, length) in enumerate(LADDER) if rate * length >= needed), len(LADDER) - 1)
    wanted = LADDER[first : first + 3]
    # a reference little longer than one window says nothing about what is usual over such a time
    chosen = [wanted[0][0], *(text for text, length in wanted[1:] if length <= span_ms / 4)]
    held = rate * wanted[0][1]
    why = f"at the rate of the data {chosen[0]} holds {held:,.0f} rows"
    if held < needed:
        return chosen, f"{why}: too few for some features, which need {needed:,}"
    why += f"; a verdict needs up to {needed:,}"
    return chosen, why + ("; for longer ones it is too short a time" if len(chosen) < len(wanted) else "")
