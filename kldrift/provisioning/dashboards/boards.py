"""The four dashboards."""

from kldrift.provisioning.alerts import Watched
from kldrift.provisioning.dashboards.daemon import DAEMON
from kldrift.provisioning.dashboards.feature import FEATURE
from kldrift.provisioning.dashboards.fleet import FLEET
from kldrift.provisioning.dashboards.layout import dashboard_text
from kldrift.provisioning.dashboards.monitor import MONITOR
from kldrift.provisioning.dashboards.panel import fulfilled

BOARDS = (FLEET, MONITOR, FEATURE, DAEMON)


def dashboards(watched: Watched | None, datasource: str | None = None) -> dict[str, str]:
    """The files by their names: for a configuration what it can fill, with None all there is (deploy/grafana)."""
    has = fulfilled(watched)
    return {f"{board.uid}.json": dashboard_text(board, has, datasource) for board in BOARDS}
