"""Rows that hold none of the features: no samples, but rows for another monitor, or fields under other names."""

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import polars as pl

from kldrift.records.categories import bare
from kldrift.records.types import IntArray
from kldrift.wire.plan import Plan
from kldrift.wire.rows import Exact, Row, parse, table_from_rows
from kldrift.wire.tables import MAX_ERRORS, NO_KNOWN_FIELD, Table, empty_table, no_known_field

_NAMED = 8
_NAME_LENGTH = 40


def why_unknown(came: Iterable[str], plan: Plan) -> str:
    """Say which fields came, and which are features; "did you mean" where only case or separators differ."""
    names = list(came)
    shown = ", ".join(name[:_NAME_LENGTH] for name in names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    meant = {bare(name): name for name in plan.schema.watched}
    hints = [f"{meant[bare(name)]!r} for {name[:_NAME_LENGTH]!r}" for name in names if bare(name) in meant]
    hint = f"; did you mean {', '.join(hints[:_NAMED])}?" if hints else ""
    return f"{no_known_field(plan)}, got {shown or 'none'}{hint}"


def why_unknown_row(text: bytes, plan: Plan) -> str:
    """Say the same of a row of JSON that a kernel has read."""
    row = parse(text[: text.rfind(b"}") + 1])
    return why_unknown(row if isinstance(row, dict) else (), plan)


def may_lack_all(frame: pl.DataFrame, watched: Collection[str]) -> bool:
    """Return whether a row may hold none of the watched fields: all of them are null, or absent."""
    if not all(frame.get_column(name).null_count() for name in watched):
        return False
    return bool(frame.select(pl.all_horizontal(pl.col(*watched).is_null()).any()).item())


def take_unknown(rows: list[Row], watched: frozenset[str], texts: list[bytes] | None = None) -> dict[int, Row]:
    """Remove the rows that hold none of the watched fields, and their texts; return them by the place they had."""
    unknown = {i: row for i, row in enumerate(rows) if watched.isdisjoint(row)}
    if unknown:
        rows[:] = [row for i, row in enumerate(rows) if i not in unknown]
        if texts is not None:
            texts[:] = [text for i, text in enumerate(texts) if i not in unknown]
    return unknown


def known_rows_table(
    rows: list[Row],
    starts: Sequence[int],
    n_records: int,
    rejected: dict[str, IntArray],
    details: dict[int, str],
    plan: Plan,
    texts: list[bytes] | None = None,
    exact: Exact | None = None,
) -> Table:
    """Make columns of row objects, apart from those that hold none of the features: they are removed from the lists.

    Parameters
    ----------
    starts : the number of the first record of each body
    texts : the line of each row
    exact : see `table_from_rows`
    n_records, rejected, details : of all records, as in a `Table`; the rows are those that are not rejected
    """
    if unknown := take_unknown(rows, plan.watched, texts):
        is_row = np.ones(n_records, dtype=np.bool_)
        for records in rejected.values():
            is_row[records] = False
        at = np.flatnonzero(is_row)[list(unknown)]
        rejected[NO_KNOWN_FIELD] = at
        came = list(unknown.values())
        for first in np.searchsorted(at, starts).tolist():
            for record, row in zip(at[first : first + MAX_ERRORS].tolist(), came[first:], strict=False):
                details[record] = why_unknown(row, plan)
    table = table_from_rows(rows, plan, exact)
    return Table(n_records, table.columns, table.event_ms, table.invalid, rejected, details)


def unknown_table(n_rows: int, came: Collection[str], plan: Plan) -> Table:
    """Return a table of so many rows with these fields, which all are rejected."""
    table = empty_table(plan)
    why = why_unknown(came, plan)
    return Table(
        n_rows,
        table.columns,
        table.event_ms,
        rejected={NO_KNOWN_FIELD: np.arange(n_rows)} if n_rows else {},
        details=dict.fromkeys(range(min(n_rows, MAX_ERRORS)), why),
    )
