"""What is known of each source: records of the configuration, and what their parts may ask of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kldrift.records.types import Format

DistributionName = Literal["normal", "lognormal", "uniform", "exponential", "poisson", "categorical", "constant"]


@dataclass(frozen=True, slots=True)
class FileSourceConfig:
    """Files that match the absolute glob `path`; a suffix ``.gz`` or ``.zst`` of a file says how it is compressed."""

    name: str
    path: str
    format: Format
    follow: bool = False


@dataclass(frozen=True, slots=True)
class StdinSourceConfig:
    """Standard input, to its end."""

    name: str
    format: Format


@dataclass(frozen=True, slots=True)
class KafkaSecurityConfig:
    """TLS and SASL. Secrets stay in their files."""

    protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username_file: Path | None = None
    password_file: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_password_file: Path | None = None


@dataclass(frozen=True, slots=True)
class KafkaSourceConfig:
    """A topic, read as a member of a consumer group.

    Parameters
    ----------
    brokers : ``host:port``
    format : of a record's value
    start : where a partition begins that has no position
    member : a name of this daemon alone in the group, if it has one
    security : None for plaintext
    """

    name: str
    brokers: tuple[str, ...]
    topic: str
    group: str
    format: Literal["ndjson", "json", "arrow"]
    start: Literal["earliest", "latest"]
    member: str | None = None
    security: KafkaSecurityConfig | None = None


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a synthetic feature is drawn from.

    Parameters
    ----------
    name : normal (mean, std), lognormal (mean, sigma of the logarithm), uniform (low, high), exponential (scale),
        poisson (rate), categorical, constant
    parameters : by the names above; for categorical the probability of each category
    value : of a constant, else None
    missing : share of the rows that lack the feature
    """

    name: DistributionName
    parameters: Mapping[str, float] = field(default_factory=dict)
    value: float | str | None = None
    missing: float = 0.0


@dataclass(frozen=True, slots=True)
class SyntheticSourceConfig:
    """Rows drawn at random.

    Parameters
    ----------
    rate_per_second : rows a second; 0 for as fast as they are taken
    rows : where to stop; None for never
    features : what each field of a row is drawn from
    drift_after_ms : from when on, after the first row, `drifted` is in force; None for never
    drifted : the distributions that change, complete
    """

    name: str
    rate_per_second: float
    seed: int
    rows: int | None
    features: Mapping[str, Distribution]
    drift_after_ms: int | None = None
    drifted: Mapping[str, Distribution] = field(default_factory=dict)


SourceConfig = FileSourceConfig | KafkaSourceConfig | StdinSourceConfig | SyntheticSourceConfig
