"""Numeric features: bins between edges, then underflow, overflow, missing and invalid."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from kldrift.drift.binning import NUMERIC_FLOW, numeric_cells, numeric_edges, too_coarse
from kldrift.drift.kinds.base import Column, Values, constant_problem, require_values
from kldrift.kernels.bin_table import NumericBins
from kldrift.records.kinds import Kind
from kldrift.records.samples import CategoricalColumn, FeatureSchema, Vocabulary
from kldrift.records.specs import FeatureSpec
from kldrift.records.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Numeric:
    """Numbers, counted in bins.

    Parameters
    ----------
    edges : (n_bins + 1,) float64, strictly increasing; the outer ones may be infinite
    value_range : the smallest and largest finite value of the reference, or of what was declared in its place (edges, a
        family's support); None in files made before ranges were kept
    """

    edges: FloatArray
    value_range: tuple[float, float] | None = None

    kind: ClassVar[Kind] = "numeric"
    categories: ClassVar[None] = None
    samples_needed: ClassVar[int] = 0
    moments: ClassVar[None] = None
    open_ended: ClassVar[bool] = False
    coverage: ClassVar[None] = None
    expected_new: ClassVar[float] = float("nan")

    @classmethod
    def preliminary(cls, spec: FeatureSpec) -> Self:
        return cls(np.array([-np.inf, np.inf]), (-np.inf, np.inf))

    @classmethod
    def with_cells(cls, spec: FeatureSpec, cells: FloatArray | tuple[str, ...]) -> Self:
        edges = np.asarray(cells, dtype=np.float64)
        return cls(edges, (float(edges[0]), float(edges[-1])))

    @classmethod
    def from_column(cls, spec: FeatureSpec, column: Column) -> Self:
        assert not isinstance(column, CategoricalColumn)
        present = column[~np.isnan(column)]
        require_values(present.size)
        edges, finite = numeric_edges(spec.bins, present), present[np.isfinite(present)]
        return cls(edges, (float(finite.min()), float(finite.max())) if finite.size else None)

    @classmethod
    def from_json(cls, name: str, item: Mapping[str, Any]) -> Self:
        edges = np.array([float(edge) for edge in item["edges"]], dtype=np.float64)
        if edges.size < 2 or not np.all(np.diff(edges) > 0):
            raise ValueError(f"{name}: expected strictly increasing edges")
        if "range" not in item:  # a file made before ranges were kept
            return cls(edges)
        low, high = (float(end) for end in item["range"])
        if not low <= high:
            raise ValueError(f"{name}: expected a range [low, high], got {item['range']}")
        return cls(edges, (low, high))

    def to_json(self) -> dict[str, Any]:
        made: dict[str, Any] = {"edges": [_edge_to_json(edge) for edge in self.edges.tolist()]}
        return made if self.value_range is None else made | {"range": [_edge_to_json(end) for end in self.value_range]}

    def schema(self, name: str, vocabulary: Vocabulary | None = None) -> FeatureSchema:
        return FeatureSchema(name, "numeric")

    def new_vocabulary(self) -> None:
        return None

    @property
    def cells(self) -> tuple[str, ...]:
        return numeric_cells(self.edges)

    @property
    def cell_order(self) -> IntArray:
        n_bins = self.edges.size - 1
        return np.array([n_bins, *range(n_bins), *range(n_bins + 1, len(self.cells))])  # underflow is below the bins

    def bins(self, vocabulary: Vocabulary | None = None) -> NumericBins:
        return NumericBins(self.edges) if self.value_range is None else NumericBins(self.edges, *self.value_range)

    @property
    def beyond(self) -> tuple[tuple[int, int], ...]:
        if self.value_range is None:
            return ()
        n_bins = self.edges.size - 1
        below = ((n_bins, 0),) if self.edges[0] == -np.inf else ()
        above = ((n_bins + 1, n_bins - 1),) if self.edges[-1] == np.inf else ()
        return below + above

    def identity(self) -> list[object]:
        # without the range: counts that differ only in it are the same when they are compared
        return [self.kind, [float(edge).hex() for edge in self.edges], None, (), False]

    def estimated(self) -> list[object]:
        return [] if self.value_range is None else [[end.hex() for end in self.value_range]]

    def values(self, column: Column) -> Values:
        assert not isinstance(column, CategoricalColumn)
        return np.ascontiguousarray(column, dtype=np.float64)

    def fitted(self, values: Values) -> tuple[Self, None]:
        return self, None

    @property
    def limits(self) -> tuple[str, ...]:
        if self.value_range is not None or np.isfinite(self.edges[[0, -1]]).all():
            return ()
        return ("only infinite values count as out of range: the reference file has no range; build it again",)

    def problem(self, held: FloatArray | IntArray) -> str | None:
        if self.value_range is not None and (reason := too_coarse(*self.value_range)):
            return f"the reference has {reason}"
        if not np.any(held[: -len(NUMERIC_FLOW)] > 0):
            return (
                "no value of the reference lies within the bins;"
                " give edges or a range that overlap with it, or use quantile bins"
            )
        return constant_problem(self.cells, held)


def _edge_to_json(edge: float) -> float | str:
    return edge if np.isfinite(edge) else ("+Inf" if edge > 0 else "-Inf")
