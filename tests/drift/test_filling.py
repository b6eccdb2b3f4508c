"""Rows on their way into panes and groups: the same counts as when each row comes by itself."""

from dataclasses import replace

import numpy as np
import pytest

from kldrift.drift.counting import filling
from kldrift.drift.counting.counts import CellCounts, Counted
from kldrift.drift.counting.rows import Rows
from kldrift.drift.counting.windows import SLICES, Panes
from kldrift.drift.kinds.numeric import Numeric
from kldrift.drift.monitor import Monitor
from kldrift.drift.references.data import count_panes
from kldrift.drift.references.learned import joined, split
from kldrift.drift.references.reference import PANES
from kldrift.drift.segments import Segmentation
from kldrift.records.samples import SampleBatch
from kldrift.records.snapshots import AddResult, MonitorSnapshot
from kldrift.records.specs import FeatureSpec, MonitorSpec, SegmentSpec, TimestampSpec, WindowSpec
from tests.drift.builders import HOUR, MINUTE, UNIFORM_EXAMPLE, edges_spec, normal_reference, reference

NOW = 1_700_000_000_000 // HOUR * HOUR
VECTOR = FeatureSpec("v", "vector", dimensions=2)


def watched(segments: bool) -> Monitor:
    references = [*reference((edges_spec(), UNIFORM_EXAMPLE)), normal_reference(VECTOR, 0.0, 1.0)]
    spec = MonitorSpec(
        "m",
        (edges_spec(), VECTOR),
        (WindowSpec("1h", HOUR), WindowSpec("2h", 2 * HOUR)),
        timestamp=TimestampSpec("ts", "ms"),
        allowed_lateness_ms=3 * HOUR,
        segments=SegmentSpec("country", 2) if segments else None,
    )
    made = Monitor(spec, references, Segmentation() if segments else None)
    if segments:
        vocabulary = made.schema.features[-1].vocabulary
        assert vocabulary is not None
        for text in ("a", "b"):
            vocabulary.code(text)
    return made


def some_rows(n: int, segments: bool, times: np.ndarray) -> SampleBatch:
    """Rows of which every seventh number, and every fifth vector, is invalid, and some others are missing."""
    rng = np.random.default_rng(1)
    x, v = rng.uniform(-0.5, 3.5, n), rng.normal(size=(n, 2))
    bad_x, bad_v = np.arange(0, n, 7), np.arange(1, n, 5)
    x[bad_x] = x[3::11] = np.nan
    v[bad_v] = v[2::9] = np.nan
    codes = (rng.integers(0, 4, n).astype(np.int32),) if segments else ()
    return SampleBatch(n, (x, v, *codes), times, ((0, bad_x), (1, bad_v)))


def row(batch: SampleBatch, i: int) -> SampleBatch:
    assert batch.event_ms is not None
    invalid = tuple((f, np.array([0])) for f, rows in batch.invalid if i in rows)
    columns = tuple(np.ascontiguousarray(column[i : i + 1]) for column in batch.columns)
    return SampleBatch(1, columns, batch.event_ms[i : i + 1], invalid)


