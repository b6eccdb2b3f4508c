"""Every query of every dashboard against a real Prometheus that scrapes a real daemon."""

import json
import re
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kldrift.provisioning.dashboards import dashboards
from tests.conftest import absent
from tests.e2e.processes import Client, daemon, free_port, kldrift, process, until

CONFIG = """\
server: {{listen: "127.0.0.1:{port}"}}
state: {{path: state.db, commit_interval: 100ms}}
engine: {{tick: 500ms}}
sources:
  files: {{type: file, path: "live-*.ndjson", format: ndjson, follow: true}}
monitors:
  shop:
    sources: [files]
    windows: [30s, 5m]
    reference: {{data: reference.ndjson}}
    segments: {{by: country, limit: 5}}
    divergences: [kl, reverse_kl, js, psi, total_variation, hellinger, entropy, cross_entropy]
    features:
      country: {{kind: categorical}}
      size: {{kind: numeric}}
      'odd "name" \\ {{{{x}}}}': {{kind: numeric}}
      embedding: {{kind: vector, dimensions: 3, per_dimension: true}}
      coarse: {{kind: numeric, reference: {{edges: [0, 1, 2], counts: [2, 2]}}}}
"""

#: What the daemon of this test has no values for; a stand-in exposes them, so that the queries are run all the same.
STAND_IN = """\
# TYPE kldrift_source_lag_records gauge
kldrift_source_lag_records{source="topic"} 12
# TYPE kldrift_source_rebalances_total counter
kldrift_source_rebalances_total{source="topic"} 1
# TYPE kldrift_build_info gauge
kldrift_build_info{version="stand-in",python="3",numba="0"} 1
"""
STOOD_IN_FOR = set(re.findall(r"# TYPE (\S+)", STAND_IN)) - {"kldrift_build_info"}


