"""Vectors: compared with a normal distribution by mean and covariance; their cells are present, missing, invalid."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from kldrift.drift.binning import CATEGORICAL_FLOW, categorical_cells
from kldrift.drift.kinds.base import Column, MomentShape, Values
from kldrift.drift.kinds.gaussian import GaussianReference, degrees_of_freedom
from kldrift.drift.kinds.gaussian_bounds import bound_gaussian, dimension_kl
from kldrift.errors import ReferenceProblem
from kldrift.kernels.bin_table import CategoryBins
from kldrift.kernels.moments import Moments
from kldrift.records.kinds import SAMPLES_PER_BIN, Kind
from kldrift.records.samples import CategoricalColumn, FeatureSchema, Vocabulary
from kldrift.records.snapshots import Spread
from kldrift.records.specs import FeatureSpec
from kldrift.records.types import CodeArray, Covariance, FloatArray, IntArray

#: Codes of a vector among its cells.
PRESENT, MISSING = 0, 2


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """Vectors of `dimensions` numbers.

    Parameters
    ----------
    full : the whole covariance is compared, not only its diagonal
    gaussian : the normal distribution they are compared with; None while it is not known, or where there is none
    """

    dimensions: int
    full: bool = False
    gaussian: GaussianReference | None = None

    kind: ClassVar[Kind] = "vector"
    edges: ClassVar[None] = None
    categories: ClassVar[tuple[str, ...]] = ("present",)
    cells: ClassVar[tuple[str, ...]] = categorical_cells(categories)
    cell_order: ClassVar[None] = None
    value_range: ClassVar[None] = None
    beyond: ClassVar[tuple[()]] = ()
    limits: ClassVar[tuple[()]] = ()
    open_ended: ClassVar[bool] = False

    @classmethod
    def preliminary(cls, spec: FeatureSpec) -> Self:
        return cls(spec.dimensions, spec.covariance == "full")

    @classmethod
    def with_cells(cls, spec: FeatureSpec, cells: FloatArray | tuple[str, ...]) -> Self:
        return cls.preliminary(spec)

    @classmethod
    def from_column(cls, spec: FeatureSpec, column: Column) -> Self:
        return cls.preliminary(spec)

    @classmethod
    def from_json(cls, name: str, item: Mapping[str, Any]) -> Self:
        spread = item["overdispersion"]
        gaussian = GaussianReference(
            np.array(item["mean"], dtype=np.float64),
            np.array(item["covariance"], dtype=np.float64),
            float(item["vectors"]),
            float(item["missing_ratio"]),
            None if item["correlation"] is None else np.array(item["correlation"], dtype=np.float64),
            block_samples=np.array(spread["block_samples"], dtype=np.float64),
            phi=np.array(spread["phi"], dtype=np.float64),
            lambda_ratio=np.array(spread["lambda_ratio"], dtype=np.float64),
            measured=bool(spread["measured"]),
        )
        return cls(gaussian.dimensions, gaussian.kind == "full", gaussian)

    def to_json(self) -> dict[str, Any]:
        gaussian = self.gaussian
        assert gaussian is not None
        return {
            "categories": self.categories,
            "other": (),
            "other_is_open": False,
            "dimensions": self.dimensions,
            "mean": gaussian.mean.tolist(),
            "covariance": gaussian.covariance.tolist(),
            "vectors": gaussian.rows,
            "missing_ratio": gaussian.missing_ratio,
            "correlation": None if gaussian.correlation is None else gaussian.correlation.tolist(),
            "overdispersion": {
                "block_samples": gaussian.block_samples.tolist(),
                "phi": gaussian.phi.tolist(),
                "lambda_ratio": gaussian.lambda_ratio.tolist(),
                "measured": gaussian.measured,
            },
        }

    def schema(self, name: str, vocabulary: Vocabulary | None = None) -> FeatureSchema:
        return FeatureSchema(name, "vector", dimensions=self.dimensions)

    def new_vocabulary(self) -> None:
        return None

    def bins(self, vocabulary: Vocabulary | None = None) -> CategoryBins:
        return CategoryBins(np.array([0, 2, 3], dtype=np.int32), 1 + len(CATEGORICAL_FLOW))

    def identity(self) -> list[object]:
        return [self.kind, None, self.categories, (), False, self.dimensions, self.full]

    def estimated(self) -> list[object]:
        return [] if self.gaussian is None else [self.gaussian.digest()]

    def values(self, column: Column) -> Values:
        assert not isinstance(column, CategoricalColumn)
        return np.ascontiguousarray(column, dtype=np.float64)

    def fitted(self, values: Values) -> tuple[Self, str | None]:
        try:
            gaussian = GaussianReference.from_vectors(np.asarray(values, dtype=np.float64), self.covariance)
        except ReferenceProblem as problem:
            return replace(self, gaussian=None), str(problem)
        return replace(self, gaussian=gaussian), None

    @property
    def samples_needed(self) -> int:
        return SAMPLES_PER_BIN * (degrees_of_freedom(self.dimensions, self.covariance) + 1)

    def problem(self, held: FloatArray | IntArray) -> str | None:
        return None  # the flaw of a reference without a normal distribution says it all

    # --- moments ---------------------------------------------------------------------------------

    @property
    def moments(self) -> MomentShape:
        return self

    @property
    def covariance(self) -> Covariance:
        return "full" if self.full else "diagonal"

    @property
    def size(self) -> int:
        return self.dimensions

    @property
    def spread(self) -> Spread | None:
        found = self.gaussian
        if found is None:
            return None
        return found.spread

    def rows(self, values: FloatArray) -> FloatArray:
        return values

    def known(self, mean: float, std: float) -> "Vector":
        return replace(self, gaussian=GaussianReference.standard(self.dimensions, mean, std, self.covariance))

    def bound(self, live: Moments, z_quantile: float, thresholds: FloatArray) -> Mapping[str, FloatArray]:
        if self.gaussian is None:
            return {}
        return bound_gaussian(live.n, live.mean, live.second, self.gaussian, z_quantile, thresholds)

    def dimension_kl(self, live: Moments) -> FloatArray:
        if self.gaussian is None:
            return np.full(live.mean.shape, np.nan)
        return dimension_kl(live, self.gaussian)


def presence(rows: FloatArray) -> CodeArray:
    """Return the code of each vector (n, d) among its cells: NaN in the first element is missing."""
    return np.where(np.isnan(rows[:, 0]), np.int32(MISSING), np.int32(PRESENT))
