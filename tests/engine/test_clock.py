"""The time that the daemon goes by, where the wall clock jumps."""

import numpy as np
import pytest

from kldrift.engine.clock import JUMP_MS, MAX_AHEAD_MS, SETTLED_MS, Clock, elapsed_ms
from kldrift.records.samples import SampleBatch
from kldrift.records.specs import WindowSpec
from tests.drift.builders import HOUR, MINUTE, edges_spec, monitor

START = 1_700_000_000_000 // HOUR * HOUR
DAY = 24 * HOUR


class Machine:
    """A wall clock, a monotonic one, and what was told of them."""

    def __init__(self) -> None:
        self.wall, self.elapsed = START, 5_000
        self.told: list[tuple[int, bool]] = []
        self.clock = Clock(
            lambda ahead, followed: self.told.append((ahead, followed)), lambda: self.wall, lambda: self.elapsed
        )

    def passes(self, ms: int) -> int:
        self.wall += ms
        self.elapsed += ms
        return self.clock()


def test_the_time_is_that_of_the_wall_clock_and_follows_small_steps() -> None:
    machine = Machine()
    assert machine.clock() == START
    assert machine.passes(7) == START + 7
    for step in (JUMP_MS, -JUMP_MS, 3, JUMP_MS, JUMP_MS):
        machine.wall += step
        assert machine.clock() == machine.wall
    assert machine.told == []


@pytest.mark.parametrize("jump", [JUMP_MS + 1, 2 * DAY, 370 * DAY, -JUMP_MS - 1, -2 * DAY])
def test_a_jump_and_back_is_told_and_not_followed(jump: int) -> None:
    machine = Machine()
    machine.wall += jump
    assert machine.clock() == START
    assert machine.passes(SETTLED_MS - 1) == START + SETTLED_MS - 1
    machine.wall -= jump
    assert machine.passes(1) == START + SETTLED_MS
    assert machine.passes(10 * SETTLED_MS) == machine.wall
    assert machine.told == [(jump, False), (0, True)]


@pytest.mark.parametrize("jump", [JUMP_MS + 1, 370 * DAY, -2 * DAY])
def test_a_jump_that_stays_is_followed(jump: int) -> None:
    machine = Machine()
    machine.wall += jump
    assert machine.clock() == START
    assert machine.passes(SETTLED_MS - 1) == START + SETTLED_MS - 1
    assert machine.passes(1) == START + SETTLED_MS + jump
    assert machine.passes(1) == machine.wall
    assert machine.told == [(jump, False), (jump, True)]


def test_each_jump_has_to_stay_for_itself() -> None:
    machine = Machine()
    machine.wall += 2 * DAY
    machine.clock()
    machine.passes(SETTLED_MS - 1)
    machine.wall += DAY
    assert machine.passes(1) == START + SETTLED_MS
    assert machine.passes(SETTLED_MS - 1) == START + 2 * SETTLED_MS - 1
    assert machine.passes(1) == machine.wall
    assert machine.told == [(2 * DAY, False), (3 * DAY, False), (3 * DAY, True)]


@pytest.mark.parametrize(
    ("jump", "ahead"), [(HOUR, HOUR), (MAX_AHEAD_MS, MAX_AHEAD_MS), (MAX_AHEAD_MS + 1, 0), (-HOUR, 0), (5, 0)]
)
def test_rows_may_be_ahead_after_a_jump_of_a_day_at_most(jump: int, ahead: int) -> None:
    machine = Machine()
    machine.wall += jump
    machine.clock()
    assert machine.clock.ahead_ms == ahead
    machine.passes(SETTLED_MS)
    assert machine.clock.ahead_ms == 0


def test_windows_in_time_of_arrival_survive_a_jump_and_back() -> None:
    machine = Machine()
    watched = monitor(
        (edges_spec(), np.array([0.5, 1.5, 2.5])), windows=(WindowSpec("5m", 5 * MINUTE), WindowSpec("1h", HOUR))
    )
    for minute in range(30):
        machine.wall += 370 * DAY * (minute in (10, 20)) - 370 * DAY * (minute in (12, 22))
        watched.add(SampleBatch(1, (np.array([0.5]),)), "s", machine.passes(MINUTE))
    assert watched.evaluate(machine.clock()).samples[:, 0].tolist() == [5, 30]


def test_rows_with_times_that_piled_up_while_a_machine_was_paused_count() -> None:
    watched = monitor((edges_spec(), np.array([0.5, 1.5, 2.5])), event_time=True)
    times = np.array([START + HOUR, START + HOUR + MINUTE, START + HOUR + MINUTE + 1])
    result = watched.add(SampleBatch(3, (np.array([0.5, 0.5, 0.5]),), times), "s", START, HOUR)
    assert (result.counted, result.future.tolist()) == (2, [2])


def test_the_clock_that_is_never_set_goes_on() -> None:
    first = elapsed_ms()
    assert 0 <= elapsed_ms() - first < 10_000
