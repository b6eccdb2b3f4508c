"""From bytes to counts: gathering, receipts, back-pressure, retries."""

import asyncio
import threading
from collections.abc import Coroutine, Generator
from typing import Any

import pytest

import kldrift.engine.pull
import kldrift.engine.push
from kldrift.drift.monitor import Monitor
from kldrift.engine.engine import Engine
from kldrift.engine.pull import PullIntake
from kldrift.engine.push import PushIntake
from kldrift.engine.queue import Work, WorkQueue
from kldrift.errors import Busy, SourceError
from kldrift.export.telemetry import Telemetry
from kldrift.records.formats import Format
from kldrift.records.samples import Chunk, Receipt, SampleBatch
from tests.drift.builders import MINUTE, UNIFORM_EXAMPLE, edges_spec, monitor
from tests.e2e.processes import until

NOW = 1_700_000_000_000


def watched(event_time: bool = False) -> Monitor:
    return monitor((edges_spec("x"), UNIFORM_EXAMPLE), event_time=event_time)


def engine_of(*monitors: Monitor, queue_bytes: int = 1 << 20) -> Engine:
    return Engine(monitors, 3_600_000, queue_bytes, Telemetry(), lambda: NOW)


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def push(engine: Engine, bodies: list[bytes]) -> list[Receipt]:
    """Submit all bodies before the decoding thread starts, so that they are gathered."""

    async def main() -> list[Receipt]:
        intake = PushIntake(engine, Telemetry(), asyncio.get_running_loop(), lambda: NOW)
        answers = [intake.submit("m", "ndjson", body) for body in bodies]
        intake.start()
        receipts = await asyncio.gather(*answers)
        await asyncio.to_thread(intake.stop)
        return list(receipts)

    engine.start()
    try:
        return run(main())  # type: ignore[no-any-return]
    finally:
        engine.stop()


def test_waiting_bodies_are_decoded_in_one_go_and_each_gets_its_own_receipt(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = kldrift.engine.push.decode

    def counting(*arguments: Any, **options: Any) -> Any:
        calls.append(len(arguments[1]))
        return original(*arguments, **options)

    monkeypatch.setattr(kldrift.engine.push, "decode", counting)
    engine = engine_of(watched())
    receipts = push(engine, [b'{"x": 0.5}\n' * 3, b"", b'{"x": 1.5}\nbroken\n', b'{"x": "1"}'])
    assert calls == [4]
    assert [(r.accepted, r.rejected) for r in receipts] == [(3, 0), (0, 0), (1, 1), (1, 0)]
    assert receipts[1].unreadable is not None
    assert receipts[2].errors[0].row == 1
    assert receipts[3].errors[0].feature == "x"
    assert engine.snapshot.monitors[0].counts[0].tolist() == [3, 1, 0, 0, 0, 0, 1]


def test_late_and_future_rows_are_told_to_the_body_they_came_in() -> None:
    def row(minutes: int) -> bytes:
        return b'{"x": 0.5, "ts": %d}\n' % (NOW + minutes * MINUTE)

    receipts = push(
        engine_of(watched(event_time=True)),
        [row(0), row(-30) + row(0), row(100) + row(0), b"broken\n" + row(0) + row(90) + row(99)],
    )
    assert [(r.accepted, r.late, r.rejected) for r in receipts] == [(1, 0, 0), (1, 1, 0), (1, 0, 1), (1, 0, 3)]
    assert [[error.row for error in r.errors] for r in receipts] == [[], [], [0], [0, 2, 3]]
    assert "is a clock or the unit wrong?" in receipts[3].errors[1].reason


def test_a_full_intake_says_busy_and_takes_nothing() -> None:
    async def main() -> None:
        intake = PushIntake(
            engine_of(watched(), queue_bytes=1000), Telemetry(), asyncio.get_running_loop(), lambda: NOW
        )
        taken = intake.submit("m", "ndjson", b"x" * 5000)  # larger than the queue, but alone
        with pytest.raises(Busy, match="5000 bytes are waiting"):
            intake.submit("m", "ndjson", b"x")
        taken.cancel()

    run(main())


def test_a_body_that_breaks_the_decoder_is_answered_and_the_next_one_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    original = kldrift.engine.push.decode

    def breaking(body_format: Any, bodies: list[bytes], schema: Any, **options: Any) -> Any:
        if any(b"break" in body for body in bodies):
            raise RuntimeError("a defect")
        return original(body_format, bodies, schema, **options)

    monkeypatch.setattr(kldrift.engine.push, "decode", breaking)
    engine = engine_of(watched())
    engine.start()

    async def main() -> Receipt:
        intake = PushIntake(engine, Telemetry(), asyncio.get_running_loop(), lambda: NOW)
        intake.start()
        with pytest.raises(Busy, match="the log has the reason"):
            await intake.submit("m", "ndjson", b"break")
        return await intake.submit("m", "ndjson", b'{"x": 0.5}')

    assert run(main()).accepted == 1
    engine.stop()


class Moving:
    """Goes on behind what it knows already."""

    name = "files"

    def chunks(self, _: Any, __: threading.Event) -> Generator[Chunk | None, None, None]:
        yield Chunk("log", {"row": 5}, b"", NOW)


@pytest.mark.parametrize("body_format", ["ndjson", "csv", "parquet"])
def test_a_position_that_moves_without_rows_is_kept(body_format: Format) -> None:
    engine = engine_of(watched())
    engine.start()
    telemetry = Telemetry()
    pull = PullIntake(Moving(), body_format, ["m"], engine, telemetry)
    pull.start()
    assert pull.wait(5)
    engine.stop()
    assert engine.positions == {"files": {"log": {"row": 5}}}
    assert engine.rows_counted == 0
    assert telemetry.source_state("files")[2] is None


class Failing:
    """Fails after each chunk, and goes on from its position."""

    name = "failing"

    def __init__(self) -> None:
        self.asked: list[int] = []

    def chunks(self, positions: Any, stop: threading.Event) -> Generator[Chunk | None, None, None]:
        start = int(positions.get("log", {"row": 0})["row"])
        self.asked.append(start)
        if start < 4:
            yield Chunk("log", {"row": start + 1}, b'{"x": 0.5}\n', NOW)
            raise SourceError("the disk is gone; plug it in", "read")


def test_a_source_that_fails_is_asked_again_from_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kldrift.engine.pull, "RETRY_SECONDS", (0.0,))
    engine = engine_of(watched())
    engine.start()
    source = Failing()
    pull = PullIntake(source, "ndjson", ["m"], engine, Telemetry())
    pull.start()
    assert pull.wait(20)
    engine.stop()
    assert source.asked == [0, 1, 2, 3, 4]
    assert engine.positions == {"failing": {"log": {"row": 4}}}
    assert engine.snapshot.monitors[0].samples.tolist() == [[4]]


