"""What the configuration file says, as frozen records; each component gets its own one, never the whole `Config`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kldrift.records import Format, MonitorSpec

DistributionName = Literal["normal", "lognormal", "uniform", "exponential", "poisson", "categorical", "constant"]


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Files of the server's certificate and its key (encrypted: with its password), and of the clients' authority."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    key_password_file: Path | None = None


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """Files of those who are let in; at least one."""

    tokens_file: Path | None = None
    users_file: Path | None = None


@dataclass(frozen=True, slots=True)
class GuardConfig:
    """How many connections there may be, and how long each may take.

    Parameters
    ----------
    max_connections : in all; fewer where the system allows fewer open files
    max_client_connections : of one client
    max_client_bytes : of bodies of one client that are not answered yet; None for a quarter of the engine's queue
    header_ms, body_ms, idle_ms, write_ms : see `kldrift.web.guard.Timeouts`
    """

    max_connections: int = 4096
    max_client_connections: int = 1024
    max_client_bytes: int | None = None
    header_ms: int = 10_000
    body_ms: int = 30_000
    idle_ms: int = 75_000
    write_ms: int = 30_000


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where and how the HTTP server listens.

    Parameters
    ----------
    listen_host : an address or a host name, without brackets
    listen_port : 0 lets the system choose
    insecure : a non-loopback address was asked for, knowing that nobody is kept out
    max_body_bytes : the largest gzip or zstd body as sent
    max_expanded_bytes : the largest body, decompressed or sent plain
    tls : None for HTTP without it
    auth : None where everyone may do everything
    guard : limits on connections
    """

    listen_host: str = "127.0.0.1"
    listen_port: int = 9867
    insecure: bool = False
    max_body_bytes: int = 16 * 2**20
    max_expanded_bytes: int = 64 * 2**20
    tls: TlsConfig | None = None
    auth: AuthConfig | None = None
    guard: GuardConfig = GuardConfig()


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The one thread that counts and compares. `threads` is that of the kernels; None for one a core."""

    tick_ms: int = 10_000
    threads: int | None = None
    queue_bytes: int = 256_000_000


@dataclass(frozen=True, slots=True)
class StateConfig:
    """Where counts, positions and answers are kept; `path` None: nowhere."""

    path: Path | None = None
    commit_ms: int = 1000


@dataclass(frozen=True, slots=True)
class LogConfig:
    """How the log is written."""

    format: Literal["logfmt", "json"] = "logfmt"
    level: Literal["debug", "info", "warning", "error"] = "info"


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


@dataclass(frozen=True, slots=True)
class Config:
    """A whole, valid configuration. `warnings` are worth a line in the log, but no reason to stop."""

    server: ServerConfig
    engine: EngineConfig
    log: LogConfig
    sources: tuple[SourceConfig, ...]
    monitors: tuple[MonitorSpec, ...]
    warnings: tuple[str, ...] = ()
    state: StateConfig = StateConfig()
