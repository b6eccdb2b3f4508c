"""Digits to doubles: the nearest one, ties to even, bit for bit what Python's own conversion gives."""

import random
import struct
from fractions import Fraction

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kldrift.kernels import compilation
from kldrift.kernels.parsing import decimal

TAIL = b"," + b" " * 32


@numba.njit(**compilation.OPTIONS)
def parse_numbers(data, starts, values, ends) -> None:
    for i in range(starts.size):
        ends[i], values[i] = decimal.parse_number(data, starts[i])


def parse(texts: list[str]) -> tuple[np.ndarray, list[int]]:
    """The values, and the characters taken; -1 where the number was left."""
    data = b"".join(text.encode() + TAIL for text in texts)
    starts = np.cumsum([0, *(len(text) + len(TAIL) for text in texts)])[:-1].astype(np.int64)
    values = np.empty(len(texts))
    ends = np.empty(len(texts), dtype=np.int64)
    with compilation.ieee():
        parse_numbers(np.frombuffer(data, dtype=np.uint8), starts, values, ends)
    return values, np.where(ends < 0, -1, ends - starts).tolist()


def assert_exact(texts: list[str]) -> None:
    values, taken = parse(texts)
    assert taken == [len(text) for text in texts]
    expected = np.array([float(text) for text in texts])
    wrong = np.flatnonzero(values.view(np.uint64) != expected.view(np.uint64)).tolist()
    assert not wrong, [(texts[i], values[i], expected[i]) for i in wrong[:5]]


def random_doubles(n: int, seed: int) -> np.ndarray:
    """Of all exponents, as bit patterns."""
    bits = np.random.default_rng(seed).integers(0, 1 << 64, size=n, dtype=np.uint64)
    values = bits.view(np.float64)
    return values[np.isfinite(values)]


@pytest.mark.parametrize("form", ["%r", "%.17e", "%.16e", "%.15e", "%.18e"])
def test_doubles_of_all_exponents(form: str) -> None:
    assert_exact([form % value for value in random_doubles(60_000, seed=len(form)).tolist()])


def test_subnormals() -> None:
    bits = np.random.default_rng(1).integers(1, 1 << 52, size=20_000, dtype=np.uint64) >> (
        np.arange(20_000) % 52
    ).astype(np.uint64)
    values = bits.view(np.float64)
    assert_exact([repr(value) for value in values.tolist()])
    assert_exact([f"{value:.17e}" for value in values.tolist()])


def test_numbers_as_people_write_them() -> None:
    draw = np.random.default_rng(2)
    normal = draw.normal(size=20_000).tolist()
    assert_exact([f"{value:.{digits}f}" for value in normal for digits in (1, 4, 16)])
    assert_exact([str(value) for value in draw.integers(-(10**6), 10**6, size=20_000).tolist()])
    assert_exact([str(value) for value in draw.integers(-(2**63), 2**63 - 1, size=20_000).tolist() if value])
    assert_exact([f"{value}e{exponent}" for value, exponent in draw.integers(1, 400, size=(20_000, 2)).tolist()])


HARD = [
    "5e-324", "4.9406564584124654e-324", "2.4703282292062327e-324", "2.4703282292062328e-324", "2.47e-324",
    "2.2250738585072011e-308", "2.2250738585072014e-308", "2.2250738585072009e-308", "2.225073858507201e-308",
    "1.7976931348623157e308", "1.7976931348623158e308", "1.7976931348623159e308", "1.797693134862315808e308",
    "1e308", "1e309", "-1e309", "1e400", "1e-400", "1e-342", "1e-343", "9999999999999999999e-343",
    "0.0", "-0.0", "0e5", "-0e-5", "0e99999999999999999999", "1e99999999999999999999", "1e-99999999999999999999",
    "9007199254740993", "9007199254740993.0", "9007199254740992.5", "9007199254740995", "9007199254740991.5",
    "9007199254740993e0", "900719925474099300e-2", "4503599627370497.5", "4503599627370496.5",
    "9999999999999999999", "1000000000000000000", "9223372036854775807",
    "1e22", "1e23", "1e-22", "1e-23", "9007199254740992e22", "9007199254740992e-22", "3e22", "9007199254740993e22",
    "0.1", "0.30000000000000004", "1E5", "1e+5", "1.5E-05",
    "7.2057594037927933e16", "8.98846567431158e307", "6.9294956446009195e15",
    "9214843084008499e-3", "1.000000000000000111", "2.000000000000000444", "358416272e-33", "4110013277974872254e-225",
    "12345678", "123456789", "1234567.8", "0.12345678", "0.123456781234567", "0.1234567812345678", "12345678.12345678",
]  # fmt: skip


