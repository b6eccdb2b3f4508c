"""Streaming moments of vectors: their number, mean, and sum of squares (or products) of deviations from the mean."""

from typing import NamedTuple

import numpy as np
from numba import prange

from kldrift.kernels import compilation
from kldrift.kernels.arguments import array_type, frozen, input_array, input_type, require_array, tuple_type
from kldrift.kernels.memory import read_block, read_input, write_block
from kldrift.records.types import CodeArray, FloatArray, IntArray

#: Rows whose deviations are taken at once: for one tile of dimensions, they stay in the L1 cache for the second pass.
BLOCK = 64
#: Rows of a block of full moments; BLAS computes the products and does best on large blocks.
FULL_BLOCK = 4096
#: Maximum number of dimensions in a tile; the threads share the tiles.
TILE = 32
#: One thread adds batches with fewer values than this.
PARALLEL_FROM_VALUES = 200_000

_ALL_IN_SLOT_0 = np.empty(0, dtype=np.int32)


class Moments(NamedTuple):
    """Moments of groups of vectors, with the groups on the leading axes; zeros where nothing has been added.

    Parameters
    ----------
    n : (...,) int64
    mean : (..., d) float64
    second : sums of squared deviations from the mean (..., d), or of their products (..., d, d)
    """

    n: IntArray
    mean: FloatArray
    second: FloatArray

    def at(self, index: int | slice | tuple[int | slice, ...]) -> "Moments":
        """Return views of some of the groups."""
        return Moments(np.asarray(self.n[index]), self.mean[index], self.second[index])

    def copy(self) -> "Moments":
        """Return a copy that shares no memory."""
        return Moments(self.n.copy(), self.mean.copy(), self.second.copy())


def zero_moments(shape: tuple[int, ...], d: int, full: bool) -> Moments:
    """Return moments of no samples, for groups of this shape."""
    return Moments(np.zeros(shape, np.int64), np.zeros((*shape, d)), np.zeros((*shape, d, d) if full else (*shape, d)))


class _Grouped(NamedTuple):
    """Rows to add.

    Parameters
    ----------
    values : (n_rows * d,) float64
    order, starts : the rows of each group, see `group_rows`
    n : (S,) int64, rows added to each group so far
    """

    values: FloatArray
    order: IntArray
    starts: IntArray
    n: IntArray


@compilation.kernel(input_type(np.float64, 2), input_type(np.int32), array_type(np.int64), array_type(np.int64))
def group_rows(values: FloatArray, slots: CodeArray, order: IntArray, starts: IntArray) -> None:
    """Sort rows by slot: those of slot s are ``order[starts[s]:starts[s + 1]]``, as they came, without missing ones."""
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
def _add_tile(rows: _Grouped, first: int, last: int, mean: FloatArray, second: FloatArray) -> None:
    """Add dimensions first:last of all rows.

    Everything is relative to the first row of a slot, and therefore no larger than the spread. For each block we take
    the mean, then the deviations from it, then merge by Chan's formula: a mean of 1e9 costs no digit of the variance.
    """
    values, order, starts = rows.values, rows.order, rows.starts
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
            size = min(BLOCK, stop - start)
            center[:] = 0.0
            linear[:] = 0.0
            square[:] = 0.0
            for i in range(start, start + size):
                base = order[i] * d + first
                for j in range(width):
                    x = read_input(values, base + j) - read_block(origin, j)
                    write_block(center, j, read_block(center, j) + x)
            for j in range(width):
                write_block(center, j, read_block(center, j) / size)
            for i in range(start, start + size):
                base = order[i] * d + first
                for j in range(width):
                    x = read_input(values, base + j) - read_block(origin, j) - read_block(center, j)
                    write_block(linear, j, read_block(linear, j) + x)
                    write_block(square, j, read_block(square, j) + x * x)
            share = size / (seen + size)
            for j in range(width):
                rest = read_block(linear, j) / size  # what rounding left of the deviations' mean
                step = read_block(center, j) + rest - read_block(offset, j)
                own = read_block(square, j) - rest * read_block(linear, j)
                write_block(offset, j, read_block(offset, j) + step * share)
                write_block(scatter, j, read_block(scatter, j) + own + step * share * seen * step)
            seen += size
        before = rows.n[slot]
        share = seen / (before + seen)
        for j in range(width):
            step = origin[j] + offset[j] - mean[slot, first + j]
            mean[slot, first + j] += step * share
            second[slot, first + j] += scatter[j] + step * share * before * step