def alike(a: MonitorSnapshot, b: MonitorSnapshot) -> None:
    np.testing.assert_array_equal(a.counts, b.counts)
    np.testing.assert_array_equal(a.samples, b.samples)
    np.testing.assert_allclose(a.divergences, b.divergences, rtol=1e-9)
    assert [one.segment for one in a.segments] == [one.segment for one in b.segments]
    for one, other in zip(a.segments, b.segments, strict=True):
        alike(one, other)


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("order", ["sorted", "shuffled", "one pane"])
@pytest.mark.parametrize("panes_at_once", [1, 2, 1_000])
def test_a_batch_counts_as_its_rows_one_by_one(
    segments: bool, order: str, panes_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 120
    times = NOW + np.arange(n) * 30_000  # an hour, twelve panes
    if order == "shuffled":
        np.random.default_rng(2).shuffle(times[: n - 1])  # the newest comes last: nothing is late
    elif order == "one pane":
        times = np.full(n, NOW)
    batch = some_rows(n, segments, times)
    together, alone = watched(segments), watched(segments)
    cells = together._filling.n_slots * together._filling.row_cells
    monkeypatch.setattr(filling, "MAX_SLOT_COUNTS", panes_at_once * cells)
    filled = []
    fill = together._filling._fill

    def seen(rows: Rows, counts: np.ndarray, invalid: np.ndarray) -> None:
        filled.append(counts.size)
        fill(rows, counts, invalid)

    monkeypatch.setattr(together._filling, "_fill", seen)
    found = together.add(batch, "s", NOW + HOUR)
    assert max(filled) <= panes_at_once * cells
    results = [alone.add(row(batch, i), "s", NOW + HOUR) for i in range(n)]
    assert found.counted == sum(result.counted for result in results) == n
    assert found.invalid.tolist() == np.sum([result.invalid for result in results], axis=0).tolist() == [18, 24]
    assert (
        found.folded
        == sum(result.folded for result in results)
        == (int((batch.columns[-1] == 2).sum()) if segments else 0)
    )
    for minutes in (0, 5, 59, 60, 90):
        alike(together.evaluate(NOW + minutes * MINUTE), alone.evaluate(NOW + minutes * MINUTE))


def test_rows_that_are_too_late_are_in_no_figure() -> None:
    made, on_time = watched(True), watched(True)
    batch = some_rows(60, True, NOW + np.arange(60) * 30_000)
    old = some_rows(60, True, np.where(np.arange(60) % 2, NOW + HOUR, NOW - 5 * HOUR))
    for each, later in ((made, old), (on_time, replace(old, event_ms=np.full(60, NOW + HOUR)))):
        each.add(batch, "s", NOW + HOUR)
        result = each.add(later, "s", NOW + HOUR)
        odd = np.arange(1, 60, 2) if each is made else np.arange(60)
        codes = later.columns[-1][odd]
        assert result.counted == odd.size
        assert result.late.tolist() == sorted(set(range(60)) - set(odd.tolist()))
        assert result.folded == int((codes == 2).sum())
        assert result.invalid.tolist() == [int(np.isin(odd, rows).sum()) for _, rows in later.invalid]


def test_the_newest_of_a_batch_says_what_is_late_in_the_next() -> None:
    made = watched(False)
    one = some_rows(3, False, np.array([NOW - 4 * HOUR, NOW, NOW - HOUR]))
    assert made.add(one, "s", NOW).late.tolist() == []
    late = made.add(some_rows(2, False, np.array([NOW - 4 * HOUR, NOW - HOUR])), "s", NOW)
    assert late.late.tolist() == [0]
    assert made.add(some_rows(1, False, np.array([NOW])), "s", NOW).folded == 0


# --- parts of batches ---------------------------------------------------------------------------------


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_a_part_has_the_invalid_rows_that_lie_in_it() -> None:
    rows = Rows(6, (np.arange(6.0),), {1: np.zeros((6, 2))}, np.arange(6, dtype=np.int32), ((0, ints(1, 2, 4)),))
    assert rows.part(0, 6) is rows
    part = rows.part(2, 4)
    assert (part.n_rows, part.columns[0].tolist(), part.vectors[1].shape) == (2, [2, 3], (2, 2))
    assert part.slots is not None
    assert part.slots.tolist() == [2, 3]
    assert [(f, bad.tolist()) for f, bad in part.invalid] == [(0, [0])]
    assert rows.part(1, 6).n_rows == 5
    assert rows.part(0, 5).n_rows == 5
    ordered = rows.ordered(ints(4, 3, 1))
    assert [(f, bad.tolist()) for f, bad in ordered.invalid] == [(0, [0, 2])]


def test_a_batch_that_is_split_and_joined_is_the_same() -> None:
    batch = SampleBatch(5, (np.arange(5.0),), np.arange(5), ((0, ints(0, 2, 4)), (1, ints(1))))
    head, tail = split(batch, 2)
    assert [(f, rows.tolist()) for f, rows in head.invalid] == [(0, [0]), (1, [1])]
    assert [(f, rows.tolist()) for f, rows in tail.invalid] == [(0, [0, 2])]
    assert (head.n_rows, tail.n_rows) == (2, 3)
    assert head.event_ms is not None
    assert tail.event_ms is not None
    assert (head.event_ms.tolist(), tail.event_ms.tolist()) == ([0, 1], [2, 3, 4])
    first = AddResult(1, ints(0), ints(1), ints(3, 4), 5, ("a",))
    second = AddResult(2, ints(2), ints(0, 1), ints(30, 40), 50, ("b",))
    both = joined(first, second, 2)
    assert (both.counted, both.folded, both.learned) == (3, 55, ("a", "b"))
    assert (both.late.tolist(), both.future.tolist(), both.invalid.tolist()) == ([0, 4], [1, 2, 3], [33, 44])


@pytest.mark.parametrize(("n", "panes"), [(0, 1), (1, 1), (2, 2), (PANES, PANES), (PANES + 1, PANES)])
def test_a_reference_has_a_pane_for_each_row_up_to_64(n: int, panes: int) -> None:
    (found,) = count_panes([Numeric(np.array([0.0, 1.0, 2.0]))], [np.full(n, 0.5)])
    assert found.shape == (panes, 6)
    assert found.sum() == n


# --- the ring of a window -----------------------------------------------------------------------------

SHORT = WindowSpec("12s", 12_000)


@pytest.mark.parametrize("history_ms", [1, 500, 1_000, 1_500, 12_000, 30_500])
@pytest.mark.parametrize("within_ms", [0, 499, 999])
def test_a_window_can_be_asked_for_as_it_was_all_through_the_history(history_ms: int, within_ms: int) -> None:
    panes = Panes([SHORT], CellCounts(1), history_ms)
    for second in range(100):
        panes.open_pane(second)[0] += 1
        at = second * 1000 + within_ms
        panes.close_before(at)
        earlier = at - history_ms
        if earlier >= 11_000:
            assert panes.totals(earlier)[0].tolist() == [SLICES], (second, earlier)


def test_a_place_in_the_ring_belongs_to_the_newest_slice_up_to_now() -> None:
    panes = Panes([SHORT], CellCounts(1))

    def count(second: int, at: int) -> None:
        panes.open_pane(second)[0] += 1
        panes.close_before(at * 1000)

    count(12, 13)
    count(0, 12)  # it has the place of second 12, which is the current one
    assert panes.totals(12_500)[0].tolist() == [1]
    count(100, 101)
    count(88, 102)
    assert panes.totals(100_500)[0].tolist() == [1]
    count(52, 53)  # the clock was set back: what lies ahead makes room
    assert panes.totals(53_000)[0].tolist() == [1]


def test_the_clock_goes_on_from_the_last_arrival_of_the_newest_event() -> None:
    counted = Counted(Panes([SHORT], CellCounts(1)), {})
    counted.advance(1_000, 50)
    counted.advance(1_000, 70)
    assert (counted.clock_ms, counted.clock_read_ms) == (1_000, 70)
    counted.advance(999, 90)
    assert (counted.clock_ms, counted.clock_read_ms) == (1_000, 70)
    made = watched(False)
    assert made.clock_ms(NOW) == NOW
    made.add(some_rows(1, False, ints(NOW - HOUR)), "s", NOW)
    assert [made.clock_ms(now) for now in (NOW - 5, NOW, NOW + 5)] == [NOW - HOUR, NOW - HOUR, NOW - HOUR + 5]
    by_arrival = Monitor(replace(made.spec, timestamp=None), made._references)
    by_arrival.add(replace(some_rows(1, False, ints(0)), event_ms=None), "s", NOW)
    assert [by_arrival.clock_ms(now) for now in (NOW - 5, NOW + 5)] == [NOW - 5, NOW + 5]
