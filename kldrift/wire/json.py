"""JSON bodies: one row object, a list of row objects, or columns (lists of equal length by name)."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import orjson

from kldrift.kernels.bin_table import BinTable
from kldrift.kernels.parsing import json_rows
from kldrift.kernels.parsing.output import ROWS
from kldrift.records.samples import Counts
from kldrift.wire import json_scan
from kldrift.wire.json_columns import Columns, find_columns
from kldrift.wire.json_lines import SLICE_BYTES, take_out_of_list
from kldrift.wire.plan import Plan
from kldrift.wire.rows import (
    Row,
    column_of,
    kind_of,
    may_repeat_keys,
    parse,
    parse_exact,
)
from kldrift.wire.tables import (
    MAX_ERRORS,
    NO_TIME,
    Column,
    Decoding,
    Invalid,
    Table,
    concatenate,
    too_many_rows,
)
from kldrift.wire.taken_out import TakenOut
from kldrift.wire.targets import Target, counted
from kldrift.wire.timestamps import times_from_values
from kldrift.wire.unknown_fields import known_rows_table, unknown_table, why_unknown_row

#: Smaller lists are parsed before the kernel is ready, which takes 30 µs (measured: break-even at 1 to 3 KB, at 200
#: bytes for rows of one number).
SCAN_BYTES: Final = 2_000
#: A body has to be parsed whole to see its first row; the fields of larger ones are not looked up.
MAX_NAMED_BYTES: Final = 1 << 20

_BOM: Final = b"\xef\xbb\xbf"
_EXPECTED: Final = "expected a JSON object, a list of objects, or columns (an object of lists)"


def decode(bodies: Sequence[bytes], plan: Plan, _header: bytes = b"", bins: BinTable | None = None) -> Decoding:
    """Decode the bodies; rows of neighbours become columns together, those of a large list by the kernel.

    Parameters
    ----------
    bins : rows may be counted in them: either all or none
    """
    tables: list[Table] = []
    counts: list[int] = []
    unreadable: dict[int, str] = {}
    gathered = _Rows(plan)
    room = plan.max_rows
    for i, body in enumerate(bodies):
        value = _scan(body, plan, bins, gathered, tables) or _slice(body, plan) or _parse(body)
        lengths: dict[str, int] = {}
        fault = None
        if isinstance(value, str):
            fault, n_rows = value, 0
        elif isinstance(value, _Scanned | _Sliced):
            n_rows = value.n_rows
        elif isinstance(value, Columns) or (isinstance(value, dict) and _is_columns(value, plan)):
            lengths = value.lengths if isinstance(value, Columns) else {name: len(v) for name, v in value.items()}
            n_rows = min(lengths.values())
            fault = None if len(set(lengths.values())) == 1 else _ragged(lengths)
        else:
            n_rows = len(value) if isinstance(value, list) else 1
        if fault is None and n_rows > room:
            fault = too_many_rows(f"{n_rows} rows", plan)
        if fault is not None:
            unreadable[i] = fault
            counts.append(0)
            continue
        room -= n_rows
        counts.append(n_rows)
        if isinstance(value, _Scanned | _Sliced):
            tables += gathered.take()
            tables.append(value.table(plan))
        elif isinstance(value, Columns):
            tables += gathered.take()
            tables.append(value.table(n_rows, plan))
        elif lengths and isinstance(value, dict):
            tables += gathered.take()
            tables.append(_table_from_columns(value, n_rows, plan))
        else:
            gathered.add(value if isinstance(value, list) else [value])
    tables += gathered.take()
    return Decoding(_join(tables, plan, bins), counts, unreadable)


def field_names(body: bytes, _header: bytes = b"") -> Iterable[str]:
    """Name the fields of the first row, or the columns; nothing for a large body."""
    value = orjson.loads(body) if len(body) <= MAX_NAMED_BYTES else None
    row = value[0] if isinstance(value, list) and value else value
    return row if isinstance(row, dict) else ()


@dataclass(frozen=True, slots=True)
class _Scanned:
    """A list read by the kernel.

    Parameters
    ----------
    left : the values that it skipped
    """

    target: Target
    left: list[Any]
    body: bytes

    @property
    def n_rows(self) -> int:
        return int(self.target.out.state[ROWS])

    def table(self, plan: Plan) -> Table:
        """Return the rows, with skipped ones in their places."""
        left = None
        if self.left:
            others = _Rows(plan)
            others.add(self.left)
            (left,) = others.take()
        shown = {row: why_unknown_row(self.body[start:stop], plan) for row, start, stop in self.target.shown}
        table = self.target.table(left, shown)
        self.target.release()
        return table


@dataclass(frozen=True, slots=True)
class _Sliced:
    """A large list, of which a few rows are parsed at a time."""

    taken_out: TakenOut

    @property
    def n_rows(self) -> int:
        return self.taken_out.counts[0]

    def table(self, plan: Plan) -> Table:
        """Return the rows, slice by slice, each by the kernel or in the general way."""
        tables: list[Table] = []
        gathered = _Rows(plan)
        for body in self.taken_out.bodies:
            scanned = _scan(body, plan, None, gathered, tables)
            if scanned is not None:
                tables.append(scanned.table(plan))
            elif isinstance(rows := _parse(body), list):
                gathered.add(rows)
                tables += gathered.take()
        return self.taken_out.put_back(concatenate(tables, plan)).table


def _slice(body: bytes, plan: Plan) -> _Sliced | Columns | None:
    """Cut a large list, or large columns, into slices; None if the body is small, or neither."""
    if len(body) <= SLICE_BYTES or not json_rows.is_ready():
        return None
    begin = json_scan.begin_of_list(body, _begin(body))
    if begin is None:
        brace = json_scan.begin_of_object(body, _begin(body))
        return None if brace is None else find_columns(body, brace, plan)
    taken_out = take_out_of_list(body, begin)
    return None if taken_out is None else _Sliced(taken_out)


def _scan(body: bytes, plan: Plan, bins: BinTable | None, gathered: "_Rows", tables: list[Table]) -> _Scanned | None:
    """Read the body by the kernel; None if it is not a list, or a small one, or one that the kernel cannot read.

    Rows that were gathered become columns before: what is learned of their categories comes first.
    """
    if len(body) < SCAN_BYTES or not plan.scan:
        return None
    tables += gathered.take()
    target = json_scan.read_list(body, _begin(body), plan, bins)
    if target is None:
        return None
    if not len(target.left):
        return _Scanned(target, [], body)
    left = _parse(json_scan.left_in_list(body, target.left))
    if not isinstance(left, list) or _may_be_inexact(left, plan):
        return None
    return _Scanned(target, left, body)


def _begin(body: bytes) -> int:
    return len(_BOM) if body.startswith(_BOM) else 0


def _may_be_inexact(rows: list[Any], plan: Plan) -> bool:
    """Return whether a category may be an integer beyond 64 bits; whether that is exact depends on other rows."""
    values = [row.get(category.feature.name) for category in plan.categorical for row in rows if type(row) is dict]
    return any(type(value) is float and abs(value) >= 2.0**63 for value in values)


def _join(tables: list[Table], plan: Plan, bins: BinTable | None) -> Table:
    """Join the tables; if one is of counts, all become counts."""
    if bins is None or all(table.counts is None for table in tables):
        return concatenate(tables, plan)
    tables = [counted(table, bins) for table in tables]
    cells = np.sum([table.counts.values for table in tables if table.counts is not None], axis=0)
    return replace(concatenate(tables, plan), counts=Counts(bins, cells))


class _Rows:
    """Rows waiting to become columns."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._clear()

    def _clear(self) -> None:
        self._rows: list[Row] = []
        self._starts: list[int] = []
        self._n_records = 0
        self._rejected: list[int] = []
        self._details: dict[int, str] = {}

    def add(self, values: list[Any]) -> None:
        """Add the rows of one body."""
        self._starts.append(self._n_records)
        told = 0
        for value in values:
            if type(value) is dict:
                self._rows.append(value)
            else:
                self._rejected.append(self._n_records)
                if told < MAX_ERRORS:
                    text = f"not_an_object: expected a JSON object, got {kind_of(value)}"
                    self._details[self._n_records] = text
                    told += 1
            self._n_records += 1

    def take(self) -> list[Table]:
        """Return the rows so far as a table, if there are any, and start over."""
        if not self._n_records:
            return []
        rejected = {"not_an_object": np.array(self._rejected, dtype=np.int64)} if self._rejected else {}
        made = known_rows_table(self._rows, self._starts, self._n_records, rejected, self._details, self._plan)
        self._clear()
        return [made]


