"""Some rows of a data file as typed columns: its first ones, or stretches from all over it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from kldrift.datafiles.columns import Column, json_column, text_column, typed_column
from kldrift.datafiles.opening import check_header, line_chunks, reading
from kldrift.errors import DataFileProblem
from kldrift.records.formats import FORMATS, Format, format_of
from kldrift.records.types import IntArray
from kldrift.wire import TABLES
from kldrift.wire.ndjson import Lines, parse_lines
from kldrift.wire.parquet import read

#: Rows looked at: at most `MAX_ROWS`, in wide files as many as have `MAX_VALUES` values, but at least `MIN_ROWS`.
MAX_ROWS, MAX_VALUES, MIN_ROWS = 100_000, 4_000_000, 1_000
#: Number of stretches looked at in a file with more rows: what is constant at its beginning may vary later.
STRETCHES = 32
#: Rows looked at where names and types are all that is wanted.
HEAD_ROWS = 10_000
#: From this many rows on, stretches are read as row ranges where the format has them. Each range costs the decoding of
#: what is before it in its row group: in a million rows, all 32 take three times as long as one pass.
RANGES_FROM = 5_000_000
MAX_COLUMNS = 20_000

#: Longer than any file has rows.
_ALL: Final = 1 << 62
_BLANK: Final = np.frombuffer(b" \t\r\n", np.uint8)


@dataclass(frozen=True, slots=True)
class Sample:
    """Some rows of a file.

    Parameters
    ----------
    n_rows : rows of the file; where only its first rows were read, those
    n_looked : rows of the columns here
    first : the first row as JSON; empty where cells have no types
    n_malformed : lines among those looked at that are not JSON objects
    notes : what is odd about the file
    """

    path: Path
    format: Format
    n_rows: int
    n_looked: int
    columns: tuple[Column, ...]
    first: Mapping[str, Any] = field(default_factory=dict)
    n_malformed: int = 0
    notes: tuple[str, ...] = ()


def read_sample(path: Path, max_rows: int = MAX_ROWS) -> Sample:
    """Read rows from all over a file.

    Raises
    ------
    DataFileProblem
        it has no rows, or cannot be read
    """
    return _read(path, max_rows, STRETCHES)


def read_live_sample(path: Path) -> Sample:
    """Read rows of a file that is read once more as live data: what its columns hold.

    They are the first ones where the file says what columns it has, and from all over it where its rows do.

    Raises
    ------
    DataFileProblem
        it has no rows, or cannot be read
    """
    return _read(path, HEAD_ROWS, stretches=1, lenient=True)


def names_every_column(path: Path) -> bool:
    """Return whether a file names its columns, so that none can come up late."""
    return format_of(path) in TABLES


def unreadable_columns(path: Path, names: Sequence[str]) -> dict[str, str]:
    """Return why some of these columns of a file cannot be read, although the others can."""
    with reading(path) as data_format:
        if FORMATS[data_format].is_stream:
            return {}
        scan = TABLES[data_format].scan(path)
        there = scan.collect_schema().names()
        return read(scan, [name for name in names if name in there], lambda table: table.head(1).collect())[1]


def column_names(path: Path, data_format: Format | None = None) -> list[str]:
    """Return the columns of a file: those of its header, or the fields of rows from all over it.

    Parameters
    ----------
    data_format : of the file; by default what its name says

    Raises
    ------
    DataFileProblem
        it cannot be read
    """
    with reading(path, data_format) as found:
        if found not in TABLES:
            _, parsed = _parsed_stretches(path, found, HEAD_ROWS)
            return _fields(parsed.rows)
        names = TABLES[found].scan(path, lenient=True).collect_schema().names()
        if FORMATS[found].header:
            check_header(path, names)
        return names


def _read(path: Path, max_rows: int, stretches: int, *, lenient: bool = False) -> Sample:
    with reading(path) as data_format:
        if data_format in TABLES:
            sample = _read_table(path, data_format, max_rows, stretches, lenient=lenient)
        else:
            sample = _read_lines(path, data_format, max_rows)
    if sample.n_rows == 0 or sample.n_looked == 0:
        raise DataFileProblem(f"{path}: expected rows of data, got none; give a file with some thousand rows")
    return sample


def _row_limit(n_columns: int, max_rows: int) -> int:
    return min(max_rows, max(MIN_ROWS, MAX_VALUES // max(1, n_columns)))


def _stretches(n_rows: int, limit: int, stretches: int) -> tuple[int, int]:
    """Return how far apart stretches of rows begin, and their length."""
    return (n_rows, n_rows) if n_rows <= limit else (-(-n_rows // stretches), limit // stretches)


# --- tables: Parquet and CSV ------------------------------------------------------------------------


def _read_table(path: Path, data_format: Format, max_rows: int, stretches: int, *, lenient: bool) -> Sample:
    info, scan = FORMATS[data_format], TABLES[data_format].scan(path, lenient=lenient)
    names = scan.collect_schema().names()
    notes = check_header(path, names) if info.header else []
    if len(names) > MAX_COLUMNS:
        notes.append(f"it has {len(names):,} columns: only the first {MAX_COLUMNS:,} were looked at")
        names = names[:MAX_COLUMNS]
        scan = scan.select(names)
    limit = _row_limit(len(names), max_rows)
    if stretches == 1:
        frame, unreadable = read(scan, names, lambda table: table.head(limit).collect())
        n_rows = frame.height
    else:
        n_rows = int(scan.select(pl.len()).collect().item())
        period, length = _stretches(n_rows, limit, stretches)
        by_range = n_rows > RANGES_FROM and not info.is_stream
        frame, unreadable = read(
            scan, names, lambda table: _picked_rows(table, n_rows, period, length, by_range=by_range)
        )
    first = frame.row(0, named=True) if frame.height else {}
    if not info.header:
        columns = tuple(
            typed_column(frame.get_column(name))
            if name not in unreadable
            else Column(name, pl.Series(name, [None] * frame.height), fault=unreadable[name], unread=True)
            for name in names
        )
        return Sample(path, data_format, n_rows, frame.height, columns, first, notes=tuple(notes))
    if any("\0" in cell for cell in first.values() if cell):
        raise DataFileProblem(f"{path}: expected comma separated text, got binary data")
    columns = tuple(text_column(series, names, info.missing_values) for series in frame.get_columns())
    return Sample(path, data_format, n_rows, frame.height, columns, notes=tuple(notes))


def _picked_rows(scan: pl.LazyFrame, n_rows: int, period: int, length: int, *, by_range: bool) -> pl.DataFrame:
    if length >= n_rows:
        return scan.collect()
    if by_range:  # only these rows are read
        return pl.concat([scan.slice(start, length) for start in range(0, n_rows, period)]).collect()
    at = "\0row"
    return scan.with_row_index(at).filter(pl.col(at) % period < length).drop(at).collect(engine="streaming")


# --- lines: NDJSON ----------------------------------------------------------------------------------


def _read_lines(path: Path, data_format: Format, max_rows: int) -> Sample:
    n_lines, parsed = _parsed_stretches(path, data_format, max_rows)
    n_malformed = sum(len(records) for records in parsed.rejected.values())
    if n_malformed and not parsed.rows:
        detail = next(iter(parsed.details.values()))
        raise DataFileProblem(f"{path}: expected one JSON object on each line, got {detail}")
    names = _fields(parsed.rows)
    notes: tuple[str, ...] = ()
    if len(names) > MAX_COLUMNS:
        notes = (f"its rows have {len(names):,} fields: only the first {MAX_COLUMNS:,} were looked at",)
    columns = tuple(json_column(name, [row.get(name) for row in parsed.rows]) for name in names[:MAX_COLUMNS])
    first = dict(parsed.rows[0]) if parsed.rows else {}
    n_looked = len(parsed.rows)
    return Sample(path, data_format, n_lines, n_looked, columns, first, n_malformed, notes)


def _parsed_stretches(path: Path, data_format: Format, max_rows: int) -> tuple[int, Lines]:
    """Return the number of lines that are not blank, and some of them from all over the file, parsed."""
    head = parse_lines([next(_picked_lines(path, data_format, 1, _ALL), b"")]).rows
    limit = _row_limit(len(head[0]) if head else 1, max_rows)
    n_lines = sum(len(starts) for _, starts, _ in _lines(path, data_format))
    period, length = _stretches(n_lines, limit, STRETCHES)
    return n_lines, parse_lines([b"\n".join(_picked_lines(path, data_format, length, period))])


def _fields(rows: Sequence[dict[str, Any]]) -> list[str]:
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(row)
    return list(names)


def _picked_lines(path: Path, data_format: Format, length: int, period: int) -> Iterator[bytes]:
    """Yield the first `length` of every `period` lines."""
    n_before = 0
    for payload, starts, ends in _lines(path, data_format):
        wanted = np.flatnonzero((np.arange(n_before, n_before + starts.size) % period) < length)
        for start, end in zip(starts[wanted].tolist(), ends[wanted].tolist(), strict=True):
            yield payload[start:end]
        n_before += starts.size
        if length <= n_before and period == _ALL:
            return


def _lines(path: Path, data_format: Format) -> Iterator[tuple[bytes, IntArray, IntArray]]:
    """Yield chunks of the file, and where the lines in each begin and end, without blank ones."""
    for chunk in line_chunks(path, data_format):
        payload = chunk.payload
        assert isinstance(payload, bytes)
        data = np.frombuffer(payload, np.uint8)
        ends = np.flatnonzero(data == ord("\n"))
        if not payload.endswith(b"\n"):
            ends = np.append(ends, data.size)
        starts = np.concatenate(([0], ends[:-1] + 1))
        suspects = np.flatnonzero(np.isin(data[starts], _BLANK))
        blank = [i for i in suspects.tolist() if not payload[starts[i] : ends[i]].strip()]
        yield payload, np.delete(starts, blank), np.delete(ends, blank)
