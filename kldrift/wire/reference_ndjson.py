"""Reference data in NDJSON: the wanted fields of every row."""

import difflib
import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import polars as pl
import zstandard

from kldrift.errors import ReferenceProblem
from kldrift.records import Kind
from kldrift.wire.ndjson import parse_lines
from kldrift.wire.plan import looks_converted
from kldrift.wire.rows import category_text, kind_of, numeric_column

Feature = tuple[str, Kind]

_CHUNK_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class RawColumn:
    """A column before it is made one of numbers or codes.

    Parameters
    ----------
    series : Float64 or String, null where missing or of the wrong type
    n_invalid : values of the wrong type
    got : what they are
    """

    series: pl.Series
    n_invalid: int = 0
    got: str = ""


def missing_columns(path: Path, missing: Sequence[str], there: Sequence[str]) -> ReferenceProblem:
    lines = []
    for name in missing:
        near = difflib.get_close_matches(name, there, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        shown = ", ".join(there[:20]) + (f" and {len(there) - 20} more" if len(there) > 20 else "")
        lines.append(f"{path}: expected a column {name!r}; {hint}the file has {shown or 'no columns'}")
    return ReferenceProblem("\n".join(lines))


def read_ndjson_columns(path: Path, features: Sequence[Feature]) -> tuple[list[RawColumn], int]:
    """The columns of a file and how many of its lines were no objects.

    Read in chunks, so that of a large file only the wanted columns are in memory at once.
    """
    parts: list[list[RawColumn]] = []
    n_rejected = 0
    for chunk in _line_chunks(path):
        bulk = _read_bulk(chunk, features)
        if bulk is None:
            bulk, n_bad = _read_rowwise(chunk, features)
            n_rejected += n_bad
        parts.append(bulk)
    if not parts:
        raise ReferenceProblem(f"{path}: expected rows of reference data, got an empty file")
    out = []
    for pieces in zip(*parts, strict=True):
        got = next((piece.got for piece in pieces if piece.n_invalid), "")
        series = pl.concat([piece.series for piece in pieces], rechunk=True)
        out.append(RawColumn(series, sum(piece.n_invalid for piece in pieces), got))
    suspects = [
        name
        for (name, _), column in zip(features, out, strict=True)
        if column.series.null_count() == len(column.series) and not column.n_invalid
    ]
    if suspects and len(out[0].series):
        there = _field_names(path)
        missing = [name for name in suspects if name not in there]
        if missing:
            raise missing_columns(path, missing, there)
    return out, n_rejected


def _read_bulk(chunk: bytes, features: Sequence[Feature]) -> list[RawColumn] | None:
    """All rows in one call of polars; None if it cannot be sure of every one of them."""
    schema: dict[str, pl.DataType] = {
        name: pl.Float64() if kind == "numeric" else pl.String() for name, kind in features
    }
    if len(schema) < len(features):
        return None
    try:
        frame = pl.read_ndjson(BytesIO(chunk), schema=schema)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError):
        return None
    for name, kind in features:
        if kind == "categorical":
            texts = frame.get_column(name).unique().drop_nulls()
            if any(looks_converted(text) for text in texts.to_list()):
                return None
    return [RawColumn(frame.get_column(name)) for name, _ in features]


def _read_rowwise(chunk: bytes, features: Sequence[Feature]) -> tuple[list[RawColumn], int]:
    parsed = parse_lines([chunk])
    out = []
    for name, kind in features:
        values = [row.get(name) for row in parsed.rows]
        if kind == "numeric":
            numbers, bad = numeric_column(values, 0)
            series = pl.Series(name, numbers, dtype=pl.Float64).fill_nan(None)
            n_invalid, got = (0, "") if bad is None else (len(bad.rows), bad.got[0])
        else:
            values = parsed.exact_integers(values, name)
            wrong = [kind_of(value) for value in values if isinstance(value, (list, dict))]
            series = pl.Series(name, [_text(value) for value in values], dtype=pl.String)
            n_invalid, got = len(wrong), wrong[0] if wrong else ""
        out.append(RawColumn(series, n_invalid, got))
    return out, sum(len(np.unique(records)) for records in parsed.rejected.values())


def _text(value: Any) -> str | None:
    text = category_text(value)
    # A lone surrogate is no Unicode, so no category: such a value will be unseen in the stream.
    return None if text is None else text.encode("utf-8", "replace").decode("utf-8")


def _field_names(path: Path) -> list[str]:
    """The fields of the first rows."""
    chunk = next(_line_chunks(path))
    names: dict[str, None] = {}
    for row in parse_lines([b"\n".join(chunk.split(b"\n", 1000)[:1000])]).rows:
        names |= dict.fromkeys(row)
    return list(names)


def _line_chunks(path: Path) -> Iterator[bytes]:
    """The file in runs of whole lines."""
    with _opened(path) as file:
        rest = b""
        while block := file.read(_CHUNK_BYTES):
            end = block.rfind(b"\n") + 1
            if end:
                yield rest + block[:end]
                rest = block[end:]
            else:
                rest += block
        if rest:
            yield rest


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file, decompressed."""
    suffix = path.suffix.lower()
    with path.open("rb") as file:
        if suffix == ".gz":
            with gzip.GzipFile(fileobj=file) as plain:
                yield plain  # type: ignore[misc]  # reads like any binary file
        elif suffix == ".zst":
            with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as plain:
                yield plain
        else:
            yield file
