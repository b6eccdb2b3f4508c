"""What the documentation says is true: every YAML block is loaded, every command and every line of Python is run."""

import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kldrift.config.load import load_config, parse_config
from kldrift.export.drift_families import DRIFT_FAMILIES
from kldrift.export.telemetry import Telemetry
from kldrift.records.formats import FORMATS, Transport
from kldrift.records.snapshots import DriftSnapshot
from tests import metrics_table, pictures
from tests.conftest import ROOT
from tests.e2e.processes import KLDRIFT, Client, free_port, kldrift, until
from tests.test_imports import ALLOWED

DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(path for folder in ("config", "deploy", "kldrift", "tests") for path in (ROOT / folder).rglob("*.md")),
    ]
)
README, CONFIG, ARCHITECTURE = (ROOT / path for path in ("README.md", "config/README.md", "kldrift/README.md"))
PROMETHEUS, GRAFANA = (ROOT / "deploy" / name / "README.md" for name in ("prometheus", "grafana"))
MOST_LINES = 150
MOST_PICTURE_BYTES = 150_000

#: Documents whose commands are executed by tests of their own.
RUN_ELSEWHERE = {
    ROOT / "deploy/docker/README.md": "tests/deploy/test_docker.py",
    ROOT / "deploy/kubernetes/README.md": "tests/deploy/test_kubernetes.py",
    ROOT / "deploy/systemd/README.md": "tests/deploy/test_systemd.py",
    ROOT / "tests/README.md": "the commands that run the tests",
}
CURL = (
    "curl -H 'Content-Type: application/x-ndjson' --data-binary @live.ndjson"
    " http://127.0.0.1:9867/v1/monitors/loans/samples"
)
INIT, CHECK, RUN = "kldrift init reference.parquet", "kldrift check -c kldrift.yaml", "kldrift run -c kldrift.yaml"
#: What the tests below execute, by document.
COMMANDS = {
    README: [
        # tests/run makes and fills .venv the same way; the demo with a shorter time is in tests/e2e/test_daemon.py
        "python3 -m venv .venv && .venv/bin/pip install --quiet . && .venv/bin/kldrift demo",
        INIT,
        CHECK,
        RUN,
        CURL,
        "tests/run --fast",  # this run
        "tests/run",
    ],
    CONFIG: [
        CHECK,
        "kldrift schema",
        "kldrift reference build reference.parquet -c kldrift.yaml -m loans -o loans.json",
        "kldrift reference show loans.json",
        "kldrift compare reference.parquet live.parquet --html report.html",
        "kldrift backtest -c kldrift.yaml last-year.parquet --target 1/month --html backtest.html",
    ],
    PROMETHEUS: [
        # the three with these files: tests/provisioning/test_deploy.py and tests/e2e/test_alerting.py
        "prometheus --config.file=deploy/prometheus/prometheus.yml",
        "prometheus-alertmanager --config.file=deploy/alertmanager/alertmanager.yml",
        "promtool test rules deploy/prometheus/kldrift.rules.test.yml",
        "kldrift rules -c kldrift.yaml -o /etc/prometheus/rules --tests",
    ],
    GRAFANA: [
        "cp -r deploy/grafana/provisioning/. /etc/grafana/provisioning/",
        "mkdir -p /var/lib/grafana/dashboards/kldrift",
        "cp deploy/grafana/dashboards/*.json /var/lib/grafana/dashboards/kldrift/",
        "kldrift dashboard -c kldrift.yaml -o /var/lib/grafana/dashboards/kldrift --datasource Prometheus",
    ],
}


