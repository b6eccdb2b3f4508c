"""Confidence bounds on the KL divergence from counts: what chance explains, and what it does not."""

import math

import numpy as np
import numpy.typing as npt
from numba import prange, types

from kldrift.kernels import compilation
from kldrift.kernels.noncentral import bound_statistic
from kldrift.kernels.series import cut_series, input_type, log_ratio, require_array
from kldrift.records.types import FloatArray, IntArray

#: The last axis of what `bound_counts` fills in.
BOUNDS = (
    "lower",
    "upper",
    "noise_floor",
    "effective_samples",
    "log10_p_warning",
    "log10_p_critical",
    "n_bins",
    "statistic",
    "dispersion",
)
#: Fewer series than this are bounded by one thread: they take less time than to wake the others.
PARALLEL_FROM_SERIES = 200
_MAX_WILLIAMS = 1.5
#: A divergence of less is all rounding.
_ROUNDING = 1e-14


@compilation.jit
def _bound_one(
    counts: IntArray,
    q: FloatArray,
    always_counted: npt.NDArray[np.bool_],
    m: float,
    phi_live: float,
    phi_reference: float,
    lambda_ratio: float,
    z_quantile: float,
    thresholds: FloatArray,
    out: FloatArray,
) -> None:
    """One series; `out` in the order of `BOUNDS`."""
    total = 0
    for i in range(counts.size):
        total += counts[i]
    out[:] = np.nan
    if total <= 0 or not m > 0.0:
        return
    n = float(total)
    n_bins = 0
    infinite = False
    kl, square, chi_squared, inverse, idle = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(counts.size):
        x, y = counts[i], q[i]
        p = x / n
        if x > 0 or always_counted[i]:
            n_bins += 1
            inverse += 1.0 / y if y > 0.0 else 0.0
        else:
            idle += y
        if y > 0.0:
            chi_squared += (p - y) * (p - y) / y
        if x > 0:
            if y > 0.0:
                log = log_ratio(p, y)
                kl += p * log
                square += p * log * log
            else:
                infinite = True
    inverse_m = 1.0 / m
    independent = 1.0 / (1.0 / n + inverse_m)
    effective = 1.0 / (phi_live / n + phi_reference * inverse_m)
    out[2] = (n_bins - 1) / (2.0 * effective)
    out[3] = effective
    out[6] = n_bins
    if infinite:
        out[0] = out[1] = out[7] = math.inf
        out[4] = out[5] = -math.inf
        out[8] = max(1.0, lambda_ratio)
        return
    if n_bins < 2:  # nothing can move: D is what the smoothing makes of one cell
        out[0] = out[4] = out[5] = out[7] = 0.0
        out[1] = max(0.0, kl)
        out[8] = 1.0
        return
    variance = max(0.0, square - kl * kl)
    # q scaled to 1 over the cells that count; exactly as it was where all do
    kl = max(0.0, kl + math.log1p(-idle))
    chi_squared -= idle * (1.0 + chi_squared)
    inverse *= 1.0 - idle
    excess = (inverse - 1.0) / (6.0 * n * (n_bins - 1))
    excess = excess if excess < _MAX_WILLIAMS - 1.0 else _MAX_WILLIAMS - 1.0  # noqa: FURB136 (infinity, not NaN)
    statistic = (2.0 * independent * kl - (n_bins - 1) * excess * (independent / n)) * (effective / independent)
    dispersion = max(1.0, lambda_ratio)
    if kl > _ROUNDING:  # V and W tend to 2 K, hence c to 1
        matched = (variance / n + chi_squared * inverse_m) * independent / (2.0 * kl)
        dispersion = matched if matched > dispersion else dispersion  # noqa: FURB136
    bound_statistic(statistic, float(n_bins - 1), dispersion, effective, z_quantile, thresholds, out)
    out[7] = statistic
    out[8] = dispersion


@compilation.jit
def _bound_series(
    live: IntArray,
    reference: FloatArray,
    always_counted: npt.NDArray[np.bool_],
    offsets: IntArray,
    reference_rows: FloatArray,
    phi_live: FloatArray,
    phi_reference: FloatArray,
    lambda_ratio: FloatArray,
    z_quantile: float,
    thresholds: FloatArray,
    first: int,
    last: int,
    out: FloatArray,
) -> None:
    """Series first:last, series number = window * n_features + feature."""
    n_features = offsets.size - 1
    for series in range(first, last):
        window = series // n_features
        feature = series % n_features
        start, stop = offsets[feature], offsets[feature + 1]
        _bound_one(
            live[window][start:stop],
            reference[start:stop],
            always_counted[start:stop],
            reference_rows[feature],
            phi_live[window, feature],
            phi_reference[feature],
            lambda_ratio[window, feature],
            z_quantile,
            thresholds[feature],
            out[window, feature],
        )


