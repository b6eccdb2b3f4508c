"""Whether a reference can support a verdict at all."""

import numpy as np

from kldrift.drift.binning import MIN_CELL_COUNT
from kldrift.drift.references.reference import PANES, FeatureReference
from kldrift.drift.references.stretches import lasting_difference
from kldrift.records.kinds import MISSING, STRUCTURAL_CELLS


def problem_of(reference: FeatureReference, tolerance: float) -> str | None:
    """Return why a reference supports no verdict; None if it does.

    Parameters
    ----------
    tolerance : the divergence that is critical, in nats
    """
    if reference.flaw is not None:
        return reference.flaw
    if reference.learn:
        return f"still learning from the first {reference.learn:,} rows of the stream"
    if reference.shape.moments is not None:
        return None
    cells = reference.probabilities if reference.counts is None else reference.counts
    assert cells is not None
    # where no cell holds anything, the number of rows is the problem
    own = reference.shape.problem(cells) if np.any(cells > 0) else None
    return own or _of_rows(reference) or order_problem(reference, tolerance)


def _of_rows(reference: FeatureReference) -> str | None:
    if reference.offset_ms:  # the rows it is compared with are counted at each tick
        return None
    n_bins = len(reference.cells) - STRUCTURAL_CELLS
    needed = MIN_CELL_COUNT * n_bins
    fewest = PANES if reference.panes is not None and len(reference.panes) > 1 else 0
    if reference.rows < max(needed, fewest):
        return (
            f"the reference has {reference.rows:.0f} rows for {n_bins} bins;"
            f" a verdict needs at least {max(needed, fewest)}: use a longer reference, or fewer bins"
        )
    present = reference.rows if reference.counts is None else int(reference.counts[:MISSING].sum())
    if present < max(needed, MIN_CELL_COUNT):  # where every category is rare, there are no bins
        return (
            f"the reference has a value in only {present:,} of its {reference.rows:,.0f} rows; a verdict needs at least"
            f" {max(needed, MIN_CELL_COUNT)}, {MIN_CELL_COUNT} for each bin: use a reference with more values, or fewer"
            " bins"
        )
    return None


def order_problem(reference: FeatureReference, tolerance: float) -> str | None:
    """Return why the order of the rows hides what the reference holds; None if it does not, or is that of time.

    Parameters
    ----------
    tolerance : the divergence that is critical, in nats
    """
    if reference.panes is None or reference.by_time:
        return None
    difference = lasting_difference(reference.panes)
    if not difference > tolerance:
        return None
    return (
        f"stretches of the reference differ by {difference:.2g} nats, more than the tolerance of {tolerance:g}: its"
        " rows may be sorted, or joined from different parts; give the monitor a timestamp that the reference has as"
        " well, or shuffle the reference if its rows are independent"
    )
