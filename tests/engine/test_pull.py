"""A source in its thread: what is handed over and when, what is told of it, and how it goes on after a failure."""

import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from kldrift.drift.monitor import Monitor
from kldrift.engine.engine import Engine
from kldrift.engine.observing import report
from kldrift.engine.pull import DECODES, PullIntake, _timed
from kldrift.engine.queue import Work
from kldrift.errors import DecodeError, SourceError
from kldrift.export.telemetry import Telemetry
from kldrift.records.formats import Format
from kldrift.records.samples import BatchSchema, BodyResult, Chunk, Decoded, FeatureSchema, RowRange, SampleBatch
from kldrift.wire import decode
from tests.drift.builders import UNIFORM_EXAMPLE, edges_spec, monitor
from tests.e2e.processes import until
from tests.engine.told import Told

NOW = 1_700_000_000_000


def watched(event_time: bool = False) -> Monitor:
    return monitor((edges_spec("x"), UNIFORM_EXAMPLE), event_time=event_time)


def engine_of(made: Monitor, queue_bytes: int = 1 << 20) -> Engine:
    return Engine([made], 3_600_000, queue_bytes, Telemetry(), lambda: NOW)


def chunk(row: int, payload: bytes | RowRange = b'{"x": 0.5}\n', stream: str = "log", **rest: Any) -> Chunk:
    return Chunk(stream, {"row": row}, payload, NOW, **rest)


class Scripted:
    """Yields what it is given, whatever the position is, and raises the errors among it; each time the next script."""

    name = "scripted"

    def __init__(self, *scripts: Sequence[Chunk | Exception | threading.Event | None]) -> None:
        self.scripts = list(scripts)

    def chunks(self, positions: Any, stop: threading.Event) -> Generator[Chunk | None, None, None]:
        for item in self.scripts.pop(0) if self.scripts else []:
            if isinstance(item, Exception):
                raise item
            if isinstance(item, threading.Event):
                item.wait(20)
            else:
                yield item


