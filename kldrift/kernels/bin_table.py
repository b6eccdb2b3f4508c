"""The bins of all features, laid out for `fill_counts`.

A numeric value x is located in two steps. A *guide* maps x to the number of thresholds that are certainly at or below
it, and a binary search over the few thresholds in that guide cell does the rest. The guide cell of x is

    y    = min(max(x, low), high) - center
    key  = sign(y) (bits(|y| + scale) - bits(scale))
    cell = (key >> shift) - first

with bits() the bit pattern of a float64: linear in y where ``|y| < scale``, logarithmic beyond. It uses only operations
that IEEE rounds monotonically, and no product (which could be fused), so a threshold in a lower cell than x is below x
however things are rounded: the result equals `numpy.searchsorted` for any edges. Center, scale and the number of cells
are chosen for each feature so that one comparison is enough if possible; with a single cell the same code is a plain
binary search.

Layout of the counts of a feature: its B bins or categories, followed by underflow, overflow, missing, invalid (numeric)
or other, unseen, missing, invalid (categorical). `fill_counts` counts invalid values as missing; `move_invalid` moves
them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kldrift.kernels.arguments import tuple_type
from kldrift.records.kinds import STRUCTURAL_CELLS
from kldrift.records.types import CodeArray, FloatArray, IntArray

_LARGEST = float(np.finfo(np.float64).max)
_MOST_GUIDE_CELLS = 1 << 16
# Guides of up to 2,048 cells (8 kB) leave room in the L1 cache; a larger one only pays if it saves a search step.
_FREE_GUIDE_CELLS = 1 << 11
_SCALE_EXPONENTS = np.array([0, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 32, 40])


@dataclass(frozen=True, slots=True)
class NumericBins:
    """Bins [a, b) between edges, the last one [a, b].

    Parameters
    ----------
    edges : (B + 1,) strictly increasing, both ends may be infinite
    low, high : where an end is infinite, values of its bin below `low` or above `high` count as underflow or overflow
    """

    edges: FloatArray
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True, slots=True)
class CategoryBins:
    """Cells of categories: `lookup` (K + 2,) int32 maps each code, unseen (K) and missing (K + 1) to one."""

    lookup: CodeArray
    n_cells: int


class BinTable(NamedTuple):
    """The bins of F features as flat, read-only arrays; `make_bin_table` makes one.

    Parameters
    ----------
    offsets : (F + 1,) int64; feature f owns cells ``offsets[f]:offsets[f + 1]`` of the counts
    numeric : (F,) bool; otherwise categorical
    guide_starts : (F + 1,) int64; feature f owns ``guides[guide_starts[f]:guide_starts[f + 1]]``
    guides : uint32; numeric: from guide cell to number of thresholds certainly passed; categorical: from code to cell
    threshold_starts : (F + 1,) int64
    thresholds : float64; a value passes a threshold by being >= it; padded with NaN, which no value passes
    scales : (F, 4) float64: low, high, center, scale
    shifts : (F, 4) int64: bits(scale), shift, first, steps of the binary search
    """

    offsets: IntArray
    numeric: npt.NDArray[np.bool_]
    guide_starts: IntArray
    guides: npt.NDArray[np.uint32]
    threshold_starts: IntArray
    thresholds: FloatArray
    scales: FloatArray
    shifts: IntArray


#: The type of a `BinTable` in kernels.
TABLE = tuple_type(BinTable, scales=2, shifts=2)


class _Guide(NamedTuple):
    cells: npt.NDArray[np.uint32]
    scales: tuple[float, float, float, float]
    shifts: tuple[int, int, int, int]


def make_bin_table(features: Sequence[NumericBins | CategoryBins]) -> BinTable:
    """Lay out the bins of `features` for `fill_counts`.

    Raises
    ------
    ValueError : edges are not strictly increasing, too few, or NaN; a lookup points outside its cells
    """
    n_cells, guides, thresholds = [], [], []
    scales = np.zeros((len(features), 4))
    shifts = np.zeros((len(features), 4), dtype=np.int64)
    known: dict[bytes, _Guide] = {}  # features often share their edges
    for index, feature in enumerate(features):
        if isinstance(feature, NumericBins):
            passed = _thresholds(feature, index)
            # Open ends stay out of the guide's range, wherever the values that count there begin.
            inner = passed[np.isfinite(feature.edges)]
            key = inner.tobytes() + passed.tobytes()
            guide = known.get(key) or known.setdefault(key, _make_guide(passed, inner))
            scales[index], shifts[index] = guide.scales, guide.shifts
            n_cells.append(len(passed) - 1 + STRUCTURAL_CELLS)
            guides.append(guide.cells)
            thresholds.append(np.concatenate([passed, np.full((1 << guide.shifts[3]) - 1, np.nan)]))
        else:
            n_cells.append(feature.n_cells)
            guides.append(_lookup(feature, index))
            thresholds.append(np.empty(0))
    table = BinTable(
        offsets=_starts(n_cells),
        numeric=np.array([isinstance(feature, NumericBins) for feature in features], dtype=np.bool_),
        guide_starts=_starts([len(guide) for guide in guides]),
        guides=np.concatenate([np.empty(0, dtype=np.uint32), *guides]),
        threshold_starts=_starts([len(passed) for passed in thresholds]),
        thresholds=np.concatenate([np.empty(0), *thresholds]),
        scales=scales,
        shifts=shifts,
    )
    for array in table:
        array.flags.writeable = False
    return table


def _starts(sizes: Sequence[int]) -> IntArray:
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)


def _thresholds(feature: NumericBins, index: int) -> FloatArray:
    """Return the thresholds from each cell to the next: underflow, the bins, overflow.

    An open end begins at `low` or `high`, though never within the next bin. Where it has no room, two are equal.
    """
    edges = np.asarray(feature.edges, dtype=np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not np.all(edges[1:] > edges[:-1]):
        raise ValueError(f"feature {index}: expected 2 or more strictly increasing edges, got {edges!r}")
    thresholds = edges.copy()
    with np.errstate(over="ignore", under="ignore"):
        thresholds[-1] = np.nextafter(edges[-1], np.inf)  # so that the last bin is closed
        if np.isposinf(edges[-1]):
            thresholds[-1] = max(edges[-2], np.nextafter(feature.high, np.inf))
        if np.isneginf(edges[0]):
            thresholds[0] = min(thresholds[1], max(feature.low, -_LARGEST))  # so that -inf stays below
    return thresholds


def _lookup(feature: CategoryBins, index: int) -> npt.NDArray[np.uint32]:
    lookup = np.asarray(feature.lookup)
    if lookup.ndim != 1 or len(lookup) < 2 or lookup.min() < 0 or lookup.max() >= feature.n_cells:
        raise ValueError(
            f"feature {index}: expected a cell from 0 to {feature.n_cells - 1} for each code, unseen and missing, "
            f"got {lookup!r}"
        )
    return lookup.astype(np.uint32)


def _make_guide(thresholds: FloatArray, inner: FloatArray) -> _Guide:
    """Return the cheapest guide found: fewest search steps, then fewest cells.

    Parameters
    ----------
    inner : the thresholds that it is to tell apart; the end cells and the search handle those beyond
    """
    best = _Guide(np.zeros(1, dtype=np.uint32), (0.0, 0.0, 0.0, 1.0), (_bits(1.0), 0, 0, len(thresholds).bit_length()))
    inner = inner[np.abs(inner) <= 1e300]  # others are as good as infinite
    if len(inner) < 2:
        return best
    low = 2 * inner[0] - inner[1]
    high = 2 * inner[-1] - inner[-2]
    centers = np.unique([inner[0], inner[len(inner) // 2], inner[-1], min(max(0.0, low), high)])
    widest = np.ldexp(1.0, int(np.frexp(high - low)[1]))
    scale = np.maximum(np.ldexp(widest, -_SCALE_EXPONENTS), 5e-324).repeat(len(centers))
    candidates = np.stack(
        [np.full_like(scale, low), np.full_like(scale, high), np.tile(centers, len(_SCALE_EXPONENTS)), scale], axis=1
    )
    keys = _keys(thresholds, candidates)
    ends = np.stack([_keys(candidates[:, end], candidates, paired=True) for end in (0, 1)])
    size = 1 << (2 * len(thresholds)).bit_length()
    best_cost = float(_cost(np.array([best.shifts[3]]), np.array([1]))[0])
    while size <= max(_MOST_GUIDE_CELLS, 1 << (4 * len(thresholds)).bit_length()):
        spread = ends[1].astype(np.float64) - ends[0].astype(np.float64)
        shift = np.maximum(np.frexp(spread / size)[1], 0).astype(np.int64)
        first = ends[0] >> shift
        n_cells = (ends[1] >> shift) - first + 1
        cells = (keys >> shift[:, np.newaxis]) - first[:, np.newaxis]
        steps = _search_steps(cells)
        costs = _cost(steps, n_cells)
        winner = int(np.argmin(costs))
        if costs[winner] < best_cost:
            best_cost = float(costs[winner])
            passed = np.searchsorted(cells[winner], np.arange(n_cells[winner]))
            low_, high_, center, scale = (float(value) for value in candidates[winner])
            best = _Guide(
                passed.astype(np.uint32),
                (low_, high_, center, scale),
                (_bits(scale), int(shift[winner]), int(first[winner]), int(steps[winner])),
            )
        if best.shifts[3] == 1:
            break
        size *= 4
    return best


def _cost(steps: IntArray, n_cells: IntArray) -> FloatArray:
    """Return the relative time per sample: a search step takes about a third, a guide beyond the L1 cache a fifth."""
    return 2.0 + steps + 0.6 * np.maximum(0.0, np.log2(n_cells / _FREE_GUIDE_CELLS)) + n_cells * 1e-7


def _bits(value: float) -> int:
    return int(np.float64(value).view(np.int64))


def _keys(values: FloatArray, candidates: FloatArray, paired: bool = False) -> IntArray:
    """Return the key of each value under each candidate (n_candidates, n_values); `paired`: value i under candidate i.

    These are the kernel's operations, in the same order.
    """
    low, high, center, scale = candidates.T if paired else candidates.T[:, :, np.newaxis]
    shifted = np.minimum(np.maximum(values, low), high) - center
    keys = (np.abs(shifted) + scale).view(np.int64) - np.ascontiguousarray(scale).view(np.int64)
    return np.asarray(np.where(shifted < 0, -keys, keys), dtype=np.int64)


def _search_steps(cells: IntArray) -> IntArray:
    """Return the steps (at least 1) to search the thresholds of the fullest cell, for each row of sorted cells."""
    steps = np.ones(len(cells), dtype=np.int64)
    for step in range(1, cells.shape[1].bit_length()):
        together = (1 << step) - 1
        crowded = (cells[:, together:] == cells[:, :-together]).any(axis=1)
        steps[crowded] = step + 1
    return steps
