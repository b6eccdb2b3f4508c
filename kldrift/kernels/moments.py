"""Streaming moments of vectors: how many, their mean, and the sum of squares (or products) of deviations from it."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import prange, types

from kldrift.kernels import compilation
from kldrift.kernels.memory import read_block, read_input, write_block
from kldrift.kernels.series import input_type, require_array
from kldrift.records.types import FloatArray, IntArray

#: Rows whose deviations are taken at once: of a tile of dimensions they stay in the L1 cache for the second pass.
BLOCK = 64
#: Rows of a block of full moments; the products are BLAS's, which wants large blocks.
FULL_BLOCK = 4096
#: Dimensions of a tile, at most; the tiles are shared among the threads.
TILE = 32
#: Fewer values than this in a batch are added by one thread.
PARALLEL_FROM_VALUES = 200_000

_ALL_IN_SLOT_0 = np.empty(0, dtype=np.int32)


class Moments(NamedTuple):
    """Moments of groups of vectors, groups on the leading axes; zeros where nothing has been added.

    Parameters
    ----------
    n : (...,) int64
    mean : (..., d) float64
    second : sum of squared deviations from the mean (..., d), or of their products (..., d, d)
    """

    n: IntArray
    mean: FloatArray
    second: FloatArray

    def at(self, index: int | slice | tuple[int | slice, ...]) -> "Moments":
        """Views of some groups."""
        return Moments(np.asarray(self.n[index]), self.mean[index], self.second[index])

    def copy(self) -> "Moments":
        """The same in arrays of their own."""
        return Moments(self.n.copy(), self.mean.copy(), self.second.copy())


def zero_moments(shape: tuple[int, ...], d: int, full: bool) -> Moments:
    """Moments of nothing, for groups of this shape."""
    return Moments(np.zeros(shape, np.int64), np.zeros((*shape, d)), np.zeros((*shape, d, d) if full else (*shape, d)))


@compilation.kernel(
    input_type(types.float64, 2),
    input_type(types.int32, 1),
    types.Array(types.int64, 1, "C"),
    types.Array(types.int64, 1, "C"),
)
def group_rows(values: FloatArray, slots: npt.NDArray[np.int32], order: IntArray, starts: IntArray) -> None:
    """The rows of slot s are ``order[starts[s]:starts[s + 1]]``, as they came, without missing ones."""
    n_slots = starts.size - 1
    starts[:] = 0
    for row in range(values.shape[0]):
        slot = slots[row] if slots.size else 0
        if slot >= 0 and values[row, 0] == values[row, 0]:
            starts[slot + 1] += 1
    for slot in range(n_slots):
        starts[slot + 1] += starts[slot]
    place = starts[:n_slots].copy()
    for row in range(values.shape[0]):
        slot = slots[row] if slots.size else 0
        if slot >= 0 and values[row, 0] == values[row, 0]:
            order[place[slot]] = row
            place[slot] += 1


@compilation.jit
def _add_tile(
    values: FloatArray,
    order: IntArray,
    starts: IntArray,
    first: int,
    last: int,
    n: IntArray,
    mean: FloatArray,
    second: FloatArray,
) -> None:
    """Dimensions first:last of all rows. Everything is relative to a slot's first row, hence of the size of a spread.

    Of each block the mean, then the deviations from it, then Chan's merge: mean 1e9 costs no digit of the variance.
    """
    d = mean.shape[1]
    width = last - first
    origin, offset, scatter = np.empty(width), np.empty(width), np.empty(width)
    center, linear, square = np.empty(width), np.empty(width), np.empty(width)
    for slot in range(starts.size - 1):
        stop = starts[slot + 1]
        if starts[slot] == stop:
            continue
        base = order[starts[slot]] * d + first
        for j in range(width):
            write_block(origin, j, read_input(values, base + j))
            write_block(offset, j, 0.0)
            write_block(scatter, j, 0.0)
        seen = 0
        for start in range(starts[slot], stop, BLOCK):
            rows = min(BLOCK, stop - start)
            center[:] = 0.0
            linear[:] = 0.0
            square[:] = 0.0
            for i in range(start, start + rows):
                base = order[i] * d + first
                for j in range(width):
                    x = read_input(values, base + j) - read_block(origin, j)
                    write_block(center, j, read_block(center, j) + x)
            for j in range(width):
                write_block(center, j, read_block(center, j) / rows)
            for i in range(start, start + rows):
                base = order[i] * d + first
                for j in range(width):
                    x = read_input(values, base + j) - read_block(origin, j) - read_block(center, j)
                    write_block(linear, j, read_block(linear, j) + x)
                    write_block(square, j, read_block(square, j) + x * x)
            share = rows / (seen + rows)
            for j in range(width):
                rest = read_block(linear, j) / rows  # what rounding left of the deviations' mean
                step = read_block(center, j) + rest - read_block(offset, j)
                own = read_block(square, j) - rest * read_block(linear, j)
                write_block(offset, j, read_block(offset, j) + step * share)
                write_block(scatter, j, read_block(scatter, j) + own + step * share * seen * step)
            seen += rows
        before = n[slot]
        share = seen / (before + seen)
        for j in range(width):
            step = origin[j] + offset[j] - mean[slot, first + j]
            mean[slot, first + j] += step * share
            second[slot, first + j] += scatter[j] + step * share * before * step


_ARGUMENTS = (
    input_type(types.float64, 1),
    input_type(types.int64, 1),
    input_type(types.int64, 1),
    input_type(types.int64, 1),
    input_type(types.int64, 1),
    types.Array(types.float64, 2, "C"),
    types.Array(types.float64, 2, "C"),
)


@compilation.parallel_kernel(*_ARGUMENTS)
def moments_parallel(
    values: FloatArray,
    order: IntArray,
    starts: IntArray,
    tiles: IntArray,
    n: IntArray,
    mean: FloatArray,
    second: FloatArray,
) -> None:
    """Tile i is dimensions tiles[i]:tiles[i + 1]; no two threads write the same."""
    for i in prange(tiles.size - 1):
        _add_tile(values, order, starts, tiles[i], tiles[i + 1], n, mean, second)


@compilation.kernel(*_ARGUMENTS)
def moments_serial(
    values: FloatArray,
    order: IntArray,
    starts: IntArray,
    tiles: IntArray,
    n: IntArray,
    mean: FloatArray,
    second: FloatArray,
) -> None:
    """All tiles on the calling thread."""
    for i in range(tiles.size - 1):
        _add_tile(values, order, starts, tiles[i], tiles[i + 1], n, mean, second)


def add_moments(
    values: FloatArray, slots: npt.NDArray[np.int32] | None, n: IntArray, mean: FloatArray, second: FloatArray
) -> None:
    """Add rows to the moments of S groups, in place.

    Two passes over each block of rows, blocks merged by Chan's formula: the error of the mean is some units in the
    last place, that of the variance does not depend on the mean. What overflows is infinite or NaN.

    Parameters
    ----------
    values : (n_rows, d) float64; a row whose first element is NaN is missing, and left out
    slots : (n_rows,) int32, the group of each row, negative to leave it out; None or empty: all in group 0
    n, mean, second : (S,) int64, (S, d) and (S, d) or (S, d, d) float64; see `Moments`

    Raises
    ------
    ValueError : another shape, type or memory layout than that

    References
    ----------
    Chan, Golub & LeVeque (1983).
    """
    if not compilation.is_warm():
        compilation.warm_up()
    if values.ndim != 2 or values.shape[1] < 1:
        raise ValueError(f"values: expected (n_rows, d) with d at least 1, got {values.shape}")
    n_rows, d = values.shape
    full = second.ndim == 3
    slots = _ALL_IN_SLOT_0 if slots is None else slots
    require_array("values", values, np.float64, (n_rows, d))
    require_array("slots", slots, np.int32, (n_rows,) if slots.size else (0,))
    require_array("n", n, np.int64, (len(n),))
    require_array("mean", mean, np.float64, (len(n), d))
    require_array("second", second, np.float64, (len(n), d, d) if full else (len(n), d))
    if slots.size and slots.max() >= len(n):
        raise ValueError(f"slots: expected groups below {len(n)}, got {slots.max()}")
    order, starts = np.empty(n_rows, np.int64), np.empty(len(n) + 1, np.int64)
    group_rows(values, slots, order, starts)
    if full:
        _add_products(values, order, starts, Moments(n, mean, second))
        return
    n_threads = compilation.thread_count()
    parallel = n_threads > 1 and values.size >= PARALLEL_FROM_VALUES
    tiles = _cut_dimensions(d, n_threads if parallel else 1)
    arguments = (values.reshape(-1), order, starts, tiles, n, mean, second)
    with compilation.ieee():
        if parallel:
            compilation.launch(moments_parallel, *arguments)
        else:
            moments_serial(*arguments)
    n += np.diff(starts)


def _cut_dimensions(d: int, n_threads: int) -> IntArray:
    """Boundaries of tiles: whole cache lines, and one for each thread where there are enough dimensions."""
    lines = -(-d // 8)
    width = min(TILE, 8 * -(-lines // n_threads))
    return np.append(np.arange(0, d, width), d)


def _add_products(values: FloatArray, order: IntArray, starts: IntArray, moments: Moments) -> None:
    """What `_add_tile` does, with products of deviations, which are BLAS's work."""
    with np.errstate(over="ignore", invalid="ignore"):
        for slot in np.flatnonzero(np.diff(starts)):
            rows = order[starts[slot] : starts[slot + 1]]
            origin = values[rows[0]]
            total = zero_moments((1,), values.shape[1], full=True)
            for start in range(0, rows.size, FULL_BLOCK):
                block = values[rows[start : start + FULL_BLOCK]] - origin
                center = block.mean(axis=0)
                block -= center
                merge_moments(total, Moments(np.array([len(block)]), center[None], (block.T @ block)[None]))
            total.mean[:] += origin
            merge_moments(moments.at(slice(slot, slot + 1)), total)


def merge_moments(into: Moments, other: Moments) -> None:
    """Add the moments of `other` to those of `into`, group by group; in any order and grouping to rounding.

    With D the difference of the means: n = n_a + n_b, mean = mean_a + D n_b / n,
    second = second_a + second_b + D D' n_a n_b / n

    Parameters
    ----------
    into : changed in place
    other : of the same shapes

    References
    ----------
    Chan, Golub & LeVeque (1983).
    """
    n = into.n + other.n
    with np.errstate(over="ignore", invalid="ignore"):
        share = (other.n / np.maximum(n, 1))[..., np.newaxis]
        gap = np.where(share > 0, other.mean - into.mean, 0.0)  # a group of nothing has no mean
        step = gap * share
        left = step * into.n[..., np.newaxis]
        if into.second.ndim == into.mean.ndim:
            into.second[...] += other.second + left * gap
        else:
            into.second[...] += other.second + left[..., :, np.newaxis] * gap[..., np.newaxis, :]
        into.mean[...] += step
    into.n[...] = n
