"""The engine with a state: what is acknowledged is stored, what is stored is counted once, whatever happens between."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kldrift.drift.monitor import Monitor
from kldrift.engine.engine import Engine
from kldrift.engine.push import PushIntake
from kldrift.engine.queue import Work
from kldrift.errors import Busy, KeyConflict, StateError, Uncommitted
from kldrift.export.telemetry import Telemetry
from kldrift.records.samples import Receipt, SampleBatch
from kldrift.records.snapshots import AddResult
from kldrift.state.base import Commit, KeyedAnswer, Position
from kldrift.state.sqlite import SqliteStore
from tests.drift.builders import UNIFORM_EXAMPLE, edges_spec, monitor

NOW = 1_700_000_000_000
BODY = b'{"x": 0.5}\n{"x": 1.5}\n'


class Failing:
    """A real store whose commits can be made to fail, or to wait."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore(path, lambda: NOW, lambda _: None)
        self.fails = False
        self.commits = 0
        self.tried = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def entries(self, monitor: str) -> Mapping[str, bytes]:
        return self.store.entries(monitor)

    def positions(self) -> Mapping[str, Mapping[str, Position]]:
        return self.store.positions()

    def answer(self, key: str) -> KeyedAnswer | None:
        return self.store.answer(key)

    def commit(self, commit: Commit) -> None:
        self.go.wait(20)
        self.tried.set()
        if self.fails:
            raise StateError("no space")
        self.store.commit(commit)
        self.commits += 1

    def close(self) -> None:
        self.store.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Failing]:
    store = Failing(tmp_path / "state.db")
    yield store
    store.close()


def watched() -> Monitor:
    return monitor((edges_spec("x"), UNIFORM_EXAMPLE))


def engine_of(store: Failing, commit_ms: int = 3_600_000, made: Monitor | None = None) -> Engine:
    return Engine([made or watched()], 3_600_000, 1 << 20, Telemetry(), lambda: NOW, store, commit_ms)


def counts(engine: Engine) -> list[int]:
    engine.evaluate()
    return engine.snapshot.monitors[0].counts[0].tolist()  # type: ignore[no-any-return]


def work(engine: Engine, value: float, position: int | None = None, **calls: Any) -> Work:
    batch = SampleBatch(1, (np.array([value]),))
    place = None if position is None else {"offset": position}
    return Work("s", "f", place, [(engine.monitors["m"], batch)], NOW, 8, **calls)


