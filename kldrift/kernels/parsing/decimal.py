"""From decimal digits to the nearest double.

A number as text consists of digits, perhaps with a point, and a power of ten: m * 10^e with an integer m. Digits are
taken eight at a time in a 64-bit word: three multiplications combine neighbours into pairs, fours and eights. Up to 19
digits fit into m exactly; a number with more significant digits is left to the caller.

The nearest double to m * 10^e, ties to even:

- If m <= 2^53 and abs(e) <= 22, both are doubles, and one multiplication or division rounds once (Clinger 1990). We do
  this only for e >= -12: numbers of 16 and 17 digits lie on both sides of 2^53, and a mispredicted branch costs more.
- Otherwise, m, shifted up to 64 bits, is multiplied by the 128 leading bits of 5^e. Usually 64 bits of the product are
  enough to decide; if they are all ones where it matters, the lower half of 5^e is brought in, which always decides
  (Mushtak & Lemire 2023). An exact tie needs 5^e to divide out, so e is between -4 and 23.

References
----------
Clinger (1990), How to read floating point numbers accurately, PLDI.
Lemire (2021), Number parsing at a gigabyte per second, Software: Practice and Experience 51(8).
Mushtak & Lemire (2023), Fast number parsing without fallback, Software: Practice and Experience 53(7).
"""

from typing import Any

import numpy as np

from kldrift.kernels.memory import float_bits, float_of_bits, read_input
from kldrift.kernels.words import (
    Bytes,
    Words,
    byte_at,
    leading_zeros,
    marks_at,
    piece,
    product,
    trailing_zeros,
    word_at,
)

#: For every 64-bit m, m * 10^e is zero below the first exponent and infinite above the last.
_LEAST_EXPONENT = -342
_MOST_EXPONENT = 308
#: Exponents are cut off here, far beyond any that makes a difference.
_EXPONENT_LIMIT = 100_000
_MOST_DIGITS = 19
#: Bits for a minus and the digits, counted from the minus.
_BEGINS = np.uint64(0b1_1111_1111_1001)

_ZEROS = np.uint64(0x3030303030303030)
_SIXES = np.uint64(0x7676767676767676)  # a digit's value plus this has no high bit
_HIGH_BITS = np.uint64(0x8080808080808080)
_LOW_NIBBLES = np.uint64(0x0F0F0F0F0F0F0F0F)
_EVEN_BYTES = np.uint64(0x00FF00FF00FF00FF)
_EVEN_PAIRS = np.uint64(0x0000FFFF0000FFFF)
_PAIR = np.uint64(10 * 2**8 + 1)
_FOUR = np.uint64(100 * 2**16 + 1)
_EIGHT = np.uint64(10_000 * 2**32 + 1)
_N0, _N1, _N3 = (np.uint64(n) for n in (0, 1, 3))
_N8, _N9, _N16, _N32, _N63 = (np.uint64(n) for n in (8, 9, 16, 32, 63))
_EXACT = np.uint64(1 << 53)
#: The bits of the product below the 55 that a rounded double needs: 53, one for rounding, and one lost to the shift.
_BELOW_PRECISION = np.uint64((1 << 9) - 1)


def _powers_of_five() -> Words:
    """Return the 128 leading bits of 5^e, high half first, for every exponent; those of 1 / 5^-e are rounded up."""
    halves = []
    for exponent in range(_LEAST_EXPONENT, _MOST_EXPONENT + 1):
        power = 5 ** abs(exponent)
        if exponent < 0:
            bits = power.bit_length() - (power & (power - 1) == 0)  # ceil(log2), as 5^-e is no power of two
            wide = (1 << (bits + 127 if exponent >= -27 else 2 * bits + 128)) // power + 1
        else:
            wide = power << 128
        wide >>= wide.bit_length() - 128
        halves += [wide >> 64, wide & 0xFFFFFFFFFFFFFFFF]
    return np.array(halves, dtype=np.uint64)


_FIVES = _powers_of_five()
_TENS = 10.0 ** np.arange(23)
_PLACES = np.array([10**n for n in range(9)], dtype=np.uint64)
_EIGHT_PLACES = np.uint64(10**8)


