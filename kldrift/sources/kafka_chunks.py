"""From the records of a partition to chunks."""

from collections.abc import Callable, Sequence

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
