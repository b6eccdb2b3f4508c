"""Rows on their way into counts: columns as the kernels take them, whole, in another order, or a part of them."""

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
    vectors : (n_rows, d) float64 by feature index, NaN throughout where missing
    slots : (n_rows,) int32, the group of each row, -1 to leave it out; None: all in group 0
    invalid : (feature index, rows) of values that the columns hold as missing, and that are not
    counts : (n_cells,) of all rows, which are in one pane and group, in place of columns
    """

    n_rows: int
    columns: tuple[FloatArray | CodeArray, ...]
    vectors: Mapping[int, FloatArray]
    slots: CodeArray | None
    invalid: tuple[tuple[int, IntArray], ...]
    counts: IntArray | None = None

    def without(self, left_out: npt.NDArray[np.bool_]) -> "Rows":
        """The same rows, some of them left out of every group."""
        slots = np.zeros(self.n_rows, dtype=np.int32) if self.slots is None else self.slots.copy()
        slots[left_out] = -1
        return replace(self, slots=slots)

    def ordered(self, order: IntArray) -> "Rows":
        """The rows `order`, one behind the other."""
        invalid = [(f, np.flatnonzero(np.isin(order, bad_rows))) for f, bad_rows in self.invalid]
        return Rows(
            order.size,
            tuple(column[order] for column in self.columns),
            {f: values[order] for f, values in self.vectors.items()},
            None if self.slots is None else self.slots[order],
            tuple(invalid),
        )

    def part(self, start: int, stop: int) -> "Rows":
        """The rows from `start` to before `stop`."""
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
        """The rows in one group for each pane (its number, (n_rows,)) and group of before."""
        return replace(self, slots=panes if self.slots is None else panes * np.int32(n_slots) + self.slots)
