"""How the values of a row are encoded."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import IntEnum
from typing import Any

import numpy as np
import pytest

from kldrift.client.encoding import Batch, encode_row


class Grade(IntEnum):
    A = 1


class Broken:
    def tolist(self) -> None:
        raise RuntimeError("not today")


VALUES = [
    (np.float32(0.1), 0.10000000149011612),
    (np.float64(0.1), 0.1),
    (np.int64(-(2**62)), -(2**62)),
    (np.uint8(7), 7),
    (np.bool_(True), True),
    (np.str_("é"), "é"),
    (np.array([1, 2], dtype=np.float32), [1.0, 2.0]),
    (np.array(2.5), 2.5),
    (np.datetime64("2026-01-02T03:04:05"), "2026-01-02T03:04:05"),
    ([np.float32(1.5), 2], [1.5, 2]),
    ((1, 2), [1, 2]),
    (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
    (date(2026, 1, 2), "2026-01-02"),
    (Decimal("0.5"), 0.5),
    (Grade.A, 1),
    (float("nan"), None),
    (np.float32("nan"), None),
    (np.array(np.nan), None),
    ("NaN", "NaN"),
    (10**30, 10**30),
    ("a\nb\ud800", "a\nb\ud800"),
]


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=lambda value: type(value).__name__)
def test_a_value_is_encoded_as_what_it_means(value: Any, expected: Any) -> None:
    line, problems = encode_row({"other": 1.5, "x": value})
    assert json.loads(line) == {"other": 1.5, "x": expected}
    assert b"\n" not in line
    assert not problems


def test_infinity_stays_as_the_daemon_counts_it_out_of_range() -> None:
    assert encode_row({"x": float("inf"), "y": np.float32("-inf")})[0] == b'{"x":Infinity,"y":-Infinity}'


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


def itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("make", [object, Broken, deep, itself, lambda: 1j, lambda: b"x", lambda: {1}])
def test_only_the_value_that_cannot_be_encoded_is_lost(make: Any) -> None:
    line, problems = encode_row({"a": 1, "x": make(), "nan": float("nan"), "b": np.float32(2)})
    assert json.loads(line) == {"a": 1, "x": None, "nan": None, "b": 2.0}
    assert len(problems) == 1
    assert problems[0].startswith("'x': ")


def test_a_value_whose_name_is_not_text_is_lost() -> None:
    line, problems = encode_row({("a", 1): 2, "b": 3})  # type: ignore[dict-item]
    assert json.loads(line) == {"b": 3}
    assert len(problems) == 1


def test_half_batches_hold_the_rows_of_the_batch_under_other_keys() -> None:
    batch = Batch([b"1", b"2", b"3"])
    first, second = batch.halves()
    assert first.lines + second.lines == batch.lines
    assert len({batch.key, first.key, second.key}) == 3
    assert batch.body(compress=True) == batch.body(compress=True)