class Stop(threading.Event):
    """Remembers the waits between attempts, and ends the last of so many."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.left = n
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        if len(self.waits) >= self.left:
            self.set()
        return self.is_set()


def pulled(
    source: Scripted,
    made: Monitor | None = None,
    telemetry: Telemetry | None = None,
    body_format: Format = "ndjson",
    **rest: Any,
) -> tuple[PullIntake, list[Work]]:
    """Let a source run to its end; the intake, and the work that it handed over."""
    engine = engine_of(made or watched())
    pull = PullIntake(source, body_format, ["m", "gone"], engine, telemetry or Telemetry(), **rest)
    pull.start()
    assert pull.wait(20)
    return pull, works(engine)


def works(engine: Engine) -> list[Work]:
    found = []
    while (item := engine.queue.get(0)) is not None:
        assert isinstance(item, Work)
        found.append(item)
    return found


def positions(found: Sequence[Work]) -> list[Any]:
    return [work.position["row"] for work in found if work.position is not None]


# --- what is handed over, and when --------------------------------------------------------------------


def test_chunks_are_handed_over_in_order_with_what_they_hold_in_bytes() -> None:
    _, found = pulled(Scripted([chunk(1), None, chunk(2, b'{"x": 0.5}\n{"x": 2.5}\n')]), watched(event_time=True))
    assert positions(found) == [1, 2]
    for work in found:
        ((_, batch),) = work.parts
        assert (work.source, work.stream, work.arrival_ms, work.done) == ("scripted", "log", NOW, None)
        assert batch.n_bytes >= 0
        assert work.n_bytes == 11 * (work.position or {})["row"] + batch.n_bytes  # type: ignore[operator]


def test_while_nothing_follows_everything_is_handed_over() -> None:
    engine, seen = engine_of(watched()), threading.Event()
    pull = PullIntake(Scripted([chunk(1), chunk(2), None, seen]), "ndjson", ["m"], engine, Telemetry())
    pull.start()
    until(lambda: engine.queue.n_items == 2, 10)  # though the source has not ended
    seen.set()
    assert pull.wait(10)


def test_no_more_chunks_are_held_than_are_decoded_at_a_time() -> None:
    engine, seen = engine_of(watched()), threading.Event()
    source = Scripted([*(chunk(row + 1) for row in range(DECODES)), seen])
    pull = PullIntake(source, "ndjson", ["m"], engine, Telemetry())
    pull.start()
    until(lambda: engine.queue.n_items > 0, 10)
    seen.set()
    assert pull.wait(10)
    assert positions(works(engine)) == [1, 2, 3]


def test_what_was_read_when_it_was_stopped_is_handed_over_first_when_it_is_started_again() -> None:
    engine = engine_of(watched(), queue_bytes=1)  # room for one at a time
    source = Scripted([chunk(row) for row in range(1, 5)], [chunk(row) for row in range(5, 7)])
    pull = PullIntake(source, "ndjson", ["m"], engine, Telemetry())
    pull.start()
    until(lambda: engine.queue.awaited, 10)
    pull.stop()
    found = works(engine)
    assert positions(found) == [1]
    pull.start()
    while not pull.wait(0.01):
        found += works(engine)
    found += works(engine)
    read = positions(found)
    assert read == sorted(set(read))
    assert read[:3] == [1, 2, 3]
    assert read[-2:] == [5, 6]


def test_rows_of_a_file_that_is_a_table_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pl.DataFrame({"x": [0.5, 1.5, 2.5]}).write_parquet(path)
    pull, found = pulled(Scripted([chunk(2, RowRange(path, 1, 3))]), body_format="parquet")
    ((_, batch),) = found[0].parts
    assert batch.n_rows == 2
    assert found[0].n_bytes == batch.n_bytes
    assert pull.failures() == []


@pytest.mark.parametrize(("missing", "counts"), [(None, [0, 0, 0, 1, 1]), (("n/a",), [0, 0, 0, 2, 0])])
def test_a_source_may_have_missing_values_of_its_own(missing: tuple[str, ...] | None, counts: list[int]) -> None:
    made = watched(event_time=True)
    schema = made.schema
    rows = f'{{"x": null, "ts": {NOW}}}\n{{"x": "n/a", "ts": {NOW}}}\n'.encode()
    _, found = pulled(Scripted([chunk(1, rows), chunk(2, rows)]), made, missing_values=missing)
    for work in found:
        ((_, batch),) = work.parts
        assert int(np.isnan(batch.columns[0]).sum()) == 2
        assert sum(rows.size for _, rows in batch.invalid) == counts[-1]
    assert made.schema is schema


def test_a_schema_is_made_once_for_a_monitor() -> None:
    first, second = watched(), watched()
    pull = PullIntake(Scripted(), "ndjson", ["m"], engine_of(first), Telemetry(), missing_values=("n/a",))
    made = pull._schema(first)
    assert made.missing_values == frozenset({"n/a"})
    assert pull._schema(first) is made
    assert pull._schema(second) is not made  # after a reload
    plain = PullIntake(Scripted(), "ndjson", ["m"], engine_of(first), Telemetry())
    assert plain._schema(first) is first.schema


def decoded(n_rows: int, **rest: Any) -> Decoded:
    event_ms = rest.pop("event_ms", None)
    return Decoded(SampleBatch(n_rows, (np.zeros(n_rows),), event_ms), (BodyResult(n_rows, **rest),))


def test_rows_without_a_time_have_that_of_their_record() -> None:
    times = np.array([10, 20, 30], dtype=np.int64)
    own = decoded(2, event_ms=times[:2] + 5)
    assert _timed(own, times) is own
    for given, expected in ((decoded(2), [10, 20]), (decoded(2, rows=np.array([0, 2])), [10, 30])):
        event_ms = _timed(given, times).batch.event_ms
        assert event_ms is not None
        assert event_ms.tolist() == expected
    _, found = pulled(Scripted([chunk(1, b'{"x": 0.5}\n', times_ms=times[:1])]))
    ((_, batch),) = found[0].parts
    assert batch.event_ms is not None
    assert batch.event_ms.tolist() == [10]


# --- what is told -------------------------------------------------------------------------------------

NAMES = ("source_up", "source_ended", "source_failed", "batch_failed", "unknown_fields")


def test_an_end_is_told_and_a_stop_is_not() -> None:
    telemetry = Told(*NAMES)
    pulled(Scripted([chunk(1), None]), telemetry=telemetry)
    assert telemetry.of("source_ended") == [("scripted",)]
    assert telemetry.calls.count(("source_up", ("scripted", {"up": True}))) == 2
    stopped, going = Told(*NAMES), threading.Event()
    engine = engine_of(watched())
    pull = PullIntake(Scripted([chunk(1), None, going]), "ndjson", ["m"], engine, stopped)
    pull.start()
    until(lambda: engine.queue.n_items == 1, 10)
    pull._stop.set()
    going.set()
    assert pull.wait(10)
    assert stopped.of("source_ended") == []


@pytest.mark.parametrize(
    ("error", "reason"), [(SourceError("gone; plug it in", "open"), "open"), (DecodeError("not a table"), "read")]
)
def test_a_failure_is_told_with_its_reason(error: Exception, reason: str) -> None:
    telemetry = Told(*NAMES)
    pull, _ = pulled(Scripted([chunk(1), error]), telemetry=telemetry, once=True)
    assert telemetry.of("source_failed") == [("scripted", reason, str(error))]
    assert telemetry.of("source_up")[-1] == ("scripted", {"up": False})
    assert telemetry.of("source_ended") == telemetry.of("batch_failed") == []
    assert [str(failure) for failure in pull.failures()] == [f"source scripted: {error}"]


def test_a_defect_is_told_and_a_source_goes_on_after_a_long_wait() -> None:
    telemetry, defect = Told(*NAMES), RuntimeError("a defect")
    pull, _ = pulled(Scripted([defect], [chunk(1)]), telemetry=telemetry, once=True)
    assert telemetry.of("batch_failed") == [("scripted", defect)]
    assert telemetry.of("source_up") == [("scripted", {"up": False})]
    assert "RuntimeError: a defect" in str(pull.failure)
    engine = engine_of(watched())
    pull = PullIntake(Scripted([defect], [chunk(1)]), "ndjson", ["m"], engine, telemetry)
    pull._stop = stop = Stop(2)
    pull.start()
    assert pull.wait(10)
    assert stop.waits == [30.0]
    assert positions(works(engine)) == [1]


def test_waits_grow_while_nothing_is_read() -> None:
    failure = SourceError("gone; plug it in", "read")
    source = Scripted(*[[failure]] * 5, [chunk(1), failure], [failure])
    pull = PullIntake(source, "ndjson", ["m"], engine_of(watched()), Told(*NAMES))
    pull._stop = stop = Stop(7)
    pull.start()
    assert pull.wait(10)
    assert stop.waits == [2.0, 5.0, 10.0, 30.0, 30.0, 1.0, 2.0]


def test_fields_that_no_feature_uses_are_told_of_one_row_in_a_minute() -> None:
    telemetry = Told(*NAMES)
    pulled(Scripted([chunk(1, b'{"x": 0.5, "y": 1}\n'), chunk(2, b'{"x": 0.5, "z": 1}\n')]), telemetry=telemetry)
    assert telemetry.of("unknown_fields") == [("m", ["y"])]


def test_a_source_of_which_nothing_could_be_read_says_why_by_stream() -> None:
    def why(*chunks: Chunk) -> list[str]:
        return [str(failure) for failure in pulled(Scripted(chunks))[0].failures()]

    good, bad = b'{"x": 0.5}\n', b"broken\n1\n"
    assert why() == ["source scripted: expected rows, found none"]
    assert why(chunk(1, good), chunk(2, bad)) == []
    assert why(chunk(1, bad), chunk(2, good)) == []
    (only,) = why(chunk(1, bad, "a"), chunk(2, b"7\n", "a"), chunk(3, good, "b"))
    assert only.startswith("source scripted: expected rows for monitor m, none could be read: a: ")
    assert "object" not in only  # the first reason, not that of the number
    assert len(why(chunk(1, bad, "a"), chunk(2, bad, "b"))) == 2
    unreadable, _ = pulled(Scripted([chunk(1, b"junk")]), body_format="arrow")
    assert "none could be read: log: " in str(unreadable.failures()[0])
    assert why(chunk(1, b"")) == ["source scripted: expected rows, found none"]  # only the position moves
    header_only, _ = pulled(Scripted([chunk(1, b"x\n")]), body_format="csv")
    assert [str(failure) for failure in header_only.failures()] == ["source scripted: expected rows, found none"]


def test_an_intake_that_was_not_started_has_not_ended() -> None:
    pull = PullIntake(Scripted(), "ndjson", ["m"], engine_of(watched()), Telemetry())
    assert not pull.wait(0)
    pull.stop()
    going = threading.Event()
    pull = PullIntake(Scripted([going]), "ndjson", ["m"], engine_of(watched()), Telemetry())
    pull.start()
    assert not pull.wait(0.01)
    assert pull._thread is not None
    assert pull._thread.daemon
    going.set()
    assert pull.wait(10)


def test_rows_for_another_monitor_of_a_source_are_not_rejected() -> None:
    """A log of two kinds of rows feeds two monitors; what neither knows is rejected, once."""
    rows = b'{"x": 0.5}\n{"y": 1}\n{"y": 2}\n{"other": 3}\n'
    found = decode("ndjson", [rows], BatchSchema((FeatureSchema("x", "numeric"),)))
    other = decode("ndjson", [rows], BatchSchema((FeatureSchema("y", "numeric"),)))
    telemetry = Told("batch_decoded")
    report(telemetry, "log", found.bodies, [other.bodies])
    report(telemetry, "log", found.bodies)
    assert telemetry.of("batch_decoded") == [("log", 3, {"no_known_field": 1}), ("log", 1, {"no_known_field": 3})]
