"""The noncentral chi-squared distribution by Sankaran's approximation: scores, tails and bounds on noncentrality."""

import math

from kldrift.kernels import compilation

_MAX_ITERATIONS = 100
_TOLERANCE = 1e-13
_LN10 = math.log(10.0)
_HALF_LN_2PI = 0.5 * math.log(2.0 * math.pi)
#: erfc is accurate to the last digit up to here; beyond it, five terms of the asymptotic series give as accurate a
#: logarithm.
_SERIES_FROM_Z = 25.0


@compilation.jit
def normal_score(x: float, dof: float, noncentrality: float) -> float:
    """Return the z with P(noncentral chi-squared > x) = Phi(-z), by Sankaran (1963); dof > 0, x >= 0."""
    mean = dof + noncentrality
    double = dof + 2.0 * noncentrality
    h = 1.0 - (2.0 / 3.0) * (mean / double) * ((dof + 3.0 * noncentrality) / double)  # from 1/3 to 1/2
    p = double / mean / mean
    m = (h - 1.0) * (1.0 - 3.0 * h)
    center = 1.0 + h * p * (h - 1.0 - 0.5 * (2.0 - h) * m * p)
    return (math.pow(x / mean, h) - center) / (h * math.sqrt(2.0 * p) * (1.0 + 0.5 * m * p))


@compilation.jit
def log10_upper_tail(z: float) -> float:
    """Return log10 Phi(-z), accurate to the last digits near p = 1 and for p far below the smallest float."""
    if z < 0.0:
        return math.log1p(-0.5 * math.erfc(-z * math.sqrt(0.5))) / _LN10
    if z < _SERIES_FROM_Z:
        return math.log(0.5 * math.erfc(z * math.sqrt(0.5))) / _LN10
    v = 1.0 / z / z
    series = 1.0 - v * (1.0 - 3.0 * v * (1.0 - 5.0 * v * (1.0 - 7.0 * v * (1.0 - 9.0 * v))))
    return (math.log(series / z) - 0.5 * z * z - _HALF_LN_2PI) / _LN10


@compilation.jit
def last_crossing(x: float, dof: float, target: float) -> float:
    """Return the noncentrality above which the normal score stays below `target`; 0 if it is below from the start.

    We solve for the square root of the noncentrality, in which the score is nearly a straight line. That takes five
    steps of Chandrupatla's method (1997): inverse quadratic interpolation where that is safe, bisection where it is
    not. The search comes from above because far in the tail, at scores beyond any target, Sankaran's approximation is
    not monotone.
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
    # a is the newest point, b lies on the other side of the root, c is the point before
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
