"""A topic of Apache Kafka."""

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kldrift.errors import SourceError
from kldrift.records.samples import Chunk
from kldrift.sources.base import Positions
from kldrift.sources.contents import ErrorCallback

if TYPE_CHECKING:  # the library behind it is an extra
    from kldrift.sources.kafka_member import Member
    from kldrift.sources.kafka_records import ValueFormat

_FETCH_BYTES = 4 << 20
_MAX_SECRET_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """How to reach brokers that want to know who comes. Secrets are read from their files at each connection."""

    protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username_file: Path | None = None
    password_file: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_password_file: Path | None = None

    def settings(self) -> dict[str, str]:
        """The client library's settings, secrets among them.

        Raises
        ------
        SourceError
            a file of a secret cannot be read (``secret``)
        """
        given = {
            "security.protocol": self.protocol,
            "sasl.mechanism": self.mechanism,
            "sasl.username": _secret(self.username_file),
            "sasl.password": _secret(self.password_file),
            "ssl.ca.location": self.ca,
            "ssl.certificate.location": self.certificate,
            "ssl.key.location": self.key,
            "ssl.key.password": _secret(self.key_password_file),
        }
        return {key: str(value) for key, value in given.items() if value is not None}


def _secret(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_SECRET_BYTES)
        text = content.decode("utf-8").rstrip("\r\n")
    except OSError as error:
        raise SourceError(
            f"{path}: expected a file with a secret, it cannot be read ({error.strerror}); check the path", "secret"
        ) from error
    except UnicodeDecodeError:  # not chained: its text holds the secret
        text = ""
    if not text or "\0" in text:
        raise SourceError(f"{path}: expected a secret as UTF-8 text, the file holds none; write it there", "secret")
    return text