def test_hard_cases() -> None:
    assert_exact([sign + text.removeprefix("-") for text in HARD for sign in ("", "-")])


def test_halfway_between_two_doubles() -> None:
    """Exact ties, and their neighbours of 19 digits: to the even one, above, below."""
    rng = random.Random(3)
    texts = []
    while len(texts) < 30_000:
        odd = rng.getrandbits(rng.choice((53, 54))) | 1 << 53 | 1  # one bit more than fits
        scaled = Fraction(odd) * Fraction(2) ** rng.randint(-20, 12)
        for exponent in range(-22, 4):
            digits = scaled / Fraction(10) ** exponent
            if digits.denominator == 1 and digits < 10**19:
                texts += [f"{digits.numerator + off}e{exponent}" for off in (-1, 0, 1) if digits + off < 10**19]
                break
        else:
            near = round(scaled * 10**3) if scaled < 10**16 else round(scaled)
            texts.append(f"{near % 10**19}e-3")
    assert_exact(texts)


def test_an_integer_has_no_negative_zero() -> None:
    values, taken = parse(["-0", "-0.0", "-0e0", "0", "-0.00e3"])
    assert np.signbit(values).tolist() == [False, True, True, False, True]
    assert taken == [2, 4, 4, 1, 7]


@pytest.mark.parametrize(
    "text",
    ["", "-", "+1", "01", "-01", "00", "1.", "-1.", ".5", "1.e5", "1e", "1e+", "1e-", "1E x", "NaN", "Infinity", "--1",
     "-Infinity", "e5", "x", '"1"', "12345678901234567890", "0.12345678901234567891", "1.2345678901234567890e5"],
)  # fmt: skip
def test_what_is_no_plain_number_is_left(text: str) -> None:
    assert parse([text])[1] == [-1]


def test_leading_zeros_do_not_count_as_digits() -> None:
    assert_exact(
        ["0.00012345678901234567", "0.0000000001234567890123456789", "0." + "0" * 28, "-0." + "0" * 27 + "1e5"]
    )


def test_what_is_longer_than_a_vector_register_is_left() -> None:
    assert parse(["0." + "0" * 30, "1" + "0" * 31, "0." + "0" * 20 + "1234567890123456789"])[1] == [-1, -1, -1]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.from_regex(r"-?(0|[1-9][0-9]{0,9})(\.[0-9]{1,9})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)))
def test_every_number_of_json(texts: list[str]) -> None:
    texts = [text for text in texts if text.lstrip("-") != "0"]
    if texts:
        assert_exact(texts)


def test_the_powers_of_five_are_what_they_stand_for() -> None:
    table = decimal._FIVES
    assert len(table) == 2 * (308 + 342 + 1)
    for at in range(0, len(table), 2):
        exponent = at // 2 - 342
        mantissa = int(table[at]) << 64 | int(table[at + 1])
        assert mantissa >> 127 == 1
        exact = Fraction(5) ** exponent
        binary = exact.numerator.bit_length() - exact.denominator.bit_length()
        ratio = exact / Fraction(2) ** (binary - 127)
        ratio = ratio * 2 if ratio < 2**127 else ratio / 2 if ratio >= 2**128 else ratio
        assert abs(mantissa - ratio) <= 1, exponent
        if 0 <= exponent <= 55:
            assert mantissa == ratio, exponent


def test_bits_of_one_number() -> None:
    (value,), _ = parse(["0.1"])
    assert struct.pack("<d", value) == struct.pack("<d", 0.1)
