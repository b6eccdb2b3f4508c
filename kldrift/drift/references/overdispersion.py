"""How much more the counts of a stream spread than those of independent samples, measured on a reference's panes.

README, section 4.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from kldrift.records.types import FloatArray, IntArray

#: Minimum number of blocks on which a block size is measured.
MIN_BLOCKS = 16

#: The spread of a cut is attributed to chance unless independent samples show as much only once in 200 times. Because
#: many cuts are tried, one in 20 references of independent samples still exceeds it at a block size with 16 bins, and
#: one in 4 with 64 unordered categories.
CHANCE = 0.005

#: Level of the quantiles that allow for the uncertainty of lambda: that of one window of nine at alpha = 1e-4 per tick,
#: the level at which false alarms are simulated. A constant, because a stored reference outlives one monitor.
QUANTILE_LEVEL = 1.1e-5


@dataclass(frozen=True, slots=True)
class Overdispersion:
    """Overdispersion of one feature by block size; larger blocks inherit that of the largest measured.

    Parameters
    ----------
    block_samples : (L,) float64 > 0, samples in a block, strictly increasing
    phi : (L,) float64 >= 1, over all cells: Pearson's X^2 of the blocks over its degrees of freedom
    lambda_ : (L,) float64 >= phi, that in the direction that spreads most
    measured : False if there was too little to measure; phi and lambda are 1 then
    """

    block_samples: FloatArray
    phi: FloatArray
    lambda_: FloatArray
    measured: bool = True

    @property
    def phi_max(self) -> float:
        """The overdispersion of the reference as a whole."""
        return float(self.phi.max())

    def at(self, n: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return phi and lambda for windows of `n` samples, any shape: those of the block size nearest in log n."""
        nearest = np.searchsorted(_middles(self.block_samples), n, side="right")
        return self.phi[nearest], self.lambda_[nearest]


#: Stands for samples that are independent as far as anyone can tell.
UNMEASURED = Overdispersion(np.ones(1), np.ones(1), np.ones(1), measured=False)


