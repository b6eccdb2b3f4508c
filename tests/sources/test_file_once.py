"""Files read once, to their end."""

import gzip
import json
import os
import threading
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kldrift.errors import DecodeError, SourceError
from kldrift.records.samples import Chunk, RowRange
from kldrift.records.sources import FileSourceConfig
from kldrift.sources.base import Surroundings
from kldrift.sources.file import FileSource
from tests.sources.timeline import chunks_of, last_positions, records, text

Errors = list[tuple[str, str]]
LINES = [b'{"x":%d}\n' % k for k in range(1000)]
MANY_LINES = b"".join(b'{"x":%d}\n' % (k * 7919 % 100_003) for k in range(50_000))
SAME_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def source(pattern: Path | str, errors: Errors | None = None, header: bool = False, **options: object) -> FileSource:
    def on_error(reason: str, detail: str) -> None:
        assert errors is not None, detail
        errors.append((reason, detail))

    return FileSource(
        FileSourceConfig(name="files", path=str(pattern), format="csv" if header else "ndjson"),
        Surroundings(clock_ms=lambda: 7, on_error=on_error),
        **options,  # type: ignore[arg-type]
    )


def read(made: FileSource, positions: dict[str, dict[str, int | str]] | None = None) -> list[Chunk]:
    return chunks_of(made, positions or {}, threading.Event())


def compress(kind: str, data: bytes) -> bytes:
    match kind:
        case ".gz":
            return gzip.compress(data, mtime=0)  # the same bytes whenever it is called
        case ".zst":
            return zstandard.ZstdCompressor(write_checksum=True).compress(data)
        case _:
            return data


@pytest.mark.parametrize("kind", ["", ".gz", ".zst"])
@pytest.mark.parametrize("chunk_bytes", [1, 10, 64, 8 << 20])
def test_chunks_hold_whole_lines_and_add_up_to_the_file(tmp_path: Path, kind: str, chunk_bytes: int) -> None:
    path = tmp_path / f"a.ndjson{kind}"
    path.write_bytes(compress(kind, b"".join(LINES)))
    chunks = read(source(path, chunk_bytes=chunk_bytes))
    assert records(chunks) == LINES
    assert all(text(chunk).endswith(b"\n") for chunk in chunks)
    assert {chunk.arrival_ms for chunk in chunks} == {7}


def test_files_come_in_the_order_of_their_names_and_folders_are_walked(tmp_path: Path) -> None:
    for name in ["b.ndjson", "a/2.ndjson", "a/1.ndjson", "a/deep/er/0.ndjson", "other.txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{name}\n")
    chunks = read(source(tmp_path / "**/*.ndjson"))
    assert records(chunks) == [b"a/1.ndjson\n", b"a/2.ndjson\n", b"a/deep/er/0.ndjson\n", b"b.ndjson\n"]
    assert len({chunk.stream for chunk in chunks}) == 4


def test_a_name_with_brackets_is_taken_literally_if_the_file_exists(tmp_path: Path) -> None:
    path = tmp_path / "data[1].ndjson"
    path.write_bytes(b"1\n")
    assert records(read(source(path))) == [b"1\n"]


def test_two_names_of_one_file_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(b"1\n")
    (tmp_path / "b.ndjson").symlink_to(tmp_path / "a.ndjson")
    os.link(tmp_path / "a.ndjson", tmp_path / "c.ndjson")
    assert records(read(source(tmp_path / "*.ndjson"))) == [b"1\n"]


def test_positions_are_json_and_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"sch\xf6n.ndjson")
    path.write_bytes(b"1\n")
    (chunk,) = read(source(tmp_path / "*.ndjson"))
    status = path.stat()
    assert json.loads(json.dumps(chunk.position)) == chunk.position
    assert str(chunk.position["path"]).encode().endswith(rb"sch\xf6n.ndjson")
    assert (chunk.position["device"], chunk.position["inode"]) == (status.st_dev, status.st_ino)
    assert chunk.stream == f"{status.st_dev}:{status.st_ino}"
    assert chunk.position["offset"] == 2


