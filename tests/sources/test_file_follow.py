"""Files that are followed. Each wait of the source is one step of the timeline (250 ms)."""

import gzip
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kldrift.errors import DecodeError
from kldrift.records.formats import Format
from kldrift.records.samples import Chunk, RowRange
from kldrift.records.sources import FileSourceConfig
from kldrift.sources.base import Surroundings
from kldrift.sources.file import FileSource
from tests.sources.timeline import Position, Timeline, chunks_of, last_positions, quiet, records, text

Errors = list[tuple[str, str]]
#: Slightly more polls of 250 ms than the 5 s after which a rotated file is finished here.
ROTATE_WAIT_MS = 5_000
ROTATED_WAIT = quiet(22)


def follow(
    pattern: Path | str,
    timeline: Timeline,
    positions: Mapping[str, Position] | None = None,
    errors: Errors | None = None,
    header: bool = False,
    **options: object,
) -> list[Chunk]:
    def on_error(reason: str, detail: str) -> None:
        assert errors is not None, detail
        errors.append((reason, detail))

    file_format: Format = "parquet" if "count_rows" in options else "csv" if header else "ndjson"
    made = FileSource(
        FileSourceConfig(
            name="files", path=str(pattern), format=file_format, follow=True, rotate_wait_ms=ROTATE_WAIT_MS
        ),
        Surroundings(clock_ms=timeline.clock_ms, on_error=on_error),
        wait=timeline.wait,
        **options,  # type: ignore[arg-type]
    )
    return chunks_of(made, positions or {}, timeline.stop)


def append(path: Path, data: bytes) -> Callable[[], object]:
    def step() -> None:
        with path.open("ab") as file:
            file.write(data)

    return step


def write(path: Path, data: bytes) -> Callable[[], object]:
    return lambda: path.write_bytes(data)


def rename(path: Path, to: Path) -> Callable[[], object]:
    return lambda: path.rename(to)


def together(*steps: Callable[[], object]) -> Callable[[], object]:
    def step() -> None:
        for each in steps:
            each()

    return step


def replace_in_place(path: Path, data: bytes) -> Callable[[], object]:
    """Truncate and write again: the same inode."""

    def step() -> None:
        with path.open("r+b") as file:
            file.truncate(0)
            file.write(data)

    return step


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


# --- rotation by renaming -------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["log", "log*"])
def test_rename_rotation_loses_nothing_and_reads_nothing_twice(tmp_path: Path, pattern: str) -> None:
    """
    t       0       1          2                3             4
    inode A log: 1  log: 1 2   log.1: 1 2 3     log.1: …4     done
    inode B                                     log: 5        log: 5 6
    """
    log, old = tmp_path / "log", tmp_path / "log.1"
    log.write_bytes(b"1\n")
    steps = [
        append(log, b"2\n"),
        together(append(log, b"3\n"), rename(log, old)),
        together(append(old, b"4\n"), write(log, b"5\n")),
        append(log, b"6\n"),
        *ROTATED_WAIT,
    ]
    chunks = follow(tmp_path / pattern, Timeline(*steps))
    assert records(chunks) == [b"1\n", b"2\n", b"3\n", b"4\n", b"5\n", b"6\n"]
    assert len({chunk.stream for chunk in chunks}) == 2


@pytest.mark.parametrize("pattern", ["log", "log*"])
def test_an_incomplete_last_line_of_a_rotated_file_is_taken_once_it_is_quiet(tmp_path: Path, pattern: str) -> None:
    log, old = tmp_path / "log", tmp_path / "log.1"
    log.write_bytes(b"1\n2")
    steps = [
        together(rename(log, old), write(log, b"a\n")),
        *quiet(10),
        append(old, b"2\n3"),  # the writer still had it open
        *ROTATED_WAIT,
        append(log, b"b\n"),
        *quiet(2),
    ]
    chunks = follow(tmp_path / pattern, Timeline(*steps))
    assert records(chunks) == [b"1\n", b"a\n", b"22\n", b"3", b"b\n"]


def test_a_file_deleted_right_after_the_last_write_is_read_to_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"1\n")
    steps = [together(append(log, b"2\n3"), log.unlink), *ROTATED_WAIT, write(log, b"4\n"), *quiet(1)]
    errors: Errors = []
    assert records(follow(log, Timeline(*steps), errors=errors)) == [b"1\n", b"2\n", b"3", b"4\n"]
    assert {reason for reason, _ in errors} == {"not_found"}


def test_handles_of_finished_files_are_closed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"1\n")
    n_open: list[int] = []

    def count() -> None:
        held = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        n_open.append(sum(str(path).startswith(str(tmp_path)) for path in held))

    follow(log, Timeline(count, log.unlink, *ROTATED_WAIT, count), errors=[])
    count()
    assert n_open == [1, 0, 0]


