"""Where one thing ends and another begins, to the millisecond: late, too old, in the future, closed."""

import numpy as np
import pytest

from kldrift.drift.monitor import CLOCK_SKEW_MS, Monitor
from kldrift.records.samples import SampleBatch
from tests.drift.builders import HOUR, MINUTE, UNIFORM_EXAMPLE, edges_spec, monitor

NOW = 1_700_000_000_000 // HOUR * HOUR
PANE = 5 * MINUTE  # a twelfth of the window of an hour


def watched(lateness_ms: int, event_time: bool = True) -> Monitor:
    return monitor((edges_spec("x"), UNIFORM_EXAMPLE), event_time=event_time, lateness_ms=lateness_ms)


def add(made: Monitor, *times: int, arrival: int = NOW) -> tuple[list[int], list[int]]:
    """The late rows, and those of the future."""
    result = made.add(SampleBatch(len(times), (np.full(len(times), 0.5),), np.array(times)), "s", arrival)
    assert result.counted + result.late.size + result.future.size == len(times)
    return result.late.tolist(), result.future.tolist()


def samples(made: Monitor, at_ms: int = NOW) -> int:
    return int(made.evaluate(at_ms).samples[0, 0])


@pytest.mark.parametrize("together", [True, False])
def test_a_row_is_late_once_its_pane_has_ended_as_long_ago_as_is_allowed(together: bool) -> None:
    old = NOW - 2 * PANE  # its pane ends at NOW - PANE
    for lateness, late in ((PANE, True), (PANE + 1, False)):
        made = watched(lateness)
        if together:
            assert add(made, NOW, old)[0] == ([1] if late else [])
        else:
            add(made, NOW)
            assert add(made, old)[0] == ([0] if late else [])
        assert samples(made) == 2 - late


def test_a_row_older_than_every_window_is_late_whatever_is_allowed() -> None:
    made = watched(24 * HOUR)
    add(made, NOW)
    oldest = NOW - 11 * PANE  # the first instant of the window that holds now
    assert add(made, oldest)[0] == []
    assert add(made, oldest - 1)[0] == [0]
    assert samples(made) == 2


@pytest.mark.parametrize("lateness", [0, MINUTE, HOUR])
def test_a_row_is_of_the_future_beyond_the_skew_of_clocks_or_what_is_allowed(lateness: int) -> None:
    most = NOW + max(lateness, CLOCK_SKEW_MS)
    assert add(watched(lateness), most) == ([], [])
    made = watched(lateness)
    assert add(made, most + 1, NOW) == ([], [0])  # and it makes no other late
    assert samples(made) == 1


def test_rows_of_the_future_alone_move_nothing() -> None:
    made = watched(0)
    add(made, NOW + HOUR)
    assert add(made, NOW - PANE) == ([], [])


def open_panes(made: Monitor) -> list[bool]:
    """Of the panes that changed, in their order, whether each is open."""
    changes = {key: value for key, value in made.changes().items() if "pane/" in key}
    made.stored(made.changes())
    return [changes[key] is not None for key in sorted(changes)]


def test_panes_are_closed_once_no_more_rows_can_come_for_them() -> None:
    made = watched(PANE)
    add(made, NOW)
    add(made, NOW + 2 * PANE - 1, arrival=NOW + 2 * PANE)
    assert open_panes(made) == [True, True]
    add(made, NOW + 2 * PANE, arrival=NOW + 2 * PANE)  # a pane after the first one ended
    assert open_panes(made) == [False, True]
    by_arrival = watched(PANE, event_time=False)
    for at in (NOW, NOW + PANE - 1):
        by_arrival.add(SampleBatch(1, (np.array([0.5]),)), "s", at)
    assert open_panes(by_arrival) == [True]
    by_arrival.add(SampleBatch(1, (np.array([0.5]),)), "s", NOW + PANE)
    assert open_panes(by_arrival) == [False, True]
    assert samples(by_arrival, NOW + PANE) == 3
