"""What a monitor takes over from one of another layout: by feature, window and segment, all that means the same.

A source is what was stored of a monitor, with its layout: that of the monitor before, and for an hour those before it,
so that a change can be taken back. A feature comes from the newest source in which its cells are the same. Of that it
has

* each window that was there, slice by slice,
* of a window that was not, what the slices of another one hold, if these fit into its own.

Panes are closed first, because they may have another length now; that changes no total, because each lies in one slice.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from kldrift.drift.counting.counts import Counted
from kldrift.drift.counting.layout import FeatureLayout, Layout
from kldrift.drift.counting.windows import SLICES, Panes, Ring
from kldrift.drift.entries import below
from kldrift.drift.references.stored import texts_from_bytes
from kldrift.kernels.moments import Moments, merge_moments, zero_moments
from kldrift.records.samples import Vocabulary
from kldrift.records.types import IntArray

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """What was stored of a monitor.

    Parameters
    ----------
    entries : bytes by key
    layout : what their counts mean
    until_ms : when it is forgotten; 0 for the monitor that is replaced
    """

    entries: Mapping[str, bytes]
    layout: Layout
    until_ms: int = 0

    @cached_property
    def indices(self) -> Mapping[str, int]:
        """Index of each feature, by its name."""
        return {feature.name: f for f, feature in enumerate(self.layout.features)}

    @cached_property
    def anew(self) -> Mapping[str, int]:
        """The features that had begun anew with a change, and until when what there was before it is kept."""
        return dict(json.loads(self.entries.get("anew", b"{}")))

    def to_entries(self) -> dict[str, bytes]:
        """Return the entries under which it is kept."""
        return {f"former/{self.until_ms}/{key}": value for key, value in self.entries.items()}

    def unusable(self, new: Layout) -> str | None:
        """Return why nothing of this can be counted on in another layout; None: some of it may be."""
        if self.layout.timestamp != new.timestamp:
            return "the time of a row comes from elsewhere"
        if new.by is not None and self.layout.by != new.by:
            return f"segments are made by {new.by} now"
        return None

    def lacks(self, feature: FeatureLayout) -> str | None:
        """Return why the counts of a feature are not here; None: they are."""
        f = self.indices.get(feature.name)
        if f is None:
            return "it is new"
        old = self.layout.features[f].means
        keys = [key for key in {**feature.means, **old} if feature.means.get(key) != old.get(key)]
        if keys:
            return f"other {' and '.join(keys)}"
        if self.until_ms and "learned rows" in old and f"reference/{f}" not in self.entries:
            return "its reference was still being learned"
        return None

    def counted(self) -> Counted:
        """Return what was counted, with every pane closed."""
        counted = self.layout.counted()
        counted.restore(self.entries)
        counted.panes.close_all()
        for moments in counted.moments.values():
            moments.close_all()
        return counted

    def slots(self, limit: int, segments: Vocabulary | None) -> IntArray:
        """Return which slot the rows of each slot belong to now, (n_slots,); `limit` is *other*."""
        if segments is None:
            return np.zeros(self.layout.n_slots, dtype=np.int64)
        found = np.full(self.layout.n_slots, limit)
        for slot, text in enumerate(self.segments[: self.layout.limit]):
            now = segments.find(text)
            found[slot] = limit if now is None else now
        return found

    @property
    def segments(self) -> tuple[str, ...]:
        """The segments, in the order of their slots."""
        texts = self.entries.get("vocabulary/segments")
        return () if texts is None else texts_from_bytes(texts)


def sources_of(entries: Mapping[str, bytes], now_ms: int) -> list[Source]:
    """Return what was stored, newest first, without what is too old or has no layout, as from an earlier version."""
    found = [(0, {key: value for key, value in entries.items() if not key.startswith("former/")})]
    untils = {int(key.split("/")[0]) for key in below("former", entries)}
    found += [(until, below(f"former/{until}", entries)) for until in sorted(untils, reverse=True) if until > now_ms]
    return [Source(own, Layout.from_bytes(own["described"]), until) for until, own in found if "described" in own]


def having(feature: FeatureLayout | None, new: Layout, sources: Sequence[Source]) -> list[Source]:
    """Return the sources with the counts of a feature, the one to take first; None: of the cell that counts rows."""
    found = [source for source in sources if source.unusable(new) is None]
    if feature is None or not found:
        return found
    found = [source for source in found if source.lacks(feature) is None]
    began = sources[0].anew.get(feature.name, 0)  # what is from before that has more of it
    return sorted(found, key=lambda source: not 0 < source.until_ms <= began)


def origins(new: Layout, sources: Sequence[Source]) -> tuple[dict[str, Source], dict[str, str]]:
    """Return where the counts of each feature come from, and why those of the others begin anew."""
    found: dict[str, Source] = {}
    reasons: dict[str, str] = {}
    for feature in new.features:
        if having_it := having(feature, new, sources):
            found[feature.name] = having_it[0]
        elif sources:
            reasons[feature.name] = sources[0].unusable(new) or sources[0].lacks(feature) or ""
        else:
            reasons[feature.name] = "an earlier version stored its counts"
    return found, reasons


def carry(new: Layout, sources: Sequence[Source], segments: Vocabulary | None) -> Counted:
    """Return counts of a new layout, made of those of others.

    Parameters
    ----------
    new : with the cells of the references as they are now
    sources : newest first
    segments : as they are now; None without
    """
    made = new.counted()
    used = [(source, source.counted()) for source in sources if source.unusable(new) is None]
    if not used:
        return made
    clock = next((counted for _, counted in used if counted.clock_ms is not None), used[0][1])
    made.newest_ms, made.of_events = dict(clock.newest_ms), clock.of_events
    made.clock_ms, made.clock_read_ms = clock.clock_ms, clock.clock_read_ms
    kinds = dict(enumerate(new.features))
    places = {id(source): i for i, (source, _) in enumerate(used)}
    for ring in new.windows_ms:
        # By source: the features that have this window there, and those whose rows are to be found in its other
        # windows, all of them or only those since an older source.
        whole: dict[int, list[int | None]] = {}
        parts: dict[tuple[int, int], list[int | None]] = {}
        for f in (*kinds, None) if new.by is not None else kinds:
            own = [places[id(source)] for source in having(None if f is None else kinds[f], new, sources)]
            window = next((i for i in own if ring in used[i][0].layout.windows_ms), None)
            if window is not None:
                whole.setdefault(window, []).append(f)
                if window and 0 in own:
                    parts.setdefault((0, (used[window][1].clock_ms or 0) + 1), []).append(f)
            elif own:
                parts.setdefault((own[0], 0), []).append(f)
        for i, features in whole.items():
            _move(made, new, used[i], segments, features, ring // SLICES, None)
        for (i, since_ms), features in parts.items():
            _move(made, new, used[i], segments, features, ring // SLICES, since_ms)
    return made


def _move(
    made: Counted,
    new: Layout,
    used: tuple[Source, Counted],
    segments: Vocabulary | None,
    features: Sequence[int | None],
    slice_ms: int,
    since_ms: int | None,
) -> None:
    """Add the counts of some features to one window; `since_ms`: those that another window has from then on."""
    source, old = used
    if made.clock_ms is None or old.clock_ms is None:
        return
    at_ms = made.clock_ms
    slots = source.slots(new.limit, segments)
    indices = [(f, source.indices[new.features[f].name] if f is not None else None) for f in features]
    into = np.concatenate([np.arange(*new.span(f)) for f, _ in indices])
    out_of = np.concatenate([np.arange(*source.layout.span(f)) for _, f in indices])

    def cells(value: IntArray) -> IntArray:
        moved = np.zeros((new.n_slots, new.row_cells), dtype=np.int64)
        np.add.at(moved, np.ix_(slots, into), value.reshape(source.layout.n_slots, -1)[:, out_of])
        return moved.ravel()

    def moments(value: Moments) -> Moments:
        moved = zero_moments((new.n_slots,), value.mean.shape[1], value.second.ndim == value.mean.ndim + 1)
        for slot, now in enumerate(slots.tolist()):
            merge_moments(moved.at(slice(now, now + 1)), value.at(slice(slot, slot + 1)))
        return moved

    _copy(old.panes, made.panes, cells, slice_ms, since_ms, at_ms, old.clock_ms)
    for f, old_f in indices:
        if f in made.moments and old_f is not None:
            _copy(old.moments[old_f], made.moments[f], moments, slice_ms, since_ms, at_ms, old.clock_ms)


def _copy(
    old: Panes[T],
    new: Panes[T],
    convert: Callable[[T], T],
    slice_ms: int,
    since_ms: int | None,
    at_ms: int,
    old_at_ms: int,
) -> None:
    ring: Ring[T]
    if since_ms is None:
        ring = old.rings[slice_ms]
    else:
        finer = [ms for ms in old.rings if slice_ms % ms == 0]
        if not finer:
            return
        ring = old.rings[max(finer)]
        since_ms = max(since_ms, ring.covers_ms(old_at_ms))
    for start_ms, value in ring.slices():
        if since_ms is None or start_ms >= since_ms:
            new.rings[slice_ms].add(start_ms, convert(value), at_ms)