@pytest.mark.parametrize("kind", ["", ".gz", ".zst"])
def test_a_last_line_without_newline_is_a_record(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a{kind}"
    path.write_bytes(compress(kind, b"1\n2"))
    assert records(read(source(path))) == [b"1\n", b"2"]


def test_an_empty_file_has_no_chunks(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert read(source(tmp_path / "a")) == []


def test_the_lag_counts_the_bytes_after_a_chunk(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1\n2\n3\n")
    assert [chunk.lag_bytes for chunk in read(source(tmp_path / "a", chunk_bytes=2))] == [4, 2, 0]


@SAME_FOLDER
@given(
    lengths=st.lists(st.integers(0, 300), max_size=40),
    chunk_bytes=st.integers(1, 700),
    kind=st.sampled_from(["", ".gz", ".zst"]),
    data=st.data(),
)
def test_reading_again_from_any_position_yields_the_rest(
    tmp_path: Path, lengths: list[int], chunk_bytes: int, kind: str, data: st.DataObject
) -> None:
    path = tmp_path / f"a{kind}"
    lines = [b"%d" % k * n + b"\n" for k, n in enumerate(lengths)]
    path.write_bytes(compress(kind, b"".join(lines)))
    chunks = read(source(path, chunk_bytes=chunk_bytes))
    assert records(chunks) == lines
    if chunks:
        k = data.draw(st.integers(1, len(chunks)))
        rest = read(source(path, chunk_bytes=data.draw(st.integers(1, 700))), last_positions(chunks[:k]))
        assert records(chunks[:k]) + records(rest) == lines


# --- CSV ------------------------------------------------------------------------------------------


CELLS = st.text(alphabet='ab,"\n\r;', max_size=6)


def csv_cell(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if set(cell) & set(',"\n\r') else cell


@SAME_FOLDER
@given(
    rows=st.lists(st.tuples(CELLS, CELLS), max_size=30),
    chunk_bytes=st.integers(1, 100),
    kind=st.sampled_from(["", ".gz"]),
    data=st.data(),
)
def test_csv_is_cut_at_the_ends_of_records_not_at_newlines_within_quotes(
    tmp_path: Path, rows: list[tuple[str, str]], chunk_bytes: int, kind: str, data: st.DataObject
) -> None:
    header = b'"the\nfirst",second\n'
    encoded = [(",".join(map(csv_cell, row)) + "\n").encode() for row in rows]
    (tmp_path / f"a.csv{kind}").write_bytes(compress(kind, header + b"".join(encoded)))
    made = source(tmp_path / f"a.csv{kind}", header=True, chunk_bytes=chunk_bytes)
    chunks = read(made)
    assert {chunk.header for chunk in chunks} <= {header}
    assert b"".join(map(text, chunks)) == b"".join(encoded)
    ends = {sum(map(len, encoded[:k])) for k in range(len(encoded) + 1)}
    taken = 0
    for chunk in chunks:
        taken += len(text(chunk))
        assert taken in ends
    if chunks:
        k = data.draw(st.integers(1, len(chunks)))
        rest = read(made, last_positions(chunks[:k]))
        assert {chunk.header for chunk in rest} <= {header}
        assert b"".join(map(text, chunks[:k] + rest)) == b"".join(encoded)


def test_each_csv_file_has_its_own_header(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_bytes(b"a,b\n1,2\n")
    (tmp_path / "2.csv").write_bytes(b"b,a\n3,4")
    (tmp_path / "3.csv").write_bytes(b"a,b")
    chunks = read(source(tmp_path / "*.csv", header=True))
    assert [(chunk.header, chunk.payload) for chunk in chunks] == [(b"a,b\n", b"1,2\n"), (b"b,a\n", b"3,4")]


def test_a_quote_that_is_never_closed_affects_only_its_own_line(tmp_path: Path) -> None:
    lines = [b"%d,x\n" % k for k in range(100)]
    lines[10] = b'10,5" pipe\n'
    (tmp_path / "a.csv").write_bytes(b"a,b\n" + b"".join(lines))
    errors: Errors = []
    chunks = read(source(tmp_path / "a.csv", errors, header=True, chunk_bytes=16, max_record_bytes=64))
    assert records(chunks) == lines
    assert lines[10] in [chunk.payload for chunk in chunks]
    assert [reason for reason, _ in errors] == ["unbalanced_quote"]


# --- unreadable files ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["", ".gz", ".zst"])
@pytest.mark.parametrize("header", [False, True])
def test_a_record_beyond_the_limit_is_skipped(tmp_path: Path, kind: str, header: bool) -> None:
    path = tmp_path / f"a{kind}"
    head = b"h\n" if header else b""
    path.write_bytes(compress(kind, head + b"1\n" + b"x" * 5000 + b"\n2\n" + b"y" * 5000))
    errors: Errors = []
    chunks = read(source(path, errors, header, chunk_bytes=100, max_record_bytes=1000))
    assert records(chunks) == [b"1\n", b"2\n"]
    assert [reason for reason, _ in errors] == ["record_too_long"] * 2
    assert f"{path}: offset {len(head) + 2}: expected a record of at most 1000 bytes" in errors[0][1]


def test_a_csv_header_beyond_the_limit_makes_the_file_unreadable(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_bytes(b'a,"b\n' + b"1,2\n" * 100)
    (tmp_path / "2.csv").write_bytes(b"a,b\n1,2\n")
    errors: Errors = []
    made = source(tmp_path / "*.csv", errors, header=True, chunk_bytes=10, max_record_bytes=100)
    chunks: list[Chunk] = []
    with pytest.raises(SourceError, match=r"1 of 2 files .*1\.csv"):
        chunks.extend(chunk for chunk in made.chunks({}, threading.Event()) if chunk)
    assert records(chunks) == [b"1,2\n"]
    assert errors[0][0] == "record_too_long"


def damaged(kind: str, how: str) -> bytes:
    whole = compress(kind, MANY_LINES)
    if how == "truncated":
        return whole[: len(whole) // 2]
    if how == "corrupt":
        return whole[: len(whole) // 2] + b"\xff" * 100 + whole[len(whole) // 2 + 100 :]
    return b"{}\n" * 100


@pytest.mark.parametrize("kind", [".gz", ".zst"])
@pytest.mark.parametrize("how", ["truncated", "corrupt", "no archive"])
def test_a_damaged_archive_is_reported_and_the_other_files_are_read(tmp_path: Path, kind: str, how: str) -> None:
    (tmp_path / f"1{kind}").write_bytes(damaged(kind, how))
    (tmp_path / f"2{kind}").write_bytes(compress(kind, b"good\n"))
    errors: Errors = []
    chunks: list[Chunk] = []
    made = source(tmp_path / f"*{kind}", errors, chunk_bytes=1000)
    with pytest.raises(SourceError, match=r"1 of 2 files could not be read to their end: .*/1\.") as raised:
        chunks.extend(chunk for chunk in made.chunks({}, threading.Event()) if chunk)
    assert raised.value.reason == "incomplete"
    ((reason, detail),) = errors
    assert reason == ("truncated" if how == "truncated" else "corrupt")
    assert f"1{kind}: expected a whole" in detail
    got = records(chunks)
    assert got[-1] == b"good\n"
    assert all(line.endswith(b"\n") for line in got)
    if how == "truncated":
        assert len(got) > 10_000
        # Called again, as after a wait: nothing is read twice.
        again: list[Chunk] = []
        with pytest.raises(SourceError):
            again.extend(c for c in made.chunks(last_positions(chunks), threading.Event()) if c)
        assert again == []
        # Once the file is complete, the rest follows.
        with (tmp_path / f"1{kind}").open("r+b") as file:
            file.write(compress(kind, MANY_LINES))
        assert len(got) - 1 + len(records(read(made, last_positions(chunks)))) == 50_000


@pytest.mark.parametrize("kind", [".gz", ".zst"])
def test_an_archive_of_several_members_is_one_file(tmp_path: Path, kind: str) -> None:
    members = compress(kind, b"1\n2") + compress(kind, b"\n3\n") + (b"\0" * 512 if kind == ".gz" else b"")
    (tmp_path / f"a{kind}").write_bytes(members)
    assert records(read(source(tmp_path / f"a{kind}"))) == [b"1\n", b"2\n", b"3\n"]


def test_an_archive_is_recognized_by_its_first_bytes_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.gz.1").write_bytes(gzip.compress(b"1\n"))
    assert records(read(source(tmp_path / "a.gz.1"))) == [b"1\n"]


def test_a_finished_archive_is_not_decompressed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"".join(LINES)))
    chunks = read(source(tmp_path / "a.gz", chunk_bytes=100))
    assert chunks[-1].position["complete"] == 1
    monkeypatch.setattr("kldrift.sources.contents.ArchiveReader", None)
    assert read(source(tmp_path / "a.gz"), last_positions(chunks)) == []


def test_an_error_names_the_pattern_that_matches_no_file(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"expected files that match .*nothing-\*.*found none; check the path"
    ) as raised:
        read(source(tmp_path / "nothing-*"))
    assert raised.value.reason == "not_found"


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    errors: Errors = []
    with pytest.raises(SourceError):
        read(source(tmp_path, errors))
    assert errors == [("not_a_file", f"{tmp_path}: not a regular file; name files, as in DIR/*.ndjson")]


def test_a_pipe_among_the_files_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "1")
    (tmp_path / "2").write_bytes(b"1\n")
    errors: Errors = []
    chunks: list[Chunk] = []
    with pytest.raises(SourceError):
        chunks.extend(c for c in source(tmp_path / "*", errors).chunks({}, threading.Event()) if c)
    assert records(chunks) == [b"1\n"]
    assert [reason for reason, _ in errors] == ["not_a_file"]


def test_a_file_the_system_refuses_is_reported_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(4):
        (tmp_path / f"{k}").write_bytes(b"%d\n" % k)
    (tmp_path / "4").symlink_to("4")
    real = os.open

    def refuse(path: str, flags: int) -> int:
        match Path(path).name:
            case "0":
                raise PermissionError(13, "Permission denied", path)
            case "1":
                raise FileNotFoundError(2, "No such file or directory", path)
            case "2":
                raise OSError(5, "Input/output error", path)
        return real(path, flags)

    monkeypatch.setattr(os, "open", refuse)
    errors: Errors = []
    chunks: list[Chunk] = []
    with pytest.raises(SourceError, match="4 of 5 files"):
        chunks.extend(c for c in source(tmp_path / "*", errors).chunks({}, threading.Event()) if c)
    assert records(chunks) == [b"3\n"]
    assert sorted(reason for reason, _ in errors) == ["permission", "read", "read", "vanished"]
    assert f"{tmp_path}/0: cannot be read (Permission denied)" in "".join(detail for _, detail in errors)


# --- rows -----------------------------------------------------------------------------------------


def parquet_rows(path: Path) -> int:
    try:
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())
    except pl.exceptions.ComputeError as error:
        raise DecodeError(str(error)) from error


def rows_source(pattern: Path, errors: Errors, rows_per_chunk: int = 40) -> FileSource:
    return FileSource(
        FileSourceConfig(name="files", path=str(pattern), format="parquet"),
        Surroundings(clock_ms=lambda: 7, on_error=lambda reason, detail: errors.append((reason, detail))),
        count_rows=parquet_rows,
        rows_per_chunk=rows_per_chunk,
    )


def test_parquet_is_yielded_as_ranges_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"x": range(100)}).write_parquet(path)
    chunks = read(rows_source(path, []))
    assert [chunk.payload for chunk in chunks] == [
        RowRange(path, 0, 40),
        RowRange(path, 40, 80),
        RowRange(path, 80, 100),
    ]
    assert [chunk.lag_records for chunk in chunks] == [60, 20, 0]
    for k in range(3):
        rest = read(rows_source(path, []), last_positions(chunks[: k + 1]))
        assert [chunk.payload for chunk in rest] == [chunk.payload for chunk in chunks[k + 1 :]]


def test_parquet_written_again_in_place_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"x": range(100)}).write_parquet(path)
    positions = last_positions(read(rows_source(path, [])))
    other = tmp_path / "other"
    pl.DataFrame({"x": range(1, 101)}).write_parquet(other)
    path.write_bytes(other.read_bytes())
    assert [chunk.payload for chunk in read(rows_source(path, [], 1000), positions)] == [RowRange(path, 0, 100)]


