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

#: Columns that a narrow terminal goes without, behind the divergences other than KL.
LEFT_OUT_FIRST = ("noise\nfloor", "missing", "new or\noutside", "lower\nbound")

#: Longer names of features are folded before anything is left out.
FOLDED_WIDTH = 24

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
    return severity(float(monitor.lower[window, feature]), info.warning, info.critical) or "quiet"


def drift_table(monitor: MonitorSnapshot, width: int) -> Table:
    """The series of a monitor, most drifted first, one row a feature and window.

    Where `width` is too narrow, columns are left out, what matters least first: a figure is whole or not there.
    """
    columns = _columns(monitor)
    for heading in (*(HEADINGS[name] for name in reversed(monitor.exported[1:])), *LEFT_OUT_FIRST):
        if sum(map(_width, columns.items())) + 1 <= width:
            break
        columns.pop(heading, None)
    table = Table(
        title=f"{monitor.name}: divergence of the live data from the reference, in nats", title_justify="left"
    )
    for heading in columns:
        if heading == "feature":
            table.add_column(heading, overflow="fold")
        else:
            table.add_column(heading, justify="left" if heading == "state" else "right", no_wrap=True)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def _columns(monitor: MonitorSnapshot) -> dict[str, list[Text]]:
    """The cells of the table, by heading."""
    columns: dict[str, list[Text]] = {"feature": [], "window": [], "n": []}
    columns |= {HEADINGS[name]: [] for name in monitor.exported}
    columns |= {"lower\nbound": [], "noise\nfloor": [], "missing": [], "new or\noutside": [], "state": []}
    kl = np.nan_to_num(monitor.divergences[:, :, 0], nan=-1.0)
    order = np.dstack(np.unravel_index(np.argsort(-kl, axis=None, kind="stable"), kl.shape))[0]
    for window, feature in order.tolist():
        word = state(monitor, window, feature)
        values = [monitor.divergences[window, feature, DIVERGENCES.index(name)] for name in monitor.exported]
        outside = (monitor.unseen_ratio, monitor.out_of_range_ratio)[monitor.features[feature].kind == "numeric"]
        cells = (
            monitor.features[feature].name,
            monitor.windows[window],
            f"{monitor.samples[window, feature]:,}",
            *(_nats(value) for value in values),
            _nats(monitor.lower[window, feature]),
            _nats(monitor.noise_floor[window, feature]),
            _share(monitor.missing_ratio[window, feature]),
            _share(outside[window, feature]),
            word,
        )
        for heading, cell in zip(columns, cells, strict=True):
            columns[heading].append(Text(cell, style=STYLES[word] if heading == "state" else ""))
    return columns


def _width(column: tuple[str, list[Text]]) -> int:
    """What a column takes of a line, with its frame; a long feature name can be folded."""
    heading, cells = column
    width = max((cell.cell_len for cell in cells), default=0)
    if heading == "feature":
        width = min(width, FOLDED_WIDTH)
    return max(width, *map(len, heading.split("\n"))) + 3


def print_snapshot(snapshot: DriftSnapshot, to: Console) -> None:
    """Every monitor's table."""
    for monitor in snapshot.monitors:
        to.print(drift_table(monitor, to.width))
        for info in monitor.features:
            if info.problem is not None:
                to.print(f"  {info.name}: undecided: {info.problem}", markup=False)


def _nats(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.5f}"


def _share(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2%}"