class OverdispersionTable:
    """The overdispersion of all features of a monitor, looked up at each tick without a loop in Python.

    Parameters
    ----------
    features : one per feature
    """

    def __init__(self, features: Sequence[Overdispersion]) -> None:
        levels = max((len(feature.phi) for feature in features), default=1)
        self._middles = np.full((levels - 1, len(features)), np.inf)
        self._phi = np.ones((levels, len(features)))
        self._ratio = np.ones((levels, len(features)))
        for i, feature in enumerate(features):
            own = len(feature.phi)
            self._middles[: own - 1, i] = _middles(feature.block_samples)
            self._phi[:own, i] = feature.phi
            self._ratio[:own, i] = feature.lambda_ / feature.phi
        #: (F,) the overdispersion of each reference as a whole
        self.phi_max: FloatArray = self._phi.max(axis=0)

    def at(self, samples: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return phi and lambda / phi, (S, F) each, for windows of `samples` (S, F)."""
        level = np.zeros(samples.shape, dtype=np.intp)
        for middles in self._middles:
            level += samples >= middles
        features = np.arange(samples.shape[1])
        return self._phi[level, features], self._ratio[level, features]


def _middles(block_samples: FloatArray) -> FloatArray:
    """Return the sizes from which the next larger block is nearer."""
    return np.asarray(np.sqrt(block_samples[:-1] * block_samples[1:]))


def measure_panes(panes: IntArray, ordered: bool) -> Overdispersion:
    """Measure the overdispersion of blocks of 1, 2, 4 … panes, as long as there are 16 blocks.

    With C the counts of a block, n its samples and Q the shares of all blocks together, over K blocks and the B cells
    that hold something:

    phi = max(1, X^2 / ((K - 1)(B - 1))), X^2 = sum (C - n Q)^2 / (n Q)
    spread = max over cuts of mean over blocks of (C - n Q)^2 / (n Q (1 - Q)), C and Q cumulative there
    lambda = phi where spread <= chi2.isf(0.005, K - 1) / (K - 1), else
    lambda = max(phi, spread) t.isf(1.1e-5, K - 1) / norm.isf(1.1e-5)

    By chance alone the worst of many cuts, on 64 to 16 blocks, spreads 1.3 to 1.5 times as much as a single one should.
    Treated as dependence, that would make 95 % intervals of independent samples cover 97 to 99 %, and finding a shift
    of 0.25 sigma would take 2,000 samples instead of 1,500: hence the threshold.

    If samples do depend on each other, lambda is as uncertain as a variance of K blocks. It is too small in some
    references, and every window judged with those suffers. Hence the quantile of Student's t instead of the normal one,
    a factor of 1.08 for 64 blocks and 1.43 for 16. Alarmed ticks per 10,000 fall from 0.53 to 0.20 for AR(.9) and from
    10 to 2.2 for AR(.98); finding a shift of 0.25 sigma in AR(.5) takes 6,100 samples instead of 3,600.

    Parameters
    ----------
    panes : (K, B) int64, consecutive in time
    ordered : whether the cells are in the order of the values; if not, single cells are tried as well as cuts

    References
    ----------
    Rao & Scott (1984). The measurements: ``python -m tests.evidence``.
    """
    blocks = panes.astype(np.float64)
    sizes, phis, lambdas = [], [], []
    while len(blocks) >= MIN_BLOCKS:
        level = _measure_blocks(blocks, ordered)
        if level is None:
            break
        size, phi, lambda_ = level
        sizes.append(size)
        phis.append(phi)
        lambdas.append(lambda_)
        whole = len(blocks) - len(blocks) % 2
        blocks = blocks[0:whole:2] + blocks[1:whole:2]
    if not sizes:
        return UNMEASURED
    return Overdispersion(np.array(sizes), np.array(phis), np.array(lambdas))


def _measure_blocks(blocks: FloatArray, ordered: bool) -> tuple[float, float, float] | None:
    """Return mean samples, phi and lambda of (K, B) blocks; None if fewer than 16 blocks or 2 cells hold anything."""
    n = blocks.sum(axis=1, keepdims=True)
    if not n.all():
        blocks, n = blocks[n[:, 0] > 0], n[n > 0][:, np.newaxis]
    totals = blocks.sum(axis=0)
    if not totals.all():
        blocks, totals = blocks[:, totals > 0], totals[totals > 0]
    n_blocks, n_bins = blocks.shape
    if n_blocks < MIN_BLOCKS or n_bins < 2:
        return None
    shares = totals / totals.sum()
    squares = (blocks - n * shares) ** 2 / n
    phi = max(1.0, float((squares / shares).sum()) / ((n_blocks - 1) * (n_bins - 1)))
    below = np.cumsum(shares)[:-1]
    cuts = (np.cumsum(blocks, axis=1)[:, :-1] - n * below) ** 2 / n
    spread = float((cuts.mean(axis=0) / (below * (1 - below))).max())
    if not ordered:
        spread = max(spread, float((squares.mean(axis=0) / (shares * (1 - shares))).max()))
    by_chance, factor = _uncertainty(n_blocks)
    return float(n.mean()), phi, phi if spread <= by_chance else max(phi, spread) * factor


@cache
def _uncertainty(n_blocks: int) -> tuple[float, float]:
    """Return the largest spread of K blocks that chance explains, and the factor for the uncertainty of a larger one.

    Importing scipy takes a quarter of a second, so it happens only when something is measured: a daemon that reads
    stored figures does without.
    """
    from scipy.special import chdtri, ndtri, stdtrit

    dof = n_blocks - 1
    return float(chdtri(dof, CHANCE)) / dof, float(stdtrit(dof, QUANTILE_LEVEL) / ndtri(QUANTILE_LEVEL))
