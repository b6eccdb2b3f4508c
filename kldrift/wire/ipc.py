"""Arrow IPC streams, read from untrusted bytes.

A native reader that believes the lengths in the metadata asks for more memory than there is, which aborts the process
(measured: a few hundred streams with a corrupted byte are enough to end polars 2.1). Here every length is checked
against the bytes that came, and columns of numbers are views of them.

References
----------
Arrow columnar format, https://arrow.apache.org/docs/format/Columnar.html; Message.fbs and Schema.fbs, version 5.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from kldrift.errors import DecodeError
from kldrift.wire.flatbuffers import FlatTable, read_number
from kldrift.wire.ipc_schema import ArrowType, Field, read_schema

_CONTINUATION: Final = b"\xff\xff\xff\xff"

_SCHEMA, _DICTIONARY, _RECORDS = 1, 2, 3

#: Buffers of a field; its children have their own.
_BUFFERS: Final = {
    "null": 0, "struct": 1, "fixed_list": 1, "run_end_encoded": 0, "binary": 3, "utf8": 3, "large_binary": 3,
    "large_utf8": 3, "list_view": 3, "large_list_view": 3,
}  # fmt: skip
_VIEWS: Final = ("binary_view", "utf8_view")


@dataclass(frozen=True, slots=True)
class Values:
    """Decoded values of a column.

    Parameters
    ----------
    numbers : (n,) for types with fixed-size values, else None
    texts : UTF-8 of the values of a string column, else None
    valid : (n,) bool; None if no value is null
    index : (n,) position of each value among `numbers` or `texts`, for a dictionary column; else None
    items : the elements of a column of lists of numbers, one list after another; else None
    offsets : (n + 1,) where each of these lists begins among the items, and where the last one ends
    """

    n: int
    type: ArrowType
    numbers: npt.NDArray[np.generic] | None = None
    texts: Sequence[bytes] | None = None
    valid: npt.NDArray[np.bool_] | None = None
    index: npt.NDArray[np.int64] | None = None
    items: "Values | None" = None
    offsets: npt.NDArray[np.int64] | None = None


#: What reading at positions taken from the bytes can raise.
_INCONSISTENT = (struct.error, IndexError, ValueError, KeyError, OverflowError, TypeError, MemoryError)


def read_stream(body: bytes, wanted: frozenset[str]) -> Iterator[tuple[int, dict[str, Values]]]:
    """Yield the record batches of a stream: number of rows, and the values of the wanted columns it has.

    The first item is of no rows and has every wanted column, so that the schema is known without a batch.

    Raises
    ------
    DecodeError
        what was expected and what came
    """
    try:
        yield from _read_stream(body, wanted)
    except _INCONSISTENT as error:
        raise DecodeError(f"inconsistent metadata ({error or type(error).__name__})") from None


def stream_fields(body: bytes) -> frozenset[str]:
    """Return the names of all columns of a stream; raises what `read_stream` raises."""
    try:
        metadata, _ = _metadata(body, 0)
        return frozenset() if metadata is None else frozenset(field.name for field in read_schema(metadata))
    except _INCONSISTENT as error:
        raise DecodeError(f"inconsistent metadata ({error or type(error).__name__})") from None


def _read_stream(body: bytes, wanted: frozenset[str]) -> Iterator[tuple[int, dict[str, Values]]]:
    fields: tuple[Field, ...] | None = None
    dictionaries = Dictionaries()
    at = 0
    while at < len(body):
        metadata, at = _metadata(body, at)
        if metadata is None:
            break
        message = FlatTable(metadata, read_number("<I", metadata, 0))
        header_type, size = message.number(1, "<B"), message.number(3, "<q")
        if size < 0 or at + size > len(body):
            raise DecodeError(f"the stream is cut short: expected {size} more bytes, got {len(body) - at}")
        header = message.table(2)
        if header is None:
            raise DecodeError("a message without a header")
        if header_type == _SCHEMA:
            fields = read_schema(metadata)
            dictionaries.describe(fields)
            yield 0, {field.name: Values(0, field.type) for field in fields if field.name in wanted}
        elif fields is None:
            raise DecodeError("expected a schema first")
        elif header_type == _DICTIONARY:
            _add_dictionary(header, body, at, size, dictionaries)
        elif header_type == _RECORDS:
            yield _Batch(header, body, at, size).columns(fields, wanted, dictionaries)
        else:
            raise DecodeError(f"expected record batches, got a message of type {header_type}")
        at += size
    if fields is None:
        raise DecodeError("expected a schema, got the end of the stream")


def _metadata(body: bytes, at: int) -> tuple[bytes | None, int]:
    """Return the metadata of the next message and where its body begins; None at the end of the stream."""
    if body[at : at + 4] != _CONTINUATION:
        if body.startswith(b"ARROW1"):
            raise DecodeError("this is the Arrow file format; send the stream format")
        raise DecodeError(f"expected a message at byte {at}, got {body[at : at + 4]!r}")
    if at + 8 > len(body):
        raise DecodeError("the stream is cut short within a message")
    n = read_number("<i", body, at + 4)
    if n == 0:
        return None, at + 8
    if n < 0 or at + 8 + n > len(body):
        raise DecodeError(f"the stream is cut short: expected {n} bytes of metadata, got {len(body) - at - 8}")
    return body[at + 8 : at + 8 + n], at + 8 + n


# --- record batches -------------------------------------------------------------------------------


def _add_dictionary(header: FlatTable, body: bytes, at: int, size: int, known: "Dictionaries") -> None:
    key = header.number(0, "<q")
    data = header.table(1)
    field = known.fields.get(key)
    if data is None:
        raise DecodeError("a dictionary without values")
    if field is None:  # belongs to a nested column, which is not read
        return
    plain = Field(field.name, field.type, field.children, field.union_buffers)
    _, columns = _Batch(data, body, at, size).columns([plain], frozenset([field.name]), known)
    known.add(key, columns[field.name], delta=bool(header.number(2, "<B")))


class Dictionaries:
    """The dictionaries of a stream so far.

    Deltas are appended in place: a stream may have as many as it has messages. What was read with fewer values stays
    right, since no value changes its position.
    """

    def __init__(self) -> None:
        #: The column that each belongs to, by key.
        self.fields: dict[int, Field] = {}
        self._texts: dict[int, list[bytes]] = {}
        self._valid: dict[int, npt.NDArray[np.bool_]] = {}  # with room to grow; none where all are valid
        self._values: dict[int, Values] = {}

    def describe(self, fields: Sequence[Field]) -> None:
        """Take note of the columns of a schema; of several with one dictionary, the first."""
        self.fields = {field.dictionary: field for field in reversed(fields) if field.dictionary is not None}

    def __getitem__(self, key: int) -> Values:
        return self._values[key]

    def add(self, key: int, new: Values, delta: bool) -> None:
        """Replace a dictionary, or append to it."""
        old = self._values.get(key) if delta else None
        if old is None:
            self._values[key] = new
            self._valid.pop(key, None)
            self._texts.pop(key, None)
            return
        if old.texts is None or new.texts is None:
            raise DecodeError("a delta dictionary of other than strings")
        if key not in self._texts:
            self._texts[key] = list(old.texts)
        texts = self._texts[key]
        texts += new.texts
        n = old.n + new.n
        valid = None
        if old.valid is not None or new.valid is not None:
            room = self._valid.get(key)
            if room is None or room.size < n:
                room = self._valid[key] = np.ones(2 * n, dtype=np.bool_)
                room[: old.n] = True if old.valid is None else old.valid
            room[old.n : n] = True if new.valid is None else new.valid
            valid = room[:n]
        self._values[key] = Values(n, old.type, None, texts, valid)


class _Node(NamedTuple):
    """The part of a record batch that belongs to a field: number of values and nulls, (offset, size) of its buffers."""

    n: int
    n_null: int
    buffers: list[list[int]]
    children: list["_Node"]


class _Batch:
    """A record batch, read field by field."""

    def __init__(self, header: FlatTable, body: bytes, at: int, size: int) -> None:
        if header.table(3) is not None:
            raise DecodeError(
                "compressed record batches; send them uncompressed, or compress the body (Content-Encoding)"
            )
        self._body, self._at = body, at
        self._size = size
        self.n_rows = header.number(0, "<q")
        self._nodes: list[list[int]] = header.integers(1, 2).tolist()
        buffers = header.integers(2, 2)
        if self.n_rows < 0 or (buffers < 0).any() or (buffers.sum(axis=1) > size).any():
            raise DecodeError("a buffer extends beyond the end of its record batch")
        self._buffers: list[list[int]] = buffers.tolist()
        self._variadic: list[int] = header.integers(4, 1)[:, 0].tolist()
        self._node = self._buffer = self._view = 0

    def columns(
        self, fields: Sequence[Field], wanted: frozenset[str], dictionaries: "Dictionaries"
    ) -> tuple[int, dict[str, Values]]:
        """Read the wanted columns; of several with one name the first."""
        out: dict[str, Values] = {}
        for field in fields:
            node = self._take(field)
            if field.name not in wanted or field.name in out:
                continue
            if node.n != self.n_rows:
                raise DecodeError(f"column {field.name[:80]!r} has {node.n} rows of {self.n_rows}")
            values = self._values(field, node)
            out[field.name] = values if field.dictionary is None else _look_up(values, dictionaries[field.dictionary])
        return self.n_rows, out

    def _take(self, field: Field) -> _Node:
        """Skip a field and its children."""
        name = field.type.name
        n = 2 if field.dictionary is not None else _BUFFERS.get(name, 2)
        if field.dictionary is None and name in _VIEWS:
            n = 2 + self._variadic[self._view]
            self._view += 1
        elif field.dictionary is None and name == "union":
            n = field.union_buffers
        if n < 0 or self._buffer + n > len(self._buffers) or self._node >= len(self._nodes):
            raise DecodeError("fewer buffers than columns")
        buffers = self._buffers[self._buffer : self._buffer + n]
        length, n_null = self._nodes[self._node]
        if length < 0:
            raise DecodeError("a column of negative length")
        self._buffer += n
        self._node += 1
        # not even an empty comprehension for a plain column: there may be thousands
        children = (
            [self._take(child) for child in field.children] if field.children and field.dictionary is None else []
        )
        return _Node(length, n_null, buffers, children)

    def _array(self, buffer: list[int], dtype: str, n: int) -> npt.NDArray[np.generic]:
        """Return a view of the first `n` values of a buffer."""
        offset, size = buffer
        kind = np.dtype(dtype)
        if n * kind.itemsize > size:
            raise DecodeError(f"expected {n * kind.itemsize} bytes in a buffer, got {size}")
        array: npt.NDArray[np.generic] = np.frombuffer(self._body, kind, n, self._at + offset)
        return array if array.flags.aligned else array.copy()

    def _bits(self, buffer: list[int], n: int) -> npt.NDArray[np.bool_]:
        packed = self._array(buffer, "u1", (n + 7) // 8)
        bits: npt.NDArray[np.uint8] = np.unpackbits(packed.view(np.uint8), count=n, bitorder="little")
        return bits.view(np.bool_)

    def _values(self, field: Field, node: _Node) -> Values:
        n, kind, buffers = node.n, field.type, node.buffers
        if kind.name == "null" and field.dictionary is None:
            return Values(n, kind)
        # A struct, or a list of anything but numbers, is never a value; its validity says where there was one.
        valid = self._bits(buffers[0], n) if buffers and node.n_null and buffers[0][1] else None
        if field.dictionary is not None:
            index = self._array(buffers[1], field.index, n).astype(np.int64)
            return Values(n, kind, valid=valid, index=index)
        if kind.dtype is not None:
            return Values(n, kind, self._array(buffers[1], kind.dtype, n), valid=valid)
        if kind.name == "bool":
            return Values(n, kind, self._bits(buffers[1], n), valid=valid)
        if kind.name in ("utf8", "large_utf8"):
            wide = kind.name == "large_utf8"
            return Values(n, kind, texts=self._texts(buffers, "<i8" if wide else "<i4", n) if n else [], valid=valid)
        if kind.name == "utf8_view":
            return Values(n, kind, texts=self._view_texts(buffers, valid, n), valid=valid)
        if n and field.lists_numbers:
            items = self._values(field.children[0], node.children[0])
            return Values(n, kind, valid=valid, items=items, offsets=self._starts(kind, node))
        return Values(n, kind, valid=valid)

    def _starts(self, kind: ArrowType, node: _Node) -> npt.NDArray[np.int64]:
        """Return where each list of a column begins among its elements, and where the last one ends."""
        n_items = node.children[0].n
        if kind.name == "fixed_list":
            if kind.size * node.n > n_items:
                raise DecodeError(f"{n_items} elements in {node.n} lists of {kind.size}")
            return np.arange(node.n + 1, dtype=np.int64) * kind.size
        offsets = self._array(node.buffers[1], "<i8" if kind.name == "large_list" else "<i4", node.n + 1)
        starts = offsets.astype(np.int64)
        if starts[0] < 0 or starts[-1] > n_items or (starts[1:] < starts[:-1]).any():
            raise DecodeError("lists extend beyond the end of their elements")
        return starts

    def _texts(self, buffers: list[list[int]], dtype: str, n: int) -> list[bytes]:
        ends = self._array(buffers[1], dtype, n + 1).view(dtype)
        start, size = self._at + buffers[2][0], buffers[2][1]
        if ends[0] < 0 or ends[-1] > size or (ends[1:] < ends[:-1]).any():
            raise DecodeError("strings extend beyond the end of their buffer")
        places = (ends.astype(np.int64) + start).tolist()
        body = self._body
        return [body[a:b] for a, b in pairwise(places)]

    def _view_texts(self, buffers: list[list[int]], valid: npt.NDArray[np.bool_] | None, n_texts: int) -> list[bytes]:
        """Read string views: 4 bytes of length, then the string itself if it has up to 12 bytes, else its position."""
        views = self._array(buffers[1], "V16", n_texts).view("<i4").reshape(-1, 4)
        lengths = views[:, 0].astype(np.int64)
        if valid is not None:
            lengths = np.where(valid, lengths, 0)
        if (lengths < 0).any():
            raise DecodeError("a string of negative length")
        body = self._body
        first = self._at + buffers[1][0] + 4
        starts = range(first, first + 16 * n_texts, 16)
        texts = [body[a : a + n] for a, n in zip(starts, np.minimum(lengths, 12).tolist(), strict=True)]
        far = np.flatnonzero(lengths > 12)
        if len(far):
            places = np.column_stack([views[far, 2], views[far, 3], lengths[far]])
            for row, text in zip(far.tolist(), self._far_texts(places, buffers[2:]), strict=True):
                texts[row] = text
        return texts

    def _far_texts(self, places: npt.NDArray[np.int64], buffers: list[list[int]]) -> list[bytes]:
        """Read strings at (buffer, offset, length). Writers let equal strings share bytes, so each is read once."""
        distinct, inverse = np.unique(places, axis=0, return_inverse=True)
        which, offset, length = distinct.T
        extents = np.array(buffers, dtype=np.int64).reshape(-1, 2)
        if (which < 0).any() or (which >= len(extents)).any() or (offset < 0).any():
            raise DecodeError("a string that is in no buffer")
        if (offset + length > extents[which, 1]).any():
            raise DecodeError("strings extend beyond the end of their buffer")
        if int(length.sum()) > 16 * self._size:  # they may overlap: a short body could claim terabytes
            raise DecodeError("strings that are together far longer than the body")
        starts = self._at + extents[which, 0] + offset
        texts = [self._body[a : a + n] for a, n in zip(starts.tolist(), length.tolist(), strict=True)]
        return [texts[i] for i in inverse.ravel().tolist()]


def _look_up(index: Values, dictionary: Values) -> Values:
    """Return the values of a dictionary column: the dictionary, and the position of each value in it."""
    assert index.index is not None
    places = index.index if index.valid is None else np.where(index.valid, index.index, 0)
    valid = index.valid
    if dictionary.n == 0 and (valid is None or valid.any()):
        raise DecodeError("values of an empty dictionary") if index.n else DecodeError("an empty dictionary")
    if dictionary.n and ((places < 0).any() or (places >= dictionary.n).any()):
        raise DecodeError(f"an index beyond the {dictionary.n} values of its dictionary")
    if dictionary.valid is not None and dictionary.n:
        there = dictionary.valid[places]
        valid = there if valid is None else valid & there
    return Values(index.n, dictionary.type, dictionary.numbers, dictionary.texts, valid, places)
