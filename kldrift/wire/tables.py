"""Rows of one or more bodies as columns, and what became of the rows of each body."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from kldrift.records.samples import BodyResult, Counts, Decoded, FeatureSchema, RowError, SampleBatch
from kldrift.records.types import CodeArray, FloatArray, IntArray
from kldrift.wire.plan import Plan

Column = FloatArray | CodeArray

#: Row errors reported for a body.
MAX_ERRORS = 10
#: Stands for the event time of a row without one; accepted instants are never negative.
NO_TIME = -1

#: The reason to reject a row that holds none of the features.
NO_KNOWN_FIELD = "no_known_field"
_UNREADABLE_ROWS = frozenset({"malformed", "not_an_object", NO_KNOWN_FIELD})
_NAMED_FEATURES = 8


@dataclass(frozen=True, slots=True)
class Invalid:
    """Values of the wrong type in one column.

    Parameters
    ----------
    feature : index of the feature
    rows : rows of the column, ascending
    got : what was found there, one description for all or one per row
    """

    feature: int
    rows: IntArray
    got: str | Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """Records decoded into columns.

    Parameters
    ----------
    n_records : records seen; those not in `rejected` are the rows of the columns
    event_ms : (n_rows,) instants, `NO_TIME` where there is none
    rejected : ascending record numbers by reason
    details : more about rejected records, for the first few
    counts : of the rows; if there are any, there are no columns
    """

    n_records: int
    columns: Sequence[Column]
    event_ms: IntArray | None = None
    invalid: Sequence[Invalid] = ()
    rejected: Mapping[str, IntArray] = field(default_factory=dict)
    details: Mapping[int, str] = field(default_factory=dict)
    counts: Counts | None = None

    @property
    def n_rows(self) -> int:
        """Number of rows in every column."""
        return self.n_records - sum(len(records) for records in self.rejected.values())


@dataclass(frozen=True, slots=True)
class Decoding:
    """A table, and how many of its records each body had.

    Parameters
    ----------
    counts : records of each body, in order
    unreadable : why a body could not be read at all, by its index
    """

    table: Table
    counts: Sequence[int]
    unreadable: Mapping[int, str] = field(default_factory=dict)


def empty_table(plan: Plan) -> Table:
    """Make a table without rows."""
    return missing_table(plan, 0)


def missing_table(plan: Plan, n_rows: int) -> Table:
    """Make a table in which every value is missing."""
    columns: list[Column] = [missing_column(plan, i, n_rows) for i in range(plan.n_features)]
    event_ms = None if plan.schema.timestamp is None else np.full(n_rows, NO_TIME, dtype=np.int64)
    return Table(n_rows, columns, event_ms)


def missing_column(plan: Plan, index: int, n_rows: int) -> Column:
    """Make a column of missing values for feature `index`."""
    feature = plan.schema.features[index]
    if feature.kind == "categorical":
        return np.full(n_rows, feature.missing_code, dtype=np.int32)
    return np.full(n_rows if feature.kind == "numeric" else (n_rows, feature.dimensions), np.nan)


def concatenate(tables: Sequence[Table], plan: Plan) -> Table:
    """Join the records of tables."""
    if len(tables) == 1:
        return tables[0]
    if not tables:
        return empty_table(plan)
    columns = [join_columns(parts) for parts in zip(*(table.columns for table in tables), strict=True)]
    times = [table.event_ms for table in tables if table.event_ms is not None]
    invalid: dict[int, list[Invalid]] = {}
    rejected: dict[str, list[IntArray]] = {}
    details: dict[int, str] = {}
    n_records = n_rows = 0
    for table in tables:
        for item in table.invalid:
            invalid.setdefault(item.feature, []).append(Invalid(item.feature, item.rows + n_rows, item.got))
        for reason, records in table.rejected.items():
            rejected.setdefault(reason, []).append(records + n_records)
        details |= {record + n_records: text for record, text in table.details.items()}
        n_records += table.n_records
        n_rows += table.n_rows
    return Table(
        n_records,
        columns,
        np.concatenate(times) if times else None,
        [join_invalid(items) for _, items in sorted(invalid.items())],
        {reason: np.concatenate(parts) for reason, parts in rejected.items()},
        details,
    )


def join_columns(parts: Sequence[Column]) -> Column:
    """Join parts of one column."""
    joined: Column = np.concatenate(parts)  # type: ignore[assignment]  # of one type
    return joined


def join_invalid(items: list[Invalid]) -> Invalid:
    """Join what is invalid in one column, numbered as in the whole of it."""
    if len(items) == 1:
        return items[0]
    got: list[str] = []
    for item in items:
        got += [item.got] * len(item.rows) if isinstance(item.got, str) else item.got
    return Invalid(items[0].feature, np.concatenate([item.rows for item in items]), got)


def finish(decoding: Decoding, plan: Plan) -> Decoded:
    """Drop rows without a time, make the batch, and report what became of each body."""
    table = _drop_timeless(decoding.table, plan)
    event_ms = table.event_ms
    columns = tuple(_with_ages(_without_missing_numbers(table.columns, plan), event_ms, plan))
    batch = SampleBatch(
        table.n_rows,
        columns,
        event_ms,
        tuple((item.feature, item.rows) for item in table.invalid),
        table.n_rows * plan.row_bytes if table.counts is None else table.counts.values.nbytes,
        table.counts,
    )
    return Decoded(batch, _results(table, decoding, plan))


def _without_missing_numbers(columns: Sequence[Column], plan: Plan) -> Sequence[Column]:
    """Return the columns with NaN in place of the numbers that stand for a missing value."""
    if plan.countable or not columns:
        return columns
    made = list(columns)
    for index, _ in plan.numeric:
        made[index] = without_numbers(columns[index], plan.missing_numbers)
    return made


def without_numbers(column: npt.NDArray[Any], numbers: FloatArray) -> FloatArray:
    """Return a column with NaN in place of some numbers."""
    return np.where(np.isin(column, numbers), np.nan, column) if numbers.size else column


def age_seconds(event_ms: IntArray, instants: FloatArray) -> FloatArray:
    """Return how long before the time of its row each instant is, in seconds: negative for what is still to come.

    Parameters
    ----------
    event_ms : (n,) int64, negative where a row has no time
    instants : (n,) float64, seconds since 1970; NaN where there is none
    """
    return np.where(event_ms >= 0, event_ms / 1e3 - instants, np.nan)


def _with_ages(columns: Sequence[Column], event_ms: IntArray | None, plan: Plan) -> Sequence[Column]:
    """Return the columns with ages in place of the instants from which they are counted."""
    ages = [index for index, feature in plan.aspects if feature.of == "age"]
    if not ages or event_ms is None:
        return columns
    made = list(columns)
    for index in ages:
        made[index] = age_seconds(event_ms, made[index].astype(np.float64, copy=False))
    return made


def _drop_timeless(table: Table, plan: Plan) -> Table:
    event_ms = table.event_ms
    spec = plan.schema.timestamp
    if event_ms is None or spec is None:
        return table
    keep = event_ms != NO_TIME
    if keep.all():
        return table
    timeless = _records_of_rows(table)[~keep]
    new_row = np.cumsum(keep) - 1
    invalid = []
    for item in table.invalid:
        kept = keep[item.rows]
        if kept.any():
            got = (
                item.got
                if isinstance(item.got, str)
                else [g for g, k in zip(item.got, kept.tolist(), strict=True) if k]
            )
            invalid.append(Invalid(item.feature, new_row[item.rows[kept]], got))
    return Table(
        table.n_records,
        [column[keep] for column in table.columns],
        event_ms[keep],
        invalid,
        {**table.rejected, "timestamp": timeless},
        table.details,
    )


def _records_of_rows(table: Table) -> IntArray:
    """Return the record number of every row."""
    keep: npt.NDArray[np.bool_] = np.ones(table.n_records, dtype=np.bool_)
    for records in table.rejected.values():
        keep[records] = False
    return np.flatnonzero(keep)


def _results(table: Table, decoding: Decoding, plan: Plan) -> tuple[BodyResult, ...]:
    counts = decoding.counts
    if not table.rejected and not table.invalid and not decoding.unreadable:
        known: dict[int, BodyResult] = {}
        return tuple(known.get(n) or known.setdefault(n, BodyResult(n)) for n in counts)
    record_of_row = _records_of_rows(table)
    invalid = [(item, record_of_row[item.rows]) for item in table.invalid]
    results = []
    stop = 0
    for body, count in enumerate(counts):
        start, stop = stop, stop + count
        rejected: dict[str, int] = {}
        errors: list[tuple[int, int, RowError]] = []
        for reason, records in table.rejected.items():
            low, high = np.searchsorted(records, (start, stop))
            if high > low:
                rejected[reason] = int(high - low)
                for record in records[low : min(high, low + MAX_ERRORS)].tolist():
                    text = table.details.get(record) or _why_rejected(reason, plan)
                    errors.append((record, -1, RowError(record - start, None, text)))
        for item, records in invalid:
            low, high = np.searchsorted(records, (start, stop))
            feature = plan.schema.features[item.feature]
            for at in range(low, min(high, low + MAX_ERRORS)):
                got = item.got if isinstance(item.got, str) else item.got[at]
                error = RowError(int(records[at]) - start, feature.name, f"expected {_wanted(feature)}, got {got}")
                errors.append((int(records[at]), item.feature, error))
        errors.sort(key=lambda error: error[:2])
        told = tuple(error for _, _, error in errors[:MAX_ERRORS])
        unreadable = decoding.unreadable.get(body)
        if unreadable is None and count and sum(rejected.get(reason, 0) for reason in _UNREADABLE_ROWS) == count:
            unreadable = f"none of the {count} rows could be read; row {told[0].row} is {told[0].reason}"
        accepted = count - sum(rejected.values())
        low, high = np.searchsorted(record_of_row, (start, stop))
        rows = record_of_row[low:high] - start if rejected else None
        results.append(BodyResult(accepted, rejected, told, unreadable, rows))
    return tuple(results)


def _wanted(feature: FeatureSchema) -> str:
    if feature.of is not None:
        return wanted_for_aspect(feature)
    match feature.kind:
        case "numeric":
            return "a number"
        case "categorical":
            return "a string, a number or a boolean"
        case _:
            return f"a list of {feature.dimensions} numbers"


def wanted_for_aspect(feature: FeatureSchema) -> str:
    """Say of what a feature takes an aspect."""
    if feature.of == "length":
        return "a text"
    return "a date or time (ISO 8601)" if feature.unit == "iso8601" else f"a time in {feature.unit} since 1970"


def too_many_rows(what: str, plan: Plan) -> str:
    """Say why a body whose rows would not fit into a batch is refused."""
    return (
        f"{what} of {plan.n_numbers} values are too many to decode at once (at most {plan.max_rows}); "
        "send them in smaller bodies"
    )


def no_known_field(plan: Plan) -> str:
    """Say which fields a row was expected to have."""
    names = plan.schema.watched
    more = ", …" if len(names) > _NAMED_FEATURES else ""
    return f"{NO_KNOWN_FIELD}: expected some of the features {', '.join(names[:_NAMED_FEATURES])}{more}"


def _why_rejected(reason: str, plan: Plan) -> str:
    if reason == NO_KNOWN_FIELD:
        return no_known_field(plan)
    spec = plan.schema.timestamp
    if reason != "timestamp" or spec is None:
        return reason
    expected = "an ISO 8601 date and time" if spec.unit == "iso8601" else f"a number of {spec.unit} since 1970"
    return f"timestamp: expected {expected} (years 1970 to 2261) in field {spec.field!r}"
