"""``kldrift rules``: what is written where, and that promtool accepts it for the shipped configurations."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.e2e.processes import kldrift

CONFIGS = [ROOT / "config/kldrift.yaml", *sorted((ROOT / "config/examples").glob("*.yaml"))]

KAFKA = """\
state: none
sources:
  scores: {type: kafka, brokers: [localhost:9092], topic: scores, group: kldrift, format: ndjson}
  files: {type: file, path: "*.ndjson", format: ndjson, follow: true}
  made: {type: synthetic, rows: 5, features: {x: {distribution: constant, value: 1}}}
monitors:
  a.b:
    sources: [scores, made]
    windows: [5m, 2h]
    features: {'q"{{ $x }}\\ 日': {kind: categorical, reference: {probabilities: {a: 0.5, b: 0.5}}}}
  c:
    sources: [files]
    windows: [90s]
    reference: {learn: 1000}
    features: {x: {kind: numeric}}
"""


def judged(promtool: str, rules: Path) -> None:
    tests = rules.with_name(f"{rules.stem}.test.yml")
    for arguments in (["check", "rules", rules], ["test", "rules", tests]):
        done = subprocess.run([promtool, *map(str, arguments)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "FAILED" not in done.stdout + done.stderr


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_rules_of_a_shipped_configuration_pass_their_tests(promtool: str, tmp_path: Path, config: Path) -> None:
    done = kldrift("rules", "-c", str(config), "--output", str(tmp_path), "--tests")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        f"wrote {tmp_path}/kldrift.rules.yml",
        f"wrote {tmp_path}/kldrift.rules.test.yml",
    ]
    assert done.stdout == ""
    judged(promtool, tmp_path / "kldrift.rules.yml")


def test_rules_know_the_sources(promtool: str, tmp_path: Path) -> None:
    (tmp_path / "kldrift.yaml").write_text(KAFKA)
    done = kldrift("rules", "-c", str(tmp_path / "kldrift.yaml"), "-o", str(tmp_path / "r.yml"), "--tests")
    assert done.returncode == 0, done.stderr
    judged(promtool, tmp_path / "r.yml")
    text = (tmp_path / "r.yml").read_text()
    rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    [lag] = [rule["expr"] for rule in rules if rule["alert"] == "KldriftLagHigh"]
    assert lag == "kldrift_source_lag_bytes > 256e6 or kldrift_source_lag_records > 1e6"
    silent = [rule["labels"].get("source") for rule in rules if rule["alert"] == "KldriftNoSamples"]
    assert [source for source in silent if source] == ["scores", "files"]
    assert text.startswith("# Alerts of kldrift, made by `kldrift rules` for kldrift.yaml.\n#   Left out")
    assert "KldriftStateDamaged: no state is kept\n" in text


def test_without_a_configuration_the_shipped_rules_are_printed() -> None:
    done = kldrift("rules")
    assert done.returncode == 0
    assert done.stdout == (ROOT / "deploy/prometheus/kldrift.rules.yml").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--tests"], 2, "expected a file as --output with --tests"),
        (["-c", "nowhere.yaml"], 2, "nowhere.yaml: expected a readable file"),
        (["--stale-after", "soon"], 2, "--stale-after: expected a duration such as 90d, got soon"),
        (["--stale-after", "0"], 2, "--stale-after: expected a duration such as 90d, got 0"),
        (
            ["-o", "nowhere/rules.yml"],
            2,
            "nowhere/rules.yml: expected to write the rules, got No such file or directory",
        ),
    ],
    ids=["tests to stdout", "no such file", "no duration", "no time", "no such folder"],
)
def test_what_is_wrong_is_said(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    done = kldrift("rules", *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
