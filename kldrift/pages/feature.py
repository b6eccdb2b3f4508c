"""The page of a feature: its windows side by side, what changed, its course over time, how it was computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from markupsafe import Markup

from kldrift.drift.judging.explanation import Explanation
from kldrift.drift.judging.states import State, series_state
from kldrift.pages.cells import cells_of
from kldrift.pages.charts import histogram, legend, timeline
from kldrift.pages.ranking import FeatureRow, rank
from kldrift.pages.reading import Sensitivity, explanation_of, reading, sensitivity
from kldrift.records.snapshots import FeatureInfo, MonitorSnapshot, Track

#: Time that a timeline may show, by the name in the query.
SPANS: Mapping[str, int] = {"15m": 900_000, "3h": 3 * 3_600_000, "24h": 86_400_000, "7d": 7 * 86_400_000}


@dataclass(frozen=True, slots=True)
class WindowPanel:
    """One window of the feature: its state, the reading of it, its histogram (empty where there are no cells), and what
    it can show.
    """

    name: str
    state: State
    reading: str
    explanation: Explanation | None
    histogram: Markup
    sensitivity: Sensitivity


@dataclass(frozen=True, slots=True)
class FeaturePage:
    """What ``feature.html`` shows.

    Parameters
    ----------
    info, row : the feature, and its row on the page of the monitor
    f, w : its index, and that of the window whose timeline is shown
    window, span : names of the window and the time shown
    timeline : empty where there is no history yet
    per_dimension : (dimension, KL in nats) of a vector, most diverged first
    """

    template: ClassVar[str] = "feature.html"

    monitor: MonitorSnapshot
    info: FeatureInfo
    row: FeatureRow
    f: int
    w: int
    window: str
    span: str
    spans: Sequence[str]
    legend: Markup
    timeline: Markup
    windows: Sequence[WindowPanel]
    per_dimension: Sequence[tuple[int, float]]


def feature_page(
    monitor: MonitorSnapshot,
    f: int,
    w: int,
    span: str,
    track: Track,
    since: Mapping[str, Mapping[int, int]],
) -> FeaturePage:
    """Build the page.

    Parameters
    ----------
    track : of feature `f` and window `w`, over the last `SPANS[span]`
    since : see `rank`
    """
    info = monitor.features[f]
    label = f"KL divergence of {info.name} over {monitor.windows[w]} in the last {span}"
    kl, lower, upper = (each[:, 0, 0].astype(np.float64) for each in (track.kl, track.lower, track.upper))
    drawn = track.at_ms.size > 1 and not np.isnan(kl).all()
    return FeaturePage(
        monitor=monitor,
        info=info,
        row=next(row for row in rank(monitor, since) if row.index == f),
        f=f,
        w=w,
        window=monitor.windows[w],
        span=span,
        spans=tuple(SPANS),
        legend=legend(),
        timeline=timeline(track.at_ms, kl, lower, upper, info.warning, info.critical, label) if drawn else Markup(""),
        windows=[_panel(monitor, f, each) for each in range(len(monitor.windows))],
        per_dimension=_per_dimension(monitor, f, w),
    )


def _panel(monitor: MonitorSnapshot, f: int, w: int) -> WindowPanel:
    explanation = explanation_of(monitor, f, w)
    drawn = Markup("")
    if explanation is not None:
        label = f"{monitor.features[f].name}, {monitor.windows[w]}: shares of the live data and of the reference"
        drawn = histogram(cells_of(monitor, f, w), label)
    return WindowPanel(
        name=monitor.windows[w],
        state=series_state(monitor, w, f),
        reading=reading(monitor, f, w, explanation),
        explanation=explanation,
        histogram=drawn,
        sensitivity=sensitivity(monitor, f, w),
    )


def _per_dimension(monitor: MonitorSnapshot, f: int, w: int) -> list[tuple[int, float]]:
    found = monitor.per_dimension.get(f)
    if found is None or np.isnan(found[w]).all():
        return []
    return sorted(enumerate(found[w].tolist()), key=lambda pair: -pair[1])
