"""Reference data from NDJSON: the wanted fields of every row."""

import difflib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from kldrift.datafiles.opening import line_chunks
from kldrift.datafiles.sample import column_names
from kldrift.errors import DataFileProblem, ReferenceProblem
from kldrift.records.categories import category_text
from kldrift.records.formats import Format
from kldrift.records.samples import FeatureSchema
from kldrift.records.types import FloatArray, IntArray
from kldrift.wire.columns import typed_vectors
from kldrift.wire.ndjson import Lines, parse_lines
from kldrift.wire.plan import Vector, looks_converted, polars_type
from kldrift.wire.rows import aspect_column, kind_of, numeric_column, vector_column
from kldrift.wire.tables import Invalid
from kldrift.wire.unknown_fields import may_lack_all, take_unknown


@dataclass(frozen=True, slots=True)
class RawColumn:
    """A column before it is turned into numbers or codes.

    Parameters
    ----------
    values : Float64 or String, null where missing or of the wrong type; or vectors, NaN where there is none
    invalid : rows of the values of the wrong type
    got : a description of them
    """

    values: pl.Series | FloatArray
    invalid: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    got: str = ""

    @property
    def n_missing(self) -> int:
        """Number of values that are missing or of the wrong type."""
        if isinstance(self.values, pl.Series):
            return self.values.null_count()
        return int(np.isnan(self.values[:, 0]).sum())


def raw_vectors(vectors: FloatArray, bad: Invalid | None) -> RawColumn:
    """Make a raw column from the output of a decoder of vectors."""
    return RawColumn(vectors) if bad is None else RawColumn(vectors, bad.rows, first_got(bad))


def first_got(bad: Invalid) -> str:
    """Describe the first of some invalid values."""
    return bad.got if isinstance(bad.got, str) else bad.got[0]


def missing_columns(path: Path, missing: Sequence[str], there: Sequence[str]) -> ReferenceProblem:
    lines = []
    for name in missing:
        near = difflib.get_close_matches(name, there, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        shown = ", ".join(there[:20]) + (f" and {len(there) - 20} more" if len(there) > 20 else "")
        lines.append(f"{path}: expected a column {name!r}; {hint}the file has {shown or 'no columns'}")
    return ReferenceProblem("\n".join(lines))


def read_ndjson_columns(
    path: Path,
    data_format: Format,
    features: Sequence[FeatureSchema],
    missing_texts: frozenset[str],
    watched: Collection[str] = (),
) -> tuple[list[RawColumn], int]:
    """Read the columns of a file, and count its lines that are not objects, or hold none of the watched fields.

    Read in chunks, so that of a large file only the wanted columns are in memory at once.

    Parameters
    ----------
    watched : a row that holds none of these fields is left out; where none are given, no row is
    """
    known = frozenset(watched)
    parts: list[list[RawColumn]] = []
    n_rejected = 0
    for chunk in _payloads(path, data_format):
        bulk = _read_bulk(chunk, features, known)
        if bulk is None:
            bulk, n_bad = _read_rowwise(chunk, features, missing_texts, known)
            n_rejected += n_bad
        parts.append(bulk)
    if not parts:
        raise DataFileProblem(f"{path}: expected rows of data, got none")
    out = []
    for pieces in zip(*parts, strict=True):
        got = next((piece.got for piece in pieces if piece.invalid.size), "")
        starts = np.cumsum([0, *(len(piece.values) for piece in pieces[:-1])])
        invalid = np.concatenate([piece.invalid + start for piece, start in zip(pieces, starts, strict=True)])
        out.append(RawColumn(_joined([piece.values for piece in pieces]), invalid, got))
    suspects = [
        feature.name
        for feature, column in zip(features, out, strict=True)
        if column.n_missing == len(column.values) and not column.invalid.size
    ]
    if suspects and len(out[0].values):
        there = column_names(path, data_format)
        missing = [name for name in suspects if name not in there]
        if missing:
            raise missing_columns(path, missing, there)
    return out, n_rejected


def _joined(parts: Sequence[pl.Series | FloatArray]) -> pl.Series | FloatArray:
    series = [part for part in parts if isinstance(part, pl.Series)]
    return pl.concat(series, rechunk=True) if series else np.concatenate(parts)


def _read_bulk(chunk: bytes, features: Sequence[FeatureSchema], watched: frozenset[str]) -> list[RawColumn] | None:
    """Read all rows in one call of polars; None unless every one of them is certain to be right."""
    schema: dict[str, pl.DataType] = {feature.name: polars_type(feature.kind) for feature in features}
    if any(feature.of or schema[feature.name] != polars_type(feature.kind) for feature in features):
        return None
    try:
        frame = pl.read_ndjson(BytesIO(chunk), schema={**dict.fromkeys(watched, pl.String()), **schema})
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError):
        return None
    if watched and may_lack_all(frame, watched):
        return None
    for feature in features:
        if feature.kind == "categorical":
            texts = frame.get_column(feature.name).unique().drop_nulls()
            if any(looks_converted(text) for text in texts.to_list()):
                return None
    return [_bulk_column(frame.get_column(feature.name), feature) for feature in features]


def _bulk_column(series: pl.Series, feature: FeatureSchema) -> RawColumn:
    if feature.kind != "vector":
        return RawColumn(series)
    return raw_vectors(*typed_vectors(series.rechunk(), Vector(0, feature.name, feature.dimensions)))


def _read_rowwise(
    chunk: bytes, features: Sequence[FeatureSchema], missing_texts: frozenset[str], watched: frozenset[str]
) -> tuple[list[RawColumn], int]:
    parsed = parse_lines([chunk])
    n_rejected = sum(len(np.unique(records)) for records in parsed.rejected.values())
    if watched:
        n_rejected += len(take_unknown(parsed.rows, watched, parsed.texts))
    return [_rowwise_column(parsed, feature, missing_texts) for feature in features], n_rejected


def _rowwise_column(parsed: Lines, feature: FeatureSchema, missing_texts: frozenset[str]) -> RawColumn:
    name = feature.name
    values = [row.get(name) for row in parsed.rows]
    if feature.kind == "vector":
        return raw_vectors(*vector_column(values, Vector(0, name, feature.dimensions), missing_texts))
    if feature.kind == "numeric":
        if feature.of is None:
            numbers, bad = numeric_column(values, 0, missing_texts)
        else:
            numbers, bad = aspect_column(values, 0, feature, missing_texts)
        series = pl.Series(name, numbers, dtype=pl.Float64).fill_nan(None)
        return RawColumn(series) if bad is None else RawColumn(series, bad.rows, first_got(bad))
    values = parsed.exact_integers(values, name)
    wrong = np.array([i for i, value in enumerate(values) if isinstance(value, (list, dict))], dtype=np.int64)
    series = pl.Series(name, [_text(value) for value in values], dtype=pl.String)
    return RawColumn(series, wrong, kind_of(values[wrong[0]]) if wrong.size else "")


def _text(value: Any) -> str | None:
    text = category_text(value)
    # A lone surrogate is not Unicode, so not a category: such a value will be unseen in the stream.
    return None if text is None else text.encode("utf-8", "replace").decode("utf-8")


def _payloads(path: Path, data_format: Format) -> Iterator[bytes]:
    for chunk in line_chunks(path, data_format):
        assert isinstance(chunk.payload, bytes)
        yield chunk.payload
