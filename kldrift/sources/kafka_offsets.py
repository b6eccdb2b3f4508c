"""Which records of a partition are ours to give out, and which are settled."""

from collections.abc import Callable, Iterable

import numpy as np

from kldrift.sources.base import Positions
from kldrift.sources.kafka_records import Records


class Offsets:
    """What a member knows of each partition, by its number.

    Every offset is that of the next record: behind what was given out (`own`, also of partitions that went elsewhere),
    behind what was read, behind what is committed at the broker.

    Parameters
    ----------
    positions : where to go on, by stream
    settled : positions that were counted for good, by stream; None: nobody says
    """

    def __init__(self, topic: str, positions: Positions, settled: Callable[[], Positions] | None) -> None:
        self.topic = topic
        self.own: dict[int, int] = {}
        self._settled = settled
        self._first: dict[int, int] = {}
        self._read: dict[int, int] = {}
        self._given: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._begun_anew: set[int] = set()
        for stream, position in positions.items():
            of, _, partition = stream.rpartition("/")
            if of == topic and partition.isdecimal():
                self.own[int(partition)] = int(position["offset"])

    def start(self, partition: int, committed: int) -> int | None:
        """Where to begin: at the larger one of our own and the committed offset (negative: none); None without both."""
        if partition in self._begun_anew:
            return self.own.get(partition)
        found = max(committed, self.own.get(partition, -1))
        return found if found >= 0 else None

    def begin(self, partition: int, offset: int, committed: int) -> None:
        """The partition is ours, from this offset on; a negative one is its oldest record."""
        self._first[partition] = self._read[partition] = max(0, offset)
        self._committed[partition] = committed

    def begin_anew(self, partition: int) -> None:
        """The topic does not hold our position: go on at its oldest record. What is committed concerns it no more."""
        self._begun_anew.add(partition)
        self._first[partition] = self._read[partition] = self.own[partition] = 0

    def end(self, partition: int) -> None:
        """The partition is not ours any more."""
        self._given.pop(partition, None)

    def give(self, partition: int, next_offset: int) -> None:
        """Everything before this offset was given out."""
        self.own[partition] = self._given[partition] = next_offset

    def new(self, partition: int, records: Records) -> Records:
        """Without what was read before: one batch may hold what came before a rebalance and what came after it."""
        read = self._read.get(partition, 0)
        before = np.maximum.accumulate(np.concatenate(([read - 1], records.offsets)))
        self._read[partition] = int(before[-1]) + 1
        new = records.offsets > before[:-1]
        if new.all():
            return records
        values = [value for value, is_new in zip(records.values, new.tolist(), strict=True) if is_new]
        return Records(values, records.offsets[new], records.times_ms[new])

    def all_settled(self, partitions: Iterable[int]) -> bool:
        """Whether everything that was given out of them is counted for good."""
        given = {partition: self._given[partition] for partition in partitions if partition in self._given}
        return self._settled is None or self._counted(given) == given

    def to_commit(self, partitions: Iterable[int]) -> dict[int, int]:
        """The settled offsets of partitions, where the broker has another."""
        return {
            partition: offset
            for partition, offset in self._counted(partitions).items()
            if offset != self._committed[partition]
        }

    def commit(self, offsets: dict[int, int]) -> None:
        """The broker has these."""
        self._committed |= offsets

    def _counted(self, partitions: Iterable[int]) -> dict[int, int]:
        """What is settled of what was given out since the partitions are ours.

        An older position may be behind what another owner committed since, or before a topic that was made anew.
        """
        positions = {} if self._settled is None else self._settled()
        found = {}
        for partition in partitions:
            position = positions.get(f"{self.topic}/{partition}")
            given = self._given.get(partition, -1)
            if position is not None and self._first.get(partition, 0) <= int(position["offset"]) <= given:
                found[partition] = int(position["offset"])
        return found
