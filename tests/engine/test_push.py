"""Posts in line: who is taken when, what is refused, and what becomes of their keys."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kldrift.drift.monitor import Monitor
from kldrift.engine import push
from kldrift.engine.engine import Engine
from kldrift.engine.idempotency import Keys
from kldrift.engine.push import MAX_ERRORS, PushIntake, _Line, _receipts, _Waiting
from kldrift.engine.queue import Work
from kldrift.errors import Busy, KeyConflict, Uncommitted
from kldrift.export.telemetry import Telemetry
from kldrift.records.samples import BodyResult, Decoded, Receipt, RowError, SampleBatch
from kldrift.records.snapshots import AddResult
from kldrift.state.sqlite import SqliteStore
from tests.drift.builders import UNIFORM_EXAMPLE, edges_spec, monitor
from tests.engine.told import Told

NOW = 1_700_000_000_000
M, OTHER = ("m", "ndjson"), ("other", "ndjson")
ROW = b'{"x": 0.5}\n'


def watched() -> Monitor:
    return monitor((edges_spec("x"), UNIFORM_EXAMPLE))


def waiting(size: int, answer: Any = None, key: str | None = None) -> _Waiting:
    return _Waiting(b"x" * size, answer or Future(), None if key is None else (f"m\x00{key}", b""))


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


# --- lines --------------------------------------------------------------------------------------------


def taken_from_a_line(put: Callable[[_Line], None]) -> list[tuple[str, list[int], int]]:
    """What a line hands over after something was put into it, and then was stopped."""
    taken: list[tuple[str, list[int], int]] = []
    line = _Line("line", lambda target, items, size: taken.append((target[0], [len(i.body) for i in items], size)))
    put(line)
    line.start()
    line.end()
    assert line.join(None) == 0
    assert line.n_bytes == 0
    assert line.is_empty
    return taken


def test_targets_take_turns_and_their_bodies_are_gathered_up_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "GATHER_BYTES", 10)

    def put(line: _Line) -> None:
        assert line.is_empty
        line.put(M, [waiting(4) for _ in range(4)], 16)
        line.put(OTHER, [waiting(5), waiting(5), waiting(5)], 15)
        line.put(M, [waiting(7)], 7)
        assert line.n_bytes == 38
        assert not line.is_empty

    assert taken_from_a_line(put) == [
        ("m", [4, 4, 4], 12),  # until it is as much
        ("other", [5, 5], 10),
        ("m", [4, 7], 11),
        ("other", [5], 5),
    ]


def test_a_body_beyond_the_size_is_taken_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "GATHER_BYTES", 10)
    assert taken_from_a_line(lambda line: line.put(M, [waiting(10), waiting(1)], 11)) == [
        ("m", [10], 10),
        ("m", [1], 1),
    ]


def test_a_line_that_never_started_can_be_stopped() -> None:
    line = _Line("line", lambda *_: None)
    assert line._thread.daemon
    line.end()
    assert line.join(None) == 0


def test_a_line_that_ends_leaves_out_who_was_told_that_he_is_not_counted() -> None:
    gone: Future[Receipt] = Future()
    gone.cancel()

    def put(line: _Line) -> None:
        line.put(M, [waiting(4, gone), waiting(5)], 9)
        line.put(OTHER, [waiting(6, gone)], 6)
        line.end()
        assert list(line._waiting) == [M]
        line.n_bytes = 5

    assert taken_from_a_line(put) == [("m", [5], 5)]


def test_a_line_that_does_not_end_in_time_drops_what_it_has_and_says_how_much() -> None:
    begun, go = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        begun.set()
        go.wait(20)

    line = _Line("line", hang)
    line.put(M, [waiting(4), waiting(4)], 8)
    line.start()
    assert begun.wait(10)
    line.put(OTHER, [waiting(1), waiting(1), waiting(1)], 3)
    line.end()
    assert line.join(time.monotonic() + 0.01) == 5  # two that are being decoded, three that wait
    assert line.is_empty
    go.set()
    assert line.join(None) == 0


# --- where a turn goes --------------------------------------------------------------------------------


class Made:
    """An intake of an engine that does not run, within a running loop."""

    def __init__(self, engine: Engine, telemetry: Telemetry | None = None) -> None:
        self.engine = engine
        self.intake = PushIntake(engine, telemetry or Telemetry(), asyncio.get_running_loop(), lambda: NOW)


def in_a_loop(act: Callable[[Made], Any], queue_bytes: int = 1000, store: Any = None, start: bool = False) -> Any:
    """Run an async function with an intake."""
    engine = Engine([watched()], 3_600_000, queue_bytes, Telemetry(), lambda: NOW, store)

    async def main() -> Any:
        return await asyncio.wait_for(act(Made(engine)), 20)

    if start:
        engine.start()
    try:
        return asyncio.run(main())
    finally:
        engine.stop()


def test_bodies_are_decoded_at_once_in_a_thread_or_in_the_line_of_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "INLINE_BYTES", 10)
    monkeypatch.setattr(push, "LARGE_BYTES", 20)

    async def act(made: Made) -> None:
        went: list[tuple[str, list[int], int]] = []

        def went_to(name: str) -> Callable[..., None]:
            return lambda _, items, size, **__: went.append((name, [len(item.body) for item in items], size))

        monkeypatch.setattr(made.intake, "_take", went_to("here"))
        monkeypatch.setattr(made.intake._small, "put", went_to("small"))
        monkeypatch.setattr(made.intake._large, "put", went_to("large"))

        async def turn(*sizes: int) -> list[tuple[str, list[int], int]]:
            went.clear()
            for size in sizes:
                made.intake.submit("m", "ndjson", b"x" * size)
            await asyncio.sleep(0)
            assert made.intake._turn_bytes == 0
            return list(went)

        assert await turn(4, 6) == [("here", [4, 6], 10)]
        assert await turn(4, 7) == [("small", [4, 7], 11)]
        assert await turn(20) == [("small", [20], 20)]
        assert await turn(21) == [("large", [21], 21)]
        assert await turn(20, 21) == [("large", [21], 21), ("small", [20], 20)]
        assert await turn(21, 3, 22, 4) == [("large", [21, 22], 43), ("here", [3, 4], 7)]
        made.intake._small._waiting[M] = [waiting(1)]  # others were first
        assert await turn(4) == [("small", [4], 4)]
        made.intake._small._waiting.clear()
        made.engine.queue._line.append(object())
        assert await turn(4) == [("small", [4], 4)]

    in_a_loop(act)


@pytest.mark.parametrize("where", ["turn", "small", "large", "queue"])
def test_what_waits_anywhere_counts_against_the_room(where: str) -> None:
    async def act(made: Made) -> None:
        queue = made.engine.queue
        queue.put(Work("file", "", None, [], NOW, 900), wait=False)  # of a source: posts stand in line with it
        if where == "turn":
            made.intake.submit("m", "ndjson", b"x" * 600)
        elif where == "queue":
            queue.put(Work("http", "", None, [], NOW, 600, failed=lambda _: None), wait=False)
        else:
            {"small": made.intake._small, "large": made.intake._large}[where].n_bytes = 600
        with pytest.raises(Busy, match="600 bytes are waiting"):
            made.intake.submit("m", "ndjson", b"x" * 401)
        made.intake.submit("m", "ndjson", b"x" * 400)

    in_a_loop(act)


def test_a_body_beyond_the_room_is_taken_only_if_nothing_waits() -> None:
    async def act(made: Made) -> None:
        made.intake.submit("m", "ndjson", b"x" * 2000)
        made.intake._turn_bytes = 1
        with pytest.raises(Busy, match="1 bytes are waiting"):
            made.intake.submit("m", "ndjson", b"x" * 2000)

    in_a_loop(act)


def test_an_intake_that_was_stopped_takes_nothing_and_has_decoded_what_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "INLINE_BYTES", 0)  # in the thread

    async def act(made: Made) -> None:
        made.intake.start()
        assert made.intake.monitors() == {"m"}
        answer = made.intake.submit("m", "ndjson", ROW)
        await asyncio.sleep(0)
        await asyncio.to_thread(made.intake.stop)
        assert (await answer).accepted == 1
        with pytest.raises(Busy, match="the daemon is stopping"):
            made.intake.submit("m", "ndjson", ROW)

    in_a_loop(act, start=True)


def test_while_the_state_cannot_be_written_posts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "cannot_store", True)

    async def act(made: Made) -> None:
        with pytest.raises(Busy, match="State cannot be written") as refused:
            made.intake.submit("m", "ndjson", ROW)
        assert refused.value.retry_after_seconds == 5

    in_a_loop(act)


# --- keys ---------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "state.db", lambda: NOW, pytest.fail)
    yield store
    store.close()


def test_keys_are_honoured_where_there_is_a_state(store: SqliteStore) -> None:
    async def act(made: Made) -> None:
        assert made.intake.honours_keys
        first = await made.intake.submit("m", "ndjson", ROW, "k")
        again = await made.intake.submit("m", "ndjson", ROW, "k")
        assert (first.replayed, again.replayed) == (False, True)
        for _ in range(2):  # without one, each post is another
            assert not (await made.intake.submit("m", "ndjson", ROW)).replayed
        assert made.engine.rows_counted == 3

    in_a_loop(act, store=store, start=True)


def test_without_a_state_a_key_says_nothing() -> None:
    async def act(made: Made) -> None:
        assert not made.intake.honours_keys
        for _ in range(2):
            assert not (await made.intake.submit("m", "ndjson", ROW, "k")).replayed
        assert made.engine.rows_counted == 2

    in_a_loop(act, start=True)


@pytest.mark.parametrize(
    ("error", "shown", "free"),
    [
        (Busy("expected room"), "expected room", True),
        (RuntimeError("a defect"), "the log has the reason", True),
        (Uncommitted("counted, and stored later"), "counted, and stored later", False),
    ],
)
def test_a_key_is_free_again_unless_the_post_is_counted(
    store: SqliteStore, error: Exception, shown: str, free: bool
) -> None:
    async def act(made: Made) -> None:
        intake, loop = made.intake, asyncio.get_running_loop()
        begun = intake._keys.begin("m", "k", "ndjson", ROW)
        assert not isinstance(begun, Receipt)
        gone = loop.create_future()
        gone.cancel()  # a client that has left
        post = _Waiting(ROW, loop.create_future(), begun)
        intake._fail([_Waiting(ROW, gone), post], error)
        with pytest.raises(Busy, match=shown):
            await post.answer
        if free:
            assert intake._keys.begin("m", "k", "ndjson", ROW) == begun
        else:
            with pytest.raises(KeyConflict):
                intake._keys.begin("m", "k", "ndjson", ROW)

    in_a_loop(act, store=store)


def test_only_posts_that_have_a_key_and_could_be_read_leave_an_answer(store: SqliteStore) -> None:
    keys = Keys(store)
    key = ("m\x00k", b"digest")
    posts = [(None, Receipt(1)), (key, Receipt(2)), (key, Receipt(0, unreadable="expected JSON"))]
    (answer,) = keys.answers(posts)
    assert (answer.key, answer.digest) == ("m\x00k", b"digest")
    assert '"accepted": 2' in answer.answer


# --- receipts -----------------------------------------------------------------------------------------


def batch(n_rows: int) -> SampleBatch:
    return SampleBatch(n_rows, (np.zeros(n_rows),))


def test_each_body_has_its_own_late_and_future_rows() -> None:
    errors = (RowError(1, None, "malformed"), RowError(3, None, "malformed"))
    bodies = (BodyResult(2), BodyResult(3, {"malformed": 2}, errors, rows=ints(0, 2, 4)), BodyResult(1))
    result = AddResult(3, late=ints(1, 5), future=ints(2, 4), invalid=ints(0))
    first, second, third = _receipts(Decoded(batch(6), bodies), [result])
    assert (first.accepted, first.rejected, first.late, first.errors) == (1, 0, 1, ())
    assert (second.accepted, second.rejected, second.late) == (1, 4, 0)
    assert [(error.row, error.reason[:6]) for error in second.errors] == [
        (0, "future"),
        (1, "malfor"),
        (3, "malfor"),
        (4, "future"),
    ]
    assert (third.accepted, third.rejected, third.late) == (0, 0, 1)
    (alone,) = _receipts(Decoded(batch(2), bodies[:1]), [AddResult(2, ints(), ints(1), ints(0))])
    assert (alone.accepted, alone.rejected, alone.late) == (1, 1, 0)
    assert [error.row for error in alone.errors] == [1]


def test_no_more_than_ten_errors_are_listed() -> None:
    errors = tuple(RowError(row, None, "malformed") for row in range(100, 110))
    body = BodyResult(20, {"malformed": 10}, errors)
    (receipt,) = _receipts(Decoded(batch(20), (body,)), [AddResult(8, ints(), ints(*range(12)), ints(0))])
    assert [error.row for error in receipt.errors] == list(range(MAX_ERRORS))
    assert (receipt.accepted, receipt.rejected) == (8, 22)


def test_a_body_without_rows_has_a_receipt_without_a_result() -> None:
    body = BodyResult(0, {"malformed": 1}, (RowError(0, None, "malformed"),))
    assert _receipts(Decoded(batch(0), (body,)), []) == [Receipt(0, 1, 0, body.errors)]


def test_work_of_a_post_holds_its_body_and_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        push, "decode", lambda *_, **__: Decoded(SampleBatch(1, (np.zeros(1),), n_bytes=50), (BodyResult(1),))
    )

    async def act(made: Made) -> None:
        made.intake._take(M, [waiting(7)], 7, here=False)
        work = made.engine.queue.get(0)
        assert isinstance(work, Work)
        assert (work.n_bytes, work.arrival_ms, len(work.parts)) == (57, NOW, 1)

    in_a_loop(act)


def test_a_defect_is_logged_and_a_monitor_that_went_is_not() -> None:
    async def act(made: Made) -> None:
        telemetry = Told("batch_failed")
        intake = PushIntake(made.engine, telemetry, asyncio.get_running_loop(), lambda: NOW)
        future = asyncio.get_running_loop().create_future()
        intake._take(("gone", "ndjson"), [_Waiting(ROW, future)], 11, here=True)
        with pytest.raises(Busy, match="monitor gone was removed by a reload"):
            await future
        assert telemetry.calls == []
        future = asyncio.get_running_loop().create_future()
        intake._take(("m", "no such format"), [_Waiting(ROW, future)], 11, here=True)  # type: ignore[arg-type]
        with pytest.raises(Busy, match="the log has the reason"):
            await future
        assert [source for source, _ in telemetry.of("batch_failed")] == ["http"]

    in_a_loop(act)
