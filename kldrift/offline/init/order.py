"""Features that the order of the rows would leave undecided: sorted data, or parts that differ."""

from collections.abc import Iterable

import numpy as np
import polars as pl

from kldrift.datafiles.columns import Column
from kldrift.datafiles.sample import Sample
from kldrift.drift.references.data import build_references
from kldrift.drift.references.support import order_problem
from kldrift.errors import ReferenceProblem
from kldrift.offline.init.kinds import Guess
from kldrift.records.samples import CategoricalColumn
from kldrift.records.texts import listed
from kldrift.records.types import FloatArray


def order_note(sample: Sample, guesses: Iterable[Guess]) -> str | None:
    """Return what to do about features that are undecided in the order of the file; None if there are none."""
    columns = {column.name: column for column in sample.columns}
    found = [guess.name for guess in guesses if _is_in_order_of_itself(guess, columns[guess.name])]
    if not found:
        return None
    return (
        f"{listed(found)}: undecided in this order of the rows, which seem sorted, or joined from different parts; give"
        " a timestamp that the file has as well, or shuffle the file if its rows are independent"
    )


def _is_in_order_of_itself(guess: Guess, column: Column) -> bool:
    feature = guess.feature
    if feature is None or feature.kind not in ("numeric", "categorical") or feature.of is not None:
        return False
    values = _numbers(column.values) if feature.kind == "numeric" else _categories(column.values)
    try:
        (reference,) = build_references([feature], [values], 0, "")
    except ReferenceProblem:
        return False
    return order_problem(reference, feature.critical) is not None


def _numbers(values: pl.Series) -> FloatArray:
    return values.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()


def _categories(values: pl.Series) -> CategoricalColumn:
    texts = values.cast(pl.String, strict=False)
    names = texts.drop_nulls().unique().sort()
    codes = texts.rank("dense").cast(pl.Int32).fill_null(0).to_numpy() - 1
    return CategoricalColumn(tuple(names.to_list()), codes.astype(np.int32))
