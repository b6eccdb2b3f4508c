"""From Kafka's records to the lines of a chunk.

In the usual case, every value is one line that begins an object. Then there is no work per record beyond what the
client library requires (its message objects): values, offsets and times are mapped and joined in C.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter

import numpy as np
import orjson
from confluent_kafka import Message

from kldrift.records.formats import Format
from kldrift.records.types import IntArray

_BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_BRACE = frozenset(b"{")


@dataclass(frozen=True, slots=True)
class Records:
    """Consecutive records of one partition.

    Parameters
    ----------
    values : None for a tombstone
    offsets, times_ms : (n,) int64; a time is -1 where the record has none
    """

    values: list[bytes | None]
    offsets: IntArray
    times_ms: IntArray


@dataclass(frozen=True, slots=True)
class Lines:
    """Rows as NDJSON, with the origin of each line.

    Parameters
    ----------
    payload : lines, each with its newline
    offsets, times_ms : (n_lines,) int64, those of the record that the line came from
    """

    payload: bytes
    offsets: IntArray
    times_ms: IntArray


def by_partition(messages: Iterable[Message]) -> dict[int, list[Message]]:
    """Group messages by partition, in their order."""
    found: dict[int, list[Message]] = {}
    for partition, run in groupby(messages, key=Message.partition):
        assert partition is not None  # a consumed message has one
        if partition in found:
            found[partition].extend(run)
        else:
            found[partition] = list(run)
    return found


def records_of(messages: Sequence[Message]) -> Records:
    """Return the values, offsets and times of one partition's messages."""
    n = len(messages)
    times = np.fromiter(chain.from_iterable(map(Message.timestamp, messages)), np.int64, 2 * n).reshape(n, 2)
    return Records(
        list(map(Message.value, messages)),
        np.fromiter(map(Message.offset, messages), np.int64, n),
        np.where(times[:, 0] == 0, -1, times[:, 1]),  # type 0: the record has no time
    )


def pieces(records: Records, max_bytes: int) -> Iterable[Records]:
    """Cut records into pieces of at most `max_bytes`; a larger record is a piece of its own (with 0, each one is)."""
    sizes = np.fromiter((len(value or b"") for value in records.values), np.int64, len(records.values))
    ends = np.cumsum(sizes)
    start = 0
    while start < len(ends):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + max_bytes, side="right")))
        yield Records(records.values[start:stop], records.offsets[start:stop], records.times_ms[start:stop])
        start = stop


def lines_of(records: Records, body_format: Format) -> tuple[Lines, list[int]]:
    """Return the rows of the values, one a line, and the offsets of records without rows.

    Parameters
    ----------
    body_format : ``ndjson``: a value is rows, one a line; ``json``: a row or a list of rows, over any number of lines
    """
    values = [value for value in records.values if value]
    if len(values) == len(records.values) and set(map(itemgetter(0), values)) <= _BRACE:
        payload = b"\n".join([*values, b""])
        # not bytes.count, which looks at one byte at a time
        if int(np.count_nonzero(np.frombuffer(payload, np.uint8) == 10)) == len(values):
            return Lines(payload, records.offsets, records.times_ms), []
    split = _json_lines if body_format == "json" else _ndjson_lines
    found = [split(value) if value else [] for value in records.values]
    counts = [len(lines) for lines in found]
    lines = Lines(
        b"".join(line + b"\n" for line in chain.from_iterable(found)),
        np.repeat(records.offsets, counts),
        np.repeat(records.times_ms, counts),
    )
    return lines, [offset for offset, count in zip(records.offsets.tolist(), counts, strict=True) if not count]


def _ndjson_lines(value: bytes) -> list[bytes]:
    return [line for line in value.removeprefix(_BOM).split(b"\n") if line.strip(_BLANK)]


def _json_lines(value: bytes) -> list[bytes]:
    text = value.removeprefix(_BOM).strip(_BLANK)
    if text.startswith(b"["):
        try:
            return [orjson.dumps(row) for row in orjson.loads(text)]
        except (orjson.JSONDecodeError, orjson.JSONEncodeError):
            pass  # one bad row: the decoder reports what is wrong with it
    # A JSON string holds no raw newline, so every newline may become a space.
    return [text.replace(b"\n", b" ")] if text else []
