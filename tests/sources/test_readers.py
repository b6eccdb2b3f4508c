"""Files and archives as they are read: to their end, beyond it, through holes and damage."""

import gzip
import os
from pathlib import Path

import pytest
import zstandard

from kldrift.sources.readers import ArchiveReader, Gzip, PlainReader, Zstandard, fingerprint, hole_end

# --- files --------------------------------------------------------------------------------------------


def test_a_plain_file_has_what_lies_between_an_offset_and_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDONLY)
    reader = PlainReader(fd)
    found = [reader.available(offset, 4) for offset in (0, 5, 8, 10, 12)]
    assert found == [4, 4, 2, 0, 0]
    assert reader.read(8, 4) == b"89"
    assert (reader.mark(3), reader.ended(10)) == (3, False)
    os.close(fd)


def test_a_hole_ends_where_data_begins(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.write(b"ab\0c")
        file.seek(1 << 20)
        file.write(b"end")
        file.truncate(3 << 20)
    fd = os.open(path, os.O_RDONLY)
    reader = PlainReader(fd)
    assert reader.data_from(0) == 0  # no NUL
    assert reader.data_from(1) == 1
    assert 4 < reader.data_from(8192) <= 1 << 20
    assert reader.data_from(2 << 20) in {2 << 20, 3 << 20}  # to the end, or as the file system has it
    assert reader.data_from(4 << 20) == 4 << 20  # beyond the end
    os.close(fd)
    end = hole_end_of(path, 8192)
    assert end == 1 << 20


def hole_end_of(path: Path, offset: int) -> int:
    fd = os.open(path, os.O_RDONLY)
    steps = hole_end(PlainReader(fd), offset)
    try:
        while True:
            next(steps)
    except StopIteration as ended:
        return int(ended.value)
    finally:
        os.close(fd)


def test_a_fingerprint_is_of_the_first_and_the_last_kilobyte(tmp_path: Path) -> None:
    def of(data: bytes, offset: int) -> str:
        path = tmp_path / "log"
        path.write_bytes(data)
        fd = os.open(path, os.O_RDONLY)
        try:
            return fingerprint(fd, offset)
        finally:
            os.close(fd)

    data = bytes(range(256)) * 20
    print_ = of(data, 5_000)
    assert len(print_) == 16
    assert print_ == of(data + b"more", 5_000)
    for changed, differs in ((0, True), (1_023, True), (1_024, False), (3_975, False), (3_976, True), (4_999, True)):
        other = bytearray(data)
        other[changed] ^= 1
        assert (of(bytes(other), 5_000) != print_) == differs, changed
    short = of(b"abc", 3)
    assert of(b"xbc", 3) != short
    assert of(b"abd", 3) != short


# --- archives -----------------------------------------------------------------------------------------


def archived(data: bytes, kind: type[Gzip] | type[Zstandard]) -> bytes:
    return gzip.compress(data) if kind is Gzip else zstandard.ZstdCompressor().compress(data)


def opened(path: Path, content: bytes, kind: type[Gzip] | type[Zstandard] = Gzip) -> ArchiveReader:
    path.write_bytes(content)
    return ArchiveReader(os.open(path, os.O_RDONLY), kind, str(path))


@pytest.mark.parametrize("kind", [Gzip, Zstandard])
def test_an_archive_ends_where_its_last_member_does(kind: type[Gzip] | type[Zstandard], tmp_path: Path) -> None:
    reader = opened(tmp_path / "a", archived(b"abc", kind) + archived(b"def", kind) + b"\0" * 20, kind)
    assert not reader.ended(0)
    assert reader.available(0, 100) == 6
    assert reader.read(1, 3) == b"bcd"
    assert [reader.ended(offset) for offset in (0, 5, 6, 7)] == [False, False, True, True]
    assert reader.mark(3) == (tmp_path / "a").stat().st_size
    assert reader.available(4, 1) == 1
    assert reader.read(4, 1) == b"e"
    assert reader.available(6, 5) == 0
    os.close(reader._fd)


@pytest.mark.parametrize("kind", [Gzip, Zstandard])
def test_an_archive_without_its_end_has_not_ended_and_goes_on(
    kind: type[Gzip] | type[Zstandard], tmp_path: Path
) -> None:
    whole = archived(os.urandom(3_000), kind)
    path = tmp_path / "a"
    reader = opened(path, whole[:-5], kind)
    reader.available(0, 10_000)
    assert not reader.complete
    with path.open("ab") as file:
        file.write(whole[-5:])
    assert reader.available(0, 10_000) == 3_000
    assert reader.ended(3_000)
    with path.open("ab") as file:
        file.write(archived(b"more", kind))
    assert reader.available(3_000, 10) == 4
    assert reader.read(3_000, 4) == b"more"
    assert reader.ended(3_004)
    os.close(reader._fd)


def test_an_empty_file_is_no_whole_archive(tmp_path: Path) -> None:
    reader = opened(tmp_path / "a", b"")
    assert reader.available(0, 10) == 0
    assert not reader.complete
    assert not reader.ended(0)
    os.close(reader._fd)


def test_what_was_passed_in_an_archive_is_forgotten(tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 5
    reader = opened(tmp_path / "a", gzip.compress(data, 1))
    steps = sum(1 for _ in reader.skip(4 << 20))
    assert steps > 1
    assert (reader._start, len(reader._window)) == (4 << 20, len(reader._window))
    assert len(reader._window) <= 2 << 20
    assert reader.available(4 << 20, 10) == 10
    assert reader.read(4 << 20, 10) == data[:10]
    assert list(reader.skip(4 << 20)) == []  # there already
    os.close(reader._fd)


def test_a_corrupt_archive_says_where_and_is_not_read_on(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(b"abc") + gzip.compress(os.urandom(50_000)))
    content[-4_000] ^= 0xFF
    reader = opened(tmp_path / "a", bytes(content))
    while reader.problem is None:
        reader.available(0, 1 << 20)
    assert reader.read(0, 3) == b"abc"
    assert "expected a whole gzip archive, but it is corrupt near its byte" in str(reader.problem)
    assert not reader.complete
    assert not reader._inflate()
    os.close(reader._fd)
