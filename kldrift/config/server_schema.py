"""The keys of the HTTP server."""

from typing import Annotated

from pydantic import ConfigDict, Field

from kldrift.config.mapped import Mapped
from kldrift.config.values import DEFAULT_LISTEN, Host, Listen, Text, duration, size


class TlsFiles(Mapped):
    """HTTPS with the certificate and key in these files, which are watched for changes."""

    certificate: Text = Field(description="the server's certificate chain (PEM), leaf first, relative to this file")
    key: Text = Field(description="the private key of the certificate (PEM), relative to this file")
    client_ca: Text | None = Field(
        default=None, description="the authority that must have signed every client's certificate (PEM)"
    )
    key_password_file: Text | None = Field(default=None, description="a file with the password of an encrypted key")


class AuthFiles(Mapped):
    """Who is let in, with which scopes (ingest, read, admin). The files are watched for changes."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})
    tokens_file: Text | None = Field(default=None, description="lines NAME SCOPES TOKEN, for Authorization: Bearer")
    users_file: Text | None = Field(default=None, description="lines NAME:BCRYPT:SCOPES, for user and password")


class Server(Mapped):
    """The HTTP server."""

    listen: Listen = Field(
        default=DEFAULT_LISTEN, description="address and port for ingest, /metrics, health, API and pages"
    )
    insecure: bool = Field(
        default=False, description="allow a non-loopback address with neither auth nor tls.client_ca"
    )
    max_body: Annotated[int, *size(1000, "1kB", 2**28, "256MiB")] = Field(
        default=2**24, description="largest gzip or zstd request body as sent, such as 16MiB"
    )
    max_expanded: Annotated[int, *size(1000, "1kB", 2**28, "256MiB")] = Field(
        default=2**26, description="largest request body, decompressed or sent uncompressed, such as 64MiB"
    )
    max_connections: Annotated[int, Field(ge=16, le=1_000_000)] = Field(
        default=4096, description="connections in total; the last eighth is reserved for clients that have few"
    )
    max_client_connections: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=1024, description="connections per client: an IPv4 address or an IPv6 /64"
    )
    max_client_pending: Annotated[int, *size(1000, "1kB")] | None = Field(
        default=None, description="unanswered bodies per client; a quarter of engine.queue if absent"
    )
    header_timeout: Annotated[int, *duration(1000, "1s", 600_000, "10m")] = Field(
        default=10_000, description="time to send all headers of a request, such as 10s"
    )
    body_timeout: Annotated[int, *duration(1000, "1s", 600_000, "10m")] = Field(
        default=30_000, description="time to send each 32 KiB of a body, or the rest of it, such as 30s"
    )
    idle_timeout: Annotated[int, *duration(1000, "1s", 3_600_000, "1h")] = Field(
        default=75_000, description="time between two requests; longer than the scrape interval, such as 75s"
    )
    write_timeout: Annotated[int, *duration(1000, "1s", 600_000, "10m")] = Field(
        default=30_000, description="time for a client to read each 32 KiB of an answer, or the rest of it, such as 30s"
    )
    tls: TlsFiles | None = Field(default=None, description="HTTPS; with client_ca, clients need a certificate")
    auth: AuthFiles | None = Field(default=None, description="who is let in: tokens_file, users_file or both")
    hosts: list[Host] = Field(
        default_factory=list,
        description="further names that requests may have as Host, such as those that a proxy passes on; checked on"
        " loopback without auth, and wherever this key is set",
    )