@piece
def _signed(value: Any) -> Any:
    """Return a word without its highest bit set as a signed integer."""
    return np.int64(value)


@piece
def eight_digits(word: Any) -> Any:
    """Return the number that eight digits in a word make; zero bytes count as the digit 0."""
    word = ((word & _LOW_NIBBLES) * _PAIR) >> _N8
    word = ((word & _EVEN_BYTES) * _FOUR) >> _N16
    return ((word & _EVEN_PAIRS) * _EIGHT) >> _N32


@piece
def count_digits(word: Any) -> int:
    """Count the digits among the eight bytes, up to the first byte that is not one."""
    distance = word ^ _ZEROS
    return trailing_zeros(((distance + _SIXES) | distance) & _HIGH_BITS) >> 3


@piece
def _right(word: Any, count: int) -> Any:
    """Move the first `count` digits of a word to its end, with zeros before them."""
    half = np.uint64(32 - 4 * count)  # two shifts, because a single one by 64 would do nothing
    return (word << half) << half


@piece
def append_digits(digits: Any, data: Bytes, at: int, count: int) -> Any:
    """Append the `count` digits (fewer than 32) at `at` to a number, modulo 2^64."""
    if count >= 16:
        digits = digits * _EIGHT_PLACES + eight_digits(word_at(data, at))
        digits = digits * _EIGHT_PLACES + eight_digits(word_at(data, at + 8))
        at += 16
        count -= 16
    if count >= 8:
        digits = digits * _EIGHT_PLACES + eight_digits(word_at(data, at))
        at += 8
        count -= 8
    return digits * read_input(_PLACES, count) + eight_digits(_right(word_at(data, at), count))


@piece
def _digits_around_point(data: Bytes, start: int, whole: int, count: int) -> Any:
    """Return the number that `count` digits from `start` make, with a point after the first `whole` of them.

    `count` is at most 24 and `whole` at most 7. The point is removed from the first word. There is no branch on how
    many digits there are beyond eight: among numbers of 16 and 17 digits, every other one would be mispredicted.
    """
    before = (_N1 << np.uint64(8 * whole)) - _N1
    word = (word_at(data, start) & before) | (word_at(data, start + 1) & ~before)
    if count <= 8:
        return eight_digits(_right(word, count))
    second = count - 8 if count < 16 else 8
    third = count - 8 - second
    digits = eight_digits(word) * read_input(_PLACES, second)
    digits = (digits + eight_digits(_right(word_at(data, start + 9), second))) * read_input(_PLACES, third)
    return digits + eight_digits(_right(word_at(data, start + 17), third))


@piece
def to_double(digits: Any, exponent: int) -> float:
    """Return the double nearest to digits * 10^exponent, ties to even.

    Parameters
    ----------
    digits : uint64
    """
    if -12 <= exponent <= 22 and digits <= _EXACT:
        value: float = np.float64(_signed(digits))
        if exponent < 0:
            value /= read_input(_TENS, -exponent)
        else:
            value *= read_input(_TENS, exponent)
        return value
    if digits == _N0 or exponent < _LEAST_EXPONENT:
        return 0.0
    if exponent > _MOST_EXPONENT:
        return np.inf
    return _by_power_of_five(digits, exponent)


