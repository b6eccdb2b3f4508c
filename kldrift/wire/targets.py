"""Output of the kernels that read rows: columns or counts of the features of a plan."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from kldrift.kernels.bin_table import BinTable, make_bin_table
from kldrift.kernels.fill import fill_counts, move_invalid
from kldrift.kernels.parsing import gaps, output
from kldrift.kernels.parsing.fields import Categories, Fields, make_fields
from kldrift.records.samples import Counts
from kldrift.records.types import FloatArray, IntArray
from kldrift.wire.plan import Known, Plan, is_unicode
from kldrift.wire.tables import NO_KNOWN_FIELD, Column, Invalid, Table
from kldrift.wire.timestamps import times_from_numbers

_NO_COLUMN: Final[FloatArray] = np.empty(0)
_NOT_COUNTED: Final = output.Counting(
    make_bin_table([]), np.empty(0, dtype=np.int64), np.empty((0, 0, 0), dtype=np.int64)
)
#: Values in a block of rows that is counted at once: 256 kB, at most half of a second-level cache.
_BLOCK_VALUES: Final = 1 << 15
#: Rows that the kernel may skip if they are not counted; a body with more is decoded in the general way.
_MOST_LEFT: Final = 1 << 16
#: Bytes of the smallest row, ``{}``, and what follows it.
_SMALLEST_ROW: Final = 3


@dataclass(frozen=True, slots=True)
class Layout:
    """The fields of a plan in the form that the kernel takes.

    Parameters
    ----------
    plan : kept alive so that its identity is not reused
    known : the categories that the tables were made from
    numbers : names of the numeric fields, in order
    idle : what was learned from earlier lines and no thread is using
    idle_lists : the same for lists
    blocks : columns from which rows are counted, and where each begins, that no thread is using
    """

    plan: Plan
    known: tuple[Known, ...]
    numbers: tuple[str, ...]
    fields: Fields
    idle: list[gaps.Learned] = field(default_factory=list)
    idle_lists: list[gaps.Learned] = field(default_factory=list)
    blocks: list[tuple[output.Output, IntArray]] = field(default_factory=list)


_LAYOUTS: dict[int, Layout] = {}
_MAX_LAYOUTS = 64


def layout_of(plan: Plan) -> Layout:
    """Return the layout of a plan, rebuilt when a vocabulary has grown."""
    layout = _LAYOUTS.get(id(plan))
    known = tuple(category.known for category in plan.categorical)
    if layout is not None and layout.plan is plan and all(map(_is, layout.known, known)):
        return layout
    numbers = [name for _, name in plan.numeric]
    spec = plan.schema.timestamp
    if spec is not None and spec.unit != "iso8601" and spec.field not in numbers:
        numbers.append(spec.field)
    categories = []
    for category, state in zip(plan.categorical, known, strict=True):
        feature = category.feature
        # A text without a code of its own may get one where there is room for more.
        learns = feature.vocabulary is not None and len(state.texts) < feature.vocabulary.limit
        codes = [(text.encode(), code) for text, code in state.codes.items() if text is not None and is_unicode(text)]
        unseen = -1 if learns else feature.unseen_code
        categories.append(Categories(feature.name, codes, unseen, feature.missing_code))
    time = spec.field if spec is not None and spec.unit == "iso8601" else None
    if len(_LAYOUTS) >= _MAX_LAYOUTS:
        _LAYOUTS.clear()
    missing = [text.encode() for text in sorted(plan.missing_texts) if is_unicode(text)]
    layout = Layout(plan, known, tuple(numbers), make_fields(numbers, categories, time, missing, plan.watched))
    _LAYOUTS[id(plan)] = layout
    return layout


def _is(one: object, other: object) -> bool:
    return one is other


@dataclass(frozen=True, slots=True)
class Target:
    """Where the rows of some bodies go; see `target_for`.

    Parameters
    ----------
    layout : of the columns
    bins : in which the rows are counted; None: they stay in the columns
    """

    layout: Layout
    bins: BinTable | None
    out: output.Output
    counting: output.Counting

    @property
    def given_up(self) -> bool:
        """Whether too few rows were plain."""
        return bool(self.out.state[output.GIVEN_UP])

    @property
    def left(self) -> IntArray:
        """The rows that the kernel skipped, (n_left, 3), see `rows.Output`."""
        return self.out.left[: 3 * self.out.state[output.LEFT]].reshape(-1, 3)

    def release(self) -> None:
        """Free the block that counted rows went through; `left` must not be used afterwards."""
        if self.bins is not None:
            self.layout.blocks.append((self.out, self.counting.columns))

    @property
    def shown(self) -> list[tuple[int, int, int]]:
        """The first rows without a feature of each body: the row, and where it starts and ends in the bodies."""
        found: list[tuple[int, int, int]] = []
        first = 0
        for body in np.flatnonzero(self.out.n_bare).tolist():
            n_bare = int(self.out.n_bare[body])
            n_shown = min(n_bare, output.SHOWN)
            places = self.out.shown.reshape(-1, output.SHOWN, 2)[body, :n_shown].tolist()
            rows = self.out.bare[first : first + n_shown].tolist()
            found += [(row, start, stop) for row, (start, stop) in zip(rows, places, strict=True)]
            first += n_bare
        return found

    def table(self, others: Table | None = None, shown: Mapping[int, str] | None = None) -> Table:
        """Return what was written, without the rows that hold no feature.

        Parameters
        ----------
        others : the rows that were skipped as decoded, in their order; they are put in their places
        shown : what is wrong with the rows of the property `shown`
        """
        table = self._all_rows()
        bare = self.out.bare[: self.out.state[output.BARE]].copy()
        rejected = {NO_KNOWN_FIELD: bare} if bare.size else {}
        details = dict(shown or {})
        if others is None:
            columns, event_ms, _ = _without(table, rejected)
            return Table(table.n_records, columns, event_ms, (), rejected, details, table.counts)
        records = self.left[:, 0]
        details |= {int(records[at]): text for at, text in others.details.items()}
        taken: npt.NDArray[np.bool_] = np.ones(len(records), dtype=np.bool_)
        for reason, at in others.rejected.items():
            taken[at] = False
            rejected[reason] = np.union1d(rejected[reason], records[at]) if reason in rejected else records[at]
        at_rows = records[taken]
        if self.bins is not None:
            _count(self.counting.counts[0], self.bins, others)
        for column, found in zip(table.columns, others.columns, strict=False):  # none where they are counted
            column[at_rows] = found
        if table.event_ms is not None and others.event_ms is not None:
            table.event_ms[at_rows] = others.event_ms
        columns, event_ms, place = _without(table, rejected)
        invalid = [Invalid(item.feature, place[at_rows][item.rows], item.got) for item in others.invalid]
        return Table(table.n_records, columns, event_ms, invalid, rejected, details, table.counts)

    def _all_rows(self) -> Table:
        """Return what was written; the values of skipped rows, and of those without a feature, are arbitrary."""
        n_rows = int(self.out.state[output.ROWS])
        if self.bins is not None:
            return Table(n_rows, [], counts=Counts(self.bins, self.counting.counts[0, 0]))
        plan, out = self.layout.plan, self.out
        stride = int(out.stride[0])
        numbers = out.numbers.reshape(-1, stride)[:, :n_rows]
        codes = out.codes.reshape(-1, stride)[:, :n_rows]
        columns: list[Column] = [_NO_COLUMN] * plan.n_features
        for (index, _), values in zip(plan.numeric, numbers, strict=False):  # a time may be behind them
            columns[index] = values
        for category, column in zip(plan.categorical, codes, strict=True):
            columns[category.index] = column
        event_ms = None
        spec = plan.schema.timestamp
        if spec is not None:
            event_ms = out.times[:n_rows]
            if spec.unit != "iso8601":
                event_ms = times_from_numbers(numbers[self.layout.numbers.index(spec.field)], spec.unit)
        return Table(n_rows, columns, event_ms)


def _without(table: Table, rejected: Mapping[str, IntArray]) -> tuple[Sequence[Column], IntArray | None, IntArray]:
    """Return the columns and times of the records that are not rejected, and the row of each record."""
    if not rejected:
        return table.columns, table.event_ms, np.arange(table.n_records)
    keep: npt.NDArray[np.bool_] = np.ones(table.n_records, dtype=np.bool_)
    for records in rejected.values():
        keep[records] = False
    event_ms = None if table.event_ms is None else table.event_ms[keep]
    return [column[keep] for column in table.columns], event_ms, np.cumsum(keep) - 1


def counted(table: Table, bins: BinTable) -> Table:
    """Turn a table of columns into one of counts."""
    if table.counts is not None:
        return table
    counts = np.zeros((1, bins.offsets[-1]), dtype=np.int64)
    _count(counts, bins, table)
    return replace(table, columns=[], counts=Counts(bins, counts[0]))


def _count(counts: IntArray, bins: BinTable, table: Table) -> None:
    """Count rows of columns."""
    fill_counts(bins, table.columns, None, counts)
    for item in table.invalid:
        move_invalid(bins, item.feature, np.zeros(len(item.rows), dtype=np.int64), counts)


def target_for(layout: Layout, bins: BinTable | None, ends: IntArray, most_rows: Callable[[], int]) -> Target:
    """Allocate room for rows.

    Parameters
    ----------
    bins : to count the rows in; not used if they have times
    ends : where each body ends
    most_rows : returns how many rows there can be; called only if they are not counted
    """
    plan = layout.plan
    if bins is None or plan.schema.timestamp is not None:
        n_rows = most_rows()
        return Target(layout, None, _output(layout, n_rows, n_rows // 4, ends), _NOT_COUNTED)
    try:
        out, addresses = layout.blocks.pop()
    except IndexError:
        out = _output(layout, max(32, _BLOCK_VALUES // plan.n_features), _MOST_LEFT, ends)
        addresses = _addresses(plan, out)
    else:
        out = _for_bodies(out, ends)
    counts = np.zeros((1, 1, bins.offsets[-1]), dtype=np.int64)
    return Target(layout, bins, out, output.Counting(bins, addresses, counts))


def _stride(n_rows: int) -> int:
    """Round up to an odd number of cache lines; otherwise all columns would share a few sets of the cache."""
    return 8 * (-(-n_rows // 8) | 1)


def _output(layout: Layout, most_rows: int, most_left: int, ends: IntArray) -> output.Output:
    """Allocate room for rows in the columns of a layout."""
    stride = _stride(most_rows)
    spec = layout.plan.schema.timestamp
    none = np.empty(0, dtype=np.int64)
    out = output.Output(
        stride=np.array([stride], dtype=np.int64),
        numbers=np.empty(len(layout.numbers) * stride),
        codes=np.empty(len(layout.plan.categorical) * stride, dtype=np.int32),
        times=np.empty(stride if spec is not None and spec.unit == "iso8601" else 0, dtype=np.int64),
        left=np.empty(3 * (output.FALLBACK_ROWS + most_left + 1), dtype=np.int64),
        bare=none,
        shown=none,
        ends=none,
        n_rows=none,
        n_bare=none,
        state=none,
    )
    return _for_bodies(out, ends)


def _for_bodies(out: output.Output, ends: IntArray) -> output.Output:
    """Return an output for other bodies, in which nothing is written yet."""
    return out._replace(
        bare=np.empty(int(ends[-1]) // _SMALLEST_ROW + 1, dtype=np.int64),  # memory that is not touched costs nothing
        shown=np.empty(2 * output.SHOWN * len(ends), dtype=np.int64),
        ends=ends,
        n_rows=np.zeros(len(ends), dtype=np.int64),
        n_bare=np.zeros(len(ends), dtype=np.int64),
        state=np.zeros(output.N_STATE, dtype=np.int64),
    )


def _addresses(plan: Plan, out: output.Output) -> IntArray:
    """Return where the column of each feature begins."""
    addresses = np.empty(plan.n_features, dtype=np.int64)
    stride = int(out.stride[0])
    first = out.numbers.ctypes.data
    for column, (index, _) in enumerate(plan.numeric):
        addresses[index] = first + column * stride * out.numbers.itemsize
    first = out.codes.ctypes.data
    for column, category in enumerate(plan.categorical):
        addresses[category.index] = first + column * stride * out.codes.itemsize
    return addresses
