"""Counting samples into bins."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import prange

from kldrift.kernels import compilation
from kldrift.kernels.arguments import array_type, frozen, input_type, tuple_type
from kldrift.kernels.bin_table import TABLE, BinTable
from kldrift.kernels.memory import float64_at, float_bits, int32_at, read_block, read_input, write_block
from kldrift.kernels.words import piece
from kldrift.records.kinds import INVALID, MISSING, STRUCTURAL_CELLS
from kldrift.records.types import CodeArray, FloatArray, IntArray

#: Samples located at once: their values, their cells and the guide stay in the L1 cache.
BLOCK = 1024
#: One thread counts batches with fewer samples than this: waking the others takes 25 µs on idle cores and 100 µs on
#: busy ones, in which time one thread counts 50,000.
PARALLEL_FROM_SAMPLES = 200_000
#: Features with fewer rows than this are not cut into chunks.
CHUNK_FROM_ROWS = 32_768

_FLOAT64 = np.dtype(np.float64)
_INT32 = np.dtype(np.int32)
ALL_IN_SLOT_0 = frozen(np.empty(0, dtype=np.int32))
_Cells = npt.NDArray[np.uint32]


class Batch(NamedTuple):
    """Samples to count.

    Parameters
    ----------
    addresses : (F,) int64, where the column of each feature is
    slots : (n_rows,) int32, see `fill_counts`; empty: all rows go to slot 0
    n_rows : rows of each column
    n_chunks : chunks of rows that each feature is cut into
    """

    addresses: IntArray
    slots: CodeArray
    n_rows: int
    n_chunks: int


@piece
def _locate_values(
    values: FloatArray, start: int, size: int, table: BinTable, feature: int, n_bins: int, cells: _Cells
) -> None:
    """Find the cell of each value in a block; `bin_table` explains how, and why this is exact."""
    low, high = table.scales[feature, 0], table.scales[feature, 1]
    center, scale = table.scales[feature, 2], table.scales[feature, 3]
    origin, shift, steps = table.shifts[feature, 0], table.shifts[feature, 1], table.shifts[feature, 3]
    guide = table.guide_starts[feature] - table.shifts[feature, 2]
    half = 1 << (steps - 1)
    thresholds = table.threshold_starts[feature] - 1
    for i in range(size):
        x = read_input(values, start + i)
        y = x if x > low else low  # noqa: FURB136 (NaN becomes low)
        y = (y if y < high else high) - center  # noqa: FURB136 (and one instruction)
        key = float_bits(abs(y) + scale) - origin
        key = -key if y < 0.0 else key
        passed = np.int64(read_input(table.guides, guide + (key >> shift)))
        threshold = read_input(table.thresholds, thresholds + passed + half)
        write_block(cells, i, np.uint32(passed + half if x >= threshold else passed))
    for step in range(steps - 2, -1, -1):
        half = 1 << step
        for i in range(size):
            passed = np.int64(read_block(cells, i))
            threshold = read_input(table.thresholds, thresholds + passed + half)
            write_block(cells, i, np.uint32(passed + half if read_input(values, start + i) >= threshold else passed))
    for i in range(size):
        x = read_input(values, start + i)
        passed = np.int64(read_block(cells, i))
        cell = n_bins if passed == 0 else (n_bins + 1 if passed > n_bins else passed - 1)
        write_block(cells, i, np.uint32(cell if x == x else n_bins + 2))


@piece
def _locate_codes(codes: CodeArray, start: int, size: int, table: BinTable, feature: int, cells: _Cells) -> None:
    """Find the cell of each code in a block; impossible codes count as missing, the last entry of the lookup."""
    lookup = table.guide_starts[feature]
    last = table.guide_starts[feature + 1] - lookup - 1
    for i in range(size):
        code = np.int64(read_input(codes, start + i))
        write_block(cells, i, read_input(table.guides, lookup + (last if code < 0 or code > last else code)))


@piece
def most_cells(table: BinTable) -> int:
    """Return the number of cells of the feature that has the most."""
    most: int = 0
    for feature in range(table.offsets.size - 1):
        n_cells = table.offsets[feature + 1] - table.offsets[feature]
        most = n_cells if n_cells > most else most  # noqa: FURB136 (one instruction)
    return most


@piece
def _add_cells(
    cells: _Cells, size: int, offset: int, n_cells: int, private: bool, copies: IntArray, counts: IntArray
) -> None:
    """Count the cells of a block in the only slot, or in private copies of it."""
    if not private:
        for i in range(size):
            counts[offset + np.int64(read_block(cells, i))] += 1
        return
    whole = size & -4
    for i in range(0, whole, 4):
        copies[np.int64(cells[i])] += 1
        copies[np.int64(cells[i + 1]) + n_cells] += 1
        copies[np.int64(cells[i + 2]) + 2 * n_cells] += 1
        copies[np.int64(cells[i + 3]) + 3 * n_cells] += 1
    for i in range(whole, size):
        copies[np.int64(cells[i])] += 1


@compilation.jit
def fill_task(
    table: BinTable, batch: Batch, copies_of_counts: IntArray, task: Any, cells: _Cells, copies: IntArray
) -> None:
    """Count chunk t % n_chunks of the rows of feature t // n_chunks; each chunk has its own copy of the counts.

    `cells` (`BLOCK`) and `copies` (4 times `most_cells`) are scratch memory.
    """
    addresses, slots, n_rows, n_chunks = batch.addresses, batch.slots, batch.n_rows, batch.n_chunks
    feature = task // n_chunks
    chunk = task % n_chunks
    first_row = n_rows * chunk // n_chunks
    last_row = n_rows * (chunk + 1) // n_chunks
    counts = copies_of_counts[chunk]
    offset = table.offsets[feature]
    n_cells = table.offsets[feature + 1] - offset
    # Equal neighbours would wait for each other's store, so four private copies of the counts take turns.
    private = slots.size == 0 and last_row - first_row >= 4 * n_cells
    if private:
        for i in range(4 * n_cells):
            copies[i] = 0
    for start in range(first_row, last_row, BLOCK):
        size = min(BLOCK, last_row - start)
        if table.numeric[feature]:
            _locate_values(
                float64_at(addresses[feature], n_rows), start, size, table, feature, n_cells - STRUCTURAL_CELLS, cells
            )
        else:
            _locate_codes(int32_at(addresses[feature], n_rows), start, size, table, feature, cells)
        if slots.size == 0:
            _add_cells(cells, size, offset, n_cells, private, copies, counts[0])
        else:
            for i in range(size):
                slot = slots[start + i]
                if slot >= 0:
                    counts[slot, offset + np.int64(cells[i])] += 1
    if private:
        for i in range(n_cells):
            counts[0, offset + i] += copies[i] + copies[n_cells + i] + copies[2 * n_cells + i] + copies[3 * n_cells + i]


_ARGUMENTS = (TABLE, tuple_type(Batch), array_type(np.int64, 3))  # counts: (n_chunks, n_slots, n_cells)


@compilation.kernel(*_ARGUMENTS)
def fill_serial(table: BinTable, batch: Batch, counts: IntArray) -> None:
    """Count all tasks on the calling thread."""
    cells = np.empty(BLOCK, np.uint32)
    copies = np.empty(4 * most_cells(table), np.int64)
    for task in range(batch.addresses.size * batch.n_chunks):
        fill_task(table, batch, counts, np.int64(task), cells, copies)


@compilation.parallel_kernel(*_ARGUMENTS)
def fill_parallel(table: BinTable, batch: Batch, counts: IntArray) -> None:
    """Count the tasks on all threads; no two of them write to the same counts."""
    size = 4 * most_cells(table)
    for task in prange(batch.addresses.size * batch.n_chunks):
        cells = np.empty(BLOCK, np.uint32)
        copies = np.empty(size, np.int64)
        fill_task(table, batch, counts, np.int64(task), cells, copies)


@compilation.kernel(input_type(np.float64))
def float64_address(array: npt.NDArray[Any]) -> int:
    """Return the address of a contiguous float64 vector; ten times faster than ``array.ctypes.data``."""
    return array.ctypes.data


@compilation.kernel(input_type(np.int32))
def int32_address(array: npt.NDArray[Any]) -> int:
    """Return the address of a contiguous int32 vector."""
    return array.ctypes.data


def fill_counts(
    table: BinTable,
    columns: Sequence[FloatArray | CodeArray],
    slots: CodeArray | None,
    counts: IntArray,
) -> None:
    """Add the samples of a batch to `counts`.

    Parameters
    ----------
    table : the bins
    columns : one contiguous (n_rows,) vector for each feature, float64 values or int32 codes; may be read-only, and is
        not copied
    slots : (n_rows,) int32, the row of `counts` that each sample row goes to, negative to skip it; None: all to row 0
    counts : (n_slots, n_cells of all features) int64, contiguous; changed in place

    Raises
    ------
    ValueError : an array has another shape, type or memory layout
    """
    compilation.warm_up()
    n_features = len(table.numeric)
    if len(columns) != n_features:
        raise ValueError(f"expected a column for each of the {n_features} features, got {len(columns)}")
    n_rows = len(columns[0]) if n_features else 0
    addresses = _addresses(table, columns, n_rows)
    if counts.dtype != np.int64 or counts.ndim != 2 or not counts.flags.carray:
        raise ValueError(f"counts: expected a writable, contiguous int64 matrix, got {counts.dtype} {counts.shape}")
    if len(counts) < 1 or counts.shape[1] != table.offsets[-1]:
        raise ValueError(f"counts: expected shape (n_slots, {table.offsets[-1]}), got {counts.shape}")
    if slots is None:
        slots = ALL_IN_SLOT_0
    elif slots.dtype != _INT32 or slots.shape != (n_rows,) or not slots.flags.c_contiguous:
        raise ValueError(f"slots: expected contiguous int32 ({n_rows},), got {slots.dtype} {slots.shape}")
    elif n_rows and slots.max() >= len(counts):
        raise ValueError(f"slots: expected rows of counts, below {len(counts)}, got {slots.max()}")
    if n_rows == 0:
        return
    n_threads = compilation.threads_for(n_features * n_rows, PARALLEL_FROM_SAMPLES)
    n_chunks = _chunks(n_features, n_rows, n_threads, counts.size)
    copies = counts[np.newaxis] if n_chunks == 1 else np.zeros((n_chunks, *counts.shape), dtype=np.int64)
    batch = Batch(addresses, frozen(slots), n_rows, n_chunks)
    compilation.run(fill_serial, fill_parallel, n_threads > 1, table, batch, copies)
    if n_chunks > 1:
        counts += copies.sum(axis=0)


def move_invalid(table: BinTable, feature: int, slots: IntArray | CodeArray, counts: IntArray) -> None:
    """Move the invalid values of a feature, which its column holds as missing, into the cell that is theirs.

    Parameters
    ----------
    slots : (n_invalid,) the row of `counts` in which `fill_counts` has counted each of them, not negative
    counts : (n_slots, n_cells of all features) int64; changed in place
    """
    end = table.offsets[feature + 1]
    moved = np.bincount(slots, minlength=len(counts))
    counts[:, end + MISSING] -= moved
    counts[:, end + INVALID] += moved


def _addresses(table: BinTable, columns: Sequence[FloatArray | CodeArray], n_rows: int) -> IntArray:
    """Check the columns and return the address of each; the only Python code that runs per feature, so kept small."""
    shape = (n_rows,)
    found: list[int] = []
    for column, numeric in zip(columns, table.numeric.tolist(), strict=True):
        dtype = _FLOAT64 if numeric else _INT32
        flags = column.flags
        if column.dtype != dtype or column.shape != shape or not (flags.c_contiguous and flags.aligned):
            raise ValueError(
                f"column {len(found)}: expected a contiguous, aligned {dtype} vector of {n_rows} rows, got "
                f"{column.dtype} {column.shape} with strides {column.strides}; convert it with np.ascontiguousarray"
            )
        found.append(float64_address(column) if numeric else int32_address(column))
    return frozen(np.array(found, dtype=np.int64))


def _chunks(n_features: int, n_rows: int, n_threads: int, n_counts: int) -> int:
    """Return the number of row chunks to cut each feature into, so that no thread is left without work at the end."""
    even = n_features >= 4 * n_threads or n_features % n_threads == 0
    worth_it = n_rows >= CHUNK_FROM_ROWS and n_threads * n_counts <= n_features * n_rows
    return n_threads if worth_it and not even else 1
