"""From the records of a partition to chunks."""

from collections import deque
from collections.abc import Callable, Collection, Sequence

from kldrift.records.formats import FORMATS
from kldrift.records.samples import Chunk
from kldrift.records.sources import KafkaSourceConfig
from kldrift.sources.base import Surroundings
from kldrift.sources.kafka_records import Records, lines_of, pieces


class ChunkMaker:
    """Makes chunks and reports the records that hold no rows.

    Parameters
    ----------
    chunk_bytes : approximate size of the largest chunk; a larger record is a chunk of its own
    lag : returns how many records of a partition follow an offset, or None if that is unknown
    """

    def __init__(
        self,
        config: KafkaSourceConfig,
        surroundings: Surroundings,
        chunk_bytes: int,
        lag: Callable[[int, int], int | None],
    ) -> None:
        self._topic = config.topic
        self._format = config.format
        self._clock_ms = surroundings.clock_ms
        self._on_error = surroundings.on_error
        self._is_whole = FORMATS[config.body_format].framing == "body"  # then each record is a chunk of its own
        self._max_bytes = 0 if self._is_whole else chunk_bytes
        self._lag = lag

    def chunks(self, partition: int, records: Records) -> list[Chunk]:
        """Return the chunks of consecutive records."""
        made = (self._chunk(partition, piece) for piece in pieces(records, self._max_bytes))
        return [chunk for chunk in made if chunk is not None]

    def _chunk(self, partition: int, records: Records) -> Chunk | None:
        next_offset = int(records.offsets[-1]) + 1
        payload, times_ms, offsets = b"", None, None
        now_ms = arrival_ms = self._clock_ms()
        if self._is_whole:
            payload = records.values[0] or b""
            empty = [] if payload else records.offsets.tolist()
            arrival_ms = int(records.times_ms[0]) if records.times_ms[0] >= 0 else now_ms
        else:
            lines, empty = lines_of(records, self._format)
            payload, times_ms, offsets = lines.payload, lines.times_ms, lines.offsets
            times_ms[times_ms < 0] = now_ms
        self._report_empty(partition, records, empty)
        if not payload:
            return None
        return Chunk(
            stream=f"{self._topic}/{partition}",
            position={"offset": next_offset},
            payload=payload,
            arrival_ms=arrival_ms,
            lag_records=self._lag(partition, next_offset),
            times_ms=times_ms,
            offsets=offsets,
        )

    def _report_empty(self, partition: int, records: Records, empty: Sequence[int]) -> None:
        if not empty:
            return
        tombstones = {
            offset for offset, value in zip(records.offsets.tolist(), records.values, strict=True) if value is None
        }
        for offset in empty:
            place = f"{self._topic}/{partition}/{offset}"
            if offset in tombstones:
                self._on_error("tombstone", f"{place}: the record has no value and is skipped")
            else:
                self._on_error("empty", f"{place}: expected rows, but the value holds none; the record is skipped")


class ReadAhead:
    """Chunks that were read and not handed over yet, in order; whoever shares it holds a lock.

    `n_bytes` is the size of their payloads.
    """

    def __init__(self) -> None:
        self.n_bytes = 0
        self._chunks: deque[tuple[int, Chunk]] = deque()  # with their partitions

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def add(self, partition: int, chunks: Sequence[Chunk]) -> None:
        """Add chunks of a partition."""
        self._chunks.extend((partition, chunk) for chunk in chunks)
        self.n_bytes += sum(map(size_of, chunks))

    def take(self) -> tuple[int, Chunk]:
        """Remove the first chunk; returns its partition, and the chunk."""
        partition, chunk = self._chunks.popleft()
        self.n_bytes -= size_of(chunk)
        return partition, chunk

    def forget(self, partitions: Collection[int]) -> None:
        """Drop what was not handed over; the next owner of the partition reads it again."""
        self._chunks = deque((partition, chunk) for partition, chunk in self._chunks if partition not in partitions)
        self.n_bytes = sum(size_of(chunk) for _, chunk in self._chunks)

    def clear(self) -> None:
        """Drop everything."""
        self._chunks.clear()
        self.n_bytes = 0


def size_of(chunk: Chunk) -> int:
    """Return the size of a payload of bytes."""
    return len(chunk.payload) if isinstance(chunk.payload, bytes) else 0