def blocks(path: Path, language: str) -> list[str]:
    """The code of a document in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


YAML = [
    pytest.param(text, id=f"{name_of(path)}-{number}")
    for path in DOCUMENTS
    for number, text in enumerate(blocks(path, "yaml"))
]
FIRST_YAML = blocks(README, "yaml")[0]


# --- what is written -----------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("text", YAML)
def test_yaml_in_the_documents_is_valid(text: str, tmp_path: Path) -> None:
    assert parse_config(text, tmp_path / "kldrift.yaml").monitors


@pytest.mark.parametrize("path", sorted((ROOT / "config").rglob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configurations_are_valid(path: Path) -> None:
    assert load_config(path).monitors


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_to_files_and_headings_that_are_there(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        found = path.parent / file if file else path
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


def test_files_that_the_architecture_names_are_there() -> None:
    text = ARCHITECTURE.read_text()
    named = set(re.findall(r"\b((?:[a-z0-9_]+/)+[a-z0-9_]+\.[a-z]+)", re.sub(r"\]\([^)]*\)", "", text)))
    assert len(named) > 30
    missing = {name for name in named if not ((ARCHITECTURE.parent / name).exists() or (ROOT / name).exists())}
    assert missing == set()


def test_every_folder_has_a_row_in_the_architecture() -> None:
    rows = set(re.findall(r"^\| `(\w+)/`", ARCHITECTURE.read_text(), re.MULTILINE))
    assert rows == set(ALLOWED)


def anchors(path: Path) -> set[str]:
    """The headings of a document as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [pictures.FEATURE, pictures.OVERVIEW, pictures.TERMINAL], ids=lambda path: path.name)
def test_pictures_are_there_and_small(path: Path) -> None:
    assert 1000 < path.stat().st_size < MOST_PICTURE_BYTES
    assert any(name_of(path).removeprefix("deploy/") in document.read_text() for document in DOCUMENTS)


@pytest.mark.parametrize(
    ("transport", "row"),
    [("http", "| HTTP"), ("file", "| `type: file`"), ("stdin", "| `type: stdin`"), ("kafka", "| `type: kafka`")],
)
def test_the_table_of_formats_is_that_of_the_code(transport: Transport, row: str) -> None:
    [line] = [line for line in CONFIG.read_text().splitlines() if line.startswith(row)]
    formats = line.split("|")[2]
    for name, info in FORMATS.items():
        shown = info.media_types[0] if transport == "http" and info.media_types else name
        assert (f"`{shown}`" in formats) == (transport in info.transports), name


def test_the_tables_of_metrics_are_those_of_the_families() -> None:
    text = metrics_table.DOCUMENT.read_text()
    assert metrics_table.written(text) == text, "run  python -m tests.metrics_table"


def test_the_labels_in_the_table_of_metrics_are_exported() -> None:
    exposition = (ROOT / "tests/export/golden").glob("*")
    lines = [line for path in exposition for line in path.read_text().splitlines() if not line.startswith("#")]
    labels = {
        name: set(re.findall(r'(\w+)="', rest)) for name, rest in (line.split("{", 1) for line in lines if "{" in line)
    }
    checked = [family for family in DRIFT_FAMILIES if family.family.name in labels]
    assert len(checked) > 20
    for family in checked:
        assert labels[family.family.name] - {"segment"} == set(metrics_table.labels_of(family)), family.family.name


def test_the_metrics_that_the_documents_name_exist() -> None:
    telemetry = Telemetry()
    telemetry.configure(["s"], ["http"], {"m": ["f"]})
    telemetry.server_files_read(())
    own = set(re.findall(r"# TYPE (\S+)", telemetry.exposition(False, False, DriftSnapshot(0)).decode()))
    known = own | {family.family.name for family in DRIFT_FAMILIES}
    known |= set(re.findall(r"`(kldrift_\w+)`", metrics_table.daemon_table()))
    for path in DOCUMENTS:
        named = set(re.findall(r"\bkldrift_[a-z0-9_]+[a-z]\b(?!/)", path.read_text()))
        assert named <= known, f"{name_of(path)}: {named - known}"


# --- what is run ---------------------------------------------------------------------------------


def test_every_command_of_the_documents_is_known_to_these_tests() -> None:
    for path in DOCUMENTS:
        lines = [line.split("    #")[0].strip() for block in blocks(path, "sh") for line in block.strip().splitlines()]
        assert path in RUN_ELSEWHERE or lines == COMMANDS.get(path, []), name_of(path)


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    """A folder with the README's first configuration, its reference, and rows to send and to replay."""
    rng = np.random.default_rng(0)
    n = 4000
    table = pl.DataFrame(
        {
            "amount": rng.lognormal(9, 1, n),
            "age": rng.integers(18, 90, n),
            "country": rng.choice(["de", "fr"], n),
        }
    )
    table[:2000].write_parquet(tmp_path / "reference.parquet")
    table[2000:].write_parquet(tmp_path / "live.parquet")
    table[:200].write_ndjson(tmp_path / "live.ndjson")
    table.with_columns(ts=pl.Series(1_700_000_000 + 60 * np.arange(n))).write_parquet(tmp_path / "last-year.parquet")
    (tmp_path / "kldrift.yaml").write_text(FIRST_YAML)
    return tmp_path


