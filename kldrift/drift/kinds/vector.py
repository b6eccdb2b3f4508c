"""Vectors: compared with a normal distribution by mean and covariance; their cells are present, missing, invalid."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import ndtr, ndtri

from kldrift.drift.binning import CATEGORICAL_FLOW, categorical_cells
from kldrift.drift.kinds.base import Column, MomentShape, Values
from kldrift.drift.kinds.constants import ConstantDimensions
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
    constants : dimensions that are constant in the reference, which `gaussian` leaves out
    """

    dimensions: int
    full: bool = False
    gaussian: GaussianReference | None = None
    constants: ConstantDimensions | None = None

    kind: ClassVar[Kind] = "vector"
    edges: ClassVar[None] = None
    categories: ClassVar[tuple[str, ...]] = ("present",)
    cells: ClassVar[tuple[str, ...]] = categorical_cells(categories)
    cell_order: ClassVar[None] = None
    value_range: ClassVar[None] = None
    beyond: ClassVar[tuple[()]] = ()
    open_ended: ClassVar[bool] = False
    coverage: ClassVar[None] = None
    expected_new: ClassVar[float] = float("nan")

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
        found = item.get("constant")  # absent before they were left out
        size = int(item["dimensions"])
        constants = None if found is None else ConstantDimensions.from_json(size, found)
        if gaussian.dimensions != size - (0 if constants is None else constants.dimensions.size):
            raise ReferenceProblem(f"expected a mean for each of {size} dimensions that vary; make the reference again")
        return cls(size, gaussian.kind == "full", gaussian, constants)

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
            **({} if self.constants is None else {"constant": self.constants.to_json()}),
        }

    def schema(self, name: str, vocabulary: Vocabulary | None = None) -> FeatureSchema:
        return FeatureSchema(name, "vector", dimensions=self.dimensions)

    def new_vocabulary(self) -> None:
        return None

    def bins(self, vocabulary: Vocabulary | None = None) -> CategoryBins:
        return CategoryBins(np.array([0, 2, 3], dtype=np.int32), 1 + len(CATEGORICAL_FLOW))

    def identity(self) -> list[object]:
        # what the moments of a constant dimension count depends on its value
        constants = [] if self.constants is None else [self.constants.to_json()]
        return [self.kind, None, self.categories, (), False, self.dimensions, self.full, *constants]

    def estimated(self) -> list[object]:
        return [] if self.gaussian is None else [self.gaussian.digest()]

    def values(self, column: Column) -> Values:
        assert not isinstance(column, CategoricalColumn)
        return np.ascontiguousarray(column, dtype=np.float64)

    def fitted(self, values: Values) -> tuple[Self, str | None]:
        rows = np.asarray(values, dtype=np.float64)
        constants = ConstantDimensions.of(rows, self.full)
        try:
            gaussian = GaussianReference.from_vectors(
                rows if constants is None else rows[:, constants.varying], self.covariance
            )
        except ReferenceProblem as problem:
            return replace(self, gaussian=None, constants=None), str(problem)
        return replace(self, gaussian=gaussian, constants=constants), None

    @property
    def samples_needed(self) -> int:
        varying = self.dimensions if self.constants is None else self.constants.varying.size
        return SAMPLES_PER_BIN * (degrees_of_freedom(varying, self.covariance) + 1)

    @property
    def limits(self) -> tuple[str, ...]:
        return () if self.constants is None else self.constants.sentences

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
        return values if self.constants is None else self.constants.marked(values)

    def known(self, mean: float, std: float) -> "Vector":
        return replace(self, gaussian=GaussianReference.standard(self.dimensions, mean, std, self.covariance))

    def bound(self, live: Moments, z_quantile: float, thresholds: FloatArray) -> Mapping[str, FloatArray]:
        if self.gaussian is None:
            return {}
        constants = self.constants
        if constants is None:
            return bound_gaussian(live.n, live.mean, live.second, self.gaussian, z_quantile, thresholds)
        # each of the two statements has half of the error probability, and either is enough
        shared = -float(ndtri(ndtr(-z_quantile) / 2))
        own = constants.varying_moments(live)
        found = bound_gaussian(own.n, own.mean, own.second, self.gaussian, shared, thresholds)
        moved = constants.bound(live, self.gaussian.rows, self.gaussian.spread, shared, thresholds)
        for name in ("kl", "plug_in"):
            found[name] = np.maximum(found[name], moved["kl"])
        for name in ("lower", "upper"):
            found[name] = np.maximum(found[name], moved[name])
        for name in ("log10_p_warning", "log10_p_critical"):
            found[name] = np.minimum(0.0, np.minimum(found[name], moved[name]) + np.log10(2))
        return found

    def dimension_kl(self, live: Moments) -> FloatArray:
        if self.gaussian is None:
            return np.full(live.mean.shape, np.nan)
        constants = self.constants
        if constants is None:
            return dimension_kl(live, self.gaussian)
        out = np.empty(live.mean.shape)
        out[..., constants.varying] = dimension_kl(constants.varying_moments(live), self.gaussian)
        of_constants = constants.kl(live, self.gaussian.rows)
        out[..., constants.dimensions] = np.where(live.n[..., np.newaxis] > 1, of_constants, np.nan)
        return out


def presence(rows: FloatArray) -> CodeArray:
    """Return the code of each vector (n, d) among its cells: NaN in the first element is missing."""
    return np.where(np.isnan(rows[:, 0]), np.int32(MISSING), np.int32(PRESENT))
