"""Some rows of a data file, in stretches from all over it, as typed columns."""

import gzip
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import polars as pl
import zstandard

from kldrift.errors import ReferenceProblem
from kldrift.records.formats import EXPECTED_NAME, FORMATS, Format, format_of
from kldrift.wire import TABLES, parquet
from kldrift.wire.columns import numbers_from_texts
from kldrift.wire.ndjson import parse_lines
from kldrift.wire.parquet import READ_ERRORS, reason
from kldrift.wire.rows import category_text, kind_of

#: At most so many rows are looked at, of wide files fewer: so many values, but so many rows at least.
MAX_ROWS, MAX_VALUES, MIN_ROWS = 100_000, 4_000_000, 1_000
#: A file with more rows is looked at in so many stretches: what is constant at its beginning may vary later.
STRETCHES = 32
MAX_COLUMNS = 20_000
#: Of a column's values so many may be something else than numbers before it is not taken for one of numbers.
NOT_NUMBERS = 0.05

_HINTS: Final = {"utf": "; save it as UTF-8", "fields": "; give every line as many fields as the header"}
_SUSPECT_SEPARATORS: Final = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the rows looked at.

    Parameters
    ----------
    values : of one type, null where missing or invalid
    cells : of a CSV file, as they stand there; else None
    n_invalid : values that are no numbers, of a column of numbers
    fault : why nothing can be made of the column
    """

    name: str
    values: pl.Series
    cells: pl.Series | None = None
    n_invalid: int = 0
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """Some rows of a file.

    Parameters
    ----------
    n_rows : rows of the file
    n_looked : rows of the columns here
    first : the first row, as JSON would have it; of CSV nothing
    notes : what is odd about the file
    """

    path: Path
    format: Format
    n_rows: int
    n_looked: int
    columns: tuple[Column, ...]
    first: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_sample(path: Path, max_rows: int = MAX_ROWS) -> Sample:
    """Look at a Parquet, CSV or NDJSON file, the last two also compressed.

    Raises
    ------
    ReferenceProblem
        it is not there, empty, or cannot be read
    """
    data_format = _checked_format(path)
    with _readable(path, data_format):
        read = _read_frame if data_format in TABLES else _read_lines
        sample = read(path, data_format, max_rows)
    if sample.n_rows == 0 or sample.n_looked == 0:
        raise ReferenceProblem(f"{path}: expected rows of data, got none; give a file with some thousand rows")
    return sample


def column_names(path: Path, data_format: Format) -> list[str]:
    """The columns of a file; of NDJSON the fields of its first rows.

    Raises
    ------
    ReferenceProblem
        it cannot be read
    """
    with _readable(path, data_format):
        if data_format in TABLES:
            return TABLES[data_format](path).collect_schema().names()
        return _fields(parse_lines([b"\n".join(_picked_lines(path, MIN_ROWS, MIN_ROWS))]).rows)


def _checked_format(path: Path) -> Format:
    data_format = format_of(path)
    if path.is_dir():
        raise ReferenceProblem(f"{path}: expected a file, got a directory; give one of the files in it")
    if not path.exists():
        raise ReferenceProblem(f"{path}: expected a data file, got nothing there; check the path")
    if data_format is None:
        raise ReferenceProblem(f"{path}: expected {EXPECTED_NAME}; rename it, or convert it to one of these")
    if not path.is_file():
        raise ReferenceProblem(f"{path}: expected a file, which is read twice, got a pipe or a device; save it first")
    return data_format


@contextmanager
def _readable(path: Path, data_format: Format) -> Iterator[None]:
    """Turn what goes wrong in reading into words."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
        if not head:
            raise ReferenceProblem(f"{path}: expected rows of data, got an empty file")
        if head == parquet.MAGIC and FORMATS[data_format].is_stream:
            raise ReferenceProblem(f"{path}: expected {data_format}, got a Parquet file; name it .parquet")
        yield
    except (*READ_ERRORS, EOFError, zstandard.ZstdError) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else reason(error)
        hint = next((hint for word, hint in _HINTS.items() if word in what.lower()), "")
        raise ReferenceProblem(f"{path}: cannot be read as {data_format}: {what}{hint}") from None


