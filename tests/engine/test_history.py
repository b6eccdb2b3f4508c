"""From snapshots to points and to since when a feature drifts, by the clock of the snapshots, in a thread."""

import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kldrift.engine.history import History
from kldrift.errors import StateError
from kldrift.export.telemetry import Telemetry
from kldrift.records.snapshots import DriftSnapshot, MonitorSnapshot
from kldrift.state.history import SqliteHistory
from kldrift.state.sqlite import SqliteStore
from tests.e2e.processes import until
from tests.export.snapshots import feature, monitor, segmented

START = 1_700_000_000_000 // 3_600_000 * 3_600_000  # every period begins here
QUIET, WARNING, CRITICAL, UNDECIDED = (0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (np.nan, np.nan)


class Watched(SqliteHistory):
    """The real store; it can be made to fail, and says how often it was asked to write."""

    fails = False
    writes = 0

    def write(self, *args: Any) -> None:
        self.writes += 1
        if self.fails:
            raise StateError("expected to write the history, got no space")
        super().write(*args)


class Told(Telemetry):
    """Hears of failures."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[BaseException] = []

    def history_failed(self, error: BaseException) -> None:
        self.failures.append(error)


class Recorded:
    """A history whose clock is that of the last snapshot; `take` waits until the snapshot was taken."""

    def __init__(self, path: Path) -> None:
        self.now_ms = START
        self.path = path
        self.open()

    def open(self) -> None:
        self.store, self.told = Watched(self.path), Told()
        self.history = History(self.store, self.told, lambda: self.now_ms)

    def reopen(self) -> None:
        self.history.close()
        self.open()

    def take(self, *monitors: MonitorSnapshot, after_ms: int = 0) -> None:
        self.now_ms += after_ms
        taken = threading.Event()

        class Seen(DriftSnapshot):
            """Says when the thread has come to the end of it."""

        snapshot = Seen(self.now_ms, monitors)
        before = self.history._take

        def take(given: DriftSnapshot) -> None:
            before(given)
            taken.set()

        self.history._take = take  # type: ignore[method-assign]
        self.history.record(snapshot)
        assert taken.wait(20)
        self.history._take = before  # type: ignore[method-assign]


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    path = tmp_path / "state.db"
    SqliteStore(path, lambda: START, lambda _: None).close()
    made = Recorded(path)
    yield made
    if made.history._thread.is_alive():
        made.history.close()


def loans(
    kl: float = 0.5, verdict: tuple[float, float] = QUIET, name: str = "loans", **changes: Any
) -> MonitorSnapshot:
    """Two windows of one feature; its bounds are a tenth below and above."""
    shape = (2, 1)
    made = monitor(name, [feature("amount")], detected=np.array([verdict]), **changes)
    made.divergences[:, :, 0] = kl
    return dataclasses.replace(made, lower=np.full(shape, 0.9 * kl), upper=np.full(shape, 1.1 * kl))


def kls(recorded: Recorded, shown: MonitorSnapshot, span_ms: int = 900_000, window: int = 0) -> list[float]:
    track = recorded.history.track(shown, [0], [window], span_ms)
    assert track.kl.shape == track.lower.shape == track.upper.shape == (track.at_ms.size, 1, 1)
    return [round(float(value), 3) for value in track.kl[:, 0, 0]]


def test_a_point_is_the_most_of_its_period_at_the_instant_of_its_last_evaluation(recorded: Recorded) -> None:
    for kl in (0.25, 0.75, 0.5):
        recorded.take(loans(kl), after_ms=1000)
    assert kls(recorded, loans()) == []  # the period is under way
    recorded.take(loans(0.125), after_ms=10_000)
    track = recorded.history.track(loans(), [0], [0, 1], 900_000)
    assert track.at_ms.tolist() == [START + 3000]
    np.testing.assert_allclose(track.kl[0, :, 0], [0.75, 0.75])
    np.testing.assert_allclose(track.lower[0, :, 0], 0.675, rtol=1e-3)
    np.testing.assert_allclose(track.upper[0, :, 0], 0.825, rtol=1e-3)


def test_what_is_undecided_for_a_part_of_a_period_is_the_most_of_the_rest(recorded: Recorded) -> None:
    recorded.take(loans(0.5))
    recorded.take(loans(np.nan), after_ms=1000)
    recorded.take(loans(np.nan), after_ms=10_000)
    recorded.take(loans(0.25), after_ms=10_000)
    track = recorded.history.track(loans(), [0], [0], 900_000)
    np.testing.assert_array_equal(track.kl[:, 0, 0], [0.5, np.nan])


def test_without_a_period_a_coarser_level_has_the_same_course(recorded: Recorded) -> None:
    for minute in range(40):
        recorded.take(loans(minute / 64), after_ms=60_000)
    found = kls(recorded, loans(), 3_600_000)
    assert found == [round(minute / 64, 3) for minute in range(39)]


def test_a_divergence_beyond_float32_is_infinite(recorded: Recorded) -> None:
    recorded.take(loans(1e300))
    recorded.take(loans(0.5), after_ms=10_000)
    assert kls(recorded, loans()) == [np.inf]
    assert recorded.told.failures == []


def test_the_latest_snapshot_counts_where_writing_is_slow(recorded: Recorded) -> None:
    entered, go = threading.Event(), threading.Event()
    before = recorded.history._take
    seen: list[int] = []

    def slow(snapshot: DriftSnapshot) -> None:
        seen.append(snapshot.evaluated_ms)
        entered.set()
        assert go.wait(20)
        before(snapshot)

    recorded.history._take = slow  # type: ignore[method-assign]
    recorded.history.record(DriftSnapshot(START, (loans(),)))
    assert entered.wait(20)
    for i in range(1, 5):
        recorded.history.record(DriftSnapshot(START + i, (loans(),)))  # returns though the thread is busy
    go.set()
    until(lambda: len(seen) == 2, 20)
    assert seen == [START, START + 4]


def test_since_starts_goes_on_and_ends(recorded: Recorded) -> None:
    def since() -> Any:
        return recorded.history.since(loans())

    recorded.take(loans())
    assert since() == {}
    recorded.take(loans(verdict=WARNING), after_ms=10_000)
    assert since() == {"amount": {0: START + 10_000}}
    recorded.take(loans(verdict=CRITICAL), after_ms=10_000)
    assert since() == {"amount": {0: START + 10_000, 1: START + 20_000}}
    recorded.take(loans(verdict=WARNING), after_ms=10_000)
    assert since() == {"amount": {0: START + 10_000}}
    recorded.take(loans(), after_ms=10_000)
    assert since() == {}
    recorded.take(loans(verdict=WARNING), after_ms=10_000)
    assert since() == {"amount": {0: START + 50_000}}


def test_an_undecided_verdict_ends_it(recorded: Recorded) -> None:
    recorded.take(loans(verdict=CRITICAL))
    recorded.take(loans(verdict=UNDECIDED), after_ms=10_000)
    assert recorded.history.since(loans()) == {}
    recorded.take(loans(verdict=CRITICAL), after_ms=10_000)
    assert recorded.history.since(loans())["amount"][0] == START + 20_000


def test_a_monitor_that_was_removed_is_forgotten_its_points_stay(recorded: Recorded) -> None:
    recorded.take(loans(verdict=WARNING), loans(verdict=WARNING, name="cards"))
    recorded.take(loans(verdict=WARNING), after_ms=10_000)
    assert recorded.history.since(loans(name="cards")) == {}
    assert recorded.store.since() == {("loans", None): {"amount": {0: START}}}
    recorded.take(loans(verdict=WARNING), loans(verdict=WARNING, name="cards"), after_ms=10_000)
    assert recorded.history.since(loans(name="cards")) == {"amount": {0: START + 20_000}}
    assert recorded.history.since(loans()) == {"amount": {0: START}}


def test_a_reload_that_changes_the_features_goes_on_by_name(recorded: Recorded) -> None:
    old = monitor(features=[feature("amount"), feature("gone")], detected=np.array([WARNING, WARNING]))
    new = monitor(features=[feature("new"), feature("amount")], detected=np.array([WARNING, WARNING]), seed=1)
    recorded.take(old)
    recorded.take(new, after_ms=1000)  # within the period
    recorded.take(new, after_ms=10_000)
    assert recorded.history.since(new) == {"new": {0: START + 1000}, "amount": {0: START}}
    track = recorded.history.track(new, [0, 1], [0], 900_000)
    assert track.at_ms.tolist() == [START, START + 1000]
    np.testing.assert_allclose(track.kl[:, 0, 1], [old.divergences[0, 0, 0], new.divergences[0, 1, 0]], rtol=1e-3)
    np.testing.assert_allclose(track.kl[:, 0, 0], [np.nan, new.divergences[0, 0, 0]], rtol=1e-3)


def test_segments_have_points_and_a_since_of_their_own(recorded: Recorded) -> None:
    changes: dict[str, Any] = {"features": [feature("amount")], "detected": np.array([QUIET])}
    shown = segmented("DE", "", **changes)
    drifting = dataclasses.replace(shown.segments[0], detected=np.array([WARNING]))
    shown = dataclasses.replace(shown, segments=(drifting, shown.segments[1]))
    recorded.take(shown)
    recorded.take(shown, after_ms=60_000)
    assert recorded.history.since(shown) == {}
    assert recorded.history.since(shown.segments[0]) == {"amount": {0: START}}
    for each in (shown, *shown.segments):
        assert kls(recorded, each) == [pytest.approx(each.divergences[0, 0, 0], rel=2e-3)]
    recorded.take(dataclasses.replace(shown, segments=()), after_ms=10_000)  # no rows now
    assert recorded.history.since(shown.segments[0]) == {}


def test_a_restart_goes_on_with_points_and_since(recorded: Recorded) -> None:
    recorded.take(loans(0.25, CRITICAL))
    recorded.take(loans(0.5, CRITICAL), after_ms=10_000)
    recorded.reopen()
    assert kls(recorded, loans()) == [0.25, 0.5]  # the second was under way, and was written as it closed
    assert recorded.history.since(loans()) == {"amount": {0: START, 1: START}}
    recorded.take(loans(0.75, CRITICAL), after_ms=60_000)
    recorded.take(loans(0.75, CRITICAL), after_ms=10_000)
    assert kls(recorded, loans()) == [0.25, 0.5, 0.75]
    assert recorded.history.since(loans()) == {"amount": {0: START, 1: START}}


def test_a_drift_that_was_over_by_the_first_evaluation_ends(recorded: Recorded) -> None:
    recorded.take(loans(verdict=CRITICAL))
    recorded.reopen()
    recorded.take(loans(), after_ms=60_000)
    assert recorded.history.since(loans()) == {}
    assert recorded.store.since() == {}


def test_a_store_that_fails_costs_the_point_and_nothing_else(recorded: Recorded) -> None:
    recorded.take(loans(0.25))
    recorded.store.fails = True
    recorded.take(loans(0.5, WARNING), after_ms=10_000)
    assert [str(error) for error in recorded.told.failures] == ["expected to write the history, got no space"]
    assert recorded.history.since(loans()) == {"amount": {0: START + 10_000}}
    recorded.store.fails = False
    recorded.take(loans(0.75, WARNING), after_ms=10_000)
    assert kls(recorded, loans()) == [0.5]
    # what could not be written of the verdicts went with the next points
    assert recorded.store.since() == {("loans", None): {"amount": {0: START + 10_000}}}


def test_a_defect_costs_the_point_and_not_those_that_follow(recorded: Recorded) -> None:
    recorded.history.record(DriftSnapshot(START, (None,)))  # type: ignore[arg-type]  # no such thing comes, hopefully
    until(lambda: recorded.told.failures, what="the failure")
    recorded.take(loans(0.25))
    recorded.take(loans(0.5), after_ms=10_000)
    assert kls(recorded, loans()) == [0.25]


def test_what_cannot_be_read_is_empty_and_told(recorded: Recorded) -> None:
    recorded.store._database.execute("DROP TABLE history")
    track = recorded.history.track(loans(), [0], [0, 1], 900_000)
    assert track.kl.shape == (0, 2, 1)
    assert "no such table" in str(recorded.told.failures[0])


def test_closing_writes_what_is_under_way_and_what_came_last(recorded: Recorded) -> None:
    recorded.take(loans(0.25))
    recorded.history.record(DriftSnapshot(START + 3_600_000, (loans(0.5),)))
    recorded.now_ms = START + 3_600_000
    recorded.history.close()
    assert not recorded.history._thread.is_alive()
    recorded.open()
    assert kls(recorded, loans(), 7_200_000) == [0.25, 0.5]
    with pytest.raises(StateError):
        _closed(recorded)()


def _closed(recorded: Recorded) -> Callable[[], object]:
    recorded.history.close()
    return recorded.store.since


def test_a_quiet_evaluation_within_a_period_writes_nothing(recorded: Recorded) -> None:
    recorded.take(loans())
    recorded.take(loans(), after_ms=1000)
    recorded.take(loans(), after_ms=1000)
    assert recorded.store.writes == 0
    recorded.take(loans(verdict=WARNING), after_ms=1000)
    assert recorded.store.writes == 1
