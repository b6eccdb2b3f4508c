"""Bytes to samples: NDJSON, JSON, CSV, Arrow IPC streams, Parquet.

A bad value costs itself, a bad row its row, a bad body its body, and nothing else; each is counted and told.
"""

from collections.abc import Sequence
from pathlib import Path

from kldrift.kernels.bin_table import BinTable
from kldrift.records.samples import BatchSchema, Decoded
from kldrift.records.types import Format
from kldrift.wire import arrow, csv, json, ndjson, parquet
from kldrift.wire.fields import field_names, file_field_names
from kldrift.wire.plan import plan_for
from kldrift.wire.tables import finish

__all__ = [
    "decode",
    "decode_rows",
    "field_names",
    "file_field_names",
    "parquet_rows",
]


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
    body_format : of the bytes; Parquet is not a stream of bytes, see `decode_rows`
    header : the header line of CSV bodies that have none of their own (the later chunks of a file)
    bins : of the schema's columns: rows may be counted in them right away (`SampleBatch.counts`)
    """
    plan = plan_for(schema)
    match body_format:
        case "ndjson":
            decoding = ndjson.decode(bodies, plan, bins)
        case "json":
            decoding = json.decode(bodies, plan, bins)
        case "csv":
            decoding = csv.decode(bodies, plan, header, bins)
        case "arrow":
            decoding = arrow.decode(bodies, plan)
        case "parquet":
            raise ValueError("Parquet is read by row ranges of a file: decode_rows")
    return finish(decoding, plan)


def decode_rows(path: Path, start: int, stop: int, schema: BatchSchema) -> Decoded:
    """Decode rows `start` to `stop` of a Parquet file into one batch, as one body."""
    plan = plan_for(schema)
    return finish(parquet.decode(path, start, stop, plan), plan)


def parquet_rows(path: Path) -> int:
    """Rows of a Parquet file.

    Raises
    ------
    DecodeError
        it is not a readable Parquet file
    """
    return parquet.rows(path)
