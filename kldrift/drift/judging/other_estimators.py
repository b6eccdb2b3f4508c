"""KL as other tools estimate it, for users who migrate with thresholds of their own (README, section 6).

All take the same samples in the same bins. They differ in the cells they know, in how they fill empty ones, and in the
direction. Bounds and verdicts do not use these. ``python -m tests.evidence.estimators`` checks them against the tools
themselves.

Two quantities cannot be recovered from counts. Rare and unseen values share one cell each here (*other*, *unseen*),
where a tool may tell them apart. Infinite values count beyond the bins, or in the outermost ones where these are open;
Evidently drops them, MLRun counts them in the total but in no bin, driftwatch refuses them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kldrift.errors import KldriftError
from kldrift.records.kinds import INVALID, MISSING, OVERFLOW, STRUCTURAL_CELLS, UNDERFLOW
from kldrift.records.types import FloatArray, IntArray

_Mask = npt.NDArray[np.bool_]

EVIDENTLY_FILL = 1e-4
MLRUN_FILL = 1e-4
DRIFTWATCH_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class _Cells:
    """The cells of all features, and which feature owns which.

    Parameters
    ----------
    offsets : (F + 1,) int64
    numeric : (F,) bool
    """

    offsets: IntArray
    numeric: _Mask

    def sums(self, values: npt.NDArray[np.generic]) -> FloatArray:
        """Return the (W, F) sums of (W, C) values over the cells of each feature."""
        return np.add.reduceat(values, self.offsets[:-1], axis=1, dtype=np.float64)

    def spread(self, per_feature: FloatArray) -> FloatArray:
        """Repeat the (W, F) values for each cell, (W, C)."""
        return np.repeat(per_feature, np.diff(self.offsets), axis=1)

    def shares(self, counts: FloatArray) -> FloatArray:
        """Return (W, C) counts as shares of their feature; NaN where it has none."""
        with np.errstate(invalid="ignore"):
            return counts / self.spread(self.sums(counts))

    @property
    def absent(self) -> IntArray:
        """(2 F,) columns of missing and of invalid values."""
        return np.concatenate([self.offsets[1:] + MISSING, self.offsets[1:] + INVALID])

    @property
    def numeric_bins(self) -> _Mask:
        """(C,) regular bins of numeric features."""
        bins = np.repeat(self.numeric, np.diff(self.offsets))
        for back in range(1, STRUCTURAL_CELLS + 1):
            bins[(self.offsets[1:] - back)[self.numeric]] = False
        return bins


def estimate(
    estimator: str, live: IntArray, reference_counts: FloatArray, offsets: IntArray, numeric: _Mask
) -> FloatArray:
    """Return the KL that another tool computes from the same counts.

    Parameters
    ----------
    estimator : ``evidently``, ``boxkite``, ``mlrun`` or ``driftwatch``
    live : (W, C) int64, feature f owns columns ``offsets[f]:offsets[f + 1]``, in the order of `FeatureInfo.cells`
    reference_counts : (C,) float64; of a large sample where the reference is known exactly
    numeric : (F,) bool, True if the cells are bins, underflow, overflow, missing, invalid; False if they are
        categories, other, unseen, missing, invalid

    Returns
    -------
    kl : (W, F) float64, nats; NaN where the window or the reference holds nothing that the tool would use

    Raises
    ------
    KldriftError
        the estimator is unknown
    """
    if estimator not in _ESTIMATORS:
        raise KldriftError(f"expected an estimator among {', '.join(_ESTIMATORS)}, got {estimator!r}; use one of these")
    x = live.astype(np.float64)
    y = np.broadcast_to(reference_counts, x.shape)
    return _ESTIMATORS[estimator](x, y, _Cells(offsets, numeric))


def _evidently(x: FloatArray, y: FloatArray, cells: _Cells) -> FloatArray:
    """Return D(reference || live), empty cells filled on both sides.

    The fill is 1e-4, or a millionth of the smallest share if that is no more than 1e-4.

    Missing and invalid values are dropped first. A categorical feature has the values that either side holds. A numeric
    one has bins from the smallest to the largest value of both sides, so that the bins in between exist even if empty,
    and underflow and overflow only if not. ``scipy.stats.entropy`` scales the filled shares to add up to 1 again.

    References
    ----------
    evidently 0.7.23, ``legacy/calculations/stattests``: ``kl_div.py`` and ``get_binned_data`` in ``utils.py``;
    ``get_one_column_drift`` in ``legacy/calculations/data_drift.py`` for what is dropped.
    """
    x, y = _present(x, cells), _present(y, cells)
    taken = cells.numeric_bins | (x > 0) | (y > 0)
    taken[:, cells.absent] = False
    p, q = (cells.shares(_evidently_filled(cells.shares(counts), taken, cells)) for counts in (x, y))
    return cells.sums(_terms(q, p))


def _evidently_filled(shares: FloatArray, taken: _Mask, cells: _Cells) -> FloatArray:
    least = np.minimum.reduceat(np.where(shares > 0, shares, np.inf), cells.offsets[:-1], axis=1)
    fill = np.where(least <= EVIDENTLY_FILL, least / 1e6, EVIDENTLY_FILL)
    return np.where(taken & (shares == 0), cells.spread(fill), shares)


def _boxkite(x: FloatArray, y: FloatArray, cells: _Cells) -> FloatArray:
    """Return D(reference || live) + D(live || reference), one sample added to each cell.

    Missing and invalid values are cells like any other. The baseline has a cell for each value in the training data. A
    value that only the live side holds enlarges its total, and its number of cells by one, but has no counterpart and
    so no term.
    (boxkite shows this panel for discrete features only; for numeric ones it shows the largest difference between the
    distribution functions. PromQL's ``increase`` estimates the live counts, which are exact here.)

    References
    ----------
    boxkite, ``examples/grafana-prometheus/metrics/dashboards/model.json``, panel "KL Divergence over $duration";
    ``boxkite/monitoring/frequency.py`` and ``boxkite/utils/histogram.py`` for the cells.
    """
    known = y > 0
    n, m = cells.sums(x), cells.sums(y)
    p = (x + 1) / cells.spread(n + np.maximum(cells.sums(known | (x > 0)), 1))
    q = (y + 1) / cells.spread(m + np.maximum(cells.sums(known), 1))
    kl = cells.sums(np.where(known, (q - p) * np.log(q / p), 0.0))
    return np.where((n > 0) & (m > 0), kl, np.nan)


def _mlrun(x: FloatArray, y: FloatArray, cells: _Cells) -> FloatArray:
    """Return D(live || reference) + D(reference || live), 1e-4 in place of a zero denominator, nothing rescaled.

    Missing and invalid values are dropped. Underflow and overflow are the two bins with which MLRun pads a histogram.
    (MLRun has histograms of numbers only; here each category counts as a value.)

    References
    ----------
    mlrun 1.12.1, ``KullbackLeiblerDivergence`` in ``model_monitoring/metrics/histogram_distance.py``; ``pad_hist`` in
    ``common/model_monitoring/helpers.py`` and ``calculate_inputs_statistics`` in ``model_monitoring/helpers.py``.
    """
    p, q = (cells.shares(_present(counts, cells)) for counts in (x, y))
    forward, backward = (_terms(a, np.where(b == 0, MLRUN_FILL, b)) for a, b in ((p, q), (q, p)))
    return cells.sums(forward + backward)


def _driftwatch(x: FloatArray, y: FloatArray, cells: _Cells) -> FloatArray:
    """Return D(live || reference) of shares (f + e) / (1 + K e), e = 1e-6, over K cells.

    driftwatch refuses missing and invalid values, so they are dropped here. Numbers outside the bins count in the
    outermost bins. A categorical feature has the values that either side holds.

    References
    ----------
    The Rust crate driftwatch 0.1.0, ``src/metrics/kl_divergence.rs``; ``src/binning/mod.rs`` and
    ``src/distribution.rs`` for the cells.
    """
    x, y = (_clamped(_present(counts, cells), cells) for counts in (x, y))
    taken = cells.numeric_bins | (x > 0) | (y > 0)
    taken[:, cells.absent] = False
    total = cells.spread(1 + DRIFTWATCH_EPSILON * cells.sums(taken))
    p, q = (np.where(taken, (cells.shares(counts) + DRIFTWATCH_EPSILON) / total, 0.0) for counts in (x, y))
    kl = cells.sums(_terms(p, q))
    return np.where((cells.sums(x) > 0) & (cells.sums(y) > 0), kl, np.nan)


def _clamped(counts: FloatArray, cells: _Cells) -> FloatArray:
    """Move the values below and above the bins of numeric features into the first and the last bin."""
    first, end = cells.offsets[:-1][cells.numeric], cells.offsets[1:][cells.numeric]
    clamped = counts.copy()
    below, above = end + UNDERFLOW, end + OVERFLOW
    clamped[:, first] += counts[:, below]
    clamped[:, below - 1] += counts[:, above]
    clamped[:, below] = 0
    clamped[:, above] = 0
    return clamped


def _present(counts: FloatArray, cells: _Cells) -> FloatArray:
    present = counts.copy()
    present[:, cells.absent] = 0
    return present


def _terms(p: FloatArray, q: FloatArray) -> FloatArray:
    """Return the terms p ln(p / q), 0 where p is 0; NaN stays NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p == 0, 0.0, p * np.log(p / q))


_ESTIMATORS: dict[str, Callable[[FloatArray, FloatArray, _Cells], FloatArray]] = {
    "evidently": _evidently,
    "boxkite": _boxkite,
    "mlrun": _mlrun,
    "driftwatch": _driftwatch,
}
