"""Rows to counts and moments of all features, in one group for each segment, in the panes that their times fall in."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from kldrift.drift.counting.counts import Counted
from kldrift.drift.counting.rows import Rows
from kldrift.drift.kinds.vector import presence
from kldrift.drift.references.reference import FeatureReference
from kldrift.drift.segments import Segments
from kldrift.kernels.bin_table import BinTable, make_bin_table
from kldrift.kernels.fill import fill_counts, move_invalid
from kldrift.kernels.moments import add_moments
from kldrift.records.samples import SampleBatch, Vocabulary
from kldrift.records.types import CodeArray, FloatArray, IntArray

#: Maximum number of counts (8 bytes each) over the panes that one kernel call fills.
MAX_SLOT_COUNTS = 1 << 22


class Filling:
    """The cells of a monitor's features, and how to count rows in them.

    Parameters
    ----------
    references : one for each feature
    vocabularies : by index, for the features whose codes are not those of the reference
    segments : the groups to count rows in, if the monitor has segments
    """

    def __init__(
        self,
        references: Sequence[FeatureReference],
        vocabularies: Mapping[int, Vocabulary],
        segments: Segments | None,
    ) -> None:
        bins = [reference.shape.bins(vocabularies.get(f)) for f, reference in enumerate(references)]
        if segments is not None:
            bins.append(segments.row_bins)
        self.table: BinTable = make_bin_table(bins)
        #: Number of groups that rows are counted in.
        self.n_slots = 1 if segments is None else segments.n_slots
        #: Cells of one group: those of the features and, if there are segments, one that counts rows.
        self.row_cells = int(self.table.offsets[-1])
        self._n_features = len(references)
        self._vectors = {
            f: moments for f, reference in enumerate(references) if (moments := reference.shape.moments) is not None
        }
        self._segments = segments

    def prepare(self, batch: SampleBatch) -> Rows:
        """Return the batch in the form that the kernels take.

        Raises
        ------
        ValueError
            the batch was counted in the bins of another monitor
        """
        columns = list(batch.columns)
        vectors: dict[int, FloatArray] = {}
        invalid = {f: bad_rows for f, bad_rows in batch.invalid if f < self._n_features}
        if batch.counts is not None:
            if batch.counts.layout is not self.table:
                raise ValueError("expected counts in this monitor's bins, got counts in other bins")
            return Rows(batch.n_rows, (), {}, None, tuple(invalid.items()), batch.counts.values)
        for f, moments in self._vectors.items():
            values = np.asarray(columns[f], dtype=np.float64)
            vectors[f] = moments.rows(values)
            if vectors[f] is not values:
                overflown = np.flatnonzero(np.isnan(vectors[f][:, 0]) & ~np.isnan(values[:, 0]))
                if overflown.size:
                    invalid[f] = np.union1d(invalid.get(f, np.empty(0, dtype=np.int64)), overflown)
            columns[f] = presence(vectors[f])
        groups = None if self._segments is None else self._segments.slots(segment_codes(batch))
        return Rows(batch.n_rows, tuple(columns), vectors, groups, tuple(invalid.items()))

    def fill_by_pane(
        self,
        counted: Counted,
        panes: IntArray,
        taken: npt.NDArray[np.bool_],
        rows: Rows,
        invalid: IntArray,
        lateness_ms: int,
    ) -> None:
        """Count each row that is taken in its pane.

        Parameters
        ----------
        panes, taken : (n_rows,), the number of each row's pane and whether the row counts
        invalid : (n_features,) int64, added to
        lateness_ms : panes that ended this long before the clock, or longer, are closed
        """
        kept = np.flatnonzero(taken)
        if kept.size == 0:
            return
        first, last = int(panes[kept].min()), int(panes[kept].max())
        if first == last:  # almost always
            self.fill_pane(counted, first, rows if kept.size == rows.n_rows else rows.without(~taken), invalid)
            return
        # Sort the rows by pane, so that a range of panes is a range of rows.
        order = kept[np.argsort(panes[kept], kind="stable")]
        if not np.array_equal(order, np.arange(rows.n_rows)):
            rows = rows.ordered(order)
        numbers, starts = np.unique(panes[order], return_index=True)
        bounds = np.append(starts, order.size)
        step = max(1, MAX_SLOT_COUNTS // (self.n_slots * self.row_cells))
        for a in range(0, numbers.size, step):
            b = min(a + step, numbers.size)
            stretch = rows.part(int(bounds[a]), int(bounds[b]))
            of_pane = np.repeat(np.arange(b - a, dtype=np.int32), np.diff(bounds[a : b + 1]))
            counts = np.zeros((b - a, self.n_slots * self.row_cells), dtype=np.int64)
            self._fill(stretch.in_panes(of_pane, self.n_slots), counts.reshape(-1, self.row_cells), invalid)
            for number, row in zip(numbers[a:b].tolist(), counts, strict=True):
                pane = counted.panes.open_pane(number)
                pane += row
            if self._vectors:
                for i in range(a, b):
                    self._fill_moments(counted, int(numbers[i]), rows.part(int(bounds[i]), int(bounds[i + 1])))
            assert counted.clock_ms is not None
            counted.close_before(counted.clock_ms - lateness_ms)

    def fill_pane(self, counted: Counted, pane: int, rows: Rows, invalid: IntArray) -> None:
        """Count all rows in one pane."""
        counts = counted.panes.open_pane(pane)
        self._fill(rows, counts.reshape(self.n_slots, self.row_cells), invalid)
        self._fill_moments(counted, pane, rows)

    def _fill(self, rows: Rows, counts: IntArray, invalid: IntArray) -> None:
        """Fill `counts`, and count the invalid values of each feature in `invalid` as well."""
        if rows.counts is not None:
            counts += rows.counts
            for feature, bad_rows in rows.invalid:
                invalid[feature] += bad_rows.size
            return
        fill_counts(self.table, rows.columns, rows.slots, counts)
        for feature, bad_rows in rows.invalid:
            where = np.zeros(bad_rows.size, dtype=np.int64) if rows.slots is None else rows.slots[bad_rows]
            where = where[where >= 0]
            move_invalid(self.table, feature, where, counts)
            invalid[feature] += where.size

    def _fill_moments(self, counted: Counted, pane: int, rows: Rows) -> None:
        for f, values in rows.vectors.items():
            state = counted.moments[f].open_pane(pane)
            add_moments(values, rows.slots, state.n, state.mean, state.second)


def segment_codes(batch: SampleBatch) -> CodeArray:
    """Return the segment of each row: the column after those of the features."""
    return np.asarray(batch.columns[-1], dtype=np.int32)
