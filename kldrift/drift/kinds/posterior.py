"""Posteriors of variational autoencoders: the mean over the samples of their KL from N(0, I), and how sure it is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from kldrift.drift.kinds.base import Column
from kldrift.drift.kinds.vector import Vector
from kldrift.errors import ReferenceProblem
from kldrift.kernels.moments import Moments
from kldrift.records.kinds import KINDS, Kind
from kldrift.records.samples import FeatureSchema, Vocabulary
from kldrift.records.specs import FeatureSpec
from kldrift.records.types import FloatArray, IntArray

#: The mean of a posterior's KL is close to normal, even far out in its tails, only from this many samples on.
MIN_MEAN_SAMPLES = 100


@dataclass(frozen=True, slots=True, eq=False)
class Posterior(Vector):
    """Posteriors q(z|x) of `dimensions` means and as many log variances; each sample is compared with N(0, I)."""

    kind: ClassVar[Kind] = "posterior"

    @classmethod
    def from_column(cls, spec: FeatureSpec, column: Column) -> Self:
        raise ReferenceProblem(f"a posterior is compared with {KINDS[cls.kind].always_against}, not with data")

    def schema(self, name: str, vocabulary: Vocabulary | None = None) -> FeatureSchema:
        return FeatureSchema(name, "vector", dimensions=2 * self.dimensions)

    @property
    def samples_needed(self) -> int:
        return MIN_MEAN_SAMPLES

    @property
    def size(self) -> int:
        return self.dimensions + 1

    def rows(self, values: FloatArray) -> FloatArray:
        return posterior_kl(values)

    def bound(self, live: Moments, z_quantile: float, thresholds: FloatArray) -> Mapping[str, FloatArray]:
        return bound_mean(live.n, live.mean, live.second, z_quantile, thresholds)

    def dimension_kl(self, live: Moments) -> FloatArray:
        return np.where(live.n[..., np.newaxis] > 0, live.mean[..., :-1], np.nan)


def posterior_kl(values: FloatArray) -> FloatArray:
    """Return D_KL(q(z|x) || N(0, I)) of each row: 1/2 (m^2 + s^2 - 1 - ln s^2) for each dimension, then their sum.

    Its mean over the samples is the KL term of a variational autoencoder.

    Parameters
    ----------
    values : (n_rows, 2 d), d means followed by d log variances

    Returns
    -------
    (n_rows, d + 1), nats; all of a row is NaN if it is in `values`, or if its KL overflows (a log variance above 709),
    because no number is better than a wrong one

    References
    ----------
    Kingma & Welling (2014), appendix B.
    """
    if values.ndim != 2 or values.shape[1] < 2 or values.shape[1] % 2:
        raise ValueError(f"values: expected (n_rows, 2 d), means and log variances, got {values.shape}")
    d = values.shape[1] // 2
    out = np.empty((len(values), d + 1))
    with np.errstate(over="ignore", invalid="ignore"):
        np.expm1(values[:, d:], out=out[:, :d])
        out[:, :d] -= values[:, d:]
        out[:, :d] += values[:, :d] ** 2
        out[:, :d] *= 0.5
        np.sum(out[:, :d], axis=1, out=out[:, d])
    out[~np.isfinite(out[:, d])] = np.nan
    return out


def bound_mean(
    n: IntArray, mean: FloatArray, second: FloatArray, z_quantile: float, thresholds: FloatArray
) -> dict[str, FloatArray]:
    """Return the mean of the last column of `posterior_kl` over the samples, and confidence bounds on it, in nats.

    mean -+ z s / sqrt(n), s^2 = second / (n - 1), not below 0; the p-values are those of "the mean is within the
    threshold". The mean is normal by the central limit theorem for independent samples; there is no reference on which
    their dependence could be measured.

    Parameters
    ----------
    n, mean, second : `Moments` of `posterior_kl` of any groups, (...), (..., d + 1), (..., d + 1)
    z_quantile, thresholds : see `kernels.bounds.bound_counts`; thresholds (2,)

    Returns
    -------
    as `bound_gaussian`, with the mean as ``kl``, ``plug_in`` and ``statistic``; NaN for fewer than 2 samples
    """
    from scipy.special import log_ndtr

    samples = np.asarray(n, dtype=np.float64)
    decided = samples >= 2
    center = np.where(decided, mean[..., -1], np.nan)
    with np.errstate(all="ignore"):
        error = np.where(decided, np.sqrt(second[..., -1] / (samples - 1) / samples), np.nan)
        found = {"lower": np.maximum(0.0, center - z_quantile * error), "upper": center + z_quantile * error}
        for name, threshold in zip(("log10_p_warning", "log10_p_critical"), thresholds, strict=True):
            z = np.where((error == 0) & (center == threshold), -np.inf, (center - threshold) / error)
            found[name] = log_ndtr(-z) / math.log(10)
    nothing = np.where(decided, 0.0, np.nan)
    found |= {"noise_floor": nothing, "effective_samples": np.where(decided, samples, np.nan)}
    found |= {"n_bins": nothing + 2, "dispersion": nothing + 1}
    return found | {"statistic": center, "plug_in": center, "kl": center}
