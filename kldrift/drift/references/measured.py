"""The overdispersion of a reference: stored in it, or measured on its panes."""

from kldrift.drift.references.overdispersion import UNMEASURED, Overdispersion, measure_panes
from kldrift.drift.references.reference import FeatureReference


def measure_reference(reference: FeatureReference) -> Overdispersion:
    """The overdispersion of a reference, as stored in it or measured now.

    Unmeasured where the reference is known exactly or given as totals.
    """
    if reference.overdispersion is not None:
        return reference.overdispersion
    if reference.panes is None:
        return UNMEASURED
    panes = reference.panes
    if reference.kind == "numeric":  # underflow lies below the bins
        n_cells = panes.shape[1]
        panes = panes[:, [n_cells - 3, *range(n_cells - 3), n_cells - 2, n_cells - 1]]
    return measure_panes(panes, ordered=reference.kind == "numeric")
