"""Columns of reference data from Parquet, CSV and NDJSON files."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from kldrift.datafiles.opening import check_header, reading
from kldrift.datafiles.reference_ndjson import RawColumn, missing_columns, raw_vectors, read_ndjson_columns
from kldrift.errors import DataFileProblem, ReferenceProblem
from kldrift.records.categories import canonical
from kldrift.records.formats import FORMATS, Format, missing_texts_of
from kldrift.records.kinds import ColumnKind
from kldrift.records.samples import CategoricalColumn, FeatureSchema
from kldrift.records.specs import TimestampSpec
from kldrift.records.types import FloatArray, IntArray
from kldrift.wire import TABLES, columns, parquet
from kldrift.wire.plan import EMPTY, Vector, numbers_among
from kldrift.wire.tables import wanted_for_aspect, without_numbers

_EXPECTED: Final[dict[ColumnKind, str]] = {
    "numeric": "numbers",
    "categorical": "strings, numbers or booleans",
    "vector": "lists of {} numbers",
}
_INSTEAD: Final[dict[ColumnKind, str]] = {
    "numeric": "make the feature categorical",
    "categorical": "remove the feature",
    "vector": "the number of dimensions",
}


#: A name and a kind, for a vector also its dimensions; or everything that there is to know.
Feature = tuple[str, ColumnKind] | tuple[str, ColumnKind, int] | FeatureSchema


@dataclass(frozen=True, slots=True)
class ReferenceColumns:
    """Reference data, in the order of the features asked for.

    Parameters
    ----------
    n_rows : rows read; malformed lines are not among them
    columns : (n_rows,) float64 with NaN where missing, or `CategoricalColumn`, or (n_rows, dimensions) float64 with
        rows of NaN where a vector is missing
    sha256 : of the file as it is, in hexadecimal
    invalid : rows of each column whose value is of the wrong type, and missing there
    n_rejected : lines that were not JSON objects, or held none of the watched fields
    """

    n_rows: int
    columns: tuple[FloatArray | CategoricalColumn, ...]
    sha256: str
    invalid: tuple[IntArray, ...]
    n_rejected: int = 0

    def in_order(self, order: IntArray) -> "ReferenceColumns":
        """Return the rows in another order; `order` (n_rows,) has the number of the row that comes first, and so on."""
        place = np.empty_like(order)
        place[order] = np.arange(order.size)
        return replace(
            self,
            columns=tuple(
                replace(column, codes=column.codes[order]) if isinstance(column, CategoricalColumn) else column[order]
                for column in self.columns
            ),
            invalid=tuple(np.sort(place[rows]) for rows in self.invalid),
        )


def read_columns(
    path: Path,
    features: Sequence[Feature],
    missing_values: frozenset[str] | None = None,
    watched: Collection[str] = (),
) -> ReferenceColumns:
    """Read the columns of some features from a data file.

    Parameters
    ----------
    path : Parquet, CSV or NDJSON, the last two also compressed
    features : several may be read from one column
    missing_values : texts that stand for a missing value; None for those of the format
    watched : the fields of all features of the monitor: a row of NDJSON that holds none of them is left out

    Raises
    ------
    ReferenceProblem
        the file cannot be read or is empty, columns are missing, or all values of a column are of another kind than
        its feature; every such column is named
    """
    schemas = [_schema(feature) for feature in features]
    with reading(path) as data_format:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        n_rejected = 0
        missing = missing_texts_of(data_format, missing_values) | EMPTY
        if data_format in TABLES:
            raw = _read_table(path, data_format, schemas, missing)
        else:
            raw, n_rejected = read_ndjson_columns(path, data_format, schemas, missing, watched)
    n_rows = len(raw[0].values) if raw else 0
    if n_rows == 0:
        raise DataFileProblem(f"{path}: expected rows of data, got none ({n_rejected} lines were left out)")
    problems = [
        f"{path}: {feature.name}: expected {_expected(feature)}, got {column.got or 'none'}; correct the data or"
        f" {_INSTEAD[feature.kind] if feature.of is None else 'remove `of`'}"
        for feature, column in zip(schemas, raw, strict=True)
        if column.n_missing == n_rows and (column.invalid.size or feature.kind == "vector")
    ]
    if problems:
        raise ReferenceProblem("\n".join(problems))
    return ReferenceColumns(
        n_rows,
        tuple(_finished(column.values, f, missing) for f, column in zip(schemas, raw, strict=True)),
        sha256,
        tuple(column.invalid for column in raw),
        n_rejected,
    )


def read_times(path: Path, spec: TimestampSpec, watched: Collection[str] = ()) -> IntArray | None:
    """Read the time of each row, (n_rows,) in ms since 1970, -1 where it has none; None if the file has no such field.

    The rows are those of `read_columns`.
    """
    with reading(path) as data_format:
        if data_format not in TABLES:
            kind: ColumnKind = "categorical" if spec.unit == "iso8601" else "numeric"
            try:
                times = [FeatureSchema(spec.field, kind)]
                (raw,), _ = read_ndjson_columns(path, data_format, times, frozenset(), watched)
            except ReferenceProblem:
                return None
            assert isinstance(raw.values, pl.Series)
            return columns.typed_times(raw.values, spec)
        scan = TABLES[data_format].scan(path)
        if spec.field not in scan.collect_schema().names():
            return None
        series = scan.select(spec.field).collect().get_column(spec.field)
    if FORMATS[data_format].header and spec.unit != "iso8601":
        series = pl.Series(columns.numbers_from_texts(series)[0])
    return columns.typed_times(series, spec)


def _expected(feature: FeatureSchema) -> str:
    if feature.of is not None:
        return wanted_for_aspect(feature)
    return _EXPECTED[feature.kind].format(feature.dimensions)


def _schema(feature: Feature) -> FeatureSchema:
    if isinstance(feature, FeatureSchema):
        return feature
    dimensions = feature[2] if len(feature) == 3 else 0
    if feature[1] == "vector" and dimensions < 1:
        raise ValueError(f"{feature[0]}: expected the dimensions of a vector, got {dimensions}")
    return FeatureSchema(feature[0], feature[1], dimensions=dimensions)


def _read_table(
    path: Path, data_format: Format, features: Sequence[FeatureSchema], missing_texts: frozenset[str]
) -> list[RawColumn]:
    scan = TABLES[data_format].scan(path)
    there = scan.collect_schema().names()
    if FORMATS[data_format].header:
        check_header(path, there)
    names = list(dict.fromkeys(feature.name for feature in features))
    missing = [name for name in names if name not in there]
    if missing:
        raise missing_columns(path, missing, there)
    frame, unreadable = parquet.read(scan, names)
    if unreadable:
        raise ReferenceProblem("\n".join(f"{path}: {name}: {why}" for name, why in unreadable.items()))
    is_text = FORMATS[data_format].header
    return [_raw(frame.get_column(feature.name), feature, is_text, missing_texts) for feature in features]


def _raw(series: pl.Series, feature: FeatureSchema, is_text: bool, missing_texts: frozenset[str]) -> RawColumn:
    if feature.of is not None:
        numbers, bad = columns.aspects(series, feature, missing_texts, is_text=is_text)
        return RawColumn(pl.Series(numbers).fill_nan(None), bad, "text" if is_text else str(series.dtype))
    if feature.kind == "vector":
        vector = Vector(0, feature.name, feature.dimensions)
        read = columns.vectors_from_texts if is_text else columns.typed_vectors
        return raw_vectors(*read(series, vector, missing_texts))
    if feature.kind == "categorical":
        texts, bad = columns.typed_texts(series)
        return RawColumn(texts, bad, str(series.dtype))
    parse = columns.numbers_from_texts if is_text else columns.typed_numbers
    numbers, bad = parse(series, missing_texts)
    example = f" such as {str(series[int(bad[0])])[:40]!r}" if len(bad) else ""
    made = pl.Series(numbers, dtype=pl.Float64).fill_nan(None)
    return RawColumn(made, bad, ("text" if is_text else str(series.dtype)) + example)


def _finished(
    values: pl.Series | FloatArray, feature: FeatureSchema, missing_texts: frozenset[str]
) -> FloatArray | CategoricalColumn:
    if not isinstance(values, pl.Series):
        return values
    if values.dtype == pl.String:
        return _categorical(values, missing_texts)
    numbers = columns.floats(values)
    return numbers if feature.of is not None else without_numbers(numbers, numbers_among(missing_texts))


def _categorical(texts: pl.Series, missing_texts: frozenset[str]) -> CategoricalColumn:
    distinct = texts.drop_nulls().unique()
    found = texts.cast(pl.Enum(distinct)).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
    names = [None if text in missing_texts else canonical(text) for text in distinct.to_list()]
    values = sorted({name for name in names if name is not None})
    codes = {name: code for code, name in enumerate(values)}
    code_of = np.array([*(-1 if name is None else codes[name] for name in names), -1], dtype=np.int32)
    return CategoricalColumn(tuple(values), code_of[found])
