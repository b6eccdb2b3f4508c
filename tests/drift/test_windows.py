"""Panes and sliding windows. Base pane 1 s, windows of 12 s and 60 s in these timelines."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kldrift.drift.counting.counts import CellCounts
from kldrift.drift.counting.windows import SLICES, Panes, pane_ms, slice_ms
from kldrift.records.specs import WindowSpec
from kldrift.records.types import IntArray

SHORT, LONG = WindowSpec("12s", 12_000), WindowSpec("60s", 60_000)


def panes_of(*windows: WindowSpec, n_cells: int = 1) -> Panes[IntArray]:
    return Panes(windows, CellCounts(n_cells))


def totals(panes: Panes[IntArray], at_ms: int) -> list[int]:
    return [int(counts[0]) for counts in panes.totals(at_ms)]


def test_the_base_pane_divides_every_slice() -> None:
    windows = [WindowSpec("5m", 300_000), WindowSpec("1h", 3_600_000), WindowSpec("24h", 86_400_000)]
    assert [slice_ms(window) for window in windows] == [25_000, 300_000, 7_200_000]
    assert pane_ms(windows) == 25_000
    assert pane_ms([WindowSpec("5m", 300_000), WindowSpec("7m", 420_000)]) == 5_000


def test_a_sample_is_in_every_window_until_it_slides_out() -> None:
    # t    0        11 12          59 60
    # 12s  |#########|
    # 60s  |#######################|
    panes = panes_of(SHORT, LONG)
    panes.open_pane(0)[0] += 5
    for at, expected in [(0, [5, 5]), (11_999, [5, 5]), (12_000, [0, 5]), (59_999, [0, 5]), (60_000, [0, 0])]:
        assert totals(panes, at) == expected
        closed = panes_of(SHORT, LONG)
        closed.open_pane(0)[0] += 5
        closed.close_before(at)
        assert totals(closed, at) == expected


def test_a_pane_opened_again_after_it_was_closed_adds_to_it() -> None:
    panes = panes_of(SHORT)
    for _ in range(3):
        panes.open_pane(2)[0] += 1
        panes.close_before(5_000)
    assert totals(panes, 5_000) == [3]


def test_what_is_older_than_the_ring_falls_out() -> None:
    panes = panes_of(SHORT, LONG)
    panes.open_pane(50)[0] += 1
    panes.close_before(60_000)
    panes.open_pane(10)[0] += 7
    panes.close_before(60_000)
    assert totals(panes, 59_000) == [1, 8]


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(1, 5)), min_size=1, max_size=60),
    st.integers(0, 10),
)
def test_windows_are_the_sum_of_the_samples_in_them_however_panes_are_closed(
    samples: list[tuple[int, int]], every: int
) -> None:
    panes = panes_of(SHORT, LONG)
    samples.sort()
    for i, (second, count) in enumerate(samples):
        panes.open_pane(second)[0] += count
        if every and i % every == 0:
            panes.close_before(second * 1000)
    now = samples[-1][0]
    expected = []
    for window in (SHORT, LONG):
        width = slice_ms(window) // 1000
        first = (now // width - SLICES + 1) * width
        expected.append(sum(count for second, count in samples if second >= first))
    assert totals(panes, now * 1000) == expected


def test_windows_hold_all_cells() -> None:
    panes = panes_of(SHORT, n_cells=3)
    panes.open_pane(0)[:] += np.array([1, 2, 3])
    panes.open_pane(1)[:] += np.array([10, 20, 30])
    panes.close_before(1_000)
    assert [counts.tolist() for counts in panes.totals(1_500)] == [[11, 22, 33]]


def test_entries_are_stored_as_they_always_were() -> None:
    """A slice is its number and the counts, a pane the counts alone: int64 in the machine's byte order."""
    panes = panes_of(SHORT, LONG, n_cells=2)
    panes.open_pane(61)[:] += [3, 4]
    panes.close_before(62_000)
    panes.open_pane(62)[:] += [1, 0]
    changes = panes.changes()
    assert {
        key: value if value is None else np.frombuffer(value, np.int64).tolist() for key, value in changes.items()
    } == {
        "pane/61": None,
        "pane/62": [1, 0],
        "ring/0/1": [61, 3, 4],
        "ring/1/0": [12, 3, 4],
    }
    restored = panes_of(SHORT, LONG, n_cells=2)
    restored.restore({key: value for key, value in changes.items() if value is not None})
    assert restored.changes() == {}
    assert [counts.tolist() for counts in restored.totals(62_500)] == [[4, 4], [4, 4]]


def test_a_pane_is_closed_when_it_has_ended_not_before() -> None:
    panes = panes_of(SHORT)
    for second in (2, 3):
        panes.open_pane(second)[0] += 1
    panes.close_before(2_999)
    assert {key: value is None for key, value in panes.changes().items()} == {"pane/2": False, "pane/3": False}
    panes.close_before(3_000)
    changes = panes.changes()
    assert changes["pane/2"] is None
    assert changes["pane/3"] is not None
    assert "ring/0/2" in changes


def test_an_earlier_window_does_not_hold_what_came_after_it() -> None:
    panes = Panes([SHORT], CellCounts(1), history_ms=12_000)
    for second in range(24):
        panes.open_pane(second)[0] += 1
        panes.close_before(second * 1000)
    for at in (11, 12, 18, 23):
        assert totals(panes, at * 1000) == [12], at
    assert totals(panes, 10_000) == [11]
