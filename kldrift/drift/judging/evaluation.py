"""Counts of windows in, divergences with bounds and verdicts out: for a monitor, or for one of its segments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kldrift.drift.judging.new_values import NewValues
from kldrift.drift.judging.other_estimators import estimate
from kldrift.drift.judging.verdicts import verdicts
from kldrift.drift.references.measured import measure_reference
from kldrift.drift.references.open_ends import OpenEnds
from kldrift.drift.references.overdispersion import Overdispersion, OverdispersionTable
from kldrift.drift.references.reference import FeatureReference
from kldrift.drift.references.support import problem_of
from kldrift.drift.smoothing import KNOWN_SAMPLE, smooth_counts
from kldrift.kernels.bounds import BOUNDS, bound_counts
from kldrift.kernels.divergence import compare_counts
from kldrift.kernels.moments import Moments
from kldrift.records.divergences import KL, N_DIVERGENCES
from kldrift.records.kinds import (
    INVALID,
    KINDS,
    MISSING,
    OVERFLOW,
    SAMPLES_PER_BIN,
    STRUCTURAL_CELLS,
    UNDERFLOW,
)
from kldrift.records.snapshots import FeatureInfo, MonitorSnapshot, Spread, z_quantile
from kldrift.records.specs import MonitorSpec
from kldrift.records.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class WindowTotals:
    """What was counted in each window.

    Parameters
    ----------
    counts : (W, C) int64
    moments : those of features judged by moments, by index, (W,) groups each
    earlier : counts (W, C) of the windows as they were some milliseconds before, by that number
    """

    counts: IntArray
    moments: Mapping[int, Moments] = field(default_factory=dict)
    earlier: Mapping[int, IntArray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A snapshot, and figures that it does not show.

    Parameters
    ----------
    log10_p_values : (W, F, 2) float64, which the verdicts follow from: warning, critical; NaN where undecided
    kl : (W, F) float64, kldrift's own estimate, whatever estimator the snapshot shows
    """

    snapshot: MonitorSnapshot
    log10_p_values: FloatArray
    kl: FloatArray


@dataclass(frozen=True, slots=True)
class _Compared:
    """What each window is compared with, (W, C) and (W, F); the first axis has length 1 if it is the same for all."""

    q: FloatArray
    always_counted: npt.NDArray[np.bool_]
    rows: FloatArray


