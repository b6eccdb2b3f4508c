"""References written in the configuration."""

import numpy as np

from kldrift.drift.binning import (
    CATEGORICAL_FLOW,
    NUMERIC_FLOW,
)
from kldrift.drift.references.reference import FeatureReference
from kldrift.records.specs import ReferenceInline
from kldrift.records.types import Kind


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
