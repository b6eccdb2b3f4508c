"""Confidence bounds on the KL divergence from counts: how much chance can explain, and how much it cannot."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import prange

from kldrift.kernels import compilation
from kldrift.kernels.arguments import array_type, input_array, input_type, require_array, tuple_type
from kldrift.kernels.noncentral import last_crossing, log10_upper_tail, normal_score
from kldrift.kernels.series import cut_series, log_ratio
from kldrift.records.kinds import MIN_DEGREES_OF_FREEDOM
from kldrift.records.types import FloatArray, IntArray

#: Columns of the output, by name and by number.
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
LOWER, UPPER, NOISE_FLOOR, EFFECTIVE_SAMPLES, LOG10_P_WARNING, LOG10_P_CRITICAL, N_BINS, STATISTIC, DISPERSION = range(
    len(BOUNDS)
)
#: One thread bounds fewer series than this in less time than it takes to wake the others.
PARALLEL_FROM_SERIES = 200
_MAX_WILLIAMS = 1.5
#: A divergence below this is nothing but rounding.
_ROUNDING = 1e-14


class _Series(NamedTuple):
    """What the series of S windows and F features are bounded from; see `bound_counts`."""

    live: IntArray
    reference: FloatArray
    always_counted: npt.NDArray[np.bool_]
    offsets: IntArray
    reference_rows: FloatArray
    phi_live: FloatArray
    phi_reference: FloatArray
    lambda_ratio: FloatArray
    z_quantile: float
    thresholds: FloatArray


@compilation.jit
def _bound_statistic(
    statistic: float,
    dof: float,
    dispersion: float,
    effective: float,
    z_quantile: float,
    thresholds: FloatArray,
    out: FloatArray,
) -> None:
    """Put the bounds and p-values in `out`, from T, the degrees of freedom, c and N."""
    x = max(0.0, statistic) / dispersion
    dof /= dispersion
    dof = dof if dof > MIN_DEGREES_OF_FREEDOM else MIN_DEGREES_OF_FREEDOM  # noqa: FURB136
    scale = 2.0 * effective / dispersion
    for i in range(2):  # lower and upper bound, warning and critical: inlined once each, which halves the compile time
        out[LOWER + i] = last_crossing(x, dof, z_quantile if i == 0 else -z_quantile) / scale
        out[LOG10_P_WARNING + i] = log10_upper_tail(normal_score(x, dof, scale * thresholds[i]))


@compilation.jit
def _bound_one(series: _Series, window: int, feature: int, out: FloatArray) -> None:
    """Bound one series; `out` in the order of `BOUNDS`."""
    start, stop = series.offsets[feature], series.offsets[feature + 1]
    counts = series.live[window][start:stop]
    q = series.reference[start:stop]
    always_counted = series.always_counted[start:stop]
    m = series.reference_rows[feature]
    lambda_ratio = series.lambda_ratio[window, feature]
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
    effective = 1.0 / (series.phi_live[window, feature] / n + series.phi_reference[feature] * inverse_m)
    out[NOISE_FLOOR] = (n_bins - 1) / (2.0 * effective)
    out[EFFECTIVE_SAMPLES] = effective
    out[N_BINS] = n_bins
    if infinite:
        out[LOWER] = out[UPPER] = out[STATISTIC] = math.inf
        out[LOG10_P_WARNING] = out[LOG10_P_CRITICAL] = -math.inf
        out[DISPERSION] = max(1.0, lambda_ratio)
        return
    if n_bins < 2:  # nothing can move: D is what smoothing makes of a single cell
        out[LOWER] = out[LOG10_P_WARNING] = out[LOG10_P_CRITICAL] = out[STATISTIC] = 0.0
        out[UPPER] = max(0.0, kl)
        out[DISPERSION] = 1.0
        return
    variance = max(0.0, square - kl * kl)
    # q scaled to 1 over the cells that count; exactly unchanged where all of them do
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
    dof = float(n_bins - 1)
    _bound_statistic(statistic, dof, dispersion, effective, series.z_quantile, series.thresholds[feature], out)
    out[STATISTIC] = statistic
    out[DISPERSION] = dispersion


@compilation.jit
def _bound_series(series: _Series, first: int, last: int, out: FloatArray) -> None:
    """Bound series first:last; series number = window * n_features + feature."""
    n_features = series.offsets.size - 1
    for i in range(first, last):
        window, feature = i // n_features, i % n_features
        _bound_one(series, window, feature, out[window, feature])


_ARGUMENTS = (
    tuple_type(_Series, live=2, phi_live=2, lambda_ratio=2, thresholds=2),
    input_type(np.int64),
    array_type(np.float64, 3),
)


@compilation.parallel_kernel(*_ARGUMENTS)
def bound_parallel(series: _Series, pieces: IntArray, out: FloatArray) -> None:
    """Bound the pieces on all threads; piece i is series pieces[i]:pieces[i + 1]."""
    for i in prange(pieces.size - 1):
        _bound_series(series, pieces[i], pieces[i + 1], out)


@compilation.kernel(*_ARGUMENTS)
def bound_serial(series: _Series, pieces: IntArray, out: FloatArray) -> None:
    """Bound all pieces on the calling thread."""
    _bound_series(series, pieces[0], pieces[-1], out)


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
    """Compute confidence bounds, in nats, on the divergence D of the distribution behind each series of live counts.

    With x the live counts of a series, n their sum, p = x / n, B the number of cells that count, q the smoothed
    reference scaled to add up to 1 over those cells, m its rows:

    K = sum p ln(p / q), V = sum p ln^2(p / q) - K^2, W = sum p^2 / q - 1
    N0 = 1 / (1/n + 1/m), N = 1 / (phi_live/n + phi_reference/m)
    w = min(1.5, 1 + (sum 1/q - 1) / (6 n (B - 1))) (Williams)
    T = [2 N0 K - (B - 1)(w - 1) m/(n + m)] N/N0
    c = max(1, lambda_ratio, (V/n + W/m) N0 / (2 K))

    T/c is approximately noncentral chi-squared with (B - 1)/c degrees of freedom and noncentrality 2 N D/c; z(D) is its
    normal score by Sankaran's approximation.

    lower, upper        the largest D with z(D) > z_quantile, > -z_quantile; 0 if there is none
    noise_floor         (B - 1) / (2 N), the divergence expected when nothing has drifted
    effective_samples   N
    log10_p_warning, log10_p_critical   log10 Phi(-z(threshold)), the p-values of "D <= threshold"
    n_bins, statistic, dispersion       B, T, c

    Why q is scaled: smoothing takes what it gives to empty cells that do not count from the other cells, which adds
    about 1 / (2 m) to K for each such cell. With two bins and three such cells, one quiet window in seven would have a
    lower bound above 0 at alpha = 0.025.

    Where a live value has probability 0 (nothing smoothed), K and both bounds are infinite and the p-values are 0. With
    B = 1 nothing can move: the lower bound is 0, the upper bound K as exported, and the p-values are 1. The
    degrees of freedom are never taken to be below `MIN_DEGREES_OF_FREEDOM`.

    Parameters
    ----------
    live : (S, C) int64, the counts of S windows
    reference_probabilities : (C,) float64, smoothed, adding up to 1 in each feature
    always_counted : (C,) bool, regular bins and cells that are not empty in the reference; the other cells count
        towards B only where the window has something in them
    offsets : (F + 1,) int64, feature f owns columns offsets[f]:offsets[f + 1]
    reference_rows : (F,) float64, m; infinite where the reference is known exactly
    phi_live : (S, F) float64 >= 1, overdispersion of blocks the size of the window
    phi_reference : (F,) float64 >= 1, the largest overdispersion measured
    lambda_ratio : (S, F) float64 >= 1, lambda / phi of blocks the size of the window
    z_quantile : normal quantile of 1 - alpha / J, above 0
    thresholds : (F, 2) float64 >= 0, finite, warning and critical
    out : (S, F, 9) float64 in the order of `BOUNDS`; NaN where the window or the reference is empty

    Raises
    ------
    ValueError : an array has another shape, type or memory layout, or the quantile is not above 0

    References
    ----------
    Miller (1955); Sankaran (1963); Williams (1976); Rao & Scott (1984); Chandrupatla (1997).
    """
    compilation.warm_up()
    n_windows, n_features = len(live), len(offsets) - 1
    n_cells = int(offsets[-1])
    series = _Series(
        live=input_array("live", live, np.int64, (n_windows, n_cells)),
        reference=input_array("reference_probabilities", reference_probabilities, np.float64, (n_cells,)),
        always_counted=input_array("always_counted", always_counted, np.bool_, (n_cells,)),
        offsets=input_array("offsets", offsets, np.int64, (n_features + 1,)),
        reference_rows=input_array("reference_rows", reference_rows, np.float64, (n_features,)),
        phi_live=input_array("phi_live", phi_live, np.float64, (n_windows, n_features)),
        phi_reference=input_array("phi_reference", phi_reference, np.float64, (n_features,)),
        lambda_ratio=input_array("lambda_ratio", lambda_ratio, np.float64, (n_windows, n_features)),
        z_quantile=_quantile(z_quantile),
        thresholds=input_array("thresholds", thresholds, np.float64, (n_features, 2)),
    )
    require_array("out", out, np.float64, (n_windows, n_features, len(BOUNDS)))
    n_threads = compilation.threads_for(n_windows * n_features, PARALLEL_FROM_SERIES)
    # Smaller pieces than for the divergences: series in drift take three times as long, and may be neighbours.
    pieces = cut_series(offsets, n_windows, 16 * n_threads)
    compilation.run(bound_serial, bound_parallel, n_threads > 1, series, pieces, out)


class _Statistics(NamedTuple):
    """What S series are bounded from; see `bound_statistics`."""

    statistic: FloatArray
    dof: FloatArray
    dispersion: FloatArray
    effective: FloatArray
    z_quantile: float
    thresholds: FloatArray


@compilation.kernel(tuple_type(_Statistics), array_type(np.float64, 2))
def bound_statistics_serial(series: _Statistics, out: FloatArray) -> None:
    """Bound all series on the calling thread."""
    for i in range(series.statistic.size):
        row = out[i]
        statistic, dof, effective = series.statistic[i], series.dof[i], series.effective[i]
        dispersion = series.dispersion[i]
        row[:] = np.nan
        if effective > 0.0:
            row[NOISE_FLOOR] = dof / (2.0 * effective)
            row[EFFECTIVE_SAMPLES] = effective
            row[N_BINS] = dof + 1.0
            row[STATISTIC] = statistic
            row[DISPERSION] = dispersion
        if statistic == math.inf:
            row[LOWER] = row[UPPER] = math.inf
            row[LOG10_P_WARNING] = row[LOG10_P_CRITICAL] = -math.inf
        elif effective > 0.0 and statistic == statistic:
            _bound_statistic(statistic, dof, dispersion, effective, series.z_quantile, series.thresholds, row)


def bound_statistics(
    statistic: FloatArray,
    dof: FloatArray,
    dispersion: FloatArray,
    effective_samples: FloatArray,
    z_quantile: float,
    thresholds: FloatArray,
    out: FloatArray,
) -> None:
    """Compute confidence bounds, in nats, on a divergence D from any statistic T distributed as in `bound_counts`.

    T/c is approximately noncentral chi-squared with k/c degrees of freedom and noncentrality 2 N D/c.

    Parameters
    ----------
    statistic : (S,) float64, T; the bounds are infinite where it is; bounds and p-values are NaN where it is
    dof : (S,) float64 > 0, k
    dispersion : (S,) float64 >= 1, finite, c
    effective_samples : (S,) float64, N; everything is NaN where it is not above 0
    z_quantile : normal quantile of 1 - alpha / J, above 0
    thresholds : (2,) float64 >= 0, finite, warning and critical
    out : (S, 9) float64 in the order of `BOUNDS`; k + 1 takes the place of the number of bins

    Raises
    ------
    ValueError : an array has another shape, type or memory layout, or the quantile is not above 0
    """
    compilation.warm_up()
    shape = (statistic.size,)
    series = _Statistics(
        statistic=input_array("statistic", statistic, np.float64, shape),
        dof=input_array("dof", dof, np.float64, shape),
        dispersion=input_array("dispersion", dispersion, np.float64, shape),
        effective=input_array("effective_samples", effective_samples, np.float64, shape),
        z_quantile=_quantile(z_quantile),
        thresholds=input_array("thresholds", thresholds, np.float64, (2,)),
    )
    require_array("out", out, np.float64, (*shape, len(BOUNDS)))
    with compilation.ieee():
        bound_statistics_serial(series, out)


def _quantile(z_quantile: float) -> float:
    if not 0.0 < z_quantile < math.inf:
        raise ValueError(f"z_quantile: expected a finite number above 0, got {z_quantile}; alpha must be below 1/2")
    return float(z_quantile)