def test_a_file_renamed_out_of_the_pattern_is_read_on_for_as_long_as_it_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer keeps it open, and adds a line after 20 s; by default it is waited for five minutes."""
    log, aside = tmp_path / "log", tmp_path / "aside"
    log.write_bytes(b"1\n")
    steps = [rename(log, aside), *quiet(80), append(aside, b"2\n"), *quiet(2)]
    assert records(follow(log, Timeline(*steps), errors=[])) == [b"1\n"]
    log.write_bytes(b"1\n")
    monkeypatch.setattr(
        sys.modules[__name__], "ROTATE_WAIT_MS", FileSourceConfig.__dataclass_fields__["rotate_wait_ms"].default
    )
    assert records(follow(log, Timeline(*steps), errors=[])) == [b"1\n", b"2\n"]


def test_a_file_renamed_out_of_sight_and_back_continues(tmp_path: Path) -> None:
    log, aside = tmp_path / "log", tmp_path / "aside"
    log.write_bytes(b"1\n")
    steps = [rename(log, aside), *ROTATED_WAIT, append(aside, b"2\n"), rename(aside, log), *quiet(2)]
    assert records(follow(log, Timeline(*steps), errors=[])) == [b"1\n", b"2\n"]


def test_a_file_renamed_between_two_runs_continues_where_it_was(tmp_path: Path) -> None:
    log, old = tmp_path / "log", tmp_path / "log.1"
    log.write_bytes(b"1\n2")
    before = follow(tmp_path / "log*", Timeline())
    append(log, b"2\n3")()
    log.rename(old)
    log.write_bytes(b"4\n")
    after = follow(tmp_path / "log*", Timeline(*ROTATED_WAIT), last_positions(before))
    assert records(before) == [b"1\n"]
    assert sorted(records(after)) == [b"22\n", b"3", b"4\n"]


# --- truncation, and different files in the same place --------------------------------------------------


@pytest.mark.parametrize(
    "after",
    [b"n\n", b"new 1\nnew 2\nnew 3\n", b"old 1\nnew 2\nnew 3 is longer\n"],
    ids=["smaller", "larger", "larger, same first line"],
)
def test_copy_truncate_starts_over(tmp_path: Path, after: bytes) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"old 1\nold 2\n")
    steps = [replace_in_place(log, after), *quiet(1), append(log, b"more\n"), *quiet(1)]
    chunks = follow(log, Timeline(*steps), errors=[])
    assert records(chunks) == [b"old 1\n", b"old 2\n", *after.splitlines(keepends=True), b"more\n"]
    assert len({chunk.stream for chunk in chunks}) == 1


def test_copy_truncate_of_csv_reads_the_new_header(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_bytes(b"a,b\n1,2\n")
    chunks = follow(log, Timeline(replace_in_place(log, b"b,c\n3,4\n5,6\n"), *quiet(1)), header=True)
    assert [(c.header, c.payload) for c in chunks] == [(b"a,b\n", b"1,2\n"), (b"b,c\n", b"3,4\n5,6\n")]


def test_truncation_under_a_long_identical_header_is_detected(tmp_path: Path) -> None:
    """The first KiB is the same, but the bytes before the offset differ."""
    log = tmp_path / "log.csv"
    header = b"c" * 2000 + b"\n"
    log.write_bytes(header + b"old\n" * 10)
    chunks = follow(log, Timeline(replace_in_place(log, header + b"new\n" * 11), *quiet(1)), header=True)
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
    assert records(follow(log, Timeline(*steps), errors=errors, header=header)) == [*old, *new]
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


# --- replaced ------------------------------------------------------------------------------------------


def replace_by(path: Path, data: bytes) -> Callable[[], object]:
    """As rsync, editors and ``mv`` do."""

    def step() -> None:
        new = path.with_name(".new")
        new.write_bytes(data)
        new.rename(path)

    return step


def test_a_file_written_anew_with_the_same_rows_in_front_is_read_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    rows = [b"row %d\n" % i for i in range(1_000)]
    log.write_bytes(b"".join(rows[:500]))
    steps = [
        *quiet(2),
        replace_by(log, b"".join(rows[:700])),
        *quiet(2),
        append(log, b"".join(rows[700:800])),
        *quiet(2),
        replace_by(log, b"".join(rows)),
        *quiet(2),
    ]
    assert records(follow(log, Timeline(*steps))) == rows


def test_other_rows_under_the_name_are_read_from_their_beginning(tmp_path: Path) -> None:
    log = tmp_path / "log"
    old, new = [b"old %d\n" % i for i in range(300)], [b"new %d\n" % i for i in range(900)]
    log.write_bytes(b"".join(old))
    steps = [*quiet(2), replace_by(log, b"".join(new)), *quiet(2), replace_by(log, b"".join(old[:100])), *quiet(2)]
    assert records(follow(log, Timeline(*steps))) == [*old, *new, *old[:100]]


def test_rows_that_were_not_read_before_it_was_written_anew_are_read_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    rows = [b"row %d\n" % i for i in range(700)]
    log.write_bytes(b"".join(rows[:500]))
    again = together(append(log, b"".join(rows[500:550])), replace_by(log, b"".join(rows)))
    assert records(follow(log, Timeline(*quiet(2), again, *quiet(2)))) == rows


def test_what_differs_in_the_middle_is_another_file(tmp_path: Path) -> None:
    log = tmp_path / "log"
    old = [b"row %04d\n" % i for i in range(1_000)]
    new = [*old[:300], *(b"new %04d\n" % i for i in range(300, 700)), *old[700:], b"more\n"]
    log.write_bytes(b"".join(old))
    assert records(follow(log, Timeline(*quiet(2), replace_by(log, b"".join(new)), *quiet(2)))) == [*old, *new]


def test_equal_rows_in_a_file_that_was_moved_to_another_folder_are_others(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    log = tmp_path / "log"
    log.write_bytes(b"alive\n" * 500)
    steps = [*quiet(2), together(rename(log, tmp_path / "old" / "log"), write(log, b"alive\n" * 700)), *quiet(2)]
    assert len(records(follow(log, Timeline(*steps)))) == 1_200


def test_a_rotated_file_that_begins_alike_is_another_one(tmp_path: Path) -> None:
    """A writer of equal rows, which rotates by renaming: its old file is still there."""
    log = tmp_path / "log"
    log.write_bytes(b"alive\n" * 500)
    steps = [*quiet(2), together(rename(log, tmp_path / "log.1"), write(log, b"alive\n" * 700)), *quiet(2)]
    assert len(records(follow(tmp_path / "log*", Timeline(*steps)))) == 1_200


@pytest.mark.parametrize("after", [b"n\n", b"new 1\nnew 2\nnew 3\n", b"old 1\nnew 2\n"])
def test_another_file_with_the_same_inode_is_read_from_its_beginning(tmp_path: Path, after: bytes) -> None:
    """Inode reuse as it appears after a restart: the stream of the position, but different bytes."""
    log = tmp_path / "log"
    log.write_bytes(b"old 1\nold 2\n")
    positions = last_positions(follow(log, Timeline()))
    replace_in_place(log, after)()
    assert records(follow(log, Timeline(), positions)) == after.splitlines(keepends=True)


@pytest.mark.parametrize("kind", ["plain", "gz"])
def test_an_unchanged_file_is_not_read_again_after_a_restart(tmp_path: Path, kind: str) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"1\n2\n" if kind == "plain" else gzip.compress(b"1\n2\n"))
    positions = last_positions(follow(log, Timeline()))
    os.utime(log, (1, 1))
    assert follow(log, Timeline(*quiet(3)), positions) == []


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


@pytest.mark.parametrize("how", ["rename", "shift"])
def test_nothing_is_lost_or_read_twice_while_a_writer_rotates_for_real(tmp_path: Path, how: str) -> None:
    """A writer that flushes at odd places and rotates as fast as it can; `shift` renames every old file each time."""
    n_lines, n_files = 20_000, 20
    lines = [b"%d %s\n" % (k, b"x" * (k % 97)) for k in range(n_lines)]
    log = tmp_path / "log"

    def rotate(n: int) -> None:
        if how == "rename":
            log.rename(tmp_path / f"log.{n}")
            return
        for k in range(n, 0, -1):
            (tmp_path / f"log.{k}").rename(tmp_path / f"log.{k + 1}")
        log.rename(tmp_path / "log.1")

    def work() -> None:
        for n in range(n_files):
            content = b"".join(lines[n * n_lines // n_files : (n + 1) * n_lines // n_files])
            with log.open("wb", buffering=0) as file:
                for k in range(0, len(content), 1009):
                    file.write(content[k : k + 1009])
            rotate(n)

    stop = threading.Event()
    made = FileSource(
        FileSourceConfig(name="f", path=str(tmp_path / "log*"), format="ndjson", follow=True),
        Surroundings(
            clock_ms=lambda: int(1000 * time.monotonic()),
            on_error=lambda *_: None,  # a name may vanish between the listing and the stat
        ),
        chunk_bytes=5000,
        poll_seconds=0.001,
    )
    writer = threading.Thread(target=work)
    writer.start()
    got: list[bytes] = []
    deadline = time.monotonic() + 30
    for chunk in made.chunks({}, stop):
        got += records([chunk] if chunk else [])
        if (len(got) >= n_lines and not writer.is_alive()) or time.monotonic() > deadline:
            stop.set()
    writer.join()
    assert sorted(got) == sorted(lines)
