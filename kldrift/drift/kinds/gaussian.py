"""The normal distribution that vectors are compared with; `gaussian_bounds` bounds the KL from it."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from kldrift.drift.normal_kl import (
    cholesky,
    require_variances,
)
from kldrift.errors import ReferenceProblem
from kldrift.kernels.moments import Moments, add_moments, merge_moments, zero_moments
from kldrift.records.snapshots import Spread
from kldrift.records.types import Covariance, FloatArray

#: Consecutive panes on which the overdispersion of a reference is measured, and the minimum number of blocks of a size.
PANES = 64
MIN_BLOCKS = 16
#: Minimum number of rows in a reference for each degree of freedom, plus one.
ROWS_PER_DEGREE = 10
#: Maximum number of rows, evenly spaced, from which the correlations of a reference are estimated.
CORRELATION_ROWS = 65_536


def degrees_of_freedom(d: int, covariance: Covariance) -> int:
    """Return the parameters of a normal distribution, k = 2 d or d (d + 3) / 2; its KL has a null bias of k / (2 N)."""
    return 2 * d if covariance == "diagonal" else d * (d + 3) // 2


# --- the reference ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class GaussianReference:
    """The normal distribution that a vector is compared with.

    Parameters
    ----------
    mean : (d,)
    covariance : variances (d,), or the full matrix (d, d); divisor m
    rows : m, ``inf`` if the distribution is given
    missing_ratio : share of missing vectors
    correlation : (d, d) for a diagonal reference from data: the divergences of the dimensions rise and fall together,
        so their sum spreads more than a sum of independent ones; None: they are independent
    block_samples, phi : (L,) overdispersion for blocks of that many samples, strictly increasing; phi >= 1
    lambda_ratio : (L,) >= 1, that of the means or of the variances, whichever spread more, over phi
    measured : False if there was nothing to measure it on
    lower : Cholesky factor of a full covariance
    concentration : Var T / (2 dof) when nothing drifts, the number of dimensions that move as one; T is a sum of 2 d
        squares, of means with correlations rho and variances with rho^2: (sum rho^2 + rho^4) / (2 d)

    Raises
    ------
    ReferenceProblem : a mean or variance is not usable, or the covariance is singular
    """

    mean: FloatArray
    covariance: FloatArray
    rows: float = math.inf
    missing_ratio: float = 0.0
    correlation: FloatArray | None = None
    block_samples: FloatArray = field(default_factory=lambda: np.ones(1))
    phi: FloatArray = field(default_factory=lambda: np.ones(1))
    lambda_ratio: FloatArray = field(default_factory=lambda: np.ones(1))
    measured: bool = False
    lower: FloatArray | None = field(init=False, repr=False)
    concentration: float = field(init=False)

    def __post_init__(self) -> None:
        d = self.dimensions
        if self.mean.shape != (d,) or self.covariance.shape not in {(d,), (d, d)}:
            raise ReferenceProblem(
                f"the reference: expected a mean (d,) and a covariance (d,) or (d, d), got {self.mean.shape} and"
                f" {self.covariance.shape}; make the reference again"
            )
        if not np.isfinite(self.mean).all():
            raise ReferenceProblem(f"the mean of the reference: expected finite numbers, got {self.mean}")
        levels = (len(self.block_samples),)
        if (self.correlation is not None and self.correlation.shape != (d, d)) or not (
            self.phi.shape == self.lambda_ratio.shape == levels
            and (self.phi >= 1).all()
            and (self.lambda_ratio >= 1).all()
            and (np.diff(self.block_samples) > 0).all()
            and levels[0]
        ):
            raise ReferenceProblem(
                f"the reference: expected correlations ({d}, {d}), and phi and lambda_ratio of at least 1 for"
                " increasing block sizes; make the reference again"
            )
        full = self.kind == "full"
        require_variances(np.diagonal(self.covariance) if full else self.covariance)
        object.__setattr__(self, "lower", _require_cholesky(self.covariance) if full else None)
        squares = np.ones(1) if self.correlation is None else self.correlation**2
        concentration = float((squares + squares**2).sum()) / (2 * len(squares))
        object.__setattr__(self, "concentration", max(1.0, concentration))

    @property
    def dimensions(self) -> int:
        """Number of dimensions, d."""
        return len(self.mean)

    @property
    def kind(self) -> Covariance:
        """Whether the covariance is diagonal or full."""
        return "full" if self.covariance.ndim == 2 else "diagonal"

    @property
    def degrees_of_freedom(self) -> int:
        """Degrees of freedom of a comparison with it."""
        return degrees_of_freedom(self.dimensions, self.kind)

    @property
    def spread(self) -> Spread:
        """How the samples vary, as bounds need it."""
        return Spread(
            self.block_samples,
            self.phi,
            self.lambda_ratio,
            dof=float(self.degrees_of_freedom),
            concentration=self.concentration,
        )

    def digest(self) -> str:
        """Return the identity of everything a window is compared with."""
        found = hashlib.sha256(f"{self.kind} {self.rows!r} {self.missing_ratio!r} {self.measured}".encode())
        for array in (self.mean, self.covariance, self.correlation, self.block_samples, self.phi, self.lambda_ratio):
            found.update(b"|" if array is None else np.ascontiguousarray(array, dtype="<f8").tobytes())
        return found.hexdigest()[:16]

    @classmethod
    def standard(
        cls,
        d: int,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        covariance: Covariance = "diagonal",
    ) -> "GaussianReference":
        """Return N(mean, diag std^2), known exactly; `mean` and `std` are one number, or one per dimension.

        Raises
        ------
        ReferenceProblem : there are more or fewer numbers, one is not finite, or a standard deviation is not above 0
        """
        for name, given in (("mean", mean), ("std", std)):
            if np.shape(given) not in {(), (d,)}:
                raise ReferenceProblem(f"{name}: expected a number or {d} of them, got {np.size(given)}")
        variances = np.full(d, 1.0) * np.square(np.asarray(std, dtype=np.float64))
        if not (np.asarray(std) > 0).all():
            raise ReferenceProblem(f"std: expected numbers above 0, got {std}")
        means = np.full(d, 0.0) + np.asarray(mean, dtype=np.float64)
        return cls(means, np.diag(variances) if covariance == "full" else variances)

    @classmethod
    def from_vectors(cls, values: FloatArray, covariance: Covariance = "diagonal") -> "GaussianReference":
        """Return the likeliest normal distribution for `values` (n_rows, d) in time order; overdispersion on 64 panes.

        A vector with an element that is not a finite number is missing.

        Raises
        ------
        ReferenceProblem : too few vectors, a constant dimension, one that others determine, or values too large
        """
        values = np.asarray(values, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] < 1:
            raise ReferenceProblem(f"expected vectors, (n_rows, d) with d at least 1, got shape {values.shape}")
        present = np.isfinite(values).all(axis=1)
        kept = np.ascontiguousarray(values if present.all() else values[present])
        rows, d = kept.shape
        _require_rows(rows, d, covariance)
        levels = _block_levels(kept, full=covariance == "full")
        total = levels[-1].at(0)
        found = total.second / rows
        _require_variation(total.mean, found if covariance == "diagonal" else np.diagonal(found))
        bare = cls(total.mean, found, float(rows))  # raises where it is singular
        blocks = [level for level in levels if len(level.n) >= MIN_BLOCKS]
        phi, lambda_ratio = np.array([_overdispersion(level, bare) for level in blocks]).T.copy()
        return cls(
            total.mean,
            found,
            float(rows),
            1.0 - rows / len(values),
            _correlation(kept) if covariance == "diagonal" else None,
            np.array([float(level.n.mean()) for level in blocks]),
            phi,
            lambda_ratio,
            measured=True,
        )


def _require_cholesky(covariance: FloatArray) -> FloatArray:
    """Return the lower Cholesky factor of a reference's covariance (d, d)."""
    lower = cholesky(covariance)
    if np.isnan(lower).any():
        sizes = range(1, len(covariance) + 1)
        determined = next(size for size in sizes if np.isnan(cholesky(covariance[:size, :size])).any()) - 1
        raise ReferenceProblem(
            f"the covariance of the reference is singular: dimension {determined} (counted from 0) is determined by"
            " those before it; use a diagonal covariance, or leave the dimension out"
        )
    return lower


