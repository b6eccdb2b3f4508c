"""Tables in the terminal."""

import sys
from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kldrift.drift.judging.states import feature_states, series_state
from kldrift.export.exposition import value_labels
from kldrift.pages.reading import undecided_lines
from kldrift.records.divergences import DIVERGENCES, KL, KNOWN_DIVERGENCES
from kldrift.records.snapshots import DriftSnapshot, MonitorSnapshot
from kldrift.records.texts import listed
from kldrift.records.types import FloatArray, IntArray, Severity

STYLES = {
    "critical": "bold red",
    "warning": "yellow",
    "absent": "bold magenta",
    "quiet": "green",
    "undecided": "dim",
    "empty": "dim",
}

#: Width of the output when it does not go to a terminal.
PLAIN_WIDTH = 150

#: Columns to drop in a narrow terminal, once all divergences other than KL are dropped.
LEFT_OUT_FIRST = ("noise\nfloor", "invalid", "missing", "upper\nbound", "new or\noutside", "lower\nbound")

#: Names of features longer than this are folded before any column is dropped.
FOLDED_WIDTH = 24

#: Maximum number of segments or undecided features that are listed; the rest is only counted.
SHOWN = 50

NOTHING_CHANGED: Mapping[Severity, Sequence[str]] = {}

HEADINGS = {divergence.name: divergence.heading for divergence in KNOWN_DIVERGENCES}


def console() -> Console:
    """Return a console on stdout. When that is not a terminal, it is wide enough for a table and has no colours."""
    return Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH, highlight=False)


