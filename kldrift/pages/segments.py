"""The rows of the tables of segments."""

from collections.abc import Mapping
from dataclasses import dataclass

from kldrift.drift.judging.states import State, feature_states
from kldrift.pages.ranking import FeatureRow, counted, rank
from kldrift.records.snapshots import MonitorSnapshot

#: Segments that a page lists.
LISTED = 50


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """One segment of a monitor.

    Parameters
    ----------
    samples : in its fullest window
    counted : number of features in each state
    first : the feature that drifts most; None where the monitor has no features
    """

    name: str | None
    samples: int
    counted: Mapping[State, int]
    first: FeatureRow | None


def segment_rows(monitor: MonitorSnapshot) -> tuple[SegmentRow, ...]:
    """Return the largest segments of a monitor, in the order of the snapshot."""
    found = []
    for segment in monitor.segments[:LISTED]:
        rows = rank(segment, {}, most=1)
        found.append(
            SegmentRow(
                name=segment.segment,
                samples=int(segment.samples.max(initial=0)),
                counted=counted(feature_states(segment)),
                first=rows[0] if rows else None,
            )
        )
    return tuple(found)
