"""The smallest drift that a reference can show (README, section 4.10)."""

import math
from dataclasses import dataclass, replace

import numpy as np

from kldrift.records.kinds import KINDS, MIN_DEGREES_OF_FREEDOM, SAMPLES_PER_BIN
from kldrift.records.snapshots import FeatureInfo, MonitorSnapshot, Spread, z_quantile
from kldrift.records.types import FloatArray

#: Shifts that are tried, in standard deviations: the largest leaves nothing where it was.
_SIZES: FloatArray = np.geomspace(1e-4, 12.0, 400)


@dataclass(frozen=True, slots=True)
class SmallestDrift:
    """The smallest shift of a feature that is certain to exceed a tolerance.

    Parameters
    ----------
    nats : its divergence; infinite where no shift is certain, however large, so that none can alarm
    sigma : the shift, in standard deviations of a normally distributed feature; of a vector, along one dimension; NaN
        for categories
    """

    nats: float
    sigma: float


CANNOT_ALARM = SmallestDrift(math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class _Shifts:
    """The divergences K of shifts by `_SIZES`, and their V and W as in `kernels.bounds`; (S,) each."""

    kl: FloatArray
    live_variance: FloatArray
    reference_variance: FloatArray


def smallest_at(
    info: FeatureInfo, rows: float, confidence: float, n_windows: int
) -> tuple[SmallestDrift, SmallestDrift] | None:
    """Return the smallest drifts that a window of `rows` samples can show; see `smallest_drifts`.

    With infinitely many rows they are those that the reference can show at all. None where that is unknown, or no
    matter of the reference: the same window some time before has as many rows.
    """
    if info.offset_ms and math.isinf(rows):
        return None
    m = rows if info.offset_ms else info.reference_rows
    return smallest_drifts(info, rows, m, z_quantile(confidence, n_windows))


def smallest_in_window(monitor: MonitorSnapshot, f: int, w: int) -> tuple[SmallestDrift, SmallestDrift] | None:
    """Return the smallest drifts that a window can show with the samples that it holds; None where that is unknown."""
    z = z_quantile(monitor.confidence, len(monitor.windows))
    return smallest_drifts(monitor.features[f], monitor.judged_samples(w, f), float(monitor.reference_rows[w, f]), z)


def smallest_drifts(
    info: FeatureInfo, rows: float, reference_rows: float, z: float
) -> tuple[SmallestDrift, SmallestDrift] | None:
    """Return the smallest drifts that exceed the tolerances, warning and critical, in a window of `rows` samples.

    That is the shift whose lower bound is above the tolerance in half of all windows: with the statistic T at its mean,
    k + 2 N D. Values move by that many standard deviations of their normal scores, up or down, whichever shows less;
    among categories the frequent ones lose to the rare ones, or gain from them. Missing values, and others without a
    bin, keep their share.

    Parameters
    ----------
    rows : n; infinite for a window of any size, which leaves only the reference to be too short
    reference_rows : m of that window; infinite where the reference is known exactly
    z : see `kernels.bounds.bound_counts`

    Returns
    -------
    None where it is unknown: the reference supports no verdict, the window is too small for one, or there is only one
    bin, in which nothing can shift
    """
    spread = info.spread
    if spread is None or info.problem is not None or not reference_rows > 0:
        return None
    if KINDS[info.kind].histogram:
        n_own = len(info.categories or ()) if info.edges is None else info.edges.size - 1
        q = info.reference_probabilities[spread.counted] / info.reference_probabilities[spread.counted].sum()
        if n_own < 2:
            return None
        dof, shifts = q.size - 1.0, [_shifted_cells(q, n_own, sizes) for sizes in (_SIZES, -_SIZES)]
    else:
        dof, shifts = spread.dof, [_SHIFTED_VECTORS]
        reference_rows = math.inf if info.reference_counts is None else float(info.reference_counts[0])
    if rows < SAMPLES_PER_BIN * (dof + 1):
        return None
    warning, critical = (
        max((_smallest(each, tolerance, dof, spread, rows, reference_rows, z) for each in shifts), key=_nats)
        for tolerance in (info.warning, info.critical)
    )
    if info.edges is None and spread.dof == 0:  # categories have no distance
        warning, critical = replace(warning, sigma=math.nan), replace(critical, sigma=math.nan)
    return warning, critical


def _nats(drift: SmallestDrift) -> float:
    return drift.nats


def _smallest(
    shifts: _Shifts, tolerance: float, dof: float, spread: Spread, rows: float, reference_rows: float, z: float
) -> SmallestDrift:
    """Return the first of the shifts whose lower bound is above the tolerance, interpolated between two of them."""
    phi, ratio = (float(found) for found in spread.at(rows))
    inverse = phi / rows + float(spread.phi.max()) / reference_rows  # 1/N
    if inverse == 0:  # nothing is left to chance
        excess = shifts.kl - tolerance
    else:
        independent = 1 / (1 / rows + 1 / reference_rows)
        matched = (shifts.live_variance / rows + shifts.reference_variance / reference_rows) * independent
        matched /= 2 * shifts.kl
        dispersion = ratio * np.maximum(spread.concentration, matched) if spread.dof else np.maximum(ratio, matched)
        score = _normal_score(
            (dof + 2 * shifts.kl / inverse) / dispersion,
            np.maximum(dof / dispersion, MIN_DEGREES_OF_FREEDOM),
            2 * tolerance / inverse / dispersion,
        )
        excess = score - z
    certain = np.flatnonzero(excess > 0)
    if certain.size == 0:
        return CANNOT_ALARM
    last = max(1, int(certain[0]))
    near = slice(last - 1, last + 1)
    kl, sigma = (float(np.interp(0.0, excess[near], values[near])) for values in (shifts.kl, _SIZES))
    return SmallestDrift(kl, sigma)


def _normal_score(x: FloatArray, dof: FloatArray, noncentrality: FloatArray) -> FloatArray:
    """Return what `kernels.noncentral.normal_score` does, of arrays: `check` has no need to compile kernels."""
    mean, double = dof + noncentrality, dof + 2 * noncentrality
    h = 1 - (2 / 3) * (mean / double) * ((dof + 3 * noncentrality) / double)
    p = double / mean**2
    m = (h - 1) * (1 - 3 * h)
    center = 1 + h * p * (h - 1 - 0.5 * (2 - h) * m * p)
    return np.asarray(((x / mean) ** h - center) / (h * np.sqrt(2 * p) * (1 + 0.5 * m * p)))


def _shifted_cells(q: FloatArray, n_own: int, sizes: FloatArray) -> _Shifts:
    """Shift the values in the `n_own` bins, which come first: one from score a to b gets Phi(b - x) - Phi(a - x)."""
    from scipy.special import ndtr, ndtri

    n_own, q = int(np.count_nonzero(q[:n_own])), q[q > 0]  # without smoothing there are impossible cells
    own = q[:n_own]
    inner = ndtri(np.cumsum(own / own.sum())[:-1])
    below = ndtr(inner - sizes[:, np.newaxis])
    p = np.repeat(q[np.newaxis], sizes.size, axis=0)
    p[:, :n_own] = own.sum() * np.diff(below, axis=1, prepend=0.0, append=1.0)
    log = np.log(np.where(p > 0, p, q) / q)
    kl = (p * log).sum(axis=1)
    return _Shifts(np.maximum(kl, 1e-14), (p * log**2).sum(axis=1) - kl**2, ((p - q) ** 2 / q).sum(axis=1))


#: One dimension moves by the size: V = a^2 and W = a^2 + a^4/2, see `kinds.gaussian_bounds`.
_SHIFTED_VECTORS = _Shifts(_SIZES**2 / 2, _SIZES**2, _SIZES**2 + _SIZES**4 / 2)
