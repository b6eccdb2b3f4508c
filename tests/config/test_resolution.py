"""The configuration as people read it: all that is in force, and no secret."""

from pathlib import Path

import pytest
import yaml

from kldrift.config.load import load_config
from kldrift.config.resolution import resolved
from tests.conftest import ROOT

SECRET = "correct horse battery staple"


def shown(folder: Path, text: str) -> str:
    path = folder / "kldrift.yaml"
    path.write_text(text)
    return resolved(load_config(path))


def test_defaults_are_filled_in_and_paths_absolute(tmp_path: Path) -> None:
    text = shown(
        tmp_path,
        "state: {path: s.db}\nmonitors: {m: {reference: {learn: 1000}, features: {x: {kind: numeric}}}}",
    )
    found = yaml.safe_load(text)
    assert "sources" not in found
    assert found["engine"]["tick"] == "10s"
    assert found["server"]["listen"] == "127.0.0.1:9867"
    assert found["state"]["path"] == str(tmp_path / "s.db")
    assert list(found["monitors"]) == ["m"]
    assert found["monitors"]["m"]["features"] == {
        "x": {"kind": "numeric", "bins": {"method": "quantile"}, "warning": 0.01, "critical": 0.1}
    }


def test_what_means_nothing_for_a_kind_is_not_told(tmp_path: Path) -> None:
    kinds = "a: {kind: categorical}, v: {kind: vector, dimensions: 3, reference: {family: normal, mean: 0, std: 1}}"
    text = shown(tmp_path, f"monitors: {{m: {{reference: {{learn: 1000}}, features: {{{kinds}}}}}}}")
    features = yaml.safe_load(text)["monitors"]["m"]["features"]
    assert set(features["a"]) == {"kind", "max_categories", "warning", "critical"}
    assert {"dimensions", "covariance", "per_dimension"} < set(features["v"])
    assert "bins" not in features["v"]


def test_secrets_stay_in_their_files(tmp_path: Path) -> None:
    for name in ("tokens", "user", "password"):
        (tmp_path / name).write_text(
            f"ops read,ingest,admin {SECRET.replace(' ', '')}\n" if name == "tokens" else SECRET
        )
        (tmp_path / name).chmod(0o600)
    text = shown(
        tmp_path,
        """
server: {auth: {tokens_file: tokens}}
sources:
  scores:
    type: kafka
    brokers: ["localhost:9092"]
    topic: t
    group: g
    format: ndjson
    security: {protocol: sasl_plaintext, mechanism: PLAIN, username_file: user, password_file: password}
monitors: {m: {sources: [scores], reference: {learn: 1000}, features: {x: {kind: numeric}}}}
""",
    )
    found = yaml.safe_load(text)
    assert found["sources"]["scores"]["type"] == "kafka"
    assert found["sources"]["scores"]["security"]["password_file"] == str(tmp_path / "password")
    assert found["server"]["auth"]["tokens_file"] == str(tmp_path / "tokens")
    assert SECRET not in text
    assert SECRET.replace(" ", "") not in text


@pytest.mark.parametrize("path", sorted((ROOT / "config").rglob("*.yaml")), ids=lambda path: path.name)
def test_the_shipped_configurations_can_be_shown(path: Path) -> None:
    config = load_config(path)
    found = yaml.safe_load(resolved(config))
    assert list(found["monitors"]) == [monitor.name for monitor in config.monitors]


def test_keys_have_the_names_and_units_of_the_file(tmp_path: Path) -> None:
    text = (
        "server: {listen: '[::1]:9868', max_body: 16MiB, header_timeout: 5s}\nengine: {queue: 256MB}\n"
        "state: {path: s.db, commit_interval: 250ms}\n"
        "monitors: {m: {reference: {learn: 1000}, features: {x: {kind: numeric}}}}"
    )
    found = yaml.safe_load(shown(tmp_path, text))
    assert found["server"]["listen"] == "[::1]:9868"
    assert (found["server"]["max_body"], found["server"]["header_timeout"]) == ("16MiB", "5s")
    assert found["engine"] == {"tick": "10s", "queue": "256MB"}
    assert found["state"]["commit_interval"] == "250ms"
