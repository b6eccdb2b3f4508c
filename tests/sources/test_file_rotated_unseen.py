"""Followed files that are rotated while nobody follows them, or between two looks."""

import gzip
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import zstandard

from kldrift.records.samples import Chunk
from tests.sources.following import ROTATED_WAIT, Errors, append, follow, replace_in_place, together
from tests.sources.timeline import Position, Timeline, last_positions, quiet, records

ROWS = [b"%d,%d\n" % (i, i * 7919 % 10_007) for i in range(4_000)]
PATTERNS = pytest.mark.parametrize("pattern", ["log.ndjson", "*.ndjson", "log*"])
FORMATS = pytest.mark.parametrize("names", [b"", b"a,b\n"], ids=["ndjson", "csv"])


def rotated(path: Path, to: str, compress: Callable[[bytes], bytes] | None = None) -> None:
    """Rename a file; or compress it as gzip does, with its time of change."""
    if compress is None:
        path.rename(path.with_name(to))
        return
    status = path.stat()
    path.with_name(to).write_bytes(compress(path.read_bytes()))
    os.utime(path.with_name(to), ns=(status.st_atime_ns, status.st_mtime_ns))
    path.unlink()


def run(folder: Path, pattern: str, names: bytes, positions: Mapping[str, Position]) -> list[Chunk]:
    timeline = Timeline(*ROTATED_WAIT, *ROTATED_WAIT)
    return follow(folder / pattern, timeline, positions, header=bool(names), chunk_bytes=5_000)


def assert_exact_through_kills(folder: Path, pattern: str, names: bytes, first: list[Chunk]) -> None:
    """Run on after `first`; then again after a kill behind each chunk."""
    stored = last_positions(first)
    second = run(folder, pattern, names, stored)
    assert sorted(records(first) + records(second)) == sorted(ROWS)
    for k in range(len(second) + 1):
        rest = run(folder, pattern, names, {**stored, **last_positions(second[:k])})
        assert sorted(records(first) + records(second[:k]) + records(rest)) == sorted(ROWS), k


@FORMATS
@PATTERNS
@pytest.mark.parametrize(
    "to", ["log.ndjson.1", "log.ndjson-20260131", "log-2026-01-31T18-30-00.000.ndjson", "elsewhere", "log.ndjson.old"]
)
def test_the_rest_of_a_file_renamed_while_down_is_read(tmp_path: Path, pattern: str, names: bytes, to: str) -> None:
    log = tmp_path / "log.ndjson"
    log.write_bytes(names + b"".join(ROWS[:1_000]))
    first = run(tmp_path, pattern, names, {})
    append(log, b"".join(ROWS[1_000:2_500]))()
    rotated(log, to)
    log.write_bytes(names + b"".join(ROWS[2_500:]))
    assert_exact_through_kills(tmp_path, pattern, names, first)


@FORMATS
@PATTERNS
@pytest.mark.parametrize(
    ("to", "compress"),
    [
        ("log.ndjson.1.gz", gzip.compress),
        ("log.ndjson.gz", gzip.compress),
        ("log-20260131.ndjson.zst", zstandard.compress),
    ],
)
def test_the_rest_of_a_file_compressed_while_down_is_read(
    tmp_path: Path, pattern: str, names: bytes, to: str, compress: Callable[[bytes], bytes]
) -> None:
    """The new file may have the inode of the old one."""
    log = tmp_path / "log.ndjson"
    log.write_bytes(names + b"".join(ROWS[:1_000]))
    first = run(tmp_path, pattern, names, {})
    append(log, b"".join(ROWS[1_000:2_500]))()
    rotated(log, to, compress)
    log.write_bytes(names + b"".join(ROWS[2_500:]))
    assert_exact_through_kills(tmp_path, pattern, names, first)


@FORMATS
@PATTERNS
@pytest.mark.parametrize("compress", [None, gzip.compress], ids=["plain", "gz"])
def test_files_that_came_and_were_rotated_away_while_down_are_read(
    tmp_path: Path, pattern: str, names: bytes, compress: Callable[[bytes], bytes] | None
) -> None:
    log = tmp_path / "log.ndjson"
    older = tmp_path / "log.ndjson.7"  # rotated before the source was first read
    if pattern != "log*":
        older.write_bytes(names + b"0,0\n" * 100)
        os.utime(older, (1, 1))
    log.write_bytes(names + b"".join(ROWS[:1_000]))
    first = run(tmp_path, pattern, names, {})
    append(log, b"".join(ROWS[1_000:1_200]))()
    suffix = ".gz" if compress else ""
    rotated(log, f"log.ndjson.3{suffix}", compress)
    for k in (2, 1):
        log.write_bytes(names + b"".join(ROWS[1_200 + 800 * (2 - k) : 2_000 + 800 * (2 - k)]))
        rotated(log, f"log.ndjson.{k}{suffix}", compress)
    log.write_bytes(names + b"".join(ROWS[2_800:]))
    assert_exact_through_kills(tmp_path, pattern, names, first)


