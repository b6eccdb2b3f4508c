"""Image and compose file, as far as that goes without a Docker daemon: rules, and the commands run by themselves."""

import filecmp
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from kldrift import __version__
from kldrift.config.load import load_config
from tests.conftest import ROOT, absent
from tests.deploy.machine import SYSTEM_PYTHON, installation
from tests.e2e.processes import free_port, process, until
from tests.e2e.test_alerting import get

FOLDER = ROOT / "deploy" / "docker"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
README = (FOLDER / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)\n```", README, re.DOTALL)


def instructions() -> list[tuple[str, str]]:
    lines = [line for line in (FOLDER / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


DOCKERFILE = instructions()
STAGES = [i for i, (word, _) in enumerate(DOCKERFILE) if word == "FROM"]
FINAL = DOCKERFILE[STAGES[-1] :]


def of(word: str, among: list[tuple[str, str]] = FINAL) -> list[str]:
    return [arguments for name, arguments in among if name == word]


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for arguments in of("ENV") for pair in shlex.split(arguments))


# --- rules ---------------------------------------------------------------------------------------


def test_every_image_is_pinned() -> None:
    [base] = of("ARG", DOCKERFILE)
    images = [base.removeprefix("BASE="), *(service["image"] for service in SERVICES.values())]
    assert all(re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*", image) for image in images), images
    assert of("FROM", DOCKERFILE) == ["${BASE} AS build", "${BASE}"]


def test_the_version_is_that_of_the_package() -> None:
    assert f'org.opencontainers.image.version="{__version__}"' in of("LABEL")[0]
    assert SERVICES["kldrift"]["image"] == f"kldrift:{__version__}"
    assert set(re.findall(r"kldrift:(\d[\w.]*)", README)) == {__version__}


def test_the_image_runs_as_a_numbered_user_and_stops_by_sigterm() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", *of("USER"))
    after = [name for name, _ in FINAL[[name for name, _ in FINAL].index("USER") :]]
    assert not {"RUN", "COPY"} & set(after)  # what the user could write to is what was made for it
    assert of("STOPSIGNAL") == ["SIGTERM"]
    assert of("EXPOSE") == ["9867"]
    assert len(of("HEALTHCHECK")) == 1
    assert not of("ADD", DOCKERFILE)


def test_commands_are_lists_so_that_no_shell_stands_before_the_daemon() -> None:
    assert json.loads(*of("ENTRYPOINT")) == ["/bin/sh", "/opt/start.sh"]
    assert json.loads(*of("CMD")) == ["run", "-c", "/etc/kldrift/kldrift.yaml"]
    assert (FOLDER / "start.sh").read_text().splitlines()[-1] == 'exec kldrift "$@"'


def test_layers_that_change_seldom_come_first() -> None:
    build = DOCKERFILE[: STAGES[-1]]
    copies = [arguments.split() for arguments in of("COPY", build)]
    assert [sources for *sources, _ in copies][-1] == ["kldrift"]
    pip = next(arguments for arguments in of("RUN", build) if "pip install" in arguments)
    assert "--no-cache-dir" in pip
    assert "--constraint tests/constraints.txt" in pip


def test_what_is_copied_is_there_and_is_sent_to_the_daemon() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source for arguments in of("COPY", DOCKERFILE) if "--from" not in arguments for source in arguments.split()[:-1]
    }
    assert copied == kept
    assert all((ROOT / source).exists() for source in copied)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert "healthcheck" in service or name == "kldrift"  # that of the image
    assert set(service.get("depends_on", {})) <= SERVICES.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_mounts_is_there(name: str) -> None:
    service = SERVICES[name]
    for volume in service["volumes"]:
        source, target, *mode = volume.split(":")
        assert target.startswith("/")
        if source.startswith("."):
            assert (FOLDER / source).exists(), source
            assert mode == ["ro"]
        else:
            assert source in COMPOSE["volumes"]
    assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys()


def test_prometheus_differs_from_the_shipped_one_by_names_and_the_token() -> None:
    ours = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    shipped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    [job] = ours["scrape_configs"]
    assert job.pop("authorization") == {"credentials_file": "/run/secrets/prometheus-token"}
    [[port], [alertmanager]] = (SERVICES[name]["ports"] for name in ("kldrift", "alertmanager"))
    shipped["scrape_configs"][0]["static_configs"][0]["targets"] = [f"kldrift:{port.split(':')[-1]}"]
    shipped["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [
        f"alertmanager:{alertmanager.split(':')[-1]}"
    ]
    assert ours == shipped


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    ours = yaml.safe_load((FOLDER / "grafana-datasource.yml").read_text())
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    shipped = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())
    assert ours["datasources"][0].pop("url") == "http://prometheus:9090"
    del shipped["datasources"][0]["url"]
    assert ours == shipped
    [provider] = yaml.safe_load((provisioning / "dashboards" / "kldrift.yml").read_text())["providers"]
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]


def test_every_command_of_the_readme_is_known_to_these_tests() -> None:
    secrets, compose, image = BLOCKS
    assert secrets.startswith("mkdir -m 700 secrets")  # run by the fixture below
    # not run, as they take a Docker daemon
    assert [line.split()[:3] for line in compose.splitlines()] == [
        ["docker", "compose", "up"],
        ["curl", "-H", '"Authorization:'],
        ["docker", "compose", "kill"],
    ]
    assert [line.split()[:2] for line in image.splitlines()] == [["docker", "build"], ["docker", "run"]]


# --- what the image would do ---------------------------------------------------------------------


@dataclass
class Container:
    """The image's commands with other places: no user sees another's home, and the port may be taken."""

    kernels: Path
    place: Path
    port: int
    log: Path
    token: str
    process: subprocess.Popen[bytes] | None = None


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """A folder that every user may enter, as no folder of pytest's is."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def public(image: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=image) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def kernels(image: Path) -> Path:
    """/opt/kernels, made by the Dockerfile's own command."""
    folder = image / "kernels"
    [command] = [arguments for arguments in of("RUN", DOCKERFILE) if "warm_up" in arguments]
    command = command.replace("/opt/kldrift/bin/python", sys.executable).replace("/opt/kernels", str(folder))
    [kept] = [arguments for arguments in of("ENV", DOCKERFILE[: STAGES[-1]]) if "NUMBA" in arguments]
    # The sources lie where it runs; numba knows a kernel by its path, so that it must not take theirs.
    (image / "src" / "kldrift").mkdir(parents=True)
    (image / "src" / "kldrift" / "__init__.py").write_text("raise ImportError('the sources, not what is installed')")
    subprocess.run(["sh", "-ec", f"export {kept}; {command}"], check=True, cwd=image / "src")
    return folder


@pytest.fixture(scope="module")
def secrets(public: Path) -> Path:
    subprocess.run(["sh", "-ec", BLOCKS[0]], cwd=public, check=True)
    return public / "secrets"


@contextmanager
def running(kernels: Path, public: Path, secrets: Path, **other: str) -> Iterator[Container]:
    """start.sh in the image's environment, with `public/place` as /tmp and /var/lib/kldrift."""
    command, place, port = installation(public / "opt"), public / "place", free_port()
    for folder in (place / "tmp", place / "state"):
        folder.mkdir(parents=True)
        folder.chmod(0o777)
    config = (FOLDER / "kldrift.yaml").read_text().replace("0.0.0.0:9867", f"0.0.0.0:{port}")
    config = config.replace("/run/secrets/", f"{secrets}/").replace("/var/lib/kldrift", str(place / "state"))
    (public / "kldrift.yaml").write_text(config)
    variables = environment() | {
        "KLDRIFT_KERNELS": str(kernels),
        "KLDRIFT_CACHE_DIR": environment()["KLDRIFT_CACHE_DIR"].replace("/tmp", str(place / "tmp")),
        "PATH": f"{command / 'bin'}:{os.environ['PATH']}",
    }
    start = ["env", "-i", *(f"{name}={value}" for name, value in (variables | other).items())]
    start += ["sh", str(FOLDER / "start.sh"), "run", "-c", str(public / "kldrift.yaml")]
    if os.geteuid() == 0:
        user, group = of("USER")[0].split(":")
        start = ["setpriv", "--reuid", user, "--regid", group, "--clear-groups", "--no-new-privs", *start]
        secrets.chmod(0o755)  # a container sees the files, not their folder
    token = (secrets / "prometheus-token").read_text()
    with process(*start, log=public / "log", cwd=public) as started:
        container = Container(kernels, place, port, public / "log", token, started)
        until(lambda: "msg=ready" in container.log.read_text() or started.poll() is not None, 120, "ready")
        assert started.poll() is None, container.log.read_text()
        yield container


@pytest.fixture(scope="module")
def container(kernels: Path, public: Path, secrets: Path) -> Iterator[Container]:
    if os.geteuid() == 0 and not SYSTEM_PYTHON.exists():
        absent(str(SYSTEM_PYTHON))
    with running(kernels, public, secrets) as container:
        yield container


def health(port: int) -> int:
    command = json.loads(re.search(r"CMD (\[.*\])", *of("HEALTHCHECK"))[1])  # type: ignore[index]
    command = [sys.executable, *(word.replace(":9867/", f":{port}/") for word in command[1:])]
    return subprocess.run(command, capture_output=True, check=False).returncode


def test_the_kernels_of_the_image_are_loaded_by_the_daemon(container: Container) -> None:
    copied = container.place / "tmp" / "kernels"
    compared = filecmp.dircmp(container.kernels, copied)
    [version] = compared.common_dirs
    folders = compared.subdirs[version].subdirs
    assert len(folders) == 2  # of `kernels` and `kernels.parsing`
    assert sum(len(inner.common_files) for inner in folders.values()) > 10
    for inner in (compared.subdirs[version], *folders.values()):
        assert not inner.left_only + inner.right_only  # nothing was compiled for another CPU, nor anew
        _, mismatch, errors = filecmp.cmpfiles(inner.left, inner.right, inner.common_files, shallow=False)
        assert not mismatch + errors
    assert "compiled at each start" not in container.log.read_text()


def test_it_is_the_configuration_of_the_image_that_is_run(container: Container) -> None:
    process_of = container.process
    assert process_of is not None
    python, *arguments = Path(f"/proc/{process_of.pid}/cmdline").read_bytes().decode().split("\0")
    assert "python" in python  # and not the shell that started it
    assert any(argument.endswith("/bin/kldrift") for argument in arguments)
    if os.geteuid() == 0:
        assert Path(f"/proc/{process_of.pid}").stat().st_uid == int(of("USER")[0].split(":")[0])
    assert (container.place / "state" / "state.db").exists()


def test_without_a_place_for_the_kernels_it_starts_and_says_so(image: Path, kernels: Path, secrets: Path) -> None:
    # interpreted, as compiling takes a while, and it is the start that matters here
    other = {"KLDRIFT_CACHE_DIR": "/proc/kernels", "NUMBA_DISABLE_JIT": "1"}
    with running(kernels, image / "other", secrets, **other) as container:
        assert "kernels are compiled at each start: expected KLDRIFT_CACHE_DIR=/proc" in container.log.read_text()


def test_kernels_for_this_cpu_are_left_to_numba(kernels: Path, tmp_path: Path) -> None:
    (tmp_path / "kldrift").write_text('#!/bin/sh\necho "$1 ${NUMBA_CPU_NAME-unset}"\n')
    (tmp_path / "kldrift").chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "KLDRIFT_KERNELS": str(kernels)}
    variables["KLDRIFT_CACHE_DIR"] = str(tmp_path / "kernels")
    for name, expected in (("native", "unset"), ("generic", "generic")):
        started = subprocess.run(
            ["sh", FOLDER / "start.sh", "version"],
            env=variables | {"NUMBA_CPU_NAME": name},
            capture_output=True,
            text=True,
            check=True,
        )
        assert (started.stdout, started.stderr) == (f"version {expected}\n", "")
        assert (tmp_path / "kernels").exists() == (name == "generic")


def test_prometheus_scrapes_with_the_token(container: Container, promtool: str, tmp_path: Path, secrets: Path) -> None:
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        absent("prometheus")
    port = free_port()
    config = (FOLDER / "prometheus.yml").read_text().replace("kldrift:9867", f"127.0.0.1:{container.port}")
    config = config.replace("15s", "1s").replace("/run/secrets", str(secrets)).replace("alertmanager:", "127.0.0.1:")
    (tmp_path / "prometheus.yml").write_text(config)
    shutil.copy(ROOT / "deploy/prometheus/kldrift.rules.yml", tmp_path)
    subprocess.run([promtool, "check", "config", tmp_path / "prometheus.yml"], check=True, capture_output=True)
    arguments = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/prometheus"]
    arguments += [f"--web.listen-address=127.0.0.1:{port}"]

    def up() -> bool:
        answer = get(f"http://127.0.0.1:{port}/api/v1/query?query=up")
        return isinstance(answer, dict) and [v["value"][1] for v in answer["data"]["result"]] == ["1"]

    with process(prometheus, *arguments, log=tmp_path / "prometheus.log"):
        until(up, 30, "a scrape")


def test_the_configuration_is_valid() -> None:
    config = load_config(FOLDER / "kldrift.yaml")
    assert config.server.auth is not None
    assert config.server.auth.tokens_file == Path("/run/secrets/tokens")
    assert str(config.state.path).startswith(of("VOLUME")[0])
    assert f"{config.server.listen.port}" in of("EXPOSE")


def test_the_health_check_sees_a_daemon_come_and_go(container: Container) -> None:
    """The last one: it ends the daemon."""
    assert health(container.port) == 0
    assert container.process is not None
    container.process.terminate()
    assert container.process.wait(20) == 0
    assert health(container.port) != 0