class Evaluation:
    """The references of some features, prepared for comparison.

    Parameters
    ----------
    spec : what is watched
    references : one per feature, in the order of the specification
    """

    def __init__(self, spec: MonitorSpec, references: Sequence[FeatureReference]) -> None:
        self._spec = spec
        self.offsets: IntArray = np.concatenate([[0], np.cumsum([len(r.cells) for r in references])]).astype(np.int64)
        q = np.concatenate([reference.smoothed(spec.smoothing) for reference in references])
        held = np.concatenate([_held(reference) for reference in references])
        rows = np.array([reference.rows for reference in references])
        #: The cells that divergences are computed from: all, but for what a reference says nothing about.
        compared = ~np.isnan(q)
        self._cells: slice | IntArray = slice(None) if compared.all() else np.flatnonzero(compared)
        self._ends: IntArray = np.concatenate([[0], np.cumsum(compared)])[self.offsets].astype(np.int64)
        self._left_out = ~compared
        self._static = _Compared(q[np.newaxis], _always_counted(held, self.offsets)[np.newaxis], rows[np.newaxis])
        self._reference_counts = np.concatenate([_as_counts(reference) for reference in references])
        measured = [measure_reference(reference) for reference in references]
        self._overdispersion = OverdispersionTable(measured)
        self._open_ends = OpenEnds([reference.shape for reference in references])
        self._thresholds = np.array([(feature.warning, feature.critical) for feature in spec.features])
        self._alpha = 1 - spec.confidence
        self._z_quantile = z_quantile(spec.confidence, len(spec.windows))
        self._new_values = NewValues(
            references,
            measured,
            self.offsets,
            q,
            self._static.always_counted[0],
            self._thresholds,
            self._alpha / len(spec.windows),
        )
        self._previous = [(f, reference.offset_ms) for f, reference in enumerate(references) if reference.offset_ms]
        self._moving = np.array([reference.offset_ms > 0 for reference in references])
        self._vectors = {f: made for f, r in enumerate(references) if (made := r.shape.moments) is not None}
        self._binned = np.array([reference.shape.moments is None for reference in references])
        # nothing to compare with: still to be learned, or unusable
        self._blank = np.array([reference.learn > 0 or reference.flaw is not None for reference in references])
        self._needed = np.array([reference.shape.samples_needed for reference in references])
        outside = np.array([KINDS[reference.kind].outside for reference in references])
        self._has_range = outside == "out_of_range_ratio"
        is_open = np.array([reference.shape.open_ended for reference in references])
        self._has_unseen = (outside == "unseen_ratio") & ~is_open
        self.features = tuple(
            self._feature_info(f, reference, q[self.offsets[f] : self.offsets[f + 1]], measured[f])
            for f, reference in enumerate(references)
        )
        self._usable = np.array([info.problem is None for info in self.features])

    def _feature_info(
        self, f: int, reference: FeatureReference, q: FloatArray, measured: Overdispersion
    ) -> FeatureInfo:
        moments = reference.shape.moments
        counted = self._static.always_counted[0, self.offsets[f] : self.offsets[f + 1]]
        of_counts = Spread(measured.block_samples, measured.phi, measured.lambda_ / measured.phi, counted)
        return FeatureInfo(
            name=reference.name,
            kind=reference.kind,
            edges=reference.shape.edges,
            categories=reference.shape.categories,
            cells=reference.cells,
            reference_counts=reference.counts,
            reference_probabilities=q,
            reference_rows=reference.rows,
            reference_created_ms=reference.created_ms,
            bins_hash=reference.bins_hash,
            reference_hash=reference.reference_hash,
            warning=self._spec.features[f].warning,
            critical=self._spec.features[f].critical,
            problem=problem_of(reference, self._spec.features[f].critical),
            reference_text=reference.source,
            parameters=reference.parameters,
            knows_missing=reference.knows_missing or reference.learn > 0,
            value_range=reference.shape.value_range,
            expected_unseen=reference.expected_new,
            limits=(*reference.shape.limits, *_limits(reference)),
            spread=of_counts if moments is None else moments.spread,
            offset_ms=reference.offset_ms,
        )

    def evaluate(self, totals: WindowTotals, at_ms: int, segment: str | None = None) -> Evaluated:
        """Return the divergences of all features and windows."""
        outside = self._outside(totals.counts)
        totals = self._folded(totals)
        counts = totals.counts
        compared = self._compared(totals)
        out = np.empty((len(counts), len(self.features), len(BOUNDS)))
        divergences = self._divergences(counts, compared)
        samples = np.add.reduceat(counts, self.offsets[:-1], axis=1)
        present = samples.copy()
        if isinstance(self._cells, np.ndarray):
            present = np.add.reduceat(counts[:, self._cells], self._ends[:-1], axis=1)
        self._bound(counts, present, compared, out)
        bounds = {name: out[:, :, i].copy() for i, name in enumerate(BOUNDS)}
        needed = np.where(self._needed > 0, self._needed, SAMPLES_PER_BIN * bounds["n_bins"])
        nothing = self._blank | (compared.rows == 0)
        divergences[np.broadcast_to(nothing, samples.shape)] = np.nan
        per_dimension: dict[int, FloatArray] = {}
        for f, shape in self._vectors.items():
            moments = totals.moments[f]
            found = shape.bound(moments, self._z_quantile, self._thresholds[f])
            for name, values in bounds.items():
                values[:, f] = found.get(name, np.nan)
            divergences[:, f] = np.nan
            divergences[:, f, KL] = found.get("kl", np.nan)
            present[:, f] = moments.n
            if self._spec.features[f].per_dimension:
                per_dimension[f] = shape.dimension_kl(moments)
        kl = divergences[:, :, KL].copy()
        if self._spec.estimator != "kldrift":
            binned = self._binned & ~nothing
            divergences[:, :, KL] = np.where(binned, self._estimates(counts, totals), kl)
        ready = (present >= needed) & self._usable & ~nothing
        if self._previous:  # the number of rows to compare with depends on the window
            ready &= ~self._moving | (compared.rows >= needed)
        ends = self.offsets[1:]
        absent = self._absent(counts[:, ends + MISSING], samples, needed, compared.q[:, ends + MISSING]) & ~nothing
        ready &= ~absent
        divergences[absent] = np.nan
        for name in ("lower", "upper", "log10_p_warning", "log10_p_critical"):
            bounds[name][~ready] = np.nan
        for name in ("noise_floor", "effective_samples", "dispersion"):
            bounds[name][np.broadcast_to(nothing, samples.shape)] = np.nan
        p_values = np.stack([bounds["log10_p_warning"], bounds["log10_p_critical"]], axis=2)
        with np.errstate(divide="ignore", invalid="ignore"):
            missing_ratio, invalid_ratio, outside_ratio = (
                n / samples for n in (counts[:, ends + MISSING], counts[:, ends + INVALID], outside)
            )
        snapshot = MonitorSnapshot(
            name=self._spec.name,
            windows=tuple(window.name for window in self._spec.windows),
            features=self.features,
            smoothing=self._spec.smoothing.name,
            exported=self._spec.divergences,
            at_ms=at_ms,
            offsets=self.offsets,
            samples=samples,
            divergences=divergences,
            noise_floor=bounds["noise_floor"],
            lower=bounds["lower"],
            upper=bounds["upper"],
            log10_p_value=bounds["log10_p_warning"],
            effective_samples=bounds["effective_samples"],
            dispersion=bounds["dispersion"],
            ready=ready,
            absent=absent,
            detected=verdicts(p_values, self._alpha, self._spec.correction),
            missing_ratio=missing_ratio,
            invalid_ratio=invalid_ratio,
            unseen_ratio=np.where(self._has_unseen, outside_ratio, np.nan),
            out_of_range_ratio=np.where(self._has_range, outside_ratio, np.nan),
            counts=counts,
            reference_probabilities=np.broadcast_to(compared.q, counts.shape),
            reference_rows=np.broadcast_to(compared.rows, samples.shape),
            estimator=self._spec.estimator,
            confidence=self._spec.confidence,
            segment=segment,
            per_dimension=per_dimension,
        )
        return Evaluated(snapshot, p_values, kl)

    def _outside(self, counts: IntArray) -> IntArray:
        """Count the values outside of what the reference has: below or above its range, or unseen; (W, F)."""
        above = counts[:, self.offsets[1:] + OVERFLOW]
        return np.where(self._has_range, above + counts[:, self.offsets[1:] + UNDERFLOW], above)

    def _folded(self, totals: WindowTotals) -> WindowTotals:
        """Return the totals as they are compared."""
        earlier = {ms: self._open_ends.fold(counts) for ms, counts in totals.earlier.items()}
        return WindowTotals(self._open_ends.fold(totals.counts), totals.moments, earlier)

    def _absent(self, missing: IntArray, samples: IntArray, needed: FloatArray, q: FloatArray) -> npt.NDArray[np.bool_]:
        """Return where every value is missing, (W, F), though the reference would hardly ever be without any.

        Of N independent values, each missing with probability q, all are with probability q^N.

        Parameters
        ----------
        needed : (W, F), rows that a verdict needs; NaN or 0 where none of the cells counts
        q : (W, F), share of missing values in the reference; NaN where it does not say
        """
        enough = np.maximum(np.nan_to_num(needed), SAMPLES_PER_BIN)
        found: npt.NDArray[np.bool_] = (missing == samples) & (samples >= enough)
        if found.any():
            dispersion, _ = self._overdispersion.at(samples)
            with np.errstate(divide="ignore"):
                found &= samples / dispersion * np.log(np.nan_to_num(q)) <= np.log(self._alpha)
        return found

    def _compared(self, totals: WindowTotals) -> _Compared:
        """Return what each window is compared with: the references, or itself some time before."""
        if not self._previous:
            return self._static
        n_windows = len(totals.counts)
        q = np.repeat(self._static.q, n_windows, axis=0)
        held = np.repeat(self._static.always_counted, n_windows, axis=0)
        rows = np.repeat(self._static.rows, n_windows, axis=0)
        for f, offset_ms in self._previous:
            cells = slice(self.offsets[f], self.offsets[f + 1])
            before = totals.earlier[offset_ms][:, cells]
            total = before.sum(axis=1)
            rows[:, f] = np.where(before[:, MISSING] < total, total, 0)  # without a value there is nothing to compare
            held[:, cells] = _always_counted(before > 0, np.array([0, before.shape[1]]))
            for w in np.flatnonzero(rows[:, f]):
                q[w, cells] = smooth_counts(before[w], self._spec.smoothing)
        return _Compared(q, held, rows)

    def _divergences(self, counts: IntArray, compared: _Compared) -> FloatArray:
        """(W, F, N_DIVERGENCES)."""
        smoothing = self._spec.smoothing
        out = np.empty((len(counts), len(self.features), N_DIVERGENCES))
        for windows, row in _alike(compared, len(counts)):
            q = np.ascontiguousarray(compared.q[row, self._cells])
            live = np.ascontiguousarray(counts[windows, self._cells])
            compare_counts(live, q, self._ends, smoothing.pseudocount, smoothing.epsilon, out[windows])
        return out

    def _estimates(self, counts: IntArray, totals: WindowTotals) -> FloatArray:
        """Return the KL as another tool estimates it, (W, F)."""
        reference = np.repeat(self._reference_counts[np.newaxis], len(counts), axis=0)
        for f, offset_ms in self._previous:
            cells = slice(self.offsets[f], self.offsets[f + 1])
            reference[:, cells] = totals.earlier[offset_ms][:, cells]
        live = np.where(self._left_out, 0, counts)
        return estimate(self._spec.estimator, live, reference, self.offsets, self._has_range)

    def _bound(self, counts: IntArray, samples: IntArray, compared: _Compared, out: FloatArray) -> None:
        """Put the bounds of every series in `out`."""
        phi, lambda_ratio = self._overdispersion.at(samples)
        for windows, row in _alike(compared, len(counts)):
            bound_counts(
                np.ascontiguousarray(counts[windows, self._cells]),
                np.ascontiguousarray(compared.q[row, self._cells]),
                np.ascontiguousarray(compared.always_counted[row, self._cells]),
                self._ends,
                np.ascontiguousarray(compared.rows[row]),
                np.ascontiguousarray(phi[windows]),
                self._overdispersion.phi_max,
                np.ascontiguousarray(lambda_ratio[windows]),
                self._z_quantile,
                self._thresholds,
                out[windows],
            )
        self._new_values.bound(counts, phi, lambda_ratio, out)