@FORMATS
@pytest.mark.parametrize("longer", [False, True])
@pytest.mark.parametrize("pattern", ["log.ndjson", "*.ndjson"])
def test_the_rest_of_a_file_truncated_behind_a_copy_while_down_is_read(
    tmp_path: Path, pattern: str, names: bytes, longer: bool
) -> None:
    log = tmp_path / "log.ndjson"
    n = 300 if longer else 3_000
    log.write_bytes(names + b"".join(ROWS[:n]))
    first = run(tmp_path, pattern, names, {})
    append(log, b"".join(ROWS[n : n + 200]))()
    shutil.copy(log, tmp_path / "log.ndjson.1")
    replace_in_place(log, names + b"".join(ROWS[n + 200 :]))()
    assert_exact_through_kills(tmp_path, pattern, names, first)


@FORMATS
def test_what_came_between_the_last_look_and_a_truncation_is_read_from_the_copy(tmp_path: Path, names: bytes) -> None:
    log = tmp_path / "log"
    log.write_bytes(names + b"".join(ROWS[:1_000]))
    copy = together(
        append(log, b"".join(ROWS[1_000:1_100])),
        lambda: shutil.copy(log, tmp_path / "log-20260131"),
        replace_in_place(log, names + b"".join(ROWS[1_100:3_000])),
    )
    steps = [*quiet(2), copy, *quiet(3), append(log, b"".join(ROWS[3_000:])), *ROTATED_WAIT]
    assert sorted(records(follow(log, Timeline(*steps), header=bool(names)))) == sorted(ROWS)


@PATTERNS
def test_what_cannot_be_found_is_reported_once_with_the_least_loss(tmp_path: Path, pattern: str) -> None:
    """Killed after the first 5,000 bytes; then the file was deleted, and another one begun."""
    log = tmp_path / "log.ndjson"
    old, new = b"".join(ROWS[:3_000]), b"".join(ROWS[3_000:])
    log.write_bytes(old)
    (first, *_) = follow(tmp_path / pattern, Timeline(), chunk_bytes=5_000)
    (tmp_path / "kept").hardlink_to(log)  # another inode for the new one …
    log.unlink()
    log.write_bytes(new)
    (tmp_path / "kept").unlink()  # … and the old one is gone
    positions = last_positions([first])
    lost: list[int] = []
    second = follow(tmp_path / pattern, Timeline(*ROTATED_WAIT), positions, lost=lost)
    assert records(second) == ROWS[3_000:]
    assert lost == [len(old) - int(first.position["offset"])]
    assert follow(tmp_path / pattern, Timeline(*quiet(3)), {**positions, **last_positions(second)}) == []


def test_a_truncation_without_a_copy_is_reported(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"".join(ROWS[:100]))
    lost: list[int] = []
    steps = [*quiet(2), replace_in_place(log, b"new\n"), *quiet(2)]
    assert records(follow(log, Timeline(*steps), lost=lost)) == [*ROWS[:100], b"new\n"]
    assert lost == [0]


def test_a_folder_that_is_not_there_yet_is_no_loss_and_read_on_once_it_is(tmp_path: Path) -> None:
    """A file system that is mounted later."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    log = folder / "log"
    log.write_bytes(b"".join(ROWS[:1_000]))
    first = follow(log, Timeline())
    folder.rename(tmp_path / "away")
    errors: Errors = []
    back = together(lambda: (tmp_path / "away").rename(folder), append(log, b"".join(ROWS[1_000:])))
    second = follow(log, Timeline(*quiet(2), back, *quiet(2)), last_positions(first), errors=errors)
    assert records(first) + records(second) == ROWS


@FORMATS
def test_a_file_that_came_and_was_rotated_away_between_two_looks_is_read(tmp_path: Path, names: bytes) -> None:
    log = tmp_path / "log"
    log.write_bytes(names + b"".join(ROWS[:1_000]))
    twice = together(
        lambda: log.rename(tmp_path / "log.2"),
        append(log, names + b"".join(ROWS[1_000:2_000])),
        lambda: log.rename(tmp_path / "log.1"),
        append(log, names + b"".join(ROWS[2_000:])),
    )
    steps = [*quiet(2), twice, *ROTATED_WAIT]
    assert sorted(records(follow(log, Timeline(*steps), header=bool(names)))) == sorted(ROWS)


@pytest.mark.parametrize("down", [False, True])
def test_files_of_other_writers_beside_a_rotated_one_are_not_read(tmp_path: Path, down: bool) -> None:
    log = tmp_path / "log.ndjson"
    log.write_bytes(b"".join(ROWS[:1_000]))

    def rotate() -> None:
        rotated(log, "log.ndjson.1")
        for other in ("log-2.ndjson", "log.2.ndjson", "log.ndjson.errors", "log.ndjsonx.1", "2.log.ndjson", "log"):
            (tmp_path / other).write_bytes(b"9,9\n")
        log.write_bytes(b"".join(ROWS[1_000:]))

    first = follow(log, Timeline(*quiet(2), *([] if down else [rotate, *quiet(2)])))
    if down:
        rotate()
    second = follow(log, Timeline(*quiet(2)), last_positions(first))
    assert sorted(records(first) + records(second)) == sorted(ROWS)
