"""Divergences of live counts from reference probabilities, all in one pass."""

import numpy as np
import numpy.typing as npt
from numba import prange, types

from kldrift.kernels import compilation
from kldrift.kernels.memory import read_block, read_input, write_block
from kldrift.kernels.series import cut_series, input_type, log_ratio, require_array
from kldrift.records.divergences import DIVERGENCES
from kldrift.records.types import FloatArray, IntArray

#: Cells computed at once. Each lane adds up its own cells, in order, so that the result does not depend on the
#: machine's vectors; series are padded to whole lanes with cells that are empty on both sides and add 0.
LANES = 8
#: Fewer cells than this are compared by one thread.
PARALLEL_FROM_CELLS = 16_000

_N_SUMS = 7
_INFINITY = np.inf


@compilation.jit
def _relative_entropy(x: float, y: float) -> float:
    """One term x ln(x / y) of a divergence; 0 ln(0 / y) = 0, infinite where only y is 0."""
    term = x * log_ratio(x, y)
    term = term if y > 0.0 else _INFINITY
    return term if x > 0.0 else 0.0


@compilation.jit
def _add(sums: FloatArray, lane: int, term: float) -> None:
    """Add to one lane of one sum."""
    write_block(sums, lane, read_block(sums, lane) + term)


@compilation.jit
def _add_up_lanes(sums: FloatArray, out: FloatArray) -> None:
    for row in range(sums.size // LANES):
        total = 0.0
        for lane in range(LANES):
            total += sums[row * LANES + lane]
        out[row] = total


@compilation.jit
def _kl(p: FloatArray, q: FloatArray, terms: FloatArray, sums: FloatArray, out: FloatArray) -> None:
    """Only out[0], of whole lanes; the terms go through memory because LLVM unrolls so short a loop of lanes."""
    for i in range(p.size):
        write_block(terms, i, _relative_entropy(read_input(p, i), read_input(q, i)))
    sums[:LANES] = 0.0
    for start in range(0, p.size, LANES):
        for lane in range(LANES):
            _add(sums, lane, read_input(terms, start + lane))
    _add_up_lanes(sums[:LANES], out)
    out[0] = 0.0 if out[0] <= 0.0 else out[0]  # noqa: FURB136 (keeps NaN)


@compilation.jit
def _all_divergences(p: FloatArray, p_smoothed: FloatArray, q: FloatArray, sums: FloatArray, out: FloatArray) -> None:
    """The eight divergences of whole lanes, in the order of `records.DIVERGENCES`."""
    sums[:] = 0.0
    for start in range(0, p.size, LANES):
        for lane in range(LANES):
            x = read_input(p, start + lane)
            smoothed = read_input(p_smoothed, start + lane)
            y = read_input(q, start + lane)
            middle = (x + y) / 2.0
            log = log_ratio(y, smoothed)
            reverse = y * log if smoothed > 0.0 else _INFINITY
            psi = (y - smoothed) * log if (y > 0.0) == (smoothed > 0.0) else _INFINITY
            root = np.sqrt(x) - np.sqrt(y)
            _add(sums, lane, _relative_entropy(x, y))
            _add(sums, LANES + lane, reverse if y > 0.0 else 0.0)
            _add(sums, 2 * LANES + lane, _relative_entropy(x, middle) + _relative_entropy(y, middle))
            _add(sums, 3 * LANES + lane, 0.0 if y == smoothed else psi)  # also where both are 0
            _add(sums, 4 * LANES + lane, abs(x - y))
            _add(sums, 5 * LANES + lane, root * root)
            _add(sums, 6 * LANES + lane, _relative_entropy(x, 1.0))
    _add_up_lanes(sums, out)
    out[2] /= 2.0
    out[4] /= 2.0
    out[5] = np.sqrt(out[5] / 2.0)
    out[6] = -out[6]
    for i in range(_N_SUMS):  # rounding must not show as a negative divergence, nor as -0
        out[i] = 0.0 if out[i] <= 0.0 else out[i]  # noqa: FURB136 (keeps NaN)
    out[7] = out[6] + out[0]  # -sum p ln q; both terms are >= 0, nothing cancels


@compilation.jit
def _whole_lanes(n_cells: int) -> int:
    return (n_cells + LANES - 1) // LANES * LANES


@compilation.jit
def _compare_series(
    live: IntArray,
    reference: FloatArray,
    offsets: IntArray,
    pseudocount: float,
    epsilon: float,
    kl_only: bool,
    first: int,
    last: int,
    out: FloatArray,
) -> None:
    """Series first:last, series number = window * n_features + feature."""
    n_features = offsets.size - 1
    widest = 0
    for feature in range(n_features):
        widest = max(widest, offsets[feature + 1] - offsets[feature])
    widest = _whole_lanes(widest)
    scratch = np.empty(_N_SUMS * LANES + 3 * widest)
    sums, padded = scratch[: _N_SUMS * LANES], scratch[_N_SUMS * LANES :].reshape((3, widest))
    for series in range(first, last):
        window = series // n_features
        feature = series % n_features
        start = offsets[feature]
        counts = live[window][start : offsets[feature + 1]]
        n = 0
        for i in range(counts.size):
            n += counts[i]
        out[window, feature, :] = np.nan
        if n == 0:
            continue
        width = _whole_lanes(counts.size)
        p, p_smoothed, q = padded[0][:width], padded[1][:width], padded[2][:width]
        for i in range(counts.size):
            write_block(p, i, read_input(counts, i) / n)
            write_block(q, i, read_input(reference, start + i))
        for i in range(counts.size, width):
            p[i] = p_smoothed[i] = q[i] = 0.0
        if kl_only:
            _kl(p, q, p_smoothed, sums, out[window, feature])
            continue
        a = pseudocount + epsilon * n
        total = n + a * counts.size
        for i in range(counts.size):
            write_block(p_smoothed, i, (read_input(counts, i) + a) / total)
        _all_divergences(p, p_smoothed, q, sums, out[window, feature])


_ARGUMENTS = (
    input_type(types.int64, 2),
    input_type(types.float64, 1),
    input_type(types.int64, 1),
    types.float64,
    types.float64,
    types.boolean,
    input_type(types.int64, 1),
    types.Array(types.float64, 3, "C"),
)


@compilation.kernel(*_ARGUMENTS)
def compare_serial(
    live: IntArray,
    reference: FloatArray,
    offsets: IntArray,
    pseudocount: float,
    epsilon: float,
    kl_only: bool,
    pieces: IntArray,
    out: FloatArray,
) -> None:
    """All pieces on the calling thread."""
    _compare_series(live, reference, offsets, pseudocount, epsilon, kl_only, pieces[0], pieces[-1], out)


@compilation.parallel_kernel(*_ARGUMENTS)
def compare_parallel(
    live: IntArray,
    reference: FloatArray,
    offsets: IntArray,
    pseudocount: float,
    epsilon: float,
    kl_only: bool,
    pieces: IntArray,
    out: FloatArray,
) -> None:
    """Piece i is series pieces[i]:pieces[i + 1]; the pieces are shared among the threads."""
    for piece in prange(pieces.size - 1):
        first, last = pieces[piece], pieces[piece + 1]
        _compare_series(live, reference, offsets, pseudocount, epsilon, kl_only, first, last, out)


@compilation.kernel(*[types.Array(types.float64, 1, "C")] * 3)
def compare_vectors(p: FloatArray, q: FloatArray, out: FloatArray) -> None:
    """All divergences of one pair of probability vectors, of whole lanes."""
    _all_divergences(p, p, q, np.empty(_N_SUMS * LANES), out)


def compare_probabilities(p: npt.ArrayLike, q: npt.ArrayLike) -> FloatArray:
    """The divergences of p (B,) from q (B,), (8,) float64 in nats, in the order of `records.DIVERGENCES`.

    The definitions of `compare_counts` with nothing smoothed.
    """
    if not compilation.is_warm():
        compilation.warm_up()
    p, q = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    if p.ndim != 1 or p.shape != q.shape:
        raise ValueError(f"expected two vectors of one length, got shapes {p.shape} and {q.shape}")
    if not (np.all(p >= 0) and np.all(q >= 0)):
        raise ValueError(f"expected probabilities, at least 0, got {p} and {q}")
    padding = (0, -len(p) % LANES)
    p, q = np.pad(p, padding), np.pad(q, padding)
    out = np.empty(len(DIVERGENCES))
    with compilation.ieee():
        compare_vectors(p, q, out)
    return out


def compare_counts(
    live: IntArray,
    reference_probabilities: FloatArray,
    offsets: IntArray,
    pseudocount: float,
    epsilon: float,
    out: FloatArray,
    kl_only: bool = False,
) -> None:
    """Divergences of each live histogram from its reference, natural logarithm, nats.

    With x the live counts of a series, n their sum, B its cells, p = x / n, q the reference, m = (p + q) / 2 and
    p~ = (x + a) / (n + a B), a = `pseudocount` + `epsilon` n:

    kl            sum p ln(p / q), infinite where q = 0 < p
    reverse_kl    sum q ln(q / p~), infinite where p~ = 0 < q
    js            1/2 sum p ln(p / m) + 1/2 sum q ln(q / m), at most ln 2
    psi           sum (p~ - q) ln(p~ / q), infinite where only one of them is 0
    total_variation 1/2 sum |p - q|
    hellinger     sqrt(1/2 sum (sqrt p - sqrt q)^2)
    entropy       -sum p ln p
    cross_entropy -sum p ln q

    Parameters
    ----------
    live : (S, C) int64, the counts of S windows
    reference_probabilities : (C,) float64, smoothed, adding up to 1 in each feature
    offsets : (F + 1,) int64, feature f owns columns offsets[f]:offsets[f + 1]
    out : (S, F, 8) float64 in the order of `records.DIVERGENCES`; NaN where a series is empty
    kl_only : leave all but the first at NaN; four times as fast

    Raises
    ------
    ValueError : another shape, type or memory layout than that

    References
    ----------
    Cover & Thomas (2006), section 2.3; Lin (1991).
    """
    if not compilation.is_warm():
        compilation.warm_up()
    n_windows, n_features = len(live), len(offsets) - 1
    n_cells = int(offsets[-1])
    require_array("live", live, np.int64, (n_windows, n_cells))
    require_array("reference_probabilities", reference_probabilities, np.float64, (n_cells,))
    require_array("offsets", offsets, np.int64, (n_features + 1,))
    require_array("out", out, np.float64, (n_windows, n_features, len(DIVERGENCES)))
    n_threads = compilation.thread_count()
    parallel = n_threads > 1 and live.size >= PARALLEL_FROM_CELLS
    pieces = cut_series(offsets, n_windows, 4 * n_threads if parallel else 1)
    arguments = (live, reference_probabilities, offsets, float(pseudocount), float(epsilon), kl_only, pieces, out)
    with compilation.ieee():
        if parallel:
            compilation.launch(compare_parallel, *arguments)
        else:
            compare_serial(*arguments)
