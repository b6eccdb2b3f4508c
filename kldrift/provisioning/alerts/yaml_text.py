"""Alerts as YAML for Prometheus and promtool; written without a library, so that people can read it too."""

import re
import textwrap
from collections.abc import Mapping, Sequence

from kldrift.export.exposition import printable
from kldrift.provisioning.alerts.rule import (
    MINUTE,
    SECOND,
    Alert,
    Case,
    Group,
    RuleOptions,
    selector,
)
from kldrift.records.texts import duration_text

WIDTH = 118

# limit of evaluations of a unit test; with a window of weeks it would otherwise take minutes
MAX_EVALUATIONS = 500

_PLAIN_WORD = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)$)[A-Za-z][A-Za-z0-9_-]*", re.IGNORECASE)
_PLAIN_EXPR = re.compile(r"[a-z](?:(?!: | #)[ -~])*[^ :]")
_TEMPLATE = re.compile(r"\{\{.*?\}\}")
_KEPT = "\0"  # stands for a space where no line may break
_DOLLAR_VALUE = re.compile(r"\{\{ \$value[^}]* \}\}")
_WITH_LABEL = re.compile(r"\{\{ with \$labels\.(\w+) \}\}(.*?)\{\{ \. \}\}(.*?)\{\{ end \}\}")
_LABEL = re.compile(r"\{\{ \$labels\.(\w+) \}\}")

HEADER = """\
When does a divergence count as drift? When its lower confidence bound, kldrift_kl_divergence_lower_nats, is above the
tolerance in the configuration, kldrift_drift_threshold_nats. The bound is the part of the divergence that chance does
not explain: at each tick, it exceeds the true divergence with a probability of about 1 in 10,000 (one minus the
confidence of the monitor, 99.99 % by default, shared by the windows of a feature). Chance includes overdispersion
(samples that depend on one another), measured on the 64 panes of the reference. The tolerance is how much true
divergence you accept, whatever the number of samples, the number of bins and the reference.

The rules read the bound itself, not its max_over_time over some minutes, because `for` and `keep_firing_for` already
prevent flapping. With a maximum over five minutes, a single scrape above the tolerance would outlast `for: 1m`. Both
sides are also matched by job and instance, which Prometheus adds. The bounds of a segment have the label segment. They
are compared with the tolerance of their feature, which has no such label, and raise alerts of their own."""


def rules_text(groups: Sequence[Group], options: RuleOptions, title: str, notes: Sequence[str] = ()) -> str:
    """Write a rules file.

    Parameters
    ----------
    title : its first line, a comment
    notes : further comments, one line each
    """
    lines = [*_comment(title), *(line for note in notes for line in _comment(f"  {note}"))]
    lines += ["#", *(f"# {line}".rstrip() for line in HEADER.splitlines()), "groups:"]
    for i, group in enumerate(groups):
        lines += [*([""] if i else []), f"  - name: {group.name}", "    rules:"]
        for j, alert in enumerate(group.alerts):
            same = j > 0 and group.alerts[j - 1].comment == alert.comment
            lines += [*([""] if j else []), *([] if same else _comment(alert.comment, 6)), *_rule(alert, options)]
    return "\n".join(lines) + "\n"