def _require_rows(rows: int, d: int, covariance: Covariance) -> None:
    needed = max(PANES, ROWS_PER_DEGREE * (degrees_of_freedom(d, covariance) + 1))
    if rows < needed:
        raise ReferenceProblem(
            f"the reference has {rows:,} vectors that are not missing; a {covariance} covariance of {d} dimensions"
            f" needs {needed:,}: use a longer reference{', or a diagonal covariance' if covariance == 'full' else ''}"
        )


def _require_variation(mean: FloatArray, variances: FloatArray) -> None:
    """Raise if a dimension is constant, apart from rounding of its values."""
    if not (np.isfinite(mean).all() and np.isfinite(variances).all()):
        raise ReferenceProblem("the values of the reference are too large: their squares overflow; scale them down")
    constant = np.flatnonzero(variances <= (4 * np.finfo(np.float64).eps * mean) ** 2)
    if constant.size:
        first = int(constant[0])
        others = f" (and {constant.size - 1} more)" if constant.size > 1 else ""
        raise ReferenceProblem(
            f"dimension {first}{others} of the reference, counted from 0, is constant at {mean[first]:g};"
            " use a reference in which it varies, or leave the dimension out"
        )


def _block_levels(values: FloatArray, full: bool) -> list[Moments]:
    """Return the moments of 64 consecutive panes, of 32 pairs of panes … and of the whole."""
    rows, d = values.shape
    panes = zero_moments((PANES,), d, full)
    slots = np.repeat(np.arange(PANES, dtype=np.int32), np.diff(np.arange(PANES + 1) * rows // PANES))
    add_moments(values, slots, *panes)
    levels = [panes]
    while len(levels[-1].n) > 1:
        merged = levels[-1].at(slice(0, None, 2)).copy()
        merge_moments(merged, levels[-1].at(slice(1, None, 2)))
        levels.append(merged)
    return levels


def _overdispersion(blocks: Moments, whole: GaussianReference) -> tuple[float, float]:
    """Return phi = max(1, X^2 / ((K - 1) dof)), X^2 = sum over K blocks of n (a'a + 1/2 |M - I|^2), and lambda / phi.

    X^2 is 2 n KL up to terms of third order, as Pearson's X^2 is for counts. For independent normal samples its mean
    equals the degrees of freedom even if a block has fewer samples than that, which is not true of 2 n KL. Lambda is
    the larger of the contributions of means and variances: long tails make only the variances spread, and dependence
    in time affects the means more.
    """
    n = blocks.n.astype(np.float64)
    covariances = blocks.second / n.reshape(-1, *[1] * whole.covariance.ndim)
    difference = blocks.mean - whole.mean
    if whole.lower is None:
        means = (difference**2 / whole.covariance).sum(axis=1)
        variances = rest = 0.5 * ((covariances / whole.covariance - 1) ** 2).sum(axis=1)
    else:
        means = (np.linalg.solve(whole.lower, difference.T) ** 2).sum(axis=0)
        half = np.linalg.solve(whole.lower, covariances)
        excess = np.linalg.solve(whole.lower, np.swapaxes(half, 1, 2)) - np.eye(whole.dimensions)
        variances = 0.5 * (np.diagonal(excess, axis1=1, axis2=2) ** 2).sum(axis=1)
        rest = 0.5 * (excess**2).sum(axis=(1, 2))
    degrees = len(n) - 1
    phi = max(1.0, float((n * (means + rest)).sum()) / (degrees * whole.degrees_of_freedom))
    worst = max(float((n * means).sum()), float((n * variances).sum())) / (degrees * whole.dimensions)
    return phi, max(1.0, worst / phi)


def _correlation(values: FloatArray) -> FloatArray:
    moments = zero_moments((1,), values.shape[1], full=True)
    add_moments(np.ascontiguousarray(values[:: -(-len(values) // CORRELATION_ROWS)]), None, *moments)
    products = moments.second[0]
    scale = np.sqrt(np.diagonal(products))
    scale[scale == 0] = 1.0  # constant in the rows used
    found = products / scale[:, np.newaxis] / scale
    np.fill_diagonal(found, 1.0)
    return np.asarray(found)