def until(happened: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(2_000):
        if happened():
            return
        waiting.wait(0.01)
    raise AssertionError("it did not happen")


def test_positions_and_counts_come_back_together(store: Failing) -> None:
    engine = engine_of(store)
    engine.start()
    for i in range(5):
        engine.queue.put(work(engine, 0.5, i + 1))
    engine.stop()
    again = engine_of(store)
    assert again.positions == {"s": {"f": {"offset": 5}}}
    assert counts(again) == [5, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("stored", range(0, 12, 3))
def test_a_process_that_ends_anywhere_has_counted_just_what_its_position_says(store: Failing, stored: int) -> None:
    """Works 1..12 are put one by one; after `stored` of them every commit is lost, as with the process."""
    engine = engine_of(store, commit_ms=1)
    engine.start()
    for i in range(stored):
        engine.queue.put(work(engine, 0.5, i + 1))
    if stored:
        until(lambda: store.positions().get("s", {}).get("f") == {"offset": stored})
    store.fails = True
    for i in range(stored, 12):
        engine.queue.put(work(engine, 0.5, i + 1))
    store.tried.clear()
    assert store.tried.wait(10)
    restarted = engine_of(store)
    assert counts(restarted)[0] == stored
    assert restarted.positions.get("s", {}).get("f", {"offset": 0}) == {"offset": stored}
    store.fails = False
    engine.stop()
    assert counts(engine_of(store))[0] == 12


def test_nobody_is_told_before_what_he_sent_is_stored(store: Failing) -> None:
    engine = engine_of(store)
    told: list[int] = []

    def done(results: list[AddResult]) -> None:
        told.append(len(store.entries("m")))

    store.go.clear()
    engine.start()
    engine.queue.put(work(engine, 0.5, done=done))
    assert told == []
    store.go.set()
    until(lambda: bool(told))
    assert told[0] > 0
    engine.stop()


def test_who_sent_nothing_that_counts_is_answered_at_once_without_a_commit(store: Failing) -> None:
    engine = engine_of(store)
    engine.start()
    answered = threading.Event()
    engine.queue.put(work(engine, 0.5, done=lambda _: answered.set()))
    assert answered.wait(10)
    for _ in range(2):
        answered.clear()
        engine.queue.put(Work("push", "", None, [], NOW, 8, done=lambda _: answered.set()))
        assert answered.wait(10)
    assert store.commits == 1
    engine.stop()


def test_a_thread_that_hangs_is_seen(store: Failing) -> None:
    engine = Engine([watched()], 20, 1 << 20, Telemetry(), lambda: NOW, store, 3_600_000)
    engine.start()
    begun, enough = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        enough.wait(10)

    engine.queue.call(hang)
    assert begun.wait(10)
    until(lambda: engine.seconds_in_turn > 1)  # fifty ticks, each of which would have been a turn
    enough.set()
    until(lambda: engine.seconds_in_turn < 0.5)
    engine.stop()


def test_who_waits_is_stored_together_with_others(store: Failing) -> None:
    engine = engine_of(store)
    told = threading.Semaphore(0)
    for _ in range(200):
        engine.queue.put(work(engine, 0.5, done=lambda _: told.release()))
    engine.start()
    for _ in range(200):
        assert told.acquire(timeout=20)
    assert store.commits <= 5
    engine.stop()


def test_a_state_that_cannot_be_written_says_so_stops_counting_and_loses_nothing(store: Failing) -> None:
    engine = engine_of(store)
    engine.start()
    told: list[str] = []

    def one(value: float) -> Work:
        return work(
            engine, value, done=lambda _: told.append("done"), failed=lambda error: told.append(type(error).__name__)
        )

    store.fails = True
    engine.queue.put(one(0.5))
    until(lambda: told == [Uncommitted.__name__])
    assert engine.cannot_store == "no space"
    engine.queue.put(one(2.5))  # who sent it is told, and can send it again
    until(lambda: told == ["Uncommitted", "Busy"])
    engine.queue.put(work(engine, 1.5, 1))  # of a source that is read: it waits
    store.tried.clear()
    assert store.tried.wait(10)
    assert counts(engine)[:2] == [1, 0]
    store.fails = False
    until(lambda: told == ["Uncommitted", "Busy", "done"])
    until(lambda: counts(engine)[:3] == [1, 1, 0])
    engine.stop()
    assert counts(engine_of(store))[:2] == [1, 1]


def test_a_state_that_cannot_be_written_is_found_while_nobody_sends_anything(store: Failing) -> None:
    engine = engine_of(store, commit_ms=10)
    engine.start()
    until(lambda: store.commits > 2)
    assert not engine.cannot_store
    store.fails = True
    until(lambda: engine.cannot_store == "no space")
    store.fails = False
    until(lambda: not engine.cannot_store)
    engine.stop()


def test_a_defect_in_the_store_does_not_end_the_counting(store: Failing, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(store)
    engine.start()
    commit = store.store.commit
    monkeypatch.setattr(store.store, "commit", lambda _: (_ for _ in ()).throw(RuntimeError("a defect")))
    told: list[str] = []
    engine.queue.put(
        work(engine, 0.5, done=lambda _: told.append("done"), failed=lambda error: told.append(type(error).__name__))
    )
    until(lambda: told == ["Uncommitted"])
    monkeypatch.setattr(store.store, "commit", commit)
    until(lambda: told == ["Uncommitted", "done"])
    engine.stop()
    assert counts(engine_of(store))[0] == 1


def test_a_stop_with_a_state_that_cannot_be_written_ends_and_acknowledges_nothing(
    store: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kldrift.engine.engine.LAST_COMMIT_SECONDS", 0.1)
    engine = engine_of(store)
    engine.start()
    store.fails = True
    told: list[str] = []
    for _ in range(3):
        engine.queue.put(
            work(
                engine, 0.5, done=lambda _: told.append("done"), failed=lambda error: told.append(type(error).__name__)
            )
        )
    until(lambda: bool(told))
    engine.stop()
    assert told.count("done") == 0
    assert len(told) == 3
    store.fails = False
    assert counts(engine_of(store))[0] == 0


def test_a_monitor_that_changed_or_went_leaves_nothing_behind(store: Failing) -> None:
    engine = engine_of(store)
    engine.start()
    engine.queue.put(work(engine, 0.5, 1))
    other = monitor((edges_spec("x", (0, 1, 2)), UNIFORM_EXAMPLE))
    engine.swap([other], 3_600_000)
    engine.queue.put(Work("s", "f", {"offset": 2}, [(other, SampleBatch(1, (np.array([0.5]),)))], NOW, 8))
    engine.stop()
    assert counts(engine_of(store, made=monitor((edges_spec("x", (0, 1, 2)), UNIFORM_EXAMPLE)))) == [1, 0, 0, 0, 0, 0]
    gone = engine_of(store, made=other)
    gone.start()
    gone.swap([], 3_600_000)
    gone.stop()
    assert store.entries("m") == {}


def test_stored_counts_of_another_layout_are_kept_in_case_the_change_is_taken_back(store: Failing) -> None:
    engine = engine_of(store)
    engine.start()
    engine.queue.put(work(engine, 0.5, 1))
    engine.stop()
    changed = engine_of(store, made=monitor((edges_spec("x", (0, 1, 2)), UNIFORM_EXAMPLE)))
    assert counts(changed) == [0, 0, 0, 0, 0, 0]
    changed.start()
    changed.stop()
    again = engine_of(store)
    assert counts(again) == [1, 0, 0, 0, 0, 0, 0]


# --- posts with keys ---------------------------------------------------------------------------------


def pushing(store: Failing, act: Callable[[PushIntake], Coroutine[Any, Any, Any]]) -> list[int]:
    """Run `act` on a push intake; the counts in the end."""
    engine = engine_of(store)
    engine.start()

    async def main() -> None:
        intake = PushIntake(engine, Telemetry(), asyncio.get_running_loop(), lambda: NOW)
        intake.start()
        try:
            await act(intake)
        finally:
            await asyncio.to_thread(intake.stop)

    try:
        asyncio.run(asyncio.wait_for(main(), 30))
    finally:
        store.fails = False
        engine.stop()
    return counts(engine)


def test_a_post_that_comes_again_has_the_same_answer_and_is_not_counted(store: Failing) -> None:
    body = BODY + b'broken\n{"x": "1"}\n'

    async def act(intake: PushIntake) -> None:
        first = await intake.submit("m", "ndjson", body, "k")
        again = await intake.submit("m", "ndjson", body, "k")
        assert again == Receipt(3, 1, 0, first.errors, replayed=True)
        assert [error.row for error in first.errors] == [2, 3]
        other = await intake.submit("m", "ndjson", body, "another")
        assert not other.replayed

    assert pushing(store, act)[:2] == [2, 2]

    async def after_a_restart(intake: PushIntake) -> None:
        assert (await intake.submit("m", "ndjson", body, "k")).replayed
        with pytest.raises(KeyConflict) as conflict:
            intake.submit("m", "ndjson", BODY, "k")
        assert not conflict.value.in_use

    assert pushing(store, after_a_restart)[:2] == [2, 2]


def test_a_key_is_in_use_until_its_post_is_stored(store: Failing) -> None:
    async def act(intake: PushIntake) -> None:
        store.fails = True
        with pytest.raises(Uncommitted):
            await intake.submit("m", "ndjson", BODY, "k")
        with pytest.raises(Busy, match="State cannot be written"):
            await intake.submit("m", "ndjson", BODY, "k")
        store.fails = False
        for _ in range(500):
            try:
                receipt = await intake.submit("m", "ndjson", BODY, "k")
                break
            except (Busy, KeyConflict):
                await asyncio.sleep(0.01)
        assert receipt.replayed

    assert pushing(store, act)[:2] == [1, 1]


def test_a_key_that_is_not_answered_yet_is_in_use(store: Failing) -> None:
    async def act(intake: PushIntake) -> None:
        store.go.clear()
        first = intake.submit("m", "ndjson", BODY, "k")
        with pytest.raises(KeyConflict) as conflict:
            intake.submit("m", "ndjson", BODY, "k")
        assert conflict.value.in_use
        with pytest.raises(KeyConflict) as conflict:
            intake.submit("m", "ndjson", b'{"x": 2.5}', "k")
        assert not conflict.value.in_use
        store.go.set()
        assert not (await first).replayed

    assert pushing(store, act)[:2] == [1, 1]


def test_a_key_whose_post_could_not_be_read_or_taken_is_free_again(store: Failing) -> None:
    async def act(intake: PushIntake) -> None:
        assert (await intake.submit("m", "json", b"{", "k")).unreadable is not None
        assert not (await intake.submit("m", "ndjson", BODY, "k")).replayed
        with pytest.raises(Busy):
            await intake.submit("gone", "ndjson", BODY, "g")
        with pytest.raises(Busy):  # not a conflict
            await intake.submit("gone", "ndjson", BODY, "g")

    assert pushing(store, act)[:2] == [1, 1]


def test_many_posts_at_once_each_with_a_key_sent_twice_count_once(store: Failing) -> None:
    async def send(intake: PushIntake, key: str) -> None:
        for _ in range(200):
            try:
                await intake.submit("m", "ndjson", BODY, key)
                return
            except KeyConflict as conflict:
                if not conflict.in_use:
                    raise
                await asyncio.sleep(0.005)
        raise AssertionError("no answer")

    async def act(intake: PushIntake) -> None:
        await asyncio.gather(*(send(intake, f"k{i % 300}") for i in range(600)))

    assert pushing(store, act)[:2] == [300, 300]
