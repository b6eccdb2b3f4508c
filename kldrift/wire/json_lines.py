"""Lines that are no rows, told from those that are by a kernel: a body may hold a million of them."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from kldrift.kernels.parsing import json_lines
from kldrift.kernels.parsing.json_rows import count_newlines
from kldrift.records.types import IntArray
from kldrift.wire.rows import Row, kind_of, parse
from kldrift.wire.tables import MAX_ERRORS
from kldrift.wire.taken_out import TakenOut, lines_joined

#: Reasons to reject a line.
MALFORMED: Final = "malformed"
NOT_AN_OBJECT: Final = "not_an_object"

_REASONS: Final = {json_lines.MALFORMED: MALFORMED, json_lines.OTHER: NOT_AN_OBJECT}


def parse_row(line: bytes) -> Row | tuple[str, str]:
    """Return the object on a line, or why it is none: the reason, and a sentence that begins with it."""
    try:
        row = parse(line)
    except ValueError as error:
        return MALFORMED, f"{MALFORMED}: {error}"
    if type(row) is dict:
        return row
    return NOT_AN_OBJECT, f"{NOT_AN_OBJECT}: expected a JSON object, got {kind_of(row)}"


def take_out(bodies: Sequence[bytes]) -> TakenOut | None:
    """Take out the lines that are certainly no rows; None if there are none."""
    kept: list[bytes] = []
    records: list[IntArray] = []
    counts: list[int] = []
    rejected: dict[str, list[IntArray]] = {}
    details: dict[int, str] = {}
    n_records = 0
    for body in bodies:
        starts, stops, kinds = json_lines.sort_lines(body, count_newlines(body) + 1)
        for kind, reason in _REASONS.items():
            at = np.flatnonzero(kinds == kind)
            if at.size:
                rejected.setdefault(reason, []).append(at + n_records)
            for line in at[:MAX_ERRORS].tolist():
                told = parse_row(body[starts[line] : stops[line]])
                assert not isinstance(told, dict), "the kernel and the parser agree on what a row is"
                details[n_records + line] = told[1]
        rows = np.flatnonzero((kinds == json_lines.OBJECT) | (kinds == json_lines.UNSURE))
        kept.append(lines_joined(body, starts[rows], stops[rows]) if len(rows) < len(kinds) else body)
        records.append(rows + n_records)
        counts.append(len(kinds))
        n_records += len(kinds)
    if not rejected:
        return None
    joined = {reason: np.concatenate(parts) for reason, parts in rejected.items()}
    return TakenOut(kept, np.concatenate(records), counts, joined, details)
