"""Every command says the same about a data file that cannot be read."""

import gzip
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from kldrift.datafiles.opening import check_header
from kldrift.datafiles.pieces import pieces
from kldrift.datafiles.reference import read_columns
from kldrift.datafiles.sample import column_names, read_live_sample, read_sample
from kldrift.errors import DataFileProblem
from kldrift.records.samples import BatchSchema, FeatureSchema

SCHEMA = BatchSchema((FeatureSchema("x", "numeric"),))
READERS: list[Callable[[Path], object]] = [
    read_sample,
    read_live_sample,
    column_names,
    lambda path: read_columns(path, [("x", "numeric")]),
    lambda path: list(pieces(path, SCHEMA, rows_at_a_time=10)),
]
NAMES = "a file named .ndjson, .jsonl, .csv, .parquet or .pq (.ndjson, .jsonl and .csv also with .gz or .zst)"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent.csv", None, "expected a data file, found none; check the path"),
        ("a.txt", b"x", f"expected {NAMES}; rename it, or convert it to one of these"),
        ("a.parquet.gz", b"x", f"expected {NAMES}; rename it, or convert it to one of these"),
        ("empty.csv", b"", "expected rows of data, got an empty file"),
        ("empty.parquet", b"", "expected rows of data, got an empty file"),
        ("a.ndjson", b"PAR1", "expected ndjson, got a Parquet file; name it .parquet"),
        ("folder.csv", Path.mkdir, "expected a file, got a directory; give one of the files in it"),
        ("/dev/null", None, f"expected {NAMES}; rename it, or convert it to one of these"),
    ],
)
@pytest.mark.parametrize("read", READERS, ids=["sample", "head", "names", "reference", "pieces"])
def test_one_sentence_for_each_mistake(
    tmp_path: Path,
    name: str,
    content: bytes | Callable[[Path], None] | None,
    words: str,
    read: Callable[[Path], object],
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        content(path)
    with pytest.raises(DataFileProblem) as raised:
        read(path)
    assert str(raised.value) == f"{path}: {words}"


@pytest.mark.parametrize("read", [*READERS[:2], *READERS[3:]])
def test_an_archive_that_ends_early_is_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "a.ndjson.gz"
    path.write_bytes(gzip.compress(b'{"x": 1}\n' * 9000)[:-20])
    with pytest.raises(DataFileProblem, match=r"a\.ndjson\.gz: .* it ends early"):
        read(path)


@pytest.mark.parametrize("read", READERS[:4])
def test_a_header_with_another_separator_is_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x;y\n1;2\n")
    with pytest.raises(DataFileProblem, match="expected comma separated columns, got semicolons; separate them by"):
        read(path)


@pytest.mark.parametrize("name", ["a.csv", "a.ndjson"])
@pytest.mark.parametrize("read", READERS)
def test_lines_that_end_with_carriage_returns_alone_are_told_as_that(
    tmp_path: Path, name: str, read: Callable[[Path], object]
) -> None:
    path = tmp_path / name
    path.write_bytes(b"x\r1\r2\r" if name.endswith("csv") else b'{"x": 1}\r{"x": 2}\r')
    with pytest.raises(DataFileProblem, match="lines that end with a newline, got carriage returns alone; convert it"):
        read(path)


def test_a_header_of_numbers_is_odd() -> None:
    assert check_header(Path("a.csv"), ["x", "1"]) == []
    assert check_header(Path("a.csv"), ["0.5", "-1e3"]) == [
        "all column names are numbers: does the first line name the columns?"
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.ndjson", "a.parquet"])
@pytest.mark.parametrize("threads", [1, 3])
def test_pieces_are_all_rows_in_their_order(tmp_path: Path, name: str, threads: int) -> None:
    data = pl.DataFrame({"x": pl.int_range(100_000, eager=True).cast(pl.Float64)})
    {"a.csv": data.write_csv, "a.ndjson": data.write_ndjson, "a.parquet": data.write_parquet}[name](tmp_path / name)
    found = [d.batch.columns[0] for d in pieces(tmp_path / name, SCHEMA, rows_at_a_time=30_000, threads=threads)]
    assert sum(map(len, found)) == 100_000
    assert all((column == range(start, start + len(column))).all()
               for start, column in zip([0, *pl.Series(map(len, found)).cum_sum()], found, strict=False))  # fmt: skip


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n", "\n \t\n", ""])
def test_blank_lines_are_not_rows(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(((ending or "\n").join(f'{{"x": {i}}}' for i in range(4000)) + ending).encode())
    sample = read_sample(path, max_rows=320)
    assert (sample.n_rows, sample.n_looked) == (4000, 320)
    assert read_live_sample(path).n_rows == 4000
