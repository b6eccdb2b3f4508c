"""The manifests as kustomize builds them: they fit together, are confined, and the daemon answers as they ask."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from kldrift import __version__
from kldrift.config.load import load_config
from tests.conftest import ROOT, absent
from tests.e2e.processes import Client, daemon, free_port

FOLDER = ROOT / "deploy" / "kubernetes"
DOCKERFILE = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)\n```", (FOLDER / "README.md").read_text(), re.DOTALL)
    for line in block.splitlines()
]

Manifest = dict[str, Any]


@cache
def build(name: str) -> dict[str, Manifest]:
    """By kind; there is one of each."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        absent("kubectl")
    assert kubectl is not None
    done = subprocess.run([kubectl, "kustomize", FOLDER / name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr  # a warning of something that is deprecated
    found = list(yaml.safe_load_all(done.stdout))
    assert len({manifest["kind"] for manifest in found}) == len(found)
    return {manifest["kind"]: manifest for manifest in found}


@pytest.fixture
def manifests() -> dict[str, Manifest]:
    return build("operator")


@pytest.fixture
def pod(manifests: dict[str, Manifest]) -> Manifest:
    return manifests["StatefulSet"]["spec"]["template"]["spec"]


@pytest.fixture
def container(pod: Manifest) -> Manifest:
    [container] = pod["containers"]
    return container


# --- that they fit together ----------------------------------------------------------------------


def test_the_operators_kinds_are_on_top_of_the_base() -> None:
    base, operator = build("base"), build("operator")
    assert operator.keys() - base.keys() == {"ServiceMonitor", "PrometheusRule"}
    assert all(operator[kind] == manifest for kind, manifest in base.items())


def test_everything_is_in_the_namespace(manifests: dict[str, Manifest]) -> None:
    namespace = manifests["Namespace"]["metadata"]["name"]
    assert {m["metadata"].get("namespace") for kind, m in manifests.items() if kind != "Namespace"} == {namespace}


def test_selectors_find_the_pod_and_the_service(manifests: dict[str, Manifest]) -> None:
    workload = manifests["StatefulSet"]["spec"]
    labels = workload["template"]["metadata"]["labels"].items()
    for selector in (
        workload["selector"]["matchLabels"],
        manifests["Service"]["spec"]["selector"],
        manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector
        assert selector.items() <= labels
    wanted = manifests["ServiceMonitor"]["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= manifests["Service"]["metadata"]["labels"].items()
    assert workload["serviceName"] == manifests["Service"]["metadata"]["name"]


def test_ports_are_those_of_the_container_the_image_and_the_configuration(
    manifests: dict[str, Manifest], container: Manifest
) -> None:
    [port] = container["ports"]
    assert load_config(FOLDER / "base" / "kldrift.yaml").server.listen.port == port["containerPort"]
    assert f"\nEXPOSE {port['containerPort']}\n" in DOCKERFILE
    [service] = manifests["Service"]["spec"]["ports"]
    assert service["targetPort"] == port["name"]
    [endpoint] = manifests["ServiceMonitor"]["spec"]["endpoints"]
    assert endpoint["port"] == service["name"]
    [rule] = manifests["NetworkPolicy"]["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": port["name"]}]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == port["name"]


def test_volumes_are_defined_and_mounted(manifests: dict[str, Manifest], pod: Manifest, container: Manifest) -> None:
    claims = {claim["metadata"]["name"] for claim in manifests["StatefulSet"]["spec"]["volumeClaimTemplates"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert sorted(mounts.values()) == sorted([*claims, *volumes])
    assert volumes[mounts["/etc/kldrift"]]["configMap"]["name"] == manifests["ConfigMap"]["metadata"]["name"]
    config = load_config(FOLDER / "base" / "kldrift.yaml")
    assert config.state.path is not None
    assert mounts[str(config.state.path.parent)] in claims
    assert config.server.auth is not None
    assert config.server.auth.tokens_file is not None
    secret = volumes[mounts[str(config.server.auth.tokens_file.parent)]]["secret"]
    assert [item["path"] for item in secret["items"]] == [config.server.auth.tokens_file.name]
    assert secret["defaultMode"] == 0o440
    # the image keeps its kernels below it, where it may write
    assert "KLDRIFT_CACHE_DIR=/tmp/" in DOCKERFILE
    assert "emptyDir" in volumes[mounts["/tmp"]]


def test_the_secret_that_is_made_has_what_is_taken_from_it(manifests: dict[str, Manifest], pod: Manifest) -> None:
    [create] = [command for command in COMMANDS if "create secret" in command]
    [name] = re.findall(r"secret generic (\S+)", create)
    keys = set(re.findall(r"--from-(?:file|literal)=([\w-]+)", create))
    [secret] = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    scraper = manifests["ServiceMonitor"]["spec"]["endpoints"][0]["authorization"]["credentials"]
    assert secret["secretName"] == scraper["name"] == name
    assert {scraper["key"], *(item["key"] for item in secret["items"])} == keys


def test_the_configuration_is_the_file(manifests: dict[str, Manifest]) -> None:
    assert manifests["ConfigMap"]["data"] == {"kldrift.yaml": (FOLDER / "base" / "kldrift.yaml").read_text()}
    # without a hash in its name a change would reach no pod
    assert re.fullmatch(r"kldrift-[a-z0-9]{10}", manifests["ConfigMap"]["metadata"]["name"])


def test_the_rules_are_those_of_prometheus(manifests: dict[str, Manifest], tmp_path: Path) -> None:
    shipped = yaml.safe_load((ROOT / "deploy/prometheus/kldrift.rules.yml").read_text())
    assert manifests["PrometheusRule"]["spec"] == shipped
    [command] = [command for command in COMMANDS if command.endswith("/prometheusrule.yaml")]
    command = command.replace("> deploy/kubernetes/operator/", f"> {tmp_path}/")
    subprocess.run(["sh", "-ec", command], cwd=ROOT, check=True)
    assert (tmp_path / "prometheusrule.yaml").read_text() == (FOLDER / "operator/prometheusrule.yaml").read_text()


def test_the_job_that_an_alert_looks_for_is_the_services_name(manifests: dict[str, Manifest]) -> None:
    [group] = {m["metadata"]["name"] for kind, m in manifests.items() if kind in ("Service", "PrometheusRule")}
    rules = yaml.safe_dump(manifests["PrometheusRule"]["spec"])
    assert set(re.findall(r'job="(\w+)"', rules)) == {group}


# --- that it is confined -------------------------------------------------------------------------


def test_the_pod_fits_the_restricted_profile(pod: Manifest, container: Manifest) -> None:
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not any("hostPort" in port for port in container["ports"])
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "secret", "emptyDir"}


def test_the_pod_is_confined_beyond_that(manifests: dict[str, Manifest], pod: Manifest, container: Manifest) -> None:
    assert manifests["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["automountServiceAccountToken"] is False
    assert manifests["NetworkPolicy"]["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert not manifests["NetworkPolicy"]["spec"].get("egress")
    user = pod["securityContext"]
    assert f"\nUSER {user['runAsUser']}:{user['runAsGroup']}\n" in DOCKERFILE
    assert user["fsGroup"] == user["runAsGroup"]  # else it could read no secret


def test_one_process_has_the_state(manifests: dict[str, Manifest], pod: Manifest) -> None:
    workload = manifests["StatefulSet"]["spec"]
    assert workload["replicas"] == 1
    [claim] = workload["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert "labels" not in claim["metadata"]  # it cannot be changed any more, a label of the version would have to be
    assert pod["terminationGracePeriodSeconds"] > 10


def test_the_image_is_of_this_version(container: Manifest) -> None:
    assert container["image"] == f"registry.example.com/kldrift:{__version__}"


def test_resources_are_asked_for(container: Manifest) -> None:
    resources = container["resources"]
    assert resources["requests"]["memory"] == "512Mi"
    assert resources["limits"]["memory"] == "1536Mi"
    assert "cpu" not in resources["limits"]
    config = load_config(FOLDER / "base" / "kldrift.yaml")
    assert {"name": "POLARS_MAX_THREADS", "value": str(config.engine.threads)} in container["env"]


# --- that the daemon answers as they ask ---------------------------------------------------------


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A daemon with the pod's configuration."""
    port = free_port()
    text = (FOLDER / "base" / "kldrift.yaml").read_text().replace("0.0.0.0:9867", f"0.0.0.0:{port}")
    text = text.replace("/etc/kldrift-secrets", str(tmp_path)).replace("/var/lib/kldrift", str(tmp_path))
    (tmp_path / "kldrift.yaml").write_text(text)
    (tmp_path / "tokens").write_text(f"prometheus read,admin {'a' * 64}\n")
    (tmp_path / "tokens").chmod(0o440)
    with daemon(tmp_path / "kldrift.yaml", port, tmp_path / "log") as client:
        yield client


def test_probes_are_open_and_metrics_are_not(
    client: Client, manifests: dict[str, Manifest], container: Manifest
) -> None:
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert client.request(container[probe]["httpGet"]["path"])[0] == 200
    [endpoint] = manifests["ServiceMonitor"]["spec"]["endpoints"]
    assert client.request(endpoint["path"])[0] == 401
    bearer = {"Authorization": f"{endpoint['authorization']['type']} {'a' * 64}"}
    assert client.request(endpoint["path"], headers=bearer)[0] == 200


def test_every_command_of_the_readme_is_known_to_these_tests() -> None:
    assert [command.split()[:4] for command in COMMANDS if command.startswith("kubectl")] == [
        # not run, as they take a cluster
        ["kubectl", "apply", "-f", "deploy/kubernetes/base/namespace.yaml"],
        ["kubectl", "-n", "kldrift", "create"],
        ["kubectl", "apply", "-k", "deploy/kubernetes/operator"],
        ["kubectl", "-n", "kldrift", "rollout"],
        ["kubectl", "kustomize", "deploy/kubernetes/operator"],  # above
    ]
    assert len(COMMANDS) == 8


def test_the_tokens_that_the_readme_makes_are_tokens(tmp_path: Path) -> None:
    from kldrift.web.credentials import load_credentials

    made = "\n".join(command for command in COMMANDS if not command.startswith(("kubectl", "{")))
    subprocess.run(["sh", "-ec", made], cwd=tmp_path, check=True)
    warnings: list[str] = []
    assert len(load_credentials(tmp_path / "tokens", None, warnings.append).tokens) == 2
    assert not warnings
