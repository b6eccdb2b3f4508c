"""The contract of every source (`kldrift.sources.base.Source`), checked for every implementation."""

import gzip
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import polars as pl
import pytest
import zstandard

from kldrift.assembly.sources import build_source
from kldrift.records.formats import Format
from kldrift.records.samples import Chunk, RowRange
from kldrift.records.sources import (
    Distribution,
    FileSourceConfig,
    KafkaSourceConfig,
    SourceConfig,
    StdinSourceConfig,
    SyntheticSourceConfig,
)
from kldrift.sources.base import Source, Surroundings
from kldrift.sources.file import FileSource
from kldrift.sources.kafka import KafkaSource
from kldrift.sources.kafka_settings import KafkaLimits
from kldrift.sources.stdin import StdinSource
from kldrift.sources.synthetic import SyntheticSource
from tests.sources.mock_kafka import MockKafka
from tests.sources.timeline import Position

CSV = b"x,y\n" + b"".join(b'%d,"a\nb"\n' % k for k in range(200))
LINES = b"".join(b'{"x":%d}\n' % k for k in range(300))
Failed = Callable[[str, str], None]


@dataclass
class Case:
    """A finite source that can be built again over the same data, and what it holds."""

    make: Callable[[], Source]
    expected: list[object]
    decode: Callable[[Chunk], list[object]]
    resumes: bool = True
    keeps: object = None  # alive as long as the case


def fail(reason: str, detail: str) -> None:
    raise AssertionError(f"{reason}: {detail}")


SURROUNDINGS = Surroundings(clock_ms=lambda: 7, on_error=fail)


def lines(chunk: Chunk) -> list[object]:
    assert isinstance(chunk.payload, bytes)
    assert chunk.payload.endswith(b"\n")
    return [json.loads(line) for line in chunk.payload.splitlines()]


def csv_rows(chunk: Chunk) -> list[object]:
    assert isinstance(chunk.payload, bytes)
    return list(pl.read_csv(chunk.header + chunk.payload).iter_rows())


def parquet_rows(chunk: Chunk) -> list[object]:
    assert isinstance(chunk.payload, RowRange)
    rows = chunk.payload
    return list(pl.read_parquet(rows.path).slice(rows.start, rows.stop - rows.start).iter_rows())


