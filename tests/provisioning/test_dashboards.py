"""Dashboards: what Grafana needs of the JSON, and what a configuration leaves out. tests/e2e runs their queries."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from kldrift.export.drift_families import DRIFT_FAMILIES
from kldrift.provisioning.alerts import Watched
from kldrift.provisioning.dashboards import dashboards
from kldrift.records.divergences import DIVERGENCES
from kldrift.records.sources import FileSourceConfig, KafkaSourceConfig
from kldrift.records.specs import FeatureSpec, MonitorSpec, SegmentSpec, WindowSpec
from tests.cli.command import kldrift
from tests.conftest import ROOT
from tests.e2e.processes import kldrift as installed

GRAFANA = ROOT / "deploy" / "grafana"
SHIPPED = GRAFANA / "dashboards"
CONFIGS = [ROOT / "config/kldrift.yaml", *sorted((ROOT / "config/examples").glob("*.yaml"))]

#: What Grafana itself puts in.
BUILT_IN = {"__rate_interval", "__range", "__interval", "__url_time_range", "__data"}

TOPIC = KafkaSourceConfig("topic", ("localhost:9092",), "topic", "kldrift", "ndjson", "earliest")
FOLLOWED = FileSourceConfig("files", "/data/*.ndjson", "ndjson", follow=True)
BARE = Watched(
    (MonitorSpec("m", (FeatureSpec("latent", "posterior"),), (WindowSpec("5m", 300_000),)),), has_state=False
)
FULL = Watched(
    (
        MonitorSpec(
            "m",
            (
                FeatureSpec("a", "numeric"),
                FeatureSpec("b", "categorical"),
                FeatureSpec("c", "vector", dimensions=3, per_dimension=True),
            ),
            (WindowSpec("5m", 300_000),),
            divergences=tuple(DIVERGENCES),
            segments=SegmentSpec("country"),
            sources=("topic", "files"),
        ),
    ),
    (TOPIC, FOLLOWED),
    has_tls=True,
)


def boards(watched: Watched | None = None, datasource: str | None = None) -> dict[str, dict[str, Any]]:
    return {name: json.loads(text) for name, text in dashboards(watched, datasource).items()}


GENERIC = boards()
EACH = pytest.mark.parametrize("board", GENERIC.values(), ids=GENERIC)


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def expressions(board: dict[str, Any]) -> list[str]:
    """Of panels, annotations and variables."""
    found = [target["expr"] for panel in panels(board) for target in panel["targets"]]
    found += [annotation["expr"] for annotation in board["annotations"]["list"]]
    return found + [v["query"]["query"] for v in board["templating"]["list"] if v["type"] == "query"]


def objects(value: Any) -> list[dict[str, Any]]:
    """Every JSON object in a value, itself among them."""
    if isinstance(value, list):
        return [found for item in value for found in objects(item)]
    if isinstance(value, dict):
        return [value, *(found for item in value.values() for found in objects(item))]
    return []


def test_the_shipped_dashboards_are_those_of_no_configuration() -> None:
    assert {path.name: path.read_text() for path in SHIPPED.iterdir()} == dashboards(None)


def test_a_configuration_with_everything_has_the_shipped_dashboards() -> None:
    assert dashboards(FULL) == dashboards(None)


@EACH
def test_a_dashboard_is_what_grafana_reads(board: dict[str, Any]) -> None:
    assert board["id"] is None  # Grafana gives one; a number would overwrite another dashboard
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", board["uid"])
    assert board["schemaVersion"] == 39
    assert board["time"].keys() == {"from", "to"}
    assert board["tags"] == ["kldrift"]
    assert {
        "title",
        "description",
        "version",
        "editable",
        "refresh",
        "annotations",
        "templating",
        "links",
    } <= board.keys()
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert all(isinstance(panel_id, int) and panel_id > 0 for panel_id in ids)
    assert len(panels(board)) <= 21
    titles = [panel["title"] for panel in panels(board)]
    assert len(set(titles)) == len(titles)


@EACH
def test_panels_lie_side_by_side_and_fill_the_width(board: dict[str, Any]) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
        covered = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not covered & cells, panel["title"]
        cells |= covered
    rows = [panel["gridPos"]["y"] for panel in board["panels"] if panel["type"] == "row"]
    assert rows == sorted(set(rows))
    assert rows[0] == 0


@EACH
def test_every_panel_says_what_it_shows(board: dict[str, Any]) -> None:
    for panel in panels(board):
        assert panel["type"] in {"timeseries", "stat", "table", "status-history"}
        assert panel["description"].endswith(".")
        assert panel["targets"]
        refs = [target["refId"] for target in panel["targets"]]
        assert refs == list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(refs)])
        assert panel["fieldConfig"]["defaults"]["unit"]
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert steps[0]["value"] is None
        assert [step["value"] for step in steps[1:]] == sorted(step["value"] for step in steps[1:])
        for target in panel["targets"]:
            assert target["instant"] is not target["range"]
            if panel["type"] in {"timeseries", "status-history"}:
                assert target["legendFormat"] != "__auto", panel["title"]


@EACH
def test_legends_and_columns_are_of_labels_that_the_query_keeps(board: dict[str, Any]) -> None:
    for panel in panels(board):
        for target in panel["targets"]:
            grouped = re.match(r"(?:topk\(\d+, )?(?:histogram_quantile\([\d.]+, )?\w+ by \(([^)]*)\)", target["expr"])
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert grouped is None or label in grouped[1].split(", "), target["expr"]


@EACH
def test_overrides_are_of_series_that_are_there(board: dict[str, Any]) -> None:
    for panel in panels(board):
        labels = set(re.findall(r"\w+", " ".join(re.findall(r" by \(([^)]*)\)", str(panel["targets"])))))
        names = {target["legendFormat"] for target in panel["targets"]} | labels
        for override in panel["fieldConfig"]["overrides"]:
            assert override["matcher"]["options"] in names, panel["title"]
        for step in panel.get("transformations", []):
            if step["id"] == "sortBy":
                assert step["options"]["sort"][0]["field"] in names


@EACH
def test_variables_are_declared_before_they_are_used(board: dict[str, Any]) -> None:
    declared: set[str] = set()
    for variable in board["templating"]["list"]:
        used = set(re.findall(r"\$(\w+)", variable["query"]["query"] if variable["type"] == "query" else ""))
        assert used <= declared
        declared.add(variable["name"])
    text = json.dumps(board)
    used = set(re.findall(r"\$\{?(\w+)", text.replace("$__all", "")))
    assert used <= declared | BUILT_IN
    assert declared <= used


@EACH
def test_a_variable_of_several_values_is_matched_as_a_regular_expression(board: dict[str, Any]) -> None:
    for variable in board["templating"]["list"]:
        for expr in expressions(board):
            for operator in re.findall(rf'(=~?)"\${variable["name"]}"', expr):
                assert operator == ("=~" if variable["includeAll"] else "="), expr


@EACH
def test_every_query_goes_to_the_chosen_datasource(board: dict[str, Any]) -> None:
    found = [item["datasource"] for item in objects(board) if "datasource" in item]
    assert len(found) >= len(expressions(board))
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in found)
    assert board["templating"]["list"][0]["name"] == "datasource"


def test_the_datasource_may_be_named() -> None:
    for board in boards(datasource='Thanos "eu"').values():
        assert board["templating"]["list"][0]["current"] == {
            "selected": True,
            "text": 'Thanos "eu"',
            "value": 'Thanos "eu"',
        }


def test_links_lead_to_dashboards_and_their_variables() -> None:
    variables = {b["uid"]: {v["name"] for v in b["templating"]["list"]} for b in GENERIC.values()}
    links = [item["url"] for board in GENERIC.values() for item in objects(board["panels"]) if "url" in item]
    assert len(links) == 4
    for link in links:
        found = re.match(r"/d/([\w-]+)\?", link)
        assert found is not None
        assert set(re.findall(r"var-(\w+)=", link)) <= variables[found[1]]


def test_every_metric_is_exported() -> None:
    exported = {family.family.name for family in DRIFT_FAMILIES}
    exported |= set(re.findall(r'"(kldrift_\w+)"', (ROOT / "kldrift/export/self_metrics.py").read_text()))
    exported |= {"kldrift_build_info", "kldrift_last_evaluation_timestamp_seconds"}
    used = {
        re.sub(r"_(bucket|count)$", "", name)
        for board in GENERIC.values()
        for expr in expressions(board)
        for name in re.findall(r"\bkldrift_\w+", expr)
    }
    assert used <= exported


def test_what_a_configuration_cannot_fill_is_left_out() -> None:
    bare = boards(BARE)
    for name, board in bare.items():
        assert set(expressions(board)) <= set(expressions(GENERIC[name]))
        text = json.dumps(board)
        for metric in (
            "segment_mix",
            "unseen_ratio",
            "out_of_range",
            "psi",
            "dimension_kl",
            "source_",
            "commit_errors",
        ):
            assert f"kldrift_{metric}" not in text
        assert "segment" not in {variable["name"] for variable in board["templating"]["list"]}
        assert all(panel["targets"] for panel in panels(board))
        headings = [i for i, panel in enumerate(board["panels"]) if panel["type"] == "row"]
        assert all(b - a > 1 for a, b in zip(headings, [*headings[1:], len(board["panels"])], strict=True))
    for one, other in combinations(bare.values(), 2):
        assert one["uid"] != other["uid"]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_dashboards_of_a_shipped_configuration_are_part_of_the_generic_ones(config: Path, tmp_path: Path) -> None:
    done = kldrift("dashboard", "-c", str(config), "-o", str(tmp_path / "new" / "folder"), "--datasource", "Mimir")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    for name, generic in GENERIC.items():
        board = json.loads((tmp_path / "new" / "folder" / name).read_text())
        assert set(expressions(board)) <= set(expressions(generic))
        assert board["templating"]["list"][0]["current"]["text"] == "Mimir"


def test_one_board_is_printed() -> None:
    done = installed("dashboard", "--board", "feature")
    assert done.returncode == 0
    assert json.loads(done.stdout) == GENERIC["kldrift-feature.json"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            [],
            2,
            "expected a folder as --output, got none; give one, or a single --board of fleet, monitor,",
        ),
        (["--board", "x"], 2, "--board: expected one of fleet, monitor, feature, daemon, got 'x'"),
        (["-c", "nowhere.yaml", "-o", "."], 2, "nowhere.yaml: expected a readable file"),
        (["-o", "file"], 1, "File exists: file"),
    ],
    ids=["nowhere to write", "no such board", "no such file", "a file for a folder"],
)
def test_what_is_wrong_is_said(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    (tmp_path / "file").touch()
    done = kldrift("dashboard", *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_provisioning_files_fit_the_dashboards() -> None:
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    assert {"name", "uid", "access", "url"} <= source.keys()
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/kldrift.yml").read_text())["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"].startswith("/")
    scrape = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape
