"""What several dashboards have in common."""

from collections.abc import Mapping

from kldrift.provisioning.dashboards.panel import Annotation, Need, Panel, Query, Section, Variable

FLEET_UID, MONITOR_UID, FEATURE_UID, DAEMON_UID = (
    "kldrift-fleet",
    "kldrift-monitor",
    "kldrift-feature",
    "kldrift-daemon",
)

#: From quiet to critical, by how many times the warning tolerance the lower bound is.
TIMES_TOLERANCE = ((None, "green"), (1.0, "orange"), (10.0, "red"))

GOOD_ONE = ((None, "red"), (1.0, "green"))
GOOD_ZERO = ((None, "green"), (1.0, "red"))
ANY_IS_WARNING = ((None, "green"), (1.0, "orange"))

RELOADED = Annotation(
    "Configuration taken over",
    "kldrift_config_last_reload_success_timestamp_seconds * 1000",
    "configuration taken over",
    "{{instance}}",
    "blue",
    value_is_time=True,
)


def drift_marks(matchers: str) -> Annotation:
    """Where features drift by the verdict, for as long as they do."""
    return Annotation(
        "Drift detected",
        f'max by (monitor, feature) (kldrift_drift_detected{{severity="warning",segment="",{matchers}}}) == 1',
        "{{monitor}}: {{feature}} drifts",
        "beyond its warning tolerance, false discoveries controlled",
        "orange",
    )


def stat(
    title: str,
    expr: str,
    description: str,
    steps: tuple[tuple[float | None, str], ...] = (),
    unit: str = "short",
    words: tuple[tuple[str, str, str], ...] = (),
) -> Panel:
    """A single number."""
    return Panel("stat", title, (Query(expr),), description, unit, width=4, height=4, steps=steps, words=words)


def lines(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    width: int = 12,
    maximum: float | None = None,
    dashed: Mapping[str, str] | None = None,
    needs: Need | None = None,
) -> Panel:
    """Return a panel of lines over time, from zero up."""
    return Panel(
        "timeseries", title, queries, description, unit, width, minimum=0, maximum=maximum, dashed=dashed, needs=needs
    )


def section(title: str, *panels: Panel, needs: Need | None = None) -> Section:
    """Return panels below a heading."""
    return Section(title, panels, needs)


INSTANCE = Variable("instance", "Daemon", "kldrift_build_info", ".*")
