"""Flatbuffers, as far as Arrow metadata needs them, read from untrusted bytes.

Every place is checked: what points outside the data raises `struct.error` or `DecodeError`.

References
----------
https://flatbuffers.dev/internals/
"""

import struct
from typing import Final

import numpy as np
import numpy.typing as npt

from kldrift.errors import DecodeError

_MAX_TABLES: Final = 20_000


class FlatTable:
    """A flatbuffers table: fields found through its vtable, by number."""

    __slots__ = ("_data", "_position", "_size", "_vtable")

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position
        self._vtable = position - read_number("<i", data, position)
        self._size = read_number("<H", data, self._vtable)

    def _at(self, field: int) -> int | None:
        slot = 4 + 2 * field
        if slot + 2 > self._size:
            return None
        offset = read_number("<H", self._data, self._vtable + slot)
        return self._position + offset if offset else None

    def number(self, field: int, kind: str, default: int = 0) -> int:
        """Read a scalar of a struct format."""
        at = self._at(field)
        return default if at is None else read_number(kind, self._data, at)

    def table(self, field: int) -> "FlatTable | None":
        """Read a nested table."""
        at = self._at(field)
        return None if at is None else FlatTable(self._data, at + read_number("<I", self._data, at))

    def _vector(self, field: int) -> tuple[int, int]:
        at = self._at(field)
        if at is None:
            return 0, 0
        at += read_number("<I", self._data, at)
        return at + 4, read_number("<I", self._data, at)

    def text(self, field: int) -> str:
        """Read a string."""
        start, n = self._vector(field)
        if start + n > len(self._data):
            raise DecodeError("a name extends beyond the end of the metadata")
        return self._data[start : start + n].decode("utf-8", "replace")

    def tables(self, field: int) -> list["FlatTable"]:
        """Read a vector of tables."""
        start, n = self._vector(field)
        if n > _MAX_TABLES:
            raise DecodeError(f"{n} tables in one vector, at most {_MAX_TABLES} are supported")
        positions = range(start, start + 4 * n, 4)
        return [FlatTable(self._data, at + read_number("<I", self._data, at)) for at in positions]

    def integers(self, field: int, width: int) -> npt.NDArray[np.int64]:
        """Read a vector of structs of `width` int64, as (n, width)."""
        start, n = self._vector(field)
        if start + 8 * width * n > len(self._data):
            raise DecodeError("a vector extends beyond the end of the metadata")
        return np.frombuffer(self._data, dtype="<i8", count=n * width, offset=start).reshape(n, width)


def read_number(kind: str, data: bytes, at: int) -> int:
    """Read a number of a struct format at a position."""
    if at < 0:
        raise DecodeError("an offset points before the start of the metadata")
    value: int = struct.unpack_from(kind, data, at)[0]
    return value
