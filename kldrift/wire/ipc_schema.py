"""The schema message of an Arrow IPC stream: names and types of its columns.

References
----------
https://github.com/apache/arrow/blob/main/format/Schema.fbs, version 5.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from kldrift.errors import DecodeError
from kldrift.wire.flatbuffers import FlatTable, read_number

_MAX_DEPTH: Final = 32
_MAX_FIELDS: Final = 20_000

#: Names of the type codes, by position.
_TYPES: Final = (
    "none", "null", "int", "float", "binary", "utf8", "bool", "decimal", "date", "time", "timestamp",
    "interval", "list", "struct", "union", "fixed_binary", "fixed_list", "map", "duration", "large_binary",
    "large_utf8", "large_list", "run_end_encoded", "binary_view", "utf8_view", "list_view",
    "large_list_view",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ArrowType:
    """A type: its name, the numpy type of its fixed-size values if it has one, and its unit or scale.

    `ms_per_unit` is that of dates, timestamps and durations, `scale` the decimal places, `size` the elements of a list
    of fixed size.
    """

    name: str
    dtype: str | None = None
    ms_per_unit: float = 0.0
    scale: int = 0
    size: int = 0

    @property
    def is_number(self) -> bool:
        """Whether its values are numbers."""
        return self.dtype is not None and self.name in ("int", "float", "decimal")

    @property
    def is_time(self) -> bool:
        """Whether its values are instants."""
        return self.name in ("date", "timestamp")


@dataclass(frozen=True, slots=True)
class Field:
    """A column of the schema; `dictionary` is the id of the dictionary that its `index` points into."""

    name: str
    type: ArrowType
    children: tuple["Field", ...] = ()
    union_buffers: int = 0
    dictionary: int | None = None
    index: str = "<i4"

    @property
    def lists_numbers(self) -> bool:
        """Whether its values are lists of numbers; lists of length 0 are excluded: a few bytes can claim a trillion."""
        if self.type.name not in ("list", "large_list") and not (self.type.name == "fixed_list" and self.type.size > 0):
            return False
        return self.children[0].type.is_number and self.children[0].dictionary is None


@lru_cache(maxsize=32)
def read_schema(metadata: bytes) -> tuple[Field, ...]:
    """Return the fields of a schema message; cached, because a client sends the same one with each body."""
    header = FlatTable(metadata, read_number("<I", metadata, 0)).table(2)
    assert header is not None
    if header.number(0, "<h") != 0:
        raise DecodeError("big-endian data; send little-endian")
    budget = _Budget(_MAX_FIELDS, len(metadata))
    return tuple(_field(table, 0, budget) for table in header.tables(1))


@dataclass(slots=True)
class _Budget:
    """How much more a schema may contain; tables and names can be shared, so its size bounds neither."""

    fields: int
    characters: int


def _field(table: FlatTable, depth: int, budget: _Budget) -> Field:
    name = table.text(0)
    budget.fields -= 1
    budget.characters -= len(name)
    if depth > _MAX_DEPTH or budget.fields < 0 or budget.characters < 0:
        raise DecodeError("a schema with too many columns or too deep nesting")
    code = table.number(2, "<B")
    if not 1 <= code < len(_TYPES):
        raise DecodeError(f"a column of unknown type {code}")
    kind = _TYPES[code]
    detail = table.table(3)
    encoding = table.table(4)
    index = "<i4"
    if encoding is not None and (index_type := encoding.table(1)) is not None:
        index = _integer_dtype(index_type)
    return Field(
        name,
        _type(kind, detail),
        tuple(_field(child, depth + 1, budget) for child in table.tables(5)),
        1 + (detail is not None and detail.number(0, "<h") == 1),
        None if encoding is None else encoding.number(0, "<q"),
        index,
    )


def _integer_dtype(table: FlatTable) -> str:
    bits = table.number(0, "<i")
    if bits not in (8, 16, 32, 64):
        raise DecodeError(f"integers of {bits} bits")
    return f"<{'i' if table.number(1, '<B') else 'u'}{bits // 8}"


def _type(name: str, detail: FlatTable | None) -> ArrowType:
    if detail is None:
        return ArrowType(name)
    if name == "int":
        return ArrowType(name, _integer_dtype(detail))
    if name == "float":
        return ArrowType(name, {0: "<f2", 1: "<f4", 2: "<f8"}[detail.number(0, "<h")])
    if name == "decimal":
        bits = detail.number(2, "<i", 128)
        dtype = {32: "<i4", 64: "<i8", 128: "<V16"}.get(bits)
        return ArrowType(name, dtype, scale=detail.number(1, "<i"))
    if name == "date":
        return ArrowType(name, "<i4", 86_400_000.0) if detail.number(0, "<h", 1) == 0 else ArrowType(name, "<i8", 1.0)
    if name in ("timestamp", "duration"):
        default = 0 if name == "timestamp" else 1
        return ArrowType(name, "<i8", {0: 1e3, 1: 1.0, 2: 1e-3, 3: 1e-6}[detail.number(0, "<h", default)])
    if name == "fixed_list":
        return ArrowType(name, size=detail.number(0, "<i"))
    return ArrowType(name)
