"""What the dashboards have in common."""

from collections.abc import Mapping

from kldrift.provisioning.dashboards.panel import Annotation, Need, Panel, Query, Section, Variable

FLEET_UID, MONITOR_UID, FEATURE_UID, DAEMON_UID = (
    "kldrift-fleet",
    "kldrift-monitor",
    "kldrift-feature",
    "kldrift-daemon",
)

#: Colours of the lower bound in units of the warning tolerance.
TIMES_TOLERANCE = ((None, "green"), (1.0, "orange"), (10.0, "red"))

GOOD_ONE = ((None, "red"), (1.0, "green"))
GOOD_ZERO = ((None, "green"), (1.0, "red"))
ANY_IS_WARNING = ((None, "green"), (1.0, "orange"))

RELOADED = Annotation(
    "Configuration loaded",
    "kldrift_config_last_reload_success_timestamp_seconds * 1000",
    "configuration loaded",
    "{{instance}}",
    "blue",
    value_is_time=True,
)


def drift_marks(matchers: str) -> Annotation:
    """Return the annotation that marks how long features drift, by their verdicts."""
    return Annotation(
        "Drift detected",
        f'max by (monitor, feature) (kldrift_drift_detected{{severity="warning",segment="",{matchers}}}) == 1',
        "{{monitor}}: {{feature}} has drifted",
        "beyond its warning tolerance, false discovery rate controlled",
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
    """Return a panel with a single number."""
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