def run(command: str, folder: Path) -> str:
    """Run a command of kldrift, and return what it prints."""
    done = kldrift(*shlex.split(command)[1:], cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def running(folder: Path) -> Iterator[Client]:
    """The daemon as the README starts it, on a port of its own."""
    port = free_port()
    (folder / "kldrift.yaml").write_text(f'server: {{listen: "127.0.0.1:{port}"}}\n{FIRST_YAML}')
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([KLDRIFT, *shlex.split(RUN)[1:]], cwd=folder, stdout=log, stderr=log)
        try:
            client = Client(port, process, folder / "log")

            def ready() -> bool:
                try:
                    return client.request("/-/ready")[0] == 200
                except OSError:
                    return False

            until(ready, 60, "ready")
            yield client
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0


@pytest.mark.slow
def test_a_first_configuration_as_the_readme_prints_it(stream: Path) -> None:
    (stream / "kldrift.yaml").unlink()
    run(INIT, stream)
    assert "ok: 1 monitor, 3 features" in run(CHECK, stream)


@pytest.mark.slow
def test_ones_own_stream_and_the_client_as_the_documents_print_them(stream: Path) -> None:
    assert "ok: 1 monitor, 3 features" in run(CHECK, stream)
    with running(stream) as client:
        command = shlex.split(CURL.replace(":9867", f":{client.port}"))
        posted = subprocess.run([*command, "-s"], cwd=stream, capture_output=True, text=True, check=True)
        assert '"accepted":200' in posted.stdout
        [python] = blocks(CONFIG, "python")
        names: dict[str, object] = {}
        exec(python.replace(":9867", f":{client.port}") + "client.close()", names)
        until(lambda: client.metric("kldrift_samples_received_total", source="http") == 201, 10, "the client's row")


@pytest.mark.slow
def test_the_commands_on_configurations(stream: Path) -> None:
    schema, build, show, compare = COMMANDS[CONFIG][1:5]
    assert '"properties"' in run(schema, stream)
    run(build, stream)
    assert "amount" in run(show, stream)
    run(compare, stream)
    assert "<html" in (stream / "report.html").read_text()


@pytest.mark.slow
def test_the_backtest(stream: Path) -> None:
    with (stream / "kldrift.yaml").open("a") as config:
        config.write("    timestamp: {field: ts, unit: s}\n")
    run(COMMANDS[CONFIG][5], stream)
    assert "<html" in (stream / "backtest.html").read_text()


@pytest.mark.slow
def test_what_prometheus_and_grafana_are_given(stream: Path) -> None:
    for command in COMMANDS[PROMETHEUS][:3]:
        assert (ROOT / re.findall(r"deploy/\S+", command)[0]).exists()
    *copies, dashboard = (
        command.replace("/etc/", f"{stream}/etc/").replace("/var/", f"{stream}/var/") for command in COMMANDS[GRAFANA]
    )
    (stream / "etc/grafana/provisioning").mkdir(parents=True)
    (stream / "etc/prometheus/rules").mkdir(parents=True)
    for command in copies:
        subprocess.run(["/bin/sh", "-c", command], cwd=ROOT, check=True)
    shipped = sorted(path.name for path in (ROOT / "deploy/grafana/dashboards").iterdir())
    dashboards = stream / "var/lib/grafana/dashboards/kldrift"
    assert sorted(path.name for path in dashboards.iterdir()) == shipped
    shutil.rmtree(dashboards)
    run(dashboard, stream)
    assert sorted(path.name for path in dashboards.iterdir()) == shipped
    run(COMMANDS[PROMETHEUS][3].replace("/etc/", f"{stream}/etc/"), stream)
    assert len(list((stream / "etc/prometheus/rules").iterdir())) == 2


@pytest.mark.slow
def test_help_of_every_command_in_the_readme_table() -> None:
    commands = re.findall(r"`kldrift ([a-z]+(?: build| show)?)[ `]", README.read_text())
    assert len(commands) > 12
    for command in commands:
        assert kldrift(*command.split(), "--help").returncode == 0, command
