"""A topic of Apache Kafka."""

import threading
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

from kldrift.errors import SourceError
from kldrift.records.samples import Chunk
from kldrift.records.sources import KafkaSourceConfig
from kldrift.sources.base import Positions, Surroundings
from kldrift.sources.kafka_settings import KafkaLimits, client_settings

if TYPE_CHECKING:  # the library behind it is an extra
    from kldrift.sources.kafka_member import Member

_DEFAULT_LIMITS = KafkaLimits()


class KafkaSource:
    """The records of a topic, read as a member of a consumer group.

    A stream is a partition, ``topic/partition``; its position is `offset`, that of the next record. A chunk holds
    consecutive records of one partition as NDJSON lines (`Chunk.times_ms`: the time of each line's record), or a
    single record where the values are Arrow streams (the chunk's arrival is then the record's time).

    **Where a newly assigned partition starts**: at our own position or the offset that the group has committed at the
    broker, whichever is larger; at `start` if there is neither. Our own position is that of the last chunk handed
    over, or the one that `chunks` was called with. The committed offset only ever follows what is `settled`.

    - One member: every record is handed over exactly once, whatever is stopped, killed, lost or rebalanced, provided
      that `positions` are stored in one transaction with the counts: the offset committed at the broker is never ahead
      of them. (After restoring an older state, reading resumes at the committed offset: reset that as well, or use
      another `group`.)
    - Several members: each sees and counts its share, and the sum over all of them is the topic. A partition that is
      given back in order (a member joins, or leaves on SIGTERM) changes hands exactly: records that were read but not
      handed over are dropped, and those handed over are waited for (`settle_seconds`) and committed before the next
      owner starts.
    - Several members, one of which is lost (killed, stopped for longer than the session, cut off) or cannot store its
      counts in time: the next owner starts at the last committed offset, a few seconds back, and the records in
      between are counted once by each of the two. No record is left uncounted. Positions of partitions that moved
      elsewhere stay in the state.

    If the topic no longer holds a position (retention, or the topic was deleted and created again), reading continues
    at the oldest record and the gap is reported. Records without rows (tombstones, empty values) are reported and
    skipped.

    A separate thread keeps up the membership and reads ahead by up to `buffer_bytes`; while nobody takes chunks, it
    pauses the partitions and stays in the group.

    With `Surroundings.once`, every partition is read to the end it has at the beginning, without the group: committed
    offsets are neither looked at nor changed. Otherwise the source never ends.

    A configured `member` is a name that no other member of the group has: whoever returns under it, even after a kill,
    takes up its partitions at once. Without a name, the partitions of a member that was killed wait for 10 s.

    `on_error` gets one of the reasons `tombstone`, `empty`, `out_of_range`, `commit`, `lost` and `broker`.

    Parameters
    ----------
    limits : sizes and times
    settings : more settings of librdkafka
    """

    def __init__(
        self,
        config: KafkaSourceConfig,
        surroundings: Surroundings,
        *,
        limits: KafkaLimits = _DEFAULT_LIMITS,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = config.name
        self._config = config
        self._surroundings = surroundings
        self._limits = limits
        self._settings = dict(settings or {})

    def chunks(self, positions: Positions, stop: threading.Event) -> Generator[Chunk | None, None, None]:
        """Yield the records of our partitions; see `Source`. Once stopped, yield None until everything handed over is
        settled and committed, for at most `settle_seconds`.

        Raises
        ------
        SourceError
            no broker answers (`unreachable`), the broker refuses us (`denied`), the topic does not exist
            (`unknown_topic`), the settings are wrong (`configuration`), a secret cannot be read (`secret`), the client
            library is not installed (`not_installed`)
        """
        if stop.is_set():
            return
        member = self._join(positions)
        try:
            handed_over = False
            while not stop.is_set() and not member.ended:
                chunk = member.take(0.25)
                if chunk is not None or handed_over or member.connected:
                    yield chunk
                handed_over = chunk is not None
            member.leave()
            while member.is_leaving(0.1):
                yield None
        finally:
            member.close()

    def _join(self, positions: Positions) -> "Member":
        try:
            from kldrift.sources.kafka_member import Member
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] != "confluent_kafka":
                raise
            raise SourceError(
                f"{self.name}: expected the package confluent-kafka, which is not installed; pip install"
                " 'kldrift[kafka]'",
                "not_installed",
            ) from None
        settings = {**client_settings(self._config, self._surroundings.once), **self._settings}
        return Member(self._config, self._surroundings, self._limits, settings, positions)
