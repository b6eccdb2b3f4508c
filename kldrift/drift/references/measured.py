"""The overdispersion of a reference: stored in it, or measured on its panes."""

from kldrift.drift.references.overdispersion import UNMEASURED, Overdispersion, measure_panes
from kldrift.drift.references.reference import FeatureReference


def measure_reference(reference: FeatureReference) -> Overdispersion:
    """Return the overdispersion of a reference, as stored in it or measured now.

    A reference that is known exactly, or given as totals, has none to measure.
    """
    if reference.overdispersion is not None:
        return reference.overdispersion
    if reference.panes is None:
        return UNMEASURED
    order = reference.shape.cell_order
    return measure_panes(reference.panes if order is None else reference.panes[:, order], ordered=order is not None)