_ARGUMENTS = (
    input_type(types.int64, 2),
    input_type(types.float64, 1),
    input_type(types.boolean, 1),
    input_type(types.int64, 1),
    input_type(types.float64, 1),
    input_type(types.float64, 2),
    input_type(types.float64, 1),
    input_type(types.float64, 2),
    types.float64,
    input_type(types.float64, 2),
    input_type(types.int64, 1),
    types.Array(types.float64, 3, "C"),
)


@compilation.parallel_kernel(*_ARGUMENTS)
def bound_parallel(
    live: IntArray,
    reference: FloatArray,
    always_counted: npt.NDArray[np.bool_],
    offsets: IntArray,
    reference_rows: FloatArray,
    phi_live: FloatArray,
    phi_reference: FloatArray,
    lambda_ratio: FloatArray,
    z_quantile: float,
    thresholds: FloatArray,
    pieces: IntArray,
    out: FloatArray,
) -> None:
    """Piece i is series pieces[i]:pieces[i + 1]; the pieces are shared among the threads."""
    for piece in prange(pieces.size - 1):
        _bound_series(
            live,
            reference,
            always_counted,
            offsets,
            reference_rows,
            phi_live,
            phi_reference,
            lambda_ratio,
            z_quantile,
            thresholds,
            pieces[piece],
            pieces[piece + 1],
            out,
        )


@compilation.kernel(*_ARGUMENTS)
def bound_serial(
    live: IntArray,
    reference: FloatArray,
    always_counted: npt.NDArray[np.bool_],
    offsets: IntArray,
    reference_rows: FloatArray,
    phi_live: FloatArray,
    phi_reference: FloatArray,
    lambda_ratio: FloatArray,
    z_quantile: float,
    thresholds: FloatArray,
    pieces: IntArray,
    out: FloatArray,
) -> None:
    """All pieces on the calling thread."""
    _bound_series(
        live,
        reference,
        always_counted,
        offsets,
        reference_rows,
        phi_live,
        phi_reference,
        lambda_ratio,
        z_quantile,
        thresholds,
        pieces[0],
        pieces[-1],
        out,
    )


def bound_counts(
    live: IntArray,
    reference_probabilities: FloatArray,
    always_counted: npt.NDArray[np.bool_],
    offsets: IntArray,
    reference_rows: FloatArray,
    phi_live: FloatArray,
    phi_reference: FloatArray,
    lambda_ratio: FloatArray,
    z_quantile: float,
    thresholds: FloatArray,
    out: FloatArray,
) -> None:
    """Confidence bounds on the divergence D that the live counts of each series come from; nats.

    With x the live counts of a series, n their sum, p = x / n, B the cells that count, q the smoothed reference scaled
    to 1 over those, m its rows:

    K = sum p ln(p / q), V = sum p ln^2(p / q) - K^2, W = sum p^2 / q - 1
    N0 = 1 / (1/n + 1/m), N = 1 / (phi_live/n + phi_reference/m)
    w = min(1.5, 1 + (sum 1/q - 1) / (6 n (B - 1))) (Williams)
    T = [2 N0 K - (B - 1)(w - 1) m/(n + m)] N/N0
    c = max(1, lambda_ratio, (V/n + W/m) N0 / (2 K))

    T/c is close to a noncentral chi-squared of (B - 1)/c degrees of freedom and noncentrality 2 N D/c; z(D) is its
    normal score by Sankaran's approximation.

    lower, upper        the largest D with z(D) > z_quantile, > -z_quantile; 0 if there is none
    noise_floor         (B - 1) / (2 N), the divergence to expect when nothing has drifted
    effective_samples   N
    log10_p_warning, log10_p_critical   log10 Phi(-z(threshold)), the p-values of "D <= threshold"
    n_bins, statistic, dispersion       B, T, c

    Why scaled: what smoothing gives to empty cells that do not count it takes from the others, which adds about
    1 / (2 m) a cell to K. With two bins and three such cells, one quiet window in seven would have a lower bound
    above 0 at alpha = 0.025.

    Where a live value has probability 0 (nothing smoothed), K and both bounds are infinite and the p-values are 0. With
    B = 1 nothing can move: lower 0, upper K as exported, p-values 1. The degrees of freedom are taken as at least
    `MIN_DEGREES_OF_FREEDOM`.

    Parameters
    ----------
    live : (S, C) int64, the counts of S windows
    reference_probabilities : (C,) float64, smoothed, adding up to 1 in each feature
    always_counted : (C,) bool, bins proper and cells that hold something in the reference; the others count in B only
        where the window holds something
    offsets : (F + 1,) int64, feature f owns columns offsets[f]:offsets[f + 1]
    reference_rows : (F,) float64, m; infinite where the reference is known exactly
    phi_live : (S, F) float64 >= 1, overdispersion of blocks as large as the window
    phi_reference : (F,) float64 >= 1, the largest overdispersion measured
    lambda_ratio : (S, F) float64 >= 1, lambda / phi of blocks as large as the window
    z_quantile : normal quantile of 1 - alpha / J, above 0
    thresholds : (F, 2) float64 >= 0, finite, warning and critical
    out : (S, F, 9) float64 in the order of `BOUNDS`; NaN where the window or the reference is empty

    Raises
    ------
    ValueError : another shape, type or memory layout than that, or a quantile that is not above 0

    References
    ----------
    Miller (1955); Sankaran (1963); Williams (1976); Rao & Scott (1984); Chandrupatla (1997).
    """
    if not compilation.is_warm():
        compilation.warm_up()
    n_windows, n_features = len(live), len(offsets) - 1
    n_cells = int(offsets[-1])
    require_array("live", live, np.int64, (n_windows, n_cells))
    require_array("reference_probabilities", reference_probabilities, np.float64, (n_cells,))
    require_array("always_counted", always_counted, np.bool_, (n_cells,))
    require_array("offsets", offsets, np.int64, (n_features + 1,))
    require_array("reference_rows", reference_rows, np.float64, (n_features,))
    require_array("phi_live", phi_live, np.float64, (n_windows, n_features))
    require_array("phi_reference", phi_reference, np.float64, (n_features,))
    require_array("lambda_ratio", lambda_ratio, np.float64, (n_windows, n_features))
    require_array("thresholds", thresholds, np.float64, (n_features, 2))
    require_array("out", out, np.float64, (n_windows, n_features, len(BOUNDS)))
    _require_quantile(z_quantile)
    n_threads = compilation.thread_count()
    parallel = n_threads > 1 and n_windows * n_features >= PARALLEL_FROM_SERIES
    # Smaller pieces than for the divergences: series in drift take three times as long, and may be neighbours.
    pieces = cut_series(offsets, n_windows, 16 * n_threads if parallel else 1)
    arguments = (
        live,
        reference_probabilities,
        always_counted,
        offsets,
        reference_rows,
        phi_live,
        phi_reference,
        lambda_ratio,
        float(z_quantile),
        thresholds,
        pieces,
        out,
    )
    with compilation.ieee():
        if parallel:
            compilation.launch(bound_parallel, *arguments)
        else:
            bound_serial(*arguments)