def test_once_a_failing_source_ends_with_its_failure() -> None:
    engine = engine_of(watched())
    engine.start()
    pull = PullIntake(Failing(), "ndjson", ["m"], engine, Telemetry(), once=True)
    pull.start()
    assert pull.wait(20)
    engine.stop()
    assert "the disk is gone" in str(pull.failure)
    assert engine.rows_counted == 1


def test_one_chunk_feeds_two_monitors_and_its_rows_are_received_once() -> None:
    from dataclasses import replace

    first = watched()
    second = watched()
    second.spec = replace(second.spec, name="other")
    engine = engine_of(first, second)
    engine.start()
    telemetry = Telemetry()
    pull = PullIntake(Failing(), "ndjson", ["m", "other"], engine, telemetry, once=True)
    pull.start()
    assert pull.wait(20)
    engine.stop()
    assert [m.samples.tolist() for m in engine.snapshot.monitors] == [[[1]], [[1]]]
    assert b'kldrift_samples_received_total{source="failing"} 1.0\n' in telemetry.exposition(
        False, False, engine.snapshot
    )


def test_a_post_finds_its_place_beside_sources_that_keep_the_queue_full_and_is_not_overtaken() -> None:
    engine = engine_of(watched(), queue_bytes=100_000)
    engine.queue.put(work(99_999))
    answered: list[str] = []

    async def main() -> None:
        intake = PushIntake(engine, Telemetry(), asyncio.get_running_loop(), lambda: NOW)
        intake.start()
        large = intake.submit("m", "ndjson", b'{"x": 0.5}\n' * 6_500)  # too large for the event loop
        large.add_done_callback(lambda _: answered.append("large"))
        while not engine.queue.awaited:
            await asyncio.sleep(0.001)
        small = intake.submit("m", "ndjson", b'{"x": 0.5}\n')
        small.add_done_callback(lambda _: answered.append("small"))
        with pytest.raises(Busy, match="71511 bytes are waiting"):
            intake.submit("m", "ndjson", b"x" * 40_000)
        await asyncio.sleep(0.01)  # the end of the turn: the small one stands in line, too
        engine.start()
        assert ((await large).accepted, (await small).accepted) == (6_500, 1)
        await asyncio.to_thread(intake.stop)

    run(main())
    engine.stop()
    assert answered == ["large", "small"]


def work(n_bytes: int) -> Work:
    return Work("s", "", None, [], NOW, n_bytes)


def test_a_large_work_that_waits_for_room_is_not_overtaken_by_small_ones() -> None:
    queue = WorkQueue(100)
    queue.put(work(60))
    threads = []
    for n_bytes in (90, 10, 500, 1):
        threads.append(threading.Thread(target=queue.put, args=(work(n_bytes),)))
        threads[-1].start()
        until(lambda: len(queue._line) == len(threads))
    taken = [queue.get(20) for _ in range(5)]
    assert [item.n_bytes for item in taken if isinstance(item, Work)] == [60, 90, 10, 500, 1]
    for thread in threads:
        thread.join(20)
    assert not queue.awaited
    assert queue.n_bytes == 0


