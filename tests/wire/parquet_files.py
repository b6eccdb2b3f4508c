"""Parquet files with columns that polars does not write: plain, uncompressed, without nulls, in one row group."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

#: A Thrift value: a struct by its field numbers, a list, an i32, an i64 (as a tuple of one), or bytes.
Value = "dict[int, Value] | list[Value] | int | tuple[int] | bytes"

DOUBLE, FIXED = 5, 7


@dataclass(frozen=True)
class Stored:
    """A column: its physical type, its bytes, and further fields of its SchemaElement."""

    name: str
    type: int
    body: bytes
    element: dict[int, Value] = field(default_factory=dict)


def doubles(name: str, values: Sequence[float]) -> Stored:
    return Stored(name, DOUBLE, struct.pack(f"<{len(values)}d", *values))


def wide_decimals(name: str, values: Sequence[int]) -> Stored:
    """Decimals of 50 digits, two of them behind the point, as pyarrow writes decimal256(50, 2)."""
    body = b"".join(value.to_bytes(21, "big", signed=True) for value in values)
    return Stored(name, FIXED, body, {2: 21, 6: 5, 7: 2, 8: 50, 10: {5: {1: 2, 2: 50}}})


def intervals(name: str, n: int) -> Stored:
    return Stored(name, FIXED, bytes(12 * n), {2: 12, 6: 21})


def parquet(columns: Sequence[Stored], n: int) -> bytes:
    """Return a file of `n` rows."""
    out, chunks = b"PAR1", []
    schema: list[Value] = [{4: b"schema", 5: len(columns)}]
    for column in columns:
        name = column.name.encode()
        schema.append({1: column.type, 3: 0, 4: name, **column.element})
        size = len(column.body)
        page = _struct({1: 0, 2: size, 3: size, 5: {1: n, 2: 0, 3: 3, 4: 3}}) + column.body
        about = {1: column.type, 2: [0], 3: [name], 4: 0, 5: (n,), 6: (len(page),), 7: (len(page),), 9: (len(out),)}
        chunks.append({2: (len(out),), 3: about})
        out += page
    footer = _struct({1: 1, 2: schema, 3: (n,), 4: [{1: chunks, 2: (len(out),), 3: (n,)}]})
    return out + footer + struct.pack("<I", len(footer)) + b"PAR1"


def _struct(fields: "dict[int, Value]") -> bytes:
    out, last = b"", 0
    for number in sorted(fields):
        kind, body = _value(fields[number])
        out += bytes([(number - last) << 4 | kind]) + body
        last = number
    return out + b"\0"


def _value(value: Value) -> tuple[int, bytes]:
    """Return the type of the compact protocol, and the bytes."""
    if isinstance(value, dict):
        return 12, _struct(value)
    if isinstance(value, list):
        items = [_value(item) for item in value]
        kind = items[0][0]
        head = bytes([len(items) << 4 | kind]) if len(items) < 15 else bytes([0xF0 | kind]) + _varint(len(items))
        return 9, head + b"".join(body for _, body in items)
    if isinstance(value, bytes):
        return 8, _varint(len(value)) + value
    return (6, _varint(value[0] << 1)) if isinstance(value, tuple) else (5, _varint(value << 1))


def _varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])
