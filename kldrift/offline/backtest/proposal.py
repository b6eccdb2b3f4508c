"""From the bounds over a history to tolerances."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from kldrift.offline.backtest.alarms import Bounds, Tally
from kldrift.offline.backtest.outcome import WEEK_MS, Proposal, Rung, Target
from kldrift.records.snapshots import FeatureInfo

#: Tolerances that are always shown; nats.
LADDER = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

#: Tolerances that may be proposed, of two digits; the smallest is a mean shifted by 0.06 σ.
CANDIDATES = tuple(
    round(mantissa * 10.0**power, 6)
    for power in range(-3, 2)
    for mantissa in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    if mantissa * 10.0**power >= LADDER[0]
)

#: A feature that is in alarm for a larger share of the time is useless, however rarely its alarms begin.
MOST_IN_ALARM = 0.25

MONTH_MS = 365.25 / 12 * 86_400_000
_PERIODS = {"day": 86_400_000, "week": WEEK_MS, "month": MONTH_MS, "year": 12 * MONTH_MS}


def parse_target(text: str) -> Target | None:
    """Parse a target such as ``1/week`` or ``0.5/month``; None if the text is not one."""
    count, _, period = text.partition("/")
    try:
        n = float(count)
    except ValueError:
        return None
    length = _PERIODS.get(period.strip())
    if length is None or not 0 < n < float("inf"):
        return None
    return Target(f"{n:g}/{period.strip()}", n * WEEK_MS / length)


def survey(bounds: Bounds) -> dict[float, Tally]:
    """Count what each candidate would have raised as the tolerance of all features."""
    return {tolerance: bounds.tally(np.full(bounds.n_features, tolerance)) for tolerance in CANDIDATES}


def ladder(
    bounds: Bounds,
    surveyed: Mapping[float, Tally],
    features: Sequence[FeatureInfo],
    weeks: float,
    proposed: Rung | None,
) -> tuple[Rung, ...]:
    """Return a rung for each usual tolerance, the proposed one and the configured ones, in ascending order."""
    rungs = {t: rung(surveyed[t], t, weeks) for t in LADDER}
    if proposed is not None and proposed.tolerance is not None:
        rungs[proposed.tolerance] = proposed
    for word in ("warning", "critical"):
        own = np.array([getattr(info, word) for info in features])
        alike = bool((own == own[0]).all())
        rungs[float(np.median(own))] = rung(bounds.tally(own), float(own[0]) if alike else None, weeks, word)
    return tuple(made for _, made in sorted(rungs.items()))


def rung(tally: Tally, tolerance: float | None, weeks: float, configured: str = "") -> Rung:
    """Turn a tally into a rung."""
    return Rung(
        tolerance,
        configured,
        tally.pages,
        tally.pages / weeks,
        int(np.count_nonzero(tally.feature_alarms)),
        tally.in_alarm,
        float(tally.feature_in_alarm.max()),
        tuple(tally.feature_alarms.tolist()),
    )


def own_tolerances(
    surveyed: Mapping[float, Tally], n_features: int, target: Target, weeks: float
) -> list[float | None]:
    """Return the smallest tolerance of each feature that keeps it within its share of the target, 1/F."""

    def own(f: int) -> float | None:
        return smallest(lambda t: _met(surveyed[t], f, target.per_week / n_features, weeks))

    return [own(f) for f in range(n_features)]


def propose(
    bounds: Bounds,
    surveyed: Mapping[float, Tally],
    features: Sequence[FeatureInfo],
    target: Target,
    weeks: float,
    own: Sequence[float | None],
) -> Proposal:
    """Propose tolerances for the target: one for all features, and its own for each with more than its share."""
    most = max(features, key=lambda info: info.critical)
    if np.isnan(bounds.largest()).all():
        return Proposal(False, None, most.critical, (), None, {})
    warning = np.array([info.warning for info in features])
    configured = bounds.tally(warning)
    raised = {
        info.name: (tolerance, critical_beside(tolerance, info.warning, info.critical))
        for f, (info, tolerance) in enumerate(zip(features, own, strict=True))
        if tolerance is not None
        and tolerance > info.warning
        and not _met(configured, f, target.per_week / len(features), weeks)
    }
    longest = np.argsort(-configured.feature_in_alarm, kind="stable")
    standing = longest[configured.feature_in_alarm[longest] > MOST_IN_ALARM]
    others = None
    if 0 < standing.size < len(features):
        without = bounds.without(standing)
        part = replace(target, per_week=target.per_week * without.n_features / len(features))
        others = _common(survey(without), part, weeks)  # the rest is for the standing ones, at their own
    met = _all_met(configured, target, weeks)
    rung_of_all = _common(surveyed, target, weeks)
    shown = others or rung_of_all
    warned = most.warning if shown is None or shown.tolerance is None else shown.tolerance
    return Proposal(
        met,
        rung_of_all,
        critical_beside(warned, most.warning, most.critical),
        tuple(features[f].name for f in standing.tolist()),
        others,
        {} if met else raised,
    )


def _common(surveyed: Mapping[float, Tally], target: Target, weeks: float) -> Rung | None:
    """Find the smallest tolerance for all features that meets the target."""
    tolerance = smallest(lambda t: _all_met(surveyed[t], target, weeks))
    return None if tolerance is None else rung(surveyed[tolerance], tolerance, weeks)


def smallest(meets: Callable[[float], bool]) -> float | None:
    """Find the smallest candidate that meets a condition together with all larger ones.

    All larger ones, because fewer alarms may also be alarms that never end.
    """
    best = None
    for tolerance in reversed(CANDIDATES):
        if not meets(tolerance):
            break
        best = tolerance
    return best


def _all_met(tally: Tally, target: Target, weeks: float) -> bool:
    return tally.pages / weeks <= target.per_week and float(tally.feature_in_alarm.max()) <= MOST_IN_ALARM


def _met(tally: Tally, f: int, per_week: float, weeks: float) -> bool:
    return bool(tally.feature_pages[f] / weeks <= per_week and tally.feature_in_alarm[f] <= MOST_IN_ALARM)


def critical_beside(proposed: float, warning: float, critical: float) -> float:
    """Return the configured critical tolerance if it is well above the proposed warning, else keep their ratio."""
    return critical if critical >= 2 * proposed else float(f"{proposed * max(2.0, critical / warning):.2g}")
