"""The unit: judged by systemd's own tools, and run by a systemd of its own, as shipped."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kldrift.config.load import load_config
from kldrift.kernels.compilation import PLACE
from tests.conftest import ROOT, absent
from tests.deploy.machine import SYSTEM_PYTHON, Machine, booted, installation, missing, packages
from tests.e2e.processes import KLDRIFT, until

FOLDER = ROOT / "deploy" / "systemd"
UNIT = FOLDER / "kldrift.service"
URL = "http://127.0.0.1:9867"
BLOCKS = re.findall(r"```sh\n(.*?)\n```", (FOLDER / "README.md").read_text(), re.DOTALL)
INSTALL = BLOCKS[0].splitlines()
SETTINGS = [line.split("=", 1) for line in UNIT.read_text().splitlines() if "=" in line and not line.startswith("#")]


@pytest.fixture(scope="module")
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        absent("systemd-analyze")
    assert found is not None
    return found


def test_systemd_finds_nothing_wrong_with_the_unit(analyze: str, tmp_path: Path) -> None:
    unit = tmp_path / "kldrift.service"
    unit.write_text(UNIT.read_text().replace("/opt/kldrift/bin/kldrift", KLDRIFT))  # it looks whether that is there
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_exposure_is_what_the_readme_says(analyze: str) -> None:
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=13", UNIT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    [score] = re.findall(r"Overall exposure level for kldrift.service: ([\d.]+)", done.stdout)
    assert f"exposure {score} " in (FOLDER / "README.md").read_text()


def test_memory_may_be_made_executable_and_the_unit_says_why() -> None:
    before, after = UNIT.read_text().split("MemoryDenyWriteExecute=")
    assert after.startswith("no\n")
    assert "kernels are compiled" in before.splitlines()[-2]


def test_every_command_of_the_readme_is_known_to_these_tests() -> None:
    assert len(INSTALL) == 8
    assert len(BLOCKS) == 2


def test_the_configuration_beside_it_is_valid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    config = load_config(FOLDER / "kldrift.yaml")
    assert ["StateDirectory", "kldrift"] in SETTINGS
    assert config.state.path == Path("/var/lib/kldrift/state.db")
    assert config.server.auth is not None
    assert config.server.auth.tokens_file == tmp_path / "tokens"
    assert ["LoadCredential", "tokens:/etc/kldrift/tokens"] in SETTINGS


# --- run by a systemd ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A systemd on which the service was installed as the README says, and is up."""
    lacking = missing()
    if lacking is None and any(str(ROOT).startswith(hidden) for hidden in ("/home/", "/root/")):
        lacking = "a checkout that ProtectHome does not hide"
    if lacking is None and not SYSTEM_PYTHON.exists():
        lacking = str(SYSTEM_PYTHON)
    if lacking is not None:
        pytest.skip(f"for a systemd of its own: {lacking}")
    with booted(installation(tmp_path_factory.mktemp("opt"))) as machine:
        _install(machine)
        yield machine


def _install(machine: Machine) -> None:
    make, fill, *install, start = INSTALL
    assert (make, fill) == ("python3 -m venv /opt/kldrift", "/opt/kldrift/bin/pip install .")  # `installation` for it
    # no journal runs there; three seconds, so that a hang is seen in time
    machine.run("install", "-d", "/etc/systemd/system/kldrift.service.d")
    settings = "StandardOutput=append:/run/kldrift.log\nStandardError=append:/run/kldrift.log\nWatchdogSec=3s\n"
    hidden = {str(path) for path in (ROOT, packages()) if str(path).startswith(("/tmp/", "/var/tmp/"))}
    if hidden:  # by PrivateTmp
        settings += f"BindReadOnlyPaths={' '.join(hidden)}\n"
    machine.run("sh", "-c", f"printf '[Service]\n{settings}' > /etc/systemd/system/kldrift.service.d/test.conf")
    warm = PLACE.directory
    if warm is not None:  # compiling takes a minute on a busy machine, and is not what is tested here
        machine.run("install", "-d", "-m", "700", "/var/cache/private", "/var/cache/private/kldrift")
        machine.run("cp", "-r", str(warm), "/var/cache/private/kldrift/")
    machine.run("sh", "-ec", "\n".join([f"cd {ROOT}", *install]))
    machine.run("sed", "-i", "s/^monitors:/engine: {tick: 200ms}\\nmonitors:/", "/etc/kldrift/kldrift.yaml")
    machine.run("sh", "-ec", start)


def token(machine: Machine, name: str) -> str:
    return re.findall(rf"^{name} \S+ (\w+)$", machine.run("cat", "/etc/kldrift/tokens"), re.MULTILINE)[0]