class KafkaSource:
    """The records of a topic, as a member of a consumer group.

    A stream is a partition, ``topic/partition``; its position is `offset`, that of the next record. A chunk holds
    consecutive records of one partition as NDJSON lines (`Chunk.times_ms`: the time of each line's record), or one
    record where the values are Arrow streams (its time is the chunk's arrival).

    **Where a partition goes on** when it is assigned: at the larger one of our own position and the offset that the
    group has committed at the broker; without either at `start`. Our own position is that of the last chunk given
    out, or what `chunks` was called with. The committed offset only follows what is `settled`.

    - One member: every record is given out exactly once, whatever is stopped, killed, lost or rebalanced, provided that
      `positions` are stored in one transaction with the counts: what is committed at the broker never is ahead of
      that. (A restored older state goes on at the committed offset: reset that too, or take another `group`.)
    - Several members: each sees its share and counts it; the sum over them is the topic. A partition that is given
      back in order (members that join, or leave by SIGTERM) passes on exactly: what was read and not given out is
      forgotten, what was given out is waited for (`settle_seconds`) and committed before the next owner starts.
    - Several members, and one is lost (killed, stopped for longer than the session, cut off), or its counts cannot be
      stored in time: the next owner starts at the last committed offset, a few seconds back; records in between count
      once in each of the two. None is counted by nobody. Positions of partitions that went elsewhere stay in the state.

    A position that the topic does not hold any more (retention, or it was made anew) goes on at the oldest record,
    and says so. Records without rows (tombstones, empty values) are told of and passed over.

    The group is kept up from a thread of its own, which reads ahead up to `buffer_bytes`; while nobody takes chunks it
    pauses the partitions and stays in the group.

    Parameters
    ----------
    name : in the configuration
    brokers : ``host:port`` to begin with
    body_format : of a value: ``ndjson`` one or more rows, a line each; ``json`` a row or a list of rows; ``arrow`` an
        IPC stream
    start : where a partition begins that has no position
    follow : go on for ever, as a member of the group; else every partition to the end it has at the beginning, without
        the group (its committed offsets are neither looked at nor changed)
    clock_ms : the time, in ms since the epoch
    on_error : told (a word, a sentence) of `tombstone`, `empty`, `out_of_range`, `commit`, `lost`, `broker`
    member : a name that no other member of the group has: whoever comes back under it, even after a kill, takes its
        partitions up at once. Without it the partitions of a member that was killed wait for 10 s
    settled : positions that were counted for good, by stream; None: nothing is committed at the broker
    on_rebalance : told the streams that are ours, after each change
    settings : more settings of librdkafka
    chunk_bytes : about the largest chunk; a larger record is a chunk of its own
    buffer_bytes : how much to read ahead
    settle_seconds : how long a partition that is given back may wait for what was given out to be settled
    block_seconds : how long nobody may take a chunk before partitions are paused
    down_seconds : how long no broker may answer before the source is given up for now
    commit_seconds : between two commits at the broker
    """

    def __init__(
        self,
        name: str,
        brokers: tuple[str, ...],
        topic: str,
        group: str,
        body_format: "ValueFormat",
        start: Literal["earliest", "latest"],
        follow: bool,
        clock_ms: Callable[[], int],
        on_error: ErrorCallback,
        *,
        member: str | None = None,
        security: KafkaSecurity | None = None,
        settled: Callable[[], Positions] | None = None,
        on_rebalance: Callable[[Sequence[str]], None] = lambda _: None,
        settings: Mapping[str, Any] | None = None,
        chunk_bytes: int = 8 << 20,
        buffer_bytes: int = 32 << 20,
        settle_seconds: float = 4.0,
        block_seconds: float = 3.0,
        down_seconds: float = 5.0,
        commit_seconds: float = 5.0,
    ) -> None:
        self.name = name
        self.topic = topic
        self.body_format: ValueFormat = body_format
        self.start = start
        self.follow = follow
        self.clock_ms = clock_ms
        self.on_error = on_error
        self.settled = settled
        self.on_rebalance = on_rebalance
        self.chunk_bytes = chunk_bytes
        self.buffer_bytes = buffer_bytes
        self.settle_seconds = settle_seconds
        self.block_seconds = block_seconds
        self.down_seconds = down_seconds
        self.commit_seconds = commit_seconds
        self._brokers = brokers
        self._group = group
        self._member = member
        self._security = security or KafkaSecurity()
        self._settings = dict(settings or {})

    def chunks(self, positions: Positions, stop: threading.Event) -> Generator[Chunk | None, None, None]:
        """Yield the records of the partitions that are ours; see `Source`. Stopped, it yields None until what was
        given out is settled and committed, for `settle_seconds` at most.

        Raises
        ------
        SourceError
            no broker answers (`unreachable`), it refuses us (`denied`), there is no such topic (`unknown_topic`), the
            settings are wrong (`configuration`), a secret cannot be read (`secret`), the client library is not there
            (`not_installed`)
        """
        if stop.is_set():
            return
        member = self._join(positions)
        try:
            while not stop.is_set() and not member.ended:
                yield member.take(0.25)
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
                f"{self.name}: expected the package confluent-kafka, it is not installed; pip install 'kldrift[kafka]'",
                "not_installed",
            ) from None
        return Member(self, self._client_settings(), positions)

    def _membership(self) -> dict[str, Any]:
        if self._member is None:
            # After a kill nobody has its partitions for so long. (The client's own default is 45 s.)
            return {"session.timeout.ms": 10_000}
        return {"group.instance.id": self._member}

    def _client_settings(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": ",".join(self._brokers),
            "group.id": self._group,
            "client.id": "kldrift",
            **self._membership(),
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",  # told of, then set by us
            "partition.assignment.strategy": "cooperative-sticky",
            "enable.partition.eof": not self.follow,
            "fetch.message.max.bytes": _FETCH_BYTES,  # of a partition at a time: chunks worth decoding in bulk
            "topic.metadata.refresh.interval.ms": 60_000,  # new partitions
            **self._security.settings(),
            **self._settings,
        }
