"""What deploy/ ships for Prometheus and Alertmanager."""

import os
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from kldrift.export.drift_families import DRIFT_FAMILIES
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
    "KldriftSourceBytesLost",
    "KldriftConfigReloadFailed",
    "KldriftSeriesLimitHit",
    "KldriftFeatureAbsent",
    "KldriftMissingRatioHigh",
    "KldriftInvalidRatioHigh",
    "KldriftReferenceUnusable",
    "KldriftStateNotWritten",
    "KldriftStateDamaged",
    "KldriftCertificateExpires",
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
def test_promtool_is_content(promtool: str, arguments: tuple[str, ...]) -> None:
    checked = subprocess.run([promtool, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "FAILED" not in checked.stdout + checked.stderr


def test_a_rule_test_that_is_wrong_fails(promtool: str, tmp_path: Path) -> None:
    """promtool does run them: without its expected alerts, a firing case is a failure."""
    tests = yaml.safe_load(RULE_TESTS.read_text())
    shutil.copy(RULES, tmp_path)
    for case in tests["tests"]:
        for alert in case["alert_rule_test"]:
            alert["exp_alerts"] = []
    (tmp_path / "t.yml").write_text(yaml.safe_dump(tests))
    checked = subprocess.run([promtool, "test", "rules", tmp_path / "t.yml"], capture_output=True, check=False)
    assert checked.returncode != 0


def test_amtool_is_content_with_the_alertmanager_configuration() -> None:
    amtool = shutil.which("amtool")
    if amtool is None:
        assert os.environ.get("CI") != "true", "amtool has to be there in CI"
        pytest.skip("amtool is not here")
    path = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
    checked = subprocess.run([amtool, "check-config", path], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_alerts_are_those_of_the_list() -> None:
    assert {rule["alert"] for rule in rules()} == ALERTS
    severities = defaultdict(set)
    for rule in rules():
        severities[rule["alert"]].add(rule["labels"]["severity"])
    assert severities["KldriftFeatureDrift"] == {"warning", "critical"}
    assert set().union(*severities.values()) == {"warning", "critical"}


def test_every_rule_is_seen_firing_and_every_alert_silent() -> None:
    fired, silent = set(), set()
    for case in yaml.safe_load(RULE_TESTS.read_text())["tests"]:
        for test in case["alert_rule_test"]:
            fired |= {(test["alertname"], alert["exp_labels"]["severity"]) for alert in test["exp_alerts"]}
            if not test["exp_alerts"]:
                silent.add(test["alertname"])
    assert fired == {(rule["alert"], rule["labels"]["severity"]) for rule in rules()}
    assert silent == ALERTS


def test_a_silenced_alert_has_the_labels_by_which_it_is_silenced() -> None:
    """Alertmanager takes two absent labels for equal, and an absent and a present one for different."""
    inhibit = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yml").read_text())["inhibit_rules"]
    alerts = [
        (alert["exp_labels"], test["alertname"])
        for case in yaml.safe_load(RULE_TESTS.read_text())["tests"]
        for test in case["alert_rule_test"]
        for alert in test["exp_alerts"]
    ]
    many = next(labels for labels, name in alerts if name == "KldriftManyFeaturesDrift")
    drift = [labels for labels, name in alerts if name == "KldriftFeatureDrift"]
    of_segment = next(labels for labels in drift if "segment" in labels)
    whole = next(labels for labels in drift if "segment" not in labels)

    def equal(rule, one, other):
        return all(one.get(label) == other.get(label) for label in rule["equal"])

    by_severity, by_many, _ = inhibit
    assert not equal(by_severity, of_segment, whole)
    assert equal(by_severity, of_segment, {**of_segment, "severity": "critical"})
    assert equal(by_many, many, whole)
    assert equal(by_many, many, of_segment)


def test_every_runbook_url_leads_to_a_section() -> None:
    headings = re.findall(r"^#+ (.*)$", (PROMETHEUS / "README.md").read_text(), re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    for rule in rules():
        page, anchor = rule["annotations"]["runbook_url"].split("#")
        assert page == "https://github.com/kldrift/kldrift/blob/main/deploy/prometheus/README.md"
        assert anchor == rule["alert"].lower()
        assert anchor in anchors
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}


def test_every_metric_of_the_rules_is_exported() -> None:
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
        "kldrift_tls_certificate_expiry_timestamp_seconds",
    }
    used = {name for rule in rules() for name in re.findall(r"\b(?:kldrift|process)_\w+", rule["expr"])}
    assert used <= exported


def test_what_the_drift_rules_read_is_never_left_out() -> None:
    kept = {family.family.name for family in DRIFT_FAMILIES if family.rank is None}
    bound = {
        "kldrift_kl_divergence_lower_nats",
        "kldrift_drift_threshold_nats",
        "kldrift_window_ready",
    }
    verdict = {"kldrift_drift_detected"}
    for rule in rules():
        if rule["alert"] in {"KldriftFeatureDrift", "KldriftManyFeaturesDrift"}:
            expected = bound if rule["alert"] == "KldriftFeatureDrift" else verdict
            assert set(re.findall(r"\bkldrift_\w+", rule["expr"])) == expected
    read = bound | verdict
    assert read <= kept
    # beside them, what a reader of the bound needs to understand it
    assert kept - read == {
        "kldrift_kl_divergence_nats",
        "kldrift_kl_noise_floor_nats",
        "kldrift_window_samples",
        "kldrift_segments",
    }


def test_the_runbook_tells_what_is_left_out_in_that_order() -> None:
    words = {
        "the KL of single dimensions": "kldrift_dimension_kl_divergence_nats",
        "what lies within segments": "kldrift_within_segments_divergence_nats",
        "their mix": "kldrift_segment_mix_divergence_nats",
        "upper bound": "kldrift_kl_divergence_upper_nats",
        "p-value": "kldrift_drift_log10_p_value",
        "reference rows": "kldrift_reference_rows",
        "entropy": "kldrift_entropy_nats",
        "cross-entropy": "kldrift_cross_entropy_nats",
        "Hellinger": "kldrift_hellinger",
        "total variation": "kldrift_total_variation",
        "Jensen-Shannon": "kldrift_js_divergence_nats",
        "reverse KL": "kldrift_reverse_kl_divergence_nats",
        "PSI": "kldrift_psi",
        "out-of-range": "kldrift_out_of_range_ratio",
        "unseen to expect": "kldrift_unseen_expected_ratio",
        "unseen": "kldrift_unseen_ratio",
        "reference info": "kldrift_reference_info",
        "invalid": "kldrift_invalid_ratio",
        "invalid in the reference": "kldrift_reference_invalid_ratio",
        "missing": "kldrift_missing_ratio",
        "missing in the reference": "kldrift_reference_missing_ratio",
        "reference age": "kldrift_reference_created_timestamp_seconds",
        "whether it is usable": "kldrift_reference_usable",
        "absent features": "kldrift_feature_absent",
    }
    text = " ".join((PROMETHEUS / "README.md").read_text().split())
    [told] = re.findall(r"Left out first, in this order: (.*?);", text)
    told = re.sub(r"(\w+) \(live, reference\)", r"\1, \1 in the reference", told)
    ranked = sorted((f for f in DRIFT_FAMILIES if f.rank is not None), key=lambda f: f.rank)
    dimensions, segments, *families = told.split(", ")
    assert segments == "the segments (smallest first)"
    assert [words[word] for word in (dimensions, *families)] == [f.family.name for f in ranked]
