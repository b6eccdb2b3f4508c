"""Categories that the reference never had, beside those that it had too rarely to give them a cell (README, 4.12).

A sample of m values misses about f1/m of its distribution, where f1 categories occur once (Good 1953). The divergence
is bounded with *other* and *unseen* as one cell, so that it does not matter which of the rare ones were missed. How
many values are new is judged beside that, as two cells: new or not.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, gammaincinv, ndtri, rel_entr, stdtrit

from kldrift.drift.kinds.coverage import STRETCHES
from kldrift.drift.references.overdispersion import Overdispersion
from kldrift.drift.references.reference import FeatureReference
from kldrift.kernels.bounds import BOUNDS, LOG10_P_CRITICAL, LOG10_P_WARNING, LOWER, UPPER, bound_counts
from kldrift.records.kinds import OVERFLOW, UNDERFLOW
from kldrift.records.types import FloatArray, IntArray

#: Number of halvings in the search of a p-value, and the least that is told apart, as log10.
_HALVINGS, _LEAST_LOG10_P = 18, -300.0


class NewValues:
    """The features of a monitor whose reference folded rare categories into *other*.

    Parameters
    ----------
    references : those of all features
    measured : how they spread
    offsets : (F + 1,) int64, feature f owns cells offsets[f]:offsets[f + 1]
    q : (C,) float64, what live shares are compared with
    always_counted : (C,) bool, see `bound_counts`
    thresholds : (F, 2) float64, warning and critical
    alpha : error probability of each bound
    """

    def __init__(
        self,
        references: Sequence[FeatureReference],
        measured: Sequence[Overdispersion],
        offsets: IntArray,
        q: FloatArray,
        always_counted: npt.NDArray[np.bool_],
        thresholds: FloatArray,
        alpha: float,
    ) -> None:
        # the window of `previous` is counted in the same cells as the live one: what is new is new in both
        found = [f for f, r in enumerate(references) if r.shape.coverage is not None and not r.offset_ms]
        self.features = np.array(found, dtype=np.int64)
        own = [np.arange(offsets[f], offsets[f + 1]) for f in found]
        self._cells = np.concatenate(own) if own else self.features
        self._offsets = np.cumsum([0, *map(len, own)]).astype(np.int64)
        self._other, self._unseen = self._offsets[1:] + UNDERFLOW, self._offsets[1:] + OVERFLOW
        self._q, self._always_counted = q[self._cells], always_counted[self._cells]
        self._q[self._other] += self._q[self._unseen]
        self._q[self._unseen] = 0
        self._always_counted[self._unseen] = False
        self._rows = np.array([references[f].rows for f in found])
        self._phi_max = np.array([measured[f].phi_max for f in found])
        self._thresholds = thresholds[self.features]
        self._alpha = alpha / 2
        self._missed = _Missed([references[f] for f in found], [measured[f] for f in found])

    def bound(self, counts: IntArray, phi: FloatArray, lambda_ratio: FloatArray, out: FloatArray) -> None:
        """Put lower bounds and p-values in place of those that tell *unseen* from *other*.

        Parameters
        ----------
        counts : (W, C) int64, of all features
        phi, lambda_ratio : (W, F) float64
        out : (W, F, 9) float64 in the order of `BOUNDS`
        """
        if not self.features.size:
            return
        live = np.ascontiguousarray(counts[:, self._cells])
        n, new = np.add.reduceat(live, self._offsets[:-1], axis=1), live[:, self._unseen]
        live[:, self._other] += new
        live[:, self._unseen] = 0
        phi, lambda_ratio = (np.ascontiguousarray(own[:, self.features]) for own in (phi, lambda_ratio))
        folded = np.empty((*n.shape, len(BOUNDS)))
        bound_counts(
            live,
            self._q,
            self._always_counted,
            self._offsets,
            self._rows,
            phi,
            self._phi_max,
            lambda_ratio,
            -float(ndtri(self._alpha)),
            self._thresholds,
            folded,
        )
        spread = phi
        new_lower, new_log10_p = self._of_new_values(new / spread, n / spread)
        out[:, self.features, LOWER] = np.fmax(folded[..., LOWER], new_lower)
        for i, column in enumerate((LOG10_P_WARNING, LOG10_P_CRITICAL)):
            least = np.fmin(folded[..., column], new_log10_p[..., i])
            out[:, self.features, column] = np.minimum(0.0, least + math.log10(2))
        out[:, self.features, UPPER] = np.fmax(out[:, self.features, UPPER], out[:, self.features, LOWER])

    def _of_new_values(self, new: FloatArray, n: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return lower bounds (W, F) and log10 of p-values (W, F, 2) from effective counts (W, F).

        A p-value is 1 where the bound is not above the threshold, which is where the verdict does not need it.
        """
        every = np.broadcast_to(np.arange(self.features.size), n.shape)
        lower = self._missed.lower(new, n, every, self._alpha)
        log10_p = np.zeros((*n.shape, 2))
        w, f, severity = np.nonzero(lower[..., np.newaxis] > self._thresholds)
        if w.size:
            low, high = np.full(w.size, _LEAST_LOG10_P), np.full(w.size, math.log10(self._alpha))
            for _ in range(_HALVINGS):
                middle = (low + high) / 2
                above = self._missed.lower(new[w, f], n[w, f], f, 10.0**middle) > self._thresholds[f, severity]
                low, high = np.where(above, low, middle), np.where(above, middle, high)
            log10_p[w, f, severity] = high
        return lower, log10_p


