"""Alerting rules made for a configuration, judged by promtool."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from kldrift.export.exposition import printable
from kldrift.provisioning.alerts import (
    RuleOptions,
    Watched,
    left_out,
    rule_groups,
    rules_text,
    unit_tests_text,
)
from kldrift.provisioning.alerts.rule import humanized_duration
from kldrift.records.sources import (
    FileSourceConfig,
    KafkaSourceConfig,
    SourceConfig,
    StdinSourceConfig,
    SyntheticSourceConfig,
)
from kldrift.records.specs import (
    FeatureSpec,
    MonitorSpec,
    ReferenceData,
    ReferenceInline,
    ReferenceLearn,
    ReferencePrevious,
    ReferenceSpec,
    TimestampSpec,
    WindowSpec,
)
from tests.conftest import ROOT

MINUTE = 60_000
HOUR = 60 * MINUTE
DEFAULT = RuleOptions()
INLINE = ReferenceInline(categories=("a", "b"), probabilities=(0.5, 0.5))
TOPIC = KafkaSourceConfig("topic", ("localhost:9092",), "topic", "kldrift", "ndjson", "earliest")
FOLLOWED = FileSourceConfig("files", "/data/*.ndjson", "ndjson", follow=True)
SHIPPED = ROOT / "deploy" / "prometheus" / "kldrift.rules.yml"


def spec(
    name: str = "loans",
    features: tuple[str, ...] = ("amount", "age", "country"),
    windows: tuple[WindowSpec, ...] = (WindowSpec("5m", 5 * MINUTE), WindowSpec("1h", HOUR)),
    reference: ReferenceSpec = INLINE,
    sources: tuple[str, ...] = (),
    timestamp: TimestampSpec | None = None,
) -> MonitorSpec:
    specs = tuple(FeatureSpec(feature, "categorical") for feature in features)
    return MonitorSpec(name, specs, windows, reference=reference, sources=sources, timestamp=timestamp)


def rules_of(watched: Watched | None, options: RuleOptions = DEFAULT) -> list[dict[str, object]]:
    text = rules_text(rule_groups(watched, options), options, "Rules.")
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def named(rules: list[dict[str, object]], name: str) -> list[dict[str, object]]:
    return [rule for rule in rules if rule["alert"] == name]


def judge(promtool: str, folder: Path, watched: Watched | None, options: RuleOptions = DEFAULT) -> None:
    """promtool finds nothing to say about the rules, and every unit test comes out as it is written."""
    groups = rule_groups(watched, options)
    (folder / "r.yml").write_text(rules_text(groups, options, "Rules."))
    (folder / "r.test.yml").write_text(unit_tests_text(groups, options, "r.yml"))
    for arguments in (["check", "rules", "r.yml"], ["test", "rules", "r.test.yml"]):
        checked = subprocess.run([promtool, *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "FAILED" not in checked.stdout + checked.stderr  # it exits 0 on duplicates


def test_the_shipped_rules_are_those_of_no_configuration() -> None:
    text = SHIPPED.read_text()
    title = text.splitlines()[0].removeprefix("# ")
    assert rules_text(rule_groups(None, RuleOptions()), RuleOptions(), title) == text


def test_the_generic_rules_pass_their_own_tests(promtool: str, tmp_path: Path) -> None:
    judge(promtool, tmp_path, None)


def test_every_alert_fires_once_and_is_silent_once() -> None:
    options = RuleOptions()
    watched = Watched((spec(), spec("trades", sources=("files",))), (FOLLOWED,))
    groups = rule_groups(watched, options)
    cases = yaml.safe_load(unit_tests_text(groups, options, "r.yml"))["tests"]
    fired = [case["alert_rule_test"][0] for case in cases if case["alert_rule_test"][0]["exp_alerts"]]
    silent = [case["alert_rule_test"][0] for case in cases if not case["alert_rule_test"][0]["exp_alerts"]]
    names = [alert.name for group in groups for alert in group.alerts]
    assert [test["alertname"] for test in fired] == names
    assert [test["alertname"] for test in silent] == names


def test_a_test_that_is_wrong_fails(promtool: str, tmp_path: Path) -> None:
    """Each of them: without what is expected to fire, and with what is not."""
    options = RuleOptions()
    groups = rule_groups(Watched((spec(),)), options)
    (tmp_path / "r.yml").write_text(rules_text(groups, options, "Rules."))
    tests = yaml.safe_load(unit_tests_text(groups, options, "r.yml"))
    for case in tests["tests"]:
        [expected] = case["alert_rule_test"]
        expected["exp_alerts"] = [] if expected["exp_alerts"] else [{"exp_labels": {"a": "b"}}]
    (tmp_path / "r.test.yml").write_text(yaml.safe_dump(tests))
    checked = subprocess.run(
        [promtool, "test", "rules", "r.test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert checked.returncode != 0
    assert (checked.stdout + checked.stderr).count("alertname:") == len(tests["tests"])


def test_an_alert_that_nothing_can_raise_is_left_out_with_a_reason() -> None:
    full = Watched(
        (spec(sources=("topic", "files"), reference=ReferenceData(Path("r")), timestamp=TimestampSpec("ts", "s")),),
        (TOPIC, FOLLOWED),
        has_tls=True,
    )
    bare = Watched((spec(features=("a",)),), has_state=False)
    assert left_out(full) == []
    generic = {rule["alert"] for rule in rules_of(None)}
    assert {rule["alert"] for rule in rules_of(full)} == generic | {"KldriftMonitorAbsent"}
    gone = {name for line in left_out(bare) for name in line.split(": ")[0].split(", ")}
    assert {rule["alert"] for rule in rules_of(bare)} == (generic | {"KldriftMonitorAbsent"}) - gone
    assert gone == {
        "KldriftManyFeaturesDrift",
        "KldriftReferenceStale",
        "KldriftSamplesLate",
        "KldriftSourceDown",
        "KldriftSourceBytesLost",
        "KldriftLagHigh",
        "KldriftStateNotWritten",
        "KldriftStateDamaged",
        "KldriftCertificateExpires",
    }


def test_a_replay_is_not_told_off_for_its_silence() -> None:
    """A file read to its end once is silent from then on; one that is followed is not meant to be."""
    watched = Watched((spec(sources=("files",)),), (replace(FOLLOWED, follow=False),))
    assert not named(rules_of(watched), "KldriftNoSamples")
    assert "KldriftNoSamples: every source is read to its end once and is silent afterwards" in left_out(watched)
    followed = Watched((spec(sources=("files",)),), (FOLLOWED,))
    assert len(named(rules_of(followed), "KldriftNoSamples")) == 2  # all sources, this source


STDIN = StdinSourceConfig("stdin", "ndjson")
SYNTHETIC = SyntheticSourceConfig("made", rate_per_second=10, seed=1, rows=None, features={})
PARQUET = replace(FOLLOWED, path="/data/*.parquet", format="parquet")


@pytest.mark.parametrize(
    ("source", "endless", "lag", "late"),
    [
        (TOPIC, True, "records", True),
        (FOLLOWED, True, "bytes", False),
        (PARQUET, True, "records", False),
        (replace(FOLLOWED, follow=False), False, "bytes", False),
        (STDIN, False, None, False),
        (SYNTHETIC, True, None, False),
        (replace(SYNTHETIC, rows=10), False, None, False),
    ],
    ids=["kafka", "files, followed", "parquet, followed", "files", "stdin", "synthetic", "synthetic, with an end"],
)
def test_the_traits_of_a_source_decide_about_its_alerts(
    source: SourceConfig, endless: bool, lag: str | None, late: bool
) -> None:
    rules = rules_of(Watched((spec(sources=(source.name,)),), (source,)))
    silent = [str(rule["expr"]) for rule in named(rules, "KldriftNoSamples")]
    assert len(silent) == (2 if endless else 0)
    assert not endless or any(f'source="{source.name}"' in expr for expr in silent)
    behind = [str(rule["expr"]) for rule in named(rules, "KldriftLagHigh")]
    assert [expr.split(" ")[0] for expr in behind] == ([] if lag is None else [f"kldrift_source_lag_{lag}"])
    assert bool(named(rules, "KldriftSamplesLate")) == late


@pytest.mark.parametrize(
    ("window_ms", "limit_s"),
    [(1000, 300), (20 * MINUTE, 1200), (28 * 24 * HOUR, 86400)],
    ids=["a second", "20 minutes", "four weeks"],
)
def test_silence_is_measured_by_the_smallest_window(window_ms: int, limit_s: int) -> None:
    """Within five minutes, for a scrape can fail, and a day, for nobody waits four weeks."""
    monitor = spec(windows=(WindowSpec("w", window_ms), WindowSpec("long", 100 * window_ms)))
    [rule] = named(rules_of(Watched((monitor,))), "KldriftNoSamples")
    assert f") > {limit_s}\n" in str(rule["expr"])


def test_a_window_has_its_own_length_to_fill() -> None:
    monitors = (spec(), spec("other", windows=(WindowSpec("24h", 24 * HOUR), WindowSpec("1h", HOUR))))
    rules = named(rules_of(Watched(monitors)), "KldriftWindowNotReady")
    assert [(rule["labels"]["window"], rule["for"]) for rule in rules] == [("5m", "15m"), ("1h", "1h"), ("24h", "1d")]  # type: ignore[index]


def test_a_drift_outlasts_three_evaluations() -> None:
    """Between two ticks the bound stays as it is: a minute of it is one reading."""
    slow, quick = (rules_of(Watched((spec(),), tick_ms=ms)) for ms in (600_000, 10_000))
    assert [rule["for"] for rule in named(slow, "KldriftFeatureDrift")] == ["30m", "30m"]
    assert [rule["for"] for rule in named(quick, "KldriftFeatureDrift")] == ["1m", "1m"]


def test_only_references_that_age_are_asked_about() -> None:
    monitors = (
        spec("inline"),
        spec("moving", reference=ReferencePrevious(HOUR)),
        spec("da.ta", reference=ReferenceData(Path("r"))),
        spec("learned", reference=ReferenceLearn(1000)),
    )
    [rule] = named(rules_of(Watched(monitors)), "KldriftReferenceStale")
    assert r'{monitor=~"da\\x{2e}ta|learned"}' in str(rule["expr"])
    assert not named(rules_of(Watched(monitors[:2])), "KldriftReferenceStale")


def test_a_chosen_job_is_asked_for_by_every_selector() -> None:
    options = RuleOptions(job="prod")
    monitors = (spec(reference=ReferenceLearn(1000)), spec("other"))
    for rule in rules_of(Watched(monitors), options) + rules_of(None, options):
        for metric in re.findall(r'\b(?:kldrift_\w+|up|process_\w+)(?=[{ )\[]|$)(\{job="prod")?', str(rule["expr"])):
            assert metric, rule["expr"]


def test_severities_and_the_runbook_are_the_users(promtool: str, tmp_path: Path) -> None:
    options = RuleOptions(warning="no", critical="page: {{ now }}", runbook='https://wiki/a"b')
    watched = Watched((spec(),))
    judge(promtool, tmp_path, watched, options)
    drift = named(rules_of(watched, options), "KldriftFeatureDrift")
    assert [rule["labels"]["severity"] for rule in drift] == ["no", 'page: {{ "{{" }} now }}']  # type: ignore[index]
    assert drift[0]["annotations"]["runbook_url"] == 'https://wiki/a"b#kldriftfeaturedrift'  # type: ignore[index]


def test_a_window_of_a_year_is_tested_within_seconds(promtool: str, tmp_path: Path) -> None:
    judge(promtool, tmp_path, Watched((spec(windows=(WindowSpec("1y", 365 * 24 * HOUR),)),)))


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20) | st.text(
    "\"'\\{}$`#:|> \n\t\r\x00\x7f\x85\xa0\u2028\ufeff\ud800éЖ日😀", min_size=1, max_size=12
)


@settings(
    max_examples=4,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each one takes seconds: a failure is not made smaller
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(names=["\"'\\", "{{ $labels.x }}", 'a"\n  - alert: x', "日 😀\u2028\x85"], job='jo"b')
@example(names=["\x1f", ".*", "0", "1"], job=None)
@example(names=[": #", "\ud800", "- a", "| >"], job="{{ . }}")
@given(names=st.lists(NAMES, min_size=4, max_size=4, unique_by=printable), job=st.none() | NAMES)
def test_any_name_makes_valid_rules(promtool: str, tmp_path: Path, names: list[str], job: str | None) -> None:
    """The configuration refuses most of these; nothing here relies on it."""
    monitor, other, feature, source = names
    watched = Watched(
        (
            spec(monitor, (feature, "b", "c"), reference=ReferenceLearn(1000), sources=(source,)),
            spec(other, (feature,)),
        ),
        (replace(TOPIC, name=source),),
        has_tls=True,
    )
    judge(promtool, tmp_path, watched, RuleOptions(job=job))


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5s"), (65, "1m 5s"), (3600, "1h 0m 0s"), (7_866_300, "91d 1h 5m 0s")]
)
def test_a_duration_is_written_as_prometheus_does(seconds: int, text: str) -> None:
    assert humanized_duration(seconds) == text
