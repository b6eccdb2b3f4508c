"""The time of a row, its unit, and what follows for lateness and windows."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from kldrift.config.values import MIN_WINDOW_MS, SLICES, milliseconds
from kldrift.datafiles.sample import Column
from kldrift.offline.init.times import LADDER, choose_lateness, choose_windows, is_calendar_date, time_columns

START = 1_700_000_000
N = 1000
SECONDS = np.arange(START, START + 60 * N, 60)


def column(name: str, values: object) -> Column:
    return Column(name, pl.Series(name, values, strict=False))


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_the_unit_of_numbers_is_told_by_their_size(unit: str, factor: int) -> None:
    (time,) = time_columns([column("ts", SECONDS * factor)])
    assert time.unit == unit
    assert time.ms[0] == START * 1000
    assert time.span_ms == 60_000 * (N - 1)


@pytest.mark.parametrize("text", ["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S+00:00"])
def test_iso_texts_and_datetimes_are_times(text: str) -> None:
    instants = [datetime.fromtimestamp(second, UTC) for second in SECONDS.tolist()]
    for values in ([instant.strftime(text) for instant in instants], instants):
        (time,) = time_columns([column("whatever", values)])
        assert (time.unit, time.ms[1]) == ("iso8601", (START + 60) * 1000)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("amount", SECONDS),  # the size of seconds alone says little
        ("ts", np.arange(N)),  # no instant of this century
        ("ts", np.append(SECONDS[1:], 7)),
        ("when", ["05/07/1996"] * N),
        ("code", ["2024-1"] * N),
        ("ts", [None] * N),
        (" ", [datetime(2024, 1, 1)] * N),  # a name that the configuration refuses
    ],
)
def test_what_is_no_time(name: str, values: object) -> None:
    assert time_columns([column(name, values)]) == []


def test_a_time_that_half_of_the_rows_lack_is_a_time_but_not_that_of_the_row() -> None:
    times = time_columns(
        [column("ts", [datetime(2024, 1, 1), None] * (N // 2)), column("seen", [datetime(2024, 1, 1)] * N)]
    )
    assert [(time.name, time.of_every_row) for time in times] == [("seen", True), ("ts", False)]


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("day", [20240130 + i % 2 for i in range(N)], False),  # two such numbers may be chance
        ("date", [20240130 + i % 2 for i in range(N)], True),
        ("x", [20240101 + i % 31 for i in range(N)], True),
        ("x", [20240101.0 + i % 31 for i in range(N)], True),
        ("x", [None if i % 2 else 20240101 + i % 31 for i in range(N)], True),
        ("date", [20240101 + i % 32 for i in range(N)], False),  # there is no 32 January
        ("date", [20240101.5 + i % 31 for i in range(N)], False),
        ("date", [101 + i % 31 for i in range(N)], False),
    ],
)
def test_whole_numbers_that_are_all_dates_are_dates(name: str, values: object, *, expected: bool) -> None:
    assert is_calendar_date(column(name, values)) is expected


def test_the_likeliest_event_time_comes_first() -> None:
    day = [datetime(2024, 1, 1) + timedelta(hours=i) for i in range(N)]
    back = list(reversed(day))
    names = [time.name for time in time_columns([column("x", back), column("y", day), column("born_at", day)])]
    assert names == ["born_at", "y", "x"]
    assert time_columns([column("created_at", day), column("ts", back)])[0].name == "ts"


@pytest.mark.parametrize(("late_s", "expected"), [(0, "1m"), (40, "1m"), (250, "5m"), (3000, "1h"), (90_000, None)])
def test_the_lateness_covers_what_the_data_show(late_s: int, expected: str | None) -> None:
    ms = SECONDS * 1000
    ms[10::20] -= late_s * 1000
    lateness = choose_lateness(ms, 3_600_000)
    assert (None if lateness is None else lateness[0]) == expected


def test_rows_in_no_order_have_no_event_time() -> None:
    rng = np.random.default_rng(0)
    assert choose_lateness(rng.permutation(SECONDS * 1000), 3_600_000) is None
    assert choose_lateness(SECONDS[::-1] * 1000, 3_600_000) is None


@pytest.mark.parametrize(
    ("a_day", "days", "expected"),
    [
        (48, 900, ["1w", "4w", "12w"]),
        (100_000, 30, ["5m", "1h", "24h"]),
        (100_000, 1, ["5m", "1h"]),
        (5_000, 400, ["1h", "24h", "1w"]),
        (1, 20, ["1y"]),
    ],
)
def test_the_first_window_holds_what_a_verdict_needs(a_day: int, days: int, expected: list[str]) -> None:
    windows, why = choose_windows(a_day * days, days * 86_400_000, 170)
    assert windows == expected
    assert f"{windows[0]} holds" in why


def test_a_rate_too_low_for_any_window_is_said() -> None:
    windows, why = choose_windows(10, 3650 * 86_400_000, 170)
    assert windows == ["10y"]
    assert "too few for some features" in why


def test_every_window_to_choose_from_is_one_of_the_configuration() -> None:
    for text, length in LADDER:
        assert milliseconds(text) == length
        assert length % SLICES == 0
        assert length >= MIN_WINDOW_MS
