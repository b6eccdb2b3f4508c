"""Divergences of live counts from reference probabilities, all of them in one pass."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import prange

from kldrift.kernels import compilation
from kldrift.kernels.arguments import array_type, input_array, input_type, require_array, tuple_type
from kldrift.kernels.memory import read_block, read_input, write_block
from kldrift.kernels.series import cut_series, log_ratio
from kldrift.records.divergences import N_DIVERGENCES
from kldrift.records.types import FloatArray, IntArray

#: Cells computed at once. Each lane adds up its own cells in order, so that the result does not depend on the width of
#: the machine's vectors. Series are padded to whole lanes with cells that are empty on both sides and add 0.
LANES = 8
#: One thread compares fewer cells than this.
PARALLEL_FROM_CELLS = 16_000

#: Column of each divergence in the output, in the order of `DIVERGENCES`; a new one needs a name here and its terms in
#: `_all_divergences`. There, each also has a row of sums, one for each lane; that of the cross-entropy stays empty,
#: because it follows from two of the others.
_KL, _REVERSE_KL, _JS, _PSI, _TOTAL_VARIATION, _HELLINGER, _ENTROPY, _CROSS_ENTROPY = range(N_DIVERGENCES)
_INFINITY = np.inf


class _Comparison(NamedTuple):
    """What the series of S windows and F features are compared with, and how; see `compare_counts`."""

    live: IntArray
    reference: FloatArray
    offsets: IntArray
    pseudocount: float
    epsilon: float
    kl_only: bool


@compilation.jit
def _relative_entropy(x: float, y: float) -> float:
    """Return a term x ln(x / y) of a divergence; 0 ln(0 / y) = 0, and it is infinite where only y is 0."""
    term = x * log_ratio(x, y)
    term = term if y > 0.0 else _INFINITY
    return term if x > 0.0 else 0.0


@compilation.jit
def _add(sums: FloatArray, row: int, lane: int, term: float) -> None:
    write_block(sums, row * LANES + lane, read_block(sums, row * LANES + lane) + term)


@compilation.jit
def _sum_of(sums: FloatArray, row: int) -> float:
    """Add up the lanes of a row."""
    total = 0.0
    for lane in range(LANES):
        total += sums[row * LANES + lane]
    return total


@compilation.jit
def _at_least_zero(value: float) -> float:
    """Keep rounding from showing as a negative divergence or as -0; NaN stays NaN."""
    return 0.0 if value <= 0.0 else value  # noqa: FURB136 (keeps NaN)


@compilation.jit
def _kl(p: FloatArray, q: FloatArray, terms: FloatArray, sums: FloatArray, out: FloatArray) -> None:
    """Compute the KL divergence alone, of whole lanes.

    The terms go through memory because LLVM unrolls such a short loop over lanes.
    """
    for i in range(p.size):
        write_block(terms, i, _relative_entropy(read_input(p, i), read_input(q, i)))
    sums[_KL * LANES : (_KL + 1) * LANES] = 0.0
    for start in range(0, p.size, LANES):
        for lane in range(LANES):
            _add(sums, _KL, lane, read_input(terms, start + lane))
    out[_KL] = _at_least_zero(_sum_of(sums, _KL))


@compilation.jit
def _all_divergences(p: FloatArray, p_smoothed: FloatArray, q: FloatArray, sums: FloatArray, out: FloatArray) -> None:
    """Compute all divergences, of whole lanes."""
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
            _add(sums, _KL, lane, _relative_entropy(x, y))
            _add(sums, _REVERSE_KL, lane, reverse if y > 0.0 else 0.0)
            _add(sums, _JS, lane, _relative_entropy(x, middle) + _relative_entropy(y, middle))
            _add(sums, _PSI, lane, 0.0 if y == smoothed else psi)  # also where both are 0
            _add(sums, _TOTAL_VARIATION, lane, abs(x - y))
            _add(sums, _HELLINGER, lane, root * root)
            _add(sums, _ENTROPY, lane, _relative_entropy(x, 1.0))
    for row in range(N_DIVERGENCES):
        out[row] = _sum_of(sums, row)
    out[_JS] /= 2.0
    out[_TOTAL_VARIATION] /= 2.0
    out[_HELLINGER] = np.sqrt(out[_HELLINGER] / 2.0)
    out[_ENTROPY] = -out[_ENTROPY]
    for row in range(N_DIVERGENCES):
        out[row] = _at_least_zero(out[row])
    out[_CROSS_ENTROPY] = out[_ENTROPY] + out[_KL]  # -sum p ln q; both terms are >= 0, so nothing cancels


@compilation.jit
def _whole_lanes(n_cells: int) -> int:
    return (n_cells + LANES - 1) // LANES * LANES


@compilation.jit
def _compare_series(comparison: _Comparison, first: int, last: int, out: FloatArray) -> None:
    """Compare series first:last; series number = window * n_features + feature."""
    live, reference, offsets = comparison.live, comparison.reference, comparison.offsets
    n_features = offsets.size - 1
    widest = 0
    for feature in range(n_features):
        widest = max(widest, offsets[feature + 1] - offsets[feature])
    widest = _whole_lanes(widest)
    scratch = np.empty(N_DIVERGENCES * LANES + 3 * widest)
    sums, padded = scratch[: N_DIVERGENCES * LANES], scratch[N_DIVERGENCES * LANES :].reshape((3, widest))
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
        if comparison.kl_only:
            _kl(p, q, p_smoothed, sums, out[window, feature])
            continue
        a = comparison.pseudocount + comparison.epsilon * n
        total = n + a * counts.size
        for i in range(counts.size):
            write_block(p_smoothed, i, (read_input(counts, i) + a) / total)
        _all_divergences(p, p_smoothed, q, sums, out[window, feature])


_ARGUMENTS = (tuple_type(_Comparison, live=2), input_type(np.int64), array_type(np.float64, 3))


@compilation.kernel(*_ARGUMENTS)
def compare_serial(comparison: _Comparison, pieces: IntArray, out: FloatArray) -> None:
    """Compare all pieces on the calling thread."""
    _compare_series(comparison, pieces[0], pieces[-1], out)


@compilation.parallel_kernel(*_ARGUMENTS)
def compare_parallel(comparison: _Comparison, pieces: IntArray, out: FloatArray) -> None:
    """Compare the pieces on all threads; piece i is series pieces[i]:pieces[i + 1]."""
    for i in prange(pieces.size - 1):
        _compare_series(comparison, pieces[i], pieces[i + 1], out)


@compilation.kernel(*[array_type(np.float64)] * 3)
def compare_vectors(p: FloatArray, q: FloatArray, out: FloatArray) -> None:
    """Compute all divergences of one pair of probability vectors, of whole lanes."""
    _all_divergences(p, p, q, np.empty(N_DIVERGENCES * LANES), out)


def compare_probabilities(p: npt.ArrayLike, q: npt.ArrayLike) -> FloatArray:
    """Return the divergences of p (B,) from q (B,) in the order of `DIVERGENCES`, float64, nats.

    They are defined as in `compare_counts`, with nothing smoothed.
    """
    compilation.warm_up()
    p, q = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    if p.ndim != 1 or p.shape != q.shape:
        raise ValueError(f"expected two vectors of the same length, got shapes {p.shape} and {q.shape}")
    if not (np.all(p >= 0) and np.all(q >= 0)):
        raise ValueError(f"expected probabilities, at least 0, got {p} and {q}")
    padding = (0, -len(p) % LANES)
    p, q = np.pad(p, padding), np.pad(q, padding)
    out = np.empty(N_DIVERGENCES)
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
    """Compute the divergences of each live histogram from its reference; natural logarithm, nats.

    With x the live counts of a series, n their sum, B the number of cells, p = x / n, q the reference, m = (p + q) / 2,
    p~ = (x + a) / (n + a B) and a = `pseudocount` + `epsilon` n:

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
    out : (S, F, N_DIVERGENCES) float64 in the order of `DIVERGENCES`; NaN where a series is empty
    kl_only : leave everything but KL at NaN, which is four times as fast

    Raises
    ------
    ValueError : an array has another shape, type or memory layout

    References
    ----------
    Cover & Thomas (2006), section 2.3; Lin (1991).
    """
    compilation.warm_up()
    n_windows, n_features = len(live), len(offsets) - 1
    n_cells = int(offsets[-1])
    comparison = _Comparison(
        live=input_array("live", live, np.int64, (n_windows, n_cells)),
        reference=input_array("reference_probabilities", reference_probabilities, np.float64, (n_cells,)),
        offsets=input_array("offsets", offsets, np.int64, (n_features + 1,)),
        pseudocount=float(pseudocount),
        epsilon=float(epsilon),
        kl_only=bool(kl_only),
    )
    require_array("out", out, np.float64, (n_windows, n_features, N_DIVERGENCES))
    n_threads = compilation.threads_for(live.size, PARALLEL_FROM_CELLS)
    pieces = cut_series(offsets, n_windows, 4 * n_threads)
    compilation.run(compare_serial, compare_parallel, n_threads > 1, comparison, pieces, out)