def _limits(reference: FeatureReference) -> tuple[str, ...]:
    written = not (reference.knows_missing or reference.learn or reference.flaw)
    if not written or reference.shape.moments is not None:
        return ()
    known = "`missing` beside the reference says what share of the rows to expect"
    return (f"missing and invalid values are not part of the divergence: {known}",)


def _alike(compared: _Compared, n_windows: int) -> list[tuple[slice, int]]:
    """Return runs of windows that are compared with the same row of `compared`, and the row."""
    if len(compared.q) == 1:
        return [(slice(0, n_windows), 0)]
    return [(slice(w, w + 1), w) for w in range(n_windows)]


def _held(reference: FeatureReference) -> npt.NDArray[np.bool_]:
    """Return which cells the reference fills; in a known distribution, those that outweigh what smoothing adds."""
    if reference.counts is not None:
        return reference.expected_counts > 0
    assert reference.probabilities is not None
    return reference.probabilities * KNOWN_SAMPLE >= 1


def _always_counted(held: npt.NDArray[np.bool_], offsets: IntArray) -> npt.NDArray[np.bool_]:
    """Return the cells (..., C) that count towards B in any window: regular bins, and other cells that are held."""
    always = np.ones(int(offsets[-1]), dtype=np.bool_)
    for back in range(1, STRUCTURAL_CELLS + 1):
        always[offsets[1:] - back] = False
    return np.asarray(always | held)


def _as_counts(reference: FeatureReference) -> FloatArray:
    """Return the reference as counts, those of a large sample where it is known exactly."""
    if reference.probabilities is None:
        assert reference.counts is not None
        return reference.counts.astype(np.float64)
    return reference.probabilities * (reference.rows if reference.panes is not None else KNOWN_SAMPLE)
