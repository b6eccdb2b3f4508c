"""The whole chain with real parts: daemon, Prometheus, Alertmanager; a drift begins, is told, ends, is resolved."""

import json
import re
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, absent
from tests.e2e.processes import Client, daemon, free_port, process, until

CONFIG = """\
server: {{listen: "127.0.0.1:{port}"}}
state: none
engine: {{tick: 500ms}}
monitors:
  shop:
    windows: [6s]
    features:
      size: {{kind: numeric, reference: {{edges: [0, 1, 2, 3, 4], counts: [2500, 2500, 2500, 2500]}}}}
"""


def get(url: str) -> object:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.loads(answer.read())
    except OSError:
        return None


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[tuple[Client, str, str]]:
    """Daemon, Prometheus' and Alertmanager's addresses; the shipped files with shorter times."""
    for name in ("prometheus", "prometheus-alertmanager"):
        if shutil.which(name) is None:
            absent(name)
    ours, prometheus, alertmanager = free_port(), free_port(), free_port()
    (tmp_path / "kldrift.yaml").write_text(CONFIG.format(port=ours))
    rules = (ROOT / "deploy/prometheus/kldrift.rules.yml").read_text()
    rules = re.sub(r"\bfor: \w+", "for: 1s", rules)
    rules = re.sub(r"keep_firing_for: \w+", "keep_firing_for: 2s", rules)
    (tmp_path / "kldrift.rules.yml").write_text(rules)
    config = (ROOT / "deploy/prometheus/prometheus.yml").read_text()
    config = config.replace("15s", "1s").replace("127.0.0.1:9867", f"127.0.0.1:{ours}")
    (tmp_path / "prometheus.yml").write_text(config.replace("127.0.0.1:9093", f"127.0.0.1:{alertmanager}"))
    text = (ROOT / "deploy/alertmanager/alertmanager.yml").read_text()
    (tmp_path / "alertmanager.yml").write_text(text.replace("group_wait: 30s", "group_wait: 1s"))
    with ExitStack() as stack:
        client = stack.enter_context(daemon(tmp_path / "kldrift.yaml", ours, tmp_path / "kldrift.log"))
        stack.enter_context(
            process(
                "prometheus-alertmanager",
                f"--config.file={tmp_path}/alertmanager.yml",
                f"--storage.path={tmp_path}/alertmanager",
                f"--web.listen-address=127.0.0.1:{alertmanager}",
                "--cluster.listen-address=",
                log=tmp_path / "alertmanager.log",
            )
        )
        stack.enter_context(
            process(
                "prometheus",
                f"--config.file={tmp_path}/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/prometheus",
                f"--web.listen-address=127.0.0.1:{prometheus}",
                log=tmp_path / "prometheus.log",
            )
        )
        yield client, f"http://127.0.0.1:{prometheus}", f"http://127.0.0.1:{alertmanager}"


def test_a_drift_fires_an_alert_that_resolves_when_the_drift_ends(chain: tuple[Client, str, str]) -> None:
    client, prometheus, alertmanager = chain
    rng = np.random.default_rng(9)

    def push(low: float, high: float) -> None:
        values = rng.uniform(low, high, 400).tolist()
        assert client.post("shop", "\n".join(f'{{"size": {v}}}' for v in values).encode())["accepted"] == 400

    def series() -> object:
        found = get(f"{prometheus}/api/v1/query?query=kldrift_kl_divergence_nats")
        return isinstance(found, dict) and found["data"]["result"]

    def firing() -> set[str]:
        found = get(f"{alertmanager}/api/v2/alerts?filter=alertname%3DKldriftFeatureDrift&active=true")
        return {alert["labels"]["severity"] for alert in found or [] if alert["labels"]["feature"] == "size"}  # type: ignore[attr-defined]

    def quiet_is_scraped() -> object:
        push(0, 4)
        return series()

    until(quiet_is_scraped, what="the divergence in Prometheus")
    assert not firing()

    def drift_is_told() -> bool:
        push(0, 1)
        return "critical" in firing()

    until(drift_is_told, 60, "KldriftFeatureDrift in Alertmanager")

    def drift_is_over() -> bool:
        push(0, 4)
        return not firing()

    until(drift_is_over, 60, "its resolution")
