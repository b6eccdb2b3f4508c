"""What a feature takes of a value in place of the value itself: the hour or weekday of a time, the length of a text.

An age counts from the time of the row: here it is the instant, which `wire.tables.age_seconds` takes from that time.

The clock is the one that the value was written with: ``2024-01-31T23:30:00+09:00`` has the hour 23. Without a zone, and
where times have a type or are numbers, it is UTC.
"""

from typing import Final

import numpy as np
import polars as pl

from kldrift.records.samples import FeatureSchema
from kldrift.records.types import FloatArray
from kldrift.wire.timestamps import times_from_numbers

_MS_PER_HOUR: Final = 3_600_000
#: 1 January 1970 was a Thursday, and 0 is Monday.
_FIRST_WEEKDAY: Final = 3

# The same part of ISO 8601 as `wire.timestamps` accepts, of any year: a birthday may be before 1970.
_ISO: Final = (
    r"^(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ](?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9])"
    r"(?::(?P<second>[0-5][0-9](?:[.,][0-9]{1,12})?))?"
    r" ?(?:[Zz]|(?P<sign>[+-])(?P<east>[01][0-9]|2[0-3])(?::?(?P<east_minute>[0-5][0-9]))?)?)?$"
)
_PER_SECOND: Final = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


def aspect_of(series: pl.Series, feature: FeatureSchema) -> FloatArray:
    """Return the aspect of each value, (n,) float64: NaN where a value is null, or has no such aspect.

    Parameters
    ----------
    series : texts, times or numbers; times as texts have no blanks around them
    """
    if series.dtype == pl.String:
        if feature.of == "length":
            return _floats(series.str.len_chars())
        return _of_texts(series, feature) if feature.unit == "iso8601" else np.full(len(series), np.nan)
    if feature.of == "length":
        return np.full(len(series), np.nan)
    if series.dtype in (pl.Date, pl.Datetime):
        times = series.cast(pl.Datetime("us", "UTC"))
        if feature.of == "age":
            return _floats(times.to_physical()) / 1e6
        return _floats(times.dt.hour() if feature.of == "hour" else times.dt.weekday() - 1)
    if feature.unit != "iso8601" and (series.dtype.is_integer() or series.dtype.is_float()):
        if feature.of == "age":
            return _floats(series) / _PER_SECOND[feature.unit]
        ms = times_from_numbers(_floats(series), feature.unit)
        hours = ms // _MS_PER_HOUR
        found = hours % 24 if feature.of == "hour" else (hours // 24 + _FIRST_WEEKDAY) % 7
        return np.where(ms >= 0, found.astype(np.float64), np.nan)
    return np.full(len(series), np.nan)


def _of_texts(texts: pl.Series, feature: FeatureSchema) -> FloatArray:
    parts = texts.str.extract_groups(_ISO).struct
    dates = parts.field("date").str.to_date("%Y-%m-%d", strict=False)
    if feature.of == "weekday":
        return _floats(dates.dt.weekday() - 1)
    hours = _part(parts, "hour")  # a date is its midnight
    if feature.of == "hour":
        return np.where(dates.is_null().to_numpy(), np.nan, hours)
    clock = 3600 * hours + 60 * _part(parts, "minute") + _part(parts, "second")
    east = 3600 * _part(parts, "east") + 60 * _part(parts, "east_minute")
    east = np.where((parts.field("sign") == "-").fill_null(value=False).to_numpy(), -east, east)
    return 86_400 * _floats(dates.to_physical()) + clock - east


def _part(parts: "pl.series.struct.StructNameSpace", name: str) -> FloatArray:
    return _floats(parts.field(name).str.replace(",", ".", literal=True).cast(pl.Float64).fill_null(0.0))


def _floats(series: pl.Series) -> FloatArray:
    return np.ascontiguousarray(series.cast(pl.Float64).to_numpy())