def test_whoever_is_stopped_while_waiting_for_room_leaves_the_line() -> None:
    queue = WorkQueue(100)
    queue.put(work(60))
    stop = threading.Event()
    told: list[Busy] = []

    def wait_in_vain() -> None:
        try:
            queue.put(work(90), stop)
        except Busy as error:
            told.append(error)

    large = threading.Thread(target=wait_in_vain)
    large.start()
    until(lambda: queue.awaited)
    small = threading.Thread(target=queue.put, args=(work(10),))
    small.start()
    stop.set()
    large.join(20)
    small.join(20)
    assert len(told) == 1
    assert queue.n_bytes == 70


def test_the_queue_is_bounded_in_bytes_and_takes_a_large_piece_when_empty() -> None:
    queue = WorkQueue(100)
    queue.put(work(500))
    stop = threading.Event()
    stop.set()
    with pytest.raises(Busy):
        queue.put(work(1), stop)
    assert queue.get(0) is not None
    queue.put(work(1))
    with pytest.raises(Busy):
        queue.put(work(100), stop)
    queue.put(work(99), stop)
    assert queue.get(0) is not None
    assert queue.get(0) is not None
    queue.put(work(60))
    queue.put(work(40))
    assert queue.n_bytes == 100
    queue.close()
    with pytest.raises(Busy, match="stopping"):
        queue.put(work(1))
    assert not queue.drained
    assert queue.get(0) is not None
    assert queue.get(0) is not None
    assert queue.drained


def test_work_for_a_monitor_that_a_reload_took_away_is_told_so() -> None:
    old = watched()
    engine = engine_of(old)
    engine.start()
    engine.swap([watched()], 1000)  # the same bins, but another monitor: the codes of a batch are those of its own
    failed: list[BaseException] = []
    answered = threading.Event()
    engine.queue.put(
        Work("http", "", None, [(old, SampleBatch(0, ()))], NOW, 1, failed=lambda e: (failed.append(e), answered.set()))  # type: ignore[func-returns-value]
    )
    assert answered.wait(20)
    engine.stop()
    assert "changed by a reload" in str(failed[0])


def test_fields_that_nobody_watches_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "kldrift")
    push(engine_of(watched(event_time=True)), [b'{"x": 0.5, "y": 1, "ts": %d, "z": [1]}' % NOW, b'{"x": 0.5, "y": 1}'])
    told = [
        getattr(record, "fields", record.__dict__) for record in caplog.records if "unknown field" in record.message
    ]
    assert len(told) == 2
    assert {"y", "z"} == {str(fields.get("field")) for fields in told}


class Counting:
    """An endless log of one row a chunk."""

    name = "counting"

    def chunks(self, positions: Any, stop: threading.Event) -> Generator[Chunk | None, None, None]:
        row = int(positions.get("log", {"row": 0})["row"])
        while not stop.is_set() and row < 3000:
            row += 1
            yield Chunk("log", {"row": row}, b'{"x": 0.5}\n', NOW)


def test_a_source_that_is_stopped_and_started_loses_and_repeats_nothing() -> None:
    engine = engine_of(watched(), queue_bytes=200)  # a full queue most of the time
    engine.start()
    pull = PullIntake(Counting(), "ndjson", ["m"], engine, Telemetry())
    for _ in range(20):
        pull.start()
        pull.wait(0.003)
        pull.stop()
    pull.start()
    assert pull.wait(30)
    engine.stop()
    assert engine.rows_counted == 3000
    assert engine.snapshot.monitors[0].samples.tolist() == [[3000]]


class Pipe:
    """What was read from it cannot be read again."""

    name = "pipe"

    def __init__(self) -> None:
        self.row = 0

    def chunks(self, positions: Any, stop: threading.Event) -> Generator[Chunk | None, None, None]:
        while not stop.is_set() and self.row < 2000:
            self.row += 1
            yield Chunk("log", {}, b'{"x": 0.5}\n', NOW)


def test_a_pipe_that_is_stopped_and_started_loses_nothing_that_was_read() -> None:
    engine = engine_of(watched(), queue_bytes=200)
    engine.start()
    telemetry = Telemetry()
    pull = PullIntake(Pipe(), "ndjson", ["m"], engine, telemetry)
    for _ in range(20):
        pull.start()
        pull.wait(0.003)
        pull.stop()
    pull.start()
    assert pull.wait(30)
    engine.stop()
    assert engine.snapshot.monitors[0].samples.tolist() == [[2000]]
    received = telemetry.exposition(False, False, engine.snapshot)
    assert b'kldrift_samples_received_total{source="pipe"} 2000.0\n' in received


def test_an_evaluation_that_fails_does_not_end_the_counting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monitored = watched()
    engine = engine_of(monitored)
    engine.start()

    def broken(_: int) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(monitored, "evaluate", broken)
    engine.swap([monitored], 3_600_000)  # evaluates, and must come back
    pull = PullIntake(Pipe(), "ndjson", ["m"], engine, Telemetry())
    pull.start()
    assert pull.wait(20)
    engine.stop()
    assert engine.rows_counted == 2000
    assert "could not be computed" in caplog.text
