"""From counts to divergences: what readers see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from kldrift.records.kinds import KINDS, MISSING, Kind
from kldrift.records.specs import CONFIDENCE
from kldrift.records.types import Estimator, Float32Array, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class AddResult:
    """The result of adding a batch to a monitor.

    Parameters
    ----------
    counted : rows added to panes
    late, future : (n,) int64 indices of rows that arrived too late, or whose time is in the future
    invalid : (n_features,) int64, values of the wrong type
    folded : rows whose segment was folded into *other*
    learned : features whose reference the batch completed
    """

    counted: int
    late: IntArray
    future: IntArray
    invalid: IntArray
    folded: int = 0
    learned: tuple[str, ...] = ()


def z_quantile(confidence: float, n_windows: int) -> float:
    """Return the normal score of the bounds: that of a feature's confidence, shared by its windows."""
    return NormalDist().inv_cdf(1 - (1 - confidence) / n_windows)


@dataclass(frozen=True, slots=True)
class Spread:
    """How much the samples of a reference vary; the bounds on its windows follow from that.

    Parameters
    ----------
    block_samples, phi, lambda_ratio : (L,) float64, overdispersion phi of blocks of that many samples, increasing, and
        lambda / phi
    counted : (n_cells,) bool, the cells that count in every window; None for vectors
    dof, concentration : of vectors, degrees of freedom, and the number of dimensions that move as one
    """

    block_samples: FloatArray
    phi: FloatArray
    lambda_ratio: FloatArray
    counted: npt.NDArray[np.bool_] | None = None
    dof: float = 0.0
    concentration: float = 1.0

    def at(self, n: FloatArray | float) -> tuple[FloatArray, FloatArray]:
        """Return phi and lambda / phi for windows of `n` samples, any shape: those of the size nearest in log n."""
        middles = np.sqrt(self.block_samples[:-1] * self.block_samples[1:])
        nearest = np.searchsorted(middles, n, side="right")
        return self.phi[nearest], self.lambda_ratio[nearest]


@dataclass(frozen=True, slots=True)
class FeatureInfo:
    """The identity of a feature's bins and reference, for labels, the API and pages.

    Parameters
    ----------
    edges : (n_bins + 1,) for a numeric feature, else None; bins are [a, b), the last is [a, b]
    categories : the categories with a cell of their own, for a categorical feature, else None
    cells : names of the feature's cells, in order; a vector is ``present``, ``missing`` or ``invalid``
    reference_counts : (n_cells,) int64; None if the reference is known exactly
    reference_probabilities : (n_cells,) float64, smoothed: the q of every divergence; NaN in cells that are not part of
        it, because the reference says nothing about them
    reference_rows : m, ``inf`` if known exactly
    problem : why this reference cannot support a verdict, else None
    reference_text : readable description of where the reference comes from
    parameters : (name, value) pairs of a parametric reference, given or fitted
    knows_missing : whether the reference says how many values are missing, or will once it is learned
    value_range : the smallest and largest value of the reference, for a numeric feature; None where they are unknown
    expected_unseen : share of values to expect that the reference never had, though nothing drifts; NaN where unknown
    limits : what the reference cannot show, one sentence each, without its full stop
    spread : None where nothing is known of it
    offset_ms : each window is compared with itself this long before; 0 for a reference that stays
    """

    name: str
    kind: Kind
    edges: FloatArray | None
    categories: tuple[str, ...] | None
    cells: tuple[str, ...]
    reference_counts: IntArray | None
    reference_probabilities: FloatArray
    reference_rows: float
    reference_created_ms: int
    bins_hash: str
    reference_hash: str
    warning: float
    critical: float
    problem: str | None = None
    reference_text: str = ""
    parameters: tuple[tuple[str, float], ...] = ()
    knows_missing: bool = True
    value_range: tuple[float, float] | None = None
    expected_unseen: float = float("nan")
    limits: tuple[str, ...] = ()
    spread: Spread | None = None
    offset_ms: int = 0


#: Arrays of a `MonitorSnapshot` with a column for each cell; other (W, F, …) arrays have one for each feature.
_OF_CELLS = ("counts", "reference_probabilities")