class _Missed:
    """How much of their distributions the references of some features may have missed."""

    def __init__(self, references: Sequence[FeatureReference], measured: Sequence[Overdispersion]) -> None:
        coverages = [coverage for r in references if (coverage := r.shape.coverage) is not None]
        dispersion = np.array([one.phi_max for one in measured])
        once, twice = (np.array([getattr(c, name) for c in coverages]) / dispersion for name in ("once", "twice"))
        self._variance, self._shift = once + 2 * twice + 1, 2 * twice
        self._one = dispersion / np.array([r.rows for r in references])
        self._log_rare = np.log([max(1, coverage.rare) for coverage in coverages])
        # without the order of time, stretches are as good as shuffled
        ordered = [reference.panes is not None and len(reference.panes) > 1 for reference in references]
        present = np.array([c.values / r.rows for c, r in zip(coverages, references, strict=True)]) * ordered
        self._apart, self._apart_error = (
            np.array([getattr(c, name) for c in coverages]) * present for name in ("apart", "apart_error")
        )

    def upper(self, f: IntArray, alpha: float | FloatArray) -> FloatArray:
        """Return an upper limit on the probability of all categories that the references of features `f` have missed.

        Where f1 and f2 categories occur once and twice, it is a quantile of the gamma distribution of variance
        v = f1 + 2 f2 + 1 (Esty 1983) and scale 1, less 2 f2, divided by m; a single category of probability x/m is
        missed with probability exp(-x), hence the scale. For that reason it is ln(rare/alpha)/m at least. Where values
        come in bursts few occur once: then the mean over stretches is larger, of values in none of the others, plus its
        standard error times Student's t.
        """
        by_values = (gammaincinv(self._variance[f], 1 - alpha) - self._shift[f]) * self._one[f]
        alone = (self._log_rare[f] - np.log(alpha)) * self._one[f]
        apart = self._apart[f] - stdtrit(STRETCHES - 1, alpha) * self._apart_error[f]
        return np.asarray(np.minimum(1.0, np.maximum(np.maximum(by_values, alone), apart)))

    def lower(self, new: FloatArray, n: FloatArray, f: IntArray, alpha: float | FloatArray) -> FloatArray:
        """Return lower bounds, in nats, on D(live || reference) of two cells: new values, and all others.

        Clopper and Pearson's lower limit on the live share is compared with `upper`, at half of alpha each.
        """
        half = np.broadcast_to(np.asarray(alpha) / 2, new.shape)
        bounds = np.zeros(new.shape)
        some = (new > 0) & (new <= n)
        p, q = betaincinv(new[some], n[some] - new[some] + 1, half[some]), self.upper(f[some], half[some])
        bounds[some] = np.where(p > q, rel_entr(p, q) + rel_entr(1 - p, 1 - q), 0.0)
        return bounds
