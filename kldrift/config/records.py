"""The configuration as frozen records, one for each mapping of the file.

A field has the name of its key with the unit behind it: the key `tick` is the field `tick_ms`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from kldrift.records.sources import SourceConfig
from kldrift.records.specs import MonitorSpec

_UNITS = ("_ms", "_bytes")


def key_of(field: str) -> str:
    """Return the key of the file that a record's field holds."""
    return next((field.removesuffix(unit) for unit in _UNITS if field.endswith(unit)), field)


class Address(NamedTuple):
    """A host without brackets, and a port; 0 lets the system choose one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Files for HTTPS: the server's certificate and key, and optionally the authority that signs client certificates.

    Parameters
    ----------
    key_password_file : holds the password of an encrypted key
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    key_password_file: Path | None = None


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """Files that list who is let in; at least one of them is given."""

    tokens_file: Path | None = None
    users_file: Path | None = None


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The HTTP server. Nothing in it changes while it runs, though the files of `tls` and `auth` are read again.

    Parameters
    ----------
    insecure : accept an address that other machines can reach, although nobody is kept out
    max_body_bytes : largest compressed body, as sent
    max_expanded_bytes : largest body once decompressed, or sent uncompressed
    max_connections : in total; fewer if the system allows fewer open files
    max_client_connections : per client
    max_client_pending_bytes : bodies of one client still waiting for an answer; None for a quarter of the engine's
        queue
    header_timeout_ms, body_timeout_ms, idle_timeout_ms, write_timeout_ms : see `kldrift.web.guard.Timeouts`
    tls : None for plain HTTP
    auth : None if everyone may do everything
    hosts : names and addresses that requests may have as `Host`, besides those of loopback
    """

    CHANGES_WHILE_RUNNING: ClassVar[frozenset[str]] = frozenset()

    listen: Address
    insecure: bool
    max_body_bytes: int
    max_expanded_bytes: int
    max_connections: int
    max_client_connections: int
    max_client_pending_bytes: int | None
    header_timeout_ms: int
    body_timeout_ms: int
    idle_timeout_ms: int
    write_timeout_ms: int
    tls: TlsConfig | None
    auth: AuthConfig | None
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The thread that counts and compares. `threads` is the number of kernel threads; None for one per core."""

    CHANGES_WHILE_RUNNING: ClassVar[frozenset[str]] = frozenset({"tick_ms"})

    tick_ms: int
    threads: int | None
    queue_bytes: int


@dataclass(frozen=True, slots=True)
class StateConfig:
    """Where counts, source positions and answers are kept; `path` is None if nothing is kept."""

    CHANGES_WHILE_RUNNING: ClassVar[frozenset[str]] = frozenset()

    path: Path | None = None
    commit_interval_ms: int = 1000


@dataclass(frozen=True, slots=True)
class LogConfig:
    """How the log is written."""

    CHANGES_WHILE_RUNNING: ClassVar[frozenset[str]] = frozenset()

    format: Literal["logfmt", "json"]
    level: Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Config:
    """A complete, valid configuration. `warnings` deserve a line in the log but are no reason to stop."""

    CHANGES_WHILE_RUNNING: ClassVar[frozenset[str]] = frozenset({"sources", "monitors", "warnings"})

    server: ServerConfig
    engine: EngineConfig
    log: LogConfig
    sources: tuple[SourceConfig, ...]
    monitors: tuple[MonitorSpec, ...]
    warnings: tuple[str, ...] = ()
    state: StateConfig = StateConfig()
