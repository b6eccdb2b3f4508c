"""A data file as batches."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from kldrift.datafiles.opening import line_chunks, reading
from kldrift.errors import DataFileProblem
from kldrift.records.formats import FORMATS, Format
from kldrift.records.samples import BatchSchema, Chunk, Decoded, RowRange
from kldrift.wire import count_rows, decode, decode_rows


def pieces(path: Path, schema: BatchSchema, *, rows_at_a_time: int, threads: int = 1) -> Iterator[Decoded]:
    """Decode a file piece by piece, in order.

    Parameters
    ----------
    rows_at_a_time : of a file that is read by row ranges
    threads : pieces of lines decoded at once; 1 where a vocabulary learns: it numbers values in the order of the rows

    Raises
    ------
    DataFileProblem
        the file cannot be read
    """
    with reading(path) as data_format:
        n_rows = 0 if FORMATS[data_format].is_stream else count_rows(data_format, path)
    decoded: Iterator[Decoded]
    if FORMATS[data_format].is_stream:
        decoded = _in_threads(partial(_decode_lines, data_format, schema), line_chunks(path, data_format), threads)
    else:
        ranges = (RowRange(path, i, min(i + rows_at_a_time, n_rows)) for i in range(0, n_rows, rows_at_a_time))
        decoded = (decode_rows(data_format, rows, schema) for rows in ranges)
    for piece in decoded:
        for body in piece.bodies:
            if body.unreadable is not None and not body.rejected:
                raise DataFileProblem(f"{path}: {body.unreadable.removeprefix(f'{path}: ')}")
        yield piece


def _decode_lines(data_format: Format, schema: BatchSchema, chunk: Chunk) -> Decoded:
    assert isinstance(chunk.payload, bytes)
    return decode(data_format, [chunk.payload], schema, header=chunk.header)


def _in_threads(decode_one: Callable[[Chunk], Decoded], chunks: Iterable[Chunk], threads: int) -> Iterator[Decoded]:
    """Decode chunks; the next ones are read and decoded while one is used."""
    if threads == 1:
        yield from map(decode_one, chunks)
        return
    waiting: deque[Future[Decoded]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for chunk in chunks:
            waiting.append(pool.submit(decode_one, chunk))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
