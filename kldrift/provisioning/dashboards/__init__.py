"""Dashboards for Grafana, generic or for one configuration; see ``kldrift dashboard``."""

from kldrift.provisioning.dashboards.boards import dashboards
from kldrift.provisioning.dashboards.layout import dashboard_text

__all__ = ["dashboard_text", "dashboards"]
