"""Moments over panes and windows keep to the rules of the counts. Base pane 1 s, windows of 12 s and 60 s."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kldrift.drift.counting.counts import CellCounts
from kldrift.drift.counting.moment_windows import GroupMoments, stacked
from kldrift.drift.counting.windows import Panes
from kldrift.kernels.moments import Moments, add_moments
from kldrift.records.specs import WindowSpec
from kldrift.records.types import Covariance

WINDOWS = (WindowSpec("12s", 12_000), WindowSpec("60s", 60_000))
GROUPS = 3


def panes_of(covariance: Covariance = "diagonal") -> Panes[Moments]:
    return Panes(WINDOWS, GroupMoments(GROUPS, 2, covariance == "full"))


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 150), st.integers(0, GROUPS - 1)),
            st.tuples(st.just("close"), st.integers(0, 150), st.just(0)),
        ),
        max_size=60,
    ),
    at_seconds=st.lists(st.integers(0, 220), min_size=1, max_size=5),
    covariance=st.sampled_from(["diagonal", "full"]),
)
def test_every_window_holds_the_samples_that_windows_of_counts_hold(
    steps: list[tuple[str, int, int]], at_seconds: list[int], covariance: Covariance
) -> None:
    """A cell of the counts for each sample: what is in it says which vectors the moments are of."""
    rng = np.random.default_rng(len(steps))
    vectors, groups = rng.normal(size=(len(steps), 2)) + 5, np.array([group for _, _, group in steps], dtype=np.int32)
    counts, moments = Panes(WINDOWS, CellCounts(max(len(steps), 1))), panes_of(covariance)
    for i, (what, second, group) in enumerate(steps):
        if what == "close":
            counts.close_before(second * 1000)
            moments.close_before(second * 1000)
        else:
            counts.open_pane(second)[i] += 1
            add_moments(vectors[i : i + 1], np.array([group], dtype=np.int32), *moments.open_pane(second))
    for at_ms in [second * 1000 + 500 for second in at_seconds]:
        inside, got = np.stack(counts.totals(at_ms)), stacked(moments.totals(at_ms))
        for w in range(len(WINDOWS)):
            for group in range(GROUPS):
                held = vectors[(inside[w, : len(steps)] > 0) & (groups == group)] if steps else vectors
                assert got.n[w, group] == len(held)
                mean = held.mean(axis=0) if len(held) else np.zeros(2)
                products = (held - mean).T @ (held - mean)
                np.testing.assert_allclose(got.mean[w, group], mean, rtol=1e-12)
                expected = products if covariance == "full" else np.diagonal(products)
                np.testing.assert_allclose(got.second[w, group], expected, rtol=1e-11, atol=1e-12)


def test_a_pane_opened_again_after_it_was_closed_adds_to_it() -> None:
    panes = panes_of()
    for value in (1.0, 2.0, 6.0):
        add_moments(np.full((1, 2), value), None, *panes.open_pane(2))
        panes.close_before(5_000)
    totals = stacked(panes.totals(5_000))
    assert totals.n[:, 0].tolist() == [3, 3]
    np.testing.assert_allclose(totals.mean[0, 0], 3.0)
    np.testing.assert_allclose(totals.second[0, 0], 14.0)


def test_what_is_older_than_the_ring_falls_out() -> None:
    panes = panes_of()
    panes.open_pane(50).n[0] = 1
    panes.close_before(60_000)
    panes.open_pane(10).n[0] = 7
    panes.close_before(60_000)
    assert stacked(panes.totals(59_000)).n[:, 0].tolist() == [1, 8]


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_reading_totals_changes_nothing(covariance: Covariance) -> None:
    panes = panes_of(covariance)
    add_moments(np.random.default_rng(0).normal(size=(50, 2)), None, *panes.open_pane(0))
    panes.close_before(1_000)
    add_moments(np.random.default_rng(1).normal(size=(50, 2)), None, *panes.open_pane(1))
    first, again = (stacked(panes.totals(1_500)) for _ in range(2))
    assert first.second.shape == ((2, GROUPS, 2, 2) if covariance == "full" else (2, GROUPS, 2))
    for array, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(array, other)
    for moments in panes.totals(1_500):
        moments.mean[:] = 99
    assert stacked(panes.totals(1_500)).mean.max() < 99


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_entries_are_stored_as_they_always_were(covariance: Covariance) -> None:
    """A slice is its number and the moments, a pane the moments alone: counts, means, squares or products."""
    panes, rows = panes_of(covariance), np.random.default_rng(0).normal(size=(20, 2))
    add_moments(rows, None, *panes.open_pane(61))
    expected = b"".join(array.tobytes() for array in panes.open_pane(61))
    assert panes.changes() == {"pane/61": expected}
    panes.stored()
    panes.close_before(62_000)
    changes = panes.changes()
    assert changes.keys() == {"pane/61", "ring/0/1", "ring/1/0"}
    assert changes["pane/61"] is None
    assert changes["ring/0/1"] == np.int64(61).tobytes() + expected
    assert changes["ring/1/0"] == np.int64(12).tobytes() + expected
    restored = panes_of(covariance)
    restored.restore({key: value for key, value in changes.items() if value is not None})
    for array, other in zip(stacked(restored.totals(62_000)), stacked(panes.totals(62_000)), strict=True):
        np.testing.assert_array_equal(array, other)
