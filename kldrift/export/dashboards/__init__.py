"""Dashboards for Grafana, generic or for one configuration; see ``kldrift dashboard``."""

from kldrift.export.dashboards.boards import dashboards
from kldrift.export.dashboards.layout import dashboard_text

__all__ = ["dashboard_text", "dashboards"]