@compilation.kernel(
    input_type(types.float64, 1),
    input_type(types.float64, 1),
    input_type(types.float64, 1),
    input_type(types.float64, 1),
    types.float64,
    input_type(types.float64, 1),
    types.Array(types.float64, 2, "C"),
)
def bound_statistics_serial(
    statistic: FloatArray,
    dof: FloatArray,
    dispersion: FloatArray,
    effective: FloatArray,
    z_quantile: float,
    thresholds: FloatArray,
    out: FloatArray,
) -> None:
    """All series on the calling thread."""
    for i in range(statistic.size):
        row = out[i]
        row[:] = np.nan
        if effective[i] > 0.0:
            row[2] = dof[i] / (2.0 * effective[i])
            row[3] = effective[i]
            row[6] = dof[i] + 1.0
            row[7] = statistic[i]
            row[8] = dispersion[i]
        if statistic[i] == math.inf:
            row[0] = row[1] = math.inf
            row[4] = row[5] = -math.inf
        elif effective[i] > 0.0 and statistic[i] == statistic[i]:
            bound_statistic(statistic[i], dof[i], dispersion[i], effective[i], z_quantile, thresholds, row)


def bound_statistics(
    statistic: FloatArray,
    dof: FloatArray,
    dispersion: FloatArray,
    effective_samples: FloatArray,
    z_quantile: float,
    thresholds: FloatArray,
    out: FloatArray,
) -> None:
    """Confidence bounds on a divergence D from any statistic T that is distributed as in `bound_counts`; nats.

    T/c is close to a noncentral chi-squared of k/c degrees of freedom and noncentrality 2 N D/c.

    Parameters
    ----------
    statistic : (S,) float64, T; infinite: so are the bounds; NaN: so are bounds and p-values
    dof : (S,) float64 > 0, k
    dispersion : (S,) float64 >= 1, finite, c
    effective_samples : (S,) float64, N; where it is not above 0 all is NaN
    z_quantile : normal quantile of 1 - alpha / J, above 0
    thresholds : (2,) float64 >= 0, finite, warning and critical
    out : (S, 9) float64 in the order of `BOUNDS`; k + 1 stands for the number of bins

    Raises
    ------
    ValueError : another shape, type or memory layout than that, or a quantile that is not above 0
    """
    if not compilation.is_warm():
        compilation.warm_up()
    shape = (statistic.size,)
    require_array("statistic", statistic, np.float64, shape)
    require_array("dof", dof, np.float64, shape)
    require_array("dispersion", dispersion, np.float64, shape)
    require_array("effective_samples", effective_samples, np.float64, shape)
    require_array("thresholds", thresholds, np.float64, (2,))
    require_array("out", out, np.float64, (*shape, len(BOUNDS)))
    _require_quantile(z_quantile)
    with compilation.ieee():
        bound_statistics_serial(statistic, dof, dispersion, effective_samples, float(z_quantile), thresholds, out)


def _require_quantile(z_quantile: float) -> None:
    if not 0.0 < z_quantile < math.inf:
        raise ValueError(f"z_quantile: expected a finite number above 0, got {z_quantile}; alpha is below 1/2")
