"""Rules by which a tick is an alarm: kldrift's beside those that are in use elsewhere."""

from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
from scipy.stats import chi2, kstwo

from kldrift.records.types import FloatArray, IntArray
from tests.evidence.monitored import UNSMOOTHED, BoolArray, Monitored, sliding
from tests.evidence.sample_distances import kolmogorov_smirnov, ranks_in, wasserstein

PANE = 100
#: kldrift's windows, in panes.
WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
#: Pane of the first tick: every window is full.
FIRST = WINDOWS[-1]
#: Of a tick, shared by the windows.
ALPHA = 1e-4
#: 0.005 is what the prototype was measured at, 0.01 what is shipped.
TOLERANCES = (0.005, 0.01)
#: Samples in the windows of the raw rules.
RAW_WINDOWS = (200, 1000, 10_000)
SIGNIFICANCE = 0.05
#: Below, Evidently takes a Kolmogorov-Smirnov test instead of a distance.
EVIDENTLY_SMALL_REFERENCE = 1000

#: Of each rule, whether each tick of each repetition is an alarm, (T, R).
Alarms = dict[str, BoolArray]


@dataclass(frozen=True)
class Values:
    """The samples of R repetitions: the reference (R, m), the stream in panes (R, n_panes, PANE)."""

    reference: FloatArray
    panes: FloatArray


def kldrift_rule(monitored: Monitored, panes: IntArray) -> Alarms:
    """An alarm where the lower bound of any window that is decided is above the tolerance."""
    z_quantile = NormalDist().inv_cdf(1 - ALPHA / len(WINDOWS))
    highest = np.zeros((len(panes) - FIRST, len(monitored.references)))
    for length in WINDOWS:
        counts = sliding(panes, length, FIRST)
        found = monitored.bounds(counts, z_quantile)
        lower = np.where(monitored.ready(counts, found["n_bins"]), found["lower"], 0.0)
        np.maximum(highest, lower, out=highest)
    return {f"**kldrift**, lower bound > {tolerance:g}": highest > tolerance for tolerance in TOLERANCES}


def raw_rules(monitored: Monitored, panes: IntArray) -> Alarms:
    """Divergences of one window against a fixed number, on the same bins and with the same smoothing as ours.

    The G-test takes the reference as exact, 2 n KL against chi-squared of B - 1 degrees of freedom.
    """
    found: Alarms = {}
    for n in RAW_WINDOWS:
        counts = sliding(panes, n // PANE, FIRST)
        values = monitored.divergences(counts)
        found[f"PSI > 0.2, n = {n:,}"] = values["psi"] > 0.2
        found[f"KL > 0.1, n = {n:,}"] = values["kl"] > 0.1
        found[f"JS distance > 0.1, n = {n:,}"] = np.sqrt(values["js"]) > 0.1
        found[f"G-test p < 0.05, n = {n:,}"] = 2 * n * values["kl"] > _chi_squared(monitored)
    return by_rule(found)


def _chi_squared(monitored: Monitored) -> FloatArray:
    """(R,) critical values for the cells that the reference fills."""
    held = np.concatenate([reference.counts for reference in monitored.references if reference.counts is not None]) > 0
    n_bins = np.add.reduceat(held, monitored.offsets[:-1], dtype=np.int64)
    return np.asarray(chi2.isf(SIGNIFICANCE, n_bins - 1))


def sample_rules(values: Values) -> Alarms:
    """What works on the samples, without bins: the two-sample KS test, and Evidently's default for numeric columns.

    Evidently (0.7): above 1,000 reference rows the Wasserstein distance over the reference's standard deviation, drift
    from 0.1 on; else the KS test.
    """
    m = values.reference.shape[1]
    small = np.ascontiguousarray(values.reference[:, -EVIDENTLY_SMALL_REFERENCE:])
    ranks, small_ranks = ranks_in(values.reference, values.panes), ranks_in(small, values.panes)
    deviation = values.reference.std(axis=1)[:, np.newaxis]
    found: Alarms = {}
    for n in RAW_WINDOWS:
        length = n // PANE
        normed = wasserstein(values.panes, values.reference, length, FIRST) / deviation
        on_all = kolmogorov_smirnov(ranks, m, length, FIRST) > critical_ks(n, m)
        on_small = kolmogorov_smirnov(small_ranks, small.shape[1], length, FIRST) > critical_ks(n, small.shape[1])
        found[f"KS-test p < 0.05, n = {n:,}"] = on_all.T
        found[f"Evidently's default, n = {n:,}"] = (normed >= 0.1).T
        found[f"Evidently's default, 1,000 reference rows, n = {n:,}"] = on_small.T
    return by_rule(found)


def evidently_categorical(monitored: Monitored, panes: IntArray) -> Alarms:
    """Evidently's default for categories above 1,000 reference rows: the Jensen-Shannon distance, drift from 0.1 on."""
    found: Alarms = {}
    for n in RAW_WINDOWS:
        js = monitored.divergences(sliding(panes, n // PANE, FIRST), UNSMOOTHED)["js"]
        found[f"Evidently's default, n = {n:,}"] = np.sqrt(js) >= 0.1
    return found


@cache
def critical_ks(n: int, m: int) -> float:
    """The distance from which on scipy's asymptotic two-sample p-value is below 0.05."""
    return float(kstwo.isf(SIGNIFICANCE, round(n * m / (n + m))))


def by_rule(found: Alarms) -> Alarms:
    """The windows of a rule one below the other."""
    families = dict.fromkeys(name.rpartition(", n = ")[0] for name in found)
    return {name: found[name] for family in families for name in found if name.rpartition(", n = ")[0] == family}
