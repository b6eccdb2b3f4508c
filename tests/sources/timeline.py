"""Sources driven through a scripted timeline: each wait of the source is the next step."""

import threading
from collections.abc import Callable, Iterator, Mapping

from kldrift.records.samples import Chunk
from kldrift.sources.base import Source

Position = Mapping[str, int | str]


class Timeline:
    """A clock and a wait: at each wait `step_ms` pass and one step happens; after the last one it stops."""

    def __init__(self, *steps: Callable[[], object], step_ms: int = 250, start_ms: int = 1_000_000) -> None:
        self.steps: list[Callable[[], object]] = list(steps)
        self.now_ms = start_ms
        self.step_ms = step_ms
        self.stop = threading.Event()
        self.waits: list[float] = []

    def clock_ms(self) -> int:
        return self.now_ms

    def wait(self, stop: threading.Event, seconds: float) -> None:
        assert stop is self.stop
        self.waits.append(seconds)
        self.now_ms += self.step_ms
        if not self.steps:
            stop.set()
            return
        self.steps.pop(0)()


def quiet(steps: int) -> list[Callable[[], object]]:
    """Return a number of polls in which nothing happens."""
    return [lambda: None] * steps


def chunks_of(source: Source, positions: Mapping[str, Position], stop: threading.Event) -> list[Chunk]:
    return [chunk for chunk in source.chunks(positions, stop) if chunk is not None]


def records(chunks: list[Chunk] | Iterator[Chunk]) -> list[bytes]:
    """Return every line of the chunks, in order."""
    return [line for chunk in chunks for line in text(chunk).splitlines(keepends=True)]


def text(chunk: Chunk) -> bytes:
    assert isinstance(chunk.payload, bytes)
    return chunk.payload


def last_positions(chunks: list[Chunk]) -> dict[str, Position]:
    return {chunk.stream: chunk.position for chunk in chunks}
