"""Dimensions of vectors that are constant in the reference, or determined by others: not part of the normal
distribution, but watched.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.special import betaincinv, ndtr, rel_entr

from kldrift.kernels.moments import Moments
from kldrift.records.snapshots import Spread
from kldrift.records.types import FloatArray, IntArray

#: Largest difference from the constant, as a share of it, that is taken for rounding: that of a float32.
TOLERANCE = 2.0**-23
#: How many times that a sum of several may be off.
_ROUNDINGS = 8
#: Rows from which sums are estimated, and the share of its variance that is left of a dimension which others determine.
_SUM_ROWS, _SINGULAR = 65_536, 1e-9
#: Number of dimensions that are named in a sentence.
_NAMED = 20
#: The smallest p-value that is told apart, as log10.
_LEAST_LOG10_P = -300.0


@dataclass(frozen=True, slots=True, eq=False)
class ConstantDimensions:
    """Which of d dimensions are constant in the reference, by themselves or less a sum of others.

    The classes of a one-hot vector sum to 1, and a column may come twice: then the covariance is singular, and the last
    of these dimensions is determined by those before it.

    Parameters
    ----------
    size : d
    dimensions : (k,) int64, increasing, counted from 0
    values, tolerances : (k,) float64, the constants, and how far a value may be from them
    weights : (k, d) float64, of the others in the sum that is subtracted before; 0 where a dimension is constant itself
    """

    size: int
    dimensions: IntArray
    values: FloatArray
    tolerances: FloatArray
    weights: FloatArray

    @classmethod
    def of(cls, rows: FloatArray, full: bool = False) -> Self | None:
        """Return those of `rows` (n, d), in which NaN is missing; None where all vary, or none does.

        A dimension is constant too where it varies by rounding only, or so little that its variance underflows.

        Parameters
        ----------
        full : those that are determined by others as well, which a diagonal covariance need not leave out
        """
        kept = rows[np.isfinite(rows).all(axis=1)]
        if not len(kept):
            return None
        low, high = kept.min(axis=0), kept.max(axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            center, half = low + (high - low) / 2, (high - low) / 2
            variances = kept.var(axis=0)
            is_constant = (half <= 4 * np.finfo(np.float64).eps * np.abs(center)) | (
                variances <= np.maximum(np.finfo(np.float64).tiny, (4 * np.finfo(np.float64).eps * center) ** 2)
            )
        if is_constant.all():
            return None
        size = rows.shape[1]
        weights = np.zeros((size, size))
        tolerances = np.maximum(TOLERANCE * np.abs(center), 2 * half)
        for dimension, sums in (_determined(kept, np.flatnonzero(~is_constant)) if full else {}).items():
            left = kept[:, dimension] - kept @ sums
            scale = float(np.abs(kept[:, dimension]).max() + np.abs(kept).max(axis=0) @ np.abs(sums))
            half_left = float(left.max() - left.min()) / 2
            if half_left <= _ROUNDINGS * TOLERANCE * scale:
                is_constant[dimension], weights[dimension] = True, sums
                center[dimension] = left.min() + half_left
                tolerances[dimension] = max(_ROUNDINGS * TOLERANCE * scale, 2 * half_left)
        found = np.flatnonzero(is_constant)
        return cls(size, found, center[found], tolerances[found], weights[found]) if found.size else None

    @classmethod
    def from_json(cls, size: int, item: dict[str, Any]) -> Self:
        """Read what `to_json` returned."""
        dimensions = np.array(item["dimensions"], dtype=np.int64)
        values, tolerances = (np.array(item[name], dtype=np.float64) for name in ("values", "tolerances"))
        if not (dimensions.ndim == 1 and dimensions.shape == values.shape == tolerances.shape):
            raise ValueError("expected as many values and tolerances as constant dimensions")
        if (np.diff(dimensions) <= 0).any() or not (dimensions[0] >= 0 and dimensions[-1] < size > dimensions.size):
            raise ValueError(f"expected some of the dimensions 0 to {size - 1}, got {item['dimensions']}")
        weights = np.zeros((dimensions.size, size))
        for row, sums in item.get("weights", {}).items():  # absent before they were left out
            weights[int(row)] = sums
        return cls(size, dimensions, values, tolerances, weights)

    def to_json(self) -> dict[str, Any]:
        """Return the dimensions, their values and tolerances."""
        sums = {str(row): self.weights[row].tolist() for row in np.flatnonzero(self.weights.any(axis=1)).tolist()}
        return {
            "dimensions": self.dimensions.tolist(),
            "values": self.values.tolist(),
            "tolerances": self.tolerances.tolist(),
            **({"weights": sums} if sums else {}),
        }

    @property
    def varying(self) -> IntArray:
        """The other dimensions, (d - k,)."""
        return np.setdiff1d(np.arange(self.size), self.dimensions)

    @property
    def sentences(self) -> tuple[str, ...]:
        """Which dimensions they are, without a full stop each."""
        determined = self.weights.any(axis=1)
        told = (
            ("constant in the reference", ~determined, "with another value"),
            ("determined by others in the reference", determined, "where that does not hold"),
        )
        return tuple(self._sentence(what, self.dimensions[which], rows) for what, which, rows in told if which.any())

    def _sentence(self, what: str, dimensions: IntArray, rows: str) -> str:
        named = ", ".join(str(dimension) for dimension in dimensions[:_NAMED])
        rest = f" and {dimensions.size - _NAMED} more" if dimensions.size > _NAMED else ""
        verb = "is" if dimensions.size == 1 else "are"
        return (
            f"{dimensions.size} of {self.size} dimensions {verb} {what}: {named}{rest}; what counts there is the share"
            f" of rows {rows}"
        )

    def marked(self, rows: FloatArray) -> FloatArray:
        """Return the rows (n, d) with 1 in place of each value that is not the constant, and 0 of each that is."""
        out = rows.copy()
        values = rows[:, self.dimensions]
        if self.weights.any():
            values = values - rows @ self.weights.T
        marks = (np.abs(values - self.values) > self.tolerances).astype(np.float64)
        out[:, self.dimensions] = np.where(np.isnan(values), np.nan, marks)
        return out

    def varying_moments(self, live: Moments) -> Moments:
        """Return the moments of the other dimensions."""
        kept = self.varying
        of_products = live.second.ndim > live.mean.ndim
        second = live.second[..., kept[:, np.newaxis], kept] if of_products else live.second[..., kept]
        return Moments(live.n, np.ascontiguousarray(live.mean[..., kept]), np.ascontiguousarray(second))

    def shares(self, live: Moments) -> FloatArray:
        """Return the share of rows with another value, (..., k), from the moments of `marked` rows."""
        return np.clip(live.mean[..., self.dimensions], 0.0, 1.0)

    def kl(self, live: Moments, reference_rows: float) -> FloatArray:
        """Return the plug-in KL of each, (..., k), nats, as if other values had half a row of the reference."""
        share = self.shares(live)
        return np.where(share > 0, _kl(share, 0.5 / (reference_rows + 1)), 0.0)

    @staticmethod
    def _upper(share: FloatArray, n: FloatArray, reference_rows: float, alpha: float) -> FloatArray:
        """Return the `kl` of the largest share that `n` rows allow (Clopper and Pearson); 0 without rows."""
        some = np.maximum(n, 1.0)
        most = np.where(share < 1, betaincinv(share * some + 1, np.maximum(some * (1 - share), 1e-9), 1 - alpha), 1.0)
        return np.where(n > 0, _kl(most, 0.5 / (reference_rows + 1)), 0.0)

    def bound(
        self, live: Moments, reference_rows: float, spread: Spread, z_quantile: float, thresholds: FloatArray
    ) -> dict[str, FloatArray]:
        """Return ``kl``, bounds and p-values of the dimension that moved most, (...) each, corrected for all k.

        Rows that depend on each other count as fewer, as those of the other dimensions do.
        """
        worst = self.shares(live).max(axis=-1)
        phi = np.broadcast_to(spread.at(live.n.astype(np.float64))[0], worst.shape)
        m, k = reference_rows / float(spread.phi.max()), self.dimensions.size
        found = {
            "kl": self.kl(live, reference_rows).max(axis=-1),
            "lower": np.zeros(worst.shape),
            "upper": self._upper(worst, live.n / phi, reference_rows, float(ndtr(-z_quantile)) / self.dimensions.size),
            "log10_p_warning": np.zeros(worst.shape),
            "log10_p_critical": np.zeros(worst.shape),
        }
        for index in np.ndindex(worst.shape):
            if worst[index] == 0:
                continue
            n = float(live.n[index] / phi[index])
            others = float(worst[index]) * n
            found["lower"][index] = share_bound(others, n, m, float(ndtr(-z_quantile)) / k)
            for name, threshold in zip(("log10_p_warning", "log10_p_critical"), thresholds, strict=True):
                log10_p = _log10_p(others, n, m, float(threshold))
                found[name][index] = min(0.0, log10_p + math.log10(k))
        return found


def _determined(rows: FloatArray, varying: IntArray) -> dict[int, FloatArray]:
    """Return the dimensions that seem to be sums of those before them, and the weights (d,) of these sums."""
    some = rows[:: -(-len(rows) // _SUM_ROWS)]
    centered = (some - some.mean(axis=0))[:, varying]
    scaled = centered / np.maximum(centered.std(axis=0), np.finfo(np.float64).tiny)
    products = scaled.T @ scaled / len(scaled)
    found: dict[int, FloatArray] = {}
    kept: list[int] = [0]
    for column in range(1, varying.size):
        sums = np.linalg.lstsq(products[np.ix_(kept, kept)], products[kept, column])[0]
        if products[column, column] - sums @ products[kept, column] > _SINGULAR:
            kept.append(column)
            continue
        weights = np.zeros(rows.shape[1])
        weights[varying[kept]] = np.linalg.lstsq(centered[:, kept], centered[:, column])[0]
        found[int(varying[column])] = weights
    return found


def share_bound(others: float, n: float, m: float, alpha: float) -> float:
    """Return a lower bound, at 1 - alpha, on D(live || reference) of what has one value in the reference, in nats.

    Of two shares of other values, p in the live data and q in the reference, D = p ln(p/q) + (1-p) ln((1-p)/(1-q)). It
    is at least what it is at the least p and the largest q that the counts allow, at half of alpha each.

    Parameters
    ----------
    others : live values that are not the one of the reference
    n, m : live and reference values

    References
    ----------
    Clopper & Pearson (1934).
    """
    if others == 0:
        return 0.0
    p = float(betaincinv(others, n - others + 1, alpha / 2))
    q = -math.expm1(math.log(alpha / 2) / m)
    return float(_kl(p, q)) if p > q else 0.0


def _kl(p: FloatArray | float, q: float) -> FloatArray:
    return np.asarray(rel_entr(p, q) + rel_entr(1 - np.asarray(p), 1 - q))


def _log10_p(others: float, n: float, m: float, threshold: float) -> float:
    """Return log10 of the smallest alpha at which the bound is above the threshold; 0 if there is none."""
    low, high = _LEAST_LOG10_P, 0.0
    if share_bound(others, n, m, 1.0) <= threshold:
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2
        if share_bound(others, n, m, 10.0**middle) > threshold:
            high = middle
        else:
            low = middle
    return high
