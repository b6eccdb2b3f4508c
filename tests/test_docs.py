"""What the documentation says is run: every YAML block is loaded, every command has the options it is shown with."""

import re
import shlex
import signal
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kldrift.config.load import load_config, parse_config
from tests.conftest import ROOT
from tests.e2e.processes import KLDRIFT, Client, free_port, kldrift, until

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
YAML = [text for language, text in BLOCKS if language == "yaml"]
CURL = (
    "curl -H 'Content-Type: application/x-ndjson' --data-binary @live.ndjson"
    " http://127.0.0.1:9867/v1/monitors/loans/samples"
)
INIT, CHECK, RUN = "kldrift init reference.parquet", "kldrift check -c kldrift.yaml", "kldrift run -c kldrift.yaml"
COMMANDS = [line for language, text in BLOCKS if language == "sh" for line in text.strip().splitlines()]


@pytest.mark.parametrize("text", YAML, ids=range(len(YAML)))
def test_yaml_in_the_readme_is_valid(text: str, tmp_path: Path) -> None:
    assert parse_config(text, tmp_path / "kldrift.yaml").monitors


@pytest.mark.parametrize("path", sorted((ROOT / "config").rglob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configurations_are_valid(path: Path) -> None:
    assert load_config(path).monitors


def test_every_command_of_the_readme_is_known_to_these_tests() -> None:
    assert COMMANDS == [
        # tests/run makes and fills .venv the same way; the demo with a shorter time is in tests/e2e/test_daemon.py
        "python3 -m venv .venv && .venv/bin/pip install --quiet . && .venv/bin/kldrift demo",
        "tests/run",  # this run
        INIT,  # these below
        CHECK,
        RUN,
        CURL,
    ]


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    """A folder with the README's first configuration, its reference, and rows to send."""
    rng = np.random.default_rng(0)
    table = pl.DataFrame(
        {
            "amount": rng.lognormal(9, 1, 2000),
            "age": rng.integers(18, 90, 2000),
            "country": rng.choice(["de", "fr"], 2000),
        }
    )
    table.write_parquet(tmp_path / "reference.parquet")
    table[:200].write_ndjson(tmp_path / "live.ndjson")
    (tmp_path / "kldrift.yaml").write_text(YAML[0])
    return tmp_path


def test_a_first_configuration_as_the_readme_prints_it(stream: Path) -> None:
    (stream / "kldrift.yaml").unlink()
    for command in (INIT, CHECK):
        done = kldrift(*shlex.split(command)[1:], cwd=stream)
        assert done.returncode == 0, done.stderr
    assert "ok: 1 monitor, 3 features" in done.stdout


def test_ones_own_stream_as_the_readme_prints_it(stream: Path) -> None:
    done = kldrift(*shlex.split(CHECK)[1:], cwd=stream)
    assert done.returncode == 0, done.stderr
    assert "ok: 1 monitor, 3 features" in done.stdout
    port = free_port()
    config = stream / "kldrift.yaml"
    config.write_text(f'server: {{listen: "127.0.0.1:{port}"}}\n{YAML[0]}')
    with (stream / "log").open("wb") as log:
        running = subprocess.Popen([KLDRIFT, *shlex.split(RUN)[1:]], cwd=stream, stdout=log, stderr=log)
        try:
            client = Client(port, running, stream / "log")

            def ready() -> bool:
                try:
                    return client.request("/-/ready")[0] == 200
                except OSError:
                    return False

            until(ready, 60, "ready")
            command = shlex.split(CURL.replace(":9867", f":{port}"))
            posted = subprocess.run([*command, "-s"], cwd=stream, capture_output=True, text=True, check=True)
            assert '"accepted":200' in posted.stdout
        finally:
            running.send_signal(signal.SIGTERM)
            assert running.wait(15) == 0


def test_the_metrics_that_the_documents_name_exist() -> None:
    from kldrift.export.drift_families import DRIFT_FAMILIES
    from kldrift.export.telemetry import Telemetry
    from kldrift.records.snapshots import DriftSnapshot

    telemetry = Telemetry()
    telemetry.configure(["s"], ["http"], {"m": ["f"]})
    telemetry.server_files_read(())
    own = set(re.findall(r"# TYPE (\S+)", telemetry.exposition(False, False, DriftSnapshot(0)).decode()))
    known = own | {family.family.name for family in DRIFT_FAMILIES}
    documents = README + (ROOT / "deploy/prometheus/README.md").read_text()
    named = set(re.findall(r"\bkldrift_[a-z_]+[a-z]\b", documents))
    assert named <= known, named - known


def test_the_documents_link_to_files_that_are_there() -> None:
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "deploy").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            if not target.startswith("http"):
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_help_of_every_command_in_the_readme_table() -> None:
    for command in re.findall(r"`kldrift ([a-z]+(?: build| show)?)[ `]", README):
        assert kldrift(*command.split(), "--help").returncode == 0, command
