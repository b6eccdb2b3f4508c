"""What a monitor keeps of before a change of its configuration, in case that is taken back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from kldrift.drift.counting.carrying import Source, sources_of
from kldrift.drift.counting.layout import Layout
from kldrift.drift.counting.windows import SLICES

#: How long what began anew is kept, in case the change is taken back, and of how many changes.
KEPT_MS = 3_600_000
KEPT_CHANGES = 3


class Past:
    """What was counted before the last changes, and what began anew with them."""

    def __init__(self) -> None:
        #: What began anew in the last hour: when (ms), and what and why.
        self.began: list[tuple[int, str]] = []
        self._kept: list[Source] = []  # newest first
        self._gone: list[str] = []  # keys of what is not kept any longer
        self._anew: dict[str, int] = {}  # see `Source.anew`

    def turn(
        self,
        new: Layout,
        sources: Sequence[Source],
        found: Mapping[str, Source],
        reasons: Mapping[str, str],
        now_ms: int,
    ) -> list[str]:
        """Go on from a change; return what begins anew and why, one sentence each.

        Parameters
        ----------
        sources : what there was before
        found, reasons : of `origins`
        """
        self._kept = _kept(sources, new, reasons, now_ms)
        current = [source for source in sources if not source.until_ms]
        before = {name: until for source in current for name, until in source.anew.items()}
        self._anew = {name: until for name, until in before.items() if found.get(name) in current}
        if self._kept:
            self._anew |= dict.fromkeys(reasons, self._kept[0].until_ms)
        said = _notes(new, sources, found, reasons)
        self.began = [(now_ms, text) for text in said]
        return said

    def forget(self, now_ms: int) -> None:
        """Forget what is too old."""
        if self._kept and min(source.until_ms for source in self._kept) <= now_ms:
            self._gone += [key for s in self._kept if s.until_ms <= now_ms for key in s.to_entries()]
            self._kept = [source for source in self._kept if source.until_ms > now_ms]
        self.began = [(at_ms, text) for at_ms, text in self.began if now_ms - at_ms < KEPT_MS]

    def changes(self, everything: bool) -> dict[str, bytes | None]:
        """Return what to store: all of it, or what has changed since `stored`; None: the entry is gone."""
        found: dict[str, bytes | None] = dict.fromkeys(self._gone)
        if everything:
            found["anew"] = json.dumps(self._anew).encode()
            for source in self._kept:
                found |= source.to_entries()
        return found

    def stored(self) -> None:
        """Take note that the changes are stored."""
        self._gone.clear()

    def restore(self, entries: Mapping[str, bytes]) -> None:
        """Restore what `changes` returned."""
        self._kept = [source for source in sources_of(entries, 0) if source.until_ms]
        self._anew = json.loads(entries.get("anew", b"{}"))


def _notes(
    new: Layout, sources: Sequence[Source], found: Mapping[str, Source], reasons: Mapping[str, str]
) -> list[str]:
    """Return what begins anew, or comes back, one sentence each."""
    said = [f"feature {name}: its windows start empty ({reason})" for name, reason in reasons.items()]
    usable = [source for source in sources if source.unusable(new) is None]
    if not usable or not found:
        return said
    said += [
        f"feature {name}: it goes on with the counts from before it was changed"
        for name, source in found.items()
        if source.until_ms
    ]
    current = usable[0].layout
    for name, ms in zip(new.window_names, new.windows_ms, strict=True):
        if ms in current.windows_ms:
            continue
        finer = [
            (other_ms, other)
            for other, other_ms in zip(current.window_names, current.windows_ms, strict=True)
            if (ms // SLICES) % (other_ms // SLICES) == 0
        ]
        if any(ms in source.layout.windows_ms for source in usable):
            said.append(f"window {name}: it goes on with the counts from before it was taken out")
        elif finer:
            said.append(f"window {name}: it is new, and starts with what window {max(finer)[1]} holds")
        else:
            said.append(f"window {name}: it is new, and starts empty")
    return said


def _kept(sources: Sequence[Source], new: Layout, reasons: Mapping[str, str], now_ms: int) -> list[Source]:
    """Return what to keep in case the change is taken back, newest first."""
    former = list(sources)
    if former and not former[0].until_ms:
        current = former.pop(0)
        if _loses(current.layout, new, reasons):
            former = [source for source in former if not source.layout.means_the_same(current.layout)]
            until_ms = max([now_ms + KEPT_MS, *(source.until_ms + 1 for source in former)])
            former.insert(0, replace(current, until_ms=until_ms))
    return former[:KEPT_CHANGES]


def _loses(old: Layout, new: Layout, reasons: Mapping[str, str]) -> bool:
    """Whether counts of `old` have no place in `new`."""
    names = {feature.name for feature in new.features} - reasons.keys()
    return (
        any(feature.name not in names for feature in old.features)
        or not set(old.windows_ms) <= set(new.windows_ms)
        or (old.by is not None and old.by != new.by)
    )
