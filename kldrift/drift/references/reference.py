"""What live data is compared with: the bins of each feature and its reference counts, in consecutive panes."""

import hashlib
import json
from dataclasses import dataclass, field

import numpy as np

from kldrift.drift.binning import (
    CATEGORICAL_FLOW,
    categorical_cells,
    numeric_cells,
)
from kldrift.drift.references.gaussian import GaussianReference
from kldrift.drift.references.overdispersion import Overdispersion
from kldrift.drift.smoothing import KNOWN_SAMPLE, smooth_counts, smooth_probabilities
from kldrift.kernels.bin_table import CategoryBins, NumericBins
from kldrift.records.samples import FeatureSchema, Vocabulary
from kldrift.records.specs import Smoothing
from kldrift.records.types import FloatArray, IntArray, Kind

#: A reference keeps its counts in so many consecutive panes, so that its own spread can be measured.
PANES = 64


@dataclass(frozen=True, slots=True)
class FeatureReference:
    """The bins and the reference counts of one feature.

    Parameters
    ----------
    edges : (n_bins + 1,) float64 for a numeric feature, else None
    categories : categories with a cell of their own, else None
    folded : rare categories that share the cell *other*
    open_ended : more rare categories than are kept by name: any further value is *other*, none is *unseen*
    panes : (n_panes, n_cells) int64, consecutive stretches of the reference; None where it is known exactly
    probabilities : (n_cells,) float64 where it is known exactly or of a parametric family, else None; with panes beside
        them, the family was fitted to what those count
    created_ms : when it was made
    source : where it came from, for people: file name and hash
    dimensions, full_covariance : of a vector or posterior, whose only category is ``present``
    gaussian : what a vector's mean and covariance are compared with
    overdispersion : as it was measured when the reference was made; None: to be measured on the panes
    flaw : why it can support no verdict, where that was found when it was made
    learn : rows of the stream from which it is still to be learned; the cells are preliminary, nothing is compared
    offset_ms : the live window is compared with itself so long before; the counts here only give the bins, and how
        much more than independent samples they spread
    family, parameters : of a parametric family; (name, value) pairs
    """

    name: str
    kind: Kind
    edges: FloatArray | None
    categories: tuple[str, ...] | None
    panes: IntArray | None
    probabilities: FloatArray | None = None
    folded: tuple[str, ...] = ()
    open_ended: bool = False
    created_ms: int = 0
    source: str = "configuration"
    gaussian: GaussianReference | None = None
    overdispersion: Overdispersion | None = None
    flaw: str | None = None
    dimensions: int = 0
    full_covariance: bool = False
    learn: int = 0
    offset_ms: int = 0
    family: str = ""
    parameters: tuple[tuple[str, float], ...] = ()
    counts: IntArray | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", None if self.panes is None else self.panes.sum(axis=0))

    @property
    def cells(self) -> tuple[str, ...]:
        """Names of the cells, in order."""
        if self.edges is not None:
            return numeric_cells(self.edges)
        assert self.categories is not None
        return categorical_cells(self.categories)

    @property
    def rows(self) -> float:
        """m, the size of the reference sample; infinite where it is known exactly."""
        return float("inf") if self.counts is None else float(self.counts.sum())

    @property
    def schema(self) -> FeatureSchema:
        """What to decode: a code for each category of the reference, frequent or rare."""
        if self.dimensions:
            numbers = 2 * self.dimensions if self.kind == "posterior" else self.dimensions
            return FeatureSchema(self.name, "vector", dimensions=numbers)
        return FeatureSchema(self.name, self.kind, (*(self.categories or ()), *self.folded))

    @property
    def bins(self) -> NumericBins | CategoryBins:
        """What the fill kernel needs."""
        if self.edges is not None:
            return NumericBins(self.edges)
        assert self.categories is not None
        own, folded = len(self.categories), len(self.folded)
        lookup = np.full(own + folded + 2, own, dtype=np.int32)
        lookup[:own] = np.arange(own)
        lookup[-2] = own if self.open_ended else own + 1
        lookup[-1] = own + 2
        return CategoryBins(lookup, own + len(CATEGORICAL_FLOW))

    def bins_of(self, vocabulary: Vocabulary) -> CategoryBins:
        """What the fill kernel needs for codes of a vocabulary: the categories are among its texts."""
        assert self.categories is not None
        own = len(self.categories)
        cells = dict.fromkeys(self.folded, own) | {text: cell for cell, text in enumerate(self.categories)}
        lookup = np.full(vocabulary.limit + 2, own if self.open_ended else own + 1, dtype=np.int32)
        for code, text in enumerate(vocabulary.texts):
            lookup[code] = cells.get(text, lookup[code])
        lookup[-1] = own + 2
        return CategoryBins(lookup, own + len(CATEGORICAL_FLOW))

    @property
    def n_moments(self) -> int:
        """Length of the vectors whose moments are kept: of a posterior the KL of each dimension, and their sum."""
        return self.dimensions + (1 if self.kind == "posterior" else 0)

    def smoothed(self, smoothing: Smoothing) -> FloatArray:
        """The q of every divergence, (n_cells,)."""
        if self.probabilities is not None:
            return smooth_probabilities(
                self.probabilities, smoothing, KNOWN_SAMPLE if self.panes is None else self.rows
            )
        assert self.counts is not None
        return smooth_counts(self.counts, smoothing)

    @property
    def bins_hash(self) -> str:
        """Identity of the bins: features of equal hash have comparable counts."""
        edges = None if self.edges is None else [float(edge).hex() for edge in self.edges]
        parts: list[object] = [self.kind, edges, self.categories, self.folded, self.open_ended]
        if self.dimensions:
            parts += [self.dimensions, self.full_covariance]
        return _hash(parts)

    @property
    def reference_hash(self) -> str:
        """Identity of bins, counts and known probabilities."""
        counts = None if self.counts is None else self.counts.tolist()
        known = None if self.probabilities is None else [float(p).hex() for p in self.probabilities]
        vector = None if self.gaussian is None else self.gaussian.digest()
        return _hash([self.bins_hash, counts, known, *([] if vector is None else [vector])])


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
