"""The overview: a card for each monitor, with what drifts and what is undecided."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from kldrift.drift.judging.states import State, feature_states
from kldrift.pages.ranking import FeatureRow, counted, rank
from kldrift.pages.reading import telling_window, why_undecided
from kldrift.pages.segments import SegmentRow, segment_rows
from kldrift.records.snapshots import DriftSnapshot, MonitorSnapshot

#: Undecided features of a monitor that its card lists.
LISTED_UNDECIDED = 20


@dataclass(frozen=True, slots=True)
class MonitorCard:
    """One monitor.

    Parameters
    ----------
    counted : number of features in each state
    drifting : the features with a verdict of drift, worst first
    undecided : the first of the `n_undecided` features that are absent or without a verdict, each with the reason
    samples : in the fullest window
    """

    name: str
    windows: Sequence[str]
    counted: Mapping[State, int]
    drifting: Sequence[FeatureRow]
    n_undecided: int
    undecided: Sequence[tuple[FeatureRow, str]]
    segments: Sequence[SegmentRow]
    samples: int


@dataclass(frozen=True, slots=True)
class Overview:
    """What ``overview.html`` shows."""

    template: ClassVar[str] = "overview.html"

    monitors: Sequence[MonitorCard]


def overview(snapshot: DriftSnapshot, since: Callable[[MonitorSnapshot], Mapping[str, Mapping[int, int]]]) -> Overview:
    """Build the overview; `since` says since when the features of a monitor have been drifting (see `rank`)."""
    return Overview(tuple(_card(monitor, since(monitor)) for monitor in snapshot.monitors))


def _card(monitor: MonitorSnapshot, since: Mapping[str, Mapping[int, int]]) -> MonitorCard:
    rows = rank(monitor, since)
    undecided = [row for row in rows if row.state in ("absent", "undecided", "empty")]
    return MonitorCard(
        name=monitor.name,
        windows=monitor.windows,
        counted=counted(feature_states(monitor)),
        drifting=[row for row in rows if row.state in ("critical", "warning")],
        n_undecided=len(undecided),
        undecided=[(row, _why(monitor, row.index)) for row in undecided[:LISTED_UNDECIDED]],
        segments=segment_rows(monitor),
        samples=int(monitor.samples.max(initial=0)),
    )


def _why(monitor: MonitorSnapshot, f: int) -> str:
    return why_undecided(monitor, f, telling_window(monitor, f))
