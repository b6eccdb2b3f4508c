"""The names of the fields of a body's first record, to tell which of them nobody watches."""

import csv
from pathlib import Path

import orjson
import polars as pl

from kldrift.errors import DecodeError
from kldrift.records.types import Format
from kldrift.wire.ipc import stream_fields
from kldrift.wire.parquet import READ_ERRORS

#: A JSON body has to be parsed whole to see its first row; larger ones are left alone.
_MAX_JSON_BYTES = 1 << 20

_NONE: frozenset[str] = frozenset()


def field_names(body_format: Format, body: bytes, header: bytes = b"") -> frozenset[str]:
    """Names of the fields of the first record; none where that cannot be told cheaply, or the body is bad."""
    try:
        match body_format:
            case "ndjson":
                return _keys(orjson.loads(body.partition(b"\n")[0]))
            case "json" if len(body) <= _MAX_JSON_BYTES:
                rows = orjson.loads(body)
                return _keys(rows[0] if isinstance(rows, list) and rows else rows)
            case "csv":
                line = (header or body).partition(b"\n")[0].decode("utf-8-sig").rstrip("\r")
                return frozenset(next(csv.reader([line]), []))
            case "arrow":
                return stream_fields(body)
    except (ValueError, csv.Error, DecodeError):  # the decoder says what is wrong with it
        pass
    return _NONE


def file_field_names(path: Path) -> frozenset[str]:
    """Names of the columns of a Parquet file; none where it cannot be read."""
    try:
        return frozenset(pl.scan_parquet(path, glob=False).collect_schema().names())
    except READ_ERRORS:
        return _NONE


def _keys(row: object) -> frozenset[str]:
    return frozenset(row) if isinstance(row, dict) else _NONE
