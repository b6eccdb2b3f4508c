"""Ranges of rows of Parquet files."""

from pathlib import Path

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


def scan(path: Path, *, lenient: bool = False) -> pl.LazyFrame:  # noqa: ARG001 - every row has all columns
    """Read a file lazily; a name with ``*`` in it is a name, not a pattern."""
    return pl.scan_parquet(path, glob=False)


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
        if not picked:
            fault = (
                f"{path}: no column is a feature: expected some of {', '.join(wanted[:8])}, got {', '.join(there[:8])}"
            )
            return Decoding(empty_table(plan), [0], {0: fault})
        frame = table.slice(start, stop - start).select(picked).collect()
    except READ_ERRORS as error:
        fault = f"{path}: expected rows {start} to {stop} of a Parquet file, got {reason(error)}"
        return Decoding(empty_table(plan), [0], {0: fault})
    decoded = table_from_frame(frame, plan)
    return Decoding(decoded, [decoded.n_records])


def reason(error: BaseException) -> str:
    """Return the first line of an error: polars adds its query plan below."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