def unit_tests_text(groups: Sequence[Group], options: RuleOptions, rules_name: str) -> str:
    """Write a file for ``promtool test rules``: every alert of `rules_name` beside it fires once and is silent once."""
    alerts = [alert for group in groups for alert in group.alerts]
    longest_ms = max(max(alert.for_ms, case.holds_after_ms) for alert in alerts for case in (alert.fires, alert.silent))
    step_ms = max(MINUTE, -(-longest_ms // MAX_EVALUATIONS // MINUTE) * MINUTE)
    lines = [
        "# Every alert firing and silent; run by: promtool test rules FILE",
        f"rule_files: [{yaml_text(rules_name)}]",
        f"evaluation_interval: {duration_text(step_ms)}",
        "",
        "tests:",
    ]
    for alert in alerts:
        at_ms = step_ms + _up(alert.fires.holds_after_ms, step_ms) + _up(alert.for_ms, step_ms)
        lines += _test(alert, alert.fires, at_ms, _expected(alert, at_ms // SECOND, options))
        lines += _test(alert, alert.silent, at_ms, None)
    return "\n".join(lines) + "\n"


def yaml_text(text: str) -> str:
    """Write text between double quotes, as any version of YAML and JSON reads it."""
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    if char in '\\"':
        return f"\\{char}"
    if char.isprintable():
        return char
    return f"\\U{ord(char):08x}"


def _comment(text: str, indent: int = 0) -> list[str]:
    start = " " * indent + "# "
    return textwrap.wrap(text, WIDTH, initial_indent=start, subsequent_indent=start, break_on_hyphens=False)


def _rule(alert: Alert, options: RuleOptions) -> list[str]:
    """Write a rule; an `expr` that has several lines or is not a plain YAML scalar becomes a literal block."""
    lines = [f"      - alert: {alert.name}"]
    if _PLAIN_EXPR.fullmatch(alert.expr):
        lines.append(f"        expr: {alert.expr}")
    else:
        lines += ["        expr: |2", *(f"          {line}" for line in alert.expr.splitlines())]
    lines += [f"        for: {duration_text(alert.for_ms)}"] if alert.for_ms else []
    lines += [f"        keep_firing_for: {duration_text(alert.keep_firing_ms)}"] if alert.keep_firing_ms else []
    indent = " " * 12
    description = textwrap.wrap(
        _TEMPLATE.sub(lambda m: m[0].replace(" ", _KEPT), alert.description),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [
        *lines,
        "        labels:",
        f"          severity: {_word(_literal(_severity(alert, options)))}",
        *(f"          {name}: {_word(_literal(printable(value)))}" for name, value in alert.labels.items()),
        "        annotations:",
        f"          summary: {yaml_text(alert.summary)}",
        "          description: >-",
        *(line.replace(_KEPT, " ") for line in description),
        f"          runbook_url: {yaml_text(_runbook(alert, options))}",
    ]


def _literal(text: str) -> str:
    """Write the value of a label where Prometheus expects a template."""
    return text.replace("{{", '{{ "{{" }}')


def _word(text: str) -> str:
    return text if _PLAIN_WORD.fullmatch(text) else yaml_text(text)


def _severity(alert: Alert, options: RuleOptions) -> str:
    return options.warning if alert.severity == "warning" else options.critical


def _runbook(alert: Alert, options: RuleOptions) -> str:
    return f"{options.runbook}#{alert.name.lower()}"


def _up(length_ms: int, step_ms: int) -> int:
    return -(-length_ms // step_ms) * step_ms


def _test(alert: Alert, case: Case, at_ms: int, expected: tuple[dict[str, str], dict[str, str]] | None) -> list[str]:
    """Write a test; series start at 0 with a sample each minute, as Prometheus ignores any older than five."""
    silent = "silent: " if expected is None else ""
    lines = [
        f"  - name: {yaml_text(f'{alert.name}, {silent}{case.title}')}",
        "    interval: 1m",
        "    input_series:",
    ]
    for name, labels, values in case.series:
        lines.append(f"      - series: {yaml_text(selector(name, labels))}")
        lines.append(f"        values: {yaml_text(f'{values}x{at_ms // MINUTE + 1}')}")
    lines += [
        "    alert_rule_test:",
        f"      - alertname: {alert.name}",
        f"        eval_time: {duration_text(at_ms)}",
    ]
    if expected is None:
        return [*lines, "        exp_alerts: []", ""]
    labels, annotations = expected
    return [
        *lines,
        "        exp_alerts:",
        "          - exp_labels:",
        *(f"              {name}: {yaml_text(value)}" for name, value in labels.items()),
        "            exp_annotations:",
        *(f"              {name}: {yaml_text(value)}" for name, value in annotations.items()),
        "",
    ]


def _expected(alert: Alert, at_seconds: int, options: RuleOptions) -> tuple[dict[str, str], dict[str, str]]:
    """Return the labels and annotations of the alert that fires."""
    case = alert.fires
    labels = {name: printable(value) for name, value in case.labels.items()}
    value = case.value if isinstance(case.value, str) else case.value(at_seconds)
    return {**labels, "severity": _severity(alert, options)}, {
        "summary": _expanded(alert.summary, labels, value),
        "description": _expanded(alert.description, labels, value),
        "runbook_url": _runbook(alert, options),
    }


def _expanded(template: str, labels: Mapping[str, str], value: str) -> str:
    """Expand the few kinds of templates in the texts as Prometheus does."""
    text = _WITH_LABEL.sub(lambda m: f"{m[2]}{labels[m[1]]}{m[3]}" if labels.get(m[1]) else "", template)
    return _LABEL.sub(lambda m: labels.get(m[1], ""), _DOLLAR_VALUE.sub(lambda _: value, text))
