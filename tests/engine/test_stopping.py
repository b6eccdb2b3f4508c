"""What becomes of posts that wait to be decoded when the daemon stops."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

import kldrift.engine.push
from kldrift.engine.push import LARGE_BYTES, PushIntake
from kldrift.errors import Busy
from kldrift.export.telemetry import Telemetry
from tests.engine.test_intake import NOW, engine_of, run, watched

ROWS = 40_000
BODY = b'{"x": 0.5}\n' * ROWS
assert len(BODY) > LARGE_BYTES


class Decoder:
    """Decodes when it may; `begun` once it was asked to."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self._decode = kldrift.engine.push.decode

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.begun.set()
        self.go.wait(20)
        return self._decode(*arguments, **options)


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Decoder]:
    decoder = Decoder()
    monkeypatch.setattr(kldrift.engine.push, "decode", decoder)
    yield decoder
    decoder.go.set()


def counted(act: Callable[[PushIntake], Awaitable[None]]) -> int:
    """Rows counted once the intake and the engine have stopped."""
    engine = engine_of(watched(), queue_bytes=1 << 28)
    engine.start()

    async def main() -> None:
        intake = PushIntake(engine, Telemetry(), asyncio.get_running_loop(), lambda: NOW)
        intake.start()
        await act(intake)

    run(main())
    engine.stop()
    return engine.rows_counted


def test_what_waits_is_decoded_but_for_those_who_were_told_that_it_is_not(decoder: Decoder) -> None:
    async def act(intake: PushIntake) -> None:
        first = intake.submit("m", "ndjson", BODY)
        await asyncio.to_thread(decoder.begun.wait, 10)
        told, received = intake.submit("m", "ndjson", BODY), intake.submit("m", "ndjson", BODY)
        await asyncio.sleep(0)
        told.cancel()  # as the server does after its grace time
        stopping = asyncio.ensure_future(asyncio.to_thread(intake.stop, time.monotonic() + 20))
        while not intake._stopped:
            await asyncio.sleep(0.001)
        with pytest.raises(Busy, match="stopping"):
            intake.submit("m", "ndjson", BODY)
        await asyncio.sleep(0.05)
        decoder.go.set()
        assert await stopping == 0
        assert (await first).accepted == (await received).accepted == ROWS

    assert counted(act) == 2 * ROWS


def test_what_cannot_be_decoded_in_time_is_dropped(decoder: Decoder) -> None:
    async def act(intake: PushIntake) -> None:
        intake.submit("m", "ndjson", BODY)
        await asyncio.to_thread(decoder.begun.wait, 10)
        intake.submit("m", "ndjson", BODY)
        await asyncio.sleep(0)
        began = time.monotonic()
        assert await asyncio.to_thread(intake.stop, time.monotonic() + 0.2) == 2
        assert 0.2 <= time.monotonic() - began < 10

    assert counted(act) == 0
