"""What each column of a file is: a feature, a time, or something else that is not worth watching, with the reason.

`init` writes down what is decided here, and `compare` works by it, so that both see the same drift.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from kldrift.datafiles.columns import Column
from kldrift.datafiles.sample import Sample
from kldrift.offline.init.kinds import A_TIME, FEW_LEVELS, Guess, guess_feature
from kldrift.offline.init.times import TimeColumn, choose_lateness, is_calendar_date

#: Rank correlation with the row number from which numbers are a clock or a counter.
CLOCK_CORRELATION = 0.98


def guess_columns(
    sample: Sample, times: Sequence[TimeColumn], live: Mapping[str, Column] | None = None
) -> dict[str, Guess]:
    """Decide what each column of a file is, by its name.

    Parameters
    ----------
    times : the columns of times, the likeliest event time first
    live : the columns of the rows to compare, where they are known
    """
    scale = sample.n_rows / sample.n_looked
    why = {time.name: A_TIME for time in times}
    in_order = False
    if times and times[0].of_every_row:
        why[times[0].name] = "the time of a row, not part of its content"
        in_order = choose_lateness(times[0].ms, times[0].span_ms // 100) is not None
    guesses = {}
    for column in sample.columns:
        if column.name in why:
            guess = Guess(column.name, None, why[column.name])
        elif is_calendar_date(column):
            guess = Guess(column.name, None, f"dates written as YYYYMMDD: {A_TIME}")
        else:
            guess = guess_feature(column, scale, None if live is None else live.get(column.name))
            if in_order and guess.kind == "numeric" and _is_clock(column.values):
                guess = Guess(column.name, None, "it moves on with time, as a clock or a counter does")
        guesses[column.name] = guess
    return guesses


def _is_clock(values: pl.Series) -> bool:
    """Return whether the ranks of many levels follow the order of the rows (Spearman's correlation)."""
    present = values.drop_nulls()
    if present.len() < 100 or present.n_unique() <= FEW_LEVELS:
        return False
    ranks = present.cast(pl.Float64).rank().to_numpy()
    return bool(abs(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1]) >= CLOCK_CORRELATION)
