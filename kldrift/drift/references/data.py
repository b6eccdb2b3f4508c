"""References from data: bins from the values, counts in consecutive panes."""

from collections.abc import Sequence

import numpy as np

from kldrift.drift.binning import (
    MIN_CELL_COUNT,
    numeric_edges,
)
from kldrift.drift.references.reference import PANES, FeatureReference
from kldrift.errors import ReferenceProblem
from kldrift.kernels.bin_table import BinTable, CategoryBins, NumericBins, make_bin_table
from kldrift.kernels.fill import fill_counts
from kldrift.records.samples import CategoricalColumn
from kldrift.records.specs import FeatureSpec
from kldrift.records.types import CodeArray, FloatArray, IntArray

#: Names of rare categories that are kept, so that one of them is told from a value never seen. Beyond it the reference
#: is of so many categories that any further value counts as *other*.
MAX_FOLDED = 10_000


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
