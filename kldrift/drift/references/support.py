"""Whether a reference can support a verdict at all, and how many samples it takes beside it."""

import numpy as np

from kldrift.drift.binning import MIN_CELL_COUNT, NUMERIC_FLOW
from kldrift.drift.references.gaussian import degrees_of_freedom
from kldrift.drift.references.reference import PANES, FeatureReference

#: A window is judged from so many samples a bin on.
SAMPLES_PER_BIN = 10

#: The mean of a posterior's KL is close to normal, far out in its tails too, only from so many samples on.
MIN_MEAN_SAMPLES = 100


def samples_needed(reference: FeatureReference) -> int:
    """Samples from which on a window is judged; 0 where that depends on the bins that it fills."""
    if reference.kind == "posterior":
        return MIN_MEAN_SAMPLES
    if reference.dimensions:
        dof = degrees_of_freedom(reference.dimensions, "full" if reference.full_covariance else "diagonal")
        return SAMPLES_PER_BIN * (dof + 1)
    return 0


def problem_of(reference: FeatureReference) -> str | None:
    """Why a reference supports no verdict; None where it does."""
    if reference.flaw is not None or reference.dimensions:
        return reference.flaw
    if reference.learn:
        return f"still learning from the first {reference.learn:,} rows of the stream"
    return _of_cells(reference) or _of_rows(reference)


def _of_rows(reference: FeatureReference) -> str | None:
    if reference.offset_ms:  # what it is compared with is counted at each tick
        return None
    n_bins = len(reference.cells) - len(NUMERIC_FLOW)
    needed = MIN_CELL_COUNT * n_bins
    if reference.panes is not None and len(reference.panes) > 1:
        needed = max(needed, PANES)
    if reference.rows < needed:
        return (
            f"the reference has {reference.rows:.0f} rows for {n_bins} bins;"
            f" it takes {needed} to say anything: use a longer one, or fewer bins"
        )
    return None


def _of_cells(reference: FeatureReference) -> str | None:
    """Nothing can be said of how a value is spread that was never seen to vary, or never within the bins."""
    cells = reference.probabilities if reference.counts is None else reference.counts
    assert cells is not None
    if not np.any(cells > 0):
        return None  # too few rows, then
    if reference.kind == "numeric" and not np.any(cells[: -len(NUMERIC_FLOW)] > 0):
        return (
            "no value of the reference lies within the bins;"
            " give edges or a range that overlap with it, or use quantile bins"
        )
    names = reference.cells
    if np.count_nonzero(cells) == 1:
        return (
            f"the reference is constant: all of it lies in {names[int(np.argmax(cells))]!r};"
            " use a reference in which the feature varies, other bins, or remove the feature"
        )
    return None
