"""From Arrow IPC streams to columns."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from kldrift.errors import DecodeError
from kldrift.kernels.bin_table import BinTable
from kldrift.records.categories import category_text
from kldrift.records.types import FloatArray, IntArray
from kldrift.wire.columns import aspects
from kldrift.wire.ipc import Values, read_stream, stream_fields
from kldrift.wire.ipc_schema import ArrowType
from kldrift.wire.plan import Category, Plan, Vector, is_unicode
from kldrift.wire.rows import BLANK
from kldrift.wire.tables import NO_TIME, Column, Decoding, Invalid, Table, concatenate, missing_column
from kldrift.wire.timestamps import times_from_numbers, times_from_texts
from kldrift.wire.vectors import invalid_lists, vectors_from_flat

_TEXT: Final = ("utf8", "large_utf8", "utf8_view")


def decode(bodies: Sequence[bytes], plan: Plan, _header: bytes = b"", _bins: BinTable | None = None) -> Decoding:
    """Decode the bodies one by one; decoding them together would gain next to nothing."""
    wanted = {feature.name for feature in plan.schema.features}
    names = frozenset(wanted if plan.schema.timestamp is None else wanted | {plan.schema.timestamp.field})
    tables: list[Table] = []
    counts: list[int] = []
    unreadable: dict[int, str] = {}
    room = plan.max_rows
    for i, body in enumerate(bodies):
        count = 0
        try:
            made = _decode_body(body, names, plan, room)
            count = sum(table.n_records for table in made)
            tables += made
            room -= count
        except DecodeError as error:
            unreadable[i] = f"expected an Arrow IPC stream, got: {error}"
        counts.append(count)
    return Decoding(concatenate(tables, plan), counts, unreadable)


def field_names(body: bytes, _header: bytes = b"") -> Iterable[str]:
    """Name the columns."""
    return stream_fields(body)


def _decode_body(body: bytes, names: frozenset[str], plan: Plan, room: int) -> list[Table]:
    if not body:
        raise DecodeError("an empty body")
    tables = []
    for n_rows, values in read_stream(body, names):
        room -= n_rows
        if room < 0:
            raise DecodeError(
                f"too many rows of {plan.n_numbers} values to decode at once (at most {plan.max_rows}); "
                "send them in smaller bodies"
            )
        if plan.watched.isdisjoint(values):
            wanted = ", ".join(plan.schema.watched[:8])
            raise DecodeError(f"no column is a feature (expected some of {wanted})")
        if n_rows:
            tables.append(_table(n_rows, values, plan))
    return tables


def _table(n_rows: int, values: dict[str, Values], plan: Plan) -> Table:
    columns: list[Column] = [np.empty(0)] * plan.n_features
    invalid: list[Invalid] = []
    for index, feature in enumerate(plan.schema.features):
        if feature.name not in values:
            columns[index] = missing_column(plan, index, n_rows)
    for index, name in plan.numeric:
        column = values.get(name)
        if column is None:
            continue
        if column.type.is_number or column.type.name in ("null", "duration"):
            columns[index] = _floats(column)
        else:
            columns[index] = missing_column(plan, index, n_rows)
            _add_invalid(invalid, index, column, plan)
    for index, feature in plan.aspects:
        column = values.get(feature.name)
        if column is None:
            continue
        columns[index], bad = aspects(_series(column), feature, plan.missing_texts)
        if len(bad):
            invalid.append(Invalid(index, bad, f"a value of Arrow type {column.type.name}"))
    for category in plan.categorical:
        column = values.get(category.feature.name)
        if column is None:
            continue
        if column.type.is_number or column.type.name in (*_TEXT, "bool", "null"):
            columns[category.index] = _codes(column, category)
        else:
            columns[category.index] = missing_column(plan, category.index, n_rows)
            _add_invalid(invalid, category.index, column, plan)
    for vector in plan.vectors:
        column = values.get(vector.name)
        if column is None:
            continue
        if column.items is not None:
            columns[vector.index], fault = _vectors(column, vector)
            if fault is not None:
                invalid.append(fault)
        else:
            columns[vector.index] = missing_column(plan, vector.index, n_rows)
            if column.type.name != "null":
                _add_invalid(invalid, vector.index, column, plan)
    invalid.sort(key=lambda item: item.feature)
    return Table(n_rows, columns, _times(n_rows, values, plan), invalid)


def _add_invalid(invalid: list[Invalid], index: int, column: Values, plan: Plan) -> None:
    there = np.ones(column.n, dtype=np.bool_) if column.valid is None else column.valid
    if column.texts:
        missing = {text.encode() for text in plan.missing_texts if is_unicode(text)}
        has_text = np.array([text.strip(BLANK.encode()) not in missing for text in column.texts], dtype=np.bool_)
        there = there & (has_text if column.index is None else has_text[column.index])
    rows = np.flatnonzero(there)
    if len(rows):
        invalid.append(Invalid(index, rows, f"a value of Arrow type {column.type.name}"))


def _series(column: Values) -> pl.Series:
    """Return texts, times and numbers as a series; True for other values, and null where there is none."""
    if column.texts is not None:
        texts = [text.decode("utf-8", "replace") for text in column.texts]
        series = pl.Series(texts if column.index is None else [texts[i] for i in column.index], dtype=pl.String)
    elif column.type.is_number:
        series = pl.Series(_floats(column)).fill_nan(None)
    elif column.type.is_time:
        ms = _milliseconds(column)
        series = pl.Series(np.where(np.isnan(ms), 0, np.floor(ms)).astype(np.int64)).cast(pl.Datetime("ms"))
    else:
        series = pl.Series([column.type.name != "null"] * column.n).set(
            pl.Series([column.type.name == "null"] * column.n), None
        )
    return series if column.valid is None else series.set(pl.Series(~column.valid), None)


def _milliseconds(column: Values) -> FloatArray:
    """Return times as milliseconds since 1970, NaN where null."""
    ms, per_unit = _floats(column), column.type.ms_per_unit
    return ms * per_unit if per_unit >= 1 else ms / round(1 / per_unit)


def _floats(column: Values) -> npt.NDArray[np.float64]:
    """Return values as float64, NaN where null: durations in seconds, float64 without nulls as a view of the body."""
    numbers = column.numbers
    if numbers is None:
        return np.full(column.n, np.nan)
    if column.type.name == "decimal":
        floats = _decimals(numbers, column.type)
    elif column.type.name == "duration":
        floats = numbers.astype(np.float64) / round(1000 / column.type.ms_per_unit)
    elif column.type.dtype in ("<f2", "<f4"):
        with np.errstate(invalid="ignore"):  # a signalling NaN
            floats = numbers.astype(np.float64)
    else:
        floats = numbers.astype(np.float64, copy=False)
    if column.index is not None:
        floats = floats[column.index] if len(floats) else np.full(column.n, np.nan)
    return floats if column.valid is None else np.where(column.valid, floats, np.nan)


def _decimals(numbers: npt.NDArray[np.generic], kind: ArrowType) -> npt.NDArray[np.float64]:
    if numbers.dtype.itemsize < 16:
        return numbers.astype(np.float64) / 10.0**kind.scale
    halves = numbers.view("<i8").reshape(-1, 2)
    low, high = halves[:, 0], halves[:, 1]
    # A small negative number is -1 in its high half: only its low half is exact.
    whole = np.where(high == low >> 63, low.astype(np.float64), high * 2.0**64 + low.view("<u8").astype(np.float64))
    return whole / 10.0**kind.scale


def _vectors(column: Values, vector: Vector) -> tuple[FloatArray, Invalid | None]:
    """Make vectors of lists of numbers; a view of the body for float64 if every row holds one."""
    items, offsets = column.items, column.offsets
    assert items is not None
    assert items.numbers is not None
    assert offsets is not None
    lengths = np.diff(offsets)
    if column.valid is not None:
        lengths[~column.valid] = -1
    fits = lengths == vector.dimensions
    picked: slice | IntArray = slice(offsets[0], offsets[-1])
    if not fits.all():
        picked = (offsets[:-1][fits, np.newaxis] + np.arange(vector.dimensions)).ravel()
    numbers = items.numbers[picked]
    valid = None if items.valid is None else items.valid[picked]
    floats = _floats(Values(len(numbers), items.type, numbers, valid=valid))
    matrix, there = vectors_from_flat(floats, fits, vector.dimensions)
    return matrix, invalid_lists(lengths, there, vector)


def _codes(column: Values, category: Category) -> npt.NDArray[np.int32]:
    """Return the codes of the values, looked up once for each distinct one."""
    feature = category.feature
    places = column.index
    texts: Sequence[bytes | None]
    if column.texts is not None:
        texts = column.texts
    elif column.numbers is not None:
        distinct, inverse = _distinct(column)
        texts = [None if (text := category_text(value)) is None else text.encode() for value in distinct]
        places = inverse if places is None or not len(inverse) else inverse[places]
    else:
        texts, places = [], np.empty(0, dtype=np.int64)
    if not texts:
        return np.full(column.n, feature.missing_code, dtype=np.int32)
    if places is not None and len(places) < len(texts):  # a stream may have a batch for each row
        used, places = np.unique(places, return_inverse=True)
        texts = [texts[place] for place in used.tolist()]
    if category.may_learn:
        category.learn(_in_order_of_rows(texts, places, column.valid))
    codes = np.fromiter(map(category.known.byte_codes.__getitem__, texts), np.int32, len(texts))
    if places is not None:
        codes = codes[places]
    return codes if column.valid is None else np.where(column.valid, codes, np.int32(feature.missing_code))


def _in_order_of_rows(
    texts: Sequence[bytes | None], places: IntArray | None, valid: npt.NDArray[np.bool_] | None
) -> Iterator[str | None]:
    """Yield each text that a row has, in order of appearance.

    Parameters
    ----------
    places : (n,) of each row's text, where they are distinct; else None
    valid : (n,) bool, the rows that have one; None where all have
    """
    if places is None:
        rows = range(len(texts)) if valid is None else np.flatnonzero(valid).tolist()
        taken = dict.fromkeys(texts[row] for row in rows)
    else:
        distinct, first = np.unique(places if valid is None else places[valid], return_index=True)
        taken = dict.fromkeys(texts[place] for place in distinct[np.argsort(first)].tolist())
    for text in taken:
        try:
            yield None if text is None else text.decode()
        except UnicodeDecodeError:  # not text, so not a category
            continue


def _distinct(column: Values) -> tuple[list[object], IntArray]:
    numbers = column.numbers
    assert numbers is not None
    if column.type.name == "decimal":
        numbers = _decimals(numbers, column.type)
    if numbers.dtype.kind == "f":  # -0.0 and 0.0 are different texts, so compare their bits
        floats = numbers.astype(np.float64)
        bits, places = np.unique(floats.view(np.int64), return_inverse=True)
        return bits.view(np.float64).tolist(), places
    distinct, places = np.unique(numbers, return_inverse=True)
    return distinct.tolist(), places


def _times(n_rows: int, values: dict[str, Values], plan: Plan) -> IntArray | None:
    spec = plan.schema.timestamp
    if spec is None:
        return None
    column = values.get(spec.field)
    if column is None:
        return np.full(n_rows, NO_TIME, dtype=np.int64)
    if column.type.is_time:
        return times_from_numbers(_milliseconds(column), "ms")
    if spec.unit == "iso8601" and column.texts is not None:
        places = range(n_rows) if column.index is None else column.index.tolist()
        valid = [True] * n_rows if column.valid is None else column.valid.tolist()
        texts = [column.texts[i] if there else None for i, there in zip(places, valid, strict=True)]
        return times_from_texts([None if text is None else text.decode("utf-8", "replace") for text in texts])
    if spec.unit != "iso8601" and column.type.is_number:
        return times_from_numbers(_floats(column), spec.unit)
    return np.full(n_rows, NO_TIME, dtype=np.int64)
