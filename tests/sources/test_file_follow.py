"""Files that are followed. Each wait of the source is one step of the timeline (250 ms)."""

import gzip
import os
import threading
import time
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kldrift.errors import DecodeError
from kldrift.records.samples import RowRange
from kldrift.records.sources import FileSourceConfig
from kldrift.sources.base import Surroundings
from kldrift.sources.file import FileSource
from tests.sources.following import (
    ROTATED_WAIT,
    Errors,
    append,
    follow,
    rename,
    together,
    write,
)
from tests.sources.timeline import Timeline, quiet, records, text

# --- growth ---------------------------------------------------------------------------------------


def test_appended_lines_follow_one_poll_later(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"1\n")
    timeline = Timeline(append(log, b"2\n3\n"), *quiet(2), append(log, b"4\n"), *quiet(1))
    chunks = follow(log, timeline)
    assert [(chunk.payload, chunk.arrival_ms - 1_000_000) for chunk in chunks] == [
        (b"1\n", 0),
        (b"2\n3\n", 250),
        (b"4\n", 1000),
    ]
    assert max(timeline.waits) <= 0.5


@pytest.mark.parametrize("header", [False, True])
def test_a_line_written_byte_by_byte_is_yielded_once_complete(tmp_path: Path, header: bool) -> None:
    log = tmp_path / "log"
    content = b'a,b\n1,"x\ny"\n2,z\n'
    log.write_bytes(b"")
    steps = [append(log, content[k : k + 1]) for k in range(len(content))]
    chunks = follow(log, Timeline(*steps, *ROTATED_WAIT), header=header)
    if header:
        assert [(c.header, c.payload) for c in chunks] == [(b"a,b\n", b'1,"x\ny"\n'), (b"a,b\n", b"2,z\n")]
    else:
        assert [c.payload for c in chunks] == content.splitlines(keepends=True)


def test_an_incomplete_last_line_waits_however_long_it_takes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"1\n2")
    chunks = follow(log, Timeline(*ROTATED_WAIT, *quiet(100), append(log, b"2\n"), *quiet(1)))
    assert [chunk.payload for chunk in chunks] == [b"1\n", b"22\n"]


@pytest.mark.parametrize("header", [False, True])
def test_a_followed_file_of_carriage_returns_alone_is_told_once(tmp_path: Path, header: bool) -> None:
    """No line ever ends: nothing was read, and nothing said."""
    log = tmp_path / "log"
    log.write_bytes(b"x\r1\r2\r")
    errors: Errors = []
    timeline = Timeline(*quiet(3), append(log, b"3\r"), *quiet(3))
    assert follow(log, timeline, header=header, errors=errors) == []
    assert [reason for reason, _ in errors] == ["line_ends"]


def test_a_line_that_ends_with_both_is_whole_once_the_newline_is_there(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"1\r")
    errors: Errors = []
    chunks = follow(log, Timeline(*quiet(3), append(log, b"\n2\r\n"), *quiet(1)), errors=errors)
    assert records(chunks) == [b"1\r\n", b"2\r\n"]
    assert errors == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    cuts=st.lists(st.integers(0, 400), max_size=12),
    lengths=st.lists(st.integers(0, 40), max_size=12),
    chunk_bytes=st.integers(1, 100),
)
def test_the_records_do_not_depend_on_how_they_were_written(
    tmp_path: Path, cuts: list[int], lengths: list[int], chunk_bytes: int
) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"")
    lines = [b"x" * n + b"\n" for n in lengths]
    content = b"".join(lines)
    ends = sorted({min(cut, len(content)) for cut in cuts} | {0, len(content)})
    steps = [append(log, content[a:b]) for a, b in pairwise(ends)]
    assert records(follow(log, Timeline(*steps, *quiet(1)), chunk_bytes=chunk_bytes)) == lines


def test_files_and_folders_that_appear_later_are_read(tmp_path: Path) -> None:
    errors: Errors = []
    steps = [
        lambda: (tmp_path / "new").mkdir(),
        write(tmp_path / "new/a.log", b"1\n"),
        *quiet(1),
        write(tmp_path / "new/b.log", b"2\n"),
        *quiet(1),
    ]
    chunks = follow(tmp_path / "**/*.log", Timeline(*steps), errors=errors)
    assert records(chunks) == [b"1\n", b"2\n"]
    assert [reason for reason, _ in errors] == ["not_found"]
    assert errors[0][1].endswith("found none yet; files that appear will be read")


def test_a_backlog_is_read_without_waiting(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"1\n" * 1000)
    timeline = Timeline()
    assert len(records(follow(tmp_path / "log", timeline, chunk_bytes=100))) == 1000
    assert len(timeline.waits) <= 2


# --- unreadable files ---------------------------------------------------------------------------


def test_a_file_without_permission_is_reported_once_and_read_when_it_is_granted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode() + b"\n")
    real, refused = os.open, [True]

    def refuse(path: str, flags: int) -> int:
        if refused[0] and Path(path).name == "a":
            raise PermissionError(13, "Permission denied", path)
        return real(path, flags)

    monkeypatch.setattr(os, "open", refuse)
    errors: Errors = []
    chunks = follow(
        tmp_path / "*", Timeline(*quiet(5), lambda: refused.__setitem__(0, False), *quiet(1)), errors=errors
    )
    assert records(chunks) == [b"b\n", b"a\n"]
    assert errors == [("permission", f"{tmp_path}/a: cannot be read (Permission denied); will retry")]


def test_a_literal_path_without_permission_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").symlink_to("a")  # ELOOP, even for root
    errors: Errors = []
    assert follow(tmp_path / "a", Timeline(*quiet(5)), errors=errors) == []
    assert [reason for reason, _ in errors] == ["read"]


