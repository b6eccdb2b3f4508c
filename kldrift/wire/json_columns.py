"""Large JSON bodies of columns, parsed some values at a time: in memory a value takes up to fifty times its text."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from kldrift.kernels.parsing import json_lines
from kldrift.records.samples import FeatureSchema
from kldrift.records.types import IntArray
from kldrift.wire.json_lines import slices
from kldrift.wire.plan import Plan
from kldrift.wire.rows import column_of, kind_of, parse
from kldrift.wire.tables import Column, Invalid, Table, missing_column, missing_table
from kldrift.wire.timestamps import times_from_values
from kldrift.wire.unknown_fields import unknown_table

#: More members are not looked up one by one: such a body is parsed whole.
_MAX_MEMBERS: Final = 10_000

_QUOTE: Final = ord('"')
#: What a value is that begins with a byte, for those that may be of the wrong type.
_DESCRIPTIONS: Final = np.full(256, "", dtype=np.object_)
for _byte, _value in ((b"[", []), (b"{", {}), (b"t", True), (b"f", False), (b'"', "")):
    _DESCRIPTIONS[_byte[0]] = kind_of(_value)


@dataclass(frozen=True, slots=True)
class Columns:
    """A body of columns.

    Parameters
    ----------
    texts : each column, a list
    lengths : of each column
    """

    texts: dict[str, bytes]
    lengths: dict[str, int]

    def table(self, n_rows: int, plan: Plan) -> Table:
        """Decode the columns that are wanted."""
        if plan.watched.isdisjoint(self.texts):
            return unknown_table(n_rows, self.texts, plan)
        table = missing_table(plan, n_rows)
        columns: list[Column] = list(table.columns)
        invalid: list[Invalid] = []
        for index, feature in enumerate(plan.schema.features):
            if feature.name not in self.texts:
                continue
            columns[index], bad = self._column(feature, index, plan)
            if bad is not None:
                invalid.append(bad)
        event_ms = table.event_ms
        spec = plan.schema.timestamp
        if spec is not None and spec.field in self.texts:
            text, starts, stops = self._elements(spec.field)
            pieces = slices(text, starts, stops, np.arange(starts.size))
            times = [times_from_values(parse(piece), spec) for piece in pieces]
            event_ms = np.concatenate(times) if times else event_ms
        return Table(n_rows, columns, event_ms, invalid)

    def _column(self, feature: FeatureSchema, index: int, plan: Plan) -> tuple[Column, Invalid | None]:
        """Decode one column; a value that is of the wrong type by its first byte is not parsed."""
        text, starts, stops = self._elements(feature.name)
        chars = np.frombuffer(text, dtype=np.uint8)
        firsts = chars[starts]
        is_wrong = _wrong_bytes(feature)[firsts]
        if feature.kind == "numeric" and feature.of is None:
            is_wrong |= (firsts == _QUOTE) & ~_may_begin_missing(plan.missing_texts)[chars[starts + 1]]
        wrong, parsed = np.flatnonzero(is_wrong), np.flatnonzero(~is_wrong)
        column = missing_column(plan, index, starts.size)
        rows, got = [wrong], _DESCRIPTIONS[firsts[wrong]].tolist()
        n = 0
        for piece in slices(text, starts, stops, parsed):
            values = parse(piece)
            at = parsed[n : n + len(values)]
            column[at], bad = column_of(values, len(values), index, plan)
            n += len(values)
            if bad is not None:
                rows.append(at[bad.rows])
                got += [bad.got] * len(bad.rows) if isinstance(bad.got, str) else bad.got
        if len(rows) == 1:
            return column, Invalid(index, wrong, got) if wrong.size else None
        every = np.concatenate(rows)
        order = np.argsort(every, kind="stable")
        return column, Invalid(index, every[order], [got[i] for i in order.tolist()])

    def _elements(self, name: str) -> tuple[bytes, IntArray, IntArray]:
        """Return a column, and where its values start and stop."""
        text = self.texts[name]
        found = json_lines.sort_elements(text, 1)
        assert found is not None, "it was read as a list before"
        return text, *found[:2]


def _wrong_bytes(feature: FeatureSchema) -> npt.NDArray[np.bool_]:
    """Return for each byte whether a value that begins with it is of the wrong type."""
    if feature.kind == "vector":
        return np.zeros(256, dtype=np.bool_)
    return np.isin(np.arange(256), list(b"[{tf" if feature.kind == "numeric" else b"[{"))


def _may_begin_missing(missing_texts: frozenset[str]) -> npt.NDArray[np.bool_]:
    """Return for each byte whether a text that stands for a missing value may begin with it, behind its quote."""
    firsts = {text.encode("utf-8", "surrogatepass")[0] for text in missing_texts if text}
    return np.isin(np.arange(256), [*firsts, *b'" \\'])


def find_columns(body: bytes, begin: int, plan: Plan) -> Columns | None:
    """Find the columns of a body; None if it is none, or if it may be a row of vectors.

    Parameters
    ----------
    begin : the position after the brace that opens the object
    """
    places = json_lines.find_members(body, begin, _MAX_MEMBERS)
    if places is None:
        return None
    texts: dict[str, bytes] = {}
    lengths: dict[str, int] = {}
    for key, start, stop in places.tolist():
        text = body[start:stop]
        found = json_lines.sort_elements(text, 1) if text.startswith(b"[") else None
        if found is None:
            return None
        name = parse(body[key:start].rstrip(b" \t\r\n")[:-1])
        if name not in texts:  # of a repeated key, the first value counts
            texts[name], lengths[name] = text, len(found[0])
    wanted = {feature.name for feature in plan.schema.features}
    if plan.schema.timestamp is not None:
        wanted.add(plan.schema.timestamp.field)
    there = wanted & texts.keys()
    if not texts or (there and there <= {vector.name for vector in plan.vectors}):
        return None
    return Columns(texts, lengths)
