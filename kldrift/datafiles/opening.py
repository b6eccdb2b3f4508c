"""Opening data files (Parquet, CSV and NDJSON, the last two also compressed), and what is wrong with those that cannot
be read.
"""

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import zstandard

from kldrift.errors import DataFileProblem, DecodeError, SourceError
from kldrift.records.formats import EXPECTED_NAME, FORMATS, Format, format_of
from kldrift.records.samples import Chunk
from kldrift.records.sources import FileSourceConfig
from kldrift.sources.base import Surroundings
from kldrift.sources.contents import line_ends
from kldrift.sources.file import FileSource
from kldrift.wire import parquet
from kldrift.wire.parquet import READ_ERRORS, reason

_HINTS: Final = {"utf": "; save it as UTF-8", "fields": "; give every line as many fields as the header"}
_SUSPECT_SEPARATORS: Final = {";": "semicolons", "\t": "tabs", "|": "bars"}
_NUMBER: Final = re.compile(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?")
#: Longer records are skipped. No line comes near the first; an unclosed quote makes one record of the rest of a file.
_MAX_LINE_BYTES: Final = 1 << 30
_MAX_QUOTED_BYTES: Final = 16 << 20


@contextmanager
def reading(path: Path, data_format: Format | None = None) -> Iterator[Format]:
    """Check that a data file can be read, and put what goes wrong while it is read into words.

    Parameters
    ----------
    data_format : of the file; by default what its name says

    Raises
    ------
    DataFileProblem
        it is missing, empty, not called as its format is, or cannot be read
    """
    found = data_format or format_of(path)
    if path.is_dir():
        raise DataFileProblem(f"{path}: expected a file, got a directory; give one of the files in it")
    if not path.exists():
        raise DataFileProblem(f"{path}: expected a data file, found none; check the path")
    if found is None:
        raise DataFileProblem(f"{path}: expected {EXPECTED_NAME}; rename it, or convert it to one of these")
    if not path.is_file():
        raise DataFileProblem(f"{path}: expected a file, which is read twice, got a pipe or a device; save it first")
    try:
        with path.open("rb") as file:
            head = file.read(len(parquet.MAGIC))
        if not head:
            raise DataFileProblem(f"{path}: expected rows of data, got an empty file")
        if head == parquet.MAGIC and FORMATS[found].is_stream:
            raise DataFileProblem(f"{path}: expected {found}, got a Parquet file; name it .parquet")
        yield found
    except (*READ_ERRORS, EOFError, zstandard.ZstdError) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else reason(error)
        hint = next((hint for word, hint in _HINTS.items() if word in what.lower()), "")
        raise DataFileProblem(f"{path}: cannot be read as {found}: {what}{hint}") from None
    except DecodeError as error:
        raise DataFileProblem(f"{path}: {error}") from None


def line_chunks(path: Path, data_format: Format) -> Iterator[Chunk]:
    """Read a file in chunks of whole lines, decompressed.

    Raises
    ------
    DataFileProblem
        it cannot be read to its end
    """
    problems: list[str] = []
    source = FileSource(
        FileSourceConfig(name=path.name, path=str(path), format=data_format),
        Surroundings(clock_ms=lambda: 0, on_error=lambda _, detail: problems.append(detail)),
        max_record_bytes=_MAX_QUOTED_BYTES if FORMATS[data_format].header else _MAX_LINE_BYTES,
    )
    try:
        with closing(source.chunks({}, threading.Event())) as chunks:
            yield from (chunk for chunk in chunks if chunk is not None)
    except SourceError as error:
        raise DataFileProblem(problems[0] if problems else str(error)) from None


def check_header(path: Path, names: Sequence[str]) -> list[str]:
    """Return what is odd about the names in a header line.

    Raises
    ------
    DataFileProblem
        the columns are not separated by commas, or the lines end with carriage returns alone
    """
    if any("\0" in name for name in names):
        raise DataFileProblem(f"{path}: expected a header line of names, got binary data")
    if any("\r" in name for name in names):
        raise DataFileProblem(line_ends(str(path)))
    if len(names) == 1:
        for separator, word in _SUSPECT_SEPARATORS.items():
            if separator in names[0]:
                raise DataFileProblem(f"{path}: expected comma separated columns, got {word}; separate them by commas")
    if all(map(_NUMBER.fullmatch, names)):
        return ["all column names are numbers: does the first line name the columns?"]
    return []
