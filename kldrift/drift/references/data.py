"""References from data: cells from the values, counts in consecutive panes."""

from collections.abc import Sequence

import numpy as np

from kldrift.drift.kinds import SHAPES
from kldrift.drift.kinds.base import Column, Shape, Values
from kldrift.drift.kinds.vector import presence
from kldrift.drift.references.open_ends import OpenEnds
from kldrift.drift.references.reference import PANES, FeatureReference
from kldrift.errors import ReferenceProblem
from kldrift.kernels.bin_table import BinTable, make_bin_table
from kldrift.kernels.fill import fill_counts, move_invalid
from kldrift.records.specs import FeatureSpec
from kldrift.records.types import IntArray


def build_references(
    specs: Sequence[FeatureSpec],
    columns: Sequence[Column],
    created_ms: int,
    source: str,
    invalid: Sequence[IntArray] | None = None,
    *,
    by_time: bool = False,
) -> tuple[FeatureReference, ...]:
    """Build references from data: cells from the values, counts in 64 consecutive panes.

    Parameters
    ----------
    specs, columns : one each per feature; a numeric column is float64 with NaN for missing
    created_ms, source : stored with the reference
    by_time : whether the rows are known to be in the order of time
    invalid : the rows of each column whose value is of the wrong type, and missing there; None: there are none

    Raises
    ------
    ReferenceProblem
        every feature that cannot be built, one per line
    """
    shapes: list[Shape] = []
    counted: list[Values] = []
    flaws: list[str | None] = []
    problems: list[str] = []
    for spec, column in zip(specs, columns, strict=True):
        try:
            shape = SHAPES[spec.kind].from_column(spec, column)
        except ReferenceProblem as problem:
            problems.append(f"{spec.name}: {problem} (reference {source})")
            continue
        values = shape.values(column)
        shape, flaw = shape.fitted(values)
        shapes.append(shape)
        counted.append(values)
        flaws.append(flaw)
    if problems:
        raise ReferenceProblem("\n".join(problems))
    panes = count_panes(shapes, counted, invalid)
    return tuple(
        FeatureReference(
            name=spec.name,
            shape=shape,
            panes=feature_panes,
            created_ms=created_ms,
            source=source,
            flaw=flaw,
            by_time=by_time,
        )
        for spec, shape, feature_panes, flaw in zip(specs, shapes, panes, flaws, strict=True)
    )


def count_panes(
    shapes: Sequence[Shape], columns: Sequence[Values], invalid: Sequence[IntArray] | None = None
) -> list[IntArray]:
    """Count the values of each feature in its cells, in 64 consecutive panes, (n_panes, n_cells) each.

    Vectors are counted in a single pane: how they spread is measured on their moments. `invalid` is that of
    `build_references`.
    """
    codes = [
        column if shape.moments is None else presence(np.asarray(column, dtype=np.float64))
        for shape, column in zip(shapes, columns, strict=True)
    ]
    table: BinTable = make_bin_table([shape.bins() for shape in shapes])
    n_rows = codes[0].size if codes else 0
    n_panes = max(1, min(PANES, n_rows))
    slots = (np.arange(n_rows, dtype=np.int64) * n_panes // max(1, n_rows)).astype(np.int32)
    counts = np.zeros((n_panes, int(table.offsets[-1])), dtype=np.int64)
    fill_counts(table, codes, slots, counts)
    counts = OpenEnds(shapes).fold(counts)  # the range is that of these values, so only infinite ones are beyond
    for f, rows in enumerate(invalid or ()):
        move_invalid(table, f, slots[rows], counts)
    own = [counts[:, a:b] for a, b in zip(table.offsets[:-1], table.offsets[1:], strict=True)]
    return [
        cells.copy() if shape.moments is None else cells.sum(axis=0, keepdims=True)
        for shape, cells in zip(shapes, own, strict=True)
    ]
