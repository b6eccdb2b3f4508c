"""A member of a consumer group, in its own thread; see `kafka.KafkaSource`."""

import logging
import threading
import time
from contextlib import suppress
from typing import Any

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
from kldrift.records.sources import KafkaSourceConfig
from kldrift.sources.base import Positions, Surroundings
from kldrift.sources.kafka_chunks import ChunkMaker, ReadAhead, size_of
from kldrift.sources.kafka_errors import DENIED, DOWN, NO_TOPIC, source_error
from kldrift.sources.kafka_offsets import Offsets
from kldrift.sources.kafka_records import Records, by_partition, records_of
from kldrift.sources.kafka_settings import KafkaLimits

# How much to ask for at a time. More makes larger chunks of each partition, but delays the first.
_BATCH_BYTES = 16 << 20
_MAX_BATCH = 1 << 15
_POLL_SECONDS = 0.1
_REQUEST_SECONDS = 10.0
_CLOSE_SECONDS = 1.0

# Without a logger the library writes to standard error; everything that matters also arrives as an error.
_SILENT = logging.getLogger("kldrift.librdkafka")
_SILENT.setLevel(logging.CRITICAL + 1)


class Member:
    """Reads ahead and keeps up the membership.

    `ended`, `take`, `leave`, `is_leaving` and `close` are for the owner's thread; everything else runs in the member's.

    Parameters
    ----------
    settings : of librdkafka
    positions : where to continue, by stream
    """

    def __init__(
        self,
        config: KafkaSourceConfig,
        surroundings: Surroundings,
        limits: KafkaLimits,
        settings: dict[str, Any],
        positions: Positions,
    ) -> None:
        self._name = config.name
        self._topic = config.topic
        self._start = config.start
        self._follow = not surroundings.once
        self._report = surroundings.on_error
        self._on_rebalance = surroundings.on_rebalance
        self._limits = limits
        self._maker = ChunkMaker(config, surroundings, limits.chunk_bytes, self._lag)
        self._changed = threading.Condition()
        self._ahead = ReadAhead()
        self._offsets = Offsets(config.topic, positions, surroundings.settled)
        self._assigned: set[int] = set()
        self._ends: dict[int, int] = {}  # once: where the partitions end
        self._unread: set[int] = set()  # those not read to that end yet
        self._failure: SourceError | None = None
        self._leaving = False
        self._leave_by = 0.0
        self._closing = False
        self._done = False
        self._paused = False
        self._met = False  # a broker, since this member began
        self._down_since: float | None = None
        self._bytes_per_record = 1_000.0
        try:
            self._consumer = Consumer({**settings, "error_cb": self._on_error}, logger=_SILENT)
        except (KafkaException, ValueError, TypeError) as error:
            reason = error.args[0].str() if isinstance(error, KafkaException) else error
            raise SourceError(
                f"{self._name}: the Kafka client refuses its settings: {reason}", "configuration"
            ) from None
        self._thread = threading.Thread(target=self._run, name=f"kafka-{self._name}", daemon=True)
        self._thread.start()

    # --- the owner's side ------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether everything was read and handed over."""
        with self._changed:
            return self._done and not self._ahead and self._failure is None

    @property
    def connected(self) -> bool:
        """Whether a broker has answered and none is known to be missing since."""
        return self._met and self._down_since is None

    def take(self, seconds: float) -> Chunk | None:
        """Return the next chunk, or None if none arrives in time.

        Raises
        ------
        SourceError
            nothing more can be read
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ahead or self._done, seconds)
            if self._ahead:
                partition, chunk = self._ahead.take()
                self._offsets.give(partition, int(chunk.position["offset"]))
                self._changed.notify_all()
                return chunk
            if self._failure is not None:
                raise self._failure
            return None

    def leave(self) -> None:
        """Begin to leave: nothing more is handed over."""
        self._leave_by = time.monotonic() + self._limits.settle_seconds + _CLOSE_SECONDS
        with self._changed:
            self._leaving = True
            self._ahead.clear()
            self._changed.notify_all()

    def is_leaving(self, seconds: float) -> bool:
        """Wait a little; return whether chunks that were handed over are still waiting to be settled."""
        self._thread.join(seconds)
        return self._thread.is_alive() and time.monotonic() < self._leave_by

    def close(self) -> None:
        """Leave without waiting for anything to be settled.

        If a request was in flight when the last broker went away, the client library only ends once a broker is back.
        This does not wait for that.
        """
        with self._changed:
            self._leaving = self._closing = True
            self._changed.notify_all()
        self._thread.join(_CLOSE_SECONDS)

    # --- the member's thread ---------------------------------------------------------------------

    def _run(self) -> None:
        try:
            if self._follow:
                self._consumer.subscribe(
                    [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
                )
            else:
                self._assign_all()
            self._read()
        except KafkaException as error:
            with suppress(KafkaException):
                self._consumer.poll(0)  # delivers a pending reason why no broker answers to `_on_error`
            self._fail(source_error(self._name, error.args[0]))
        except SourceError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - it must reach the owner, which waits for this thread
            self._fail(SourceError(f"{self._name}: {type(error).__name__}: {error}"))
        finally:
            self._consumer.close()
            with self._changed:
                self._done = True
                self._changed.notify_all()

    def _fail(self, failure: SourceError) -> None:
        with self._changed:
            self._failure = self._failure or failure
            self._closing = self._closing or failure.reason == "unreachable"  # there is nobody to commit to

    def _read(self) -> None:
        next_commit = time.monotonic() + self._limits.commit_seconds
        while not self._leaving and self._failure is None:
            self._wait_for_room()
            wanted = 1 if self._paused else max(1, min(_MAX_BATCH, int(_BATCH_BYTES / self._bytes_per_record)))
            messages = self._consumer.consume(wanted, _POLL_SECONDS)
            if messages:
                self._take_in(messages)
            if not self._follow and not self._unread:
                return
            if time.monotonic() >= next_commit:
                self._commit_settled()
                next_commit = time.monotonic() + self._limits.commit_seconds
            self._check_brokers()

    def _wait_for_room(self) -> None:
        """Wait while the buffer is full; if that takes long, pause the partitions so that we stay in the group."""
        with self._changed:
            full = self._ahead.n_bytes >= self._limits.buffer_bytes
            if full and not self._paused:
                full = not self._changed.wait_for(
                    lambda: self._leaving or self._ahead.n_bytes < self._limits.buffer_bytes, self._limits.block_seconds
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
            self._met, self._down_since = True, None
        n_bytes = 0
        for partition, run in by_partition(messages).items():
            end = self._ends.get(partition)
            if not self._follow:
                run = [message for message in run if end is not None and (message.offset() or 0) < end]
            if run:
                n_bytes += self._add(partition, self._offsets.new(partition, records_of(run)))
            if end is not None and run and (run[-1].offset() or 0) >= end - 1:
                self._unread.discard(partition)
        if messages:
            self._bytes_per_record += 0.5 * (max(1.0, n_bytes / len(messages)) - self._bytes_per_record)

    def _add(self, partition: int, records: Records) -> int:
        """Make chunks of records that arrived; return the size of their payloads."""
        chunks = self._maker.chunks(partition, records)
        with self._changed:
            if partition in self._assigned:  # otherwise it was taken away while these were on their way
                self._ahead.add(partition, chunks)
                self._changed.notify_all()
        return sum(map(size_of, chunks))

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
            # a partition that was paused when it left comes back paused
            (consumer.pause if self._paused else consumer.resume)(partitions)
        except KafkaException as error:
            self._fail(source_error(self._name, error.args[0]))
            return
        with self._changed:
            self._met = True
            self._assigned |= {found.partition for found in partitions}
        self._report_rebalance()

    def _begin(self, found: TopicPartition, committed: int) -> None:
        """Decide where a partition begins."""
        with self._changed:
            start = self._offsets.start(found.partition, committed)
        if start is None and self._start == "latest":
            # As a number: if the partition comes again before a record of it was handed over, it continues from here.
            _, start = self._consumer.get_watermark_offsets(self._partition(found.partition), _REQUEST_SECONDS)
            self._offsets.own[found.partition] = start
        found.offset = OFFSET_BEGINNING if start is None else start
        self._offsets.begin(found.partition, found.offset, committed)

    def _report_rebalance(self) -> None:
        self._on_rebalance([f"{self._topic}/{partition}" for partition in sorted(self._assigned)])

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        gone = {found.partition for found in partitions}
        with self._changed:
            self._ahead.forget(gone)
        end = time.monotonic() + self._limits.settle_seconds
        while not self._closing and time.monotonic() < end and not self._offsets.all_settled(gone):
            with self._changed:
                self._changed.wait(0.05)
        if not self._closing:
            self._commit(gone, asynchronous=False)
        self._let_go(gone)

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        gone = {found.partition for found in partitions}
        with self._changed:
            self._ahead.forget(gone)
        self._report(
            "lost",
            f"{self._topic}: {len(gone)} partitions were lost, because the group received no heartbeat in time",
        )
        if self._down_since is None:
            self._down_since = time.monotonic()  # check whether a broker is still there
        self._let_go(gone)

    def _let_go(self, gone: set[int]) -> None:
        with self._changed:
            self._assigned -= gone
            for partition in gone:
                self._offsets.end(partition)
        self._report_rebalance()

    def _commit_settled(self) -> None:
        if self._follow and self._assigned and self._down_since is None:
            self._commit(self._assigned, asynchronous=True)

    def _commit(self, partitions: set[int], asynchronous: bool) -> None:
        """Commit what is settled at the broker."""
        moved = self._offsets.to_commit(partitions)
        if not moved:
            return
        offsets = [TopicPartition(self._topic, partition, offset) for partition, offset in moved.items()]
        try:
            if asynchronous:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            else:
                self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            self._report(
                "commit", f"{self._topic}: offsets could not be committed at the broker ({error.args[0].str()})"
            )
        else:
            self._offsets.commit(moved)

    # --- without the group -----------------------------------------------------------------------

    def _assign_all(self) -> None:
        """Take every partition, up to its current end."""
        topic = self._consumer.list_topics(self._topic, _REQUEST_SECONDS).topics[self._topic]
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
        self._met = True
        self._unread = set(self._ends)
        self._assigned = set(self._ends)
        self._consumer.incremental_assign(taken)

    # --- errors ---------------------------------------------------------------------------------

    def _on_message_error(self, message: Message, error: KafkaError) -> None:
        partition = message.partition()
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            self._unread.discard(-1 if partition is None else partition)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET and partition is not None:  # noqa: SLF001
            self._report(
                "out_of_range",
                f"{self._topic}/{partition}: the topic no longer holds our position"
                f" {self._offsets.own.get(partition)}; continuing at the oldest record. Is its retention too short?",
            )
            self._offsets.restart(partition)
            # not `seek`: a partition that failed has no position to move
            self._consumer.incremental_unassign([self._partition(partition)])
            self._consumer.incremental_assign([self._partition(partition, OFFSET_BEGINNING)])
        elif error.fatal() or error.code() in DENIED | NO_TOPIC:
            raise source_error(self._name, error)
        else:
            self._report("broker", f"{self._topic}: {error.str()} ({error.name()})")

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in DOWN:
            if error.code() == KafkaError._ALL_BROKERS_DOWN and self._down_since is None:  # noqa: SLF001
                self._down_since = time.monotonic()
        elif error.fatal() or error.code() in DENIED:
            self._fail(source_error(self._name, error))
        else:
            self._report("broker", f"{self._topic}: {error.str()} ({error.name()})")

    def _check_brokers(self) -> None:
        """Ask whether a broker is back, since nothing announces it."""
        if self._down_since is None or time.monotonic() - self._down_since < self._limits.down_seconds:
            return
        # A broker that has just started knows of no broker, not even itself. The client library then forgets all the
        # brokers it knew and may never connect again (librdkafka #5301): the next request notices and fails.
        if self._consumer.list_topics(self._topic, 2.0).brokers:
            self._down_since = None

    def _partition(self, partition: int, offset: int = OFFSET_INVALID) -> TopicPartition:
        return TopicPartition(self._topic, partition, offset)

    def _partitions(self, partitions: set[int]) -> list[TopicPartition]:
        return [self._partition(partition) for partition in sorted(partitions)]
