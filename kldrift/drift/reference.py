"""What live data is compared with: the bins of each feature and its reference counts, in consecutive panes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from kldrift.drift.binning import (
    CATEGORICAL_FLOW,
    MIN_CELL_COUNT,
    NUMERIC_FLOW,
    categorical_cells,
    numeric_cells,
    numeric_edges,
)
from kldrift.drift.divergences import KNOWN_SAMPLE, smooth_counts, smooth_probabilities
from kldrift.errors import ReferenceProblem
from kldrift.kernels.bin_table import BinTable, CategoryBins, NumericBins, make_bin_table
from kldrift.kernels.fill import fill_counts
from kldrift.records import (
    CategoricalColumn,
    CodeArray,
    FeatureSchema,
    FeatureSpec,
    FloatArray,
    IntArray,
    Kind,
    ReferenceInline,
    Smoothing,
    Vocabulary,
)

if TYPE_CHECKING:
    from kldrift.drift.gaussian import GaussianReference
    from kldrift.drift.overdispersion import Overdispersion

#: A reference keeps its counts in so many consecutive panes, so that its own spread can be measured.
PANES = 64

#: Names of rare categories that are kept, so that one of them is told from a value never seen. Beyond it the reference
#: is of so many categories that any further value counts as *other*.
MAX_FOLDED = 10_000


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
    gaussian: "GaussianReference | None" = None
    overdispersion: "Overdispersion | None" = None
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


def build_references(
    specs: Sequence[FeatureSpec],
    columns: Sequence[FloatArray | CategoricalColumn],
    created_ms: int,
    source: str,
) -> tuple[FeatureReference, ...]:
    """References from data: bins from the values, counts in 64 consecutive panes.

    Parameters
    ----------
    specs, columns : one each a feature; a numeric column is float64 with NaN for missing
    created_ms, source : stored with the reference

    Raises
    ------
    ReferenceProblem
        every feature that cannot be built, one a line
    """
    shapes: list[FeatureReference] = []
    codes: list[FloatArray | CodeArray] = []
    problems: list[str] = []
    for spec, column in zip(specs, columns, strict=True):
        try:
            shape, values = _shape(spec, column, created_ms, source)
        except ReferenceProblem as problem:
            problems.append(f"{spec.name}: {problem} (reference {source})")
            continue
        shapes.append(shape)
        codes.append(values)
    if problems:
        raise ReferenceProblem("\n".join(problems))
    panes = count_panes([shape.bins for shape in shapes], codes)
    return tuple(
        FeatureReference(
            name=shape.name,
            kind=shape.kind,
            edges=shape.edges,
            categories=shape.categories,
            panes=feature_panes,
            folded=shape.folded,
            open_ended=shape.open_ended,
            created_ms=created_ms,
            source=source,
        )
        for shape, feature_panes in zip(shapes, panes, strict=True)
    )


def _shape(
    spec: FeatureSpec, column: FloatArray | CategoricalColumn, created_ms: int, source: str
) -> tuple[FeatureReference, FloatArray | CodeArray]:
    """The bins of a feature without counts, and its column in the codes of those bins."""
    if isinstance(column, CategoricalColumn):
        present = column.codes[column.codes >= 0]
        if present.size == 0:
            raise ReferenceProblem("expected at least one value that is not missing, got none; use another reference")
        counts = np.bincount(present, minlength=len(column.values))
        order = sorted(range(len(column.values)), key=lambda i: (-counts[i], column.values[i]))
        own = [i for i in order if counts[i] >= MIN_CELL_COUNT][: spec.max_categories]
        own_set = set(own)
        folded = [i for i in order if i not in own_set and counts[i] > 0]
        kept = folded[:MAX_FOLDED]
        shape = FeatureReference(
            name=spec.name,
            kind="categorical",
            edges=None,
            categories=tuple(column.values[i] for i in own),
            panes=None,
            folded=tuple(column.values[i] for i in kept),
            open_ended=len(folded) > len(kept),
            created_ms=created_ms,
            source=source,
        )
        # the unseen code stands for the folded ones whose names are not kept: it leads to *other* then
        recode = np.full(len(column.values) + 1, len(own) + len(kept), dtype=np.int32)
        recode[[*own, *kept]] = np.arange(len(own) + len(kept))
        recode[-1] = len(own) + len(kept) + 1
        return shape, recode[column.codes]
    values = column[~np.isnan(column)]
    if values.size == 0:
        raise ReferenceProblem("expected at least one value that is not missing, got none; use another reference")
    edges = numeric_edges(spec.bins, values)
    return (
        FeatureReference(
            spec.name, "numeric", edges, categories=None, panes=None, created_ms=created_ms, source=source
        ),
        np.ascontiguousarray(column, dtype=np.float64),
    )


def count_panes(
    bins: Sequence[NumericBins | CategoryBins], columns: Sequence[FloatArray | CodeArray]
) -> list[IntArray]:
    table: BinTable = make_bin_table(bins)
    n_rows = columns[0].size if columns else 0
    n_panes = max(1, min(PANES, n_rows))
    slots = (np.arange(n_rows, dtype=np.int64) * n_panes // max(1, n_rows)).astype(np.int32)
    counts = np.zeros((n_panes, int(table.offsets[-1])), dtype=np.int64)
    fill_counts(table, columns, slots, counts)
    return [counts[:, a:b].copy() for a, b in zip(table.offsets[:-1], table.offsets[1:], strict=True)]


def inline_reference(name: str, kind: Kind, given: ReferenceInline, created_ms: int) -> FeatureReference:
    """A reference written in the configuration: counts (a sample) or probabilities (known exactly)."""
    flow = len(NUMERIC_FLOW if kind == "numeric" else CATEGORICAL_FLOW)
    panes = probabilities = None
    if given.counts is not None:
        panes = np.array([[*given.counts, *[0] * flow]], dtype=np.int64)
    else:
        assert given.probabilities is not None
        probabilities = np.array([*given.probabilities, *[0.0] * flow]) / sum(given.probabilities)
    return FeatureReference(
        name=name,
        kind=kind,
        edges=None if given.edges is None else np.asarray(given.edges, dtype=np.float64),
        categories=given.categories,
        panes=panes,
        probabilities=probabilities,
        created_ms=created_ms,
    )


def by_name(references: Sequence[FeatureReference], wanted: Sequence[str], origin: str) -> list[FeatureReference]:
    """Pick the references of the wanted features.

    Raises
    ------
    ReferenceProblem
        naming every feature that is not there
    """
    known: Mapping[str, FeatureReference] = {reference.name: reference for reference in references}
    absent = [name for name in wanted if name not in known]
    if absent:
        raise ReferenceProblem(
            f"{origin}: expected a reference for every feature, got none for {', '.join(absent)};"
            f" it has {', '.join(sorted(known))}; build it again or give the feature its own reference"
        )
    return [known[name] for name in wanted]
