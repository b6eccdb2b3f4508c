"""A monitor: batches of samples in, divergences of each window out. It never reads a clock."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from kldrift.drift.counting.carrying import carry, origins, sources_of
from kldrift.drift.counting.counts import CellCounts, Counted
from kldrift.drift.counting.filling import Filling, segment_codes
from kldrift.drift.counting.layout import Layout, describe
from kldrift.drift.counting.moment_windows import GroupMoments, group, merged_groups, stacked
from kldrift.drift.counting.past import Past
from kldrift.drift.counting.windows import Panes
from kldrift.drift.entries import below
from kldrift.drift.judging.evaluation import Evaluation, WindowTotals
from kldrift.drift.references.learned import Learning, joined, learned_reference, split
from kldrift.drift.references.reference import FeatureReference
from kldrift.drift.references.stored import reference_from_bytes, reference_to_bytes, texts_from_bytes, texts_to_bytes
from kldrift.drift.segments import Segmentation, Segments
from kldrift.kernels.bin_table import BinTable
from kldrift.kernels.moments import Moments
from kldrift.records.kinds import INVALID, STRUCTURAL_CELLS
from kldrift.records.samples import BatchSchema, FeatureSchema, SampleBatch, Vocabulary
from kldrift.records.snapshots import AddResult, FeatureInfo, MonitorSnapshot
from kldrift.records.specs import MonitorSpec
from kldrift.records.types import IntArray

#: How far ahead of ours the clock of a producer may be before its rows count as coming from the future.
CLOCK_SKEW_MS = 60_000

NO_ROWS: IntArray = np.empty(0, dtype=np.int64)


class Monitor:
    """The counts of one monitor's features over its windows, and their divergences.

    Parameters
    ----------
    spec : what is watched
    references : one per feature, in the order of the specification
    segmentation : what the reference data shows about the segments, if the monitor has any
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
                *([] if feature.of is None else [(feature.of, feature.unit)]),
            )
            for reference, feature in zip(references, spec.features, strict=True)
        )
        self.layout = (bins, spec.windows, spec.timestamp, spec.segments, _history_ms(references))
        self._segments = None if spec.segments is None else Segments(spec, segmentation or Segmentation())
        self._vocabularies = {
            f: made
            for f, reference in enumerate(references)
            if reference.learn and (made := reference.shape.new_vocabulary()) is not None
        }
        self._learning = Learning({f: reference.learn for f, reference in enumerate(references) if reference.learn})
        self._awaited = tuple(references)  # as they were given, before any were learned
        self._compare_with(references)
        self.schema = self._make_schema()
        self._counted = self._fresh_counts()
        #: Whatever was stored of this monitor before is obsolete: `changes` returns everything.
        self.anew = True
        self._texts_stored: dict[str, int] = {}
        self._references_stored: set[int] = set()
        self._past = Past()
        self._layout_stored = b""

    @property
    def features(self) -> Sequence[FeatureInfo]:
        """The identity of each feature's bins and reference."""
        return self._evaluation.features

    @property
    def n_cells(self) -> int:
        """Cells over all features."""
        return int(self.offsets[-1])

    @property
    def bins(self) -> BinTable | None:
        """The bins in which decoders may count rows as they read them; these never change.

        None while there are values to learn from, or where rows have times or segments that decide where they count.
        """
        return self._bins

    def go_on_from(self, old: "Monitor") -> None:
        """Take over all that `old`, of the same `layout`, has counted and learned."""
        self._counted = old._counted  # noqa: SLF001  # of its own class
        self._learning = old._learning  # noqa: SLF001
        self._vocabularies = old._vocabularies  # noqa: SLF001
        self.anew = old.anew
        self._texts_stored = old._texts_stored  # noqa: SLF001
        self._references_stored = old._references_stored  # noqa: SLF001
        self._past, self._layout_stored = old._past, old._layout_stored  # noqa: SLF001
        if self._segments is not None and old._segments is not None:  # noqa: SLF001
            self._segments.vocabulary = old._segments.vocabulary  # noqa: SLF001
        self.schema = self._make_schema()
        learned = [o if r.learn else r for r, o in zip(self._references, old._references, strict=True)]  # noqa: SLF001
        self._compare_with(learned)

    # --- references ------------------------------------------------------------------------------

    def _compare_with(self, references: Sequence[FeatureReference]) -> None:
        """Lay out the cells of these references."""
        self._references = tuple(references)
        self._described: Layout | None = None
        self._evaluation = Evaluation(self.spec, references)
        self.offsets: IntArray = self._evaluation.offsets
        if self._segments is not None:
            self._segments.forget_evaluations()
        self._filling = Filling(references, self._vocabularies, self._segments)
        self._offer_bins()

    def _offer_bins(self) -> None:
        rows_alike = self.spec.timestamp is None and self._segments is None
        self._bins = self._filling.table if rows_alike and self._learning.done else None

    def _make_schema(self) -> BatchSchema:
        columns = []
        for f, (reference, feature) in enumerate(zip(self._references, self.spec.features, strict=True)):
            schema = reference.shape.schema(reference.name, self._vocabularies.get(f))
            columns.append(replace(schema, of=feature.of, unit=feature.unit or "iso8601"))
        if self._segments is not None and self.spec.segments is not None:
            columns.append(FeatureSchema(self.spec.segments.by, "categorical", vocabulary=self._segments.vocabulary))
        return BatchSchema(
            tuple(columns), self.spec.timestamp, self.spec.missing_texts, segmented=self._segments is not None
        )

    def _fresh_counts(self, n_lacking: int = 0) -> Counted:
        """Return counts of nothing, in rows that lack so many cells."""
        cells = CellCounts(self._filling.n_slots * (self._filling.row_cells - n_lacking))
        return Counted(Panes(self.spec.windows, cells, _history_ms(self._references)), self._moment_panes())

    def _moment_panes(self) -> dict[int, Panes[Moments]]:
        n_groups = self._filling.n_slots
        return {
            f: Panes(self.spec.windows, GroupMoments(n_groups, moments.size, moments.full))
            for f, reference in enumerate(self._references)
            if (moments := reference.shape.moments) is not None
        }

    # --- samples in ------------------------------------------------------------------------------

    def add(self, batch: SampleBatch, stream: str, arrival_ms: int, ahead_ms: int = 0) -> AddResult:
        """Count a batch.

        A row is late if its pane ended more than `allowed_lateness` before the newest row of its own stream, or if it
        is older than every window. The result does not depend on how rows are split into batches.

        Parameters
        ----------
        stream : the log the rows came from; lateness is judged within it
        arrival_ms : when the batch arrived; the event time of rows that carry none
        ahead_ms : how much later it may have been; rows up to then are not from the future

        Raises
        ------
        ValueError
            the batch was counted in the bins of another monitor
        """
        if self._learning.done:
            return self._count(batch, stream, arrival_ms, ahead_ms)
        until = self._learning.rows_until_complete
        if batch.n_rows > until:
            head, tail = split(batch, until)
            first = self.add(head, stream, arrival_ms, ahead_ms)
            return joined(first, self.add(tail, stream, arrival_ms, ahead_ms), until)
        result = self._count(batch, stream, arrival_ms, ahead_ms)
        self._learning.add(batch)
        if self._learning.rows_until_complete == 0:
            return replace(result, learned=self._take_learned(arrival_ms))
        return result

    def _take_learned(self, now_ms: int) -> tuple[str, ...]:
        """Make the references whose rows are complete and return their names; other features keep their counts."""
        references = list(self._references)
        for f, learned in self._learning.take_complete().items():
            references[f] = learned_reference(
                self.spec.features[f], references[f], learned, self._vocabularies.get(f), now_ms
            )
        before, kept = self._filling.table.offsets, self._references
        self._compare_with(references)
        after = self._filling.table.offsets
        cells = np.full(self._filling.row_cells, -1, dtype=np.int64)
        for f in range(len(before) - 1):
            if f >= len(kept) or references[f] is kept[f]:
                cells[after[f] : after[f + 1]] = np.arange(before[f], before[f + 1])
        groups = np.arange(self._filling.n_slots)[:, np.newaxis]
        self._counted.rearrange(np.where(cells < 0, -1, cells + groups * before[-1]).ravel())
        fresh = self._moment_panes()
        for f in fresh:
            if references[f] is not kept[f]:
                self._counted.moments[f] = fresh[f]
        self._touch()
        return tuple(name for f, name in enumerate(self.feature_names) if references[f] is not kept[f])

    def _count(self, batch: SampleBatch, stream: str, arrival_ms: int, ahead_ms: int) -> AddResult:
        invalid = np.zeros(len(self.feature_names), dtype=np.int64)
        rows = self._filling.prepare(batch)
        counted = self._counted
        if batch.event_ms is None:
            counted.advance(arrival_ms, arrival_ms)
            self._filling.fill_pane(counted, arrival_ms // counted.panes.pane_ms, rows, invalid)
            counted.close_before(arrival_ms)
            return AddResult(batch.n_rows, NO_ROWS, NO_ROWS, invalid, self._n_folded(batch))

        counted.of_events = True
        times = batch.event_ms
        future = times > arrival_ms + ahead_ms + max(self.spec.allowed_lateness_ms, CLOCK_SKEW_MS)
        # The newest event time when each row arrives, of its stream and of all. Event times start in 1970, so 0 is
        # before all of them.
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
            counted.advance(int(newest[-1]), arrival_ms)
        self._filling.fill_by_pane(counted, panes, taken, rows, invalid, self.spec.allowed_lateness_ms)
        if counted.clock_ms is not None:
            counted.close_before(counted.clock_ms - self.spec.allowed_lateness_ms)
        n_taken = int(np.count_nonzero(taken))
        return AddResult(n_taken, np.flatnonzero(late), np.flatnonzero(future), invalid, self._n_folded(batch, taken))

    def _n_folded(self, batch: SampleBatch, taken: npt.NDArray[np.bool_] | None = None) -> int:
        """Count the rows that went to *other* because there was no room for their segment."""
        if self._segments is None:
            return 0
        codes = segment_codes(batch)
        return self._segments.folded(codes if taken is None else codes[taken])

    # --- what is stored --------------------------------------------------------------------------

    @property
    def layout_text(self) -> str:
        """Identity of the layout across processes: state stored with another one cannot be used."""
        return _digest((STRUCTURAL_CELLS, self.layout))

    @property
    def described(self) -> Layout:
        """The meaning of the counts as they are now."""
        if self._described is None:
            self._described = describe(self.spec, self._awaited, self._references)
        return self._described

    def counts_alike(self, other: "Monitor") -> bool:
        """Whether the counts of another monitor are counts of this one as they are."""
        return self.layout == other.layout and self.described.means_the_same(other.described)

    def everything(self) -> dict[str, bytes]:
        """Return all that is to be stored."""
        self._touch()
        return {key: value for key, value in self.changes().items() if value is not None}

    def take_over(self, entries: Mapping[str, bytes], now_ms: int) -> list[str]:
        """Continue with what was stored of another layout, where it means the same.

        Returns
        -------
        What begins anew and why, one sentence each; that is kept for an hour, in case the change is taken back.

        Raises
        ------
        KldriftError, ValueError, KeyError
            the entries are not what `changes` returned; the monitor must not be used any more
        """
        sources = sources_of(entries, now_ms)
        wanted = self.described
        found, reasons = origins(wanted, sources)
        references, learning = list(self._awaited), {}
        for f, name in enumerate(self.feature_names):
            if name not in found:
                continue
            source = found[name]
            old = source.indices[name]
            if (texts := source.entries.get(f"vocabulary/{old}")) is not None:
                self._vocabularies[f] = Vocabulary(self._vocabularies[f].limit, texts_from_bytes(texts))
            if (learned := source.entries.get(f"reference/{old}")) is not None:
                references[f] = reference_from_bytes(learned, self._awaited[f])
            elif self._awaited[f].learn:
                learning[old] = f
        usable = [source for source in sources if source.unusable(wanted) is None]
        if self._segments is not None and usable:
            self._segments.vocabulary = Vocabulary(self._segments.limit, usable[0].segments)
        self._compare_with(references)
        self.schema = self._make_schema()
        if learning:
            self._learning.take_over(below("learning", sources[0].entries), learning, self._learned())
        else:
            self._learning.restore({}, self._learned())
        self._offer_bins()
        self._counted = carry(self.described, sources, None if self._segments is None else self._segments.vocabulary)
        self._touch()
        return self._past.turn(wanted, sources, found, reasons, now_ms)

    def changes(self) -> dict[str, bytes | None]:
        """Return what has changed since `stored`, as entries of bytes by key; None: the entry is gone."""
        found = self._counted.changes()
        found |= {f"learning/{key}": value for key, value in self._learning.changes().items()}
        for name, vocabulary in self._named_vocabularies().items():
            if len(vocabulary) != self._texts_stored.get(name, 0):
                found[f"vocabulary/{name}"] = texts_to_bytes(vocabulary.texts)
                self._texts_stored[name] = -1  # should it not be stored after all
        for f in self._learned() - self._references_stored:
            found[f"reference/{f}"] = reference_to_bytes(self._references[f])
        if (described := self.described.stored) != self._layout_stored:
            found["described"] = described
        found |= self._past.changes(self.anew)
        if self.anew:
            found["layout"] = self.layout_text.encode()
        return found

    def stored(self, changes: Mapping[str, bytes | None]) -> None:
        """Take note that the `changes` are stored."""
        self._counted.stored()
        self._learning.stored()
        self._references_stored = self._learned()
        self._layout_stored = changes.get("described") or self._layout_stored
        self._past.stored()
        for name in self._named_vocabularies():
            texts = changes.get(f"vocabulary/{name}")
            if texts is not None:
                self._texts_stored[name] = len(texts_from_bytes(texts))
        self.anew = False

    def restore(self, entries: Mapping[str, bytes]) -> bool:
        """Continue from what was stored; False, with nothing done, if it has another layout.

        Counts that were stored before features had a cell for invalid values continue with none.

        Raises
        ------
        KldriftError, ValueError, KeyError
            the entries are not what `changes` returned; the monitor must not be used any more
        """
        without_invalid = entries.get("layout") == _digest(self.layout).encode()
        if not without_invalid and entries.get("layout") != self.layout_text.encode():
            return False
        stored = entries.get("described")
        if stored is not None and not Layout.from_bytes(stored).means_the_same(self.described):
            return False
        self._past.restore(entries)
        for name, value in below("vocabulary", entries).items():
            texts = texts_from_bytes(value)
            if name != "segments":
                self._vocabularies[int(name)] = Vocabulary(self._vocabularies[int(name)].limit, texts)
            elif self._segments is not None:
                self._segments.vocabulary = Vocabulary(self._segments.limit, texts)
            self._texts_stored[name] = len(texts)
        references = list(self._awaited)
        for name, value in below("reference", entries).items():
            references[int(name)] = reference_from_bytes(value, self._awaited[int(name)])
        self._compare_with(references)
        self.schema = self._make_schema()
        self._references_stored = self._learned()
        self._learning.restore(below("learning", entries), self._learned())
        self._offer_bins()
        self._counted = self._fresh_counts(len(references) if without_invalid else 0)
        self._counted.restore(entries)
        self.anew = False
        if without_invalid:
            self._add_invalid_cells()
            self._touch()
        return True

    def _add_invalid_cells(self) -> None:
        """Give each feature a last cell, for invalid values, in counts that do not have it."""
        added = np.zeros(self._filling.row_cells, dtype=np.bool_)
        added[self.offsets[1:] + INVALID] = True
        cells = np.where(added, -1, np.cumsum(~added) - 1)
        groups = np.arange(self._filling.n_slots)[:, np.newaxis]
        self._counted.rearrange(np.where(added, -1, cells + groups * np.count_nonzero(~added)).ravel())

    def _touch(self) -> None:
        """Mark everything as changed."""
        self.anew = True
        self._counted.touch()
        self._learning.touch()
        self._texts_stored.clear()
        self._references_stored.clear()
        self._layout_stored = b""

    def _learned(self) -> set[int]:
        """Return the features whose reference has been learned."""
        return {
            f for f, (a, r) in enumerate(zip(self._awaited, self._references, strict=True)) if a.learn and not r.learn
        }

    def _named_vocabularies(self) -> dict[str, Vocabulary]:
        named = {str(f): vocabulary for f, vocabulary in self._vocabularies.items()}
        return named if self._segments is None else {**named, "segments": self._segments.vocabulary}

    # --- divergences out -------------------------------------------------------------------------

    def clock_ms(self, now_ms: int) -> int:
        """Return the instant at which the windows end: the newest event time plus the time since it arrived.

        A stream that runs an hour behind is shown an hour behind; one that has stopped slides out of its windows.
        """
        if not self._counted.of_events or self._counted.clock_ms is None:
            return now_ms
        return self._counted.clock_ms + max(0, now_ms - self._counted.clock_read_ms)

    def evaluate(self, now_ms: int) -> MonitorSnapshot:
        """Return the divergences of all features and windows at `now_ms`."""
        self._past.forget(now_ms)
        at_ms = self.clock_ms(now_ms)
        counts = self._groups(at_ms)
        moments = {f: stacked(panes.totals(at_ms)) for f, panes in self._counted.moments.items()}
        earlier = {ms: self._groups(at_ms - ms) for ms in {r.offset_ms for r in self._references if r.offset_ms}}
        whole = WindowTotals(
            self._own_cells(counts.sum(axis=1)),
            {f: merged_groups(of_groups) for f, of_groups in moments.items()},
            {ms: self._own_cells(groups.sum(axis=1)) for ms, groups in earlier.items()},
        )
        snapshot = replace(self._evaluation.evaluate(whole, at_ms).snapshot, began=tuple(self._past.began))
        if self._segments is not None:

            def totals_of(slot: int) -> WindowTotals:
                return WindowTotals(
                    self._own_cells(counts[:, slot]),
                    {f: group(of_groups, slot) for f, of_groups in moments.items()},
                    {ms: self._own_cells(groups[:, slot]) for ms, groups in earlier.items()},
                )

            rows = counts[:, :, -1]
            snapshot = self._segments.evaluate(snapshot, totals_of, rows, self._evaluation, self._references)
        for one in (snapshot, *snapshot.segments):
            _make_read_only(one)
        return snapshot

    def _groups(self, at_ms: int) -> IntArray:
        """Return the counts of the windows that end at `at_ms`, (W, n_slots, cells of a row)."""
        totals = np.stack(self._counted.panes.totals(at_ms))
        return totals.reshape(len(totals), self._filling.n_slots, self._filling.row_cells)

    def _own_cells(self, counts: IntArray) -> IntArray:
        """Return the cells of the features, without the one that counts rows."""
        return np.ascontiguousarray(counts[:, : self.n_cells])


def _history_ms(references: Sequence[FeatureReference]) -> int:
    """Return how far back windows are read, for references that are an earlier window."""
    return max(reference.offset_ms for reference in references)


def _digest(layout: object) -> str:
    return hashlib.sha256(repr(layout).encode()).hexdigest()


def _make_read_only(snapshot: MonitorSnapshot) -> None:
    for name in MonitorSnapshot.__slots__:
        if isinstance(array := getattr(snapshot, name), np.ndarray):
            array.flags.writeable = False