@piece
def _by_power_of_five(digits: Any, exponent: int) -> float:
    """Do what `to_double` does where one multiplication of doubles is not enough."""
    shift = leading_zeros(digits)
    digits = digits << np.uint64(shift)
    at = 2 * (exponent - _LEAST_EXPONENT)
    high, low = product(digits, read_input(_FIVES, at))
    if high & _BELOW_PRECISION == _BELOW_PRECISION:
        more, _ = product(digits, read_input(_FIVES, at + 1))
        low = low + more
        if low < more:
            high = high + _N1
    top = high >> _N63
    below = top + _N9  # bits of `high` below the 54 that are kept
    mantissa = high >> below
    # floor(log2(10^e)) is (217706 * e) >> 16 for these exponents; 1086 = 1023 + 63
    biased = ((217_706 * exponent) >> 16) + 1086 + _signed(top) - shift
    if biased <= 0:
        if biased <= -63:
            return 0.0
        mantissa = mantissa >> np.uint64(1 - biased)
        # A mantissa that rounds up to 2^52 is the smallest normal number, which has the same bits.
        mantissa = (mantissa + (mantissa & _N1)) >> _N1
        return float_of_bits(_signed(mantissa))
    if biased > 2046:
        return np.inf
    # Halfway between two doubles, and the lower one is even.
    if low <= _N1 and -4 <= exponent <= 23 and mantissa & _N3 == _N1 and mantissa << below == high:
        mantissa = mantissa - _N1
    mantissa = (mantissa + (mantissa & _N1)) >> _N1
    # The hidden bit, or the carry beyond it, adds to the exponent above it, which at most becomes that of infinity.
    return float_of_bits(((biased - 1) << 52) + _signed(mantissa))


@piece
def _significant_digits(data: Bytes, start: int, stop: int) -> int:
    """Count the digits of a number without leading zeros; `stop` is after the last digit."""
    count = 0
    for i in range(start, stop):
        byte = byte_at(data, i)
        if byte != 46 and (count > 0 or byte != 48):
            count += 1
    return count


@piece
def parse_exponent(data: Bytes, at: int) -> tuple[int, int]:
    """Return where the exponent after an ``e`` ends, -1 if there is none, and its value."""
    sign = byte_at(data, at)
    if sign == 43 or sign == 45:
        at += 1
    start = at
    exponent = 0
    digit = byte_at(data, at) - 48
    while 0 <= digit <= 9:
        if exponent < _EXPONENT_LIMIT:
            exponent = exponent * 10 + digit
        at += 1
        digit = byte_at(data, at) - 48
    return at if at > start else -1, -exponent if sign == 45 else exponent


@piece
def parse_number(data: Bytes, at: int) -> tuple[int, float]:
    """Return where the JSON number at `at` ends, and the number.

    The end is -1 if there is no number, if more than 19 of its digits are significant, or if its digits do not end
    within 32 characters, which is how many bytes are looked at. An integer -0 is 0: integers have no negative zero.

    The next number has to wait only for the end of this one; the sign, the digits and the double are worked out in the
    meantime.
    """
    marks = marks_at(data, at)
    # No branch on the sign: with arbitrary signs it would be mispredicted half of the time. Hence a set of bits for
    # what a number may start with, and below, the sign as a bit.
    kind = byte_at(data, at) - 45
    if kind < 0 or kind > 12 or (_BEGINS >> np.uint64(kind)) & _N1 == _N0:
        return -1, 0.0
    negative = _signed(kind == 0)
    marks = marks & ~_N1
    end = at + trailing_zeros(marks)
    start = at + negative
    whole = end - start
    if marks == _N0 or whole == 0 or (whole > 1 and byte_at(data, start) == 48):
        return -1, 0.0
    exponent = 0
    point = end
    mark = byte_at(data, end)
    integer = True
    if mark == 46:
        integer = False
        first = end + 1
        marks = marks & (marks - _N1)
        end = at + trailing_zeros(marks)
        if marks == _N0 or end == first:
            return -1, 0.0
        exponent = first - end
        if whole - exponent > _MOST_DIGITS and _significant_digits(data, start, end) > _MOST_DIGITS:
            return -1, 0.0
        mark = byte_at(data, end)
    elif whole > _MOST_DIGITS:
        return -1, 0.0
    if whole <= 7 and whole - exponent <= 24:
        digits = _digits_around_point(data, start, whole, whole - exponent)
    else:
        digits = append_digits(append_digits(_N0, data, start, whole), data, point + 1, -exponent)
    if mark | 32 == 101:
        integer = False
        end, power = parse_exponent(data, end + 1)
        if end < 0:
            return -1, 0.0
        exponent += power
    if integer and digits == _N0:
        negative = 0
    return end, float_of_bits(float_bits(to_double(digits, exponent)) | (negative << 63))
