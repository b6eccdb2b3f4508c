"""From decoded JSON values to columns: the pass that looks at every value.

It defines what a value means; the bulk decoders are fast ways to the same columns.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, compress
from operator import itemgetter
from typing import Any, Final

import numpy as np
import orjson
import polars as pl

from kldrift.records.categories import category_text
from kldrift.records.samples import FeatureSchema
from kldrift.records.types import CodeArray, FloatArray, IntArray
from kldrift.wire.aspects import aspect_of
from kldrift.wire.plan import EMPTY, Category, Plan, Vector, numbers_among
from kldrift.wire.tables import Column, Invalid, Table, missing_column
from kldrift.wire.timestamps import times_from_values
from kldrift.wire.vectors import NOT_FINITE, vectors_from_flat, wrong_length

Row = dict[str, Any]
Exact = Callable[[list[Any], str], list[Any]]

_NUMBERS: Final = {float, int, type(None)}
_REALS: Final = {float, int}
_TEXTS: Final = {str, type(None)}
_NESTED: Final = {list, dict}
_NAMES: Final[Mapping[type, str]] = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
    type(None): "null",
}

#: What may stand around a number, and around a text in place of one.
BLANK: Final = " \t"

#: Python refuses longer ones (they would take quadratic time); they are infinite as float64 anyway.
_MAX_INTEGER_DIGITS: Final = 4000


def kind_of(value: object) -> str:
    """Describe a JSON value in a message."""
    return _NAMES.get(type(value), "something else")


def table_from_rows(rows: Sequence[Row], plan: Plan, exact: Exact | None = None) -> Table:
    """Make columns of row objects.

    Parameters
    ----------
    exact : makes the values of a field exact, where integers beyond 64 bits became floats
    """
    columns: list[Column] = [np.empty(0)] * plan.n_features
    invalid: list[Invalid] = []
    if plan.numeric:
        _fill_numeric(columns, invalid, rows, plan)
    for index, feature in plan.aspects:
        columns[index], bad = aspect_column([row.get(feature.name) for row in rows], index, feature, plan.missing_texts)
        if bad is not None:
            invalid.append(bad)
    for category in plan.categorical:
        name = category.feature.name
        values = [row.get(name) for row in rows]
        if exact is not None and float in set(map(type, values)):
            values = exact(values, name)
        columns[category.index], bad = categorical_column(values, category)
        if bad is not None:
            invalid.append(bad)
    for vector in plan.vectors:
        columns[vector.index], bad = vector_column([row.get(vector.name) for row in rows], vector, plan.missing_texts)
        if bad is not None:
            invalid.append(bad)
    event_ms: IntArray | None = None
    if plan.schema.timestamp is not None:
        field = plan.schema.timestamp.field
        event_ms = times_from_values([row.get(field) for row in rows], plan.schema.timestamp)
    invalid.sort(key=lambda item: item.feature)
    return Table(len(rows), columns, event_ms, invalid)


def _fill_numeric(columns: list[Column], invalid: list[Invalid], rows: Sequence[Row], plan: Plan) -> None:
    """Set the numeric columns; as one matrix where every value is a number or null (50 times less overhead)."""
    names = [name for _, name in plan.numeric]
    tuples: list[tuple[object, ...]]
    try:
        get = itemgetter(*names)
        tuples = [get(row) for row in rows] if len(names) > 1 else [(get(row),) for row in rows]
    except KeyError:
        tuples = [tuple(map(row.get, names)) for row in rows]
    if set(map(type, chain.from_iterable(tuples))) <= _NUMBERS:
        try:
            matrix = np.array(tuples, dtype=np.float64).reshape(len(rows), len(names))
        except OverflowError:  # an integer beyond float64
            pass
        else:
            for (index, _), column in zip(plan.numeric, np.ascontiguousarray(matrix.T), strict=True):
                columns[index] = column
            return
    for at, (index, _) in enumerate(plan.numeric):
        columns[index], bad = numeric_column([values[at] for values in tuples], index, plan.missing_texts)
        if bad is not None:
            invalid.append(bad)


def is_missing(value: object, missing_texts: frozenset[str]) -> bool:
    """Return whether a value that should be a number is missing: null, or a text that stands for it."""
    return value is None or (isinstance(value, str) and value.strip(BLANK) in missing_texts)


def numeric_column(
    values: Sequence[object], index: int, missing_texts: frozenset[str] = EMPTY
) -> tuple[FloatArray, Invalid | None]:
    """Make a column of float64, NaN where a value is missing or not a number; also return where it is not a number."""
    types = set(map(type, values))
    if types <= _NUMBERS:
        try:
            return np.array(values, dtype=np.float64), None
        except OverflowError:
            pass
    others = [i for i, value in enumerate(values) if type(value) not in _NUMBERS]
    rows = [i for i in others if not is_missing(values[i], missing_texts)]
    numbers = list(values)
    for i in others:
        numbers[i] = None
    try:
        column = np.array(numbers, dtype=np.float64)
    except OverflowError:
        column = np.array([_float(value) for value in numbers])
    return column, Invalid(index, np.array(rows, dtype=np.int64), [kind_of(values[i]) for i in rows]) if rows else None


def _float(value: Any) -> float:
    """Return a number as float64, NaN for none; an integer beyond it is infinite."""
    try:
        return np.nan if value is None else float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def aspect_column(
    values: Sequence[object], index: int, feature: FeatureSchema, missing_texts: frozenset[str] = EMPTY
) -> tuple[FloatArray, Invalid | None]:
    """Make a column of an aspect of the values, NaN where one is missing or has none; also return where it has none."""
    missing = np.array([is_missing(value, missing_texts) or value != value for value in values], dtype=np.bool_)
    if feature.of == "length" or feature.unit == "iso8601":
        # a lone surrogate is one character, too
        texts = [value.encode("utf-8", "replace").decode() if isinstance(value, str) else None for value in values]
        series = pl.Series(texts, dtype=pl.String)
        column = aspect_of(series if feature.of == "length" else series.str.strip_chars(BLANK), feature)
    else:
        numbers, _ = numeric_column(values, index)
        missing |= np.isin(numbers, numbers_among(missing_texts))
        column = aspect_of(pl.Series(numbers), feature)
    column = np.where(missing, np.nan, column)
    rows = np.flatnonzero(np.isnan(column) & ~missing)
    return column, Invalid(index, rows, [kind_of(values[i]) for i in rows.tolist()]) if rows.size else None


def categorical_column(values: Sequence[object], category: Category) -> tuple[CodeArray, Invalid | None]:
    """Make a column of codes; also return where a value is a list or an object, which is not a category."""
    texts: Sequence[Any] = values
    bad = None
    types = set(map(type, values))
    others = types - _TEXTS
    if len(others) == 1 and types.isdisjoint(_NESTED):
        # mostly a few numbers; of two types, different values may be equal (1 and true)
        text_of = {value: category_text(value) for value in dict.fromkeys(values)}
        category.learn(text_of.values())
        of_text = category.known.codes
        code_of = {value: of_text[text] for value, text in text_of.items()}
        return np.fromiter(map(code_of.__getitem__, values), np.int32, len(values)), None
    if others:
        texts = [category_text(value) for value in values]
        rows = [i for i, value in enumerate(values) if isinstance(value, (list, dict))]
        if rows:
            bad = Invalid(category.index, np.array(rows, dtype=np.int64), [kind_of(values[i]) for i in rows])
    if category.may_learn:
        category.learn(dict.fromkeys(texts))
    return np.fromiter(map(category.known.codes.__getitem__, texts), np.int32, len(texts)), bad


def vector_column(
    values: Sequence[object], vector: Vector, missing_texts: frozenset[str] = EMPTY
) -> tuple[FloatArray, Invalid | None]:
    """Make a matrix of float64, a row of NaN where a value is missing or not a vector; also return where it is not one.

    A vector is a list of so many finite numbers.
    """
    size = vector.dimensions
    fits = [type(v) is list and len(v) == size and set(map(type, v)) <= _REALS for v in values]
    lists: list[list[Any]] = list(compress(values, fits))  # type: ignore[arg-type]
    try:
        numbers = np.fromiter(chain.from_iterable(lists), np.float64, size * len(lists))
    except OverflowError:  # an integer beyond float64
        numbers, _ = numeric_column(list(chain.from_iterable(lists)), vector.index)
    column, there = vectors_from_flat(numbers, np.array(fits, dtype=np.bool_), size)
    rows = [i for i in np.flatnonzero(~there).tolist() if not is_missing(values[i], missing_texts)]
    if not rows:
        return column, None
    return column, Invalid(vector.index, np.array(rows, dtype=np.int64), [_no_vector(values[i], size) for i in rows])


def _no_vector(value: object, size: int) -> str:
    """Describe a value that is not a vector of `size` numbers."""
    if not isinstance(value, list):
        return kind_of(value)
    if len(value) != size:
        return wrong_length(len(value))
    return next((f"a list with {kind_of(item)}" for item in value if type(item) not in _NUMBERS), NOT_FINITE)


def column_of(values: Sequence[object] | None, n_rows: int, index: int, plan: Plan) -> tuple[Column, Invalid | None]:
    """Make the column of feature `index` from its values; without values, all are missing."""
    if values is None:
        return missing_column(plan, index, n_rows), None
    feature: FeatureSchema = plan.schema.features[index]
    if feature.of is not None:
        return aspect_column(values, index, feature, plan.missing_texts)
    if feature.kind == "numeric":
        return numeric_column(values, index, plan.missing_texts)
    if feature.kind == "categorical":
        return categorical_column(values, next(category for category in plan.categorical if category.index == index))
    vector = next(vector for vector in plan.vectors if vector.index == index)
    return vector_column(values, vector, plan.missing_texts)


# --- JSON text to values --------------------------------------------------------------------------


def parse(text: bytes) -> Any:
    """Parse JSON as every decoder here understands it.

    NaN and Infinity are taken, as Python's json module writes them; numbers beyond float64 are infinite; lone
    surrogates are kept. Of a repeated key the first value counts; orjson takes the last, so see `parse_exact`.

    Raises
    ------
    ValueError
        with the place and the fault; `orjson.JSONDecodeError` is one
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if len(text) > 300 or any(mark in text for mark in (b"N", b"I", b"e", b"E", b"\\u")):
            try:
                return parse_exact(text)
            except RecursionError:
                raise error from None
        raise


def parse_exact(text: bytes) -> Any:
    """Parse JSON with the first value of every repeated key, and every integer exact; ten times slower."""
    return _SLOW.decode(text.decode("utf-8"))


def may_repeat_keys(text: bytes, n_keys: int) -> bool:
    """Return whether an object parsed to `n_keys` keys may have repeated some.

    A key ends in ``":``, unless white space stands between the two; keys of inner objects and such text within
    strings only add to the count. So equality, without such white space, proves that no key came twice.
    """
    n_ends = text.count(b'":')
    if n_ends != n_keys:
        return True
    # no other colon at all: no white space before one either (a tenth of the time of looking for it)
    return text.count(b":") != n_ends and any(mark in text for mark in (b'" ', b'"\t', b'"\r', b'"\n'))


def _first_wins(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        row |= dict(reversed(pairs))  # in the order of the first ones
    return row


def _integer(digits: str) -> int | float:
    if len(digits) <= _MAX_INTEGER_DIGITS:
        return int(digits)
    return -np.inf if digits.startswith("-") else np.inf


_SLOW: Final = json.JSONDecoder(object_pairs_hook=_first_wins, parse_int=_integer)
