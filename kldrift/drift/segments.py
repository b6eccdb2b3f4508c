"""Segments: the rows of a monitor by the value of one field, each judged by itself (README, section 5.3).

KL(segment and feature together) = KL(mix of the segments) + sum over segments of share x KL(within the segment)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from kldrift.drift.judging.evaluation import Evaluation, WindowTotals
from kldrift.drift.judging.explanation import segment_mix, segment_within
from kldrift.drift.judging.verdicts import verdicts
from kldrift.drift.kinds.base import Column, Values
from kldrift.drift.references.data import count_panes
from kldrift.drift.references.reference import FeatureReference
from kldrift.kernels.bin_table import CategoryBins
from kldrift.records.categories import canonical, other_booleans
from kldrift.records.samples import CategoricalColumn, Vocabulary
from kldrift.records.snapshots import MonitorSnapshot
from kldrift.records.specs import MonitorSpec
from kldrift.records.types import CodeArray, FloatArray, IntArray

#: The segment of rows whose value is missing or has no segment of its own.
OTHER = "other"


@dataclass(frozen=True, slots=True)
class Segmentation:
    """What the reference data shows about the segments.

    Parameters
    ----------
    names : the most frequent values, most frequent first
    rows : (len(names) + 1,) int64, rows of each, then of all others; None if the reference does not know segments
    references : those of the features in the monitor's order, by segment
    """

    names: tuple[str, ...] = ()
    rows: IntArray | None = None
    references: Mapping[str, Sequence[FeatureReference]] = field(default_factory=dict)


def segment_references(
    references: Sequence[FeatureReference],
    columns: Sequence[Column | None],
    by: CategoricalColumn,
    limit: int,
    invalid: Sequence[IntArray] | None = None,
) -> Segmentation:
    """Build the references of each segment: the cells of the whole, the counts of its own rows.

    Parameters
    ----------
    references : those of the features, over all rows
    columns : the data of each feature; None where its reference is not from this data and holds for every segment
    by : the segment of each row; a missing one is *other*
    limit : maximum number of segments besides *other*
    invalid : the rows of each column whose value is of the wrong type, and missing there; None: there are none
    """
    n_values = len(by.values)
    frequencies = np.bincount(by.codes[by.codes >= 0], minlength=n_values)
    order = sorted((i for i in range(n_values) if by.values[i] != OTHER), key=lambda i: (-frequencies[i], by.values[i]))
    own = order[:limit]
    slots = np.full(n_values + 1, len(own), dtype=np.int64)  # the last one is for -1, missing
    slots[own] = np.arange(len(own))
    slot_of_row = slots[by.codes]
    names = tuple(by.values[i] for i in own)
    values = {
        f: reference.shape.values(column)
        for f, (reference, column) in enumerate(zip(references, columns, strict=True))
        if column is not None
    }
    wrong = {f: np.zeros(slot_of_row.size, dtype=np.bool_) for f in values}
    for f, rows in enumerate(invalid or ()):
        if f in wrong:
            wrong[f][rows] = True
    made: dict[str, Sequence[FeatureReference]] = {}
    for slot, name in enumerate((*names, OTHER)):
        rows = np.flatnonzero(slot_of_row == slot)
        if rows.size:
            own_invalid = [np.flatnonzero(of_feature[rows]) for of_feature in wrong.values()]
            made[name] = _of_rows(references, {f: column[rows] for f, column in values.items()}, own_invalid)
    return Segmentation(names, np.bincount(slot_of_row, minlength=len(own) + 1), made)


def _of_rows(
    references: Sequence[FeatureReference], values: Mapping[int, Values], invalid: Sequence[IntArray]
) -> tuple[FeatureReference, ...]:
    """Return the references made from the values of some rows only, and the rows of each that are invalid."""
    made = list(references)
    fitted = {f: references[f].shape.fitted(column) for f, column in values.items()}
    panes = count_panes([shape for shape, _ in fitted.values()], list(values.values()), invalid)
    for (f, (shape, flaw)), feature_panes in zip(fitted.items(), panes, strict=True):
        made[f] = replace(references[f], shape=shape, panes=feature_panes, overdispersion=None, flaw=flaw)
    return tuple(made)


class Segments:
    """The segments of one monitor, and their evaluation.

    Parameters
    ----------
    spec : of the monitor, with segments
    known : what the reference data shows about them
    """

    def __init__(self, spec: MonitorSpec, known: Segmentation) -> None:
        assert spec.segments is not None
        self._spec = spec
        self._known = known
        self.limit = spec.segments.limit
        self.vocabulary = Vocabulary(self.limit, known.names)
        self._evaluations: dict[int, Evaluation] = {}

    @property
    def n_slots(self) -> int:
        """Number of groups in which rows are counted: one for each segment, and *other*."""
        return self.limit + 1

    @property
    def row_bins(self) -> CategoryBins:
        """A single cell that counts the rows."""
        return CategoryBins(np.zeros(self.limit + 2, dtype=np.int32), 1)

    def slots(self, codes: CodeArray) -> CodeArray:
        """Return the slot of each row from the codes of the segment column."""
        slots = np.minimum(codes, np.int32(self.limit))
        named_other = self.vocabulary.find(OTHER)
        if named_other is not None:
            slots[codes == named_other] = self.limit
        for text, name in zip(other_booleans(self._known.names), self._known.names, strict=False):
            code, slot = self.vocabulary.find(text), self.vocabulary.find(name)
            if code is not None and slot is not None:
                slots[codes == code] = slot
        return slots

    def folded(self, codes: CodeArray) -> int:
        """Count the rows whose value appeared when all segments were taken."""
        return int(np.count_nonzero(codes == self.limit))

    def forget_evaluations(self) -> None:
        """Drop the evaluations, because the references of the monitor have changed."""
        self._evaluations.clear()

    def evaluate(
        self,
        whole: MonitorSnapshot,
        totals_of: Callable[[int], WindowTotals],
        rows: IntArray,
        general: Evaluation,
        references: Sequence[FeatureReference],
    ) -> MonitorSnapshot:
        """Return the snapshot of the monitor completed with those of its segments.

        Parameters
        ----------
        whole : the snapshot of all rows together
        totals_of : what was counted in a slot
        rows : (W, n_slots) int64
        general : the evaluation of the monitor, for segments that the reference does not know
        references : those of the monitor as they are now
        """
        texts = self.vocabulary.texts
        present = np.flatnonzero(rows.any(axis=0))
        slots = sorted(present.tolist(), key=lambda slot: (slot == self.limit, -int(rows[:, slot].max())))
        mix = np.full(len(rows), np.nan)
        if self._known.rows is not None:
            known = self._known_rows(self._known.rows)
            mix = segment_mix(rows, (known + 0.5) / (known.sum() + 0.5 * known.size))
        within = np.full(whole.samples.shape, np.nan)
        if not slots:
            return replace(whole, segment_mix=mix, within_segments=within)
        evaluated = []
        for slot in slots:
            name = OTHER if slot == self.limit else texts[slot]
            evaluation = self._evaluation(slot, name, general, references)
            evaluated.append(evaluation.evaluate(totals_of(slot), whole.at_ms, name))
        # all features of all segments are one family of hypotheses
        together = np.concatenate([one.log10_p_values for one in evaluated], axis=1)
        detected = verdicts(together, 1 - self._spec.confidence, self._spec.correction)
        n_features = len(references)
        segments = tuple(
            replace(one.snapshot, detected=detected[i * n_features : (i + 1) * n_features])
            for i, one in enumerate(evaluated)
        )
        kl = np.stack([one.kl for one in evaluated], axis=1)
        within = segment_within(kl, np.stack([s.samples for s in segments], axis=1))
        return replace(whole, segments=segments, segment_mix=mix, within_segments=within)

    def _known_rows(self, rows: IntArray) -> FloatArray:
        """Return the reference rows of each slot; segments that existed before a reload keep their slot."""
        found = np.zeros(self.n_slots)
        for name, n in zip((*self._known.names, OTHER), rows.tolist(), strict=True):
            slot = self.vocabulary.find(name)
            found[self.limit if slot is None or name == OTHER else slot] += n
        return found

    def _evaluation(
        self, slot: int, name: str, general: Evaluation, references: Sequence[FeatureReference]
    ) -> Evaluation:
        made = self._evaluations.get(slot)
        if made is None:
            own = self._known.references.get(canonical(name))
            made = general
            if own is not None:
                # a reference that moves with the stream or is learned from it is the same for all segments
                made = Evaluation(
                    self._spec,
                    [r if r.offset_ms or o.learn else o for o, r in zip(own, references, strict=True)],
                )
            self._evaluations[slot] = made
        return made
