"""Followed files that another one replaces under their name. Each wait of the source is one step of the timeline."""

import gzip
import os
from pathlib import Path

import pytest

from tests.sources.following import (
    append,
    follow,
    rename,
    replace_by,
    replace_in_place,
    together,
    write,
)
from tests.sources.timeline import Timeline, last_positions, quiet, records


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
