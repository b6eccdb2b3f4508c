"""Which columns of two files are compared, and what became of the others."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import polars as pl

from kldrift.datafiles.columns import NOTHING, Column, Holding
from kldrift.datafiles.sample import Sample
from kldrift.offline.init.columns import guess_columns
from kldrift.offline.init.kinds import guess_feature, shown
from kldrift.offline.init.times import time_columns
from kldrift.records.categories import canonical
from kldrift.records.kinds import KINDS
from kldrift.records.specs import FeatureSpec, MonitorSpec

_GONE, _NEW = "gone from the live data", "new in the live data"
#: Two columns have the same distribution if their distribution functions (of categories: their shares) differ by less.
_SAME_DISTRIBUTION = 0.05
#: With fewer values on either side, such a difference says nothing.
_FEW_VALUES = 500
#: Values of a column that are looked at for that, and columns on either side.
_MOST_VALUES, _MOST_COLUMNS = 5_000, 50
_BOOLEANS = ("true", "True", "TRUE", "false", "False", "FALSE")
#: Values of a constant's live data that are named.
EXAMPLES = 3
_TIMES = Holding(None, "times")
_TIMES_OF_DAY = "times of day, which have no bins; make numbers of them"


@dataclass(frozen=True, slots=True)
class Constant:
    """A feature that never varies in the reference, so that it has no divergence: any other value is drift.

    Parameters
    ----------
    why : the reason for which `init` would leave it out
    others : some other values of the live data
    """

    why: str
    others: tuple[str, ...] = ()


@dataclass(slots=True)
class Matched:
    """The columns of two files, each under one of these.

    Parameters
    ----------
    features : to compare
    constants : features that never vary in the reference, and what else the live data has
    unseen : what to say of a feature that no row of the live sample had, if none of the others has it either
    changed : columns of the reference that are gone, or of another type: schema drift, with its words
    left_out : why another column is not compared
    """

    features: list[FeatureSpec] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)
    changed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def match_columns(reference: Sample, live: Sample, *, every_name: bool) -> Matched:
    """Match every column of the reference with one of the live data, and decide as `init` does what to compare.

    Parameters
    ----------
    every_name : whether the live sample has every column of its file, and not only those of the rows looked at
    """
    ours, theirs = ({column.name: column for column in sample.columns} for sample in (reference, live))
    times = time_columns(reference.columns)
    live_times = {time.name for time in time_columns(live.columns)}
    our_times = {time.name for time in times}
    guesses = guess_columns(reference, times, theirs)
    new = [name for name in theirs if name not in ours]
    renamed = _Renamed(ours, theirs, new)
    scale = reference.n_rows / reference.n_looked
    matched = Matched()
    for name, column in ours.items():
        guess, other = guesses[name], theirs.get(name)
        feature = guess.feature or guess.constant
        if column.holds == NOTHING:
            matched.left_out[name] = "no values in the reference"
            continue
        unread = next((each for each in (column, other) if each is not None and each.unread), None)
        if unread is not None and unread.fault is not None:
            matched.left_out[name] = unread.fault if unread is column else f"in the live data {unread.fault}"
            continue
        if other is not None and _are_times_of_day(column, other):
            matched.left_out[name] = _TIMES_OF_DAY
            continue
        if other is None:
            gone = f"{_GONE}{renamed.hint(name)}"
            if every_name or feature is None:
                matched.changed[name] = gone
                continue
            matched.unseen[name] = gone
        elif (change := _change(column, other, name in our_times, name in live_times)) is not None:
            feature = None if name in our_times else _as_flags(column, other) or _as_text(column, other, scale)
            if feature is None:
                matched.changed[name] = change
                continue
        elif feature is None:
            if other.holds == NOTHING:
                matched.changed[name] = "no values in the live data"
            else:
                matched.left_out[name] = guess.why
            continue
        if guess.constant is not None:
            matched.constants[name] = Constant(guess.why, () if other is None else _others(column, other))
        matched.features.append(feature)
    matched.left_out |= dict.fromkeys(new, _NEW)
    return matched


def _are_times_of_day(ours: Column, theirs: Column) -> bool:
    """Return whether a column holds times of day, which have a type in some formats and are text in the others."""
    columns = sorted((ours, theirs), key=lambda column: column.values.dtype != pl.Time)
    texts = columns[1].values.drop_nulls()
    if columns[0].values.dtype != pl.Time:
        return False
    return texts.dtype == pl.Time or (texts.dtype == pl.String and texts.str.contains(r"^[0-9]{2}:[0-9]{2}").all())


def _change(ours: Column, theirs: Column, is_time: bool, becomes_time: bool) -> str | None:
    """Return how the type of a column changed, or None. What has no values is of any type."""
    a, b = _TIMES if is_time else ours.holds, theirs.holds
    if b == NOTHING or (a.kind is None and b.kind is None):
        return None
    if is_time:
        # a number that is a time is one by its values, which may be further apart in the live data
        if becomes_time or (b.kind == "numeric" and ours.values.dtype.is_numeric()):
            return None
        return f"{a.words} in the reference, {b.words} in the live data"
    if (a.kind, a.dimensions) == (b.kind, b.dimensions):
        return None
    return f"{a.words} in the reference, {_TIMES.words if becomes_time else b.words} in the live data"


def _others(ours: Column, theirs: Column) -> tuple[str, ...]:
    """Return the most frequent live values of a column that are not the only one of the reference."""
    known = set(map(shown, ours.values.head(1).to_list()))
    counts = theirs.values.drop_nulls().value_counts(sort=True, name="n")
    texts = dict.fromkeys(map(shown, counts[counts.columns[0]].head(EXAMPLES + 1).to_list()))
    return tuple(text for text in texts if text not in known)[:EXAMPLES]


def _as_flags(ours: Column, theirs: Column) -> FeatureSpec | None:
    """Return the feature of a column that is booleans in one file, and 0 and 1 in the other."""
    for booleans, numbers in ((ours, theirs), (theirs, ours)):
        if numbers.holds.kind == "numeric" and not numbers.n_invalid and _are_booleans(booleans):
            digits = numbers.values.drop_nulls().cast(pl.Float64).unique().to_list()
            return FeatureSpec(ours.name, "categorical") if set(digits) <= {0, 1} else None
    return None


def _are_booleans(column: Column) -> bool:
    if column.values.dtype != pl.String:
        return column.values.dtype == pl.Boolean
    texts = column.values.drop_nulls().unique().head(len(_BOOLEANS) + 1)
    return set(map(canonical, texts.to_list())) <= {"true", "false"}


def _as_text(ours: Column, theirs: Column, scale: float) -> FeatureSpec | None:
    """Return the feature of a column that is text in one file, and in the other a cell that looks like a number.

    CSV has no types: 10115 is a number there, and in Parquet perhaps a text.
    """
    texts = [column.values if column.cells is None else column.cells for column in (ours, theirs)]
    if (ours.cells is None and theirs.cells is None) or {text.dtype for text in texts} != {pl.String()}:
        return None
    return guess_feature(Column(ours.name, texts[0]), scale).feature


def match_features(
    reference: Sequence[str],
    live: Sequence[str],
    given: MonitorSpec,
    *,
    every_name: bool,
    unreadable: Mapping[str, str],
) -> Matched:
    """Match the features of a monitor, whatever the columns hold: a value of another type counts as invalid.

    Parameters
    ----------
    reference, live : the columns of the files
    every_name : whether those of the live data are all that it has
    unreadable : why columns of either file cannot be read
    """
    matched = Matched()
    wanted = {feature.name for feature in given.features}
    free = [name for name in live if name not in wanted]
    for feature in given.features:
        name = feature.name
        if against := KINDS[feature.kind].always_against:
            matched.left_out[name] = f"a {feature.kind} is compared with {against}, not with a file"
            continue
        if name in unreadable:
            matched.left_out[name] = unreadable[name]
            continue
        if feature.of == "age":
            matched.left_out[name] = "an age counts from the time of the row, which is not compared; see `backtest`"
            continue
        if name not in reference:
            matched.left_out[name] = f"not in the reference{'' if name in live else ' nor in the live data'}"
            continue
        if name not in live:
            near = _near(name, free)
            gone = _GONE + ("" if near is None else f"; did you mean {near}?")
            if every_name:
                matched.changed[name] = gone
                continue
            matched.unseen[name] = gone
        matched.features.append(replace(feature, reference=None))
    return matched


def is_of_one(why: str) -> bool:
    """Return whether a reason says that only one of the files has a column."""
    return why.startswith((_GONE, _NEW))


# --- columns that may have another name now ----------------------------------------------------------


def _near(name: str, others: Collection[str]) -> str | None:
    """Return the most similar of some names, whatever the case of their letters."""
    folded = {other.casefold(): other for other in others}
    found = difflib.get_close_matches(name.casefold(), folded, n=1)
    return folded[found[0]] if found else None


class _Renamed:
    """Finds the new column that a column of the reference may have become: by its name, or by its distribution."""

    def __init__(self, ours: Mapping[str, Column], theirs: Mapping[str, Column], new: Sequence[str]) -> None:
        self._ours, self._new = ours, [theirs[name] for name in new]
        self._n_asked = 0

    def hint(self, name: str) -> str:
        """Return a question to add to what is said of a column that is gone; empty without an idea."""
        holds = self._ours[name].holds
        alike = [
            column.name
            for column in self._new
            if (column.holds.kind, column.holds.dimensions) == (holds.kind, holds.dimensions)
        ]
        near = _near(name, alike)
        if near is not None:
            return f"; did you mean {near}, which is new?"
        self._n_asked += 1
        values = _looked_at(self._ours[name]) if self._n_asked <= _MOST_COLUMNS else None
        distances = [] if values is None else [(_distance(values, other), name) for name, other in self._of_live]
        distance, other = min(distances, default=(1.0, ""))
        if distance >= _SAME_DISTRIBUTION:
            return ""
        return f"; did you mean {other}, which is new and has the same distribution?"

    @cached_property
    def _of_live(self) -> list[tuple[str, pl.Series]]:
        looked_at = ((column.name, _looked_at(column)) for column in self._new[:_MOST_COLUMNS])
        return [(name, values) for name, values in looked_at if values is not None]


def _distance(ours: pl.Series, theirs: pl.Series) -> float:
    """Return how far two distributions are apart, from 0 to 1; those of different kinds are as far as can be."""
    if ours.dtype != theirs.dtype:
        return 1.0
    return _ks_distance(ours, theirs) if ours.dtype == pl.Float64 else _share_distance(ours, theirs)


def _looked_at(column: Column) -> pl.Series | None:
    """Return some values of a column from all over it, sorted Float64 or String; None where they say nothing."""
    if column.holds.kind not in ("numeric", "categorical"):
        return None
    present = column.values.drop_nulls()
    if len(present) < _FEW_VALUES:
        return None
    present = present.gather_every(-(-len(present) // _MOST_VALUES))
    values = present.cast(pl.Float64).sort() if column.holds.kind == "numeric" else present.cast(pl.String)
    return values if values.n_unique() > 1 else None


def _ks_distance(a: pl.Series, b: pl.Series) -> float:
    """Return the largest difference of two empirical distribution functions."""
    x, y = a.to_numpy(), b.to_numpy()
    at = np.concatenate([x, y])
    shares = np.searchsorted(x, at, side="right") / x.size - np.searchsorted(y, at, side="right") / y.size
    return float(np.abs(shares).max())


def _share_distance(a: pl.Series, b: pl.Series) -> float:
    """Return the total variation of the shares of two columns of categories."""
    shares: dict[str, float] = {}
    for series, sign in ((a, 1), (b, -1)):
        for text, n in zip(*series.value_counts(name="n").to_dict(as_series=False).values(), strict=True):
            shares[text] = shares.get(text, 0.0) + sign * n / len(series)
    return sum(map(abs, shares.values())) / 2
