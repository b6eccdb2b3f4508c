"""When a commit is due, what goes into it, and who is told: by a clock that is set by hand."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from kldrift.engine import commits
from kldrift.engine.commits import GROUP_SECONDS, Commits
from kldrift.engine.queue import Work
from kldrift.errors import Uncommitted
from kldrift.state.base import Commit, KeyedAnswer, NoStore, Position
from tests.engine.told import Told

NOW_MS = 1_700_000_000_000
ANSWER = KeyedAnswer("k", b"", "{}")


class Store:
    """Takes `seconds` for each commit, by the clock, and fails if it is told to."""

    def __init__(self, clock: SimpleNamespace) -> None:
        self.clock = clock
        self.seconds = 0.0
        self.fails = False
        self.stored: list[Commit] = []

    def entries(self, monitor: str) -> Mapping[str, bytes]:
        return {}

    def positions(self) -> Mapping[str, Mapping[str, Position]]:
        return {"s": {"before": {"offset": 1}}}

    def answer(self, key: str) -> KeyedAnswer | None:
        return None

    def commit(self, commit: Commit) -> None:
        self.clock.now += self.seconds
        if self.fails:
            raise OSError("no space")
        self.stored.append(commit)

    def close(self) -> None: ...


class Monitored:
    """A monitor as a commit sees it."""

    def __init__(self, *changes: Mapping[str, bytes]) -> None:
        self.pending = list(changes)
        self.anew = False
        self.told: list[Mapping[str, bytes]] = []

    def changes(self) -> Mapping[str, bytes]:
        return self.pending.pop(0) if self.pending else {}

    def stored(self, changes: Mapping[str, bytes]) -> None:
        self.told.append(changes)


class Made:
    """Commits every two seconds, to a store that can be made to fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = SimpleNamespace(now=100.0)
        monkeypatch.setattr(commits, "time", SimpleNamespace(monotonic=lambda: self.clock.now))
        self.store = Store(self.clock)
        self.telemetry = Told("committed", "commit_failed", "commit_recovered")
        self.commits = Commits(self.store, 2.0, self.telemetry, lambda: NOW_MS)
        self.told: list[str] = []

    def count(self, name: str = "", **rest: Any) -> None:
        """Count work of somebody who waits for it."""
        self.commits.counted(
            Work(
                "s", "f", rest.pop("position", None), [], NOW_MS, 8,
                done=lambda _: self.told.append(f"{name} done"),
                failed=lambda error: self.told.append(f"{name} {type(error).__name__}"),
                **rest,
            ),
            [],
        )  # fmt: skip

    def commit(self, **monitors: Any) -> bool:
        return self.commits.commit(monitors)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    return Made(monkeypatch)


def test_what_nobody_waits_for_is_due_once_in_an_interval(made: Made) -> None:
    assert made.commits.due_in(False) == 2.0
    made.clock.now += 1.5
    assert made.commits.due_in(True) == 0.5
    made.clock.now += 0.5
    assert made.commits.due_in(False) == 0.0
    assert made.commit()  # nothing to store: an empty transaction shows that the state is there
    assert made.store.stored == [Commit(answers=[], forgotten=[])]
    assert made.telemetry.calls == []
    assert made.commits.due_in(False) == 2.0


def test_a_long_commit_makes_a_long_pause(made: Made) -> None:
    made.store.seconds = 0.5
    assert made.commit(m=Monitored({"a": b"1"}))
    assert made.commits.due_in(False) == 5.0
    assert made.telemetry.of("committed") == [(0.5, NOW_MS)]


def test_who_waits_is_served_when_there_is_nothing_else_to_count_or_soon(made: Made) -> None:
    made.count()
    assert made.commits.due_in(False) == 0.0
    assert made.commits.due_in(True) == pytest.approx(GROUP_SECONDS)
    made.clock.now += 0.015
    made.count()  # the first one's time counts
    assert made.commits.due_in(True) == pytest.approx(GROUP_SECONDS - 0.015)
    made.clock.now += 0.015
    assert made.commit()
    assert made.told == [" done", " done"]  # nothing that they sent counted
    assert made.store.stored == []
    assert made.commits.due_in(False) == 2.0
    made.count()
    made.store.seconds = 0.5
    assert made.commit(m=Monitored({"a": b"1"}))
    assert made.told == [" done"] * 3
    made.count()
    assert made.commits.due_in(True) == pytest.approx(1.0)  # twice what the last one took


