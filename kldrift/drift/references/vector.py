"""References of vectors, and of the posteriors of variational autoencoders."""

from dataclasses import replace

import numpy as np

from kldrift.drift.references.gaussian import GaussianReference
from kldrift.drift.references.reference import FeatureReference
from kldrift.errors import ReferenceProblem
from kldrift.records.specs import FeatureSpec
from kldrift.records.types import FloatArray, IntArray

#: The one category of a vector.
PRESENT_CELL = "present"


def given_vector_reference(spec: FeatureSpec, mean: float, std: float, created_ms: int) -> FeatureReference:
    """A normal distribution that is known exactly, the same and independent in every dimension."""
    gaussian = GaussianReference.standard(spec.dimensions, mean, std, spec.covariance)
    known = np.array([1.0, 0.0, 0.0, 0.0])
    reference = _reference(spec, gaussian, known, None, created_ms, "normal")
    return replace(reference, parameters=(("mean", mean), ("std", std)))


def posterior_reference(spec: FeatureSpec, created_ms: int) -> FeatureReference:
    """What a posterior is compared with: N(0, I), sample by sample."""
    return _reference(spec, None, np.array([1.0, 0.0, 0.0, 0.0]), None, created_ms, "N(0, I)")


def vector_reference(spec: FeatureSpec, values: FloatArray, created_ms: int, source: str) -> FeatureReference:
    """The normal distribution nearest to the vectors (n, d): mean and covariance by maximum likelihood.

    Where they make none (too few, a constant dimension), the reference says why and supports no verdict.
    """
    missing = int(np.count_nonzero(np.isnan(values[:, 0])))
    panes = np.array([[len(values) - missing, 0, 0, missing]], dtype=np.int64)
    try:
        gaussian = GaussianReference.from_vectors(values, spec.covariance)
    except ReferenceProblem as problem:
        return _reference(spec, None, None, panes, created_ms, source, flaw=str(problem))
    return _reference(spec, gaussian, None, panes, created_ms, source)


def _reference(
    spec: FeatureSpec,
    gaussian: GaussianReference | None,
    probabilities: FloatArray | None,
    panes: IntArray | None,
    created_ms: int,
    source: str,
    flaw: str | None = None,
) -> FeatureReference:
    return FeatureReference(
        name=spec.name,
        kind=spec.kind,
        edges=None,
        categories=(PRESENT_CELL,),
        panes=panes,
        probabilities=probabilities,
        created_ms=created_ms,
        source=source,
        gaussian=gaussian,
        flaw=flaw,
        dimensions=spec.dimensions,
        full_covariance=spec.covariance == "full",
    )