def files(
    folder: Path, kind: str, compress: Callable[[bytes], bytes], follow: bool, data: bytes = LINES, header: bool = False
) -> Case:
    half = data.index(b"\n", len(data) // 2) + 1 if not header else len(data)
    (folder / f"1.{kind}").write_bytes(compress(data[:half]))
    (folder / f"2.{kind}").write_bytes(compress(data[half:] if not header else data))
    file_format: Format = "csv" if header else "ndjson"
    config = FileSourceConfig(name="files", path=str(folder / f"*.{kind}"), format=file_format, follow=follow)

    def make() -> Source:
        return FileSource(config, SURROUNDINGS, chunk_bytes=97, wait=lambda stop, _: stop.set())

    if header:
        return Case(make, [(k, "a\nb") for k in range(200)] * 2, csv_rows)
    return Case(make, [{"x": k} for k in range(300)], lines)


def parquet(folder: Path) -> Case:
    pl.DataFrame({"x": range(500)}).write_parquet(folder / "a.parquet")
    config = FileSourceConfig(name="files", path=str(folder / "a.parquet"), format="parquet")

    def make() -> Source:
        return FileSource(config, SURROUNDINGS, count_rows=lambda path: pl.read_parquet(path).height, rows_per_chunk=33)

    return Case(make, [(k,) for k in range(500)], parquet_rows)


def piped(folder: Path) -> Case:
    (folder / "pipe").write_bytes(LINES)
    fd = os.open(folder / "pipe", os.O_RDONLY)
    config = StdinSourceConfig(name="stdin", format="ndjson")
    made = StdinSource(config, SURROUNDINGS, fd=fd, chunk_bytes=1, max_record_bytes=1 << 20)
    return Case(lambda: made, [{"x": k} for k in range(300)], lines, resumes=False)


def synthetic(_: Path) -> Case:
    features = {
        "x": Distribution("normal", {"mean": 0.0, "std": 1.0}, missing=0.1),
        "k": Distribution("categorical", {"a": 1, "b": 2}),
    }
    config = SyntheticSourceConfig(name="demo", rate_per_second=0, seed=5, rows=300, features=features)
    (whole,) = read(SyntheticSource(config, SURROUNDINGS))
    return Case(lambda: SyntheticSource(config, SURROUNDINGS, chunk_rows=17), lines(whole), lines)


def kafka(_: Path) -> Case:
    brokers = MockKafka()
    brokers.write("scores", LINES.splitlines())
    config = KafkaSourceConfig(
        name="scores", brokers=brokers.brokers, topic="scores", group="kldrift", format="ndjson", start="earliest"
    )

    def make() -> Source:
        return KafkaSource(config, replace(SURROUNDINGS, once=True), limits=KafkaLimits(chunk_bytes=500))

    return Case(make, [{"x": k} for k in range(300)], lines, keeps=brokers)


#: Cases of every source, by its record.
CASES: dict[type[SourceConfig], dict[str, Callable[[Path], Case]]] = {
    FileSourceConfig: {
        "ndjson": lambda folder: files(folder, "ndjson", bytes, follow=False),
        "ndjson, followed": lambda folder: files(folder, "ndjson", bytes, follow=True),
        "gzip": lambda folder: files(folder, "gz", gzip.compress, follow=False),
        "gzip, followed": lambda folder: files(folder, "gz", gzip.compress, follow=True),
        "zstd": lambda folder: files(folder, "zst", zstandard.compress, follow=False),
        "csv": lambda folder: files(folder, "csv", bytes, follow=False, data=CSV, header=True),
        "csv.gz, followed": lambda folder: files(folder, "csv.gz", gzip.compress, follow=True, data=CSV, header=True),
        "parquet": parquet,
    },
    KafkaSourceConfig: {"kafka": kafka},
    StdinSourceConfig: {"stdin": piped},
    SyntheticSourceConfig: {"synthetic": synthetic},
}


@pytest.mark.parametrize("record", get_args(SourceConfig), ids=lambda record: record.type_name)
def test_every_source_that_can_be_configured_has_a_case(record: type[SourceConfig]) -> None:
    assert CASES.get(record), f"{record.__name__}: expected a case in CASES"


@pytest.mark.parametrize(
    "config",
    [
        FileSourceConfig(name="s", path="/data/*.ndjson", format="ndjson"),
        KafkaSourceConfig(name="s", brokers=("a:1",), topic="t", group="g", format="json", start="latest"),
        StdinSourceConfig(name="s", format="csv"),
        SyntheticSourceConfig(name="s", rate_per_second=0, seed=1, rows=1, features={}),
    ],
    ids=lambda config: config.type_name,
)
def test_every_record_becomes_a_source_of_its_name(config: SourceConfig) -> None:
    assert build_source(config, SURROUNDINGS).name == "s"


NAMED = {name: make for cases in CASES.values() for name, make in cases.items()}


@pytest.fixture(params=NAMED)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return NAMED[request.param](tmp_path)


def read(source: Source, positions: Mapping[str, Position] | None = None) -> list[Chunk]:
    return [chunk for chunk in source.chunks(positions or {}, threading.Event()) if chunk is not None]


def content(case: Case, chunks: list[Chunk]) -> list[object]:
    return [record for chunk in chunks for record in case.decode(chunk)]


def test_the_chunks_together_hold_every_record_whole(case: Case) -> None:
    chunks = read(case.make())
    assert content(case, chunks) == case.expected


def test_reading_again_from_any_position_yields_exactly_the_rest(case: Case) -> None:
    if not case.resumes:
        # It continues by itself: what was handed over does not come again, and nothing else is missing.
        iterator = case.make().chunks({}, threading.Event())
        first = [chunk for chunk in [next(iterator)] if chunk]
        assert isinstance(iterator, Iterator)
        iterator.close()  # type: ignore[attr-defined]
        assert content(case, first + read(case.make())) == case.expected
        return
    chunks = read(case.make())
    assert len(chunks) > 3
    positions: dict[str, Position] = {}
    for k, chunk in enumerate(chunks):
        positions[chunk.stream] = json.loads(json.dumps(chunk.position))
        rest = read(case.make(), positions)
        assert content(case, chunks[: k + 1] + rest) == case.expected
    assert rest == []


def test_positions_are_flat_json(case: Case) -> None:
    for chunk in read(case.make()):
        assert all(type(value) in (int, str) for value in chunk.position.values())
        assert json.loads(json.dumps(chunk.position)) == chunk.position


def test_stop_takes_effect_after_the_current_chunk(case: Case) -> None:
    stop = threading.Event()
    iterator = case.make().chunks({}, stop)
    assert next(chunk for chunk in iterator if chunk) is not None
    stop.set()
    assert [chunk for chunk in iterator if chunk] == []


def test_a_set_stop_yields_nothing(case: Case) -> None:
    stop = threading.Event()
    stop.set()
    assert [chunk for chunk in case.make().chunks({}, stop) if chunk] == []


def n_open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_giving_up_closes_every_file(case: Case) -> None:
    source = case.make()
    before = n_open_files()
    iterator = source.chunks({}, threading.Event())
    assert next(chunk for chunk in iterator if chunk) is not None
    iterator.close()  # type: ignore[attr-defined]
    assert n_open_files() == before
