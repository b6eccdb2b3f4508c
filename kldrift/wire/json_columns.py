"""Large JSON bodies of columns, parsed some values at a time: in memory a value takes up to fifty times its text."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from kldrift.kernels.parsing import json_lines
from kldrift.wire.json_lines import slices
from kldrift.wire.plan import Plan
from kldrift.wire.rows import column_of, parse
from kldrift.wire.tables import Column, Invalid, Table, join_columns, join_invalid, missing_table
from kldrift.wire.timestamps import times_from_values

#: More members are not looked up one by one: such a body is parsed whole.
_MAX_MEMBERS: Final = 10_000


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
        table = missing_table(plan, n_rows)
        columns: list[Column] = list(table.columns)
        invalid: list[Invalid] = []
        for index, feature in enumerate(plan.schema.features):
            if feature.name not in self.texts:
                continue
            parts: list[Column] = []
            faults: list[Invalid] = []
            n = 0
            for values in self._parsed(feature.name):
                part, bad = column_of(values, len(values), index, plan)
                parts.append(part)
                if bad is not None:
                    faults.append(Invalid(index, bad.rows + n, bad.got))
                n += len(values)
            if parts:
                columns[index] = join_columns(parts)
            if faults:
                invalid.append(join_invalid(faults))
        event_ms = table.event_ms
        spec = plan.schema.timestamp
        if spec is not None and spec.field in self.texts:
            times = [times_from_values(values, spec) for values in self._parsed(spec.field)]
            event_ms = np.concatenate(times) if times else event_ms
        return Table(n_rows, columns, event_ms, invalid)

    def _parsed(self, name: str) -> Iterator[list[Any]]:
        text = self.texts[name]
        found = json_lines.sort_elements(text, 1)
        assert found is not None, "it was read as a list before"
        starts, stops, _ = found
        for piece in slices(text, starts, stops, np.arange(starts.size)):
            yield parse(piece)


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
    if not texts or wanted & texts.keys() <= {vector.name for vector in plan.vectors}:
        return None
    return Columns(texts, lengths)
