"""The formats of samples, in one table: where each may come from, what names it, and how it is cut into pieces.

A new format needs an entry here and a decoder in ``kldrift.wire``. Everything else asks this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final, Literal

from kldrift.records.texts import either

Format = Literal["ndjson", "json", "csv", "parquet", "arrow"]
Transport = Literal["http", "file", "stdin", "kafka"]
Framing = Literal["lines", "rows", "body"]


@dataclass(frozen=True, slots=True)
class FormatInfo:
    """What code that handles every format needs to know about one of them.

    Parameters
    ----------
    transports : where it may come from
    framing : ``lines``: a record ends with a newline, so a stream can be cut behind any record; ``rows``: a file that
        must be complete, read by ranges of rows; ``body``: decoded as a whole
    header : the first record names the columns, and the cells of all others are text
    media_types : what a ``Content-Type`` calls it, the usual one first
    suffixes : what the name of a file ends with, the usual one first
    missing_values : texts that stand for a missing value unless the configuration says which do; the empty text always
        does
    """

    transports: tuple[Transport, ...]
    framing: Framing
    header: bool = False
    media_types: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    missing_values: frozenset[str] = frozenset()

    @property
    def is_stream(self) -> bool:
        """Whether a file of it is a stream of bytes, which may be compressed."""
        return self.framing == "lines"


#: What `pandas.read_csv` takes for a missing value.
_OF_PANDAS: Final = frozenset({
    "NA", "N/A", "n/a", "#NA", "#N/A", "#N/A N/A", "<NA>", "NaN", "nan", "-NaN", "-nan", "null", "NULL", "None",
    "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN",
})  # fmt: skip

FORMATS: Final[Mapping[Format, FormatInfo]] = {
    "ndjson": FormatInfo(
        ("http", "file", "stdin", "kafka"),
        "lines",
        media_types=("application/x-ndjson", "application/ndjson", "application/jsonl"),
        suffixes=(".ndjson", ".jsonl"),
    ),
    "json": FormatInfo(("http", "kafka"), "body", media_types=("application/json",)),
    "csv": FormatInfo(
        ("http", "file", "stdin"),
        "lines",
        header=True,
        media_types=("text/csv",),
        suffixes=(".csv",),
        missing_values=_OF_PANDAS | {r"\N"},
    ),
    "parquet": FormatInfo(("file",), "rows", suffixes=(".parquet", ".pq")),
    "arrow": FormatInfo(("http", "kafka"), "body", media_types=("application/vnd.apache.arrow.stream",)),
}

#: Media type -> the format that it names.
MEDIA_TYPES: Final[Mapping[str, Format]] = {
    media_type: name for name, info in FORMATS.items() for media_type in info.media_types
}

#: Suffixes of compressed files, behind that of the format.
COMPRESSIONS: Final = (".gz", ".zst")

_PLACES: Final[Mapping[Transport, str]] = {
    "http": "HTTP", "file": "files", "stdin": "standard input", "kafka": "Kafka",
}  # fmt: skip
_SUFFIXES: Final[Mapping[str, Format]] = {suffix: name for name, info in FORMATS.items() for suffix in info.suffixes}
_COMPRESSED: Final = [suffix for suffix, name in _SUFFIXES.items() if FORMATS[name].is_stream]

#: What a data file must be called, for messages that refuse another name.
EXPECTED_NAME: Final = (
    f"a file named {either(list(_SUFFIXES))} ({either(_COMPRESSED, 'and')} also with {either(COMPRESSIONS)})"
)


def format_of(path: str | PurePath) -> Format | None:
    """Return the format that the name of a file ends with; None where it names none."""
    bare, compressed = _uncompressed(PurePath(path).name)
    found = _SUFFIXES.get(PurePath(bare).suffix.lower())
    return None if found is None or (compressed and not FORMATS[found].is_stream) else found


def stem_of(path: PurePath) -> str:
    """Return the name of a data file without the suffixes of its format and compression."""
    bare, _ = _uncompressed(path.name)
    return PurePath(bare).stem if PurePath(bare).suffix.lower() in _SUFFIXES else bare


def _uncompressed(name: str) -> tuple[str, bool]:
    """The name without the suffix of a compression, and whether it had one."""
    compressed = PurePath(name).suffix.lower() in COMPRESSIONS
    return (PurePath(name).stem if compressed else name), compressed


def formats_from(transport: Transport) -> tuple[Format, ...]:
    """Return the formats that may come from there."""
    return tuple(name for name, info in FORMATS.items() if transport in info.transports)


def missing_texts_of(data_format: Format, configured: frozenset[str] | None) -> frozenset[str]:
    """Return the texts that stand for a missing value: those of the configuration, or else of the format."""
    return FORMATS[data_format].missing_values if configured is None else configured


def why_not_from(transport: Transport) -> dict[str, str]:
    """Say of each other format where it comes from instead."""
    return {
        name: f"{name} can only come from {either([_PLACES[place] for place in info.transports])}"
        for name, info in FORMATS.items()
        if transport not in info.transports
    }
