"""Which records of a partition are ours to hand over, and which are settled."""

from collections.abc import Callable, Iterable

import numpy as np

from kldrift.sources.base import Positions
from kldrift.sources.kafka_records import Records


class Offsets:
    """What a member knows about each partition, by its number.

    Every offset is that of the next record: after what was handed over (`own`, which also covers partitions that moved
    elsewhere), after what was read, after what is committed at the broker.

    Parameters
    ----------
    positions : where to continue, by stream
    settled : returns the positions that are durably counted, by stream; None: nobody knows
    """

    def __init__(self, topic: str, positions: Positions, settled: Callable[[], Positions] | None) -> None:
        self.topic = topic
        self.own: dict[int, int] = {}
        self._settled = settled
        self._first: dict[int, int] = {}
        self._read: dict[int, int] = {}
        self._handed_over: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._restarted: set[int] = set()
        for stream, position in positions.items():
            of, _, partition = stream.rpartition("/")
            if of == topic and partition.isdecimal():
                self.own[int(partition)] = int(position["offset"])

    def start(self, partition: int, committed: int) -> int | None:
        """Return where to begin: at our own or the committed offset (negative: none), whichever is larger; None without
        either.
        """
        if partition in self._restarted:
            return self.own.get(partition)
        found = max(committed, self.own.get(partition, -1))
        return found if found >= 0 else None

    def begin(self, partition: int, offset: int, committed: int) -> None:
        """Record that the partition is ours from this offset; a negative one stands for its oldest record."""
        self._first[partition] = self._read[partition] = max(0, offset)
        self._committed[partition] = committed

    def restart(self, partition: int) -> None:
        """Continue at the oldest record, since the topic no longer holds our position. Ignore the committed offset from
        now on.
        """
        self._restarted.add(partition)
        self._first[partition] = self._read[partition] = self.own[partition] = 0

    def end(self, partition: int) -> None:
        """Record that the partition is no longer ours."""
        self._handed_over.pop(partition, None)

    def give(self, partition: int, next_offset: int) -> None:
        """Record that everything before this offset was handed over."""
        self.own[partition] = self._handed_over[partition] = next_offset

    def new(self, partition: int, records: Records) -> Records:
        """Remove records that were read before. One batch may hold records from before and after a rebalance."""
        read = self._read.get(partition, 0)
        before = np.maximum.accumulate(np.concatenate(([read - 1], records.offsets)))
        self._read[partition] = int(before[-1]) + 1
        new = records.offsets > before[:-1]
        if new.all():
            return records
        values = [value for value, is_new in zip(records.values, new.tolist(), strict=True) if is_new]
        return Records(values, records.offsets[new], records.times_ms[new])

    def all_settled(self, partitions: Iterable[int]) -> bool:
        """Return whether everything handed over from these partitions is durably counted."""
        given = {partition: self._handed_over[partition] for partition in partitions if partition in self._handed_over}
        return self._settled is None or self._counted(given) == given

    def to_commit(self, partitions: Iterable[int]) -> dict[int, int]:
        """Return the settled offsets of partitions, where they differ from the broker's."""
        return {
            partition: offset
            for partition, offset in self._counted(partitions).items()
            if offset != self._committed[partition]
        }

    def commit(self, offsets: dict[int, int]) -> None:
        """Record that the broker has these offsets."""
        self._committed |= offsets

    def _counted(self, partitions: Iterable[int]) -> dict[int, int]:
        """Return the settled offsets within what was handed over since the partitions became ours.

        An older position may be behind what another owner has committed since, or date from before the topic was
        deleted and created again.
        """
        positions = {} if self._settled is None else self._settled()
        found = {}
        for partition in partitions:
            position = positions.get(f"{self.topic}/{partition}")
            given = self._handed_over.get(partition, -1)
            if position is not None and self._first.get(partition, 0) <= int(position["offset"]) <= given:
                found[partition] = int(position["offset"])
        return found
