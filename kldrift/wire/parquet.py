"""Ranges of rows of Parquet files."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from kldrift.errors import DecodeError
from kldrift.records.samples import RowRange
from kldrift.wire.columns import table_from_frame
from kldrift.wire.plan import Plan
from kldrift.wire.tables import Decoding, empty_table

#: What a file begins with.
MAGIC = b"PAR1"
#: What reading a file with polars can raise; TypeError where the path is not UTF-8.
READ_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, TypeError)

#: What polars says of a column whose type it does not read, such as decimals of more than 38 digits, as opposed to a
#: file that is damaged. tests/wire/test_parquet_types.py has such columns.
_NOT_READ: Final = re.compile(
    r"not (yet )?(supported|implemented)|precision must be|dtype does not match", re.IGNORECASE
)

# Without it, a column of intervals costs polars the whole file; with it, only the column cannot be read.
pl.Config.load('{"environment": {"POLARS_IMPORT_INTERVAL_AS_STRUCT": "1"}}')


def scan(path: Path, *, lenient: bool = False) -> pl.LazyFrame:  # noqa: ARG001 - every row has all columns
    """Read a file lazily; a name with ``*`` in it is a name, not a pattern.

    Extension types are what they are stored as.
    """
    table = pl.scan_parquet(path, glob=False)
    extension = getattr(pl, "BaseExtension", None)
    if extension is None:
        return table
    extended = [name for name, dtype in table.collect_schema().items() if isinstance(dtype, extension)]
    return table.with_columns(pl.col(extended).ext.storage()) if extended else table


def read(
    table: pl.LazyFrame, names: Sequence[str], collect: Callable[[pl.LazyFrame], pl.DataFrame] = pl.LazyFrame.collect
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Read columns of a table, apart from those of a type that polars does not read.

    Parameters
    ----------
    names : of the columns, in order
    collect : reads a table of columns, or some of its rows

    Returns
    -------
    frame : the columns that can be read; without one, a column called ``""`` of zeros
    unreadable : why the others cannot be read
    """
    try:
        return collect(table.select(names)), {}
    except READ_ERRORS as error:
        if not _NOT_READ.search(str(error)):
            raise
    schema = table.collect_schema()
    unreadable = {name: why for name in names if (why := _why_unreadable(table, name, schema[name])) is not None}
    left = [name for name in names if name not in unreadable]
    if left:
        return collect(table.select(left)), unreadable
    return collect(table.select(pl.repeat(0, pl.len()).alias(""))), unreadable


def _why_unreadable(table: pl.LazyFrame, name: str, dtype: pl.DataType) -> str | None:
    try:
        table.select(name).head(1).collect()
    except READ_ERRORS as error:
        return f"it is of type {dtype}, which cannot be read ({reason(error)}); convert it to another type"
    return None


def count_rows(path: Path) -> int:
    """Count the rows of a file, from its footer.

    Raises
    ------
    DecodeError
        it is not a readable Parquet file
    """
    try:
        return int(scan(path).select(pl.len()).collect().item())
    except READ_ERRORS as error:
        raise DecodeError(f"expected a Parquet file, got {reason(error)}") from None


def decode(rows: RowRange, plan: Plan) -> Decoding:
    """Decode some rows of a file, as one body."""
    path, start, stop = rows.path, rows.start, rows.stop
    wanted = [feature.name for feature in plan.schema.features]
    if plan.schema.timestamp is not None:
        wanted.append(plan.schema.timestamp.field)
    if stop - start > plan.max_rows:
        fault = (
            f"{path}: rows {start} to {stop} of {plan.n_numbers} values are too many to decode at once (at most "
            f"{plan.max_rows} rows)"
        )
        return Decoding(empty_table(plan), [0], {0: fault})
    try:
        table = scan(path)
        there = table.collect_schema().names()
        picked = [name for name in dict.fromkeys(wanted) if name in there]
        if plan.watched.isdisjoint(there):
            expected = ", ".join(plan.schema.watched[:8])
            fault = f"{path}: no column is a feature: expected some of {expected}, got {', '.join(there[:8])}"
            return Decoding(empty_table(plan), [0], {0: fault})
        frame, unreadable = read(table.slice(start, stop - start), picked)
    except READ_ERRORS as error:
        fault = f"{path}: expected rows {start} to {stop} of a Parquet file, got {reason(error)}"
        return Decoding(empty_table(plan), [0], {0: fault})
    decoded = table_from_frame(frame, plan, unreadable)
    return Decoding(decoded, [decoded.n_records])


def reason(error: BaseException) -> str:
    """Return the first line of an error: polars adds its query plan below."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
