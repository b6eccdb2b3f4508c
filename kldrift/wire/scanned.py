"""NDJSON by the kernel that reads rows; the rows that it leaves are decoded row by row and put in their places."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from kldrift.kernels import _jit, scan
from kldrift.kernels.bin_table import BinTable
from kldrift.records import IntArray
from kldrift.wire.plan import Plan
from kldrift.wire.tables import Decoding
from kldrift.wire.targets import Layout, Target, layout_of, target_for

Rowwise = Callable[[Sequence[bytes], Plan], Decoding]

#: A body up to this size is copied with the padding; of a larger one, only its last lines.
_COPIED_BYTES: Final = 1 << 15
_PADDING: Final = b"\n" * scan.PADDING


def decode(bodies: Sequence[bytes], plan: Plan, rowwise: Rowwise, bins: BinTable | None = None) -> Decoding | None:
    """Decode the bodies; None where too few rows are plain, the kernel does not know a field, or is not compiled.

    Parameters
    ----------
    rowwise : decodes the rows that are not plain
    bins : of the columns, to count the rows in
    """
    if not (plan.scan and scan.is_ready()):
        return None
    layout = layout_of(plan)
    data = bodies[0] if len(bodies) == 1 else b"\n".join(bodies)
    target = target_for(layout, bins, _ends(bodies), lambda: _most_rows(data))
    _scan(data, layout, target)
    table = None
    if not target.given_up:
        left = target.left
        table = target.table_with(rowwise(_lines_of(data, bodies, left), plan).table) if len(left) else target.table()
    target.release()
    return None if table is None else Decoding(table, target.out.n_rows.tolist())


def _most_rows(data: bytes) -> int:
    with _jit.ieee():
        return scan.count_newlines(np.frombuffer(data, dtype=np.uint8)) + 1


def _scan(data: bytes, layout: Layout, target: Target) -> None:
    """Have the kernel read the bodies."""
    try:
        learned = layout.idle.pop()
    except IndexError:
        learned = scan.nothing_learned(layout.fields)
    cut = 0 if len(data) <= _COPIED_BYTES else data.rfind(b"\n", 0, len(data) - scan.PADDING) + 1
    last = np.frombuffer(data[cut:] + _PADDING, dtype=np.uint8)
    with _jit.ieee():
        if cut:
            scan.scan_rows(
                np.frombuffer(data, dtype=np.uint8), 0, cut, layout.fields, learned, target.out, target.counting
            )
        if not target.given_up:
            scan.scan_rows(last, cut, len(data) - cut, layout.fields, learned, target.out, target.counting)
    if scan.start_anew(learned):  # what is full of keys that a sender made up is not kept
        layout.idle.append(learned)


def _ends(bodies: Sequence[bytes]) -> IntArray:
    """Where each body ends among the bodies, joined by newlines."""
    return np.array([len(body) + 1 for body in bodies], dtype=np.int64).cumsum()


def _lines_of(data: bytes, bodies: Sequence[bytes], left: IntArray) -> list[bytes]:
    """The lines that were left, body by body."""
    lines = [data[start:stop] for start, stop in left[:, 1:].tolist()]
    stops = np.searchsorted(left[:, 1], _ends(bodies)).tolist()
    return [b"\n".join(lines[start:stop]) for start, stop in zip([0, *stops[:-1]], stops, strict=True)]
