"""Whether a reference can support a verdict at all."""

import numpy as np

from kldrift.drift.binning import MIN_CELL_COUNT
from kldrift.drift.references.reference import PANES, FeatureReference
from kldrift.records.kinds import STRUCTURAL_CELLS


def problem_of(reference: FeatureReference) -> str | None:
    """Return why a reference supports no verdict; None if it does."""
    if reference.flaw is not None:
        return reference.flaw
    if reference.learn:
        return f"still learning from the first {reference.learn:,} rows of the stream"
    if reference.shape.moments is not None:
        return None
    cells = reference.probabilities if reference.counts is None else reference.counts
    assert cells is not None
    # where no cell holds anything, the number of rows is the problem
    return (reference.shape.problem(cells) if np.any(cells > 0) else None) or _of_rows(reference)


def _of_rows(reference: FeatureReference) -> str | None:
    if reference.offset_ms:  # the rows it is compared with are counted at each tick
        return None
    n_bins = len(reference.cells) - STRUCTURAL_CELLS
    needed = MIN_CELL_COUNT * n_bins
    if reference.panes is not None and len(reference.panes) > 1:
        needed = max(needed, PANES)
    if reference.rows < needed:
        return (
            f"the reference has {reference.rows:.0f} rows for {n_bins} bins;"
            f" a verdict needs at least {needed}: use a longer reference, or fewer bins"
        )
    return None