@dataclass(frozen=True, slots=True)
class MonitorSnapshot:
    """The divergences of one monitor at one instant. Arrays are read-only.

    W windows, F features, C cells over all features; feature f owns ``offsets[f]:offsets[f + 1]`` of the cells.

    Parameters
    ----------
    at_ms : the instant at which the windows end (event time)
    samples : (W, F) int64, n of each series
    divergences : (W, F, N_DIVERGENCES) float64, nats, see `records.divergences`; NaN where the window is empty
    noise_floor : (W, F) float64, nats; the KL expected from chance alone at this n
    lower, upper : (W, F) float64, nats; confidence bounds on the KL; NaN where undecided
    log10_p_value : (W, F) float64, of "the KL is within the warning tolerance"; NaN where undecided
    effective_samples : (W, F) float64, number of independent samples that window and reference together are worth
    dispersion : (W, F) float64, the divisor of the statistic before it was compared with its distribution
    detected : (F, 2) float64, the verdict at the warning and critical tolerances over all windows: 1 drift, 0 no drift,
        NaN undecided
    reference_probabilities : (W, C) float64, the q that each window was compared with; NaN in cells that were left out
    reference_rows : (W, F) float64, m of each window's reference, ``inf`` if known exactly
    ready : (W, F) bool, whether n is large enough and the reference is usable
    absent : (W, F) bool, whether the window holds enough rows, and no value of the feature, whose reference has some;
        such a series is not compared, so that it is not ready
    missing_ratio, invalid_ratio, unseen_ratio, out_of_range_ratio : (W, F) float64; NaN where undefined
    counts : (W, C) int64, live, as they are compared: where an outermost bin is open, it holds all values beyond, also
        those that `out_of_range_ratio` counts
    segment : in the snapshot of a segment, the value that its rows share; else None
    segments : snapshots of the segments that have rows, largest first, then *other*; same windows and features
    segment_mix : (W,) float64, KL of the segments' live shares from their reference shares; NaN if the reference does
        not know them; empty without segments
    within_segments : (W, F) float64, sum over segments of share x KL within; adding the mix gives the joint KL of
        segment and feature; empty without segments
    per_dimension : (W, d) KL of each dimension, by index of the features that export it
    began : what began anew with a change of the configuration in the last hour: when (ms), and what and why
    """

    name: str
    windows: tuple[str, ...]
    features: tuple[FeatureInfo, ...]
    smoothing: str
    exported: tuple[str, ...]
    at_ms: int
    offsets: IntArray
    samples: IntArray
    divergences: FloatArray
    noise_floor: FloatArray
    lower: FloatArray
    upper: FloatArray
    log10_p_value: FloatArray
    effective_samples: FloatArray
    ready: npt.NDArray[np.bool_]
    absent: npt.NDArray[np.bool_]
    missing_ratio: FloatArray
    invalid_ratio: FloatArray
    unseen_ratio: FloatArray
    out_of_range_ratio: FloatArray
    counts: IntArray
    dispersion: FloatArray
    detected: FloatArray
    reference_probabilities: FloatArray
    reference_rows: FloatArray
    estimator: Estimator = "kldrift"
    confidence: float = CONFIDENCE
    segment: str | None = None
    segments: "tuple[MonitorSnapshot, ...]" = ()
    segment_mix: FloatArray = field(default_factory=lambda: np.empty(0))
    within_segments: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    per_dimension: Mapping[int, FloatArray] = field(default_factory=dict)
    began: tuple[tuple[int, str], ...] = ()

    def of_features(self, kept: Sequence[int]) -> "MonitorSnapshot":
        """Return the snapshot without the other features. It must have no segments."""
        if self.segments or self.segment_mix.size:
            raise ValueError("expected a snapshot without segments")
        cells = [np.arange(self.offsets[f], self.offsets[f + 1]) for f in kept]
        of_cells = np.concatenate([np.empty(0, dtype=np.int64), *cells])
        changes: dict[str, Any] = {
            "features": tuple(self.features[f] for f in kept),
            "offsets": np.cumsum([0, *map(len, cells)]),
            "detected": self.detected[list(kept)],
            "per_dimension": {i: self.per_dimension[f] for i, f in enumerate(kept) if f in self.per_dimension},
        }
        for each in fields(self):
            values = getattr(self, each.name)
            if isinstance(values, np.ndarray) and values.ndim >= 2 and each.name not in (*changes, "within_segments"):
                changes[each.name] = values[:, of_cells if each.name in _OF_CELLS else list(kept)]
        return replace(self, **changes)

    def judged_samples(self, w: int, f: int) -> int:
        """Count the samples behind a verdict: those in cells that the divergence compares; of vectors, the present."""
        own_cells = slice(int(self.offsets[f]), int(self.offsets[f + 1]))
        counts: IntArray = self.counts[w, own_cells]
        if not KINDS[self.features[f].kind].histogram:
            return int(counts[:MISSING].sum())
        return int(counts[~np.isnan(self.reference_probabilities[w, own_cells])].sum())

    def outside_ratio(self, w: int, f: int) -> float | None:
        """Share of a feature's values in a window that lie outside its cells; None where its kind has no such values.

        Out of range for numbers, unseen for categories.
        """
        name = KINDS[self.features[f].kind].outside
        return None if name is None else float(getattr(self, name)[w, f])


@dataclass(frozen=True, slots=True)
class Track:
    """Some windows and features of a monitor over time: T instants, W windows, F features.

    Parameters
    ----------
    at_ms : (T,) int64, increasing; the end of the period that a point stands for
    kl, lower, upper : (T, W, F) float32, nats; the maximum in that period, to three digits; NaN where there was none
    """

    at_ms: IntArray
    kl: Float32Array
    lower: Float32Array
    upper: Float32Array

    @classmethod
    def empty(cls, n_windows: int, n_features: int) -> "Track":
        """Return a track without instants."""
        none = np.empty((0, n_windows, n_features), dtype=np.float32)
        return cls(np.empty(0, dtype=np.int64), none, none, none)


@dataclass(frozen=True, slots=True)
class DriftSnapshot:
    """Everything that readers see; replaced as a whole at each tick."""

    evaluated_ms: int
    monitors: tuple[MonitorSnapshot, ...] = ()
