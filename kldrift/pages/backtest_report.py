"""The report of `kldrift backtest`: one HTML file that needs nothing else."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

import numpy as np
from markupsafe import Markup

from kldrift.offline.backtest.outcome import Alarm, FeatureResult, Outcome, length_text
from kldrift.pages.charts import sparkline, timeline
from kldrift.pages.charts.drawing import chart, percent
from kldrift.pages.templating import render, report_css
from kldrift.records.snapshots import Track
from kldrift.records.types import FloatArray, IntArray

#: Number of features with alarms whose sections are open at first, and number of features that have charts.
OPEN_SECTIONS, DRAWN = 5, 100

#: Maximum number of alarms in the table.
LISTED = 500

#: Maximum number of points of a line, not more than charts draw unthinned, so that their time axis matches ours.
POINTS = 400

_STRIP_HEIGHT = 10


@dataclass(frozen=True, slots=True)
class _Window:
    name: str
    undecided: float
    chart: Markup


@dataclass(frozen=True, slots=True)
class _Section:
    """One feature in full."""

    index: int
    feature: FeatureResult
    course: Markup
    windows: Sequence[_Window]
    is_open: bool


@dataclass(frozen=True, slots=True)
class BacktestReport:
    """What ``backtest_report.html`` shows; see `backtest_report`. `segmented`: some alarms are of segments."""

    template: ClassVar[str] = "backtest_report.html"

    outcome: Outcome
    verdict: str
    words: Sequence[str]
    snippet: str
    sections: Sequence[_Section]
    alarms: Sequence[Alarm]
    segmented: bool
    version: str


def backtest_report(outcome: Outcome, track: Track, words: Sequence[str], snippet: Sequence[str], version: str) -> str:
    """Render the outcome of a backtest as HTML.

    Parameters
    ----------
    track : of the whole monitor
    words : the proposal, in sentences
    snippet : the proposal as lines of YAML
    version : of kldrift
    """
    order = sorted(range(len(outcome.features)), key=lambda f: _rank(outcome.features[f]))
    report = BacktestReport(
        outcome=outcome,
        verdict=verdict(outcome),
        words=words,
        snippet="\n".join(snippet),
        sections=[_section(outcome, track, f, place) for place, f in enumerate(order)],
        alarms=outcome.alarms[:LISTED],
        segmented=any(alarm.segment is not None for alarm in outcome.alarms),
        version=version,
    )
    return render(report, css=report_css(), at=_at, length=length_text)


def verdict(outcome: Outcome) -> str:
    """Say in a sentence how often it would have paged at the configured warning tolerances."""
    if not outcome.decided:
        return f"Undecided throughout {outcome.weeks:.3g} weeks."
    rung = next(rung for rung in outcome.ladder if rung.configured == "warning")
    if rung.pages == 0:
        return f"No page in {outcome.weeks:.3g} weeks."
    per_month = rung.per_week * 365.25 / 12 / 7
    pages = "1 page" if rung.pages == 1 else f"{rung.pages:,} pages"
    return f"{pages} in {outcome.weeks:.3g} weeks: {per_month:.2g} a month."


def _rank(feature: FeatureResult) -> tuple[float, float, float]:
    largest = 0.0 if math.isnan(feature.largest) else feature.largest
    return -feature.in_alarm, -feature.warnings, -largest


def _section(outcome: Outcome, track: Track, f: int, place: int) -> _Section:
    feature = outcome.features[f]
    largest = np.fmax.reduce(track.lower[:, :, f].astype(np.float64), axis=1, initial=np.nan)
    windows = [_window(outcome, track, f, w) for w in range(len(outcome.windows))] if place < DRAWN else []
    return _Section(
        f,
        feature,
        sparkline(largest, feature.warning, ""),
        windows,
        place < OPEN_SECTIONS and feature.warnings > 0,
    )


def _window(outcome: Outcome, track: Track, f: int, w: int) -> _Window:
    feature, name = outcome.features[f], outcome.windows[w]
    kept = thinned(track.lower[:, w, f].astype(np.float64), track.kl[:, w, f].astype(np.float64))
    kl, lower, upper = (values[kept, w, f].astype(np.float64) for values in (track.kl, track.lower, track.upper))
    label = f"{feature.name} over {name}: divergence and its bounds over the history"
    drawn = timeline(track.at_ms[kept], kl, lower, upper, feature.warning, feature.critical, label)
    alarms = [
        alarm
        for alarm in outcome.alarms
        if alarm.feature == feature.name and alarm.window == name and alarm.segment is None
    ]
    return _Window(name, feature.series[w].undecided, strip(alarms, track.at_ms, outcome.every_ms) + drawn)


def thinned(lower: FloatArray, kl: FloatArray) -> IntArray:
    """Return the indices of at most `POINTS` steps: the first, the last, and the largest bound of each stretch.

    Where no bound is decided, the largest divergence.
    """
    n = lower.size
    if n <= POINTS:
        return np.arange(n)
    starts = 1 + np.arange(POINTS - 2) * (n - 2) // (POINTS - 2)
    stops = np.append(starts[1:], n - 1)
    weight = np.where(np.isnan(lower), np.where(np.isnan(kl), -np.inf, kl - 1e9), lower)
    inner = [start + int(weight[start:stop].argmax()) for start, stop in zip(starts, stops, strict=True)]
    return np.array([0, *inner, n - 1])


def strip(alarms: Sequence[Alarm], at_ms: IntArray, every_ms: int) -> Markup:
    """Draw when a series was in alarm, on the time axis of the timeline below; nothing without alarms."""
    first, last = int(at_ms[0]), int(at_ms[-1])
    if not alarms or last <= first:
        return Markup("")
    bars = []
    for alarm in alarms:
        left = 100 * (alarm.begin_ms - first) / (last - first)
        right = 100 * (min(alarm.end_ms + every_ms, last) - first) / (last - first)
        word = "critical" if alarm.critical else "warning"
        title = f"{word} from {_at(alarm.begin_ms)}"
        bar = Markup('<rect class="alarm-{}" x="{}" width="{}" height="{}"><title>{}</title></rect>')
        bars.append(bar.format(word, percent(left), percent(max(right - left, 0.3)), _STRIP_HEIGHT, title))
    n = len(alarms)
    return chart(f"{n:,} alarm{'' if n == 1 else 's'}", _STRIP_HEIGHT, "chart chart-with-axis", bars)


def _at(ms: int) -> str:
    """``2026-01-31 08:15``, of the instant after a step's last millisecond."""
    return datetime.fromtimestamp((ms + 1) / 1000, UTC).strftime("%Y-%m-%d %H:%M")
