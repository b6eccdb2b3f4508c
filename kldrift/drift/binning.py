"""Where the bins of a feature lie (README, section 2).

Edges are float64 and strictly increasing; bin i is [e_i, e_{i+1}), the last one [e_i, e_{i+1}]. Values outside count as
*underflow* or *overflow*; NaN counts as *missing*. Where an outer edge is infinite, values beyond the range of the
reference, ±Inf among them, are counted there too, and compared as part of the outermost bin (`references.open_ends`).
Values of the wrong type have the last cell, *invalid*.
"""

import itertools
import math

import numpy as np

from kldrift.errors import ReferenceProblem
from kldrift.records.specs import Bins
from kldrift.records.types import FloatArray

#: Deciles with finer tails: a population of 2 % outliers shows after some 3,000 samples; with plain deciles, never.
QUANTILES = (0.002, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.998)

#: Minimum number of reference values in a tail bin (with fewer, its quantile is dropped) and for a category to have a
#: cell of its own.
MIN_CELL_COUNT = 10

#: Cells that follow the bins of a numeric feature and the categories of a categorical one.
NUMERIC_FLOW = ("underflow", "overflow", "missing", "invalid")
CATEGORICAL_FLOW = ("other", "unseen", "missing", "invalid")

MAX_DISCRETE_VALUES = 1024

#: Minimum number of float64 values that the range of a reference beyond 2**53 must have room for. Where its values are
#: spread evenly, each of this many holds a tenth of the smallest default bin.
MIN_LEVELS = 5_000


def numeric_edges(bins: Bins, values: FloatArray) -> FloatArray:
    """Return the edges of a numeric feature, from its reference values where the method needs them.

    Parameters
    ----------
    bins : the method and its parameters
    values : (n,) float64 in any order; NaN and ±Inf are ignored

    Returns
    -------
    edges : (n_bins + 1,) float64, strictly increasing

    Raises
    ------
    ReferenceProblem
        there is no finite value to take edges from, or the values do not suit the method
    """
    if bins.method == "edges":
        assert bins.edges is not None
        return np.asarray(bins.edges, dtype=np.float64)
    if bins.value_range is not None and bins.method in ("uniform", "logarithmic"):
        return _spaced(bins, *bins.value_range)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        raise ReferenceProblem(
            "expected at least one finite value in the reference, got none;"
            " give the feature explicit edges, or remove it"
        )
    if bins.method == "quantile":
        return quantile_edges(finite, bins.probabilities or QUANTILES, bins.value_range)
    if bins.method == "discrete":
        return discrete_edges(finite)
    low, high = float(finite.min()), float(finite.max())
    if bins.method == "logarithmic" and low <= 0:
        raise ReferenceProblem(
            f"expected values above 0 for logarithmic bins, got a smallest value of {low:g};"
            " give a range above 0 (what is below it is counted as underflow), or use quantile bins"
        )
    return _spaced(bins, low, high)


def quantile_edges(
    finite: FloatArray, probabilities: tuple[float, ...], value_range: tuple[float, float] | None = None
) -> FloatArray:
    """Return edges at quantiles of the reference, open at both ends unless a range is declared.

    A value so frequent that several quantiles fall on it gets a bin of its own, ``[v, nextafter(v))``, so that constant
    and heavily tied features keep their point mass. Tail quantiles with fewer than ten values outside are dropped.

    Parameters
    ----------
    finite : (n,) float64, n >= 1, finite
    probabilities : increasing, within (0, 1)
    value_range : outer edges; None for -Inf and +Inf
    """
    ordered = np.sort(finite)
    n = ordered.size
    low, high = value_range if value_range is not None else (-np.inf, np.inf)
    if value_range is not None:
        ordered = ordered[(ordered >= low) & (ordered <= high)]
        n = ordered.size
        if n == 0:
            raise ReferenceProblem(
                f"expected reference values within the range [{low:g}, {high:g}], got none; widen the range"
            )
    quantiles = ordered[np.minimum((np.asarray(probabilities) * n).astype(np.int64), n - 1)]
    candidates, repeats = np.unique(quantiles, return_counts=True)
    tied = candidates[repeats > 1]
    if candidates.size == 1 and ordered[0] == ordered[-1]:
        tied = candidates
    edges = np.unique(np.concatenate([candidates, tied, np.nextafter(tied, np.inf)]))
    below = np.searchsorted(ordered, edges, side="left")
    point_mass = np.isin(edges, tied) | np.isin(edges, np.nextafter(tied, np.inf))
    keep = point_mass | ((below >= MIN_CELL_COUNT) & (n - below >= MIN_CELL_COUNT))
    inner = edges[keep & (edges > low) & (edges < high)]
    if inner.size == 0 and value_range is None:  # too few values for any tail: one edge at the median
        inner = ordered[[n // 2]]
    return np.concatenate([[low], inner, [high]])


def discrete_edges(finite: FloatArray) -> FloatArray:
    """Return edges that give every distinct value, and every gap between values, a bin of its own.

    Integers get [v - 1/2, v + 1/2); other values the point bin [v, nextafter(v)).
    """
    values = np.unique(finite)
    if values.size > MAX_DISCRETE_VALUES:
        raise ReferenceProblem(
            f"expected at most {MAX_DISCRETE_VALUES} distinct values for discrete bins, got {values.size};"
            " use quantile bins"
        )
    integers = bool(np.all(values == np.rint(values)) and np.abs(values).max() < 2**51)
    if integers:
        return np.unique(np.concatenate([values - 0.5, values + 0.5]))
    return np.unique(np.concatenate([values, np.nextafter(values, np.inf)]))


def too_coarse(low: float, high: float) -> str | None:
    """Return why float64 cannot tell values between `low` and `high` apart well enough; None if it can.

    From 2**53 on it has no room for every integer, whatever format they came in.
    """
    largest = max(abs(low), abs(high))
    if not 2**53 <= largest < np.inf:
        return None
    step = math.ulp(largest)
    n_levels = (high - low) / step + 1
    if not n_levels < MIN_LEVELS:
        return None
    values = "one value" if n_levels == 1 else f"{n_levels:.0f} values"
    return (
        f"numbers beyond 2**53, of which float64 keeps only one in {step:.0f}: all of them, from {low:.0f} to"
        f" {high:.0f}, fall on {values}; make the feature categorical, or subtract an offset before sending it"
    )


def _spaced(bins: Bins, low: float, high: float) -> FloatArray:
    count = bins.count or 20
    if low == high:
        return np.array([low, np.nextafter(low, np.inf)])
    edges = np.geomspace(low, high, count + 1) if bins.method == "logarithmic" else np.linspace(low, high, count + 1)
    edges[0], edges[-1] = low, high
    # edges closer together than floats can be are equal
    return np.unique(edges)


def numeric_cells(edges: FloatArray) -> tuple[str, ...]:
    """Return the names of the cells of a numeric feature: its bins, underflow, overflow, missing, invalid."""
    ends = [f"{edge:.6g}" for edge in edges]
    names = [f"[{a}, {b})" for a, b in itertools.pairwise(ends)]
    for i in np.flatnonzero(edges[1:] == np.nextafter(edges[:-1], np.inf)):
        names[i] = f"= {float(edges[i])!r}"
    return (*names, *NUMERIC_FLOW)


def categorical_cells(categories: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the cells of a categorical feature: its categories, other, unseen, missing, invalid."""
    return (*categories, *CATEGORICAL_FLOW)
