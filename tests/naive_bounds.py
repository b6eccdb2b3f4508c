"""The readable specification of the bounds on KL and of the overdispersion: plain Python, one value at a time."""

import math
from collections.abc import Sequence

from scipy.special import log_ndtr
from scipy.stats import chi2, norm, t


def normal_score(x: float, k: float, noncentrality: float) -> float:
    """Sankaran's z of a noncentral chi-squared statistic."""
    s = k + noncentrality
    h = 1 - 2 * s * (k + 3 * noncentrality) / (3 * (k + 2 * noncentrality) ** 2)
    p = (k + 2 * noncentrality) / s**2
    m = (h - 1) * (1 - 3 * h)
    return ((x / s) ** h - (1 + h * p * (h - 1 - 0.5 * (2 - h) * m * p))) / (h * math.sqrt(2 * p) * (1 + 0.5 * m * p))


def bound(
    live: Sequence[int],
    q: Sequence[float],
    always_counted: Sequence[bool],
    m: float,
    phi_live: float,
    phi_reference: float,
    lambda_ratio: float,
    z_quantile: float,
    thresholds: Sequence[float],
) -> dict[str, float]:
    """The bounds of one series of counts, by the names of `bounds.BOUNDS`."""
    n = sum(live)
    if n == 0 or m == 0:
        return {}
    cells = [(x / n, y) for x, y, always in zip(live, q, always_counted, strict=True) if always or x > 0]
    n_bins = len(cells)
    effective = 1 / (phi_live / n + phi_reference / m)
    found = {
        "n_bins": n_bins,
        "noise_floor": (n_bins - 1) / (2 * effective),
        "effective_samples": effective,
        "dispersion": max(1.0, lambda_ratio),
    }
    infinite, minus = math.inf, -math.inf
    if any(y == 0 < p for p, y in cells):
        return found | {
            "lower": infinite,
            "upper": infinite,
            "statistic": infinite,
            "log10_p_warning": minus,
            "log10_p_critical": minus,
        }
    if n_bins == 1:
        return found | {
            "lower": 0.0,
            "upper": -math.log(cells[0][1]),
            "statistic": 0.0,
            "dispersion": 1.0,
            "log10_p_warning": 0.0,
            "log10_p_critical": 0.0,
        }
    if n_bins < len(q):
        total = math.fsum(y for _, y in cells)
        cells = [(p, y / total) for p, y in cells]
    # log1p of the exact difference: ln(p / q) loses its digits where p is next to q
    logs = [(p, y, math.log1p((p - y) / y) if p > 0 else 0.0) for p, y in cells]
    k = max(0.0, math.fsum(p * log for p, _, log in logs))
    v = math.fsum(p * (log - k) ** 2 for p, _, log in logs)
    w = math.fsum((p - y) ** 2 / y for p, y, _ in logs if y > 0)
    n_0 = 1 / (1 / n + 1 / m)
    inverse = math.fsum(1 / y for _, y in cells if y > 0)
    williams = min(1.5, 1 + (inverse - 1) / (6 * n * (n_bins - 1)))
    statistic = (2 * n_0 * k - (n_bins - 1) * (williams - 1) * n_0 / n) * effective / n_0
    c = max(1.0, lambda_ratio, (v / n + w / m) * n_0 / (2 * k) if k > 1e-14 else 0.0)
    dof = max(0.1, (n_bins - 1) / c)

    def z(delta: float) -> float:
        return normal_score(max(statistic, 0.0) / c, dof, 2 * effective * delta / c)

    def last(target: float) -> float:
        if z(0.0) <= target:
            return 0.0
        low, high = 0.0, 1 / effective
        while z(high) > target:
            high *= 2
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if z(middle) > target else (low, middle)
        return high

    return found | {
        "lower": last(z_quantile),
        "upper": last(-z_quantile),
        "log10_p_warning": float(log_ndtr(-z(thresholds[0]))) / math.log(10),
        "log10_p_critical": float(log_ndtr(-z(thresholds[1]))) / math.log(10),
        "statistic": statistic,
        "dispersion": c,
    }


def overdispersion(panes: Sequence[Sequence[int]], ordered: bool) -> list[tuple[float, float, float]]:
    """(samples in a block, phi, lambda) for blocks of 1, 2, 4 … panes."""
    found = []
    size = 1
    while len(panes) // size >= 16:
        blocks = [
            [sum(column) for column in zip(*panes[i : i + size], strict=True)]
            for i in range(0, len(panes) // size * size, size)
        ]
        blocks = [block for block in blocks if sum(block) > 0]
        totals = [sum(column) for column in zip(*blocks, strict=True)] if blocks else []
        held = [i for i, total in enumerate(totals) if total > 0]
        if len(blocks) < 16 or len(held) < 2:
            break
        shares = [totals[i] / sum(totals) for i in held]
        groups = [range(cut) for cut in range(1, len(held))]
        if not ordered:
            groups += [range(i, i + 1) for i in range(len(held))]
        squares = sum(
            (block[i] - sum(block) * share) ** 2 / (sum(block) * share)
            for block in blocks
            for i, share in zip(held, shares, strict=True)
        )
        phi = max(1.0, squares / ((len(blocks) - 1) * (len(held) - 1)))
        worst = 0.0
        for group in groups:
            share = sum(shares[i] for i in group)
            spreads = [
                (sum(block[held[i]] for i in group) - sum(block) * share) ** 2 / (sum(block) * share * (1 - share))
                for block in blocks
            ]
            worst = max(worst, sum(spreads) / len(spreads))
        dof = len(blocks) - 1
        lambda_ = phi
        if worst > chi2.isf(0.005, dof) / dof:
            lambda_ = max(phi, worst) * float(t.isf(1.1e-5, dof) / norm.isf(1.1e-5))
        found.append((sum(map(sum, blocks)) / len(blocks), phi, lambda_))
        size *= 2
    return found
