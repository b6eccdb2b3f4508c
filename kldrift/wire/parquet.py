"""Row ranges of Parquet files."""

from pathlib import Path

import polars as pl

from kldrift.errors import DecodeError
from kldrift.wire.columns import table_from_frame
from kldrift.wire.plan import Plan
from kldrift.wire.tables import Decoding, empty_table

#: TypeError: polars takes no path that is not UTF-8.
READ_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, TypeError)


def rows(path: Path) -> int:
    """Rows of a Parquet file, from its footer.

    Raises
    ------
    DecodeError
        it is not a readable Parquet file
    """
    try:
        return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
    except READ_ERRORS as error:
        raise DecodeError(f"expected a Parquet file, got {reason(error)}") from None


def decode(path: Path, start: int, stop: int, plan: Plan) -> Decoding:
    """Rows `start` to `stop` of a file, as one body."""
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
        scan = pl.scan_parquet(path, glob=False)
        there = scan.collect_schema().names()
        picked = [name for name in dict.fromkeys(wanted) if name in there]
        if not picked:
            fault = (
                f"{path}: no column is a feature: expected some of {', '.join(wanted[:8])}, got {', '.join(there[:8])}"
            )
            return Decoding(empty_table(plan), [0], {0: fault})
        frame = scan.slice(start, stop - start).select(picked).collect()
    except READ_ERRORS as error:
        fault = f"{path}: expected rows {start} to {stop} of a Parquet file, got {reason(error)}"
        return Decoding(empty_table(plan), [0], {0: fault})
    table = table_from_frame(frame, plan)
    return Decoding(table, [table.n_records])


def reason(error: BaseException) -> str:
    """The first line of an error: polars adds its query plan below."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
