"""What deploy/ ships for Prometheus and Alertmanager."""

import os
import re
import shutil
import subprocess
from collections import defaultdict

import pytest
import yaml
from scipy.stats import chi2

from kldrift.export.families import DRIFT_FAMILIES
from kldrift.export.telemetry import Telemetry
from tests.conftest import ROOT
from tests.export.snapshots import monitor, snapshot

PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = PROMETHEUS / "kldrift.rules.yml"
RULE_TESTS = PROMETHEUS / "kldrift.rules.test.yml"
ALERTS = {
    "KldriftFeatureDrift",
    "KldriftManyFeaturesDrift",
    "KldriftDown",
    "KldriftNoSamples",
    "KldriftWindowNotReady",
    "KldriftReferenceStale",
    "KldriftSamplesRejected",
    "KldriftSamplesLate",
    "KldriftSourceDown",
    "KldriftLagHigh",
    "KldriftCommitStale",
    "KldriftBatchFailed",
    "KldriftConfigReloadFailed",
    "KldriftSeriesLimitHit",
    "KldriftMissingRatioHigh",
}


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "kldrift.rules.yml"),
        ("test", "rules", "kldrift.rules.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_is_content(promtool, arguments):
    checked = subprocess.run([promtool, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "FAILED" not in checked.stdout + checked.stderr


def test_a_rule_test_that_is_wrong_fails(promtool, tmp_path):
    """promtool does run them: without its expected alerts, a firing case is a failure."""
    tests = yaml.safe_load(RULE_TESTS.read_text())
    shutil.copy(RULES, tmp_path)
    for case in tests["tests"]:
        for alert in case["alert_rule_test"]:
            alert["exp_alerts"] = []
    (tmp_path / "t.yml").write_text(yaml.safe_dump(tests))
    checked = subprocess.run([promtool, "test", "rules", tmp_path / "t.yml"], capture_output=True, check=False)
    assert checked.returncode != 0


def test_amtool_is_content_with_the_alertmanager_configuration():
    amtool = shutil.which("amtool")
    if amtool is None:
        assert os.environ.get("CI") != "true", "amtool has to be there in CI"
        pytest.skip("amtool is not here")
    path = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
    checked = subprocess.run([amtool, "check-config", path], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_alerts_are_those_of_the_list():
    assert {rule["alert"] for rule in rules()} == ALERTS
    severities = defaultdict(set)
    for rule in rules():
        severities[rule["alert"]].add(rule["labels"]["severity"])
    assert severities["KldriftFeatureDrift"] == {"warning", "critical"}
    assert set().union(*severities.values()) == {"warning", "critical"}


def test_every_rule_is_seen_firing_and_every_alert_silent():
    fired, silent = set(), set()
    for case in yaml.safe_load(RULE_TESTS.read_text())["tests"]:
        for test in case["alert_rule_test"]:
            fired |= {(test["alertname"], alert["exp_labels"]["severity"]) for alert in test["exp_alerts"]}
            if not test["exp_alerts"]:
                silent.add(test["alertname"])
    assert fired == {(rule["alert"], rule["labels"]["severity"]) for rule in rules()}
    assert silent == ALERTS


def test_every_runbook_url_leads_to_a_section():
    headings = re.findall(r"^#+ (.*)$", (PROMETHEUS / "README.md").read_text(), re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    for rule in rules():
        page, anchor = rule["annotations"]["runbook_url"].split("#")
        assert page == "https://github.com/kldrift/kldrift/blob/main/deploy/prometheus/README.md"
        assert anchor == rule["alert"].lower()
        assert anchor in anchors
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}


def test_every_metric_of_the_rules_is_exported():
    telemetry = Telemetry()
    telemetry.configure(["scores"], ["http"], {"loans": ("amount", "country")})
    exported = set(
        re.findall(r"^# TYPE (\S+)", telemetry.exposition(False, False, snapshot(monitor())).decode(), re.MULTILINE)
    )
    exported |= {  # there once they have a value
        "kldrift_last_sample_timestamp_seconds",
        "kldrift_last_commit_timestamp_seconds",
        "kldrift_config_last_reload_successful",
        "kldrift_source_lag_bytes",
        "kldrift_source_lag_records",
    }
    used = {name for rule in rules() for name in re.findall(r"\b(?:kldrift|process)_\w+", rule["expr"])}
    assert used <= exported


def test_the_bound_of_the_drift_rule_holds_for_any_number_of_bins():
    """2 N KL ~ chi2(k); three noise floors and 8 / n are (3 k + 16) / 2 N."""
    degrees = range(1, 2000)
    assert max(chi2.sf(3 * k + 16, k) for k in degrees) < 2e-5
    assert chi2.sf(3, 1) > 1 / 13  # three noise floors alone, for two categories


def test_the_families_that_are_never_left_out_are_those_of_the_drift_rule():
    [drift, *_] = [rule for rule in rules() if rule["alert"] == "KldriftFeatureDrift"]
    kept = {family.family.name for family in DRIFT_FAMILIES if family.rank is None}
    assert set(re.findall(r"\bkldrift_\w+", drift["expr"])) == kept