def _parse(body: bytes) -> dict[str, Any] | list[Any] | str:
    """Return the object or list in a body, or what is wrong with it."""
    body = body.removeprefix(_BOM)
    if not body.strip():
        return f"empty body: {_EXPECTED}"
    try:
        value = parse(body)
        if isinstance(value, dict):
            n_keys = len(value)
        elif isinstance(value, list):
            n_keys = sum(len(row) for row in value if type(row) is dict)
        else:
            return f"{_EXPECTED}, got {kind_of(value)}"
        if may_repeat_keys(body, n_keys):
            with suppress(RecursionError):  # too deeply nested for the json module: the last of repeated keys counts
                value = parse_exact(body)
    except ValueError as error:
        return f"malformed JSON: {error}; {_EXPECTED}"
    found: dict[str, Any] | list[Any] = value
    return found


def _is_columns(body: dict[str, Any], plan: Plan) -> bool:
    """Return whether an object is columns rather than a row.

    A row of nothing but vectors is an object of lists, too: then these hold numbers, and not lists or null.
    """
    if not body or not all(type(values) is list for values in body.values()):
        return False
    wanted = {feature.name for feature in plan.schema.features}
    if plan.schema.timestamp is not None:
        wanted.add(plan.schema.timestamp.field)
    there = wanted & body.keys()
    if not there <= {vector.name for vector in plan.vectors}:
        return True
    elements = {type(value) for name in there for value in body[name]} - {type(None)}
    return not elements or list in elements


def _ragged(lengths: dict[str, int]) -> str:
    shortest = min(lengths, key=lambda name: lengths[name])
    longest = max(lengths, key=lambda name: lengths[name])
    return (
        f"ragged columns: expected lists of equal length, got {lengths[shortest]} values in {shortest[:80]!r} and "
        f"{lengths[longest]} in {longest[:80]!r}"
    )


def _table_from_columns(body: dict[str, list[Any]], n_rows: int, plan: Plan) -> Table:
    if plan.watched.isdisjoint(body):
        return unknown_table(n_rows, body, plan)
    columns: list[Column] = []
    invalid: list[Invalid] = []
    for index, feature in enumerate(plan.schema.features):
        column, bad = column_of(body.get(feature.name), n_rows, index, plan)
        columns.append(column)
        if bad is not None:
            invalid.append(bad)
    event_ms = None
    spec = plan.schema.timestamp
    if spec is not None:
        times = body.get(spec.field)
        event_ms = np.full(n_rows, NO_TIME, dtype=np.int64) if times is None else times_from_values(times, spec)
    return Table(n_rows, columns, event_ms, invalid)
