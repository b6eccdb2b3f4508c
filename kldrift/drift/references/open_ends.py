"""Values beyond the range of a reference: counted in cells of their own, compared as part of the outermost bins."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from kldrift.drift.kinds.base import Shape
from kldrift.records.types import FloatArray, IntArray

Counts = TypeVar("Counts", IntArray, FloatArray)


class OpenEnds:
    """Where the outermost bins are open, the cells for values beyond the reference's range, and those bins.

    A sample of m rows says next to nothing about how much of a distribution lies beyond its own minimum and maximum: on
    average 1/(m + 1) does on either side. A cell with such a probability would drift by itself wherever a tail is
    heavy. So the share of these values is a figure of its own, and the divergence is that of bins without an end.

    Parameters
    ----------
    shapes : those of the features, in the order of their cells
    """

    def __init__(self, shapes: Sequence[Shape]) -> None:
        starts = np.cumsum([0, *(len(shape.cells) for shape in shapes)])
        pairs = [start + np.array(shape.beyond) for start, shape in zip(starts, shapes, strict=False) if shape.beyond]
        # One after the other, because a feature with a single bin has both ends in that one.
        steps = [np.array([of_one[i] for of_one in pairs if i < len(of_one)], dtype=np.int64) for i in (0, 1)]
        self._steps = [step for step in steps if step.size]

    def fold(self, counts: Counts) -> Counts:
        """Return counts or probabilities (..., C) as they are compared: values beyond the range in the outermost bins.

        They are returned as they are where no bin is open.
        """
        if not self._steps:
            return counts
        compared = counts.copy()
        for step in self._steps:
            cells, bins = step.T
            compared[..., bins] += compared[..., cells]
            compared[..., cells] = 0
        return compared
