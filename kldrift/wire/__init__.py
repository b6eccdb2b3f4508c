"""Bytes to samples.

A bad value costs itself, a bad row its row, a bad body its body, and nothing else; each is counted and reported.

Each format has a module here; `BODY_FORMATS` and `FILE_FORMATS` say which. What else the rest of kldrift needs to know
about a format is in `kldrift.records.formats`.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import polars as pl

from kldrift.errors import DecodeError
from kldrift.kernels.bin_table import BinTable
from kldrift.records.formats import Format, missing_texts_of
from kldrift.records.samples import BatchSchema, Decoded, RowRange
from kldrift.wire import arrow, csv, json, ndjson, parquet
from kldrift.wire.parquet import READ_ERRORS
from kldrift.wire.plan import Plan, plan_for
from kldrift.wire.tables import Decoding, finish


class _BodyFormat(Protocol):
    """A module for a format that comes as bytes."""

    def decode(self, bodies: Sequence[bytes], plan: Plan, header: bytes, bins: BinTable | None, /) -> Decoding:
        """Decode bodies; `header` and `bins` as for the function `decode` below, for formats that use them."""
        ...

    def field_names(self, body: bytes, header: bytes, /) -> Iterable[str]:
        """Name the fields of the first record; none where finding out would cost much."""
        ...


class _Table(Protocol):
    """A module for a format whose files can be read as a table."""

    def scan(self, path: Path, /, *, lenient: bool = False) -> pl.LazyFrame:
        """Read a file lazily; `lenient` cuts rows with too many fields, which otherwise spoil the file."""
        ...


class _FileFormat(_Table, Protocol):
    """A module for a format whose files must be complete to be read."""

    def decode(self, rows: RowRange, plan: Plan, /) -> Decoding:
        """Decode some rows of a file, as one body."""
        ...

    def count_rows(self, path: Path, /) -> int:
        """Count the rows of a file; raises `DecodeError` where it is not readable."""
        ...


BODY_FORMATS: Final[Mapping[Format, _BodyFormat]] = {"ndjson": ndjson, "json": json, "csv": csv, "arrow": arrow}
FILE_FORMATS: Final[Mapping[Format, _FileFormat]] = {"parquet": parquet}

#: Formats whose files can be read as a table; the columns of those with a header are text.
TABLES: Final[Mapping[Format, _Table]] = {"csv": csv, **FILE_FORMATS}


def decode(
    body_format: Format,
    bodies: Sequence[bytes],
    schema: BatchSchema,
    *,
    header: bytes = b"",
    bins: BinTable | None = None,
) -> Decoded:
    """Decode bodies into one batch, their rows one after another.

    Parameters
    ----------
    body_format : of the bytes; a format read by row ranges is not a stream of bytes, see `decode_rows`
    header : the header line of bodies that have none of their own (the later chunks of a CSV file)
    bins : of the schema's columns: rows may be counted in them right away (`SampleBatch.counts`)
    """
    plan = plan_for(schema, missing_texts_of(body_format, schema.missing_values))
    return finish(BODY_FORMATS[body_format].decode(bodies, plan, header, bins if plan.countable else None), plan)


def decode_rows(file_format: Format, rows: RowRange, schema: BatchSchema) -> Decoded:
    """Decode some rows of a file into one batch, as one body."""
    plan = plan_for(schema, missing_texts_of(file_format, schema.missing_values))
    return finish(FILE_FORMATS[file_format].decode(rows, plan), plan)


def count_rows(file_format: Format, path: Path) -> int:
    """Count the rows of a file whose format is read by row ranges.

    Raises
    ------
    DecodeError
        it is not a readable file of this format
    """
    return FILE_FORMATS[file_format].count_rows(path)


def field_names(data_format: Format, payload: bytes | RowRange, header: bytes = b"") -> frozenset[str]:
    """Name the fields of the first record, to see which of them nobody watches.

    None are named where finding out would cost much, or the data is bad: the decoder says what is wrong with it.
    """
    try:
        if isinstance(payload, RowRange):
            return frozenset(FILE_FORMATS[data_format].scan(payload.path).collect_schema().names())
        return frozenset(BODY_FORMATS[data_format].field_names(payload, header))
    except (*READ_ERRORS, DecodeError):
        return frozenset()
