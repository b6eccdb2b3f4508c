"""Records of the configured sources.

Every record states its *traits*, which is how the rest of the program treats all sources alike:

========================= =============================================================================================
trait                     meaning
========================= =============================================================================================
`type_name`               the `type` in the configuration
`body_format`             how the payload of its chunks is decoded
`endless`                 False where the source is read to its end once and then stays silent
`lag_unit`                unit in which the source knows how far behind it is; None where it does not know
`has_record_times`        whether records carry a time of their own, outside of their fields
`missing_values`          texts that stand for a missing value; None for those of each monitor
========================= =============================================================================================
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from kldrift.records.formats import FORMATS, Format

#: The label `source` of pushed samples; no source of the configuration may have this name.
PUSH = "http"

LagUnit = Literal["bytes", "records"]
KafkaStart = Literal["earliest", "latest"]
KafkaProtocol = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]
KafkaMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
DistributionName = Literal["normal", "lognormal", "uniform", "exponential", "poisson", "categorical", "constant"]


#: By default, as long as the log shippers that users know wait: a writer may still have the old file open.
ROTATE_WAIT_MS = 300_000


@dataclass(frozen=True, slots=True)
class FileSourceConfig:
    """Files that match the absolute glob `path`; the suffix ``.gz`` or ``.zst`` of a file names its compression.

    Parameters
    ----------
    follow : keep reading as files grow and new ones appear; otherwise stop after the last file
    rotate_wait_ms : how long a followed file that was renamed, or left the pattern, must stay unchanged to be finished
    missing_values : texts that stand for a missing value; None for those of each monitor
    """

    name: str
    path: str
    format: Format
    follow: bool = False
    rotate_wait_ms: int = ROTATE_WAIT_MS
    missing_values: tuple[str, ...] | None = None

    type_name: ClassVar = "file"
    has_record_times: ClassVar = False

    @property
    def body_format(self) -> Format:
        """The format of the files."""
        return self.format

    @property
    def endless(self) -> bool:
        """Whether the files are followed."""
        return self.follow

    @property
    def lag_unit(self) -> LagUnit:
        """Rows of a Parquet file are counted in advance; of any other file only the size is known."""
        return "records" if FORMATS[self.format].framing == "rows" else "bytes"


@dataclass(frozen=True, slots=True)
class StdinSourceConfig:
    """Standard input, to its end."""

    name: str
    format: Format
    missing_values: tuple[str, ...] | None = None

    type_name: ClassVar = "stdin"
    endless: ClassVar = False
    lag_unit: ClassVar[LagUnit | None] = None
    has_record_times: ClassVar = False

    @property
    def body_format(self) -> Format:
        """The format of the input."""
        return self.format


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """TLS and SASL settings. Secrets stay in their files."""

    protocol: KafkaProtocol = "plaintext"
    mechanism: KafkaMechanism | None = None
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
    brokers : ``host:port`` of the brokers to contact first
    format : of a record's value
    start : where a partition without a stored position begins
    member : a name that no other member of the group has, if this one has a name
    security : None for plaintext
    """

    name: str
    brokers: tuple[str, ...]
    topic: str
    group: str
    format: Format
    start: KafkaStart
    member: str | None = None
    security: KafkaSecurity | None = None
    missing_values: tuple[str, ...] | None = None

    type_name: ClassVar = "kafka"
    endless: ClassVar = True
    lag_unit: ClassVar[LagUnit | None] = "records"
    has_record_times: ClassVar = True

    @property
    def body_format(self) -> Format:
        """JSON of any shape is handed over one row a line; other formats stay as they are."""
        return "ndjson" if self.format == "json" else self.format


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a synthetic feature is drawn from.

    Parameters
    ----------
    name : normal (mean, std), lognormal (mean, sigma of the logarithm), uniform (low, high), exponential (scale),
        poisson (rate), categorical, constant
    parameters : by the names above; for categorical the probability of each category
    value : of a constant, else None
    missing : share of rows without the feature
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
    rate_per_second : rows per second; 0 for as fast as they are taken
    rows : number of rows after which the source ends; None for never
    features : what each field of a row is drawn from
    drift_after_ms : how long after the first row `drifted` takes effect; None for never
    drifted : the distributions that change, complete
    """

    name: str
    rate_per_second: float
    seed: int
    rows: int | None
    features: Mapping[str, Distribution]
    drift_after_ms: int | None = None
    drifted: Mapping[str, Distribution] = field(default_factory=dict)

    type_name: ClassVar = "synthetic"
    missing_values: ClassVar[None] = None
    body_format: ClassVar[Format] = "ndjson"
    lag_unit: ClassVar[LagUnit | None] = None
    has_record_times: ClassVar = False

    @property
    def endless(self) -> bool:
        """Whether no number of rows ends it."""
        return self.rows is None


#: Every source that can be configured. A new one is added here; mypy then names each place that has to know it.
SourceConfig = FileSourceConfig | KafkaSourceConfig | StdinSourceConfig | SyntheticSourceConfig
