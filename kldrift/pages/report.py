"""The report of `kldrift compare`: one HTML file that needs nothing else."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup

from kldrift.drift.judging.states import State
from kldrift.pages.cells import cells_of
from kldrift.pages.charts import histogram, legend, thumbnail
from kldrift.pages.ranking import FeatureRow, counted, rank
from kldrift.pages.reading import Sensitivity, explanation_of, reading, sensitivity
from kldrift.pages.templating import render, report_css
from kldrift.records.divergences import DIVERGENCES, OTHER_DIVERGENCES
from kldrift.records.snapshots import MonitorSnapshot
from kldrift.records.types import SEVERITIES, Severity

#: Number of drifting features whose sections are open at first.
OPEN_SECTIONS = 5


@dataclass(frozen=True, slots=True)
class _Section:
    """One feature in full; `figures` are the divergences other than KL, by heading."""

    row: FeatureRow
    thumbnail: Markup
    chart: Markup
    reading: str
    sensitivity: Sensitivity
    figures: Sequence[tuple[str, float]]
    is_open: bool


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """What ``report_comparison.html`` shows; see `comparison_report`."""

    template: ClassVar[str] = "report_comparison.html"

    monitor: MonitorSnapshot
    reference: str
    reference_rows: float
    live: str
    rows: int
    counts: Mapping[State, int]
    verdict: str
    sections: Sequence[_Section]
    legend: Markup
    changed: Mapping[str, tuple[Severity, str]]
    left_out: Mapping[str, str]
    notes: Sequence[str]
    version: str


def comparison_report(
    monitor: MonitorSnapshot,
    reference: str,
    live: str,
    rows: int,
    changed: Mapping[str, tuple[Severity, str]],
    left_out: Mapping[str, str],
    notes: Sequence[str],
    version: str,
) -> str:
    """Render the comparison of two files as HTML.

    Parameters
    ----------
    monitor : the divergences, in a single window
    reference, live : names of the files
    rows : of the live file
    changed : columns that drift without a divergence, by name, with the severity and the reason
    left_out : columns that were not compared, by name, with the reason
    notes : what else was left out
    version : of kldrift
    """
    ranked = rank(monitor, {})
    states = [row.state for row in ranked]
    report = ComparisonReport(
        monitor=monitor,
        reference=reference,
        reference_rows=max((info.reference_rows for info in monitor.features), default=0.0),
        live=live,
        rows=rows,
        counts=counted(states),
        verdict=verdict(states, [severity for severity, _ in changed.values()]),
        sections=[_section(monitor, row, place) for place, row in enumerate(ranked)],
        legend=legend(),
        changed=changed,
        left_out=left_out,
        notes=notes,
        version=version,
    )
    return render(report, css=report_css())


def verdict(states: Sequence[str], changed: Sequence[Severity] = ()) -> str:
    """Say in a sentence or two how many features drift, and before them how many columns changed.

    Parameters
    ----------
    changed : the severity of each column that drifts without a divergence
    """
    text = _verdict_on_features(states)
    if not changed:
        return text
    columns = "1 column" if len(changed) == 1 else f"{len(changed):,} columns"
    return f"{columns} changed: {_counted(changed)}. {text if states else ''}".rstrip()


def _verdict_on_features(states: Sequence[str]) -> str:
    n, drifting, absent = len(states), states.count("critical") + states.count("warning"), states.count("absent")
    features = "1 feature" if n == 1 else f"{n:,} features"
    without = f"{absent:,} {'has' if absent == 1 else 'have'} no value in the live data" if absent else ""
    if drifting:
        text = f"{drifting:,} of {features} {'drifts' if drifting == 1 else 'drift'}: {_counted(states)}"
        return f"{text}; {without}." if absent else f"{text}."
    if absent:
        return f"Of {features}, {without}."
    if n == 0:
        return "No drift: there is no feature to compare, and all constants are as they were."
    undecided = states.count("undecided") + states.count("empty")
    if undecided == n:
        return f"Undecided: there is too little data to judge {features if n == 1 else f'any of {features}'}."
    return f"No drift in {features}" + (f", {undecided:,} of them undecided." if undecided else ".")


def _counted(states: Sequence[str]) -> str:
    return ", ".join(f"{states.count(word):,} {word}" for word in SEVERITIES if word in states)


def _section(monitor: MonitorSnapshot, row: FeatureRow, place: int) -> _Section:
    f = row.index
    cells = cells_of(monitor, f, 0)
    label = f"{row.name}: live against reference"
    drawn = Markup("")
    small = Markup("")
    if cells:
        drawn, small = histogram(cells, label), thumbnail(cells, label)
    figures = [
        (each.title, float(monitor.divergences[0, f, DIVERGENCES.index(each.name)])) for each in OTHER_DIVERGENCES
    ]
    return _Section(
        row,
        small,
        drawn,
        reading(monitor, f, 0, explanation_of(monitor, f, 0)),
        sensitivity(monitor, f, 0),
        [(name, value) for name, value in figures if not math.isnan(value)],
        place < OPEN_SECTIONS and row.state in ("critical", "warning"),
    )
