"""The turns of the engine's thread: ticks, swaps, what is told of them, and how it ends."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kldrift.drift.monitor import Monitor
from kldrift.engine import observing
from kldrift.engine.engine import Engine
from kldrift.engine.history import History
from kldrift.engine.observing import UNKNOWN_FIELDS_SECONDS, UnknownFields, monotonic_ms, now_ms, report
from kldrift.engine.queue import Work, WorkQueue
from kldrift.errors import Busy, StateError
from kldrift.export.telemetry import Telemetry
from kldrift.records.samples import BodyResult, SampleBatch
from kldrift.records.snapshots import AddResult, DriftSnapshot
from kldrift.state.base import Commit
from kldrift.state.history import SqliteHistory
from kldrift.state.sqlite import SqliteStore
from tests.drift.builders import UNIFORM_EXAMPLE, edges_spec, monitor
from tests.e2e.processes import until
from tests.engine.told import Told

NOW = 1_700_000_000_000
HOUR = 3_600_000


def watched(edges: tuple[float, ...] = (0, 1, 2, 3)) -> Monitor:
    return monitor((edges_spec("x", edges), UNIFORM_EXAMPLE))


def engine_of(*monitors: Monitor, telemetry: Telemetry | None = None, **rest: Any) -> Engine:
    return Engine(monitors, rest.pop("tick_ms", HOUR), 1 << 20, telemetry or Telemetry(), lambda: NOW, **rest)


def one(made: Monitor, value: float = 0.5, **rest: Any) -> Work:
    return Work("s", "f", rest.pop("position", None), [(made, SampleBatch(1, (np.array([value]),)))], NOW, 8, **rest)


def counts(engine: Engine) -> list[int]:
    return engine.snapshot.monitors[0].counts[0].tolist()  # type: ignore[no-any-return]


class Kept:
    """A store (not a `NoStore`) in memory, whose commits can be made to fail."""

    def __init__(self) -> None:
        self.fails = False
        self.kept: dict[str, Mapping[str, bytes]] = {}

    def entries(self, monitor: str) -> Mapping[str, bytes]:
        return self.kept.get(monitor, {})

    def positions(self) -> Mapping[str, Any]:
        return {}

    def answer(self, key: str) -> None:
        return None

    def commit(self, commit: Commit) -> None:
        if self.fails:
            raise StateError("no space")

    def close(self) -> None: ...


# --- ticks ----------------------------------------------------------------------------------------------


def test_times_are_given_in_milliseconds() -> None:
    engine = engine_of(tick_ms=250, store=Kept(), commit_ms=1500)
    assert engine._tick_seconds == 0.25
    assert engine._commits._interval == 1.5


def test_ticks_go_on_as_often_as_a_reload_says() -> None:
    evaluated = threading.Semaphore(0)
    engine = engine_of(watched(), on_evaluated=lambda _: evaluated.release())
    assert engine.snapshot.evaluated_ms == 0  # none yet
    engine.start()
    assert evaluated.acquire(timeout=10)  # at once
    engine.swap([watched()], 20)
    assert engine._tick_seconds == 0.02
    for _ in range(5):
        assert evaluated.acquire(timeout=10)
    engine.swap([watched()], HOUR)
    engine.stop()  # one more that was due, perhaps, and the last one


def test_ticks_are_as_far_apart_as_they_should_be() -> None:
    seen: list[DriftSnapshot] = []
    begun = time.monotonic()
    engine = engine_of(watched(), tick_ms=200, on_evaluated=seen.append)
    engine.start()
    until(lambda: len(seen) == 4, 10)
    engine.stop()
    assert time.monotonic() - begun > 0.55  # the first is at once


def test_an_evaluation_is_told_with_the_time_it_took() -> None:
    telemetry = Told("evaluated", "committed")
    engine = engine_of(watched(), telemetry=telemetry)
    engine.evaluate()
    ((seconds, at_ms),) = telemetry.of("evaluated")
    assert 0 <= seconds < 10
    assert at_ms == NOW


# --- work ---------------------------------------------------------------------------------------------


def test_work_is_told_as_committed_where_nothing_is_stored() -> None:
    made, telemetry = watched(), Told("committed")
    engine = engine_of(made, telemetry=telemetry)
    engine._apply(one(made))
    ((seconds, at_ms),) = telemetry.of("committed")
    assert 0 <= seconds < 10
    assert at_ms == NOW
    kept = Told("committed")
    other = watched()
    engine_of(other, telemetry=kept, store=Kept())._apply(one(other))
    assert kept.calls == []


def test_what_a_monitor_folds_and_learns_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made, telemetry = watched(), Told("segments_folded", "references_learned", "rows_added")
    engine = engine_of(made, telemetry=telemetry)
    none = np.zeros(0, dtype=np.int64)
    for result in (
        AddResult(1, none, none, np.zeros(1, dtype=np.int64)),
        AddResult(2, none, none, np.zeros(1, dtype=np.int64), folded=3),
        AddResult(4, none, none, np.zeros(1, dtype=np.int64), learned=("x",)),
    ):
        monkeypatch.setattr(made, "add", lambda *_, result=result: result)
        engine._apply(one(made))
    assert telemetry.of("segments_folded") == [("m", 3)]
    assert telemetry.of("references_learned") == [("m", {"x": made.features[0].problem})]
    assert engine.rows_counted == 7


def test_a_batch_that_breaks_is_logged_and_one_of_another_configuration_only_answered() -> None:
    made, telemetry = watched(), Told("batch_failed")
    engine = engine_of(made, telemetry=telemetry)
    errors: list[BaseException] = []
    engine._apply(one(watched(), failed=errors.append))  # not the engine's monitor
    assert [type(error) for error in errors] == [Busy]
    assert telemetry.calls == []
    engine._apply(Work("s", "f", None, [(made, None)], NOW, 8, failed=errors.append))  # type: ignore[list-item]
    assert [type(error) for error in errors[1:]] == [AttributeError]
    assert telemetry.of("batch_failed") == [("s", errors[1])]
    engine._apply(Work("s", "f", None, [(made, None)], NOW, 8))  # type: ignore[list-item]  # nobody waits


def test_a_caller_counts_itself_only_while_the_engine_is_idle() -> None:
    made = watched()
    engine = engine_of(made)
    results = engine.try_apply(one(made, position={"offset": 1}))
    assert results is not None
    assert results[0].counted == 1
    assert engine.positions == {"s": {"f": {"offset": 1}}}
    with engine._owner:
        assert engine.try_apply(one(made)) is None
    engine.queue.put(one(made))
    assert engine.try_apply(one(made)) is None
    engine.queue.get(0)
    assert engine.try_apply(one(made)) is not None
    engine.queue.close()
    assert engine.try_apply(one(made)) is None
    assert engine.rows_counted == 2
    kept = watched()
    assert engine_of(kept, store=Kept()).try_apply(one(kept)) is None


def test_positions_are_told_once_they_are_stored(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db", lambda: NOW, pytest.fail)
    made = watched()
    engine = engine_of(made, store=store)
    engine.start()
    assert engine.stored_positions("s") == {}
    stored = threading.Event()
    engine.queue.put(one(made, position={"offset": 1}, done=lambda _: stored.set()))
    assert stored.wait(10)
    assert engine.stored_positions("s") == {"f": {"offset": 1}}
    engine.stop()
    anew = ["feature x: its windows start empty (other bins)"]
    for again, told in (
        (watched(), ("monitor_restored", ("m",))),
        (watched((0, 1, 2)), ("monitor_changed", ("m", anew))),
    ):
        telemetry = Told("monitor_restored", "monitor_changed")
        restarted = engine_of(again, telemetry=telemetry, store=store)
        assert telemetry.calls == [told]
        assert restarted.stored_positions("s") == {"f": {"offset": 1}}
    store.close()


# --- swaps ----------------------------------------------------------------------------------------------


def test_a_swap_goes_on_with_counts_that_mean_the_same() -> None:
    made, telemetry = watched(), Told("monitor_changed")
    engine = engine_of(made, telemetry=telemetry)
    engine.start()
    engine.queue.put(one(made))
    engine.swap([made], HOUR)  # the same one
    assert counts(engine)[0] == 1
    engine.swap([watched()], HOUR)  # another one like it
    assert counts(engine)[0] == 1
    assert telemetry.calls == []
    engine.swap([watched((0, 1, 2))], HOUR)
    assert counts(engine)[0] == 0
    assert telemetry.of("monitor_changed") == [("m", ["feature x: its windows start empty (other bins)"])]
    engine.swap([], HOUR)
    engine.swap([watched()], HOUR)  # it was not there before
    assert len(telemetry.calls) == 1
    engine.stop()


# --- the end ------------------------------------------------------------------------------------------


def test_a_stop_that_cannot_store_does_not_wait_for_what_is_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kldrift.engine.engine.LAST_COMMIT_SECONDS", 0.3)
    store, made, telemetry = Kept(), watched(), Told("commit_failed")
    engine = engine_of(made, store=store, telemetry=telemetry)
    engine.start()
    store.fails = True
    told: list[BaseException] = []
    engine.queue.put(one(made, done=lambda _: None, failed=told.append))
    until(lambda: len(told) == 1, 10)
    engine.queue.put(one(made, failed=told.append))
    until(lambda: len(told) == 2, 10)
    assert isinstance(told[1], Busy)
    assert told[1].retry_after_seconds == 5
    engine.queue.put(one(made, position={"offset": 1}))  # of a source: it waits
    failed = len(telemetry.of("commit_failed"))
    until(lambda: len(telemetry.of("commit_failed")) > failed + 1, 10)  # it goes on trying until it is stopped
    assert engine._thread.is_alive()
    stopping = threading.Thread(target=engine.stop, daemon=True)
    stopping.start()
    stopping.join(10)
    assert not stopping.is_alive()
    assert engine.rows_counted == 1


def test_what_is_still_queued_at_the_end_is_refused() -> None:
    made = watched()
    engine = engine_of(made)
    told: list[Any] = []
    engine.queue.put(one(made))
    engine.queue.put(one(made, failed=told.append))
    engine.queue.call(lambda: told.append("called"))
    engine.queue.close()
    engine._refuse_rest()
    assert isinstance(told[0], Busy)
    assert "the daemon is stopping" in str(told[0])
    assert told[1:] == ["called"]
    assert engine.queue.drained


def test_no_thread_keeps_a_process_alive_that_ends_without_a_stop(tmp_path: Path) -> None:
    assert engine_of()._thread.daemon
    history = History(SqliteHistory(None), Telemetry(), lambda: NOW)
    assert history._thread.daemon
    history.close()


# --- the queue ------------------------------------------------------------------------------------------


def test_the_queue_knows_the_bytes_whose_sender_waits() -> None:
    queue = WorkQueue(100)
    made = watched()
    first, second = one(made, failed=lambda _: None), one(made, failed=lambda _: None)
    for work in (first, one(made), second):
        queue.put(work, wait=False)
    queue.call(lambda: None)
    assert (queue.n_items, queue.n_bytes, queue.answerable_bytes) == (4, 24, 16)
    assert queue.get(0) is first
    assert (queue.n_items, queue.n_bytes, queue.answerable_bytes) == (3, 16, 8)
    assert queue.take_answerable() == [second]
    assert (queue.n_items, queue.n_bytes, queue.answerable_bytes) == (2, 8, 0)
    assert queue.open_and_empty is False
    queue.get(0)
    queue.get(0)
    assert queue.get(0) is None
    assert queue.open_and_empty is True
    assert not queue.drained
    assert not queue.closed
    queue.close()
    assert (queue.closed, queue.drained, queue.open_and_empty) == (True, True, False)


# --- what both intakes report ---------------------------------------------------------------------------


def test_rows_are_reported_by_reason() -> None:
    telemetry = Told("batch_decoded")
    bodies = [
        BodyResult(3, {"malformed": 1}),
        BodyResult(2, {"malformed": 1, "timestamp": 5}),
        BodyResult(0, unreadable="expected JSON"),
        BodyResult(0, unreadable="expected JSON"),
        BodyResult(0, {"too_large": 1}, unreadable="expected less"),
    ]
    report(telemetry, "http", bodies)
    expected = {"malformed": 2, "timestamp": 5, "unreadable": 2, "too_large": 1}
    assert telemetry.of("batch_decoded") == [("http", 5, expected)]


def test_a_row_of_each_monitor_is_looked_at_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr(observing, "time", SimpleNamespace(monotonic=lambda: now[0]))
    fields = UnknownFields(Telemetry())
    assert fields.due("m")
    assert not fields.due("m")
    assert fields.due("n")
    now[0] += UNKNOWN_FIELDS_SECONDS - 1
    assert not fields.due("m")
    now[0] += 1
    assert fields.due("m")
    assert not fields.due("m")


def test_the_clock_is_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = {"time_ns": lambda: 1_700_000_000_123_999_999, "monotonic_ns": lambda: 77_123_999_999}
    monkeypatch.setattr(observing, "time", SimpleNamespace(**ticks))
    assert now_ms() == 1_700_000_000_123
    assert monotonic_ms() == 77_123
