"""Tables in the terminal."""

import sys

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kldrift.drift.detection import severity
from kldrift.records import DIVERGENCES, DriftSnapshot, MonitorSnapshot

STYLES = {"critical": "bold red", "warning": "yellow", "quiet": "green", "undecided": "dim", "empty": "dim"}

#: Width where there is no terminal to fit.
PLAIN_WIDTH = 150

HEADINGS = {
    "kl": "KL",
    "reverse_kl": "reverse KL",
    "js": "JS",
    "psi": "PSI",
    "total_variation": "TV",
    "hellinger": "Hellinger",
    "entropy": "entropy",
    "cross_entropy": "cross-entropy",
}


def console() -> Console:
    """A console on stdout; outside of a terminal wide enough for a table, and without colours."""
    return Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH, highlight=False)


def state(monitor: MonitorSnapshot, window: int, feature: int) -> str:
    """The word for a series: critical, warning, quiet, undecided or empty."""
    if monitor.samples[window, feature] == 0:
        return "empty"
    if not monitor.ready[window, feature]:
        return "undecided"
    info = monitor.features[feature]
    kl, floor = monitor.divergences[window, feature, 0], monitor.noise_floor[window, feature]
    return (
        severity(float(kl), float(floor), int(monitor.samples[window, feature]), info.warning, info.critical) or "quiet"
    )


def drift_table(monitor: MonitorSnapshot, limit: int | None = None) -> Table:
    """The series of a monitor, most drifted first, one row a feature and window."""
    table = Table(
        title=f"{monitor.name}: divergence of the live data from the reference, in nats", title_justify="left"
    )
    table.add_column("feature", overflow="fold")
    for heading in ("window", "n", *(HEADINGS[name] for name in monitor.exported), "noise floor"):
        table.add_column(heading, justify="right")
    for heading in ("missing", "new or outside"):
        table.add_column(heading, justify="right")
    table.add_column("state")
    kl = np.nan_to_num(monitor.divergences[:, :, 0], nan=-1.0)
    order = np.dstack(np.unravel_index(np.argsort(-kl, axis=None, kind="stable"), kl.shape))[0]
    for window, feature in order[:limit].tolist():
        word = state(monitor, window, feature)
        values = [monitor.divergences[window, feature, DIVERGENCES.index(name)] for name in monitor.exported]
        outside = (monitor.unseen_ratio, monitor.out_of_range_ratio)[monitor.features[feature].kind == "numeric"]
        table.add_row(
            Text(monitor.features[feature].name),
            monitor.windows[window],
            f"{monitor.samples[window, feature]:,}",
            *(_nats(value) for value in values),
            _nats(monitor.noise_floor[window, feature]),
            _share(monitor.missing_ratio[window, feature]),
            _share(outside[window, feature]),
            Text(word, style=STYLES[word]),
        )
    return table


def print_snapshot(snapshot: DriftSnapshot, to: Console) -> None:
    """Every monitor's table."""
    for monitor in snapshot.monitors:
        to.print(drift_table(monitor))
        for info in monitor.features:
            if info.problem is not None:
                to.print(f"  {info.name}: undecided: {info.problem}", markup=False)


def _nats(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.5f}"


def _share(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2%}"