_ARGUMENTS = (tuple_type(_Grouped), input_type(np.int64), array_type(np.float64, 2), array_type(np.float64, 2))


@compilation.parallel_kernel(*_ARGUMENTS)
def moments_parallel(rows: _Grouped, tiles: IntArray, mean: FloatArray, second: FloatArray) -> None:
    """Add the tiles on all threads; tile i is dimensions tiles[i]:tiles[i + 1], which no other thread writes to."""
    for i in prange(tiles.size - 1):
        _add_tile(rows, tiles[i], tiles[i + 1], mean, second)


@compilation.kernel(*_ARGUMENTS)
def moments_serial(rows: _Grouped, tiles: IntArray, mean: FloatArray, second: FloatArray) -> None:
    """Add all tiles on the calling thread."""
    for i in range(tiles.size - 1):
        _add_tile(rows, tiles[i], tiles[i + 1], mean, second)


def add_moments(values: FloatArray, slots: CodeArray | None, n: IntArray, mean: FloatArray, second: FloatArray) -> None:
    """Add rows to the moments of S groups, in place.

    Each block of rows takes two passes, and blocks are merged by Chan's formula: the error of the mean is a few units
    in the last place, and that of the variance does not depend on the mean. What overflows becomes infinite or NaN.

    Parameters
    ----------
    values : (n_rows, d) float64; a row whose first element is NaN is missing and left out
    slots : (n_rows,) int32, the group of each row, negative to leave it out; None or empty: all rows in group 0
    n, mean, second : (S,) int64, (S, d) and (S, d) or (S, d, d) float64; see `Moments`

    Raises
    ------
    ValueError : an array has another shape, type or memory layout

    References
    ----------
    Chan, Golub & LeVeque (1983).
    """
    compilation.warm_up()
    if values.ndim != 2 or values.shape[1] < 1:
        raise ValueError(f"values: expected (n_rows, d) with d at least 1, got {values.shape}")
    n_rows, d = values.shape
    full = second.ndim == 3
    slots = _ALL_IN_SLOT_0 if slots is None else slots
    values = input_array("values", values, np.float64, (n_rows, d))
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
    n_threads = compilation.threads_for(values.size, PARALLEL_FROM_VALUES)
    rows = _Grouped(values.reshape(-1), frozen(order), frozen(starts), frozen(n))
    tiles = _cut_dimensions(d, n_threads)
    compilation.run(moments_serial, moments_parallel, n_threads > 1, rows, tiles, mean, second)
    n += np.diff(starts)


def _cut_dimensions(d: int, n_threads: int) -> IntArray:
    """Return the boundaries of tiles: whole cache lines, and a tile for each thread if there are enough dimensions."""
    lines = -(-d // 8)
    width = min(TILE, 8 * -(-lines // n_threads))
    return np.append(np.arange(0, d, width), d)


def _add_products(values: FloatArray, order: IntArray, starts: IntArray, moments: Moments) -> None:
    """Do as `_add_tile` does, but with products of deviations, which BLAS computes."""
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
    """Merge the moments of `other` into those of `into`, group by group.

    With D the difference of the means: n = n_a + n_b, mean = mean_a + D n_b / n,
    second = second_a + second_b + D D' n_a n_b / n. Order and grouping do not matter, except for rounding.

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
        gap = np.where(share > 0, other.mean - into.mean, 0.0)  # an empty group has no mean
        step = gap * share
        left = step * into.n[..., np.newaxis]
        if into.second.ndim == into.mean.ndim:
            into.second[...] += other.second + left * gap
        else:
            into.second[...] += other.second + left[..., :, np.newaxis] * gap[..., np.newaxis, :]
        into.mean[...] += step
    into.n[...] = n
