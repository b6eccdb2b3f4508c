"""Arrow streams with delta dictionaries, which polars does not write: its messages, marked as deltas."""

from io import BytesIO

import polars as pl

_MARK = b"\xff\xff\xff\xff"


def messages(frame: pl.DataFrame) -> list[bytes]:
    """The messages of a frame with one dictionary column: schema, dictionary, record batch."""
    buffer = BytesIO()
    frame.write_ipc_stream(buffer, compat_level=pl.CompatLevel.oldest())
    body = buffer.getvalue()
    found = []
    at = 0
    while (n := int.from_bytes(body[at + 4 : at + 8], "little")) > 0:
        metadata = body[at + 8 : at + 8 + n]
        end = at + 8 + n + _field(metadata, _root(metadata), 3, 8)
        found.append(body[at:end])
        at = end
    return found


def as_delta(message: bytes) -> bytes:
    """A dictionary message with its flag for deltas set: its table gets a vtable that has the flag, at the end."""
    n = int.from_bytes(message[4:8], "little")
    metadata = bytearray(message[8 : 8 + n])
    place = _offset(metadata, _root(metadata), 2)
    table = place + int.from_bytes(metadata[place : place + 4], "little")
    vtable = len(metadata)
    slots = [_slot(metadata, table, i) for i in (0, 1)] + [vtable + 10 - table]
    parts = [10, 8, *slots]
    metadata += b"".join(part.to_bytes(2, "little") for part in parts) + b"\x01"
    metadata += bytes(-len(metadata) % 8)
    metadata[table : table + 4] = (table - vtable).to_bytes(4, "little", signed=True)
    return _MARK + len(metadata).to_bytes(4, "little") + bytes(metadata) + message[8 + n :]


def end() -> bytes:
    """The end of a stream."""
    return _MARK + bytes(4)


def _root(metadata: bytes | bytearray) -> int:
    return int.from_bytes(metadata[:4], "little")


def _slot(metadata: bytes | bytearray, table: int, field: int) -> int:
    vtable = table - int.from_bytes(metadata[table : table + 4], "little", signed=True)
    at = vtable + 4 + 2 * field
    size = int.from_bytes(metadata[vtable : vtable + 2], "little")
    return int.from_bytes(metadata[at : at + 2], "little") if 4 + 2 * field < size else 0


def _offset(metadata: bytes | bytearray, table: int, field: int) -> int:
    return table + _slot(metadata, table, field)


def _field(metadata: bytes | bytearray, table: int, field: int, size: int) -> int:
    slot = _slot(metadata, table, field)
    return int.from_bytes(metadata[table + slot : table + slot + size], "little") if slot else 0
