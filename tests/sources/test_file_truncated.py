"""Followed files that are truncated, with and without a hole. Each wait of the source is one step of the timeline."""

import gzip
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from kldrift.records.sources import FileSourceConfig
from kldrift.sources.base import Surroundings
from kldrift.sources.file import FileSource
from tests.sources.following import Errors, append, follow, replace_in_place
from tests.sources.timeline import Timeline, last_positions, quiet, records


@pytest.mark.parametrize(
    "after",
    [b"n\n", b"new 1\nnew 2\nnew 3\n", b"old 1\nnew 2\nnew 3 is longer\n"],
    ids=["smaller", "larger", "larger, same first line"],
)
def test_copy_truncate_starts_over(tmp_path: Path, after: bytes) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"old 1\nold 2\n")
    steps = [replace_in_place(log, after), *quiet(1), append(log, b"more\n"), *quiet(1)]
    chunks = follow(log, Timeline(*steps), errors=[], lost=[])
    assert records(chunks) == [b"old 1\n", b"old 2\n", *after.splitlines(keepends=True), b"more\n"]
    assert len({chunk.stream for chunk in chunks}) == 1


def test_copy_truncate_of_csv_reads_the_new_header(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_bytes(b"a,b\n1,2\n")
    chunks = follow(log, Timeline(replace_in_place(log, b"b,c\n3,4\n5,6\n"), *quiet(1)), lost=[], header=True)
    assert [(c.header, c.payload) for c in chunks] == [(b"a,b\n", b"1,2\n"), (b"b,c\n", b"3,4\n5,6\n")]


def test_truncation_under_a_long_identical_header_is_detected(tmp_path: Path) -> None:
    """The first KiB is the same, but the bytes before the offset differ."""
    log = tmp_path / "log.csv"
    header = b"c" * 2000 + b"\n"
    log.write_bytes(header + b"old\n" * 10)
    chunks = follow(log, Timeline(replace_in_place(log, header + b"new\n" * 11), *quiet(1)), lost=[], header=True)
    assert records(chunks) == [b"old\n"] * 10 + [b"new\n"] * 11


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("header", [False, True])
def test_a_hole_of_nul_bytes_in_front_is_skipped_and_told(tmp_path: Path, header: bool, sparse: bool) -> None:
    """A writer goes on where it was after its file was truncated."""
    log = tmp_path / "log"
    names = b"a,b\n" if header else b""
    old, new = [b"%d,1\n" % i for i in range(2_000)], [b"%d,2\n" % i for i in range(50)]

    def truncate() -> None:
        size = log.stat().st_size
        with log.open("r+b") as file:
            file.truncate(0)
            if sparse:
                file.seek(size)
            else:
                file.write(bytes(size))
            file.write(names + b"".join(new[:20]))

    log.write_bytes(names + b"".join(old))
    errors: Errors = []
    steps = [*quiet(2), truncate, *quiet(2), append(log, b"".join(new[20:])), *quiet(2)]
    assert records(follow(log, Timeline(*steps), errors=errors, lost=[], header=header)) == [*old, *new]
    assert [reason for reason, _ in errors] == ["hole"]
    assert f"{len(names + b''.join(old))} NUL bytes at its beginning were skipped" in errors[0][1]


def test_a_hole_is_skipped_again_for_the_header_after_a_restart(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(bytes(5_000) + b"a,b\n1,2\n")
    first = follow(log, Timeline(*quiet(2)), errors=[], header=True)
    with log.open("ab") as file:
        file.write(b"3,4\n")
    second = follow(log, Timeline(*quiet(2)), last_positions(first), header=True)
    assert [*records(first), *records(second)] == [b"1,2\n", b"3,4\n"]
    assert second[0].header == b"a,b\n"


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("header", [False, True])
def test_a_hole_that_comes_after_the_file_was_seen_empty_is_skipped(tmp_path: Path, header: bool, sparse: bool) -> None:
    """The source looks between the truncation and the next line, and again while the hole has no line behind it."""
    log = tmp_path / "log"
    names = b"a,b\n" if header else b""
    old, new = [b"%d,1\n" % i for i in range(2_000)], [b"%d,2\n" % i for i in range(50)]
    size = len(names + b"".join(old))

    def hole(n: int) -> Callable[[], object]:
        return lambda: os.truncate(log, n) if sparse else log.write_bytes(bytes(n))

    log.write_bytes(names + b"".join(old))
    errors: Errors = []
    steps = [
        *quiet(2),
        hole(0),
        *quiet(1),
        hole(size // 2),
        *quiet(1),
        hole(size),
        *quiet(1),
        append(log, names + b"".join(new[:20])),
        *quiet(1),
        append(log, b"".join(new[20:])),
        *quiet(2),
    ]
    chunks = follow(log, Timeline(*steps), errors=errors, lost=[], header=header)
    assert records(chunks) == [*old, *new]
    assert {chunk.header for chunk in chunks} == {names}
    assert f"{size} NUL bytes" in errors[-1][1]
    assert {reason for reason, _ in errors} == {"hole"}


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gz", "zst"])
@pytest.mark.parametrize("names", [b"", b"a,b\n"], ids=["ndjson", "csv"])
def test_a_hole_in_front_of_an_archive_is_skipped(
    tmp_path: Path, names: bytes, compress: Callable[[bytes], bytes]
) -> None:
    rows = [b"%d,1\n" % i for i in range(20_000)]
    (tmp_path / "log.1").write_bytes(compress(bytes(3_000_000) + names + b"".join(rows)))
    errors: Errors = []
    chunks = follow(tmp_path / "log.1", Timeline(*quiet(2)), errors=errors, header=bool(names), chunk_bytes=50_000)
    assert records(chunks) == rows
    assert [reason for reason, _ in errors] == ["hole"]
    again = follow(tmp_path / "log.1", Timeline(*quiet(2)), last_positions(chunks[:2]), header=bool(names))
    assert records(chunks[:2]) + records(again) == rows


def test_stop_takes_effect_within_a_hole(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(bytes(32 << 20) + b"1\n")
    config = FileSourceConfig(name="f", path=str(tmp_path / "log"), format="ndjson", follow=True)
    stop = threading.Event()
    chunks = FileSource(config, Surroundings(clock_ms=lambda: 0, on_error=lambda *_: None)).chunks({}, stop)
    assert next(chunks) is None  # in the hole, of which one step is a MiB
    stop.set()
    assert list(chunks) == []
