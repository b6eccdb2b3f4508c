"""What a kind of feature answers; `numeric`, `categorical`, `vector` and `posterior` are one file each.

Generic code asks a `Shape` and never compares the name of a kind. The questions are six: what to decode, which cells
there are, how a reference is made from a column, what a reference lacks, how many samples a window needs, and, where
cells do not tell enough, how a window is judged by its moments.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from kldrift.drift.kinds.coverage import Coverage
from kldrift.errors import ReferenceProblem
from kldrift.kernels.bin_table import CategoryBins, NumericBins
from kldrift.kernels.moments import Moments
from kldrift.records.kinds import Kind
from kldrift.records.samples import CategoricalColumn, FeatureSchema, Vocabulary
from kldrift.records.snapshots import Spread
from kldrift.records.specs import FeatureSpec
from kldrift.records.types import CodeArray, FloatArray, IntArray

#: A column of data, as it is read; and as it is counted: numbers, codes of categories, or vectors (n_rows, d).
Column = FloatArray | CategoricalColumn
Values = FloatArray | CodeArray


class Shape(Protocol):
    """The part of a reference that depends on the kind of feature: which values it has and where they are counted."""

    kind: ClassVar[Kind]

    # --- what to decode --------------------------------------------------------------------------

    def schema(self, name: str, vocabulary: Vocabulary | None = None) -> FeatureSchema:
        """Return what to decode: codes of the reference's categories, or of a vocabulary in their place."""
        ...

    def new_vocabulary(self) -> Vocabulary | None:
        """Return what tells the values apart while, and after, the reference is learned; None for numbers."""
        ...

    # --- cells -----------------------------------------------------------------------------------

    @property
    def edges(self) -> FloatArray | None:
        """(n_bins + 1,) edges of the bins, None where there are none."""
        ...

    @property
    def categories(self) -> tuple[str, ...] | None:
        """Categories with a cell of their own, None where there are none."""
        ...

    @property
    def cells(self) -> tuple[str, ...]:
        """Names of the cells in order; the last `STRUCTURAL_CELLS` lie behind the bins."""
        ...

    @property
    def cell_order(self) -> IntArray | None:
        """The cells in the order of the values; None where the values have no order."""
        ...

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The smallest and largest value of the reference; None where that is unknown, and for what are no numbers."""
        ...

    @property
    def beyond(self) -> tuple[tuple[int, int], ...]:
        """The cells of values beyond an open end, with the bin that they belong to when counts are compared."""
        ...

    @property
    def open_ended(self) -> bool:
        """Whether values that the reference never had may count in its cells, so that their share is unknown."""
        ...

    @property
    def expected_new(self) -> float:
        """Share of values that the reference never had to expect where nothing drifts; NaN where that is unknown."""
        ...

    @property
    def coverage(self) -> Coverage | None:
        """How much the reference may have missed; None where that is unknown, or no cell depends on it."""
        ...

    def bins(self, vocabulary: Vocabulary | None = None) -> NumericBins | CategoryBins:
        """Return what the fill kernel needs to count values, or codes of the vocabulary."""
        ...

    def identity(self) -> list[object]:
        """Return what the hash of the bins is made of."""
        ...

    def estimated(self) -> list[object]:
        """Return what the hash of the reference is made of besides bins, counts and probabilities."""
        ...

    # --- a reference from a column ---------------------------------------------------------------

    @classmethod
    def preliminary(cls, spec: FeatureSpec) -> Self:
        """Return the shape of a feature before there is any data."""
        ...

    @classmethod
    def with_cells(cls, spec: FeatureSpec, cells: FloatArray | tuple[str, ...]) -> Self:
        """Return the shape with bins between these edges, or with these categories; vectors have neither."""
        ...

    @classmethod
    def from_column(cls, spec: FeatureSpec, column: Column) -> Self:
        """Choose the cells for a column.

        Raises
        ------
        ReferenceProblem
            the column does not suit the feature
        """
        ...

    def values(self, column: Column) -> Values:
        """Return the column as its values are decoded."""
        ...

    def fitted(self, values: Values) -> tuple[Self, str | None]:
        """Return this shape with what it estimates from all values, and why that failed, if it did."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return what a reference file holds of this shape."""
        ...

    @classmethod
    def from_json(cls, name: str, item: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned.

        Raises
        ------
        KeyError, TypeError, ValueError, ReferenceProblem
            it is damaged
        """
        ...

    # --- what it can support ---------------------------------------------------------------------

    @property
    def samples_needed(self) -> int:
        """Minimum number of samples for a window to be judged; 0 where that depends on the bins it fills."""
        ...

    def problem(self, held: FloatArray | IntArray) -> str | None:
        """Return why a reference with these counts or probabilities supports no verdict, None if it does."""
        ...

    @property
    def limits(self) -> tuple[str, ...]:
        """What the reference cannot show, one sentence each, without its full stop."""
        ...

    @property
    def moments(self) -> "MomentShape | None":
        """How windows are judged by moments; None where they are judged by their counts."""
        ...


class MomentShape(Protocol):
    """How a feature is judged whose values are vectors: by mean and covariance, while its cells tell who is missing."""

    @property
    def size(self) -> int:
        """Length of the rows whose moments are kept."""
        ...

    @property
    def full(self) -> bool:
        """Whether the products of deviations are kept as well as their squares."""
        ...

    @property
    def spread(self) -> Spread | None:
        """How the samples of the reference vary; None where it is not known."""
        ...

    def rows(self, values: FloatArray) -> FloatArray:
        """Return the rows (n, size) whose moments are kept, NaN throughout where missing."""
        ...

    def known(self, mean: float, std: float) -> Shape:
        """Return this shape compared with N(mean, std^2) in every dimension, independently."""
        ...

    def bound(self, live: Moments, z_quantile: float, thresholds: FloatArray) -> Mapping[str, FloatArray]:
        """Return the KL of live moments and its bounds, as `gaussian_bounds.bound_gaussian` does; empty for unknown."""
        ...

    def dimension_kl(self, live: Moments) -> FloatArray:
        """Return the KL of each dimension by itself, (..., d), nats."""
        ...


def require_values(n: int) -> None:
    """Raise `ReferenceProblem` where a column holds nothing but missing values."""
    if n == 0:
        raise ReferenceProblem("expected at least one value that is not missing, got none; use another reference")


def constant_problem(cells: tuple[str, ...], held: FloatArray | IntArray) -> str | None:
    """Return the problem of a reference that lies in one cell: it says nothing about how the values spread."""
    if np.count_nonzero(held) != 1:
        return None
    return (
        f"the reference is constant: all of it lies in {cells[int(np.argmax(held))]!r};"
        " use a reference in which the feature varies, other bins, or remove the feature"
    )