def http(machine: Machine, path: str, user: str | None = None, body: str | None = None) -> str:
    """Status and body, with curl, as it listens in a network of its own."""
    command = ["curl", "-s", "-w", "\n%{http_code}", URL + path]
    if user is not None:
        command += ["-H", f"Authorization: Bearer {token(machine, user)}"]
    if body is not None:
        command += ["-H", "Content-Type: application/x-ndjson", "--data-binary", body]
    answer, status = machine.run(*command).rsplit("\n", 1)
    return f"{status} {answer}"


def test_it_is_active_once_it_is_ready(machine: Machine) -> None:
    assert machine.show("kldrift", "ActiveState") == "active"
    assert machine.show("kldrift", "StatusText") == "listening on port 9867; monitors: 1, sources: 0"
    assert http(machine, "/-/ready").startswith("200 ")


def test_it_runs_as_nobody_in_particular_and_can_do_little(machine: Machine) -> None:
    status = machine.run("cat", f"/proc/{machine.show('kldrift', 'MainPID')}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert 61184 <= int(fields["Uid"].split()[0]) <= 65519  # the range of DynamicUser
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0000000000000000"}
    assert machine.run("stat", "-c", "%a", "/var/lib/private/kldrift/state.db").strip() == "600"


def test_tokens_that_only_root_can_read_are_handed_over(machine: Machine) -> None:
    assert machine.run("stat", "-c", "%u %a", "/etc/kldrift/tokens").strip() == "0 600"
    assert http(machine, "/metrics").startswith("401 ")
    assert http(machine, "/metrics", "prometheus").startswith("200 ")


def test_reload_and_a_reload_that_is_refused(machine: Machine) -> None:
    def status() -> str:
        return machine.show("kldrift", "StatusText")

    good = "listening on port 9867; monitors: 1, sources: 0"
    check, reload = BLOCKS[1].splitlines()
    assert "ok: 1 monitor, 2 features" in machine.run("sh", "-ec", check)
    machine.run("sed", "-i", "s/country:/contry: {kind: vetor}\\n      country:/", "/etc/kldrift/kldrift.yaml")
    assert "ok:" not in machine.run("sh", "-ec", check, check=False)
    machine.run("sh", "-ec", reload)
    until(
        lambda: status().startswith(f"{good}; new configuration rejected, the old one stays in use: "),
        20,
        "the refusal",
    )
    assert machine.show("kldrift", "ActiveState") == "active"
    machine.run("sed", "-i", "/contry/d", "/etc/kldrift/kldrift.yaml")
    machine.run("sh", "-ec", reload)
    until(lambda: status() == good, 20, "the reload")


def test_counts_outlive_a_restart(machine: Machine) -> None:
    row = json.dumps({"amount": 5000, "country": "de"})
    answer = http(machine, "/v1/monitors/loans/samples", "scorer", f"{row}\n{row}\n{row}\n")
    assert answer.startswith('200 {"accepted":3'), answer
    machine.run("systemctl", "restart", "kldrift")
    metrics = http(machine, "/metrics", "prometheus")
    assert re.search(r'^kldrift_window_samples\{.*feature="amount".*window="24h".*\} 3', metrics, re.MULTILINE), metrics


def test_the_watchdog_ends_and_restarts_one_that_hangs(machine: Machine) -> None:
    before = machine.show("kldrift", "MainPID")
    machine.run("kill", "-STOP", before)
    until(lambda: machine.show("kldrift", "NRestarts") == "1", 30, "the restart")
    until(lambda: machine.show("kldrift", "ActiveState") == "active", 60, "the next one")
    assert machine.show("kldrift", "MainPID") != before
    assert "Watchdog timeout" in machine.console
    log = machine.run("cat", "/run/kldrift.log")
    assert "Fatal Python error: Aborted" in log  # with every thread's stack
    assert '(most recent call first):\n  File "' in log


def test_a_stop_is_in_order_and_a_mistake_is_not_tried_again(machine: Machine) -> None:
    machine.run("systemctl", "stop", "kldrift")
    assert machine.show("kldrift", "Result") == "success"
    assert machine.run("tail", "-n", "1", "/run/kldrift.log").rstrip().endswith("msg=stopped rows_counted=0")
    machine.run("sed", "-i", "s/numeric/numerc/", "/etc/kldrift/kldrift.yaml")
    machine.run("systemctl", "start", "kldrift", check=False)
    assert machine.show("kldrift", "ActiveState") == "failed"  # and not activating again
    assert machine.show("kldrift", "ExecMainStatus") == "2"
    assert "did you mean numeric?" in machine.run("tail", "-n", "1", "/run/kldrift.log")
