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
from kldrift.wire.unknown_fields import why_unknown_row

Rowwise = Callable[[Sequence[bytes], Plan], Decoding]

#: Bodies up to this size are copied to append the padding; of larger ones, only the last lines are.
_COPIED_BYTES: Final = 1 << 15
_PADDING: Final = b"\n" * json_rows.PADDING

#: Bytes of a list that are copied at a time, to append the padding. Unlike a newline, no byte is sure to end a row, so
#: there is nowhere to cut a list, and reading it in place could run beyond its end.
_WINDOW_BYTES: Final = 1 << 19
_END: Final = b"\0" * json_rows.PADDING
_BEGIN: Final = re.compile(rb"[ \t\r\n]*\[")
_BEGIN_OBJECT: Final = re.compile(rb"[ \t\r\n]*\{")
_BLANKS: Final = b" \t\r\n"


def decode(bodies: Sequence[bytes], plan: Plan, rowwise: Rowwise, bins: BinTable | None = None) -> Decoding | None:
    """Decode the bodies; None if too few rows are plain, or the kernel is not compiled or does not support a field.

    Parameters
    ----------
    rowwise : decodes the rows that the kernel skips
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
    if gaps.start_anew(learned):  # a table full of keys that a sender invented is not kept
        layout.idle.append(learned)
    table = None
    if not target.given_up:
        left = target.left
        others = rowwise(_left_lines(bodies, ends, left), plan).table if len(left) else None
        shown = {row: why_unknown_row(_text_at(bodies, ends, *at), plan) for row, *at in target.shown}
        table = target.table(others, shown)
    target.release()
    return None if table is None else Decoding(table, target.out.n_rows.tolist())


def _scan(piece: bytes, base: int, target: Target, learned: gaps.Learned) -> None:
    """Read one or more bodies by the kernel; they begin at `base` among all."""
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


def begin_of_list(body: bytes, begin: int) -> int | None:
    """Return the position after the bracket that opens a list; None if the body is not one.

    Parameters
    ----------
    begin : where JSON begins in the body
    """
    found = _BEGIN.match(body, begin)
    return None if found is None else found.end()


def begin_of_object(body: bytes, begin: int) -> int | None:
    """Return the position after the brace that opens an object; None if the body is not one.

    Parameters
    ----------
    begin : where JSON begins in the body
    """
    found = _BEGIN_OBJECT.match(body, begin)
    return None if found is None else found.end()


def read_list(body: bytes, begin: int, plan: Plan, bins: BinTable | None = None) -> Target | None:
    """Read the rows of a list; None if the body is not one, too few rows are plain, or the kernel cannot be used.

    Parameters
    ----------
    begin : where JSON begins in the body
    """
    if not (plan.scan and json_rows.is_ready()):
        return None
    first = begin_of_list(body, begin)
    if first is None:
        return None
    layout = layout_of(plan)
    target = target_for(layout, bins, np.array([len(body) + 1], dtype=np.int64), lambda: _most_rows_in(body, plan))
    learned = _learned(layout, in_list=True)
    end = _scan_list(body, first, target, learned)
    if gaps.start_anew(learned):
        layout.idle_lists.append(learned)
    return None if end is None or body[end:].strip(_BLANKS) else target


def _most_rows_in(body: bytes, plan: Plan) -> int:
    """Return how many rows a list may have, up to a quarter of them not objects; with more, too few are plain."""
    with compilation.ieee():
        n_objects = json_rows.count_byte(np.frombuffer(body, dtype=np.uint8), ord("{"))
    return min(n_objects + n_objects // 3 + 2 * output.FALLBACK_ROWS, plan.max_rows + 1)


def _scan_list(body: bytes, at: int, target: Target, learned: gaps.Learned) -> int | None:
    """Read the rows from `at` on by the kernel, window by window; return where the list ends, None on failure."""
    done = 1
    while done:  # fails at a row larger than a window
        window = b"".join((memoryview(body)[at : at + _WINDOW_BYTES], _END))
        learned.seen[:] = 0  # the row in which the last window ended is read again
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
    """Return the rows that the kernel skipped, as a list."""
    texts = [body[start:stop] for start, stop in left[:, 1:].tolist()]  # each with the comma or bracket that ends it
    return b"[" + b"".join(texts).rstrip(_BLANKS)[:-1] + b"]"


def _ends(bodies: Sequence[bytes]) -> IntArray:
    """Return where each body ends when all are joined by newlines."""
    return np.array([len(body) + 1 for body in bodies], dtype=np.int64).cumsum()


def _text_at(bodies: Sequence[bytes], ends: IntArray, start: int, stop: int) -> bytes:
    """Return some bytes of one of the bodies."""
    i = int(np.searchsorted(ends, start, side="right"))
    begin = int(ends[i]) - len(bodies[i]) - 1
    return bodies[i][start - begin : stop - begin]


def _left_lines(bodies: Sequence[bytes], ends: IntArray, left: IntArray) -> list[bytes]:
    """Return the lines that the kernel skipped, body by body."""
    lines: list[list[bytes]] = [[] for _ in bodies]
    of_body = np.searchsorted(ends, left[:, 1], side="right").tolist()
    for i, (start, stop) in zip(of_body, left[:, 1:].tolist(), strict=True):
        begin = int(ends[i]) - len(bodies[i]) - 1
        lines[i].append(bodies[i][start - begin : stop - begin])
    return [b"\n".join(found) for found in lines]
