"""The columns of a data file and what they hold, as far as its beginning tells: for commands that have no
configuration.
"""

import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import orjson
import polars as pl

from kldrift.errors import DecodeError, SourceError
from kldrift.records.formats import EXPECTED_NAME, FORMATS, Format, format_of
from kldrift.records.kinds import Kind
from kldrift.records.sources import FileSourceConfig
from kldrift.sources.base import Surroundings
from kldrift.sources.file import FileSource
from kldrift.wire import TABLES, count_rows
from kldrift.wire.parquet import READ_ERRORS, reason

#: Rows from which kinds are guessed where the file does not say.
ROWS_LOOKED_AT: Final = 10_000


@dataclass(frozen=True, slots=True)
class FileColumn:
    """What a column holds.

    Parameters
    ----------
    kind : of the feature that can be made of it; None where there is none
    holds : in a word, for people
    dimensions : of vectors
    """

    kind: Kind | None
    holds: str
    dimensions: int = 0


NOTHING = FileColumn(None, "no values")
NUMBERS = FileColumn("numeric", "numbers")
TEXTS = FileColumn("categorical", "text")
BOOLEANS = FileColumn("categorical", "booleans")


def file_format(path: Path) -> Format:
    """By the end of the name, without ``.gz`` or ``.zst``.

    Raises
    ------
    SourceError
        it names no format
    """
    found = format_of(path)
    if found is None:
        raise SourceError(f"{path}: expected {EXPECTED_NAME}", "format")
    return found


def file_columns(path: Path) -> dict[str, FileColumn]:
    """The columns by name, in their order.

    Raises
    ------
    SourceError
        there is no such file, it cannot be read, or it has no rows
    """
    data_format = file_format(path)
    if not path.is_file():
        raise SourceError(f"{path}: expected a file, {'it is none' if path.exists() else 'there is none'}", "not_found")
    try:
        info = FORMATS[data_format]
        if not info.is_stream:
            return _of_table(path, data_format)
        header, lines = _first_lines(path, data_format)
        return _of_csv(header + lines) if info.header else of_rows(_objects(lines))
    except READ_ERRORS as error:
        raise SourceError(f"{path}: cannot be read as {data_format}: {reason(error)}") from None
    except DecodeError as error:
        raise SourceError(f"{path}: {error}") from None


def line_source(path: Path, data_format: Format, on_error: Any) -> FileSource:
    """The lines of a file, decompressed, to its end."""
    config = FileSourceConfig(name=path.name, path=str(path), format=data_format)
    return FileSource(config, Surroundings(clock_ms=lambda: 0, on_error=on_error))


def _first_lines(path: Path, data_format: Format) -> tuple[bytes, bytes]:
    problems: list[str] = []
    source = line_source(path, data_format, lambda _, detail: problems.append(detail))
    try:
        with closing(source.chunks({}, threading.Event())) as chunks:
            for chunk in chunks:
                if chunk is not None and isinstance(chunk.payload, bytes):
                    return chunk.header, chunk.payload
    except SourceError as error:
        raise SourceError(problems[0] if problems else str(error), error.reason) from None
    raise SourceError(f"{path}: expected rows, got none", "empty")


def _of_table(path: Path, data_format: Format) -> dict[str, FileColumn]:
    if count_rows(data_format, path) == 0:
        raise SourceError(f"{path}: expected rows, got none", "empty")
    return _of_frame(TABLES[data_format](path))


def _of_csv(data: bytes) -> dict[str, FileColumn]:
    frame = pl.read_csv(BytesIO(data), n_rows=ROWS_LOOKED_AT, infer_schema_length=None, truncate_ragged_lines=True)
    return _of_frame(frame.lazy())


def _of_frame(frame: pl.LazyFrame) -> dict[str, FileColumn]:
    schema = frame.collect_schema()
    lists = [name for name, dtype in schema.items() if isinstance(dtype, pl.List)]
    lengths = frame.select(pl.col(lists).list.len()).head(ROWS_LOOKED_AT).collect() if lists else pl.DataFrame()
    return {
        name: _of_dtype(dtype, lengths[name].drop_nulls().to_list() if name in lists else ())
        for name, dtype in schema.items()
    }


def _of_dtype(dtype: pl.DataType, lengths: Iterable[int]) -> FileColumn:
    """What a typed column holds; `lengths` are those of its lists."""
    if isinstance(dtype, pl.Array | pl.List) and isinstance(dtype.inner, pl.DataType) and dtype.inner.is_numeric():
        return _vectors([dtype.size] if isinstance(dtype, pl.Array) else lengths)
    if dtype.is_numeric():
        return NUMBERS
    if dtype == pl.Boolean:
        return BOOLEANS
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return TEXTS
    if dtype == pl.Null:
        return NOTHING
    return FileColumn(None, "times" if dtype.is_temporal() else f"values of type {dtype}")


def _vectors(lengths: Iterable[int]) -> FileColumn:
    """Vectors as long as most are."""
    common = Counter(length for length in lengths if length).most_common(1)
    return FileColumn("vector", f"lists of {common[0][0]} numbers", common[0][0]) if common else NOTHING


def _objects(lines: bytes) -> list[dict[str, Any]]:
    """The first lines that are objects."""
    found = []
    for line in lines.split(b"\n", ROWS_LOOKED_AT)[:ROWS_LOOKED_AT]:
        try:
            row = orjson.loads(line)
        except ValueError:  # counted when all of them are read
            continue
        if isinstance(row, dict):
            found.append(row)
    if not found:
        raise ValueError("none of its first lines is a JSON object")
    return found


def of_rows(rows: Iterable[dict[str, Any]]) -> dict[str, FileColumn]:
    """What the fields of JSON objects hold; one that holds several things is text, if it has a text at all."""
    seen: dict[str, set[FileColumn]] = {}
    lengths: dict[str, list[int]] = {}
    for row in rows:
        for name, value in row.items():
            seen.setdefault(name, set()).add(_of_value(value))
            if isinstance(value, list):
                lengths.setdefault(name, []).append(len(value))
    return {name: _together(held - {NOTHING}, lengths.get(name, ())) for name, held in seen.items()}


_LISTS = FileColumn("vector", "lists")


def _of_value(value: Any) -> FileColumn:
    match value:
        case None:
            return NOTHING
        case bool():
            return BOOLEANS
        case int() | float():
            return NUMBERS
        case str():
            return TEXTS
        case list() if all(isinstance(item, int | float) for item in value):
            return _LISTS
    return FileColumn(None, "lists of other things" if isinstance(value, list) else "objects")


def _together(held: set[FileColumn], lengths: Iterable[int]) -> FileColumn:
    if len(held) == 1:
        (only,) = held
        return _vectors(lengths) if only is _LISTS else only
    if not held:
        return NOTHING
    scalar = held <= {NUMBERS, TEXTS, BOOLEANS}
    return TEXTS if scalar else FileColumn(None, " and ".join(sorted(column.holds for column in held)))
