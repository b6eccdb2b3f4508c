"""Rows on their way into counts: columns in the form that the kernels take, whole, reordered, or in part."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from kldrift.records.types import CodeArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a batch.

    Parameters
    ----------
    columns : float64 values or int32 codes, (n_rows,) each
    vectors : (n_rows, d) float64 by feature index; a missing one is all NaN
    slots : (n_rows,) int32, the group of each row, -1 to leave the row out; None: all rows are in group 0
    invalid : (feature index, rows) of the invalid values, which the columns hold as missing
    counts : (n_cells,) in place of columns: the counts of all rows, which belong to one pane and group
    """

    n_rows: int
    columns: tuple[FloatArray | CodeArray, ...]
    vectors: Mapping[int, FloatArray]
    slots: CodeArray | None
    invalid: tuple[tuple[int, IntArray], ...]
    counts: IntArray | None = None

    def without(self, left_out: npt.NDArray[np.bool_]) -> "Rows":
        """Return the same rows, with some of them left out of every group."""
        slots = np.zeros(self.n_rows, dtype=np.int32) if self.slots is None else self.slots.copy()
        slots[left_out] = -1
        return replace(self, slots=slots)

    def ordered(self, order: IntArray) -> "Rows":
        """Return the rows numbered `order`, in that order."""
        invalid = [(f, np.flatnonzero(np.isin(order, bad_rows))) for f, bad_rows in self.invalid]
        return Rows(
            order.size,
            tuple(column[order] for column in self.columns),
            {f: values[order] for f, values in self.vectors.items()},
            None if self.slots is None else self.slots[order],
            tuple(invalid),
        )

    def part(self, start: int, stop: int) -> "Rows":
        """Return the rows from `start` up to but not including `stop`."""
        if start == 0 and stop == self.n_rows:
            return self
        inside = [(f, rows[(rows >= start) & (rows < stop)] - start) for f, rows in self.invalid]
        return Rows(
            stop - start,
            tuple(column[start:stop] for column in self.columns),
            {f: values[start:stop] for f, values in self.vectors.items()},
            None if self.slots is None else self.slots[start:stop],
            tuple(inside),
        )

    def in_panes(self, panes: CodeArray, n_slots: int) -> "Rows":
        """Return the rows with one group for each pair of a pane (number, (n_rows,)) and a present group."""
        return replace(self, slots=panes if self.slots is None else panes * np.int32(n_slots) + self.slots)
