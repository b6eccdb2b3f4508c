"""A monitor: batches of samples in, divergences of each window out. It never reads a clock."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from kldrift.drift.evaluation import Evaluation, WindowTotals
from kldrift.drift.learning import Learning, joined, learned_reference, split, vocabulary_of
from kldrift.drift.moments import MomentPanes
from kldrift.drift.posterior import posterior_kl
from kldrift.drift.reference import FeatureReference
from kldrift.drift.rows import Rows
from kldrift.drift.segments import Segmentation, Segments
from kldrift.drift.windows import Panes
from kldrift.kernels.bin_table import BinTable, CategoryBins, NumericBins, make_bin_table
from kldrift.kernels.fill import fill_counts
from kldrift.kernels.moments import Moments, add_moments, merge_moments
from kldrift.records import (
    AddResult,
    BatchSchema,
    CodeArray,
    FeatureInfo,
    FeatureSchema,
    FloatArray,
    IntArray,
    MonitorSnapshot,
    MonitorSpec,
    SampleBatch,
)

#: A clock may be so far ahead of ours before its rows count as coming from the future.
CLOCK_SKEW_MS = 60_000

#: Panes filled in one kernel call take at most so many counts (8 bytes each).
MAX_SLOT_COUNTS = 1 << 22

#: Codes of a vector among its cells.
PRESENT, MISSING = 0, 2

NO_ROWS: IntArray = np.empty(0, dtype=np.int64)


@dataclass(slots=True)
class _Counted:
    """What a monitor has counted so far.

    `panes` holds ``n_slots`` times the cells of all features, one group a segment; `moments` those of the vectors.
    """

    panes: Panes
    moments: dict[int, MomentPanes]
    newest_ms: dict[str, int] = field(default_factory=dict)  # newest event time of each stream …
    clock_ms: int | None = None  # … and of all
    clock_read_ms: int = 0  # when that one arrived


class Monitor:
    """The counts of one monitor's features over its windows, and their divergences.

    Parameters
    ----------
    spec : what is watched
    references : one each a feature, in the order of the specification
    segmentation : what the reference says of the segments, where the monitor has some
    """

    def __init__(
        self, spec: MonitorSpec, references: Sequence[FeatureReference], segmentation: Segmentation | None = None
    ) -> None:
        self.spec = spec
        self.feature_names = tuple(reference.name for reference in references)
        shares = None if segmentation is None or segmentation.rows is None else tuple(segmentation.rows.tolist())
        self.identity = (spec, tuple(reference.reference_hash for reference in references), shares)
        bins = tuple(
            (
                reference.name,
                reference.kind,
                reference.bins_hash,
                (feature.bins, feature.max_categories, reference.learn) if reference.learn else None,
            )
            for reference, feature in zip(references, spec.features, strict=True)
        )
        self.layout = (bins, spec.windows, spec.timestamp, spec.segments, _history_ms(references))
        self._segments = None if spec.segments is None else Segments(spec, segmentation or Segmentation())
        self._vocabularies = {f: made for f, r in enumerate(references) if (made := vocabulary_of(r)) is not None}
        self._learning = Learning({f: reference.learn for f, reference in enumerate(references) if reference.learn})
        self._compare_with(references)
        self.schema = self._make_schema()
        self._counted = _Counted(
            Panes(spec.windows, self._n_slots * self._row_cells, _history_ms(references)), self._moment_panes()
        )

    @property
    def features(self) -> Sequence[FeatureInfo]:
        """The identity of each feature's bins and reference."""
        return self._evaluation.features

    @property
    def n_cells(self) -> int:
        """Cells over all features."""
        return int(self.offsets[-1])

    def go_on_from(self, old: "Monitor") -> None:
        """Take over what `old`, of the same `layout`, has counted and learned, and what it counts from now on."""
        self._counted = old._counted  # noqa: SLF001  # of its own class
        self._learning = old._learning  # noqa: SLF001
        self._vocabularies = old._vocabularies  # noqa: SLF001
        if self._segments is not None and old._segments is not None:  # noqa: SLF001
            self._segments.vocabulary = old._segments.vocabulary  # noqa: SLF001
        self.schema = self._make_schema()
        learned = [o if r.learn else r for r, o in zip(self._references, old._references, strict=True)]  # noqa: SLF001
        self._compare_with(learned)

    # --- what is compared with -------------------------------------------------------------------

    def _compare_with(self, references: Sequence[FeatureReference]) -> None:
        """Lay out the cells for these references."""
        self._references = tuple(references)
        self._evaluation = Evaluation(self.spec, references)
        self.offsets: IntArray = self._evaluation.offsets
        bins: list[NumericBins | CategoryBins] = [
            reference.bins if f not in self._vocabularies else reference.bins_of(self._vocabularies[f])
            for f, reference in enumerate(references)
        ]
        if self._segments is not None:
            self._segments.forget_evaluations()
            bins.append(self._segments.row_bins)
        self._table: BinTable = make_bin_table(bins)
        self._vectors = {f: r for f, r in enumerate(references) if r.dimensions}

    def _make_schema(self) -> BatchSchema:
        columns = [
            reference.schema
            if f not in self._vocabularies
            else FeatureSchema(reference.name, reference.kind, vocabulary=self._vocabularies[f])
            for f, reference in enumerate(self._references)
        ]
        if self._segments is not None and self.spec.segments is not None:
            columns.append(FeatureSchema(self.spec.segments.by, "categorical", vocabulary=self._segments.vocabulary))
        return BatchSchema(tuple(columns), self.spec.timestamp)

    def _moment_panes(self) -> dict[int, MomentPanes]:
        return {
            f: MomentPanes(self.spec.windows, self._n_slots, reference.n_moments, self.spec.features[f].covariance)
            for f, reference in self._vectors.items()
        }

    @property
    def _n_slots(self) -> int:
        """Groups in which rows are counted."""
        return 1 if self._segments is None else self._segments.n_slots

    @property
    def _row_cells(self) -> int:
        """Cells of one group: those of the features, and one that counts rows where there are segments."""
        return int(self._table.offsets[-1])

    # --- samples in ------------------------------------------------------------------------------

    def add(self, batch: SampleBatch, stream: str, arrival_ms: int) -> AddResult:
        """Count a batch.

        A row is late when its pane had ended `allowed_lateness` before the newest row of its own stream, or when it
        is older than every window. The result does not depend on how rows are cut into batches.

        Parameters
        ----------
        stream : the log the rows came from; lateness is judged within it
        arrival_ms : when the batch came in, and its event time where rows carry none
        """
        if self._learning.done:
            return self._count(batch, stream, arrival_ms)
        until = self._learning.rows_until_complete
        if batch.n_rows > until:
            head, tail = split(batch, until)
            first = self.add(head, stream, arrival_ms)
            return joined(first, self.add(tail, stream, arrival_ms), until)
        result = self._count(batch, stream, arrival_ms)
        self._learning.add(batch.columns, batch.n_rows)
        if self._learning.rows_until_complete == 0:
            return replace(result, learned=self._take_learned(arrival_ms))
        return result

    def _take_learned(self, now_ms: int) -> tuple[str, ...]:
        """Make references of the columns that have all of their rows, and name them; the others keep their counts."""
        references = list(self._references)
        for f, column in self._learning.take_complete().items():
            references[f] = learned_reference(
                self.spec.features[f], references[f], column, self._vocabularies.get(f), now_ms
            )
        before, kept = self._table.offsets, self._references
        self._compare_with(references)
        after = self._table.offsets
        cells = np.full(self._row_cells, -1, dtype=np.int64)
        for f in range(len(before) - 1):
            if f >= len(kept) or references[f] is kept[f]:
                cells[after[f] : after[f + 1]] = np.arange(before[f], before[f + 1])
        groups = np.arange(self._n_slots)[:, np.newaxis]
        self._counted.panes.rearrange(np.where(cells < 0, -1, cells + groups * before[-1]).ravel())
        fresh = self._moment_panes()
        for f in self._vectors:
            if references[f] is not kept[f]:
                self._counted.moments[f] = fresh[f]
        return tuple(name for f, name in enumerate(self.feature_names) if references[f] is not kept[f])

    def _count(self, batch: SampleBatch, stream: str, arrival_ms: int) -> AddResult:
        invalid = np.zeros(len(self.feature_names), dtype=np.int64)
        rows = self._prepare(batch)
        counted = self._counted
        if batch.event_ms is None:
            self._advance(arrival_ms, arrival_ms)
            self._fill_pane(arrival_ms // counted.panes.pane_ms, rows, invalid)
            self._close_before(arrival_ms)
            return AddResult(batch.n_rows, NO_ROWS, NO_ROWS, invalid, self._n_folded(batch))

        times = batch.event_ms
        future = times > arrival_ms + max(self.spec.allowed_lateness_ms, CLOCK_SKEW_MS)
        # As each row comes: the newest of its stream, and of all. Event times begin with 1970, so 0 is before all.
        newest = np.maximum.accumulate(np.where(future, 0, times))
        clock = np.maximum(newest, counted.clock_ms or 0)
        newest = np.maximum(newest, counted.newest_ms.get(stream, 0))
        panes = times // counted.panes.pane_ms
        late = (panes + 1) * counted.panes.pane_ms <= newest - self.spec.allowed_lateness_ms
        late |= times < counted.panes.oldest_ms(clock)
        late &= ~future
        taken = ~(late | future)
        if not future.all():
            counted.newest_ms[stream] = int(newest[-1])
            self._advance(int(newest[-1]), arrival_ms)
        self._fill_by_pane(panes, taken, rows, invalid)
        if counted.clock_ms is not None:
            self._close_before(counted.clock_ms - self.spec.allowed_lateness_ms)
        n_taken = int(np.count_nonzero(taken))
        return AddResult(n_taken, np.flatnonzero(late), np.flatnonzero(future), invalid, self._n_folded(batch, taken))

    def _n_folded(self, batch: SampleBatch, taken: npt.NDArray[np.bool_] | None = None) -> int:
        """Rows that went to *other* since there was no room for their segment."""
        if self._segments is None:
            return 0
        codes = _segment_codes(batch)
        return self._segments.folded(codes if taken is None else codes[taken])

    def _advance(self, event_ms: int, arrival_ms: int) -> None:
        if self._counted.clock_ms is None or event_ms >= self._counted.clock_ms:
            self._counted.clock_ms, self._counted.clock_read_ms = event_ms, arrival_ms

    def _close_before(self, instant_ms: int) -> None:
        self._counted.panes.close_before(instant_ms)
        for moments in self._counted.moments.values():
            moments.close_before(instant_ms)

    def _prepare(self, batch: SampleBatch) -> Rows:
        """The batch as the kernels take it."""
        columns = list(batch.columns)
        vectors: dict[int, FloatArray] = {}
        invalid = {f: bad_rows for f, bad_rows in batch.invalid if f < len(self.feature_names)}
        for f, reference in self._vectors.items():
            values = np.asarray(columns[f], dtype=np.float64)
            vectors[f] = values
            if reference.kind == "posterior":
                vectors[f] = posterior_kl(values)
                overflown = np.flatnonzero(np.isnan(vectors[f][:, 0]) & ~np.isnan(values[:, 0]))
                if overflown.size:
                    invalid[f] = np.union1d(invalid.get(f, NO_ROWS), overflown)
            columns[f] = np.where(np.isnan(vectors[f][:, 0]), np.int32(MISSING), np.int32(PRESENT))
        groups = None if self._segments is None else self._segments.slots(_segment_codes(batch))
        return Rows(batch.n_rows, tuple(columns), vectors, groups, tuple(invalid.items()))

    def _fill_by_pane(self, panes: IntArray, taken: npt.NDArray[np.bool_], rows: Rows, invalid: IntArray) -> None:
        """Count the rows that are taken, each in its pane."""
        kept = np.flatnonzero(taken)
        if kept.size == 0:
            return
        first, last = int(panes[kept].min()), int(panes[kept].max())
        if first == last:  # nearly always
            self._fill_pane(first, rows if kept.size == rows.n_rows else rows.without(~taken), invalid)
            return
        # Rows in the order of their panes, so that a stretch of panes is a stretch of rows.
        order = kept[np.argsort(panes[kept], kind="stable")]
        if not np.array_equal(order, np.arange(rows.n_rows)):
            rows = rows.ordered(order)
        numbers, starts = np.unique(panes[order], return_index=True)
        bounds = np.append(starts, order.size)
        step = max(1, MAX_SLOT_COUNTS // (self._n_slots * self._row_cells))
        for a in range(0, numbers.size, step):
            b = min(a + step, numbers.size)
            stretch = rows.part(int(bounds[a]), int(bounds[b]))
            of_pane = np.repeat(np.arange(b - a, dtype=np.int32), np.diff(bounds[a : b + 1]))
            counts = np.zeros((b - a, self._n_slots * self._row_cells), dtype=np.int64)
            self._fill(stretch.in_panes(of_pane, self._n_slots), counts.reshape(-1, self._row_cells), invalid)
            for number, row in zip(numbers[a:b].tolist(), counts, strict=True):
                self._counted.panes.open_pane(number)[0] += row
            if self._vectors:
                for i in range(a, b):
                    self._fill_moments(int(numbers[i]), rows.part(int(bounds[i]), int(bounds[i + 1])))
            assert self._counted.clock_ms is not None
            self._close_before(self._counted.clock_ms - self.spec.allowed_lateness_ms)

    def _fill_pane(self, pane: int, rows: Rows, invalid: IntArray) -> None:
        """Count rows in one pane."""
        counts = self._counted.panes.open_pane(pane)
        self._fill(rows, counts.reshape(self._n_slots, self._row_cells), invalid)
        self._fill_moments(pane, rows)

    def _fill(self, rows: Rows, counts: IntArray, invalid: IntArray) -> None:
        """Fill `counts`, and take out again the invalid values, which the columns hold as missing."""
        fill_counts(self._table, rows.columns, rows.slots, counts)
        for feature, bad_rows in rows.invalid:
            where = np.zeros(bad_rows.size, dtype=np.int64) if rows.slots is None else rows.slots[bad_rows]
            where = where[where >= 0]
            np.subtract.at(counts[:, self._table.offsets[feature + 1] - 1], where, 1)
            invalid[feature] += where.size

    def _fill_moments(self, pane: int, rows: Rows) -> None:
        for f, values in rows.vectors.items():
            state = self._counted.moments[f].open_pane(pane)
            add_moments(values, rows.slots, state.n, state.mean, state.second)

    # --- divergences out -------------------------------------------------------------------------

    def clock_ms(self, now_ms: int) -> int:
        """The instant the windows end at: the newest event time, carried on by the time that went by since it came.

        A stream that runs an hour behind is seen an hour behind; one that stopped slides out of its windows.
        """
        if self.spec.timestamp is None or self._counted.clock_ms is None:
            return now_ms
        return self._counted.clock_ms + max(0, now_ms - self._counted.clock_read_ms)

    def evaluate(self, now_ms: int) -> MonitorSnapshot:
        """The divergences of all features and windows at `now_ms`."""
        at_ms = self.clock_ms(now_ms)
        counts = self._groups(at_ms)
        moments = {f: panes.totals(at_ms) for f, panes in self._counted.moments.items()}
        earlier = {ms: self._groups(at_ms - ms) for ms in {r.offset_ms for r in self._references if r.offset_ms}}
        whole = WindowTotals(
            self._own_cells(counts.sum(axis=1)),
            {f: merged_groups(of_groups) for f, of_groups in moments.items()},
            {ms: self._own_cells(groups.sum(axis=1)) for ms, groups in earlier.items()},
        )
        snapshot = self._evaluation.evaluate(whole, at_ms).snapshot
        if self._segments is not None:

            def totals_of(slot: int) -> WindowTotals:
                return WindowTotals(
                    self._own_cells(counts[:, slot]),
                    {f: _group(of_groups, slot) for f, of_groups in moments.items()},
                    {ms: self._own_cells(groups[:, slot]) for ms, groups in earlier.items()},
                )

            rows = counts[:, :, -1]
            snapshot = self._segments.evaluate(snapshot, totals_of, rows, self._evaluation, self._references)
        for one in (snapshot, *snapshot.segments):
            _make_read_only(one)
        return snapshot

    def _groups(self, at_ms: int) -> IntArray:
        """Counts of the windows that end at `at_ms`, (W, n_slots, cells of a row)."""
        totals = self._counted.panes.totals(at_ms)
        return totals.reshape(len(totals), self._n_slots, self._row_cells)

    def _own_cells(self, counts: IntArray) -> IntArray:
        """The cells of the features, without the one that counts rows."""
        return np.ascontiguousarray(counts[:, : self.n_cells])


def _segment_codes(batch: SampleBatch) -> CodeArray:
    """The column behind those of the features."""
    return np.asarray(batch.columns[-1], dtype=np.int32)


def merged_groups(groups: Moments) -> Moments:
    """The moments (W, ...) of all groups (W, S, ...) together."""
    whole = Moments(groups.n[:, 0].copy(), groups.mean[:, 0].copy(), groups.second[:, 0].copy())
    for slot in range(1, groups.n.shape[1]):
        merge_moments(whole, _group(groups, slot))
    return whole


def _group(groups: Moments, slot: int) -> Moments:
    """The moments (W, ...) of one of the groups (W, S, ...)."""
    return Moments(groups.n[:, slot], groups.mean[:, slot], groups.second[:, slot])


def _history_ms(references: Sequence[FeatureReference]) -> int:
    """How long before now the windows are looked at."""
    return max(reference.offset_ms for reference in references)


def _make_read_only(snapshot: MonitorSnapshot) -> None:
    for name in MonitorSnapshot.__slots__:
        if isinstance(array := getattr(snapshot, name), np.ndarray):
            array.flags.writeable = False
