"""Lines, and elements of a list, that are no rows are told from those that are by a kernel."""

from collections.abc import Iterator, Sequence
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

#: Bytes of a list that are parsed at once: a value takes up to fifty times the memory of its text.
SLICE_BYTES: Final = 1 << 19

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


def _fault(text: bytes) -> str:
    row = parse_row(text)
    assert not isinstance(row, dict), "the kernel and the parser agree on what a row is"
    return row[1]


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
                details[n_records + line] = _fault(body[starts[line] : stops[line]])
        rows = np.flatnonzero((kinds == json_lines.OBJECT) | (kinds == json_lines.UNSURE))
        kept.append(lines_joined(body, starts[rows], stops[rows]) if len(rows) < len(kinds) else body)
        records.append(rows + n_records)
        counts.append(len(kinds))
        n_records += len(kinds)
    if not rejected:
        return None
    joined = {reason: np.concatenate(parts) for reason, parts in rejected.items()}
    return TakenOut(kept, np.concatenate(records), counts, joined, details)


def take_out_of_list(body: bytes, begin: int) -> TakenOut | None:
    """Take out the elements of a list that are no objects; None if it is no list or nested too deeply to tell.

    The bodies that are left are lists of some of the rows each, so that not all of them have to be parsed at once.

    Parameters
    ----------
    begin : the position after the bracket that opens the list
    """
    found = json_lines.sort_elements(body, begin)
    if found is None:
        return None
    starts, stops, kinds = found
    others, rows = np.flatnonzero(kinds == json_lines.OTHER), np.flatnonzero(kinds == json_lines.OBJECT)
    details = {i: _fault(body[starts[i] : stops[i]]) for i in others[:MAX_ERRORS].tolist()}
    return TakenOut(
        bodies=list(slices(body, starts, stops, rows)),
        records=rows,
        counts=[len(kinds)],
        rejected={NOT_AN_OBJECT: others} if others.size else {},
        details=details,
    )


def slices(body: bytes, starts: IntArray, stops: IntArray, elements: IntArray) -> Iterator[bytes]:
    """Yield lists of some elements of a list, one after another: of at most `SLICE_BYTES`, or of one element.

    Parameters
    ----------
    starts, stops : where every element of the body starts and stops
    elements : the numbers of those to take, ascending
    """
    ends = stops[elements]
    first = 0
    while first < elements.size:
        begin = starts[elements[first]]
        last = max(first, int(np.searchsorted(ends, begin + SLICE_BYTES, side="right")) - 1)
        taken = elements[first : last + 1]
        if taken[-1] - taken[0] + 1 == taken.size:  # with the commas between them
            yield b"[" + body[begin : stops[taken[-1]]] + b"]"
        else:
            yield b"[" + b",".join([body[starts[i] : stops[i]] for i in taken.tolist()]) + b"]"
        first = last + 1
