"""What stored counts mean: the cells of each feature, the windows, the times and the segments of a monitor."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

from kldrift.drift.counting.counts import CellCounts, Counted
from kldrift.drift.counting.moment_windows import GroupMoments
from kldrift.drift.counting.windows import Panes
from kldrift.drift.references.reference import FeatureReference
from kldrift.records.specs import FeatureSpec, MonitorSpec, WindowSpec


@dataclass(frozen=True, slots=True)
class FeatureLayout:
    """The cells of one feature.

    Parameters
    ----------
    name : of the feature
    means : what decides in which cell a value counts, by the name of the key that it comes from
    n_cells : cells of one segment
    moments : number of dimensions and whether the covariance is full, of a vector; None for other features
    """

    name: str
    means: Mapping[str, str]
    n_cells: int
    moments: tuple[int, bool] | None = None


@dataclass(frozen=True)
class Layout:
    """What the counts of a monitor mean.

    Parameters
    ----------
    windows_ms : duration of each window
    window_names : as configured, to show
    history_ms : how far back in time windows are read
    timestamp : where the time of a row comes from
    by : the field that segments are made by, None without segments
    limit : maximum number of segments besides *other*
    """

    features: tuple[FeatureLayout, ...]
    windows_ms: tuple[int, ...]
    window_names: tuple[str, ...]
    history_ms: int
    timestamp: str
    by: str | None = None
    limit: int = 0

    @cached_property
    def stored(self) -> bytes:
        """The layout as JSON."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @staticmethod
    def from_bytes(stored: bytes) -> "Layout":
        """Return the layout that was `stored`."""
        document: dict[str, Any] = json.loads(stored)
        features = tuple(
            FeatureLayout(**{**f, "moments": None if f["moments"] is None else tuple(f["moments"])})
            for f in document.pop("features")
        )
        windows_ms, names = tuple(document.pop("windows_ms")), tuple(document.pop("window_names"))
        return Layout(features, windows_ms, names, **document)

    def means_the_same(self, other: "Layout") -> bool:
        """Whether counts of one are counts of the other as they are, but for what has been learned."""
        return (
            [(f.name, f.means) for f in self.features] == [(f.name, f.means) for f in other.features]
            and self.windows_ms == other.windows_ms
            and self.history_ms == other.history_ms
            and (self.timestamp, self.by, self.limit) == (other.timestamp, other.by, other.limit)
        )

    @property
    def n_slots(self) -> int:
        """Groups of rows that are counted apart: the segments and *other*."""
        return 1 if self.by is None else self.limit + 1

    @property
    def row_cells(self) -> int:
        """Cells of one group: those of the features and, if there are segments, one that counts rows."""
        return sum(feature.n_cells for feature in self.features) + (self.by is not None)

    def span(self, f: int | None) -> tuple[int, int]:
        """Return where the cells of a feature begin and end, by its index; None: the cell that counts rows."""
        place = len(self.features) if f is None else f
        return self._starts[place], self._starts[place + 1]

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        return (*accumulate((feature.n_cells for feature in self.features), initial=0), self.row_cells)

    def counted(self) -> Counted:
        """Return counts of nothing."""
        windows = [WindowSpec(name, ms) for name, ms in zip(self.window_names, self.windows_ms, strict=True)]
        moments = {
            f: Panes(windows, GroupMoments(self.n_slots, *feature.moments))
            for f, feature in enumerate(self.features)
            if feature.moments is not None
        }
        cells = CellCounts(self.n_slots * self.row_cells)
        return Counted(Panes(windows, cells, self.history_ms), moments)


def describe(spec: MonitorSpec, awaited: Sequence[FeatureReference], references: Sequence[FeatureReference]) -> Layout:
    """Return the layout of a monitor's counts.

    Parameters
    ----------
    awaited : the references as they were given
    references : as they are now, after some were learned
    """
    features = tuple(
        FeatureLayout(given.name, _means(spec, feature, given), len(now.cells), _moments(now))
        for feature, given, now in zip(spec.features, awaited, references, strict=True)
    )
    return Layout(
        features=features,
        windows_ms=tuple(window.duration_ms for window in spec.windows),
        window_names=tuple(window.name for window in spec.windows),
        history_ms=max(reference.offset_ms for reference in references),
        timestamp=repr(spec.timestamp),
        by=None if spec.segments is None else spec.segments.by,
        limit=0 if spec.segments is None else spec.segments.limit,
    )


def _means(spec: MonitorSpec, feature: FeatureSpec, given: FeatureReference) -> dict[str, str]:
    means = {"kind": given.kind, "bins": given.bins_hash}
    if given.learn:
        means["learned rows"] = repr((feature.bins, feature.max_categories, given.learn))
    if feature.of is not None:
        means["aspect"] = repr((feature.of, feature.unit))
    if spec.missing_texts is not None:
        means["missing_values"] = repr(sorted(spec.missing_texts))
    return means


def _moments(reference: FeatureReference) -> tuple[int, bool] | None:
    moments = reference.shape.moments
    return None if moments is None else (moments.size, moments.full)
