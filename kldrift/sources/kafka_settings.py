"""Settings of the Kafka source and of its client library."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kldrift.errors import SourceError
from kldrift.records.sources import KafkaSecurity, KafkaSourceConfig

_FETCH_BYTES = 4 << 20
_MAX_SECRET_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class KafkaLimits:
    """Sizes and times of a Kafka source.

    Parameters
    ----------
    chunk_bytes : approximate size of the largest chunk; a larger record is a chunk of its own
    buffer_bytes : how much to read ahead
    settle_seconds : how long a partition that is being given back may wait for the chunks handed over from it to be
        settled
    block_seconds : how long a full buffer may wait for someone to take a chunk before the partitions are paused
    down_seconds : how long all brokers may be unreachable before the source fails for now
    commit_seconds : time between two commits at the broker
    """

    chunk_bytes: int = 8 << 20
    buffer_bytes: int = 32 << 20
    settle_seconds: float = 4.0
    block_seconds: float = 3.0
    down_seconds: float = 5.0
    commit_seconds: float = 5.0


def client_settings(config: KafkaSourceConfig, once: bool) -> dict[str, Any]:
    """Return the settings of librdkafka, secrets included.

    Raises
    ------
    SourceError
        a file with a secret cannot be read (``secret``)
    """
    return {
        "bootstrap.servers": ",".join(config.brokers),
        "group.id": config.group,
        "client.id": "kldrift",
        **_membership(config.member),
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",  # reported, and then set by us
        "partition.assignment.strategy": "cooperative-sticky",
        "enable.partition.eof": once,
        "fetch.message.max.bytes": _FETCH_BYTES,  # per partition and request: chunks worth decoding in bulk
        "topic.metadata.refresh.interval.ms": 60_000,  # finds new partitions
        **security_settings(config.security or KafkaSecurity()),
    }


def _membership(member: str | None) -> dict[str, Any]:
    if member is None:
        # How long nobody owns the partitions of a member that was killed. (The client's own default is 45 s.)
        return {"session.timeout.ms": 10_000}
    return {"group.instance.id": member}


def security_settings(security: KafkaSecurity) -> dict[str, str]:
    """Return librdkafka's settings for TLS and SASL. Secrets are read from their files at each connection.

    Raises
    ------
    SourceError
        a file with a secret cannot be read (``secret``)
    """
    given = {
        "security.protocol": security.protocol,
        "sasl.mechanism": security.mechanism,
        "sasl.username": _secret(security.username_file),
        "sasl.password": _secret(security.password_file),
        "ssl.ca.location": security.ca,
        "ssl.certificate.location": security.certificate,
        "ssl.key.location": security.key,
        "ssl.key.password": _secret(security.key_password_file),
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
            f"{path}: expected a file with a secret, but it cannot be read ({error.strerror}); check the path", "secret"
        ) from error
    except UnicodeDecodeError:  # not chained: its text holds the secret
        text = ""
    if not text or "\0" in text:
        raise SourceError(
            f"{path}: expected a secret as UTF-8 text, but the file holds none; write the secret into it", "secret"
        )
    return text
