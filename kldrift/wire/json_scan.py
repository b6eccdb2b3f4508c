"""Lines and lists of JSON by the kernel that reads rows.

The rows that it leaves are decoded by the general way, and put in their places.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from kldrift.kernels import compilation
from kldrift.kernels.bin_table import BinTable
from kldrift.kernels.parsing import gaps, json_rows, output
from kldrift.records.types import IntArray
from kldrift.wire.plan import Plan
from kldrift.wire.tables import Decoding
from kldrift.wire.targets import Layout, Target, layout_of, target_for

Rowwise = Callable[[Sequence[bytes], Plan], Decoding]

#: A body up to this size is copied with the padding; of a larger one, only its last lines.
_COPIED_BYTES: Final = 1 << 15
_PADDING: Final = b"\n" * json_rows.PADDING

#: Of a list so much is copied at once, so that there is padding behind. No byte ends a row for sure as a newline does,
#: so there is none at which a list could be cut, and what is read of it in place could go on beyond its end.
_WINDOW_BYTES: Final = 1 << 19
_END: Final = b"\0" * json_rows.PADDING
_BEGIN: Final = re.compile(rb"[ \t\r\n]*\[")
_BLANKS: Final = b" \t\r\n"


def decode(bodies: Sequence[bytes], plan: Plan, rowwise: Rowwise, bins: BinTable | None = None) -> Decoding | None:
    """Decode the bodies; None where too few rows are plain, the kernel does not know a field, or is not compiled.

    Parameters
    ----------
    rowwise : decodes the rows that are not plain
    bins : of the columns, to count the rows in
    """
    if not (plan.scan and json_rows.is_ready()):
        return None
    layout = layout_of(plan)
    ends = _ends(bodies)
    small = len(bodies) > 1 and ends[-1] < len(bodies) * _COPIED_BYTES
    pieces = [b"\n".join(bodies)] if small else bodies
    target = target_for(layout, bins, ends, lambda: sum(json_rows.count_newlines(piece) + 1 for piece in pieces))
    learned = _learned(layout, in_list=False)
    base = 0
    for piece in pieces:
        if piece and not target.given_up:
            _scan(piece, base, target, learned)
        base += len(piece) + 1
    if gaps.start_anew(learned):  # what is full of keys that a sender made up is not kept
        layout.idle.append(learned)
    table = None
    if not target.given_up:
        left = target.left
        table = target.table_with(rowwise(_left_lines(bodies, ends, left), plan).table) if len(left) else target.table()
    target.release()
    return None if table is None else Decoding(table, target.out.n_rows.tolist())


def _scan(piece: bytes, base: int, target: Target, learned: gaps.Learned) -> None:
    """Have the kernel read one or more bodies, which begin at `base` among all."""
    fields = target.layout.fields
    cut = 0 if len(piece) <= _COPIED_BYTES else piece.rfind(b"\n", 0, len(piece) - json_rows.PADDING) + 1
    last = np.frombuffer(piece[cut:] + _PADDING, dtype=np.uint8)
    with compilation.ieee():
        if cut:
            whole = np.frombuffer(piece, dtype=np.uint8)
            json_rows.scan_rows(whole, base, cut, fields, learned, target.out, target.counting)
        if not target.given_up:
            json_rows.scan_rows(last, base + cut, len(piece) - cut, fields, learned, target.out, target.counting)


def _learned(layout: Layout, in_list: bool) -> gaps.Learned:
    try:
        return (layout.idle_lists if in_list else layout.idle).pop()
    except IndexError:
        return gaps.nothing_learned(layout.fields, in_list)


def read_list(body: bytes, begin: int, plan: Plan, bins: BinTable | None = None) -> Target | None:
    """The rows of a list; None where the body is none, too few rows are plain, or the kernel cannot be used.

    Parameters
    ----------
    begin : where JSON begins in the body
    """
    if not (plan.scan and json_rows.is_ready()):
        return None
    found = _BEGIN.match(body, begin)
    if found is None:
        return None
    layout = layout_of(plan)
    target = target_for(layout, bins, np.array([len(body) + 1], dtype=np.int64), lambda: _most_rows_in(body, plan))
    learned = _learned(layout, in_list=True)
    end = _scan_list(body, found.end(), target, learned)
    if gaps.start_anew(learned):
        layout.idle_lists.append(learned)
    return None if end is None or body[end:].strip(_BLANKS) else target


def _most_rows_in(body: bytes, plan: Plan) -> int:
    """Rows that a list may have, a quarter of them no objects; of one with more, too few are plain."""
    with compilation.ieee():
        n_objects = json_rows.count_byte(np.frombuffer(body, dtype=np.uint8), ord("{"))
    return min(n_objects + n_objects // 3 + 2 * output.FALLBACK_ROWS, plan.max_rows + 1)


def _scan_list(body: bytes, at: int, target: Target, learned: gaps.Learned) -> int | None:
    """Have the kernel read the rows from `at` on, window by window; where the list ends, None if it could not."""
    done = 1
    while done:  # a row that is larger than a window is given up
        window = b"".join((memoryview(body)[at : at + _WINDOW_BYTES], _END))
        learned.seen[:] = 0  # a row that the last window ended in is read once more
        with compilation.ieee():
            done = json_rows.scan_rows(
                np.frombuffer(window, dtype=np.uint8),
                at,
                len(window) - len(_END),
                target.layout.fields,
                learned,
                target.out,
                target.counting,
            )
        if target.given_up:
            return None
        at += done
        if done and window[done - 1] == ord("]"):
            return at
    return None


def left_in_list(body: bytes, left: IntArray) -> bytes:
    """The rows of a list that were left, as a list."""
    texts = [body[start:stop] for start, stop in left[:, 1:].tolist()]  # each with what ends it: a comma, the bracket
    return b"[" + b"".join(texts).rstrip(_BLANKS)[:-1] + b"]"


def _ends(bodies: Sequence[bytes]) -> IntArray:
    """Where each body ends among the bodies, joined by newlines."""
    return np.array([len(body) + 1 for body in bodies], dtype=np.int64).cumsum()


def _left_lines(bodies: Sequence[bytes], ends: IntArray, left: IntArray) -> list[bytes]:
    """The lines that were left, body by body."""
    lines: list[list[bytes]] = [[] for _ in bodies]
    of_body = np.searchsorted(ends, left[:, 1], side="right").tolist()
    for i, (start, stop) in zip(of_body, left[:, 1:].tolist(), strict=True):
        begin = int(ends[i]) - len(bodies[i]) - 1
        lines[i].append(bodies[i][start - begin : stop - begin])
    return [b"\n".join(found) for found in lines]
