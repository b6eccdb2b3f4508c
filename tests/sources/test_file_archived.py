"""Archives that rotation makes of files already read. Each wait of the source is one step of the timeline."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tests.sources.following import ROTATED_WAIT, Errors, append, follow, rename, together, write
from tests.sources.timeline import Position, Timeline, last_positions, quiet, records

ROWS = [b"%d,%d\n" % (i, i * 7919 % 10_007) for i in range(4_000)]
FORMATS = pytest.mark.parametrize("names", [b"", b"a,b\n"], ids=["ndjson", "csv"])
COMPRESSED = pytest.mark.parametrize(
    ("compress", "suffix"), [(gzip.compress, ".gz"), (zstandard.compress, ".zst")], ids=["gz", "zst"]
)


@FORMATS
@COMPRESSED
def test_an_archive_that_rotation_makes_is_not_counted_again(
    tmp_path: Path, compress: Callable[[bytes], bytes], suffix: str, names: bytes
) -> None:
    """
    t        log           log.1         log.1.gz
    0        0 … 999
    1        0 … 1999
    2        2000 …        0 … 1999 20   half
    3                      0 … 1999 20   whole
    4                      deleted
    5        … 3999
    """
    log, old, archive = tmp_path / "log", tmp_path / "log.1", tmp_path / f"log.1{suffix}"
    log.write_bytes(names + b"".join(ROWS[:1_000]))
    content = names + b"".join(ROWS[:2_000]) + b"20,20"  # the last line has no end
    packed = compress(content)
    steps = [
        *quiet(2),
        append(log, b"".join(ROWS[1_000:2_000]) + b"20,20"),
        *quiet(1),
        together(rename(log, old), write(log, names + b"".join(ROWS[2_000:3_000]))),
        write(archive, packed[: len(packed) // 2]),
        *quiet(2),
        append(archive, packed[len(packed) // 2 :]),
        *quiet(2),
        old.unlink,
        *ROTATED_WAIT,
        *ROTATED_WAIT,
        append(log, b"".join(ROWS[3_000:])),
        *quiet(2),
    ]
    chunks = follow(tmp_path / "log*", Timeline(*steps), header=bool(names), chunk_bytes=5_000)
    assert sorted(records(chunks)) == sorted([*ROWS, b"20,20"])
    for k in range(len(chunks)):  # killed after chunk k, and started again
        rest = follow(
            tmp_path / "log*",
            Timeline(*ROTATED_WAIT, *ROTATED_WAIT),
            last_positions(chunks[:k]),
            header=bool(names),
        )
        if any(chunk.stream == chunks[-1].stream for chunk in chunks[:k]):
            assert sorted(records(chunks[:k]) + records(rest)) == sorted([*ROWS, b"20,20"])


@FORMATS
@COMPRESSED
def test_of_an_archive_made_between_two_runs_the_rest_is_read(
    tmp_path: Path, compress: Callable[[bytes], bytes], suffix: str, names: bytes
) -> None:
    log = tmp_path / "log"
    log.write_bytes(names + b"".join(ROWS[:1_000]))
    first = follow(tmp_path / "log*", Timeline(), header=bool(names))
    (tmp_path / f"log.1{suffix}").write_bytes(compress(names + b"".join(ROWS[:2_500])))
    log.unlink()
    log.write_bytes(names + b"".join(ROWS[2_500:]))
    positions: dict[str, Position] = last_positions(first)
    second = follow(tmp_path / "log*", Timeline(*ROTATED_WAIT, *quiet(2)), positions, header=bool(names))
    assert sorted(records(first) + records(second)) == sorted(ROWS)
    positions |= last_positions(second)
    assert records(follow(tmp_path / "log*", Timeline(*ROTATED_WAIT), positions, header=bool(names))) == []


def test_the_archive_of_a_file_that_stays_is_not_counted_while_both_are_there(tmp_path: Path) -> None:
    """``gzip --keep``: the archive waits for as long as its file is read."""
    log, archive = tmp_path / "log", tmp_path / "log.gz"
    log.write_bytes(b"".join(ROWS[:1_000]))
    steps = [
        *quiet(2),
        write(archive, gzip.compress(b"".join(ROWS[:1_000]))),
        *ROTATED_WAIT,
        log.unlink,
        *ROTATED_WAIT,
        *ROTATED_WAIT,
    ]
    assert records(follow(tmp_path / "log*", Timeline(*steps))) == ROWS[:1_000]


def test_an_archive_that_only_begins_alike_is_read(tmp_path: Path) -> None:
    """Two files under a header of more than a KiB."""
    names = b"a," + b"b" * 2_000 + b"\n"
    (tmp_path / "log").write_bytes(names + b"".join(ROWS[:1_000]))
    (tmp_path / "other.gz").write_bytes(gzip.compress(names + b"".join(ROWS[1_000:2_500])))
    (tmp_path / "shorter.gz").write_bytes(gzip.compress(names + b"".join(ROWS[3_000:3_100])))
    chunks = follow(tmp_path / "*", Timeline(*ROTATED_WAIT, *quiet(2)), header=True)
    assert records(chunks) == [*ROWS[:2_500], *ROWS[3_000:3_100]]


def test_half_an_archive_of_a_file_already_read_is_reported_and_not_counted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"".join(ROWS))
    errors: Errors = []
    packed = gzip.compress(b"".join(ROWS))
    steps = [*quiet(2), write(tmp_path / "log.gz", packed[: len(packed) // 2]), *ROTATED_WAIT, *quiet(4)]
    assert records(follow(tmp_path / "log*", Timeline(*steps), errors=errors)) == ROWS
    assert [reason for reason, _ in errors] == ["truncated"]