# --- Parquet and CSV ------------------------------------------------------------------------------


def _read_frame(path: Path, data_format: Format, max_rows: int) -> Sample:
    scan, has_header = TABLES[data_format](path), FORMATS[data_format].header
    names = scan.collect_schema().names()
    notes = _refuse_header(path, names) if has_header else []
    if len(names) > MAX_COLUMNS:
        notes.append(f"it has {len(names):,} columns: only the first {MAX_COLUMNS:,} were looked at")
        names = names[:MAX_COLUMNS]
        scan = scan.select(names)
    n_rows = int(scan.select(pl.len()).collect().item())
    limit = _row_limit(len(names), max_rows)
    if n_rows <= limit:
        frame = scan.collect()
    else:
        period, length = -(-n_rows // STRETCHES), limit // STRETCHES
        if not FORMATS[data_format].is_stream:  # only these rows are read
            frame = pl.concat([scan.slice(start, length) for start in range(0, n_rows, period)]).collect()
        else:
            at, numbers = "\0row", scan.with_row_index("\0row")
            frame = numbers.filter(pl.col(at) % period < length).drop(at).collect(engine="streaming")
    first = frame.row(0, named=True) if frame.height else {}
    if has_header and any("\0" in cell for cell in first.values() if cell):
        raise ReferenceProblem(f"{path}: expected comma separated text, got binary data")
    make = _text_column if has_header else _typed_column
    first = {} if has_header else first  # its cells have no types
    columns = tuple(make(series, names) for series in frame.get_columns())
    return Sample(path, data_format, n_rows, frame.height, columns, first, tuple(notes))


def _row_limit(n_columns: int, max_rows: int) -> int:
    return min(max_rows, max(MIN_ROWS, MAX_VALUES // max(1, n_columns)))


def _refuse_header(path: Path, names: Sequence[str]) -> list[str]:
    """What is odd about the names of the columns.

    Raises
    ------
    ReferenceProblem
        the separator is none that is understood
    """
    if any("\0" in name for name in names):
        raise ReferenceProblem(f"{path}: expected a header line of names, got binary data")
    if len(names) == 1:
        for separator, word in _SUSPECT_SEPARATORS.items():
            if separator in names[0]:
                raise ReferenceProblem(f"{path}: expected comma separated columns, got {word}; separate them by commas")
    if all(re.fullmatch(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?", name) for name in names):
        return ["the names of all columns are numbers: does its first line name the columns?"]
    return []


def _typed_column(series: pl.Series, _: Sequence[str]) -> Column:
    if series.dtype.is_float():
        series = series.fill_nan(None)
    return Column(series.name, series)


def _text_column(cells: pl.Series, names: Sequence[str]) -> Column:
    """A column of text cells: numbers where nearly all of them are."""
    twice = re.fullmatch(r"(?s)(.*)_duplicated_[0-9]+", cells.name)
    if twice is not None and twice[1] in names:  # the first of them keeps its name, and is what a live row would have
        return Column(cells.name, cells, cells, fault=f"its name, {twice[1]}, comes more than once")
    if '"' in cells.name:  # the name that is read here is not the one that a live row would have
        return Column(cells.name, cells, cells, fault="its name has quotes in it; rename it")
    cells = cells.set(cells.str.strip_chars(" \t") == "", None)
    there = len(cells) - cells.null_count()
    numbers, bad = numbers_from_texts(cells)
    if there and len(bad) <= NOT_NUMBERS * there and not _has_padded_codes(cells):
        return Column(cells.name, pl.Series(cells.name, numbers).fill_nan(None), cells, len(bad))
    return Column(cells.name, cells, cells)


def _has_padded_codes(cells: pl.Series) -> bool:
    """Whether cells such as 007 are among them: text that looks like numbers."""
    return bool(cells.str.contains(r"^0[0-9]+$").any())


# --- NDJSON ---------------------------------------------------------------------------------------


def _read_lines(path: Path, data_format: Format, max_rows: int) -> Sample:
    n_lines = sum(1 for _ in _lines(path))
    first = parse_lines([next(_lines(path), b"")]).rows
    limit = _row_limit(len(first[0]) if first else 1, max_rows)
    parsed = parse_lines([b"\n".join(_picked_lines(path, n_lines, limit))])
    n_bad = sum(len(records) for records in parsed.rejected.values())
    names = _fields(parsed.rows)
    notes = [f"{n_bad:,} of the lines looked at are no JSON objects"] if n_bad else []
    if not parsed.rows:
        detail = next(iter(parsed.details.values()), "no lines")
        raise ReferenceProblem(f"{path}: expected one JSON object on each line, got {detail}")
    if len(names) > MAX_COLUMNS:
        notes.append(f"its rows have {len(names):,} fields: only the first {MAX_COLUMNS:,} were looked at")
    columns = tuple(_json_column(name, [row.get(name) for row in parsed.rows]) for name in names[:MAX_COLUMNS])
    return Sample(path, data_format, n_lines, len(parsed.rows), columns, dict(parsed.rows[0]), tuple(notes))


def _fields(rows: Sequence[dict[str, Any]]) -> list[str]:
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(row)
    return list(names)


def _picked_lines(path: Path, n_lines: int, limit: int) -> Iterator[bytes]:
    period, length = (-(-n_lines // STRETCHES), limit // STRETCHES) if n_lines > limit else (n_lines, n_lines)
    for number, line in enumerate(_lines(path)):
        if number >= n_lines:
            return
        if number % max(1, period) < length:
            yield line.rstrip(b"\n")


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        plain: IO[bytes] = file
        if path.suffix.lower() == ".gz":
            plain = gzip.open(file)  # type: ignore[assignment]  # noqa: SIM115  # holds nothing that `file` does not
        elif path.suffix.lower() == ".zst":
            plain = zstandard.open(file, "rb")
        for line in plain:
            if line.strip():
                yield line


def _json_column(name: str, values: Sequence[Any]) -> Column:
    """Values of one type where they are; numbers where nearly all are; texts where all of them have one."""
    types = set(map(type, values)) - {type(None)}
    if types <= {int, float} or types == {bool} or types == {str}:
        return Column(name, _series(name, values, types))
    if types == {list}:
        items = {type(item) for value in values if value for item in value}
        if items <= {int, float, type(None)}:
            floats = [None if v is None else [None if item is None else float(item) for item in v] for v in values]
            return Column(name, pl.Series(name, floats, dtype=pl.List(pl.Float64)))
        return Column(name, _none(name, values), fault="a list of other things than numbers")
    if types & {list, dict}:
        found = sorted({kind_of(value) for value in values if value is not None})
        return Column(name, _none(name, values), fault=f"nested or mixed: {', '.join(found)}; make fields of its parts")
    bad = sum(isinstance(value, str | bool) for value in values)
    if bad <= NOT_NUMBERS * sum(value is not None for value in values):
        numbers = [value if type(value) in (int, float) else None for value in values]
        return Column(name, _series(name, numbers, {int, float}), n_invalid=bad)
    texts = [category_text(value) for value in values]
    return Column(name, _series(name, texts, {str}))


def _none(name: str, values: Sequence[Any]) -> pl.Series:
    return pl.Series(name, [None] * len(values), dtype=pl.Null)


def _series(name: str, values: Sequence[Any], types: set[type]) -> pl.Series:
    if types == {str}:  # a lone surrogate is no Unicode
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
