"""The record that live data is compared with: the shape of a feature, and its counts in consecutive panes."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from kldrift.drift.kinds.base import Shape
from kldrift.drift.references.overdispersion import Overdispersion
from kldrift.drift.smoothing import KNOWN_SAMPLE, smooth_counts, smooth_probabilities
from kldrift.records.kinds import INVALID, MISSING, OVERFLOW, UNDERFLOW, Kind
from kldrift.records.specs import Smoothing
from kldrift.records.types import FloatArray, IntArray

#: Number of consecutive panes in which a reference keeps its counts, so that its own spread can be measured.
PANES = 64


@dataclass(frozen=True, slots=True)
class FeatureReference:
    """What the live values of one feature are compared with.

    Parameters
    ----------
    shape : what depends on the kind of feature: its bins, categories or dimensions
    panes : (n_panes, n_cells) int64, consecutive stretches of the reference; None where it is known exactly
    probabilities : (n_cells,) float64 where it is known exactly or is a member of a parametric family, else None; with
        panes beside them, the family was fitted to the data that those count
    created_ms : when it was made
    source : where it came from, to show: file name and hash
    overdispersion : as it was measured when the reference was made; None: to be measured on the panes
    flaw : why it can support no verdict, where that was found when it was made
    learn : rows of the stream from which it is still to be learned; until then the cells are preliminary and nothing is
        compared
    offset_ms : the live window is compared with itself this long before; the counts here only give the bins, and how
        much more than independent samples they spread
    parameters : of a parametric family; (name, value) pairs
    knows_missing : whether it says how many values are missing or invalid; where it does not, these two cells, which
        are empty here, are not part of the divergence
    by_time : the panes are known to be in the order of time, and not just in that of a file
    """

    name: str
    shape: Shape
    panes: IntArray | None
    probabilities: FloatArray | None = None
    created_ms: int = 0
    source: str = "configuration"
    overdispersion: Overdispersion | None = None
    flaw: str | None = None
    learn: int = 0
    offset_ms: int = 0
    parameters: tuple[tuple[str, float], ...] = ()
    knows_missing: bool = True
    by_time: bool = False
    counts: IntArray | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", None if self.panes is None else self.panes.sum(axis=0))

    @property
    def kind(self) -> Kind:
        """The kind of feature."""
        return self.shape.kind

    @property
    def cells(self) -> tuple[str, ...]:
        """Names of the cells, in order."""
        return self.shape.cells

    @property
    def rows(self) -> float:
        """m, the size of the reference sample; infinite where it is known exactly."""
        return float("inf") if self.counts is None else float(self.counts.sum())

    def smoothed(self, smoothing: Smoothing) -> FloatArray:
        """The q of every divergence, (n_cells,); NaN in cells that are not part of it."""
        compared = slice(None) if self.knows_missing else slice(None, MISSING)
        q = np.full(len(self.cells), np.nan)
        if self.probabilities is not None:
            sample = KNOWN_SAMPLE if self.panes is None else self.rows
            q[compared] = smooth_probabilities(self.probabilities[compared], smoothing, sample)
        else:
            assert self.counts is not None
            q[compared] = smooth_counts(self.expected_counts[compared], smoothing)
        return q

    @property
    def expected_new(self) -> float:
        """Share of the rows whose category it never had, to expect where nothing drifts; NaN where that is unknown."""
        if self.learn:
            return float("nan")
        coverage = self.shape.coverage
        return self.shape.expected_new if coverage is None else coverage.once / self.rows

    @property
    def expected_counts(self) -> IntArray:
        """What a sample of this size is expected to count, (n_cells,): rows whose category occurs once stand for those
        whose category the reference has missed, and count as *unseen* rather than *other*.
        """
        assert self.counts is not None
        if self.shape.coverage is None:
            return self.counts
        expected = self.counts.copy()
        expected[UNDERFLOW] -= self.shape.coverage.once
        expected[OVERFLOW] += self.shape.coverage.once
        return expected

    def of_independent_rows(self) -> Self:
        """Return the reference without the order of its rows: they spread as independent samples do."""
        return self if self.panes is None else replace(self, panes=self.panes.sum(axis=0, keepdims=True))

    @property
    def bins_hash(self) -> str:
        """Identity of the bins: features with the same hash have comparable counts."""
        return _hash(self.shape.identity())

    @property
    def reference_hash(self) -> str:
        """Identity of the bins and of what live values are compared with."""
        counts = None if self.counts is None else self.counts.tolist()
        if counts is not None and counts[INVALID] == 0:  # as it was before there was a cell for invalid values
            del counts[INVALID]
        known = None if self.probabilities is None else [float(p).hex() for p in self.probabilities]
        unknown = [] if self.knows_missing else ["missing"]
        return _hash([self.bins_hash, counts, known, *self.shape.estimated(), *unknown])


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
