"""NDJSON by the kernel that reads rows; the rows that it leaves are decoded row by row and put in their places."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from kldrift.kernels import _jit, scan
from kldrift.kernels.fields import Categories, Fields, make_fields
from kldrift.records import FloatArray, IntArray
from kldrift.wire.plan import Known, Plan, is_unicode
from kldrift.wire.tables import Column, Decoding, Invalid, Table
from kldrift.wire.timestamps import times_from_numbers

Rowwise = Callable[[Sequence[bytes], Plan], Decoding]

#: A body up to this size is copied with the padding; of a larger one, only its last lines.
_COPIED_BYTES: Final = 1 << 15
_PADDING: Final = b"\n" * scan.PADDING
_NO_COLUMN: Final[FloatArray] = np.empty(0)


@dataclass(frozen=True, slots=True)
class _Layout:
    """The fields of a plan as the kernel wants them.

    Parameters
    ----------
    plan : held, so that its identity stays taken
    known : the categories that the tables were made of
    numbers : the names of the fields of numbers, in order
    idle : what was learned of earlier bodies, and no thread has in hand
    """

    plan: Plan
    known: tuple[Known, ...]
    numbers: tuple[str, ...]
    fields: Fields
    idle: list[scan.Learned] = field(default_factory=list)


_LAYOUTS: dict[int, _Layout] = {}
_MAX_LAYOUTS = 64


def decode(bodies: Sequence[bytes], plan: Plan, rowwise: Rowwise) -> Decoding | None:
    """Decode the bodies; None where too few rows are plain, the kernel does not know a field, or is not compiled.

    Parameters
    ----------
    rowwise : decodes the rows that are not plain
    """
    if not (plan.scan and scan.is_ready()):
        return None
    layout = _layout_of(plan)
    data = bodies[0] if len(bodies) == 1 else b"\n".join(bodies)
    found = _scan(data, bodies, layout)
    if found is None:
        return None
    columns, event_ms, counts, left = found
    table = Table(sum(counts), columns, event_ms)
    if len(left):
        table = _with_left_rows(table, left, _lines_of(data, bodies, left), plan, rowwise)
    return Decoding(table, counts)


def _layout_of(plan: Plan) -> _Layout:
    """The layout of a plan, made anew when a vocabulary has grown."""
    layout = _LAYOUTS.get(id(plan))
    known = tuple(category.known for category in plan.categorical)
    if layout is not None and layout.plan is plan and all(map(_is, layout.known, known)):
        return layout
    numbers = [name for _, name in plan.numeric]
    spec = plan.schema.timestamp
    if spec is not None and spec.unit != "iso8601" and spec.field not in numbers:
        numbers.append(spec.field)
    categories = []
    for category, state in zip(plan.categorical, known, strict=True):
        feature = category.feature
        # A text without a code of its own may get one where there is room for more.
        learns = feature.vocabulary is not None and len(state.texts) < feature.vocabulary.limit
        codes = [(text.encode(), code) for code, text in enumerate(state.texts) if is_unicode(text)]
        unseen = -1 if learns else feature.unseen_code
        categories.append(Categories(feature.name, codes, unseen, feature.missing_code))
    time = spec.field if spec is not None and spec.unit == "iso8601" else None
    if len(_LAYOUTS) >= _MAX_LAYOUTS:
        _LAYOUTS.clear()
    layout = _Layout(plan, known, tuple(numbers), make_fields(numbers, categories, time))
    _LAYOUTS[id(plan)] = layout
    return layout


def _is(one: object, other: object) -> bool:
    return one is other


def _stride(n_rows: int) -> int:
    """Room for so many rows, an odd number of cache lines: else all columns would share a few sets of the cache."""
    return 8 * (-(-n_rows // 8) | 1)


def _scan(
    data: bytes, bodies: Sequence[bytes], layout: _Layout
) -> tuple[list[Column], IntArray | None, list[int], IntArray] | None:
    """The columns, the times, the rows of each body, and which rows were left: see `scan.scan_rows`."""
    plan = layout.plan
    buffer = np.frombuffer(data, dtype=np.uint8)
    with _jit.ieee():
        most_rows = scan.count_newlines(buffer) + 1
    stride = _stride(most_rows)
    numbers = np.empty((len(layout.numbers), stride))
    codes = np.empty((len(plan.categorical), stride), dtype=np.int32)
    spec = plan.schema.timestamp
    times = np.empty(stride if spec is not None and spec.unit == "iso8601" else 0, dtype=np.int64)
    fallback = np.empty(3 * (scan.FALLBACK_ROWS + most_rows // 4 + 1), dtype=np.int64)
    ends = _ends(bodies)
    counts = np.zeros(len(bodies), dtype=np.int64)
    try:
        learned = layout.idle.pop()
    except IndexError:
        learned = scan.nothing_learned(layout.fields)
    cut = 0 if len(data) <= _COPIED_BYTES else data.rfind(b"\n", 0, len(data) - scan.PADDING) + 1
    last = np.frombuffer(data[cut:] + _PADDING, dtype=np.uint8)
    out = (layout.fields, learned, stride, numbers.reshape(-1), codes.reshape(-1), times, fallback, ends, counts)
    with _jit.ieee():
        if cut:
            scan.scan_rows(buffer, 0, cut, *out)
        if not learned.state[scan.GIVEN_UP]:
            scan.scan_rows(last, cut, len(data) - cut, *out)
    n_rows, _, n_left, given_up = learned.state[: scan.GAPS].tolist()
    if scan.start_anew(learned):  # what is full of keys that a sender made up is not kept
        layout.idle.append(learned)
    if given_up:
        return None
    columns: list[Column] = [_NO_COLUMN] * plan.n_features
    for (index, _), values in zip(plan.numeric, numbers[:, :n_rows], strict=False):  # a time may be behind them
        columns[index] = values
    for category, column in zip(plan.categorical, codes[:, :n_rows], strict=True):
        columns[category.index] = column
    event_ms = None
    if spec is not None:
        event_ms = times[:n_rows]
        if spec.unit != "iso8601":
            event_ms = times_from_numbers(numbers[layout.numbers.index(spec.field), :n_rows], spec.unit)
    return columns, event_ms, counts.tolist(), fallback[: 3 * n_left].reshape(-1, 3)


def _ends(bodies: Sequence[bytes]) -> IntArray:
    """Where each body ends among the bodies, joined by newlines."""
    return np.array([len(body) + 1 for body in bodies], dtype=np.int64).cumsum()


def _lines_of(data: bytes, bodies: Sequence[bytes], left: IntArray) -> list[bytes]:
    """The lines that were left, body by body."""
    lines = [data[start:stop] for start, stop in left[:, 1:].tolist()]
    stops = np.searchsorted(left[:, 1], _ends(bodies)).tolist()
    return [b"\n".join(lines[start:stop]) for start, stop in zip([0, *stops[:-1]], stops, strict=True)]


def _with_left_rows(table: Table, left: IntArray, lines: Sequence[bytes], plan: Plan, rowwise: Rowwise) -> Table:
    """The table with the rows that were left in their places, without those that are rejected."""
    other = rowwise(lines, plan).table
    records = left[:, 0]
    rejected = {reason: records[at] for reason, at in other.rejected.items()}
    details = {int(records[at]): text for at, text in other.details.items()}
    taken: npt.NDArray[np.bool_] = np.ones(len(records), dtype=np.bool_)
    for at in other.rejected.values():
        taken[at] = False
    rows = records[taken]
    for column, found in zip(table.columns, other.columns, strict=True):
        column[rows] = found
    event_ms = table.event_ms
    if event_ms is not None and other.event_ms is not None:
        event_ms[rows] = other.event_ms
    columns: Sequence[Column] = table.columns
    if rejected:
        keep: npt.NDArray[np.bool_] = np.ones(table.n_records, dtype=np.bool_)
        keep[records[~taken]] = False
        columns = [column[keep] for column in columns]
        event_ms = None if event_ms is None else event_ms[keep]
        rows = (np.cumsum(keep) - 1)[rows]
    invalid = [Invalid(item.feature, rows[item.rows], item.got) for item in other.invalid]
    return Table(table.n_records, columns, event_ms, invalid, rejected, details)
