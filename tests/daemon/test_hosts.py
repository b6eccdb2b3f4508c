"""Where the header Host is checked."""

from pathlib import Path

import pytest

from kldrift.config.load import parse_config
from kldrift.daemon.entry import accepted_hosts
from kldrift.errors import ConfigError
from kldrift.web.answers import Problem

MONITORS = "monitors: {loans: {reference: {data: a.csv}, features: {x: {kind: numeric}}}}\n"


def answers(server: str, host: bytes) -> bool:
    config = parse_config(f"server: {{{server}}}\n{MONITORS}", Path("kldrift.yaml"))
    try:
        accepted_hosts(config.server).admit("GET", {b"host": host})
    except Problem as problem:
        return problem.status != 421
    return True


@pytest.mark.parametrize(
    ("server", "checked"),
    [
        ("", True),
        ("listen: localhost:9867", True),
        ('listen: "[::1]:9867"', True),
        ("listen: 127.0.0.1:9867, tls: {certificate: c, key: k}", True),
        ("listen: 127.0.0.1:9867, auth: {tokens_file: tokens}", False),
        ("listen: 127.0.0.1:9867, tls: {certificate: c, key: k, client_ca: a}", False),
        ("listen: 0.0.0.0:9867, insecure: true", False),  # Prometheus and proxies use names that we do not know
        ("listen: 0.0.0.0:9867, auth: {tokens_file: tokens}", False),
        ("listen: 0.0.0.0:9867, insecure: true, hosts: [kldrift.svc]", True),
        ("listen: 127.0.0.1:9867, auth: {tokens_file: tokens}, hosts: [kldrift.svc]", True),
    ],
)
def test_the_host_is_checked_on_loopback_without_auth_and_where_names_are_given(server: str, checked: bool) -> None:
    assert answers(server, b"evil.example") is not checked
    assert answers(server, b"localhost:9867")
    assert answers(server, b"kldrift.svc:9867") is ("kldrift.svc" in server or not checked)


def test_names_are_compared_in_one_spelling() -> None:
    server = "hosts: [Drift.Example.com., 10.0.0.1, 'FD00:0::1', my_host]"
    for host in (b"drift.example.com", b"DRIFT.example.com.:80", b"10.0.0.1:9867", b"[fd00::1]", b"my_host:1"):
        assert answers(server, host), host


@pytest.mark.parametrize(
    "host",
    ["https://drift.example.com", "drift.example.com:443", "a/b", "*", "", "a b", "ümlaut.example", "[::1]", "5"],
)
def test_what_is_not_the_name_of_a_host_is_refused(host: str) -> None:
    quoted = host if host == "5" else f'"{host}"'
    with pytest.raises(ConfigError, match=r"server\.hosts\[0\]: expected the name or address of a host"):
        answers(f"hosts: [{quoted}]", b"localhost")