class Prometheus:
    """The query side of a Prometheus."""

    def __init__(self, port: int) -> None:
        self._root = f"http://127.0.0.1:{port}"
        self.url = f"{self._root}/api/v1"

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._root}/-/ready", timeout=5):
                return True
        except OSError:  # an HTTPError among them: 503 while it starts
            return False

    def get(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode({name.replace("match", "match[]"): v for name, v in parameters.items()})
        try:
            with urllib.request.urlopen(f"{self.url}/{path}?{query}", timeout=20) as answer:
                return json.loads(answer.read())["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def instant(self, expr: str) -> list[Any]:
        return self.get("query", query=expr)["result"]  # type: ignore[no-any-return]

    def range(self, expr: str) -> list[Any]:
        now = time.time()
        return self.get("query_range", query=expr, start=f"{now - 60}", end=f"{now}", step="2")["result"]  # type: ignore[no-any-return]

    def values(self, label_values: str) -> list[str]:
        """What Grafana does for ``label_values(selector, label)``."""
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", label_values)
        assert found is not None, label_values
        return self.get(f"label/{found[2]}/values", match=found[1])  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus with a minute of a daemon: one feature drifts, one has few samples, one segment is empty."""
    if shutil.which("prometheus") is None:
        absent("prometheus")
    folder = tmp_path_factory.mktemp("dashboards")
    ours, theirs, other = free_port(), free_port(), free_port()
    rng = np.random.default_rng(4)

    def rows(n: int, shift: float) -> bytes:
        made = []
        for _ in range(n):
            row = {
                "country": str(rng.choice(["de", "fr"] if shift == 0 else ["de", "fr", "it"])),
                "size": rng.normal(shift, 1) if rng.random() < 0.9 else None,
                'odd "name" \\ {{x}}': rng.normal(0, 1),
                "embedding": rng.normal(shift, 1, 3).tolist(),
            }
            made.append(json.dumps(row))
        return ("\n".join(made) + "\n").encode()

    (folder / "reference.ndjson").write_bytes(rows(6000, 0))
    (folder / "live-1.ndjson").write_bytes(rows(500, 0))
    (folder / "kldrift.yaml").write_text(CONFIG.format(port=ours))
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        "rule_files: [kldrift.rules.yml]\n"
        "scrape_configs:\n"
        f"  - {{job_name: kldrift, static_configs: [{{targets: ['127.0.0.1:{ours}', '127.0.0.1:{other}']}}]}}\n"
    )
    made = kldrift("rules", "-c", str(folder / "kldrift.yaml"), "-o", str(folder))
    assert made.returncode == 0, made.stderr
    (folder / "www").mkdir()
    (folder / "www" / "metrics").write_text(STAND_IN)
    with ExitStack() as stack:
        client = stack.enter_context(daemon(folder / "kldrift.yaml", ours, folder / "kldrift.log"))
        stack.enter_context(stand_in(folder / "www", other, folder / "stand-in.log"))
        stack.enter_context(
            process(
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/prometheus",
                f"--web.listen-address=127.0.0.1:{theirs}",
                log=folder / "prometheus.log",
            )
        )
        found = Prometheus(theirs)
        until(found.ready, 60, "Prometheus")
        fill(client, found, rows)
        yield found


def stand_in(folder: Path, port: int, log: Path) -> AbstractContextManager[object]:
    """Serves `folder`; a file without a suffix is sent as bytes, which this Prometheus reads as its text format."""
    return process(
        sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder), log=log
    )


def fill(client: Client, prometheus: Prometheus, rows: Callable[[int, float], bytes]) -> None:
    """Push drifted rows, wrong values and malformed lines until there is a verdict with some history."""

    def there() -> bool:
        client.post("shop", rows(300, 1.5) + b'{"size": "text", "coarse": 0.5}\nnonsense\n')
        try:
            drifts = prometheus.instant('kldrift_drift_detected{severity="critical",feature="size",segment="de"} == 1')
            lag = prometheus.instant("rate(kldrift_source_lag_records[10s])")
        except OSError:
            return False
        return bool(drifts and lag)

    until(there, 90, "a verdict in Prometheus")
    for _ in range(4):
        there()
        time.sleep(1)


BOARDS = {name: json.loads(text) for name, text in dashboards(None).items()}


#: Which feature has what only some kinds have; the others show `size`.
KINDS = {
    "kldrift_unseen_ratio": "country",
    "kldrift_unseen_expected_ratio": "country",
    "kldrift_dimension_kl_divergence_nats": "embedding",
}


def chosen(prometheus: Prometheus, board: dict[str, Any], feature: str = "size") -> dict[str, str]:
    """A value for each variable, as Grafana would put it into a query: chained, one after the other."""
    values = {"__rate_interval": "10s", "__range": "1m", "__interval": "2s"}
    for variable in board["templating"]["list"]:
        if variable["type"] == "datasource":
            continue
        query = interpolated(variable["query"]["query"], values)
        found = prometheus.values(query)
        assert found, f"{variable['name']}: {query}"
        wanted = {"monitor": "shop", "feature": feature, "window": "30s"}.get(variable["name"])
        assert wanted is None or wanted in found, found
        values[variable["name"]] = variable["allValue"] if variable["includeAll"] else wanted or found[0]
    return values


def interpolated(expr: str, values: dict[str, str]) -> str:
    """A query with its variables; one that no dashboard declares is an error."""
    return re.sub(r"\$\{?(\w+)\}?", lambda m: values[m[1]], expr)


def queries() -> list[Any]:
    return [
        pytest.param(board, panel["type"], target["expr"], id=f"{name}-{panel['title']}-{target['refId']}")
        for name, board in BOARDS.items()
        for panel in board["panels"]
        for target in panel.get("targets", [])
    ] + [
        pytest.param(board, "annotation", annotation["expr"], id=f"{name}-annotation-{annotation['name']}")
        for name, board in BOARDS.items()
        for annotation in board["annotations"]["list"]
    ]


@pytest.mark.parametrize(("board", "kind", "expr"), queries())
def test_every_query_returns_series(prometheus: Prometheus, board: dict[str, Any], kind: str, expr: str) -> None:
    feature = next((feature for metric, feature in KINDS.items() if metric in expr), "size")
    query = interpolated(expr, chosen(prometheus, board, feature))
    found = prometheus.instant(query) if kind in ("stat", "table") else prometheus.range(query)
    assert found, query


@pytest.mark.parametrize("name", BOARDS)
def test_a_chosen_value_is_a_valid_query_whatever_the_name(prometheus: Prometheus, name: str) -> None:
    """A feature's name as Grafana escapes it for a variable of one value, an odd one."""
    values = chosen(prometheus, BOARDS[name])
    if "feature" not in values:
        assert name != "kldrift-feature.json"
        return
    values["feature"] = 'odd "name" \\ {{x}}'.replace("\\", "\\\\").replace('"', '\\"')
    for panel in BOARDS[name]["panels"]:
        for target in panel.get("targets", []):
            prometheus.instant(interpolated(target["expr"], values))
    assert prometheus.instant(f'kldrift_kl_divergence_nats{{feature="{values["feature"]}"}}')


def test_the_rules_of_this_configuration_are_evaluated_without_an_error(prometheus: Prometheus) -> None:
    """On real series, segments among them: no side of a match has a series too many."""
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} >= {"KldriftFeatureDrift", "KldriftMonitorAbsent", "KldriftNoSamples"}
    assert {rule["health"] for rule in rules} == {"ok"}, [rule.get("lastError") for rule in rules]
    raised = {rule["name"] for rule in rules if rule["state"] != "inactive"}
    assert raised >= {"KldriftFeatureDrift", "KldriftReferenceUnusable"}
    assert not raised & {"KldriftMonitorAbsent", "KldriftNoSamples", "KldriftCommitStale", "KldriftReferenceStale"}


def test_only_what_this_daemon_does_not_export_is_stood_in_for(prometheus: Prometheus) -> None:
    """Each needs Kafka."""
    [stand_in] = prometheus.instant('kldrift_build_info{version="stand-in"}')
    for metric in STOOD_IN_FOR:
        instances = {series["metric"]["instance"] for series in prometheus.instant(metric)}
        assert instances == {stand_in["metric"]["instance"]}, metric
