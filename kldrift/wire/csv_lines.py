"""Records of CSV one by one, as Python's csv module reads them, and those that a kernel knows to be no rows."""

import csv
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from kldrift.kernels.parsing import csv_lines, csv_records
from kldrift.kernels.parsing.csv_records import MAX_RECORD_BYTES, MAX_RECORD_LINES
from kldrift.kernels.parsing.json_rows import count_newlines
from kldrift.wire.tables import MAX_ERRORS
from kldrift.wire.taken_out import TakenOut, lines_joined

_MALFORMED: Final = "malformed"


def take_out(data: bytes, width: int) -> TakenOut | None:
    """Take out the records that are certainly no rows; None if there are none, or the kernel is not compiled."""
    if not csv_records.is_ready():
        return None
    starts, stops, good, first_cut = csv_lines.sort_records(data, width, count_newlines(data) + 1)
    if good.all():
        return None
    bad = np.flatnonzero(~good)
    details = {}
    for i in bad[:MAX_ERRORS].tolist():
        cut = i >= first_cut
        text = data[starts[i] : stops[i] if cut else starts[i] + 2 * MAX_RECORD_BYTES]
        record = next(records_of(text, 1 if cut else MAX_RECORD_LINES))
        details[i] = f"{_MALFORMED}: {record if isinstance(record, str) else fault_of(record, width)}"
    body = lines_joined(data, starts[good], stops[good])
    return TakenOut([body], np.flatnonzero(good), [len(good)], {_MALFORMED: bad}, details)


def fault_of(record: Sequence[str], width: int) -> str | None:
    """Return why a record is no row, None if it is one."""
    if len(record) != width:
        return f"expected {width} fields as in the header, got {len(record)}"
    if any(not cell.isascii() and _has_raw_bytes(cell) for cell in record):
        return "expected UTF-8, got other bytes"
    return None


def _has_raw_bytes(cell: str) -> bool:
    return any("\udc80" <= char <= "\udcff" for char in cell)


def records_of(data: bytes, longest: int = MAX_RECORD_LINES) -> Iterator[list[str] | str]:
    """Yield the records of a body, or what is wrong with one; blank lines are not records.

    A quote that is never closed would swallow all that follows. A record over several lines that is none is therefore
    one bad line, and from there on no record may span lines at all: reading on stays linear in the size.

    Parameters
    ----------
    longest : lines that a record may span
    """
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    at = 0
    while at < len(lines):
        stop = at + 1
        if lines[at] in ("", "\r"):
            at = stop
            continue
        n_quotes = lines[at].count('"')
        while n_quotes % 2 and stop < len(lines) and stop - at < longest:
            n_quotes += lines[stop].count('"')
            stop += 1
        record: list[str] | str = "a quote is opened and not closed"
        if n_quotes % 2 == 0:
            record = _fields("\n".join(lines[at:stop]).removesuffix("\r"))
        if isinstance(record, str) and stop > at + 1:
            longest = 1
            stop = at + 1
        yield record
        at = stop


def _fields(text: str) -> list[str] | str:
    lines = [line + "\n" for line in text.split("\n")]
    reader = csv.reader(lines, strict=True)
    try:
        record = next(reader)
    except (csv.Error, StopIteration) as error:
        return str(error) or "no fields"
    # A quote inside an unquoted field is an ordinary character: it opens or closes nothing.
    return record if reader.line_num == len(lines) else "a quote in a field that does not begin with one"
