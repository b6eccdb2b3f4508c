"""Alarms are those that Prometheus would raise from the shipped rule."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kldrift.offline.backtest.alarms import Bounds, episodes
from kldrift.offline.backtest.outcome import Proposal, Target
from kldrift.offline.backtest.proposal import (
    CANDIDATES,
    LADDER,
    MOST_IN_ALARM,
    own_tolerances,
    parse_target,
    propose,
    smallest,
    survey,
)
from kldrift.records.snapshots import FeatureInfo, Track
from kldrift.records.types import Float32Array, IntArray

SECOND = 1000
#: Prometheus evaluates so often; every length below is a multiple.
TICK = 10 * SECOND


def prometheus(beyond: list[bool], at_ms: list[int], every_ms: int) -> list[tuple[int, int]]:
    """The rule with `for: 1m` and `keep_firing_for: 5m`, tick by tick: first and last step of each alarm.

    A figure stands until the next step; between steps that are apart there is none.
    """
    alarms: list[tuple[int, int]] = []
    pending: int | None = None
    firing: int | None = None
    quiet: int | None = None
    last = first = -1
    # ten minutes on, so that the last alarm resolves
    for now in range(at_ms[0], at_ms[-1] + every_ms + 600 * SECOND, TICK):
        step = next((i for i, at in enumerate(at_ms) if at <= now < at + every_ms), None)
        if step is not None and beyond[step]:
            quiet = None
            if pending is None:
                pending, first = now, (first if firing is not None else step)
            last = step
            if firing is None and now - pending >= 60 * SECOND:
                firing = now
        else:
            pending = None
            if firing is not None:
                quiet = now if quiet is None else quiet
                if now - quiet >= 300 * SECOND:
                    alarms.append((first, last))
                    firing = quiet = None
    return alarms


@settings(deadline=None)
@given(
    st.lists(st.booleans(), min_size=1, max_size=40),
    st.sampled_from([10, 20, 30, 60, 70, 120, 300, 310, 600]),
    st.lists(st.tuples(st.integers(0, 39), st.integers(1, 40)), max_size=3),
)
def test_alarms_are_those_of_the_rule_tick_by_tick(
    beyond: list[bool], every: int, jumps: list[tuple[int, int]]
) -> None:
    steps = np.arange(len(beyond))
    for place, length in jumps:  # a gap in the rows: steps that were not evaluated
        steps[place:] += length
    at_ms = steps * every * SECOND
    found = episodes(np.array(beyond), at_ms, every * SECOND)
    expected = prometheus(beyond, at_ms.tolist(), every * SECOND)
    assert list(zip(found.starts.tolist(), (found.stops - 1).tolist(), strict=True)) == expected


def test_a_minute_is_not_yet_an_alarm_and_five_do_not_end_one() -> None:
    #   at 10 s a step:  6 above | 30 within | 7 above | 30 within | 1 above | 31 within | 6 above
    runs = [(True, 6), (False, 30), (True, 7), (False, 30), (True, 1), (False, 31), (True, 6)]
    beyond = np.concatenate([np.full(n, value) for value, n in runs])
    found = episodes(beyond, np.arange(beyond.size) * 10 * SECOND, 10 * SECOND)
    assert found.starts.tolist() == [36]
    assert found.stops.tolist() == [36 + 7 + 30 + 1]


def test_each_stretch_of_long_steps_is_an_alarm() -> None:
    beyond = np.array([True, False, True, True, False, True])
    found = episodes(beyond, np.arange(6) * 3_600 * SECOND, 3_600 * SECOND)
    assert found.starts.tolist() == [0, 2, 5]
    assert found.stops.tolist() == [1, 4, 6]


# --- over series and features ------------------------------------------------------------------------

HOUR = 3_600 * SECOND


def bounds(*features: list[list[float]]) -> Bounds:
    """A feature is a list of series."""
    series: list[Float32Array] = [np.array(one, dtype=np.float32).T for one in features]
    at_ms: IntArray = np.arange(len(series[0])) * HOUR
    return Bounds(at_ms, HOUR, series)


def test_alarms_that_begin_together_are_one_page_and_windows_of_a_feature_one_alarm() -> None:
    one = bounds([[0, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0]], [[0, 1, 0, 0, 1, np.nan]])
    tally = one.tally(np.array([0.5, 0.5]))
    assert tally.pages == 3  # at 1 (both features), 2 (the second window), 4
    assert tally.feature_pages.tolist() == [2, 2]
    assert tally.feature_alarms.tolist() == [1, 2]
    assert tally.feature_in_alarm.tolist() == [3 / 6, 2 / 6]
    assert tally.in_alarm == 4 / 6


def test_segments_raise_alarms_of_their_own() -> None:
    at_ms = np.arange(4) * HOUR
    none = np.zeros((4, 1, 1), dtype=np.float32)
    drifting = none.copy()
    drifting[2] = 1
    found = Bounds.of({None: Track(at_ms, none, none, none), "de": Track(at_ms, drifting, drifting, drifting)}, HOUR)
    assert found.tally(np.array([0.5])).pages == 1
    assert found.largest().tolist() == [1]


values = st.one_of(st.floats(0, 30, width=32), st.just(float("nan")))
#: Three features of two windows each.
series = st.integers(1, 30).flatmap(
    lambda n: st.lists(
        st.lists(st.lists(values, min_size=n, max_size=n), min_size=2, max_size=2), min_size=3, max_size=3
    )
)


@settings(deadline=None)
@given(series)
def test_time_in_alarm_only_falls_with_the_tolerance(given_series: list[list[list[float]]]) -> None:
    one = bounds(*given_series)
    tallies = [one.tally(np.full(one.n_features, tolerance)) for tolerance in LADDER]
    for lower, higher in pairwise(tallies):
        assert (higher.feature_in_alarm <= lower.feature_in_alarm).all()
        assert higher.in_alarm <= lower.in_alarm
        assert ((lower.feature_alarms > 0) == (lower.feature_in_alarm > 0)).all()
        assert lower.pages <= lower.feature_pages.sum()
        assert (lower.feature_alarms <= lower.feature_pages).all()


def info(name: str, warning: float = 0.01, critical: float = 0.1) -> FeatureInfo:
    none = np.empty(0)
    return FeatureInfo(name, "numeric", none, None, (), None, none, 1.0, 0, "", "", warning, critical)


FEATURES = (info("a"), info("b"), info("c"))


def proposed(one: Bounds, target: Target, weeks: float) -> Proposal:
    surveyed = survey(one)
    own = own_tolerances(surveyed, one.n_features, target, weeks)
    return propose(one, surveyed, FEATURES[: one.n_features], target, weeks, own)


@settings(deadline=None)
@given(series, st.sampled_from([0.5, 5, 50]))
def test_what_is_proposed_meets_the_target_and_so_does_every_larger_tolerance(
    given_series: list[list[list[float]]], per_week: float
) -> None:
    one = bounds(*given_series)
    weeks = len(given_series[0][0]) / (7 * 24)
    surveyed = survey(one)
    found = proposed(one, Target("", per_week), weeks)

    def meets(tolerance: float) -> bool:
        tally = surveyed[tolerance]
        return tally.pages <= per_week * weeks and float(tally.feature_in_alarm.max()) <= MOST_IN_ALARM

    if np.isnan(one.largest()).all():
        assert found.rung is None
        assert not found.met
    elif found.rung is None:
        assert not meets(CANDIDATES[-1])
    else:
        smallest_one = found.rung.tolerance
        assert smallest_one is not None
        assert all(meets(tolerance) for tolerance in CANDIDATES if tolerance >= smallest_one)
        assert smallest_one == CANDIDATES[0] or not meets(CANDIDATES[CANDIDATES.index(smallest_one) - 1])
        assert found.critical >= 2 * smallest_one or found.others is not None


def test_a_lasting_change_is_told_apart_from_what_comes_and_goes() -> None:
    n = 100
    lasting = np.where(np.arange(n) < 40, 0.0, 3.0).tolist()
    noisy = np.where(np.arange(n) % 20 == 7, 0.15, 0.0).tolist()
    one = bounds([lasting], [noisy], [[0.0] * n])
    target = Target("", 0.1)
    found = proposed(one, target, n / (7 * 24))
    assert found.standing == ("a",)
    assert [rung and rung.tolerance for rung in (found.rung, found.others)] == [3, 0.15]
    assert list(found.raised["a"]) == [3, 30]
    assert not found.met


def test_a_tolerance_that_is_always_exceeded_is_not_proposed_for_its_single_alarm() -> None:
    one = bounds([[0.35] * 50])
    found = proposed(one, Target("", 1000), 1)
    assert found.rung is not None
    assert found.rung.tolerance == 0.4


def test_targets_are_read() -> None:
    month = parse_target("1/month")
    assert month is not None
    assert abs(month.per_week - 12 / 365.25 * 7) < 1e-12
    assert parse_target("0.5/week") == Target("0.5/week", 0.5)
    assert parse_target("2/day") == Target("2/day", 14)
    assert [parse_target(text) for text in ("", "1", "x/week", "1/fortnight", "0/week", "-1/week", "nan/week")] == [
        None
    ] * 7


def test_the_smallest_is_below_no_gap() -> None:
    assert smallest(lambda t: t != 0.05) == 0.06
    assert smallest(lambda _: False) is None
