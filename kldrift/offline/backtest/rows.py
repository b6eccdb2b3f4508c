"""The rows of data files in order of their event times."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from kldrift.datafiles.pieces import pieces
from kldrift.datafiles.sample import column_names
from kldrift.drift.monitor import CLOCK_SKEW_MS
from kldrift.errors import DataFileProblem
from kldrift.records.kinds import ColumnKind
from kldrift.records.samples import BatchSchema, Decoded, FeatureSchema, SampleBatch
from kldrift.records.specs import TimestampSpec
from kldrift.records.texts import listed
from kldrift.records.types import IntArray
from kldrift.wire.tables import NO_KNOWN_FIELD

#: Rows handed on at a time; for a sorted Parquet file, also the most rows in memory.
BATCH_ROWS = 1 << 17


@dataclass(frozen=True, slots=True)
class Span:
    """The event times that count: from `start_ms` on and before `stop_ms`."""

    start_ms: int = 0
    stop_ms: int = 1 << 62

    def holds(self, times: IntArray) -> IntArray:
        """Return the indices of the times that count."""
        return np.flatnonzero((times >= self.start_ms) & (times < self.stop_ms))


@dataclass(frozen=True, slots=True)
class History:
    """What is known about the rows before any of them is counted.

    Parameters
    ----------
    paths : in order of their first event times
    rows : number of rows with a time in the span
    first_ms, last_ms : their earliest and latest event time
    backwards : rows whose time is earlier than that of the row before; if there are none, nothing is sorted
    rejected : rows left out, by reason
    columns : names of the columns in the files
    """

    paths: tuple[Path, ...]
    timestamp: TimestampSpec
    span: Span
    rows: int
    first_ms: int
    last_ms: int
    backwards: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    columns: tuple[str, ...] = ()

    def batches(self, schema: BatchSchema) -> Iterator[SampleBatch]:
        """Yield all rows in order of event time; rows with equal times stay in the order of the files.

        Sorted files are read piece by piece. Otherwise all rows are held in memory at once.
        """
        wanted = replace(schema, timestamp=self.timestamp)
        batches = (decoded.batch for path in self.paths for decoded in _pieces(path, wanted))
        kept = (take(batch, self.span.holds(times_of(batch))) for batch in batches)
        if not self.backwards:
            yield from (batch for batch in kept if batch.n_rows)
            return
        whole = _joined(list(kept))
        order = np.argsort(times_of(whole), kind="stable")
        for start in range(0, order.size, BATCH_ROWS):
            yield take(whole, order[start : start + BATCH_ROWS])


@dataclass(frozen=True, slots=True)
class _Times:
    """The event times of one file."""

    path: Path
    first_ms: int
    last_ms: int
    earliest_ms: int
    latest_ms: int
    rows: int
    backwards: int
    records: int


def read_history(paths: Sequence[Path], timestamp: TimestampSpec, span: Span, now_ms: int) -> History:
    """Read the event times of files: Parquet, CSV or NDJSON, the last two also compressed.

    Parameters
    ----------
    now_ms : rows with later times are left out, as in the daemon

    Raises
    ------
    DataFileProblem
        a file cannot be read, or no row has a time within the span
    """
    columns = dict.fromkeys(name for path in paths for name in column_names(path))
    if timestamp.field not in columns:
        raise DataFileProblem(
            f"{listed(map(str, paths))}: expected event times in the field {timestamp.field!r}, but there is no such"
            f" column; the columns are {listed(columns)}; give --timestamp FIELD"
        )
    rejected: Counter[str] = Counter()
    within = Span(span.start_ms, min(span.stop_ms, now_ms + CLOCK_SKEW_MS))
    found = [_look_through(path, timestamp, within, now_ms, rejected) for path in paths]
    if not sum(times.rows for times in found):
        raise DataFileProblem(_no_rows(paths, timestamp, sum(times.records for times in found), rejected))
    found = sorted((times for times in found if times.rows), key=lambda times: times.earliest_ms)
    between = sum(b.first_ms < a.last_ms for a, b in pairwise(found))
    return History(
        tuple(times.path for times in found),
        timestamp,
        within,
        sum(times.rows for times in found),
        min(times.earliest_ms for times in found),
        max(times.latest_ms for times in found),
        between + sum(times.backwards for times in found),
        dict(rejected),
        tuple(columns),
    )


def _pieces(path: Path, schema: BatchSchema) -> Iterator[Decoded]:
    return pieces(path, schema, rows_at_a_time=BATCH_ROWS)


def _look_through(path: Path, timestamp: TimestampSpec, span: Span, now_ms: int, rejected: Counter[str]) -> _Times:
    first = last = None
    earliest, latest, rows, backwards, records = 1 << 62, -1, 0, 0, 0
    for decoded in _pieces(path, _times_alone(timestamp)):
        for body in decoded.bodies:
            for reason, n in body.rejected.items():  # the time is all that is looked for here
                rejected["timestamp" if reason == NO_KNOWN_FIELD else reason] += n
        all_times = times_of(decoded.batch)
        records += all_times.size
        rejected["future"] += int(np.count_nonzero(all_times >= now_ms + CLOCK_SKEW_MS))
        times = all_times[span.holds(all_times)]
        if not times.size:
            continue
        rows += times.size
        backwards += int(np.count_nonzero(np.diff(times) < 0)) + (last is not None and int(times[0]) < last)
        first = int(times[0]) if first is None else first
        last = int(times[-1])
        earliest, latest = min(earliest, int(times.min())), max(latest, int(times.max()))
    return _Times(path, first or 0, last or 0, earliest, latest, rows, backwards, records)


def _times_alone(timestamp: TimestampSpec) -> BatchSchema:
    """Return a schema of little but the event times. It needs a feature, so it reads the same field once more."""
    kind: ColumnKind = "categorical" if timestamp.unit == "iso8601" else "numeric"
    return BatchSchema((FeatureSchema(timestamp.field, kind),), timestamp)


def _no_rows(paths: Sequence[Path], timestamp: TimestampSpec, records: int, rejected: Mapping[str, int]) -> str:
    where = listed(map(str, paths))
    left_out = reasons(rejected)
    if records:
        return f"{where}: expected rows between --from and --to and before now, but all {records:,} are outside"
    return (
        f"{where}: expected rows with an event time ({timestamp.unit}) in the field {timestamp.field!r}, got none"
        + (f" ({left_out} were left out); is the unit right? give --timestamp FIELD:UNIT" if left_out else "")
    )


def reasons(rejected: Mapping[str, int]) -> str:
    """Describe what was left out: ``3 without a readable event time, 1 malformed``."""
    words = {"timestamp": "without a readable event time", "future": "from the future"}
    return ", ".join(f"{n:,} {words.get(reason, reason)}" for reason, n in sorted(rejected.items()) if n)


def times_of(batch: SampleBatch) -> IntArray:
    """Return the event times, (n_rows,)."""
    assert batch.event_ms is not None, "a history is decoded with a timestamp"
    return batch.event_ms


def take(batch: SampleBatch, rows: IntArray) -> SampleBatch:
    """Return these rows of a batch, in this order."""
    if rows.size == batch.n_rows and np.array_equal(rows, np.arange(rows.size)):
        return batch
    place = np.full(batch.n_rows, -1, dtype=np.int64)
    place[rows] = np.arange(rows.size)
    invalid = [(feature, np.sort(place[bad][place[bad] >= 0])) for feature, bad in batch.invalid]
    return replace(
        batch,
        n_rows=rows.size,
        columns=tuple(column[rows] for column in batch.columns),
        event_ms=times_of(batch)[rows],
        invalid=tuple((feature, bad) for feature, bad in invalid if bad.size),
    )


def _joined(batches: Sequence[SampleBatch]) -> SampleBatch:
    """Join the rows of all batches."""
    starts = np.cumsum([0, *(batch.n_rows for batch in batches)])
    invalid: dict[int, list[IntArray]] = {}
    for start, batch in zip(starts.tolist(), batches, strict=False):
        for feature, bad in batch.invalid:
            invalid.setdefault(feature, []).append(bad + start)
    return SampleBatch(
        int(starts[-1]),
        tuple(np.concatenate(parts) for parts in zip(*(batch.columns for batch in batches), strict=True)),
        np.concatenate([times_of(batch) for batch in batches]),
        tuple((feature, np.concatenate(parts)) for feature, parts in sorted(invalid.items())),
    )
