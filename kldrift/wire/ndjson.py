"""NDJSON: one JSON object per line."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from io import BytesIO
from typing import Any, Final

import numpy as np
import orjson
import polars as pl

from kldrift.kernels.bin_table import BinTable
from kldrift.kernels.parsing import json_rows
from kldrift.wire import columns, json_scan
from kldrift.wire.json_lines import MALFORMED, parse_row, take_out
from kldrift.wire.plan import Plan
from kldrift.wire.rows import Row, may_repeat_keys, parse_exact
from kldrift.wire.tables import (
    MAX_ERRORS,
    Column,
    Decoding,
    Invalid,
    Table,
    concatenate,
    too_many_rows,
)
from kldrift.wire.timestamps import times_from_numbers, times_from_texts
from kldrift.wire.unknown_fields import known_rows_table, may_lack_all

#: A bulk decode costs 0.3 to 1.5 ms whatever the size; below this size the row-wise pass is faster (measured:
#: break-even at 50 to 200 KB, depending on how busy the cores are).
BULK_BYTES: Final = 64_000
#: Below this size the row-wise pass takes no longer than the 20 µs of preparation that the kernel needs.
SCAN_BYTES: Final = 1_000
#: The row-wise pass is confined to pieces of this size when the bulk decode of a body fails.
PIECE_BYTES: Final = 1 << 19

_BLANK: Final = b" \t\r"
_BOM: Final = b"\xef\xbb\xbf"


def decode(bodies: Sequence[bytes], plan: Plan, _header: bytes = b"", bins: BinTable | None = None) -> Decoding:
    """Decode the bodies by the kernel or in one call of polars, or else body by body, piece by piece, row by row.

    Parameters
    ----------
    bins : the kernel may count rows in them
    """
    bodies = [body.removeprefix(_BOM) for body in bodies]
    unreadable: dict[int, str] = {}
    total = sum(map(len, bodies))
    if total // 3 > plan.max_rows:
        bodies = _refuse_too_many_rows(bodies, plan, unreadable)
    decoding = json_scan.decode(bodies, plan, decode_rowwise, bins) if total >= SCAN_BYTES else None
    if decoding is None:
        decoding = _decode_gathered(bodies, total, plan)
    for i, count in enumerate(decoding.counts):
        if count == 0:
            unreadable.setdefault(i, "empty body: expected one JSON object on each line")
    return Decoding(decoding.table, decoding.counts, unreadable) if unreadable else decoding


def field_names(body: bytes, _header: bytes = b"") -> Iterable[str]:
    """Name the fields of the first line."""
    row = orjson.loads(body.partition(b"\n")[0])
    return row if isinstance(row, dict) else ()


def _decode_gathered(bodies: Sequence[bytes], total: int, plan: Plan) -> Decoding:
    if total < BULK_BYTES:
        return decode_rowwise(bodies, plan)
    data = bodies[0] if len(bodies) == 1 else b"\n".join(bodies)
    table = decode_bulk(data, plan)
    if table is not None:
        counts = _count_lines(bodies, table.n_records)
        if counts is not None:
            return Decoding(table, counts)
    tables = [_decode_body(body, plan, tried=len(bodies) == 1) for body in bodies]
    return Decoding(concatenate(tables, plan), [table.n_records for table in tables])


def _refuse_too_many_rows(bodies: Sequence[bytes], plan: Plan, unreadable: dict[int, str]) -> list[bytes]:
    """Empty the bodies that no longer fit into the batch."""
    kept: list[bytes] = []
    room = plan.max_rows
    for i, body in enumerate(bodies):
        lines = count_newlines(body) + 1
        if lines > room:
            unreadable[i] = too_many_rows(f"{lines} lines", plan)
            kept.append(b"")
        else:
            room -= lines
            kept.append(body)
    return kept


def _count_lines(bodies: Sequence[bytes], n_rows: int) -> list[int] | None:
    """Count the rows of each body; None if that is impossible this way.

    No body has more rows than lines, so if the sums agree, each count does.
    """
    if len(bodies) == 1:
        return [n_rows]
    counts = [count_newlines(body) + (not body.endswith(b"\n")) if body else 0 for body in bodies]
    if sum(counts) == n_rows:
        return counts
    counts = [sum(1 for line in body.split(b"\n") if line.strip(_BLANK)) for body in bodies]
    return counts if sum(counts) == n_rows else None


def count_newlines(data: bytes | memoryview) -> int:
    """Count newlines; bytes.count looks at one byte at a time."""
    if not json_rows.is_ready():
        return bytes(data).count(b"\n")
    return json_rows.count_newlines(data)


def decode_bulk(data: bytes, plan: Plan) -> Table | None:
    """Decode all rows in one call of polars; None unless every one of them is certain to be right."""
    if not plan.bulk:
        return None
    try:
        frame = pl.read_ndjson(BytesIO(data), schema=plan.ndjson).rechunk()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError, OSError):
        return None
    series = dict(zip(frame.columns, frame.get_columns(), strict=True))
    if may_lack_all(frame, plan.watched):
        return None
    out: list[Column] = [np.empty(0)] * plan.n_features
    for index, name in plan.numeric:
        out[index] = columns.floats(series[name])
    unseen: list[pl.Series] = []
    for category in plan.categorical:
        codes, others = columns.known_codes(series[category.feature.name], category)
        # What polars makes of lists and objects, and of lone surrogates.
        if len(others) and others.str.contains(r"^[\[{]|\x00").any():
            return None
        if (converted := category.known.converted) and np.isin(codes, converted).any():
            return None
        out[category.index] = codes
        unseen.append(others)
    for category, others in zip(plan.categorical, unseen, strict=True):  # now that every row is certain to count
        if len(others) and category.may_learn:
            out[category.index] = columns.learned_codes(series[category.feature.name], category, others)
    invalid: list[Invalid] = []
    for vector in plan.vectors:
        out[vector.index], bad = columns.typed_vectors(series[vector.name], vector)
        if bad is not None:
            invalid.append(bad)
    event_ms = None
    spec = plan.schema.timestamp
    if spec is not None:
        times = series[spec.field]
        if spec.unit == "iso8601":
            event_ms = times_from_texts(times.to_list())
        else:
            event_ms = times_from_numbers(columns.floats(times), spec.unit)
    return Table(frame.height, out, event_ms, invalid)


def _decode_body(body: bytes, plan: Plan, tried: bool) -> Table:
    """Decode one body on its own: in bulk unless that was tried, otherwise in pieces."""
    if len(body) > PIECE_BYTES and not tried:
        table = decode_bulk(body, plan)
        if table is not None:
            return table
    tables = []
    start = 0
    while start < len(body):
        stop = body.find(b"\n", start + PIECE_BYTES) + 1 or len(body)
        piece = body[start:stop]
        table = decode_bulk(piece, plan) if len(piece) >= BULK_BYTES else None
        tables.append(table if table is not None else decode_rowwise([piece], plan).table)
        start = stop
    return concatenate(tables, plan)


@dataclass(slots=True)
class Lines:
    """Lines parsed one by one.

    Parameters
    ----------
    rows : the objects
    texts : the line of each of them
    counts : records of each body; blank lines are not records
    rejected : record numbers by reason
    details : more about the first rejected records of each body
    """

    rows: list[Row] = dataclass_field(default_factory=list)
    texts: list[bytes] = dataclass_field(default_factory=list)
    counts: list[int] = dataclass_field(default_factory=list)
    rejected: dict[str, list[int]] = dataclass_field(default_factory=dict)
    details: dict[int, str] = dataclass_field(default_factory=dict)

    def exact_integers(self, values: list[Any], name: str) -> list[Any]:
        """Return the values of field `name`, with integers beyond 64 bits exact rather than as floats."""
        return [
            _exact_row(text, row).get(name) if type(value) is float and abs(value) >= 2.0**63 else value
            for value, text, row in zip(values, self.texts, self.rows, strict=True)
        ]


def decode_rowwise(bodies: Sequence[bytes], plan: Plan) -> Decoding:
    """Decode line by line; a bad line affects no other.

    Lines that are no rows are passed over by a kernel, and the rest is read by the fastest way that takes it.
    """
    if sum(map(len, bodies)) >= SCAN_BYTES and json_rows.is_ready():
        taken_out = take_out(bodies)
        if taken_out is not None:
            left = taken_out.bodies
            decoding = json_scan.decode(left, plan, decode_rowwise) or decode_one_by_one(left, plan)
            return taken_out.put_back(decoding.table)
    return decode_one_by_one(bodies, plan)


def decode_one_by_one(bodies: Sequence[bytes], plan: Plan) -> Decoding:
    """Decode line by line, each by itself: what this returns is what every faster way has to return."""
    lines = parse_lines(bodies)
    rejected = {reason: np.array(at, dtype=np.int64) for reason, at in lines.rejected.items()}
    starts = np.cumsum([0, *lines.counts]).tolist()
    n_records = starts.pop()
    made = known_rows_table(
        lines.rows, starts, n_records, rejected, lines.details, plan, lines.texts, lines.exact_integers
    )
    return Decoding(made, lines.counts)


def parse_lines(bodies: Sequence[bytes]) -> Lines:
    """Parse every line of the bodies."""
    lines = Lines()
    rows, texts = lines.rows, lines.texts
    n_records = 0
    for body in bodies:
        start = n_records
        n_told = 0
        for line in body.split(b"\n"):
            if not line:  # usually after the last newline; parsing it would cost as much as a row
                continue
            row = parse_row(line)
            if isinstance(row, dict):
                rows.append(row)
                texts.append(line)
                n_records += 1
                continue
            reason, detail = row
            if reason == MALFORMED and not line.strip(_BLANK):
                continue
            lines.rejected.setdefault(reason, []).append(n_records)
            if n_told < MAX_ERRORS:
                lines.details[n_records] = detail
                n_told += 1
            n_records += 1
        lines.counts.append(n_records - start)
    _undo_repeated_keys(rows, texts)
    return lines


def _undo_repeated_keys(rows: list[Row], lines: Sequence[bytes]) -> None:
    """Take the first value of a repeated key, as the bulk decoder does."""
    if not may_repeat_keys(b"\0".join(lines), sum(map(len, rows))):
        return
    for i, (row, line) in enumerate(zip(rows, lines, strict=True)):
        if may_repeat_keys(line, len(row)):
            rows[i] = _exact_row(line, row)


def _exact_row(line: bytes, row: Row) -> Row:
    try:
        exact: Row = parse_exact(line)
    except (ValueError, RecursionError):  # too deeply nested for the json module
        return row
    return exact
