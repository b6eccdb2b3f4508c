"""``kldrift reference``: made, shown, used, and refused in words."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.cli.command import kldrift
from tests.e2e.processes import kldrift as installed

CONFIG = """
server: {listen: "127.0.0.1:0"}
monitors:
  loans:
    reference: {file: loans.json}
    features:
      amount: {kind: numeric}
      country: {kind: categorical}
      coin: {kind: categorical, reference: {probabilities: {heads: 0.5, tails: 0.5}}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"amount": rng.normal(size=5000), "country": rng.choice(["de", "fr"], 5000)})
    table.write_csv(tmp_path / "loans.csv")
    (tmp_path / "kldrift.yaml").write_text(CONFIG)
    return tmp_path


@pytest.mark.slow
def test_a_reference_is_built_shown_and_used(folder: Path) -> None:
    done = installed(
        "reference", "build", "loans.csv", "-c", "kldrift.yaml", "-m", "loans", "-o", "loans.json", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert "2 features, 5,000 rows" in done.stdout
    features = json.loads((folder / "loans.json").read_text())["features"]
    assert [feature["name"] for feature in features] == ["amount", "country"]
    assert np.array(features[0]["panes"]).shape == (64, 20)
    assert np.array(features[0]["panes"]).sum() == 5000

    done = installed("reference", "show", "loans.json", cwd=folder)
    assert done.returncode == 0
    assert "amount" in done.stdout
    assert "5,000" in done.stdout
    done = kldrift("reference", "show", "loans.json", "-f", "country", cwd=folder)
    assert "unseen" in done.stdout
    assert "de" in done.stdout
    done = kldrift("check", "-c", "kldrift.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "ok: 1 monitor, 3 features" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("build", "absent.csv", "-c", "kldrift.yaml", "-m", "loans", "-o", "o.json"), "absent.csv"),
        (("build", "loans.csv", "-c", "kldrift.yaml", "-m", "loan", "-o", "o.json"), "loan: expected a monitor"),
        (
            ("build", "loans.csv", "-c", "kldrift.yaml", "-m", "loans", "-o", "no/o.json"),
            "no/o.json: expected to write",
        ),
        (("show", "loans.csv"), "expected a reference file in JSON"),
        (("show", "absent.json"), "absent.json: expected a reference file"),
    ],
)
def test_what_cannot_be_done_is_said_and_exits_2(arguments: tuple[str, ...], words: str, folder: Path) -> None:
    done = kldrift("reference", *arguments, cwd=folder)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_monitor_whose_reference_is_not_there_does_not_start(folder: Path) -> None:
    for command in (("check",), ("run",), ("run", "--once")):
        done = installed(*command, "-c", "kldrift.yaml", cwd=folder)
        assert done.returncode == 2
        assert "monitors.loans: " in done.stderr
        assert "loans.json" in done.stderr


@pytest.mark.slow
def test_a_vector_is_built_and_used_and_what_is_no_data_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    pl.DataFrame({"z": rng.normal(size=(2_000, 3)).tolist(), "x": rng.normal(size=2_000)}).write_ndjson(
        tmp_path / "r.ndjson"
    )
    (tmp_path / "kldrift.yaml").write_text(
        """
sources: {live: {type: file, path: r.ndjson}}
monitors:
  m:
    sources: [live]
    reference: {file: r.json}
    features:
      z: {kind: vector, dimensions: 3}
      x: {kind: numeric, reference: {family: normal, fit: r.ndjson}}
      learned: {kind: numeric, reference: {learn: 100}}
      q: {kind: posterior, dimensions: 2}
"""
    )
    done = kldrift("reference", "build", "r.ndjson", "-c", "kldrift.yaml", "-m", "m", "-o", "r.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (feature,) = json.loads((tmp_path / "r.json").read_text())["features"]
    assert feature["name"] == "z"
    assert len(feature["mean"]) == 3
    assert kldrift("reference", "show", "r.json", cwd=tmp_path).returncode == 0
    done = installed("run", "--once", "-c", "kldrift.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("│ z ")]
    assert len(lines) == 3
    assert all(line.rstrip("│ ").endswith("quiet") for line in lines)
