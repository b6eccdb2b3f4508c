"""Alerting rules for Prometheus and their unit tests, generic or for one configuration; see ``kldrift rules``."""

from kldrift.export.alerts.groups import left_out, rule_groups
from kldrift.export.alerts.records import RUNBOOK, RuleOptions, Watched, WatchedSource
from kldrift.export.alerts.text import rules_text, unit_tests_text

__all__ = [
    "RUNBOOK",
    "RuleOptions",
    "Watched",
    "WatchedSource",
    "left_out",
    "rule_groups",
    "rules_text",
    "unit_tests_text",
]
