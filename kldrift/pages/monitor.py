"""The page of a monitor: its features, ranked by how much drift is certain, and its segments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup

from kldrift.drift.judging.states import STATES, State
from kldrift.pages.charts import sparkline
from kldrift.pages.ranking import FeatureRow, counted, evenly
from kldrift.pages.segments import SegmentRow, segment_rows
from kldrift.records.snapshots import MonitorSnapshot, Track

#: Time that the sparklines show.
SPARK_MS = 3 * 3_600_000


@dataclass(frozen=True, slots=True)
class MonitorPage:
    """What ``monitor.html`` shows.

    Parameters
    ----------
    window : the one that figures are of; None: of each feature the one in which it drifts most
    state, q : the filter: only features in this state, and with this text in their name; empty for all
    counted : number of features in each state, whatever the filter
    rows : the features that pass the filter, with their sparklines
    any_invalid : whether any of them has values of the wrong type
    n_features : of the monitor
    track_ms : time that the sparklines cover
    """

    template: ClassVar[str] = "monitor.html"

    monitor: MonitorSnapshot
    window: str | None
    state: str
    q: str
    states: Sequence[State]
    counted: Mapping[State, int]
    rows: Sequence[tuple[FeatureRow, Markup]]
    any_invalid: bool
    n_features: int
    track_ms: int
    segments: Sequence[SegmentRow]


def matching(rows: Sequence[FeatureRow], state: str, text: str) -> list[FeatureRow]:
    """Return the rows in a state and with a text in their name; an empty filter lets all pass."""
    return [row for row in rows if state in ("", row.state) and text.casefold() in row.name.casefold()]


def monitor_page(
    monitor: MonitorSnapshot,
    rows: Sequence[FeatureRow],
    shown: Sequence[FeatureRow],
    track: Track,
    *,
    window: str | None,
    state: str,
    text: str,
) -> MonitorPage:
    """Build the page.

    Parameters
    ----------
    rows, shown : all features, and those that pass the filter of `state` and `text`
    track : of the features in `shown`, over the last `SPARK_MS`
    """
    values = evenly(track)
    sparks = [
        sparkline(values[:, i], row.warning, "") if values.shape[0] > 1 else Markup("") for i, row in enumerate(shown)
    ]
    return MonitorPage(
        monitor=monitor,
        window=window,
        state=state,
        q=text,
        states=STATES,
        counted=counted([row.state for row in rows]),
        rows=list(zip(shown, sparks, strict=True)),
        any_invalid=any(row.invalid > 0 for row in shown),
        n_features=len(rows),
        track_ms=int(track.at_ms[-1] - track.at_ms[0]) if track.at_ms.size else 0,
        segments=segment_rows(monitor),
    )
