"""A member of a consumer group, in a thread of its own; see `kafka.KafkaSource`."""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from kldrift.errors import SourceError
from kldrift.records.samples import Chunk
from kldrift.sources.base import Positions
from kldrift.sources.kafka_errors import DENIED, DOWN, NO_TOPIC, source_error
from kldrift.sources.kafka_offsets import Offsets
from kldrift.sources.kafka_records import Records, by_partition, lines_of, pieces, records_of

if TYPE_CHECKING:
    from kldrift.sources.kafka import KafkaSource

# So much is asked for at a time. More of it makes larger chunks of each partition, and waits longer for the first.
_BATCH_BYTES = 16 << 20
_MAX_BATCH = 1 << 15
_POLL_SECONDS = 0.1
_REQUEST_SECONDS = 10.0
_CLOSE_SECONDS = 1.0

# The library writes to standard error unless it has a logger; what matters comes as errors as well.
_SILENT = logging.getLogger("kldrift.librdkafka")
_SILENT.setLevel(logging.CRITICAL + 1)


class Member:
    """Reads ahead, and answers the group.

    `take`, `leave`, `is_leaving` and `close` are called by the owner's thread, everything else runs in the member's.
    """

    def __init__(self, source: "KafkaSource", settings: dict[str, Any], positions: Positions) -> None:
        self._source = source
        self._changed = threading.Condition()
        self._chunks: deque[tuple[int, Chunk]] = deque()  # partition and chunk, not given out yet
        self._n_bytes = 0
        self._offsets = Offsets(source.topic, positions, source.settled)
        self._assigned: set[int] = set()
        self._ends: dict[int, int] = {}  # not followed: where the partitions end
        self._unread: set[int] = set()  # of those
        self._failure: SourceError | None = None
        self._leaving = False
        self._leave_by = 0.0
        self._closing = False
        self._done = False
        self._paused = False
        self._down_since: float | None = None
        self._bytes_per_record = 1_000.0
        try:
            self._consumer = Consumer({**settings, "error_cb": self._on_error}, logger=_SILENT)
        except (KafkaException, ValueError, TypeError) as error:
            reason = error.args[0].str() if isinstance(error, KafkaException) else error
            raise SourceError(
                f"{source.name}: expected settings that the Kafka client takes, it says: {reason}", "configuration"
            ) from None
        self._thread = threading.Thread(target=self._run, name=f"kafka-{source.name}", daemon=True)
        self._thread.start()

    # --- the owner's side ------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """All was read that there is to read, and given out."""
        with self._changed:
            return self._done and not self._chunks and self._failure is None

    def take(self, seconds: float) -> Chunk | None:
        """The next chunk, or None after a while.

        Raises
        ------
        SourceError
            nothing more can be read
        """
        with self._changed:
            self._changed.wait_for(lambda: self._chunks or self._done, seconds)
            if self._chunks:
                partition, chunk = self._chunks.popleft()
                self._n_bytes -= _size(chunk)
                self._offsets.give(partition, int(chunk.position["offset"]))
                self._changed.notify_all()
                return chunk
            if self._failure is not None:
                raise self._failure
            return None

    def leave(self) -> None:
        """Begin to leave: nothing more is given out."""
        self._leave_by = time.monotonic() + self._source.settle_seconds + _CLOSE_SECONDS
        with self._changed:
            self._leaving = True
            self._forget({partition for partition, _ in self._chunks})
            self._changed.notify_all()

    def is_leaving(self, seconds: float) -> bool:
        """Wait a little; whether what was given out still waits to be settled."""
        self._thread.join(seconds)
        return self._thread.is_alive() and time.monotonic() < self._leave_by

    def close(self) -> None:
        """Leave without waiting for anything to be settled.

        Where a request was under way when the last broker went, the client library ends once one is back: that is not
        waited for.
        """
        with self._changed:
            self._leaving = self._closing = True
            self._changed.notify_all()
        self._thread.join(_CLOSE_SECONDS)

    # --- the member's thread ---------------------------------------------------------------------

    def _run(self) -> None:
        try:
            if self._source.follow:
                self._consumer.subscribe(
                    [self._source.topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
                )
            else:
                self._assign_all()
            self._read()
        except KafkaException as error:
            with suppress(KafkaException):
                self._consumer.poll(0)  # why no broker answers may wait to be told: `_on_error`
            self._fail(source_error(self._source.name, error.args[0]))
        except SourceError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - it must reach the owner, who waits for this thread
            self._fail(SourceError(f"{self._source.name}: {type(error).__name__}: {error}"))
        finally:
            self._consumer.close()
            with self._changed:
                self._done = True
                self._changed.notify_all()

    def _fail(self, failure: SourceError) -> None:
        with self._changed:
            self._failure = self._failure or failure
            self._closing = self._closing or failure.reason == "unreachable"  # nobody is there to commit to

    def _read(self) -> None:
        next_commit = time.monotonic() + self._source.commit_seconds
        while not self._leaving and self._failure is None:
            self._wait_for_room()
            wanted = 1 if self._paused else max(1, min(_MAX_BATCH, int(_BATCH_BYTES / self._bytes_per_record)))
            messages = self._consumer.consume(wanted, _POLL_SECONDS)
            if messages:
                self._take_in(messages)
            if not self._source.follow and not self._unread:
                return
            if time.monotonic() >= next_commit:
                self._follow_commits()
                next_commit = time.monotonic() + self._source.commit_seconds
            self._look_for_brokers()

    def _wait_for_room(self) -> None:
        """Wait while the buffer is full; for long, with the partitions paused, so that the group is answered."""
        with self._changed:
            full = self._n_bytes >= self._source.buffer_bytes
            if full and not self._paused:
                full = not self._changed.wait_for(
                    lambda: self._leaving or self._n_bytes < self._source.buffer_bytes, self._source.block_seconds
                )
        if full != self._paused:
            ours = self._partitions(self._assigned)
            (self._consumer.pause if full else self._consumer.resume)(ours)
            self._paused = full

    def _take_in(self, messages: list[Message]) -> None:
        failed = [(message, error) for message in messages if (error := message.error()) is not None]
        if failed:
            for message, error in failed:
                self._on_message_error(message, error)
            messages = [message for message in messages if message.error() is None]
        if messages:
            self._down_since = None
        n_bytes = 0
        for partition, run in by_partition(messages).items():
            end = self._ends.get(partition)
            if not self._source.follow:
                run = [message for message in run if end is not None and (message.offset() or 0) < end]
            if run:
                n_bytes += self._add(partition, self._offsets.new(partition, records_of(run)))
            if end is not None and run and (run[-1].offset() or 0) >= end - 1:
                self._unread.discard(partition)
        if messages:
            self._bytes_per_record += 0.5 * (max(1.0, n_bytes / len(messages)) - self._bytes_per_record)

    def _add(self, partition: int, records: Records) -> int:
        """Make chunks of records that came; the bytes of their values."""
        n_bytes = 0
        chunks = []
        for piece in pieces(records, 0 if self._source.body_format == "arrow" else self._source.chunk_bytes):
            chunk = self._chunk(partition, piece)
            if chunk is not None:
                chunks.append((partition, chunk))
                n_bytes += _size(chunk)
        with self._changed:
            if partition in self._assigned:  # else it was taken away while these were on their way
                self._chunks.extend(chunks)
                self._n_bytes += n_bytes
                self._changed.notify_all()
        return n_bytes

    def _chunk(self, partition: int, records: Records) -> Chunk | None:
        next_offset = int(records.offsets[-1]) + 1
        payload, times_ms, offsets = b"", None, None
        now_ms = arrival_ms = self._source.clock_ms()
        if self._source.body_format == "arrow":
            payload = records.values[0] or b""
            empty = [] if payload else records.offsets.tolist()
            arrival_ms = int(records.times_ms[0]) if records.times_ms[0] >= 0 else now_ms
        else:
            lines, empty = lines_of(records, self._source.body_format)
            payload, times_ms, offsets = lines.payload, lines.times_ms, lines.offsets
            times_ms[times_ms < 0] = now_ms
        self._tell_empty(partition, records, empty)
        if not payload:
            return None
        return Chunk(
            stream=f"{self._source.topic}/{partition}",
            position={"offset": next_offset},
            payload=payload,
            arrival_ms=arrival_ms,
            lag_records=self._lag(partition, next_offset),
            times_ms=times_ms,
            offsets=offsets,
        )

    def _tell_empty(self, partition: int, records: Records, empty: Sequence[int]) -> None:
        if not empty:
            return
        tombstones = {
            offset for offset, value in zip(records.offsets.tolist(), records.values, strict=True) if value is None
        }
        for offset in empty:
            place = f"{self._source.topic}/{partition}/{offset}"
            if offset in tombstones:
                self._source.on_error("tombstone", f"{place}: the record has no value; it is passed over")
            else:
                self._source.on_error("empty", f"{place}: expected rows, the value holds none; it is passed over")

    def _lag(self, partition: int, next_offset: int) -> int | None:
        try:
            _, high = self._consumer.get_watermark_offsets(self._partition(partition), cached=True)
        except KafkaException:
            return None
        return max(0, high - next_offset) if high >= 0 else None

    # --- the group -------------------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            committed = {found.partition: found.offset for found in consumer.committed(partitions, _REQUEST_SECONDS)}
            for found in partitions:
                self._begin(found, committed.get(found.partition, -1))
            consumer.incremental_assign(partitions)
            # one that was paused when it went, comes back paused
            (consumer.pause if self._paused else consumer.resume)(partitions)
        except KafkaException as error:
            self._fail(source_error(self._source.name, error.args[0]))
            return
        with self._changed:
            self._assigned |= {found.partition for found in partitions}
        self._tell_rebalance()

    def _begin(self, found: TopicPartition, committed: int) -> None:
        """Say where a partition begins."""
        with self._changed:
            start = self._offsets.start(found.partition, committed)
        if start is None and self._source.start == "latest":
            # As a number: should it come again before a record of it was given out, it goes on from here.
            _, start = self._consumer.get_watermark_offsets(self._partition(found.partition), _REQUEST_SECONDS)
            self._offsets.own[found.partition] = start
        found.offset = OFFSET_BEGINNING if start is None else start
        self._offsets.begin(found.partition, found.offset, committed)

    def _tell_rebalance(self) -> None:
        self._source.on_rebalance([f"{self._source.topic}/{partition}" for partition in sorted(self._assigned)])

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        gone = {found.partition for found in partitions}
        with self._changed:
            self._forget(gone)
        end = time.monotonic() + self._source.settle_seconds
        while not self._closing and time.monotonic() < end and not self._offsets.all_settled(gone):
            with self._changed:
                self._changed.wait(0.05)
        if not self._closing:
            self._commit(gone, asynchronous=False)
        self._let_go(gone)

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        gone = {found.partition for found in partitions}
        with self._changed:
            self._forget(gone)
        self._source.on_error(
            "lost", f"{self._source.topic}: {len(gone)} partitions were lost, the group had no sign of life in time"
        )
        if self._down_since is None:
            self._down_since = time.monotonic()  # is anybody there?
        self._let_go(gone)

    def _let_go(self, gone: set[int]) -> None:
        with self._changed:
            self._assigned -= gone
            for partition in gone:
                self._offsets.end(partition)
        self._tell_rebalance()

    def _forget(self, partitions: set[int]) -> None:
        """Drop what was read and not given out; whoever reads the partition next reads it again."""
        self._chunks = deque((partition, chunk) for partition, chunk in self._chunks if partition not in partitions)
        self._n_bytes = sum(_size(chunk) for _, chunk in self._chunks)

    def _follow_commits(self) -> None:
        if self._source.follow and self._assigned and self._down_since is None:
            self._commit(self._assigned, asynchronous=True)

    def _commit(self, partitions: set[int], asynchronous: bool) -> None:
        """Let the broker's committed offsets follow what is settled."""
        moved = self._offsets.to_commit(partitions)
        if not moved:
            return
        offsets = [TopicPartition(self._source.topic, partition, offset) for partition, offset in moved.items()]
        try:
            if asynchronous:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            else:
                self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            self._source.on_error(
                "commit", f"{self._source.topic}: the broker's committed offsets stay behind ({error.args[0].str()})"
            )
        else:
            self._offsets.commit(moved)

    # --- without the group -----------------------------------------------------------------------

    def _assign_all(self) -> None:
        """Take every partition, up to the end it has now."""
        topic = self._consumer.list_topics(self._source.topic, _REQUEST_SECONDS).topics[self._source.topic]
        if topic.error is not None:
            raise KafkaException(topic.error)
        taken = []
        for partition in sorted(topic.partitions):
            low, high = self._consumer.get_watermark_offsets(self._partition(partition), _REQUEST_SECONDS)
            found = self._partition(partition)
            self._begin(found, -1)
            if max(found.offset, low) < high or found.offset > high:
                taken.append(found)
                self._ends[partition] = high
        self._unread = set(self._ends)
        self._assigned = set(self._ends)
        self._consumer.incremental_assign(taken)

    # --- what goes wrong -------------------------------------------------------------------------

    def _on_message_error(self, message: Message, error: KafkaError) -> None:
        partition = message.partition()
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            self._unread.discard(-1 if partition is None else partition)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET and partition is not None:  # noqa: SLF001
            self._source.on_error(
                "out_of_range",
                f"{self._source.topic}/{partition}: the topic does not hold our position"
                f" {self._offsets.own.get(partition)}, it goes on at the oldest record; is its retention too short?",
            )
            self._offsets.begin_anew(partition)
            # not by `seek`: a partition that failed has no position to move
            self._consumer.incremental_unassign([self._partition(partition)])
            self._consumer.incremental_assign([self._partition(partition, OFFSET_BEGINNING)])
        elif error.fatal() or error.code() in DENIED | NO_TOPIC:
            raise source_error(self._source.name, error)
        else:
            self._source.on_error("broker", f"{self._source.topic}: {error.str()} ({error.name()})")

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in DOWN:
            if error.code() == KafkaError._ALL_BROKERS_DOWN and self._down_since is None:  # noqa: SLF001
                self._down_since = time.monotonic()
        elif error.fatal() or error.code() in DENIED:
            self._fail(source_error(self._source.name, error))
        else:
            self._source.on_error("broker", f"{self._source.topic}: {error.str()} ({error.name()})")

    def _look_for_brokers(self) -> None:
        """Nothing says that a broker is back: ask."""
        if self._down_since is None or time.monotonic() - self._down_since < self._source.down_seconds:
            return
        # A broker that is just starting knows of none, not even of itself. The client library then forgets all it knew,
        # and may never connect again (librdkafka #5301): the next question finds out, and ends in an error.
        if self._consumer.list_topics(self._source.topic, 2.0).brokers:
            self._down_since = None

    def _partition(self, partition: int, offset: int = OFFSET_INVALID) -> TopicPartition:
        return TopicPartition(self._source.topic, partition, offset)

    def _partitions(self, partitions: set[int]) -> list[TopicPartition]:
        return [self._partition(partition) for partition in sorted(partitions)]


def _size(chunk: Chunk) -> int:
    return len(chunk.payload) if isinstance(chunk.payload, bytes) else 0
