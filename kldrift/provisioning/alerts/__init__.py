"""Alerting rules for Prometheus and their unit tests, generic or for one configuration; see ``kldrift rules``."""

from kldrift.provisioning.alerts.groups import left_out, rule_groups
from kldrift.provisioning.alerts.rule import RUNBOOK, RuleOptions, Watched
from kldrift.provisioning.alerts.yaml_text import rules_text, unit_tests_text

__all__ = [
    "RUNBOOK",
    "RuleOptions",
    "Watched",
    "left_out",
    "rule_groups",
    "rules_text",
    "unit_tests_text",
]
