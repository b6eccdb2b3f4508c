"""What the configuration file says, as frozen records; each component gets its own one, never the whole `Config`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kldrift.records.sources import SourceConfig
from kldrift.records.specs import MonitorSpec


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
class Config:
    """A whole, valid configuration. `warnings` are worth a line in the log, but no reason to stop."""

    server: ServerConfig
    engine: EngineConfig
    log: LogConfig
    sources: tuple[SourceConfig, ...]
    monitors: tuple[MonitorSpec, ...]
    warnings: tuple[str, ...] = ()
    state: StateConfig = StateConfig()