def test_an_archive_is_read_while_it_is_written(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b"%d\n" % (k * 7919 % 100_003) for k in range(20_000)))
    path = tmp_path / "a.gz"
    path.write_bytes(b"")
    steps = [append(path, whole[k : k + 5000]) for k in range(0, len(whole), 5000)]
    errors: Errors = []
    chunks = follow(path, Timeline(*steps, *ROTATED_WAIT), errors=errors)
    assert len(chunks) > 3
    assert b"".join(map(text, chunks)) == gzip.decompress(whole)
    assert errors == []


def test_a_truncated_archive_is_reported_and_continues_when_it_grows(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b"%d\n" % (k * 7919 % 100_003) for k in range(20_000)))
    path = tmp_path / "a.gz"
    path.write_bytes(whole[:30_000])
    errors: Errors = []
    chunks = follow(path, Timeline(*ROTATED_WAIT, append(path, whole[30_000:]), *ROTATED_WAIT), errors=errors)
    assert b"".join(map(text, chunks)) == gzip.decompress(whole)
    assert [reason for reason, _ in errors] == ["truncated"]


def parquet_rows(path: Path) -> int:
    try:
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())
    except pl.exceptions.ComputeError as error:
        raise DecodeError(str(error)) from error


def test_parquet_files_that_appear_are_read_once_complete(tmp_path: Path) -> None:
    pl.DataFrame({"x": range(100)}).write_parquet(tmp_path / "made")
    whole = (tmp_path / "made").read_bytes()
    path = tmp_path / "a.parquet"
    steps = [write(path, whole[:200]), *quiet(3), append(path, whole[200:]), *ROTATED_WAIT]
    errors: Errors = []
    chunks = follow(tmp_path / "*.parquet", Timeline(*steps), errors=errors, count_rows=parquet_rows)
    assert [chunk.payload for chunk in chunks] == [RowRange(path, 0, 100)]
    assert [reason for reason, _ in errors] == ["not_found"]


# --- many files ------------------------------------------------------------------------------------


def test_a_thousand_files_are_cheap_to_poll_and_few_are_held_open(tmp_path: Path) -> None:
    for k in range(1000):
        (tmp_path / f"{k:04}.log").write_bytes(b"%d\n" % k)
    n_open: list[int] = []
    seconds: list[float] = []
    last = [0.0]

    def tick() -> None:
        seconds.append(time.process_time() - last[0])
        last[0] = time.process_time()

    def count() -> None:
        n_open.append(sum(1 for _ in Path("/proc/self/fd").iterdir()))
        tick()

    more = together(*(append(tmp_path / f"{k:04}.log", b"more\n") for k in range(1000)))
    timeline = Timeline(count, *[tick] * 10, more, *quiet(1))
    chunks = follow(tmp_path / "*.log", timeline)
    assert len(records(chunks)) == 2000
    assert records(chunks)[:1000] == [b"%d\n" % k for k in range(1000)]
    assert n_open[0] < 400
    # Measured: about 5 ms of processor time each. A tenth of a core at four polls per second would be 25.
    assert sorted(seconds[1:])[5] < 0.025


def test_ten_thousand_idle_files_take_less_than_three_percent_of_a_core(tmp_path: Path) -> None:
    for k in range(10_000):
        (tmp_path / f"{k:05}.log").write_bytes(b"1\n")
    began = [0.0]
    timeline = Timeline(*quiet(60), lambda: began.__setitem__(0, time.process_time()), *quiet(200))
    chunks = follow(tmp_path / "*.log", timeline)
    # Measured: 2 %, of which each look at all files takes 60 ms. At every poll it was 15 %.
    assert time.process_time() - began[0] < 0.03 * 200 * 0.25
    assert len(records(chunks)) == 10_000


def test_of_many_files_idle_ones_are_looked_at_every_ten_seconds_and_others_at_each_poll(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes to look at all of them."""
    monkeypatch.setattr("kldrift.sources.file._LOOKING_SHARE", 1e-9)
    idle, log = tmp_path / "idle.log", tmp_path / "log.log"
    idle.write_bytes(b"1\n")
    log.write_bytes(b"2\n")
    steps = [step for k in range(30) for step in [append(log, b"a%d\n" % k), *quiet(1)]]  # 15 s
    rotate = together(append(log, b"3\n"), rename(log, tmp_path / "log.log.1"), write(log, b"4\n"))
    timeline = Timeline(*quiet(1), *steps, append(idle, b"late\n"), *quiet(39), rotate, *quiet(1))
    chunks = follow(tmp_path / "*.log", timeline)
    at = {line: (chunk.arrival_ms - 1_000_000) / 1000 for chunk in chunks for line in records([chunk])}
    assert [at[b"a%d\n" % k] for k in (0, 1, 29)] == [0.5, 1.0, 15.0]
    assert 15.5 <= at[b"late\n"] <= 25.5
    assert at[b"3\n"] == at[b"4\n"] == 25.5


def test_stop_ends_a_follow_that_waits(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"1\n")
    stop = threading.Event()
    config = FileSourceConfig(name="f", path=str(tmp_path / "log"), format="ndjson", follow=True)
    made = FileSource(config, Surroundings(clock_ms=lambda: 0, on_error=lambda *_: None))
    iterator = made.chunks({}, stop)
    assert next(iterator) is not None
    assert next(iterator) is None
    threading.Timer(0.05, stop.set).start()
    began = time.monotonic()
    assert list(iterator) == []
    assert time.monotonic() - began < 0.5
