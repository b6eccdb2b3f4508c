"""Polars series to columns."""

from collections.abc import Collection

import numpy as np
import polars as pl

from kldrift.records.categories import OTHER_SPELLING, category_text
from kldrift.records.samples import FeatureSchema
from kldrift.records.specs import TimestampSpec
from kldrift.records.types import CodeArray, FloatArray, IntArray
from kldrift.wire.aspects import aspect_of
from kldrift.wire.plan import EMPTY, Category, Known, Plan, Vector, numbers_among
from kldrift.wire.rows import BLANK, parse, vector_column
from kldrift.wire.tables import NO_TIME, Column, Invalid, Table, missing_column
from kldrift.wire.timestamps import times_from_numbers, times_from_texts
from kldrift.wire.vectors import invalid_lists, vectors_from_flat

_MS_PER_DAY = 86_400_000
#: Units of a duration in a second.
_PER_SECOND = {"ms": 1e3, "us": 1e6, "ns": 1e9}


def floats(series: pl.Series) -> FloatArray:
    """Return a Float64 series as float64, NaN where null: a view of its memory if it is in one piece without nulls."""
    return np.ascontiguousarray(series.to_numpy())


def codes(texts: pl.Series, category: Category) -> CodeArray:
    """Return the codes of a String series; a vocabulary learns its new texts."""
    column, unseen = known_codes(texts, category)
    if len(unseen) and category.may_learn:
        return learned_codes(texts, category, unseen)
    return column


def known_codes(texts: pl.Series, category: Category) -> tuple[CodeArray, pl.Series]:
    """Return the codes of a String series, and its values that are not among the categories, in order."""
    feature, known = category.feature, category.known
    found = texts.cast(known.enum, strict=False).to_physical().cast(pl.Int32)
    n_missing = texts.null_count()
    if found.null_count() == n_missing:
        column = found.fill_null(feature.missing_code) if n_missing else found
        return np.ascontiguousarray(column.to_numpy()), texts.clear()
    is_other = found.is_null() & texts.is_not_null() if n_missing else found.is_null()
    out = found.fill_null(feature.missing_code).to_numpy(writable=True)
    others = texts.filter(is_other)
    spelled = _spelled_otherwise(others, known)
    if spelled is None:
        out[is_other.to_numpy()] = feature.unseen_code
        return out, others
    out[is_other.to_numpy()] = spelled.fill_null(feature.unseen_code).to_numpy()
    return out, others.filter(spelled.is_null())


def _spelled_otherwise(texts: pl.Series, known: Known) -> pl.Series | None:
    """Return the codes of texts that are none of the categories as they are spelled, null where none has it."""
    candidates = texts.filter(texts.is_in(known.others.implode()) | texts.str.contains(OTHER_SPELLING)).unique()
    codes = {text: code for text in candidates.to_list() if (code := known.codes[text]) != known.codes.other}
    if not codes:
        return None
    return texts.replace_strict(list(codes), list(codes.values()), default=None, return_dtype=pl.Int32)


def learned_codes(texts: pl.Series, category: Category, unseen: pl.Series) -> CodeArray:
    """Return the codes of a String series after the vocabulary has learned its new texts."""
    category.learn(unseen.unique(maintain_order=True).to_list())
    column, _ = known_codes(texts, category)
    return column


def numbers_from_texts(cells: pl.Series, missing_texts: frozenset[str] = EMPTY) -> tuple[FloatArray, IntArray]:
    """Parse text cells as numbers (null, or a text for it: missing); also return the rows that hold something else."""
    numbers = cells.cast(pl.Float64, strict=False)  # nothing to do where they are numbers already
    bad = np.empty(0, dtype=np.int64)
    if numbers.null_count() > cells.null_count():
        cells = cells.str.strip_chars(BLANK)
        numbers = cells.cast(pl.Float64, strict=False)
        bad = np.flatnonzero((numbers.is_null() & ~_stand_for_missing(cells, missing_texts)).to_numpy())
    return floats(numbers), bad


def _stand_for_missing(texts: pl.Series, missing_texts: frozenset[str]) -> pl.Series:
    """Return where texts are null, or stand for a missing value."""
    return texts.is_in(pl.Series(sorted(missing_texts), dtype=pl.String).implode()).fill_null(value=True)


