"""CSV by the kernel that reads records. Records it skips are decoded in the general way and put in their places."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from kldrift.kernels import compilation
from kldrift.kernels.bin_table import BinTable
from kldrift.kernels.parsing import csv_records, json_rows, output
from kldrift.records.types import IntArray
from kldrift.wire.plan import Plan
from kldrift.wire.tables import Table, concatenate
from kldrift.wire.targets import Layout, Target, layout_of, target_for

Generally = Callable[[bytes], Table]

#: Bodies up to this size are copied to append the padding; of larger ones, only the last lines are.
_COPIED_BYTES: Final = 1 << 15
_PADDING: Final = b"\n" * json_rows.PADDING


def decode(
    bodies: Sequence[memoryview],
    names: Sequence[str],
    plan: Plan,
    generally: Generally,
    bins: BinTable | None = None,
    header: bytes = b"",
) -> tuple[Table, list[int]] | None:
    """Decode the records of the bodies, and count those of each.

    None where too few records are plain, the kernel does not know a field, or is not compiled.

    Parameters
    ----------
    bodies : without their header
    names : of the columns
    generally : decodes the records that the kernel skips
    bins : of the columns, to count the records in
    header : the line of names; a record that is the same is passed over
    """
    if not (plan.scan and csv_records.is_ready()):
        return None
    layout = layout_of(plan)
    data = bodies[0] if len(bodies) == 1 else memoryview(b"\n".join(bodies))
    ends = np.array([len(body) + 1 for body in bodies], dtype=np.int64).cumsum()
    target = target_for(layout, bins, ends, lambda: json_rows.count_newlines(data) + 1)
    _put_missing(layout, names, target.out)
    _scan(data, layout, _cells(layout, names, header), target)
    if target.given_up:
        return None
    if len(target.left):
        table = target.table(_left_records(data, ends, target.left, plan, generally))
    else:
        table = target.table()
    target.release()
    return table, target.out.n_rows.tolist()


def _left_records(data: memoryview, ends: IntArray, left: IntArray, plan: Plan, generally: Generally) -> Table:
    """Decode the records that the kernel skipped, body by body."""
    lines = [bytes(data[start:stop]) for start, stop in left[:, 1:].tolist()]
    stops = np.searchsorted(left[:, 1], ends).tolist()
    tables = [generally(b"\n".join(lines[i:j])) for i, j in zip([0, *stops[:-1]], stops, strict=True) if i < j]
    return concatenate(tables, plan)


def _scan(data: memoryview, layout: Layout, cells: csv_records.Cells, target: Target) -> None:
    """Read the bodies by the kernel."""
    arguments = layout.fields, cells, target.out, target.counting
    done = 0
    with compilation.ieee():
        if len(data) > _COPIED_BYTES:
            stop = _last_line(data, len(data) - json_rows.PADDING)
            done = csv_records.scan_records(np.frombuffer(data, dtype=np.uint8), 0, stop, 0, *arguments)
        if not target.given_up:
            last = np.frombuffer(bytes(data[done:]) + _PADDING, dtype=np.uint8)
            stop = len(data) - done
            if csv_records.scan_records(last, 0, stop, done, *arguments) < stop:
                target.out.state[output.GIVEN_UP] = 1  # a quote is not closed


def _last_line(data: memoryview, stop: int) -> int:
    """Return where the last line that begins before `stop` begins."""
    size = 1 << 12
    while stop > 0:
        start = max(0, stop - size)
        found = bytes(data[start:stop]).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        stop = start
    return 0


def _cells(layout: Layout, names: Sequence[str], header: bytes) -> csv_records.Cells:
    """Say how each column is read; of several columns with one name only the first counts."""
    actions = _actions(layout)
    kinds, targets = zip(*[actions.pop(name, (csv_records.SKIP, 0)) for name in names], strict=True)
    line = np.frombuffer(bytearray(header), dtype=np.uint8)
    return csv_records.Cells(np.array(kinds, dtype=np.int64), np.array(targets, dtype=np.int64), line)


def _actions(layout: Layout) -> dict[str, tuple[int, int]]:
    """Say how the columns of each name are read."""
    plan = layout.plan
    actions = {name: (csv_records.NUMBER, field) for field, name in enumerate(layout.numbers)}
    for column, category in enumerate(plan.categorical):  # the others of the same field follow from the first
        actions.setdefault(category.feature.name, (csv_records.CATEGORY, column))
    spec = plan.schema.timestamp
    if spec is not None and spec.unit == "iso8601":
        actions[spec.field] = csv_records.TIME, 0
    return actions


def _put_missing(layout: Layout, names: Sequence[str], out: output.Output) -> None:
    """Fill the features that have no column with missing values."""
    there = set(names)
    stride = int(out.stride[0])
    numbers, codes = out.numbers.reshape(-1, stride), out.codes.reshape(-1, stride)
    for field, name in enumerate(layout.numbers):
        if name not in there:
            numbers[field] = np.nan
    for column, category in enumerate(layout.plan.categorical):
        if category.feature.name not in there:
            codes[column] = category.feature.missing_code
    spec = layout.plan.schema.timestamp
    if spec is not None and spec.field not in there:
        out.times[:] = -1
