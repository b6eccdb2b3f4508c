"""What the kernels over series share: how series are divided among threads, and a logarithm."""

import numpy as np

from kldrift.kernels import compilation
from kldrift.kernels.memory import float_bits, float_of_bits
from kldrift.records.types import IntArray

_LN2_HIGH = 6.93147180369123816490e-01  # the last 20 bits are 0: a multiple by an exponent is exact
_LN2_LOW = 1.90821492927058770002e-10
_A1, _A2, _A3, _A4 = 0.6666666666666694, 0.39999999999333513, 0.2857142883672596, 0.22222182695125237
_A5, _A6, _A7 = 0.18184614608329083, 0.15283597311233788, 0.15119452904680136
_SCALE = 2.0**100
_HALF_EXPONENT = 1 << 51


@compilation.jit
def log_ratio(x: float, y: float) -> float:
    """Return ln(x / y) of positive finite numbers, to about 2 units in the last place even where x is close to y.

    With 2^k a power of two close to x / y, ln(x / y) = k ln 2 + 2 artanh(s), s = (x - 2^k y) / (x + 2^k y),
    |s| < 0.2: one division, no table and no branch, so the loop vectorises (a call of libm's log takes 5 ns).
    x - 2^k y is exact. For any other arguments the result is meaningless, but nothing traps.
    """
    x *= _SCALE  # subnormal probabilities become normal
    y *= _SCALE
    y_bits = float_bits(y)
    k = (float_bits(x) - y_bits + _HALF_EXPONENT) >> 52
    y = float_of_bits(y_bits + (k << 52))
    s = (x - y) / (x + y)
    z = s * s
    w = z * z
    # 2 artanh(s) = 2 s + s (2/3 z + 2/5 z^2 + ...), here interpolated at Chebyshev nodes of |s| < 0.2003:
    # the error is below 6e-17 of the whole.
    odd = z * (_A1 + w * (_A3 + w * (_A5 + w * _A7)))
    even = w * (_A2 + w * (_A4 + w * _A6))
    return k * _LN2_HIGH + (2.0 * s + (s * (odd + even) + k * _LN2_LOW))


def cut_series(offsets: IntArray, n_windows: int, n_pieces: int) -> IntArray:
    """Return the boundaries (n_pieces + 1,) of runs of series with about the same number of cells."""
    n_features, n_cells = len(offsets) - 1, int(offsets[-1])
    cells = np.arange(n_pieces + 1) * (n_windows * n_cells) // n_pieces
    windows, within = np.divmod(cells, max(n_cells, 1))
    boundaries = windows * n_features + np.searchsorted(offsets, within)
    boundaries[-1] = n_windows * n_features
    return np.asarray(boundaries, dtype=np.int64)
