"""References that take no data: written in the configuration, or fixed for all features of a kind."""

import numpy as np

from kldrift.drift.kinds import SHAPES
from kldrift.drift.kinds.base import Shape
from kldrift.drift.references.reference import FeatureReference
from kldrift.records.kinds import KINDS, MISSING, STRUCTURAL_CELLS
from kldrift.records.specs import FeatureSpec, ReferenceInline


def inline_reference(spec: FeatureSpec, given: ReferenceInline, created_ms: int) -> FeatureReference:
    """Return a reference written in the configuration: counts (a sample) or probabilities (known exactly).

    Beside counts, the share of missing values is rounded to a whole number of rows.
    """
    panes = probabilities = None
    share = given.missing or 0.0
    if given.counts is not None:
        panes = np.array([[*given.counts, *[0] * STRUCTURAL_CELLS]], dtype=np.int64)
        panes[0, MISSING] = round(sum(given.counts) * share / (1 - share))
    else:
        assert given.probabilities is not None
        probabilities = np.array([*given.probabilities, *[0.0] * STRUCTURAL_CELLS]) / sum(given.probabilities)
        probabilities *= 1 - share
        probabilities[MISSING] = share
    cells = given.categories if given.edges is None else np.asarray(given.edges, dtype=np.float64)
    assert cells is not None
    shape = SHAPES[spec.kind].with_cells(spec, cells)
    return FeatureReference(
        spec.name, shape, panes, probabilities, created_ms=created_ms, knows_missing=given.knows_missing
    )


def fixed_reference(spec: FeatureSpec, created_ms: int) -> FeatureReference:
    """Return the reference of a feature whose kind is always compared with the same distribution."""
    shape = SHAPES[spec.kind].preliminary(spec)
    return known_vectors(spec.name, shape, created_ms, KINDS[spec.kind].always_against, missing=0.0)


def known_vectors(
    name: str,
    shape: Shape,
    created_ms: int,
    source: str,
    parameters: tuple[tuple[str, float], ...] = (),
    missing: float | None = None,
) -> FeatureReference:
    """Return the reference of vectors from a distribution known exactly; `missing` is that of `ReferenceInline`."""
    share = missing or 0.0
    return FeatureReference(
        name=name,
        shape=shape,
        panes=None,
        probabilities=np.array([1 - share, 0.0, 0.0, share, 0.0]),
        created_ms=created_ms,
        source=source,
        parameters=parameters,
        knows_missing=missing is not None,
    )
