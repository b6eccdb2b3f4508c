"""Categorical features: a cell for each frequent category, then other, unseen, missing and invalid."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from kldrift.drift.binning import CATEGORICAL_FLOW, MIN_CELL_COUNT, categorical_cells
from kldrift.drift.kinds.base import Column, Values, constant_problem, require_values
from kldrift.drift.kinds.coverage import Coverage
from kldrift.kernels.bin_table import CategoryBins
from kldrift.records.categories import CategoryCodes
from kldrift.records.kinds import Kind
from kldrift.records.samples import CategoricalColumn, FeatureSchema, Vocabulary
from kldrift.records.specs import FeatureSpec
from kldrift.records.types import FloatArray, IntArray

#: Maximum number of rare categories whose names are kept, so that each can be told from a value never seen before. A
#: reference with more of them counts every further value as *other*. A name takes 700 bytes in the tables of decoders.
MAX_FOLDED = 10_000

#: Maximum number of distinct values told apart while a reference is learned.
MAX_LEARNED_VALUES = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class Categorical:
    """Categories, counted one by one.

    Parameters
    ----------
    categories : those with a cell of their own
    folded : rare ones that share the cell *other*
    open_ended : the reference has more rare categories than are kept by name: any further value is *other*, and how
        many are *unseen* is unknown
    coverage : how much the reference may have missed; None where that is unknown, or nothing was folded
    """

    categories: tuple[str, ...]
    folded: tuple[str, ...] = ()
    open_ended: bool = False
    coverage: Coverage | None = None

    kind: ClassVar[Kind] = "categorical"
    edges: ClassVar[None] = None
    cell_order: ClassVar[None] = None
    value_range: ClassVar[None] = None
    beyond: ClassVar[tuple[()]] = ()
    samples_needed: ClassVar[int] = 0
    moments: ClassVar[None] = None

    @classmethod
    def preliminary(cls, spec: FeatureSpec) -> Self:
        return cls(())

    @classmethod
    def with_cells(cls, spec: FeatureSpec, cells: FloatArray | tuple[str, ...]) -> Self:
        return cls(tuple(map(str, cells)))

    @classmethod
    def from_column(cls, spec: FeatureSpec, column: Column) -> Self:
        assert isinstance(column, CategoricalColumn)
        present = column.codes[column.codes >= 0]
        require_values(present.size)
        counts = np.bincount(present, minlength=len(column.values))
        order = sorted(range(len(column.values)), key=lambda i: (-counts[i], column.values[i]))
        own = [i for i in order if counts[i] >= MIN_CELL_COUNT][: spec.max_categories]
        own_set = set(own)
        folded = [i for i in order if i not in own_set and counts[i] > 0]
        return cls(
            categories=tuple(column.values[i] for i in own),
            folded=tuple(column.values[i] for i in folded[:MAX_FOLDED]),
            open_ended=len(folded) > MAX_FOLDED,
        )

    @classmethod
    def from_json(cls, name: str, item: Mapping[str, Any]) -> Self:
        coverage = Coverage.from_json(item["coverage"]) if "coverage" in item else None
        return cls(tuple(item["categories"]), tuple(item["other"]), bool(item["other_is_open"]), coverage)

    def to_json(self) -> dict[str, Any]:
        known = {} if self.coverage is None else {"coverage": self.coverage.to_json()}
        return {"categories": self.categories, "other": self.folded, "other_is_open": self.open_ended, **known}

    def schema(self, name: str, vocabulary: Vocabulary | None = None) -> FeatureSchema:
        if vocabulary is not None:
            return FeatureSchema(name, "categorical", vocabulary=vocabulary)
        return FeatureSchema(name, "categorical", (*self.categories, *self.folded))

    def new_vocabulary(self) -> Vocabulary:
        return Vocabulary(MAX_LEARNED_VALUES)

    @property
    def cells(self) -> tuple[str, ...]:
        return categorical_cells(self.categories)

    def bins(self, vocabulary: Vocabulary | None = None) -> CategoryBins:
        own = len(self.categories)
        unknown = own if self.open_ended else own + 1
        if vocabulary is None:  # the codes are those of the categories, frequent ones first
            lookup = np.full(own + len(self.folded) + 2, own, dtype=np.int32)
            lookup[:own] = np.arange(own)
            lookup[-2] = unknown
        else:
            cells = [*range(own), *[own] * len(self.folded), unknown]
            codes = CategoryCodes((*self.categories, *self.folded), len(cells) - 1, len(cells) - 1)
            lookup = np.full(vocabulary.limit + 2, unknown, dtype=np.int32)
            for code, text in enumerate(vocabulary.texts):
                lookup[code] = cells[codes[text]]
        lookup[-1] = own + 2
        return CategoryBins(lookup, own + len(CATEGORICAL_FLOW))

    def identity(self) -> list[object]:
        return [self.kind, None, self.categories, self.folded, self.open_ended]

    def estimated(self) -> list[object]:
        return [] if self.coverage is None else [self.coverage.to_json()]

    def values(self, column: Column) -> Values:
        assert isinstance(column, CategoricalColumn)
        schema = self.schema("")
        codes = CategoryCodes(schema.categories, schema.unseen_code, schema.missing_code)
        recode = [codes[text] for text in column.values]
        return np.array([*recode, schema.missing_code], dtype=np.int32)[column.codes]

    def fitted(self, values: Values) -> tuple[Self, None]:
        if not self.folded or self.open_ended:
            return self, None
        codes = values[values < len(self.categories) + len(self.folded)].astype(np.int32, copy=False)
        return replace(self, coverage=Coverage.of(codes, len(self.categories)) if codes.size else None), None

    @property
    def expected_new(self) -> float:
        if self.coverage is not None:
            return self.coverage.expected
        return float("nan") if self.folded else 0.0

    @property
    def limits(self) -> tuple[str, ...]:
        if self.folded and self.coverage is None and not self.open_ended:
            return ("the reference file does not say how many new values to expect: build it again",)
        if not self.open_ended:
            return ()
        known = f"only the names of {MAX_FOLDED:,} rare categories are kept, and the reference has more"
        return (f"the share of new values is unknown: {known}",)

    def problem(self, held: FloatArray | IntArray) -> str | None:
        return constant_problem(self.cells, held)
