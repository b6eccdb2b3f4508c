"""CSV with a header line: comma separated, fields quoted with ``"`` where needed (RFC 4180).

Cells are text. An empty cell is missing, and so is one with a text that stands for it; a category is the text as it
stands, in its one spelling; a number may have blanks around it; a vector is a JSON list (in quotes, as it has commas).
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from io import BytesIO
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from kldrift.kernels.bin_table import BinTable
from kldrift.records.types import IntArray
from kldrift.wire import columns, csv_lines, csv_scan
from kldrift.wire.csv_lines import fault_of, records_of
from kldrift.wire.ndjson import count_newlines
from kldrift.wire.plan import Plan, is_unicode
from kldrift.wire.tables import (
    MAX_ERRORS,
    NO_TIME,
    Column,
    Decoding,
    Invalid,
    Table,
    concatenate,
    missing_column,
    too_many_rows,
)
from kldrift.wire.timestamps import times_from_numbers, times_from_texts

#: The most columns accepted; far more than any table of features has. Each costs the decoder some memory.
_MAX_COLUMNS: Final = 20_000
#: Records that the kernel skips are decoded in one call of polars if they have more bytes than this; one by one takes
#: as long at 4 to 15 KB.
_BULK_BYTES: Final = 10_000

#: Bytes that may precede a quote that opens a field or is the second of two, and follow one that closes it or is the
#: first.
_MAY_BE_BEFORE: Final = np.isin(np.arange(256), list(b',\n"'))
_MAY_BE_BEHIND: Final = np.isin(np.arange(256), list(b',\r\n"'))

_BOM: Final = b"\xef\xbb\xbf"
#: A file that begins with these is compressed: gzip, zstd, zlib.
_COMPRESSED: Final = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x9c", b"\x78\xda")
#: A longer header line is not looked for again.
_MAX_HEADER_BYTES: Final = 1 << 20


def decode(bodies: Sequence[bytes], plan: Plan, header: bytes = b"", bins: BinTable | None = None) -> Decoding:
    """Decode the bodies; those with the same header at once, by the kernel or polars.

    Parameters
    ----------
    header : the header line of bodies that have none of their own
    bins : the kernel may count records in them, if all bodies have the same header
    """
    headers: list[bytes] = []
    records: list[memoryview] = []
    unreadable: dict[int, str] = {}
    names_of: dict[bytes, list[str] | str] = {}
    room = plan.max_rows
    may_be_too_many = sum(map(len, bodies)) + len(bodies) > room
    for i, body in enumerate(bodies):
        if header:
            head, start = header, 0
            if not body or body.isspace():
                unreadable[i] = "empty body: expected lines of comma separated values"
        else:
            head, start = _split_header(body)
        names = names_of.get(head)
        if names is None:
            names = names_of[head] = _read_header(head, plan)
        if isinstance(names, str):
            unreadable.setdefault(i, names)
        if may_be_too_many:
            lines = count_newlines(memoryview(body)[start:]) + 1 if start < len(body) else 0
            if lines > room:
                unreadable.setdefault(i, too_many_rows(f"{lines} lines", plan))
            else:
                room -= lines
        headers.append(head)
        records.append(memoryview(body)[start:])
    tables: list[Table] = []
    counts = [0] * len(bodies)
    readable = [i for i in range(len(bodies)) if i not in unreadable]
    runs = list(_runs(readable, headers))
    for run in runs:
        names = names_of[headers[run[0]]]
        assert not isinstance(names, str)
        line = headers[run[0]].removeprefix(_BOM).rstrip(b"\r\n")
        of_run = [records[i] for i in run]
        run_tables, run_counts = _decode_run(of_run, line, names, plan, bins if len(runs) == 1 else None)
        tables += run_tables
        for i, count in zip(run, run_counts, strict=True):
            counts[i] = count
    return Decoding(concatenate(tables, plan), counts, unreadable)


def field_names(body: bytes, header: bytes = b"") -> Iterable[str]:
    """Name the columns."""
    line = (header or body).partition(b"\n")[0].decode("utf-8-sig").rstrip("\r")
    try:
        return next(csv.reader([line]), [])
    except csv.Error:  # the decoder reports what is wrong
        return ()


def scan(path: Path, *, lenient: bool = False) -> pl.LazyFrame:
    """Read a file lazily, all cells as text; a name with ``*`` in it is a name, not a pattern.

    Parameters
    ----------
    lenient : cut rows with too many fields rather than refuse the file
    """
    source = path if is_unicode(str(path)) else path.read_bytes()  # polars takes no path that is not UTF-8
    frame = pl.scan_csv(source, glob=False, infer_schema=False, truncate_ragged_lines=lenient)
    if not _comes_again(path, path.stat().st_mtime_ns):
        return frame
    first, *others = frame.collect_schema().names()
    is_header = pl.col(first).str.strip_prefix(_BOM.decode()) == first
    return frame.filter(
        ~pl.all_horizontal(is_header, *(pl.col(name) == name for name in others)).fill_null(value=False)
    )


@lru_cache(maxsize=64)
def _comes_again(path: Path, changed: int) -> bool:  # noqa: ARG001 - of a file that changes, it is another question
    """Return whether a file may have its header line again, as one that was joined from several.

    To compare the cells of each record with the names, all columns would have to be read.
    """
    with path.open("rb") as file:
        head = file.read(_MAX_HEADER_BYTES)
        if head.startswith(_COMPRESSED):
            return True
        line = _split_header(head)[0].removeprefix(_BOM).rstrip(b"\r\n")
        if not line:
            return False
        with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            return any(data.find(b"\n" + mark + line) >= 0 for mark in (b"", _BOM))


def _runs(indices: Sequence[int], headers: Sequence[bytes]) -> Iterator[list[int]]:
    """Group neighbours with the same header."""
    run: list[int] = []
    for i in indices:
        if run and headers[i] != headers[run[-1]]:
            yield run
            run = []
        run.append(i)
    if run:
        yield run


def _split_header(body: bytes) -> tuple[bytes, int]:
    """Return the first record and where it ends. A newline within quotes does not end it."""
    start = len(_BOM) if body.startswith(_BOM) else 0
    stop, odd = start, 0
    while end := body.find(b"\n", stop) + 1:
        odd ^= body.count(b'"', stop, end) & 1
        stop = end
        if not odd:
            return body[start:stop], stop
    return body[start:], len(body)


def _without_headers(body: bytes, line: bytes) -> bytes:
    """Take out every record that is the header line again, as in files that were joined."""
    if line not in body:
        return body
    kept: list[bytes] = []
    done = counted = 0
    odd = 0  # quotes up to `counted`, each counted once: many such lines must not cost a pass each
    for found in re.finditer(rb"^(?:" + _BOM + rb")?" + re.escape(line) + rb"\r?(?:\n|\Z)", body, re.MULTILINE):
        odd ^= body.count(b'"', counted, found.start()) & 1
        counted = found.start()
        if not odd:  # within quotes, it is part of a cell
            kept.append(body[done : found.start()])
            done = found.end()
    return b"".join([*kept, body[done:]]) if kept else body


def _read_header(header: bytes, plan: Plan) -> list[str] | str:
    """Return the names in a header line, or what is wrong with it."""
    if not header.strip():
        return "empty body: expected a header line with the names of the columns, then one line for each row"
    try:
        names = next(csv.reader([header.removeprefix(_BOM).decode("utf-8").rstrip("\r\n")], strict=True), [])
    except (UnicodeDecodeError, csv.Error) as error:
        return f"unreadable header line: expected comma separated UTF-8 names, got {error}"
    if len(names) > _MAX_COLUMNS:
        return f"expected at most {_MAX_COLUMNS} columns, got {len(names)}"
    wanted = plan.schema.watched
    if plan.watched.isdisjoint(names):
        shown = ", ".join(name[:40] for name in names[:8])
        return (
            f"no column of the header is a feature: expected some of {', '.join(wanted[:8])} separated by commas, "
            f"got {shown}; the first line has to name the columns"
        )
    return names


def _decode_run(
    records: Sequence[memoryview], line: bytes, names: Sequence[str], plan: Plan, bins: BinTable | None
) -> tuple[list[Table], list[int]]:
    """Decode bodies with one header: by the kernel, in one call of polars, one by one, or record by record.

    Parameters
    ----------
    line : the header; a record that is the same is passed over
    """
    found = csv_scan.decode(records, names, plan, lambda left: _decode_generally(left, names, plan), bins, line)
    if found is not None:
        return [found[0]], found[1]
    bodies = [_without_headers(body.tobytes(), line) for body in records]
    if len(bodies) > 1:
        data = b"".join(body if body.endswith(b"\n") or not body else body + b"\n" for body in bodies)
        table = _decode_bulk(data, names, plan)
        # No body has more records than lines, so if the sums agree, each count does.
        counts = [count_newlines(body) + (not body.endswith(b"\n")) if body else 0 for body in bodies]
        if table is not None and sum(counts) == table.n_records:
            return [table], counts
    tables = [_decode_generally(body, names, plan) for body in bodies]
    return tables, [table.n_records for table in tables]


def _decode_generally(data: bytes, names: Sequence[str], plan: Plan) -> Table:
    """Decode records of which the kernel takes too few, or none; those that are certainly no rows are taken out."""
    taken_out = csv_lines.take_out(data, len(names)) if len(data) > _BULK_BYTES else None
    if taken_out is None:
        return _decode_records(data, names, plan)
    (left,) = taken_out.bodies
    found = csv_scan.decode([memoryview(left)], names, plan, lambda rest: _decode_records(rest, names, plan))
    table = _decode_records(left, names, plan) if found is None else found[0]
    return taken_out.put_back(table).table


def _decode_records(data: bytes, names: Sequence[str], plan: Plan) -> Table:
    table = _decode_bulk(data, names, plan) if len(data) > _BULK_BYTES else None
    return table if table is not None else _decode_recordwise(data, names, plan)


def _decode_bulk(data: bytes, names: Sequence[str], plan: Plan) -> Table | None:
    """Decode all records in one call of polars; None unless every one of them is certain to be right."""
    width = len(names)
    if data[: data.find(b"\n") + 1 or None].count(b",") > width + _MAX_COLUMNS:
        return None  # polars makes a column of each field in the first line, at half a kilobyte each
    if (count_newlines(data) + 1) * width > len(data) + width:
        return None  # some records are short; polars would fill them, at any cost in memory
    if not _is_regular(data):
        return None
    frame = _read(data, _dtypes(names, plan))
    if frame is None:  # a cell is not a number, or a line not a record
        frame = _read(data, dict.fromkeys(range(width), pl.String))
    if frame is None:
        return None
    # polars fills short records with nulls at the end, so a full last column proves that there are none.
    if frame.get_column(str(width - 1)).null_count() and not _is_rectangular(data, width):
        return None
    return _table_from_cells({name: frame.to_series(i) for i, name in _first(names)}, frame.height, plan)


def _dtypes(names: Sequence[str], plan: Plan) -> dict[int, type[pl.DataType]]:
    """Read columns that are wanted as numbers only as numbers, which is twice as fast."""
    numeric = {name for _, name in plan.numeric} - {f.name for f in plan.schema.features if f.kind != "numeric"}
    if plan.schema.timestamp is not None:
        numeric.discard(plan.schema.timestamp.field)
    first = dict(_first(names))
    return {i: pl.Float64 if first.get(i) in numeric else pl.String for i in range(len(names))}


def _read(data: bytes, dtypes: dict[int, type[pl.DataType]]) -> pl.DataFrame | None:
    schema = {str(i): dtype for i, dtype in dtypes.items()}
    try:
        return pl.read_csv(BytesIO(data), has_header=False, schema=schema, raise_if_empty=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError, OSError):
        return None


def _first(names: Sequence[str]) -> list[tuple[int, str]]:
    """Return columns by name; of several with one name the first."""
    return [(i, name) for name, i in {name: i for i, name in reversed(list(enumerate(names)))}.items()]


def _is_regular(data: bytes) -> bool:
    """Whether quotes are around fields or doubled, and carriage returns before newlines: polars takes any as text.

    Of all quotes each other one opens a field, or is the second of two.
    """
    if data.count(b"\r") != data.count(b"\r\n"):
        return False
    if b'"' not in data:
        return True
    chars = np.frombuffer(b"\n" + data + b"\n", dtype=np.uint8)
    at = np.flatnonzero(chars == 34)
    if len(at) % 2:
        return False
    return bool(_MAY_BE_BEFORE[chars[at[0::2] - 1]].all() and _MAY_BE_BEHIND[chars[at[1::2] + 1]].all())


def _is_rectangular(data: bytes, width: int) -> bool:
    """Return whether every line has `width` fields; False where quotes make that uncertain."""
    if b'"' in data:
        return False
    if width == 1:  # a blank line is not a record
        return not (data.startswith((b"\n", b"\r\n")) or b"\n\n" in data or b"\n\r\n" in data)
    chars = np.frombuffer(data, dtype=np.uint8)
    ends = chars[np.flatnonzero((chars == 44) | (chars == 10))]
    if not data.endswith(b"\n"):
        ends = np.append(ends, np.uint8(10))
    if len(ends) % width:
        return False
    lines = ends.reshape(-1, width)
    return bool((lines[:, -1] == 10).all() and (lines[:, :-1] == 44).all())


def _table_from_cells(cells: dict[str, pl.Series], n_rows: int, plan: Plan) -> Table:
    """Decode columns of text cells."""
    out: list[Column] = [missing_column(plan, i, 0) for i in range(plan.n_features)]
    invalid: list[Invalid] = []
    for index, feature in enumerate(plan.schema.features):
        if feature.name not in cells:
            out[index] = missing_column(plan, index, n_rows)
    for index, name in plan.numeric:
        if name in cells:
            out[index], bad = columns.numbers_from_texts(cells[name], plan.missing_texts)
            if len(bad):
                invalid.append(Invalid(index, bad, "text that is no number"))
    for index, feature in plan.aspects:
        if feature.name in cells:
            out[index], bad = columns.aspects(cells[feature.name], feature, plan.missing_texts, is_text=True)
            if len(bad):
                invalid.append(Invalid(index, bad, "text that is none"))
    for category in plan.categorical:
        if category.feature.name in cells:
            out[category.index] = columns.codes(cells[category.feature.name], category)
    for vector in plan.vectors:
        if vector.name in cells:
            out[vector.index], fault = columns.vectors_from_texts(cells[vector.name], vector, plan.missing_texts)
            if fault is not None:
                invalid.append(fault)
    invalid.sort(key=lambda item: item.feature)
    return Table(n_rows, out, _times(cells, n_rows, plan), invalid)


def _times(cells: dict[str, pl.Series], n_rows: int, plan: Plan) -> IntArray | None:
    spec = plan.schema.timestamp
    if spec is None:
        return None
    if spec.field not in cells:
        return np.full(n_rows, NO_TIME, dtype=np.int64)
    texts = cells[spec.field]
    if spec.unit == "iso8601":
        return times_from_texts(texts.to_list())
    return times_from_numbers(columns.numbers_from_texts(texts, plan.missing_texts)[0], spec.unit)


# --- record by record -----------------------------------------------------------------------------


def _decode_recordwise(data: bytes, names: Sequence[str], plan: Plan) -> Table:
    """Decode what the bulk decoder does not; a bad record affects no other."""
    wanted = {feature.name for feature in plan.schema.features}
    if plan.schema.timestamp is not None:
        wanted.add(plan.schema.timestamp.field)
    picked = [(i, name) for i, name in _first(names) if name in wanted]
    values: list[list[str | None]] = [[] for _ in picked]
    rejected: list[int] = []
    details: dict[int, str] = {}
    n_records = 0
    for record in records_of(data):
        fault = record if isinstance(record, str) else fault_of(record, len(names))
        if fault is None:
            for (i, _), column in zip(picked, values, strict=True):
                column.append(record[i] or None)
        else:
            if len(rejected) < MAX_ERRORS:
                details[n_records] = f"malformed: {fault}"
            rejected.append(n_records)
        n_records += 1
    cells = {name: pl.Series(name, column, dtype=pl.String) for (_, name), column in zip(picked, values, strict=True)}
    table = _table_from_cells(cells, n_records - len(rejected), plan)
    return Table(
        n_records,
        table.columns,
        table.event_ms,
        table.invalid,
        {"malformed": np.array(rejected, dtype=np.int64)} if rejected else {},
        details,
    )
