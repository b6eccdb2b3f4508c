"""Categories that look new only because they are spelled otherwise than in the reference."""

from collections.abc import Iterable

from kldrift.records.categories import CategoryCodes, bare
from kldrift.records.kinds import MISSING, UNDERFLOW
from kldrift.records.snapshots import MonitorSnapshot

#: Minimum share of new values, and number of values, for a hint.
MIN_SHARE, MIN_VALUES = 0.95, 100

#: *unseen* is the second cell behind the categories.
_UNSEEN = UNDERFLOW + 1


def spelling_hint(monitor: MonitorSnapshot, f: int, w: int) -> str:
    """Return a sentence, without its full stop, on a feature whose values are nearly all new; else an empty text."""
    info = monitor.features[f]
    if not info.categories or not monitor.unseen_ratio[w, f] > 0:
        return ""
    counts = monitor.counts[w, monitor.offsets[f] : monitor.offsets[f + 1]]
    present, new = int(counts[:MISSING].sum()), int(counts[_UNSEEN])
    if present < MIN_VALUES or new < MIN_SHARE * present:
        return ""
    share = "None" if new == present else f"{100 * (1 - new / present):.2g} %"
    known = ", ".join(map(repr, info.categories[:3])) + (", …" if len(info.categories) > 3 else "")
    verb = "is" if new == present else "are"
    return (
        f"{share} of the values {verb} in the reference, which has {known}: check whether they are spelled differently"
    )


def same_but_for_spelling(texts: Iterable[str], categories: tuple[str, ...]) -> tuple[str, str] | None:
    """Return a text, and the category that differs from it in case, white space and punctuation only."""
    codes = CategoryCodes(categories, other=-1, missing=-1)
    known = {bare(category): category for category in reversed(categories) if bare(category)}
    for text in texts:
        if codes[text] < 0 and (category := known.get(bare(text))) is not None:
            return text, category
    return None
