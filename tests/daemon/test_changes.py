"""What a reload may change: every key that is not named as changeable needs a restart, new ones too."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest

from kldrift.config.load import parse_config
from kldrift.config.records import Config, EngineConfig
from kldrift.daemon.reload import changes_that_need_a_restart

MONITORS = "monitors: {coins: {reference: {learn: 1000}, features: {coin: {kind: numeric}}}}\n"


def config(text: str = "") -> Config:
    return parse_config(text + MONITORS, Path("/etc/kldrift/kldrift.yaml"))


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", []),
        ("engine: {tick: 5s}\n", []),
        ("sources: {in: {type: file, path: a.csv}}\n", []),
        ("engine: {tick: 5s, threads: 1, queue: 10MB}\n", ["engine.threads", "engine.queue"]),
        ("server: {listen: ':9868', insecure: true}\n", ["server.listen", "server.insecure"]),
        ("server: {header_timeout: 5s}\n", ["server.header_timeout"]),
        ("server: {tls: {certificate: c.pem, key: k.pem}}\n", ["server.tls"]),
        ("state: {path: s.db, commit_interval: 2s}\n", ["state.path", "state.commit_interval"]),
        ("log: {level: debug}\n", ["log.level"]),
    ],
)
def test_a_key_that_cannot_change_while_running_is_named_as_in_the_file(text: str, keys: list[str]) -> None:
    assert sorted(changes_that_need_a_restart(config(), config(text))) == sorted(keys)


@dataclass(frozen=True, slots=True)
class WithANewKey(EngineConfig):
    lanes: int = 1
    grace_ms: int = 100


def test_a_new_key_is_refused_by_name_until_a_reload_applies_it() -> None:
    old = replace(config(), engine=WithANewKey(tick_ms=1000, threads=None, queue_bytes=1))
    new = replace(old, engine=WithANewKey(tick_ms=2000, threads=None, queue_bytes=1, lanes=2, grace_ms=200))
    assert changes_that_need_a_restart(old, new) == ["engine.lanes", "engine.grace"]


def test_what_may_change_is_a_field() -> None:
    found = config()
    for record in (found, found.server, found.engine, found.state, found.log):
        assert {field.name for field in fields(record)} >= record.CHANGES_WHILE_RUNNING


def test_every_mapping_of_the_file_says_what_may_change() -> None:
    parts = {field.name for field in fields(Config)} - Config.CHANGES_WHILE_RUNNING
    assert all(hasattr(getattr(config(), part), "CHANGES_WHILE_RUNNING") for part in parts)
