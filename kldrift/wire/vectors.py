"""From lists of numbers to a matrix: what is a vector, and how what is not is described, in every format."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from kldrift.records.types import FloatArray, IntArray
from kldrift.wire.plan import Vector
from kldrift.wire.tables import Invalid

NOT_FINITE: Final = "a list with null, NaN or Inf"


def wrong_length(length: int) -> str:
    """Describe a list of another length in a message."""
    return f"a list of {length}"


def vectors_from_flat(
    numbers: FloatArray, fits: npt.NDArray[np.bool_], size: int
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Make the column of vectors; also return which rows hold one, of finite numbers only.

    Parameters
    ----------
    numbers : the lists of `size` numbers, one after another, NaN for null; the column is a view of them where every
        row holds a vector
    fits : (n_rows,) bool, the rows that these lists belong to
    size : numbers of a vector
    """
    matrix = numbers.reshape(-1, size)
    if _all_finite(numbers):
        if len(matrix) == len(fits):
            return matrix, fits
        there = fits
    else:
        finite = np.isfinite(matrix).all(axis=1)
        there = fits.copy()
        there[fits] = finite
        matrix = matrix[finite]
    column = np.full((len(fits), size), np.nan)
    column[there] = matrix
    return column, there


def _all_finite(numbers: FloatArray) -> bool:
    """Return whether all are finite; a finite sum proves it in a third of the time."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(numbers.sum())) or bool(np.isfinite(numbers).all())


def invalid_lists(lengths: IntArray, there: npt.NDArray[np.bool_], vector: Vector) -> Invalid | None:
    """Return the lists that are not vectors.

    Parameters
    ----------
    lengths : (n_rows,) length of each list, negative where there is none
    there : (n_rows,) bool, the rows that hold a vector
    """
    rows = np.flatnonzero(~there & (lengths >= 0))
    if not len(rows):
        return None
    distinct, places = np.unique(lengths[rows], return_inverse=True)
    texts: Sequence[str] = [NOT_FINITE if n == vector.dimensions else wrong_length(n) for n in distinct.tolist()]
    return Invalid(vector.index, rows, [texts[place] for place in places.tolist()])
