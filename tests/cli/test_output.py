"""Where commands write: files in one piece, or standard output with ``-``; through the installed command."""

import errno
import json
import os
import subprocess
from pathlib import Path

import polars as pl
import pytest
import yaml

from kldrift import __version__
from kldrift.cli.output import write_whole
from kldrift.errors import ConfigError
from tests.e2e.processes import KLDRIFT, kldrift

pytestmark = pytest.mark.slow

CONFIG = """
monitors:
  loans:
    timestamp: {field: ts, unit: s}
    windows: [1m]
    reference: {data: loans.csv}
    features: {amount: {kind: numeric}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = range(2000)
    pl.DataFrame({"ts": rows, "amount": [row % 97 / 7 for row in rows]}).write_csv(tmp_path / "loans.csv")
    (tmp_path / "kldrift.yaml").write_text(CONFIG)
    return tmp_path


def out_and_err(folder: Path, *arguments: str) -> tuple[str, str]:
    before = sorted(folder.iterdir())
    done = kldrift(*arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert sorted(folder.iterdir()) == before
    return done.stdout, done.stderr


def test_init_writes_the_configuration_to_standard_output(folder: Path) -> None:
    out, err = out_and_err(folder, "init", "loans.csv", "-o", "-")
    assert list(yaml.safe_load(out)["monitors"]) == ["loans"]
    assert yaml.safe_load(out)["monitors"]["loans"]["reference"] == {"data": "loans.csv"}
    assert "save it as kldrift.yaml, then:" in err
    assert "kldrift check -c kldrift.yaml" in err


def test_reference_build_writes_to_standard_output(folder: Path) -> None:
    out, err = out_and_err(folder, "reference", "build", "loans.csv", "-c", "kldrift.yaml", "-m", "loans", "-o", "-")
    assert [feature["name"] for feature in json.loads(out)["features"]] == ["amount"]
    assert "standard output: 1 feature, 2,000 rows" in err


def test_rules_and_a_dashboard_are_written_to_standard_output(folder: Path) -> None:
    assert out_and_err(folder, "rules", "-o", "-") == out_and_err(folder, "rules")
    out, err = out_and_err(folder, "dashboard", "--board", "fleet", "-o", "-")
    assert json.loads(out)["panels"]
    assert not err


@pytest.mark.parametrize(
    "command",
    [("compare", "loans.csv", "loans.csv"), ("backtest", "-c", "kldrift.yaml", "loans.csv")],
    ids=lambda command: command[0],
)
def test_a_report_on_standard_output_leaves_the_table_to_standard_error(folder: Path, command: tuple[str, ...]) -> None:
    out, err = out_and_err(folder, *command, "--html", "-")
    assert out.lower().startswith("<!doctype html>")
    assert out.rstrip().endswith("</html>")
    assert "amount" in err
    refused = kldrift(*command, "--html", "-", "--json", cwd=folder)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("--html -: expected a file beside --json")


def test_a_full_standard_output_is_reported_without_a_traceback(folder: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [KLDRIFT, "init", "loans.csv", "-o", "-"], cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_version_is_an_option_and_a_command() -> None:
    done = kldrift("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"kldrift {__version__}\n", "")
    assert kldrift("version").stdout.startswith(done.stdout)


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_a_full_disk_leaves_the_old_file_as_it_was(
    reason: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(reason, os.strerror(reason))

    path = tmp_path / "r.json"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ConfigError, match=os.strerror(reason)):
        write_whole(path, "new", "reference")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_reported() -> None:
    with pytest.raises(ConfigError, match="expected to write the reference, got"):
        write_whole(Path(__file__) / "r.json", "new", "reference")


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(path, "whole", "reference")
        assert os.read(reader, 100) == b"whole"
    finally:
        os.close(reader)
    assert path.is_fifo()
    with pytest.raises(ConfigError, match="No space left on device"):
        write_whole(Path("/dev/full"), "whole", "reference")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "r.json", tmp_path / "link"
    path.write_text("old")
    link.symlink_to(path)
    write_whole(link, "new", "reference")
    assert link.is_symlink()
    assert path.read_text() == "new"
