"""Followed files that another one replaces under their name. Each wait of the source is one step of the timeline."""

import gzip
import os
import zlib
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kldrift.records.samples import RowRange
from kldrift.sources import recognition
from kldrift.sources.recognition import Digest
from tests.sources.following import (
    append,
    follow,
    rename,
    replace_by,
    replace_in_place,
    together,
    write,
)
from tests.sources.timeline import Position, Timeline, last_positions, quiet, records, text


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
    assert records(follow(log, Timeline(), positions, lost=[])) == after.splitlines(keepends=True)


@pytest.mark.parametrize("kind", ["plain", "gz"])
def test_an_unchanged_file_is_not_read_again_after_a_restart(tmp_path: Path, kind: str) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"1\n2\n" if kind == "plain" else gzip.compress(b"1\n2\n"))
    positions = last_positions(follow(log, Timeline()))
    os.utime(log, (1, 1))
    assert follow(log, Timeline(*quiet(3)), positions) == []


# --- across restarts -----------------------------------------------------------------------------------


def test_a_kill_at_any_moment_around_a_replacement_counts_each_row_once(tmp_path: Path) -> None:
    """Whatever was handed over by then is stored, and nothing else."""
    log = tmp_path / "log"
    rows = [b"row %d\n" % i for i in range(900)]
    log.write_bytes(b"".join(rows[:500]))
    steps = [*quiet(2), replace_by(log, b"".join(rows[:700])), *quiet(2), replace_by(log, b"".join(rows)), *quiet(2)]
    chunks = follow(log, Timeline(*steps), chunk_bytes=1000)
    assert records(chunks) == rows
    assert sum(chunk.payload == b"" for chunk in chunks) >= 4  # stored at once, not with the next rows
    for k in range(next(i for i, chunk in enumerate(chunks) if not chunk.payload), len(chunks) + 1):
        rest = follow(log, Timeline(*quiet(2)), last_positions(chunks[:k]))
        assert records(chunks[:k]) + records(rest) == rows


@pytest.mark.parametrize("names", [b"", b"a,b\n"], ids=["ndjson", "csv"])
def test_a_file_written_anew_between_two_runs_is_read_on(tmp_path: Path, names: bytes) -> None:
    """Again and again: its inode may be that of one before."""
    log = tmp_path / "log"
    rows = [b"%d,1\n" % i for i in range(1_000)]
    positions: dict[str, Position] = {}
    got: list[bytes] = []
    for n in (300, 600, 600, 601, 1_000):
        replace_by(log, names + b"".join(rows[:n]))()
        for _ in range(2):  # nothing is new the second time
            chunks = follow(log, Timeline(*quiet(2)), positions, header=bool(names))
            positions |= last_positions(chunks)
            got += records(chunks)
            assert got == rows[:n]


def test_what_differs_anywhere_between_two_runs_is_another_file(tmp_path: Path) -> None:
    log = tmp_path / "log"
    old = [b"row %04d\n" % i for i in range(1_000)]
    for at in (0, 1, 500, 998, 999):
        new = [*old[:at], b"new %04d\n" % at, *old[at + 1 :], b"more\n"]
        log.write_bytes(b"".join(old))
        positions = last_positions(follow(log, Timeline()))
        replace_by(log, b"".join(new))()
        assert records(follow(log, Timeline(*quiet(1)), positions, lost=[])) == new


def test_the_same_parquet_file_under_its_name_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"x": range(100)}).write_parquet(path)
    whole = path.read_bytes()
    pl.DataFrame({"x": range(100, 250)}).write_parquet(path)
    other = path.read_bytes()
    path.write_bytes(whole)

    def height(path: Path) -> int:
        return pl.read_parquet(path).height

    steps = [*quiet(1), replace_by(path, whole), *quiet(2), replace_by(path, other), *quiet(2)]
    chunks = follow(path, Timeline(*steps), count_rows=height)
    assert [chunk.payload for chunk in chunks if chunk.payload] == [RowRange(path, 0, 100), RowRange(path, 0, 150)]
    replace_by(path, other)()
    again = follow(path, Timeline(*quiet(2)), last_positions(chunks), count_rows=height)
    assert [chunk.payload for chunk in again if chunk.payload] == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=3_000), cuts=st.lists(st.integers(0, 3_000), max_size=6))
def test_a_digest_does_not_depend_on_the_pieces(monkeypatch: pytest.MonkeyPatch, data: bytes, cuts: list[int]) -> None:
    """All of the first 1,024 bytes, and 64 of each 256 behind them."""
    for name, value in [("_WHOLE_BYTES", 1_024), ("_SPAN_BYTES", 256), ("_PART_BYTES", 64)]:
        monkeypatch.setattr(recognition, name, value)
    digest = Digest()
    for a, b in pairwise([0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]):
        digest.add(data[a:b])
    summed = [k for k in range(len(data)) if k < 1_024 or k % 256 < 64]
    total = sum(data[k] << 8 * (k % 8) for k in summed) % 2**64
    assert digest == Digest(len(data), zlib.crc32(data[:1024]), total)


@pytest.mark.parametrize("at", [0, 5_000, 1_000_000, (1 << 20) + 5, (3 << 19) + (64 << 10) - 1, (4 << 20) - 1_000])
def test_what_differs_in_a_large_file_is_another_file(tmp_path: Path, at: int) -> None:
    log = tmp_path / "log"
    rows = b"".join(b"row %08d\n" % i for i in range((4 << 20) // 13))
    log.write_bytes(rows)
    positions = last_positions(follow(log, Timeline()))
    new = bytearray(rows + b"more\n")
    new[at] = ord("x") if new[at] != ord("\n") else new[at]
    new[at - 1 if at else 0] = ord("y")
    replace_by(log, bytes(new))()
    assert b"".join(text(c) for c in follow(log, Timeline(*quiet(1)), positions, lost=[])) == bytes(new)