def test_attempts_that_fail_are_repeated_at_growing_intervals(made: Made) -> None:
    made.store.fails = True
    for wait in (0.5, 1.0, 2.0, 5.0, 5.0):
        assert not made.commit(m=Monitored({"a": b"1"}))
        assert made.commits.failing
        assert made.commits.problem == "no space"
        assert made.commits.due_in(True) == wait
        made.clock.now += 0.25
        assert made.commits.due_in(False) == wait - 0.25
    made.store.fails = False
    assert made.commit(m=Monitored({"a": b"1"}))
    assert not made.commits.failing
    assert made.commits.problem == ""
    assert len(made.telemetry.of("commit_failed")) == 5
    assert len(made.telemetry.of("commit_recovered")) == 1
    assert made.commits.due_in(False) == 2.0


def test_each_who_waits_is_told_once_of_a_failure_and_then_that_it_is_stored(made: Made) -> None:
    made.store.fails = True
    made.count("a", position={"offset": 2})
    made.commit()
    assert made.told == ["a Uncommitted"]
    made.count("b")
    made.commit()
    assert made.told == ["a Uncommitted", "b Uncommitted"]
    made.store.fails = False
    made.commit()
    assert made.told[2:] == ["a done", "b done"]
    made.store.fails = True
    made.count("c", position={"offset": 3})
    made.count("d")
    made.commit()
    assert made.told[4:] == ["c Uncommitted", "d Uncommitted"]


def test_who_is_told_of_a_failure_may_send_again_in_five_seconds(made: Made) -> None:
    errors: list[BaseException] = []
    made.store.fails = True
    made.commits.counted(Work("s", "f", {"offset": 2}, [], NOW_MS, 8, done=lambda _: None, failed=errors.append), [])
    made.commit()
    (error,) = errors
    assert isinstance(error, Uncommitted)
    assert error.retry_after_seconds == 5


def test_either_of_what_can_change_is_stored_alone(made: Made) -> None:
    monitored = Monitored({"a": b"1"})
    assert made.commit(m=monitored)
    assert made.store.stored.pop() == Commit(entries={"m": {"a": b"1"}}, answers=[], forgotten=[])
    assert monitored.told == [{"a": b"1"}]
    made.count(position={"offset": 2})
    assert made.commit(m=Monitored())
    assert made.store.stored.pop() == Commit(positions={"s": {"f": {"offset": 2}}}, answers=[], forgotten=[])
    assert made.commits.stored_positions == {"s": {"before": {"offset": 1}, "f": {"offset": 2}}}
    made.count(answers=lambda _: [ANSWER])
    assert made.commit()
    assert made.store.stored.pop() == Commit(answers=[ANSWER], forgotten=[])
    made.commits.forget(["gone"])
    anew = Monitored()
    anew.anew = True
    assert made.commit(m=anew)
    assert made.store.stored.pop() == Commit(answers=[], forgotten=["gone", "m"])
    made.count()
    assert made.commit()
    assert made.store.stored == []  # each of them is stored once


def test_without_a_store_nothing_is_due_and_who_waits_is_told_at_once(made: Made) -> None:
    made.commits = Commits(NoStore(), 2.0, made.telemetry, lambda: NOW_MS)
    assert not made.commits.keeps
    made.count("a", position={"offset": 2})
    made.commits.counted(Work("s", "g", None, [], NOW_MS, 8), [])
    assert made.told == ["a done"]
    assert made.commits.stored_positions == {"s": {"f": {"offset": 2}}}
    assert made.commits.due_in(True) == float("inf")
    assert made.commit()
    assert made.telemetry.calls == []
