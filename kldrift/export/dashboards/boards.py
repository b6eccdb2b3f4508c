"""The four dashboards."""

from kldrift.export.alerts import Watched
from kldrift.export.dashboards.daemon import DAEMON
from kldrift.export.dashboards.feature import FEATURE
from kldrift.export.dashboards.fleet import FLEET
from kldrift.export.dashboards.layout import dashboard_text
from kldrift.export.dashboards.monitor import MONITOR
from kldrift.export.dashboards.records import fulfilled

BOARDS = (FLEET, MONITOR, FEATURE, DAEMON)


def dashboards(watched: Watched | None, datasource: str | None = None) -> dict[str, str]:
    """The files by their names: for a configuration what it can fill, with None all there is (deploy/grafana)."""
    has = fulfilled(watched)
    return {f"{board.uid}.json": dashboard_text(board, has, datasource) for board in BOARDS}
