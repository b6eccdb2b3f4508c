"""The columns of a data file, and what they hold."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from kldrift.records.categories import category_text
from kldrift.records.kinds import Kind
from kldrift.wire.columns import numbers_from_texts, seconds
from kldrift.wire.rows import kind_of, parse

#: Share of a column's values that may be something else before it is no longer a column of numbers (or of vectors, or
#: of text, where the others are lists and objects). They are invalid, in a reference and in the live data alike.
MAX_INVALID: Final = 0.5


@dataclass(frozen=True, slots=True)
class Holding:
    """What the values of a column are.

    Parameters
    ----------
    kind : of the feature that can be made of them; None where there is none
    words : the same in a message
    dimensions : of vectors
    """

    kind: Kind | None
    words: str
    dimensions: int = 0


NOTHING: Final = Holding(None, "no values")


@dataclass(frozen=True, slots=True)
class Column:
    """Some values of a column.

    Parameters
    ----------
    values : of one type, null where missing or invalid
    cells : in a format whose cells are text, the cells as they are in the file; otherwise None
    n_invalid : values that are not numbers in a column of numbers, not lists of numbers in one of vectors, or lists and
        objects in one of text
    fault : why no feature can be made of the column
    unread : whether that is since its values could not be read, and not since they are what they are
    """

    name: str
    values: pl.Series
    cells: pl.Series | None = None
    n_invalid: int = 0
    fault: str | None = None
    unread: bool = False

    @property
    def holds(self) -> Holding:
        """What its values are; a list may be a cell of text."""
        if self.fault is not None:
            return Holding(None, self.fault)
        dtype = self.values.dtype
        if self.values.null_count() == len(self.values) and not self.n_invalid:
            return NOTHING
        if dtype.is_numeric():
            return Holding("numeric", "numbers")
        if dtype == pl.Boolean:
            return Holding("categorical", "booleans")
        if dtype in (pl.String, pl.Categorical, pl.Enum):
            n = 0 if self.cells is None else len(list_in(self.cells))
            return _vectors(n) if n else Holding("categorical", "text")
        if isinstance(dtype, pl.List | pl.Array) and isinstance(dtype.inner, pl.DataType) and dtype.inner.is_numeric():
            lengths = self.values.arr.to_list().list.len() if isinstance(dtype, pl.Array) else self.values.list.len()
            common = lengths.filter(lengths > 0).mode()
            return _vectors(int(common.min())) if len(common) else NOTHING  # type: ignore[arg-type]  # of integers
        return Holding(None, "times" if dtype.is_temporal() else f"values of type {dtype}")


def _vectors(n: int) -> Holding:
    return Holding("vector", f"lists of {n} numbers", n)


def list_in(cells: pl.Series) -> list[Any]:
    """Return the list that the first cell with a value is as JSON; empty where it is not one."""
    first = cells.drop_nulls().head(1).to_list()
    if not first or not first[0].lstrip().startswith("["):
        return []
    try:
        found = parse(first[0].encode())
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def typed_column(series: pl.Series) -> Column:
    """Make a column of values that have a type in the file; durations are numbers of seconds."""
    if series.dtype == pl.Duration:
        series = seconds(series)
    if series.dtype == pl.String:
        series = series.set(series == "", None)
    return Column(series.name, series.fill_nan(None) if series.dtype.is_float() else series)


def text_column(cells: pl.Series, names: Sequence[str], missing_values: frozenset[str] = frozenset()) -> Column:
    """Make a column of text cells: of numbers where at least half of them are numbers."""
    twice = re.fullmatch(r"(?s)(.*)_duplicated_[0-9]+", cells.name)
    if twice is not None and twice[1] in names:  # the first of them keeps its name, and is what a live row would have
        return Column(cells.name, cells, cells, fault=f"its name, {twice[1]}, is used more than once", unread=True)
    if '"' in cells.name:  # the name that is read here is not the one that a live row would have
        return Column(cells.name, cells, cells, fault="its name has quotes in it; rename it", unread=True)
    texts = cells.str.strip_chars(" \t")
    cells = cells.set((texts == "") | texts.is_in(list(missing_values)), None)
    there = len(cells) - cells.null_count()
    numbers, bad = numbers_from_texts(cells)
    if there and len(bad) <= MAX_INVALID * there and not _has_padded_codes(cells):
        return Column(cells.name, pl.Series(cells.name, numbers).fill_nan(None), cells, len(bad))
    return Column(cells.name, cells, cells)


def _has_padded_codes(cells: pl.Series) -> bool:
    """Whether cells such as 007 are among them: text that looks like numbers."""
    return bool(cells.str.contains(r"^0[0-9]+$").any())


def json_column(name: str, values: Sequence[Any]) -> Column:
    """Make a column of JSON values: of numbers, vectors or text, whichever at least half of them are."""
    types = set(map(type, values)) - {type(None)}
    if str in types:
        values = [None if value == "" else value for value in values]
        types = set(map(type, values)) - {type(None)}
    if not types:
        return Column(name, _none(name, values))
    if types <= {int, float} or types == {bool} or types == {str}:
        return Column(name, _series(name, values, types))
    there = sum(value is not None for value in values)
    if list in types:
        floats = [_vector(value) for value in values]
        bad = there - sum(value is not None for value in floats)
        if bad <= MAX_INVALID * there:
            return Column(name, pl.Series(name, floats, dtype=pl.List(pl.Float64)), n_invalid=bad)
        if types == {list}:
            return Column(name, _none(name, values), fault="a list of something other than numbers")
    numbers = [value if type(value) in (int, float) else None for value in values]
    bad = there - sum(value is not None for value in numbers)
    if bad <= MAX_INVALID * there:
        return Column(name, _series(name, numbers, {int, float}), n_invalid=bad)
    bad = sum(isinstance(value, list | dict) for value in values)
    if bad > MAX_INVALID * there:
        found = sorted({kind_of(value) for value in values if value is not None})
        return Column(name, _none(name, values), fault=f"nested or mixed: {', '.join(found)}; make fields of its parts")
    return Column(name, _series(name, [category_text(value) for value in values], {str}), n_invalid=bad)


def _vector(value: Any) -> list[float | None] | None:
    """Return a list of numbers and nulls as such; None for anything else."""
    if not isinstance(value, list) or not set(map(type, value)) <= {int, float, type(None)}:
        return None
    return [None if item is None else _float(item) for item in value]


def _none(name: str, values: Sequence[Any]) -> pl.Series:
    return pl.Series(name, [None] * len(values), dtype=pl.Null)


def _series(name: str, values: Sequence[Any], types: set[type]) -> pl.Series:
    if types == {str}:  # a lone surrogate is not Unicode
        texts = [None if value is None else value.encode("utf-8", "replace").decode() for value in values]
        return pl.Series(name, texts, dtype=pl.String)
    if types == {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    if types == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pl.Series(name, values, dtype=pl.Int64)
    floats = [None if value is None else _float(value) for value in values]
    return pl.Series(name, floats, dtype=pl.Float64).fill_nan(None)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")
