"""Event times."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kldrift.wire.tables import NO_TIME
from kldrift.wire.timestamps import time_from_text, times_from_numbers, times_from_texts

NOON = 1709208000000  # 2024-02-29T12:00:00Z


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2024-02-29T12:00:00Z", NOON), ("2024-02-29 12:00:00", NOON), ("2024-02-29T12:00:00.5", NOON + 500),
        ("2024-02-29T12:00:00.123456789Z", NOON + 123), ("2024-02-29T14:00:00+02:00", NOON),
        ("2024-02-29T14:00:00+0200", NOON), ("2024-02-29T14+02", NO_TIME), ("2024-02-29T12:00Z", NOON),
        ("2024-02-29T06:30:00-05:30", NOON), ("2024-02-29", NOON - 12 * 3600_000), ("2024-02-29T12:00:00 Z", NOON),
        ("1970-01-01T00:00:00Z", 0), ("1970-01-01T00:00:00+01:00", NO_TIME),
        ("2261-12-31T23:59:59.999Z", 9214646399999),
        ("2262-01-01T00:00:00Z", NO_TIME), ("2023-02-29T12:00:00Z", NO_TIME), ("2024-13-01", NO_TIME),
        ("2024", NO_TIME),
        ("2024-02-29T24:00:00Z", NO_TIME), ("2024-02-29T12:00:60Z", NO_TIME), ("", NO_TIME), ("now", NO_TIME),
        ("20240229T120000Z", NO_TIME), ("2024-W09-4", NO_TIME), ("٢٠٢٤-02-29", NO_TIME),
        ("2024-02-29T12:00:00Zx", NO_TIME),
        ("0000-01-01T00:00:00Z", NO_TIME), ("9999-12-31T23:59:59-23:59", NO_TIME),
        ("2024-02-29T12:00:00+99:00", NO_TIME),
    ],
)  # fmt: skip
def test_iso8601(text: str, ms: int) -> None:
    assert time_from_text(text) == ms
    assert set(times_from_texts([text] * 100).tolist()) == {ms}


@pytest.mark.parametrize(
    ("value", "unit", "ms"),
    [
        (1700000000.123, "s", 1700000000123), (1700000000123, "ms", 1700000000123),
        (1700000000123999, "us", 1700000000123),
        (1.7e18, "ns", 1700000000000), (0, "s", 0), (-0.001, "s", NO_TIME), (np.nan, "ms", NO_TIME),
        (np.inf, "s", NO_TIME),
        (1e300, "s", NO_TIME), (9214646400000, "ms", NO_TIME), (1.7e18, "s", NO_TIME),
    ],
)  # fmt: skip
def test_numbers(value: float, unit: str, ms: int) -> None:
    assert times_from_numbers(np.array([float(value)]), unit).tolist() == [ms]  # type: ignore[arg-type]


def test_every_millisecond_of_a_second_survives_as_seconds() -> None:
    ms = 1_700_000_000_000 + np.arange(1000)
    np.testing.assert_array_equal(times_from_numbers(ms / 1000.0, "s"), ms)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.datetimes(datetime(1970, 1, 2), datetime(2261, 12, 30)),
        min_size=70,
        max_size=90,
    ),
    st.sampled_from([None, UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=8))]),
    st.sampled_from(["seconds", "milliseconds", "microseconds"]),
    st.lists(st.tuples(st.integers(0, 69), st.text("0123456789-:TZ+ x", min_size=1, max_size=2)), max_size=8),
)
def test_many_texts_read_as_one_by_one(
    instants: list[datetime], zone: timezone | None, precision: str, damage: list[tuple[int, str]]
) -> None:
    texts = [instant.replace(tzinfo=zone).isoformat(timespec=precision) for instant in instants]
    for i, mark in damage:
        at = (i * 7) % len(texts[i])
        texts[i] = texts[i][:at] + mark + texts[i][at + len(mark) :]
    assert times_from_texts(texts).tolist() == [time_from_text(text) for text in texts]
    if not damage:
        aware = [instant.replace(tzinfo=zone or UTC) for instant in instants]
        expected = [(moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) for moment in aware]
        cut = 1000 if precision == "seconds" else 1
        assert times_from_texts(texts).tolist() == [ms - ms % cut for ms in expected]