def typed_numbers(series: pl.Series, missing_texts: frozenset[str] = EMPTY) -> tuple[FloatArray, IntArray]:
    """Return the numbers of a typed series, and the rows whose values have another type. Durations are in seconds."""
    none = np.empty(0, dtype=np.int64)
    if series.dtype == pl.Duration:
        series = seconds(series)
    dtype = series.dtype
    if dtype.is_float() or dtype.is_integer() or dtype.is_decimal() or dtype == pl.Null:
        return floats(series.cast(pl.Float64)), none
    return np.full(len(series), np.nan), _present(series, missing_texts)


def seconds(series: pl.Series) -> pl.Series:
    """Return durations as Float64 seconds."""
    assert isinstance(series.dtype, pl.Duration)
    # not by polars, which multiplies by 0.001: 30.588 would be 30.587999999999997
    numbers = floats(series.to_physical().cast(pl.Float64)) / _PER_SECOND[series.dtype.time_unit]
    return pl.Series(series.name, numbers).fill_nan(None)


def _present(series: pl.Series, missing_texts: frozenset[str]) -> IntArray:
    """Return the rows with a value."""
    if series.dtype in (pl.String, pl.Categorical, pl.Enum):
        texts = series.cast(pl.String).str.strip_chars(BLANK)
        return np.flatnonzero((~_stand_for_missing(texts, missing_texts)).to_numpy())
    return np.flatnonzero(series.is_not_null().to_numpy())


def aspects(
    series: pl.Series, feature: FeatureSchema, missing_texts: frozenset[str] = EMPTY, *, is_text: bool = False
) -> tuple[FloatArray, IntArray]:
    """Return the aspect that a feature is of each value, NaN where there is none, and the rows whose values have none.

    Parameters
    ----------
    is_text : the values are cells of text: numbers, too
    """
    if series.dtype in (pl.String, pl.Categorical, pl.Enum):
        texts = series.cast(pl.String)
        stripped = texts.str.strip_chars(BLANK)
        present = ~_stand_for_missing(stripped, missing_texts).to_numpy()
        series = texts if feature.of == "length" else stripped
        if is_text and feature.of != "length" and feature.unit != "iso8601":
            series = pl.Series(numbers_from_texts(texts, missing_texts)[0])
            present &= ~np.isin(series.to_numpy(), numbers_among(missing_texts))
    else:
        present = series.is_not_null().to_numpy()
        if series.dtype.is_numeric():
            numbers = floats(series.cast(pl.Float64))
            present &= ~(np.isnan(numbers) | np.isin(numbers, numbers_among(missing_texts)))
    column = np.where(present, aspect_of(series, feature), np.nan)
    return column, np.flatnonzero(present & np.isnan(column))


def typed_texts(series: pl.Series) -> tuple[pl.Series, IntArray]:
    """Return the category texts of a typed series, null where missing, and the rows whose values have no text."""
    none = np.empty(0, dtype=np.int64)
    dtype = series.dtype
    if dtype == pl.String:
        return series, none
    if dtype.is_integer() or dtype in (pl.Categorical, pl.Enum, pl.Null):
        return series.cast(pl.String), none
    if dtype == pl.Boolean or dtype.is_float() or dtype.is_decimal():
        distinct = series.drop_nulls().unique()
        values = distinct.cast(pl.Float64).to_list() if dtype.is_decimal() else distinct.to_list()
        if not values:
            return pl.Series(series.name, [None] * len(series), dtype=pl.String), none
        texts = pl.Series([category_text(value) for value in values], dtype=pl.String)
        return series.replace_strict(distinct, texts, default=None, return_dtype=pl.String), none
    rows = np.flatnonzero(series.is_not_null().to_numpy())
    return pl.Series(series.name, [None] * len(series), dtype=pl.String), rows


def typed_vectors(
    series: pl.Series, vector: Vector, missing_texts: frozenset[str] = EMPTY
) -> tuple[FloatArray, Invalid | None]:
    """Return the vectors of a List or Array series of numbers: a view of its memory if every row holds one."""
    size = vector.dimensions
    lists = series.arr.to_list() if isinstance(series.dtype, pl.Array) else series
    inner = lists.dtype.inner if isinstance(lists.dtype, pl.List) else None
    if not isinstance(inner, pl.DataType) or not (inner.is_numeric() or inner == pl.Null):
        bad = _present(series, missing_texts)
        column = np.full((len(series), size), np.nan)
        return column, Invalid(vector.index, bad, f"a value of type {series.dtype}") if len(bad) else None
    lengths = lists.list.len().cast(pl.Int64).fill_null(-1).to_numpy()
    fits = lengths == size
    if not fits.all():
        lists = lists.filter(pl.Series(fits))
    column, there = vectors_from_flat(floats(lists.explode().cast(pl.Float64)), fits, size)
    return column, invalid_lists(lengths, there, vector)


