"""Bounds on the noncentrality of a chi-squared statistic, by Sankaran's approximation; for the kernels."""

import math

from kldrift.kernels import compilation
from kldrift.records.types import FloatArray

#: Below it Sankaran's approximation breaks down: at 0.01 degrees of freedom it calls a statistic of 0 significant
#: (z = 4.5). From 0.1 to 0.4 it still wavers, at scores below 2.4. More degrees of freedom are the cautious side of
#: the lower bound; dispersions reach this far only where a rare cell carries all of a drift.
MIN_DEGREES_OF_FREEDOM = 0.1

_MAX_ITERATIONS = 100
_TOLERANCE = 1e-13
_LN10 = math.log(10.0)
_HALF_LN_2PI = 0.5 * math.log(2.0 * math.pi)
#: erfc has all its digits up to here; beyond, five terms of the asymptotic series give the logarithm all of its own.
_SERIES_FROM_Z = 25.0


@compilation.jit
def normal_score(x: float, dof: float, noncentrality: float) -> float:
    """The z with P(noncentral chi-squared > x) = Phi(-z), by Sankaran (1963); dof > 0, x >= 0."""
    mean = dof + noncentrality
    double = dof + 2.0 * noncentrality
    h = 1.0 - (2.0 / 3.0) * (mean / double) * ((dof + 3.0 * noncentrality) / double)  # from 1/3 to 1/2
    p = double / mean / mean
    m = (h - 1.0) * (1.0 - 3.0 * h)
    center = 1.0 + h * p * (h - 1.0 - 0.5 * (2.0 - h) * m * p)
    return (math.pow(x / mean, h) - center) / (h * math.sqrt(2.0 * p) * (1.0 + 0.5 * m * p))


@compilation.jit
def log10_upper_tail(z: float) -> float:
    """log10 Phi(-z), to the last digits near p = 1 and far beyond the smallest float."""
    if z < 0.0:
        return math.log1p(-0.5 * math.erfc(-z * math.sqrt(0.5))) / _LN10
    if z < _SERIES_FROM_Z:
        return math.log(0.5 * math.erfc(z * math.sqrt(0.5))) / _LN10
    v = 1.0 / z / z
    series = 1.0 - v * (1.0 - 3.0 * v * (1.0 - 5.0 * v * (1.0 - 7.0 * v * (1.0 - 9.0 * v))))
    return (math.log(series / z) - 0.5 * z * z - _HALF_LN_2PI) / _LN10


@compilation.jit
def last_crossing(x: float, dof: float, target: float) -> float:
    """The noncentrality above which the normal score stays below `target`; 0 where it is below from the start.

    Solved for the root of the noncentrality, in which the score is nearly a straight line: five steps by Chandrupatla's
    method (1997), inverse quadratic interpolation where that is safe and bisection where it is not. From above: far in
    the tail, at scores beyond any target, Sankaran's approximation is not monotone.
    """
    c = 0.0
    f_c = normal_score(x, dof, 0.0) - target
    if not f_c > 0.0:
        return f_c if f_c != f_c else 0.0
    a = math.sqrt(x) + 1.0 + (-target if target < 0.0 else 0.0)
    f_a = normal_score(x, dof, a * a) - target
    for _ in range(_MAX_ITERATIONS):
        if not f_a > 0.0:
            break
        c, f_c = a, f_a
        a *= 2.0
        f_a = normal_score(x, dof, a * a) - target
    if f_a > 0.0:
        return math.inf
    # a is the newest point, b on the other side of the root, c the one before
    b, f_b = c, f_c
    t = f_a / (f_a - f_b)
    best = a
    for _ in range(_MAX_ITERATIONS):
        new = a + t * (b - a)
        f_new = normal_score(x, dof, new * new) - target
        if (f_new > 0.0) == (f_a > 0.0):
            c, f_c = a, f_a
        else:
            c, f_c = b, f_b
            b, f_b = a, f_a
        a, f_a = new, f_new
        best = a if abs(f_a) < abs(f_b) else b
        width = abs(b - a)
        limit = _TOLERANCE * best
        if not width > 2.0 * limit or f_a == 0.0:
            break
        t = 0.5
        if f_c != f_b and c != b:
            xi = (a - b) / (c - b)
            share = (f_a - f_b) / (f_c - f_b)
            if share * share < xi and (1.0 - share) * (1.0 - share) < 1.0 - xi:
                t = f_a / (f_b - f_a) * f_c / (f_b - f_c) + (c - a) / (b - a) * f_a / (f_c - f_a) * f_b / (f_c - f_b)
        least = limit / width
        t = min(max(t, least), 1.0 - least)
    return best * best


@compilation.jit
def bound_statistic(
    statistic: float,
    dof: float,
    dispersion: float,
    effective: float,
    z_quantile: float,
    thresholds: FloatArray,
    out: FloatArray,
) -> None:
    """The bounds and p-values in `out`, in the order of `BOUNDS`, from T, the degrees of freedom, c and N."""
    x = max(0.0, statistic) / dispersion
    dof /= dispersion
    dof = dof if dof > MIN_DEGREES_OF_FREEDOM else MIN_DEGREES_OF_FREEDOM  # noqa: FURB136
    scale = 2.0 * effective / dispersion
    for i in range(2):  # one inlined copy each, which halves the time to compile
        out[i] = last_crossing(x, dof, z_quantile if i == 0 else -z_quantile) / scale
        out[4 + i] = log10_upper_tail(normal_score(x, dof, scale * thresholds[i]))
