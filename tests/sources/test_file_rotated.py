"""Followed files that are renamed or deleted. Each wait of the source is one step of the timeline (250 ms)."""

import threading
import time
from pathlib import Path

import pytest

from kldrift.records.sources import FileSourceConfig
from kldrift.sources.base import Surroundings
from kldrift.sources.file import FileSource
from tests.sources.following import ROTATED_WAIT, Errors, append, follow, rename, together, write
from tests.sources.timeline import Timeline, last_positions, quiet, records


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


def test_a_file_renamed_out_of_the_pattern_is_read_on_for_as_long_as_it_is_waited_for(tmp_path: Path) -> None:
    """Its writer keeps it open, and adds a line after 20 s; by default it is waited for five minutes."""
    log, aside = tmp_path / "log", tmp_path / "aside"
    log.write_bytes(b"1\n")
    steps = [rename(log, aside), *quiet(80), append(aside, b"2\n"), *quiet(2)]
    assert records(follow(log, Timeline(*steps), errors=[])) == [b"1\n"]
    log.write_bytes(b"1\n")
    by_default = FileSourceConfig(name="files", path=str(log), format="ndjson").rotate_wait_ms
    assert records(follow(log, Timeline(*steps), errors=[], rotate_wait_ms=by_default)) == [b"1\n", b"2\n"]


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
