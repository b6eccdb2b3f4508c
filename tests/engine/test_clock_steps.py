"""The wall clock set forward and back by an hour, under monitors that are added to and evaluated.

    arrival   |---5 min---|+1 h: ---5 min---|-1 h: ---5 min---| … the clock goes on from where it was set to

A reading of the clock is given with every batch and evaluation, as the engine does.
"""

from collections.abc import Sequence

import numpy as np
import pytest

from kldrift.drift.monitor import Monitor
from kldrift.records.specs import WindowSpec
from kldrift.records.types import IntArray
from tests.drift.builders import HOUR, MINUTE, UNIFORM_EXAMPLE, batch, edges_spec, monitor

NOW = 1_700_000_000_000 // HOUR * HOUR
SECOND = 1_000
EVERY = 20 * SECOND
ROWS = np.array([0.5, 1.5, 2.5, 0.5])
WINDOWS = (WindowSpec("5m", 5 * MINUTE), WindowSpec("1h", HOUR), WindowSpec("24h", 24 * HOUR))
STEPS = ([HOUR, -HOUR], [-HOUR, HOUR], [HOUR, -HOUR, HOUR, -HOUR], [-HOUR, -HOUR, HOUR, HOUR], [-HOUR, 2 * HOUR, -HOUR])


def watched(event_time: bool) -> Monitor:
    return monitor((edges_spec(), UNIFORM_EXAMPLE), windows=WINDOWS, event_time=event_time)


def window_counts(one: Monitor, now_ms: int) -> IntArray:
    """Rows in each window; no count is negative, and no figure is out of its range."""
    snapshot = one.evaluate(now_ms)
    assert (snapshot.counts >= 0).all()
    assert not (snapshot.divergences < 0).any()
    assert (snapshot.samples.sum(axis=1) == snapshot.counts.sum(axis=1)).all()
    return snapshot.samples[:, 0]


class Timeline:
    """Time that goes on evenly, and a clock that does not; four rows every twenty seconds."""

    def __init__(self, event_time: bool) -> None:
        self.monitor = watched(event_time)
        self.events = event_time
        self.true_ms = NOW
        self.offset_ms = 0
        self.taken = 0
        self.refused = 0

    @property
    def clock_ms(self) -> int:
        return self.true_ms + self.offset_ms

    def go_on(self, duration_ms: int) -> None:
        """Rows come in; event times are those of a clock that is right."""
        for _ in range(duration_ms // EVERY):
            self.true_ms += EVERY
            times = [self.true_ms] * ROWS.size if self.events else None
            result = self.monitor.add(batch(ROWS, times=times), "s", self.clock_ms)
            self.taken += result.counted
            self.refused += len(result.late) + len(result.future)
            assert (window_counts(self.monitor, self.clock_ms) <= self.taken).all()


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("event_time", [False, True], ids=["arrival time", "event time"])
def test_no_row_is_counted_twice_and_no_count_is_negative_while_the_clock_steps(
    event_time: bool, steps: Sequence[int]
) -> None:
    line = Timeline(event_time)
    line.go_on(5 * MINUTE)
    for step in steps:
        line.offset_ms += step
        window_counts(line.monitor, line.clock_ms)
        line.go_on(5 * MINUTE)
    assert line.offset_ms == 0
    assert line.taken + line.refused == (line.true_ms - NOW) // EVERY * ROWS.size


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("event_time", [False, True], ids=["arrival time", "event time"])
def test_windows_are_as_if_nothing_had_been_once_the_steps_are_older_than_they(
    event_time: bool, steps: Sequence[int]
) -> None:
    stepped, steady = Timeline(event_time), Timeline(event_time)
    for step in (0, *steps):
        for line in (stepped, steady):
            line.offset_ms += step if line is stepped else 0
            line.go_on(5 * MINUTE)
    for line in (stepped, steady):
        line.go_on(140 * MINUTE)
    ours, expected = (window_counts(line.monitor, line.clock_ms).tolist() for line in (stepped, steady))
    assert ours[:2] == expected[:2]
    assert stepped.taken - ours[2] == 0  # none is lost to the longest, and none is in it twice


def test_rows_with_times_of_their_own_are_counted_as_ever_when_the_clock_is_an_hour_ahead() -> None:
    line = Timeline(event_time=True)
    line.go_on(10 * MINUTE)
    before = window_counts(line.monitor, line.clock_ms).tolist()
    line.offset_ms = HOUR
    assert window_counts(line.monitor, line.clock_ms)[0] == 0  # carried on by an hour in which nothing came
    line.go_on(EVERY)
    after = window_counts(line.monitor, line.clock_ms).tolist()
    assert line.refused == 0
    assert after[1] == before[1] + ROWS.size


def test_rows_with_times_of_their_own_are_from_the_future_while_the_clock_is_an_hour_behind() -> None:
    line = Timeline(event_time=True)
    line.go_on(10 * MINUTE)
    before = line.taken
    line.offset_ms = -HOUR
    line.go_on(5 * MINUTE)
    assert (line.taken, line.refused) == (before, 5 * 3 * ROWS.size)  # told, and counted as such
    line.offset_ms = 0
    line.go_on(EVERY)
    assert line.taken == before + ROWS.size


def test_a_clock_set_back_leaves_the_longest_window_whole() -> None:
    """By arrival: the day's window begins 22 hours before the older of its rows."""
    line = Timeline(event_time=False)
    line.go_on(10 * MINUTE)
    line.offset_ms = -HOUR
    line.go_on(70 * MINUTE)
    assert window_counts(line.monitor, line.clock_ms)[2] == line.taken


def test_a_short_window_goes_on_after_the_clock_was_set_back() -> None:
    line = Timeline(event_time=False)
    line.go_on(10 * MINUTE)
    line.offset_ms = -HOUR
    line.go_on(10 * MINUTE)
    assert window_counts(line.monitor, line.clock_ms)[0] >= 13 * ROWS.size