def drift_table(monitor: MonitorSnapshot, width: int) -> Table:
    """Return the series of a monitor, one row per feature and window, largest divergence first.

    Absent ones come first; series without a verdict (undecided, empty) stand below those with one.
    If `width` is too small, columns are dropped, the least important first, so that no figure is ever truncated.
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
    """Return the cells of the table by heading."""
    columns: dict[str, list[Text]] = {"feature": [], "window": [], "n": []}
    columns |= {HEADINGS[name]: [] for name in monitor.exported}
    columns |= {"lower\nbound": [], "upper\nbound": [], "noise\nfloor": [], "missing": [], "invalid": []}
    columns |= {"new or\noutside": [], "state": []}
    kl = np.nan_to_num(monitor.divergences[:, :, KL], nan=-1.0)
    place = np.where(monitor.absent, 0, np.where(monitor.ready, 1, 2))
    rank = np.lexsort((-kl.ravel(), place.ravel()))  # a stable sort: by verdict or none, then by KL
    order = np.dstack(np.unravel_index(rank, kl.shape))[0]
    for window, feature in order.tolist():
        word = series_state(monitor, window, feature)
        values = [monitor.divergences[window, feature, DIVERGENCES.index(name)] for name in monitor.exported]
        outside = monitor.outside_ratio(window, feature)
        cells = (
            monitor.features[feature].name,
            monitor.windows[window],
            f"{monitor.samples[window, feature]:,}",
            *(_nats(value) for value in values),
            _nats(monitor.lower[window, feature]),
            _nats(monitor.upper[window, feature]),
            _nats(monitor.noise_floor[window, feature]),
            _share(monitor.missing_ratio[window, feature]),
            _share(monitor.invalid_ratio[window, feature]),
            "" if outside is None else _share(outside),
            word,
        )
        for heading, cell in zip(columns, cells, strict=True):
            columns[heading].append(Text(cell, style=STYLES[word] if heading == "state" else ""))
    if not np.nansum(monitor.invalid_ratio):
        del columns["invalid"]
    return columns


def _width(column: tuple[str, list[Text]]) -> int:
    """Return the width of a column with its frame; a long feature name can be folded."""
    heading, cells = column
    width = max((cell.cell_len for cell in cells), default=0)
    if heading == "feature":
        width = min(width, FOLDED_WIDTH)
    return max(width, *map(len, heading.split("\n"))) + 3


def verdict_line(monitor: MonitorSnapshot, changed: Mapping[Severity, Sequence[str]] = NOTHING_CHANGED) -> str:
    """Summarize the verdicts: which features drift, by lower bound, and how many are undecided.

    Parameters
    ----------
    changed : columns that drift without a divergence, since they are gone or of another type; named first
    """
    order = np.argsort(-_largest(monitor.lower), kind="stable")
    warning, critical = monitor.detected[order].T
    found: dict[Severity, IntArray] = {
        "critical": order[critical == 1],
        "warning": order[(warning == 1) & (critical != 1)],
    }
    names = {word: [*changed.get(word, []), *(monitor.features[i].name for i in found[word])] for word in found}
    parts = [f"{word}: {listed(of_severity)}" for word, of_severity in names.items() if of_severity]
    states = feature_states(monitor)
    absent = [info.name for info, state in zip(monitor.features, states, strict=True) if state == "absent"]
    if absent:
        parts.append(f"absent: {listed(absent)}")
    n_undecided = int(np.isnan(monitor.detected[[state != "absent" for state in states], 0]).sum())
    if not parts and (n_undecided < len(states) or not states):
        parts.append("no drift")
    if n_undecided:
        parts.append(f"{n_undecided:,} undecided")
    return f"verdict (false discovery rate {100 * (1 - monitor.confidence):.4g} %): {'; '.join(parts)}"


def feature_lines(monitor: MonitorSnapshot) -> list[str]:
    """Say why features have no verdict, of the first `SHOWN` of them, and what the references of others cannot show."""
    lines = [f"  {line}" for line in undecided_lines(monitor)]
    more = [f"  and {len(lines) - SHOWN:,} more"] if len(lines) > SHOWN else []
    return lines[:SHOWN] + more + [f"  {info.name}: {limit}" for info in monitor.features for limit in info.limits]


def segment_table(monitor: MonitorSnapshot) -> Table:
    """Return a row for each segment: its rows, how many features drift, and the one with the largest lower bound."""
    table = Table(title=f"{monitor.name}: segments, largest first", title_justify="left")
    table.add_column("segment", overflow="fold")
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("features\ndrifting", justify="right", no_wrap=True)
    table.add_column("largest\nlower bound", justify="right", no_wrap=True)
    table.add_column("in feature", overflow="fold")
    shown = monitor.segments[:SHOWN]
    names = value_labels(segment.segment or "" for segment in shown)
    for name, segment in zip(names, shown, strict=True):
        lower = _largest(segment.lower)
        most = int(np.argmax(lower))
        decided = bool(lower[most] > -np.inf)
        table.add_row(
            Text(name),
            f"{segment.samples.max():,}",
            f"{int((segment.detected[:, 0] == 1).sum()):,}" if decided else "",
            _nats(lower[most]) if decided else "",
            Text(segment.features[most].name if decided else "undecided", style="" if decided else STYLES["undecided"]),
        )
    return table


def segment_lines(monitor: MonitorSnapshot) -> list[str]:
    """Say for each window how much drift is a changed mix of segments, and how much lies within them."""
    lines = []
    for w, window in enumerate(monitor.windows if monitor.segment_mix.size else ()):
        mix = monitor.segment_mix[w]
        words = "mix unknown to the reference" if np.isnan(mix) else f"mix {mix:.5f} nats"
        within = np.nan_to_num(monitor.within_segments[w], nan=-np.inf)
        most = int(np.argmax(within))
        if within[most] > -np.inf:
            words += f"; within the segments {within[most]:.5f} nats or less, most in {monitor.features[most].name}"
        lines.append(f"segments over {window}: {words}")
    return lines


def _largest(lower: FloatArray) -> FloatArray:
    """Return the largest bound of each feature over its windows, (F,); -inf where all are undecided."""
    return np.asarray(np.where(np.isnan(lower), -np.inf, lower).max(axis=0))


def print_snapshot(snapshot: DriftSnapshot, to: Console) -> None:
    """Print the table, verdict and segments of every monitor."""
    for monitor in snapshot.monitors:
        to.print(drift_table(monitor, to.width))
        lines = [verdict_line(monitor)]
        lines += feature_lines(monitor)
        if monitor.segments:
            _print_lines(lines, to)
            to.print(segment_table(monitor))
            more = len(monitor.segments) - SHOWN
            lines = [f"and {more:,} smaller segments"] if more > 0 else []
        _print_lines(lines + segment_lines(monitor), to)


def _print_lines(lines: list[str], to: Console) -> None:
    for line in lines:
        to.print(Text(line))


def _nats(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.5f}"


def _share(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2%}"