def test_a_damaged_parquet_file_is_reported_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "1.parquet").write_bytes(b"PAR1 no more")
    pl.DataFrame({"x": range(10)}).write_parquet(tmp_path / "2.parquet")
    errors: Errors = []
    chunks: list[Chunk] = []
    with pytest.raises(SourceError, match=r"1\.parquet"):
        chunks.extend(c for c in rows_source(tmp_path / "*", errors).chunks({}, threading.Event()) if c)
    assert [chunk.payload for chunk in chunks] == [RowRange(tmp_path / "2.parquet", 0, 10)]
    ((reason, told),) = errors
    assert reason == "unreadable"
    assert told.count("1.parquet") == 1


def test_parquet_files_need_a_counter() -> None:
    config = FileSourceConfig(name="f", path="x", format="parquet")
    with pytest.raises(ValueError, match="count_rows"):
        FileSource(config, Surroundings(clock_ms=lambda: 0, on_error=lambda *_: None))


@pytest.mark.parametrize(("row_numbers", "rows"), [(1, 65_536), (256, 65_536), (1024, 16_384), (1 << 30, 1)])
def test_a_range_of_wide_rows_has_fewer_of_them(tmp_path: Path, row_numbers: int, rows: int) -> None:
    """At most 65,536 rows and at most 16,777,216 numbers."""
    made = FileSource(
        FileSourceConfig(name="files", path=str(tmp_path / "a.parquet"), format="parquet"),
        Surroundings(clock_ms=lambda: 7, on_error=lambda *_: None, row_numbers=row_numbers),
        count_rows=lambda _: 100_000,
    )
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    first = next(made.chunks({}, threading.Event()))
    assert first is not None
    assert first.payload == RowRange(tmp_path / "a.parquet", 0, rows)


@pytest.mark.parametrize("header", [False, True])
def test_lines_that_end_with_carriage_returns_alone_are_told_as_that(tmp_path: Path, header: bool) -> None:
    path = tmp_path / "mac"
    path.write_bytes(b"a,b\r1,2\r3,4\r")
    errors: list[tuple[str, str]] = []
    source = FileSource(
        FileSourceConfig(name="files", path=str(path), format="csv" if header else "ndjson"),
        Surroundings(clock_ms=lambda: 0, on_error=lambda reason, detail: errors.append((reason, detail))),
    )
    with suppress(SourceError):
        list(source.chunks({}, threading.Event()))
    ((reason, detail),) = errors
    assert reason == "line_ends"
    assert "got carriage returns alone; convert it, as with tr '\\r' '\\n'" in detail
