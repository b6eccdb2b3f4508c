"""The keys of the server that limit connections."""

from pathlib import Path

import pytest

from kldrift.config.load import parse_config
from kldrift.config.records import ServerConfig
from kldrift.errors import ConfigError

HERE = Path("kldrift.yaml")
MONITORS = "monitors: {loans: {reference: {data: a.csv}, features: {x: {kind: numeric}}}}\n"


def guard(keys: str = "") -> ServerConfig:
    return parse_config(f"server: {{{keys}}}\n{MONITORS}", HERE).server


def limits(server: ServerConfig) -> tuple[int | None, ...]:
    return (
        server.max_connections,
        server.max_client_connections,
        server.max_client_pending_bytes,
        server.header_timeout_ms,
        server.body_timeout_ms,
        server.idle_timeout_ms,
        server.write_timeout_ms,
    )


def test_the_defaults_are_those_that_are_documented() -> None:
    assert limits(guard()) == (4096, 1024, None, 10_000, 30_000, 75_000, 30_000)


def test_each_key_goes_where_it_belongs() -> None:
    keys = (
        "max_connections: 100, max_client_connections: 50, max_client_pending: 1MB, "
        "header_timeout: 1s, body_timeout: 2s, idle_timeout: 3s, write_timeout: 4s"
    )
    assert limits(guard(keys)) == (100, 50, 1_000_000, 1000, 2000, 3000, 4000)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("max_connections: 1", r"server\.max_connections: expected .*16"),
        ("max_client_connections: 0", r"server\.max_client_connections: expected .*1"),
        ("max_client_pending: 5", r"server\.max_client_pending: expected a size such as"),
        ("header_timeout: 10ms", r"server\.header_timeout: expected a duration from 1s to 10m, got 10ms"),
        ("idle_timeout: 0", r"server\.idle_timeout: expected a duration"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(keys: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        guard(keys)
