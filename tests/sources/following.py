"""Followed files. Each wait of the source is one step of the timeline (250 ms)."""

from collections.abc import Callable, Mapping
from pathlib import Path

from kldrift.records.formats import Format
from kldrift.records.samples import Chunk
from kldrift.records.sources import FileSourceConfig
from kldrift.sources.base import Surroundings
from kldrift.sources.file import FileSource
from tests.sources.timeline import Position, Timeline, chunks_of, quiet

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
    rotate_wait_ms: int = ROTATE_WAIT_MS,
    lost: list[int] | None = None,
    **options: object,
) -> list[Chunk]:
    def on_error(reason: str, detail: str) -> None:
        assert errors is not None, detail
        errors.append((reason, detail))

    def on_lost(n_bytes: int, detail: str) -> None:
        assert lost is not None, detail
        lost.append(n_bytes)

    file_format: Format = "parquet" if "count_rows" in options else "csv" if header else "ndjson"
    made = FileSource(
        FileSourceConfig(
            name="files", path=str(pattern), format=file_format, follow=True, rotate_wait_ms=rotate_wait_ms
        ),
        Surroundings(clock_ms=timeline.clock_ms, on_error=on_error, on_lost=on_lost),
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


def replace_by(path: Path, data: bytes) -> Callable[[], object]:
    """As rsync, editors and ``mv`` do."""

    def step() -> None:
        new = path.with_name(".new")
        new.write_bytes(data)
        new.rename(path)

    return step
