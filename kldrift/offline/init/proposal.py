"""The whole starting configuration: features, time, windows, within what a daemon can carry."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kldrift.datafiles.sample import Sample
from kldrift.offline.init.columns import guess_columns
from kldrift.offline.init.kinds import Guess, named
from kldrift.offline.init.order import order_note
from kldrift.offline.init.times import LADDER, TimeColumn, choose_lateness, choose_windows, time_columns
from kldrift.records.kinds import Kind

#: Count the series of a monitor, given the number of features of each kind, of windows, and the divergences.
CountSeries = Callable[[Mapping[Kind, int], int, Sequence[str]], int]

DEFAULT_WINDOWS = ["5m", "1h", "24h"]
#: A reference with fewer rows supports no verdict.
FEW_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write into the configuration.

    Parameters
    ----------
    timestamp : field and unit; None where rows count when they arrive
    timestamp_why, lateness_why, windows_why, divergences_why : the reasons, one line each
    lateness : a duration
    left_out : columns that are not watched, and why
    notes : what the user should know
    """

    sample: Sample
    features: tuple[Guess, ...]
    left_out: tuple[Guess, ...]
    timestamp: tuple[str, str] | None
    timestamp_why: str
    lateness: str
    lateness_why: str
    windows: tuple[str, ...]
    windows_why: str
    divergences: tuple[str, ...] = ("kl", "psi")
    divergences_why: str = "kl is always there; psi is one of seven others"
    notes: tuple[str, ...] = ()


def make_plan(
    sample: Sample,
    count_series: CountSeries,
    max_series: int,
    live_names: Collection[str] | None = None,
    targets: Collection[str] = (),
) -> Plan:
    """Guess what to watch in a file, and how.

    Parameters
    ----------
    count_series, max_series : limit of exported series; beyond it first windows, then features are left out
    live_names : fields of the live rows, if known; others cannot be watched
    targets : columns that live rows do not have, since the model predicts them
    """
    live = [
        column
        for column in sample.columns
        if column.name not in targets and (live_names is None or column.name in live_names)
    ]
    times = time_columns(sample.columns)
    time = next((t for t in times if t.of_every_row and (live_names is None or t.name in live_names)), None)
    rate_of = time or (times[0] if times else None)
    watchable = {column.name for column in live}
    guesses = [
        guess if guess.name in watchable else Guess(guess.name, None, _not_live(guess.name in targets))
        for guess in guess_columns(sample, times).values()
    ]
    needed = max((guess.needed for guess in guesses if guess.kind is not None), default=0)
    windows, windows_why = list(DEFAULT_WINDOWS), "the rate of rows is unknown: there is no time in the data"
    if rate_of is not None and rate_of.span_ms > 0:
        windows, windows_why = choose_windows(sample.n_rows, rate_of.span_ms, needed)
    timestamp, timestamp_why, lateness = _event_time(sample, time, windows)
    if time is None and times and times[0].of_every_row:
        timestamp_why = "the live rows have no field that holds a time: they count when they arrive"
    watched = tuple(guess for guess in guesses if guess.kind is not None)
    note = order_note(sample, watched) if timestamp is None else None
    plan = Plan(
        sample,
        watched,
        tuple(guess for guess in guesses if guess.kind is None),
        timestamp,
        timestamp_why,
        *(lateness or ("1m", "")),
        tuple(windows),
        windows_why,
        notes=(*_notes(sample), *([note] if note else [])),
    )
    return _within(plan, count_series, max_series)


def _not_live(is_target: bool) -> str:
    if is_target:
        return "what the model predicts: it comes later than the row, or never; watch it by a monitor of its own"
    return "the live rows have no such field"


def _notes(sample: Sample) -> tuple[str, ...]:
    notes = list(sample.notes)
    if sample.n_malformed:
        notes.append(f"{sample.n_malformed:,} of the lines looked at are not JSON objects")
    if sample.n_rows < FEW_ROWS:
        notes.append(f"{sample.n_rows:,} rows are few for a reference: it may support no verdict on some features")
    return tuple(notes)


def _event_time(
    sample: Sample, time: TimeColumn | None, windows: Sequence[str]
) -> tuple[tuple[str, str] | None, str, tuple[str, str] | None]:
    """Choose the timestamp and the allowed lateness, each with its reason."""
    if time is None:
        return None, "no column holds a time, so rows count when they arrive", None
    lateness = choose_lateness(time.ms, dict(LADDER)[windows[0]])
    if lateness is None:
        where = f"{named(time.name)} is a time ({time.unit}), but the rows are not in that order"
        return None, f"{where}, so they count when they arrive", None
    why = "ISO 8601" if time.unit == "iso8601" else f"{time.unit} since 1970"
    why += f", {_day(time.ms.min())} to {_day(time.ms.max())}; a row without it is rejected"
    if time.n_unreadable:
        why += f", as are {time.n_unreadable:,} of {sample.n_looked:,}"
    return (time.name, time.unit), why, lateness


def _day(ms: int) -> str:
    return str(np.datetime64(int(ms), "ms").astype("datetime64[D]"))


def _within(plan: Plan, count_series: CountSeries, max_series: int) -> Plan:
    """Reduce divergences, then windows, then features, until a scrape carries all of them."""
    kinds: Counter[Kind] = Counter(guess.kind for guess in plan.features if guess.kind is not None)
    why = f"only one, because {len(plan.features):,} features make many series"
    for divergences, windows in (
        (plan.divergences, plan.windows),
        (("kl",), plan.windows),
        (("kl",), plan.windows[:1]),
    ):
        if count_series(kinds, len(windows), divergences) <= max_series:
            break
    fewer = replace(plan, divergences=divergences, windows=windows)
    if divergences != plan.divergences:
        fewer = replace(fewer, divergences_why=why)
    if windows != plan.windows:
        fewer = replace(fewer, windows_why=f"{why}; {plan.windows_why}")
    series = count_series(kinds, len(windows), divergences)
    if series <= max_series:
        return fewer
    kept = int(len(plan.features) * max_series / series)
    while (
        count_series(Counter(guess.kind for guess in plan.features[:kept] if guess.kind), len(windows), divergences)
        > max_series
    ):
        kept -= 1
    note = (
        f"the first {kept:,} of {len(plan.features):,} features are watched: a scrape carries {max_series:,} series;"
        " write one configuration for each part of the columns to watch them all"
    )
    return replace(fewer, features=plan.features[:kept], notes=(*plan.notes, note))
