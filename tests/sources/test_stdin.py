"""Records from a pipe."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kldrift.errors import SourceError
from kldrift.records.samples import Chunk
from kldrift.records.sources import StdinSourceConfig
from kldrift.sources.base import Surroundings
from kldrift.sources.stdin import StdinSource
from tests.sources.timeline import records, text


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            continue


def source(fd: int, errors: list[tuple[str, str]] | None = None, header: bool = False, **options: float) -> StdinSource:
    def on_error(reason: str, detail: str) -> None:
        assert errors is not None, detail
        errors.append((reason, detail))

    return StdinSource(
        StdinSourceConfig(name="stdin", format="csv" if header else "ndjson"),
        Surroundings(clock_ms=lambda: 7, on_error=on_error),
        fd=fd,
        **options,  # type: ignore[arg-type]
    )


def piped(data: bytes, **options: object) -> list[Chunk]:
    """Return the chunks of data that another thread writes, up to its end."""
    read_end, write_end = os.pipe()

    def write() -> None:
        with os.fdopen(write_end, "wb") as file:
            file.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = source(read_end, **options)  # type: ignore[arg-type]
        return [chunk for chunk in made.chunks({}, threading.Event()) if chunk]
    finally:
        writer.join()
        os.close(read_end)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 3000), max_size=60), st.integers(1, 5000), st.booleans())
def test_chunks_hold_whole_lines_and_add_up_to_the_input(lengths: list[int], chunk_bytes: int, ended: bool) -> None:
    data = b"".join(b"x" * n + b"\n" for n in lengths)
    data = data if ended else data[:-1]
    chunks = piped(data, chunk_bytes=chunk_bytes)
    assert b"".join(map(text, chunks)) == data
    assert all(text(chunk).endswith(b"\n") for chunk in chunks[:-1])
    assert all(
        chunk.position == {"offset": sum(len(text(c)) for c in chunks[: k + 1])} for k, chunk in enumerate(chunks)
    )


def test_the_header_of_csv_is_separate() -> None:
    chunks = piped(b'"a\n1",b\n1,"x\ny"\n2,z', header=True)
    assert {chunk.header for chunk in chunks} == {b'"a\n1",b\n'}
    assert b"".join(map(text, chunks)) == b'1,"x\ny"\n2,z'


def test_lines_are_yielded_once_complete(pipe: tuple[int, int]) -> None:
    iterator = source(pipe[0], poll_seconds=0.01).chunks({}, threading.Event())
    assert next(iterator) is None
    os.write(pipe[1], b"1\n2")
    assert [next(iterator)] == [Chunk("stdin", {"offset": 2}, b"1\n", 7)]
    assert next(iterator) is None
    os.write(pipe[1], b"2\n")
    assert [next(iterator)] == [Chunk("stdin", {"offset": 5}, b"22\n", 7)]
    os.write(pipe[1], b"3")
    os.close(pipe[1])
    assert [next(iterator)] == [Chunk("stdin", {"offset": 6}, b"3", 7)]
    assert list(iterator) == []


def test_a_second_call_continues_where_the_first_ended(pipe: tuple[int, int]) -> None:
    made = source(pipe[0], poll_seconds=0.01)
    first = made.chunks({}, threading.Event())
    os.write(pipe[1], b"1\n2")
    assert records(chunk for chunk in [next(first)] if chunk) == [b"1\n"]
    assert next(first) is None
    first.close()  # type: ignore[attr-defined]
    os.write(pipe[1], b"2\n")
    os.close(pipe[1])
    assert records(chunk for chunk in made.chunks({}, threading.Event()) if chunk) == [b"22\n"]


@pytest.mark.parametrize("header", [False, True])
def test_a_record_beyond_the_limit_is_skipped(header: bool) -> None:
    errors: list[tuple[str, str]] = []
    data = (b"h\n" if header else b"") + b"1\n" + b"x" * 300_000 + b"\n2\n"
    chunks = piped(data, errors=errors, header=header, chunk_bytes=1000, max_record_bytes=100_000)
    assert records(chunks) == [b"1\n", b"2\n"]
    ((reason, detail),) = errors
    assert reason == "record_too_long"
    assert "expected a record of at most 100000 bytes" in detail


def test_a_file_is_read_as_well(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1\n2\n")
    with (tmp_path / "a").open("rb") as file:
        assert records(c for c in source(file.fileno()).chunks({}, threading.Event()) if c) == [b"1\n", b"2\n"]


def test_a_closed_input_is_an_error(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    with pytest.raises(SourceError, match="standard input cannot be read"):
        list(source(pipe[0]).chunks({}, threading.Event()))


def test_stop_ends_the_wait_for_a_silent_writer(pipe: tuple[int, int]) -> None:
    stop = threading.Event()
    iterator = source(pipe[0]).chunks({}, stop)
    threading.Timer(0.05, stop.set).start()
    began = time.monotonic()
    assert set(iterator) == {None}
    assert time.monotonic() - began < 0.6


def test_a_process_started_without_standard_input_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # descriptor 0 is some other file by then
    with pytest.raises(SourceError, match="standard input is closed"):
        next(source(0).chunks({}, threading.Event()))
