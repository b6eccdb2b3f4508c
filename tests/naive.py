"""The readable specification of every kernel: plain Python, one value at a time."""

import math
from collections.abc import Sequence

from kldrift.kernels.bin_table import CategoryBins, NumericBins
from kldrift.records.divergences import N_DIVERGENCES
from kldrift.records.kinds import STRUCTURAL_CELLS


def cell_of_value(x: float, edges: Sequence[float], low: float = -math.inf, high: float = math.inf) -> int:
    """Bins [a, b), the last one [a, b]; then underflow, overflow, missing, invalid. Open ends: from `low` to `high`."""
    n_bins = len(edges) - 1
    if math.isnan(x):
        return n_bins + 2
    if x == -math.inf or x < edges[0] or (edges[0] == -math.inf and x < min(low, edges[1])):
        return n_bins
    if x == math.inf or x > edges[-1] or (edges[-1] == math.inf and x > high and x >= edges[-2]):
        return n_bins + 1
    for i in range(n_bins):
        if edges[i] <= x < edges[i + 1]:
            return i
    return n_bins - 1  # x is the last edge


def cell_of_code(code: int, lookup: Sequence[int]) -> int:
    """What is no code at all counts as missing, the last entry."""
    return lookup[code] if 0 <= code < len(lookup) else lookup[-1]


def fill_counts(
    features: Sequence[NumericBins | CategoryBins],
    columns: Sequence[Sequence[float]],
    slots: Sequence[int] | None,
    n_slots: int,
) -> list[list[int]]:
    """Counts (n_slots, n_cells of all features) of a batch."""
    counts: list[list[int]] = [[] for _ in range(n_slots)]
    for feature, column in zip(features, columns, strict=True):
        numeric = isinstance(feature, NumericBins)
        n_cells = len(feature.edges) - 1 + STRUCTURAL_CELLS if numeric else feature.n_cells
        own = [[0] * n_cells for _ in range(n_slots)]
        for row, x in enumerate(column):
            slot = 0 if slots is None else slots[row]
            if slot >= 0:
                cell = (
                    cell_of_value(x, feature.edges, feature.low, feature.high)
                    if numeric
                    else cell_of_code(int(x), feature.lookup)
                )
                own[slot][cell] += 1
        for whole, part in zip(counts, own, strict=True):
            whole.extend(part)
    return counts


def relative_entropy(x: float, y: float) -> float:
    """x ln(x / y), one term of a divergence."""
    if x == 0:
        return 0.0
    if y == 0:
        return math.inf
    near = 0.5 < x / y < 2
    return x * (math.log1p((x - y) / y) if near else math.log(x) - math.log(y))


def divergences(p: Sequence[float], smoothed: Sequence[float], q: Sequence[float]) -> list[float]:
    """The eight in the order of `records.DIVERGENCES`; reverse KL and PSI take the smoothed p."""
    middle = [(x + y) / 2 for x, y in zip(p, q, strict=True)]
    kl = math.fsum(map(relative_entropy, p, q))
    reverse_kl = math.fsum(map(relative_entropy, q, smoothed))
    js = (math.fsum(map(relative_entropy, p, middle)) + math.fsum(map(relative_entropy, q, middle))) / 2
    psi = math.fsum(map(relative_entropy, smoothed, q)) + reverse_kl
    total_variation = math.fsum(abs(x - y) for x, y in zip(p, q, strict=True)) / 2
    hellinger = math.sqrt(math.fsum((math.sqrt(x) - math.sqrt(y)) ** 2 for x, y in zip(p, q, strict=True)) / 2)
    entropy = -math.fsum(x * math.log(x) for x in p if x > 0)
    cross_entropy = math.fsum((math.inf if y == 0 else -x * math.log(y)) for x, y in zip(p, q, strict=True) if x > 0)
    return [kl, reverse_kl, js, psi, total_variation, hellinger, entropy, cross_entropy]


def compare_counts(live: Sequence[int], q: Sequence[float], pseudocount: float, epsilon: float) -> list[float]:
    """The divergences of one series of counts."""
    n = sum(live)
    if n == 0:
        return [math.nan] * N_DIVERGENCES
    a = pseudocount + epsilon * n
    p = [x / n for x in live]
    smoothed = [(x + a) / (n + a * len(live)) for x in live]
    return divergences(p, smoothed, q)