def vectors_from_texts(
    cells: pl.Series, vector: Vector, missing_texts: frozenset[str] = EMPTY
) -> tuple[FloatArray, Invalid | None]:
    """Parse text cells as vectors, each a JSON list (null, or a text for it: missing)."""
    return vector_column([_json_list(cell) for cell in cells.to_list()], vector, missing_texts)


def _json_list(cell: str | None) -> list[object] | str | None:
    """Return the list in a cell, or the cell if it does not hold one."""
    if cell is None or not cell.strip(BLANK):
        return None
    try:
        value = parse(cell.encode())
    except ValueError:
        return cell
    return value if isinstance(value, list) else cell


def typed_times(series: pl.Series, spec: TimestampSpec) -> IntArray:
    """Return the event times of a typed series: of dates whatever the unit, of numbers and texts by the unit."""
    dtype = series.dtype
    if dtype == pl.Datetime:
        return times_from_numbers(floats(series.dt.epoch("us").cast(pl.Float64)), "us")
    if dtype == pl.Date:
        days = floats(series.to_physical().cast(pl.Float64))
        return times_from_numbers(days * _MS_PER_DAY, "ms")
    if spec.unit == "iso8601":
        if dtype in (pl.String, pl.Categorical, pl.Enum):
            return times_from_texts(series.cast(pl.String).to_list())
    elif dtype.is_float() or dtype.is_integer() or dtype.is_decimal():
        return times_from_numbers(floats(series.cast(pl.Float64)), spec.unit)
    return np.full(len(series), NO_TIME, dtype=np.int64)


def table_from_frame(frame: pl.DataFrame, plan: Plan, unreadable: Collection[str] = ()) -> Table:
    """Decode the columns of a typed frame.

    Parameters
    ----------
    unreadable : columns whose values are of a type that cannot be read: invalid throughout; a feature whose column is
        not in the frame either is missing throughout
    """
    n_rows = frame.height
    columns: list[Column] = [np.empty(0)] * plan.n_features
    invalid: list[Invalid] = []
    for index, feature in enumerate(plan.schema.features):
        if feature.name not in frame.columns:
            columns[index] = missing_column(plan, index, n_rows)
            if feature.name in unreadable:
                invalid.append(Invalid(index, np.arange(n_rows), "a value of a type that cannot be read"))
    for index, name in plan.numeric:
        if name in frame.columns:
            series = frame.get_column(name)
            columns[index], bad = typed_numbers(series, plan.missing_texts)
            if len(bad):
                invalid.append(Invalid(index, bad, f"a value of type {series.dtype}"))
    for index, feature in plan.aspects:
        if feature.name in frame.columns:
            series = frame.get_column(feature.name)
            columns[index], bad = aspects(series, feature, plan.missing_texts)
            if len(bad):
                invalid.append(Invalid(index, bad, f"a value of type {series.dtype}"))
    for category in plan.categorical:
        name = category.feature.name
        if name in frame.columns:
            series = frame.get_column(name)
            texts, bad = typed_texts(series)
            columns[category.index] = codes(texts, category)
            if len(bad):
                invalid.append(Invalid(category.index, bad, f"a value of type {series.dtype}"))
    for vector in plan.vectors:
        if vector.name in frame.columns:
            columns[vector.index], fault = typed_vectors(frame.get_column(vector.name), vector, plan.missing_texts)
            if fault is not None:
                invalid.append(fault)
    event_ms = None
    spec = plan.schema.timestamp
    if spec is not None:
        if spec.field in frame.columns:
            event_ms = typed_times(frame.get_column(spec.field), spec)
        else:
            event_ms = np.full(n_rows, NO_TIME, dtype=np.int64)
    invalid.sort(key=lambda item: item.feature)
    return Table(n_rows, columns, event_ms, invalid)
