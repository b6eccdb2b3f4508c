"""Many repetitions of one feature, watched as a monitor does: repetition r is feature r.

What `drift.monitor.Monitor.evaluate` does below its books: bins and references from data, counts in panes, sliding
windows, and the bounds on them, by the product's own functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kldrift.drift.references.data import build_references
from kldrift.drift.references.measured import measure_reference
from kldrift.drift.references.overdispersion import OverdispersionTable
from kldrift.drift.references.reference import FeatureReference
from kldrift.kernels.bin_table import BinTable, make_bin_table
from kldrift.kernels.bounds import BOUNDS, bound_counts
from kldrift.kernels.divergence import compare_counts
from kldrift.kernels.fill import fill_counts
from kldrift.records.divergences import DIVERGENCES, N_DIVERGENCES
from kldrift.records.kinds import SAMPLES_PER_BIN, STRUCTURAL_CELLS
from kldrift.records.samples import CategoricalColumn
from kldrift.records.specs import FeatureSpec, Smoothing
from kldrift.records.types import CodeArray, FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]
JEFFREYS = Smoothing()
UNSMOOTHED = Smoothing("none", 0.0, 0.0)


@dataclass(frozen=True)
class Monitored:
    """References as features of one monitor, and all that is needed to evaluate windows against them.

    Parameters
    ----------
    table : bins; the counts of R features are side by side, (n, C)
    probabilities : (C,) smoothed reference
    rows : (R,) m
    always_counted : (C,) bool
    thresholds : (R, 2) warning and critical
    """

    references: tuple[FeatureReference, ...]
    table: BinTable
    probabilities: FloatArray
    rows: FloatArray
    always_counted: BoolArray
    overdispersion: OverdispersionTable
    thresholds: FloatArray

    @property
    def offsets(self) -> IntArray:
        """Feature f owns cells ``offsets[f]:offsets[f + 1]``."""
        return self.table.offsets

    def count_panes(self, columns: Sequence[FloatArray | CodeArray], pane_samples: int) -> IntArray:
        """Counts of consecutive panes, (n_panes, C) int64; each column contiguous."""
        n_rows = len(columns[0])
        slots = (np.arange(n_rows) // pane_samples).astype(np.int32)
        counts = np.zeros((int(slots[-1]) + 1, int(self.offsets[-1])), dtype=np.int64)
        fill_counts(self.table, columns, slots, counts)
        return counts

    def samples(self, counts: IntArray) -> IntArray:
        """Samples of each window and feature, (S, R)."""
        return np.asarray(np.add.reduceat(counts, self.offsets[:-1], axis=1))

    def bounds(self, counts: IntArray, z_quantile: float) -> dict[str, FloatArray]:
        """Bounds of each window and feature, (S, R) each, by the names of `bounds.BOUNDS`."""
        samples = self.samples(counts)
        phi, ratio = self.overdispersion.at(samples)
        out = np.empty((*samples.shape, len(BOUNDS)))
        bound_counts(
            counts,
            self.probabilities,
            self.always_counted,
            self.offsets,
            self.rows,
            phi,
            self.overdispersion.phi_max,
            ratio,
            z_quantile,
            self.thresholds,
            out,
        )
        return {name: out[:, :, i] for i, name in enumerate(BOUNDS)}

    def ready(self, counts: IntArray, n_bins: FloatArray) -> BoolArray:
        """Whether windows of `counts` hold enough samples for their `n_bins`, (S, R)."""
        return np.asarray(self.samples(counts) >= SAMPLES_PER_BIN * n_bins)

    def divergences(self, counts: IntArray, smoothing: Smoothing = JEFFREYS) -> dict[str, FloatArray]:
        """Divergences of each window and feature, (S, R) each, by the names of `records.DIVERGENCES`."""
        q = self.probabilities
        if smoothing != JEFFREYS:
            q = np.concatenate([reference.smoothed(smoothing) for reference in self.references])
        out = np.empty((len(counts), len(self.references), N_DIVERGENCES))
        compare_counts(counts, q, self.offsets, smoothing.pseudocount, smoothing.epsilon, out)
        return {name: out[:, :, i] for i, name in enumerate(DIVERGENCES)}


def watch(specs: Sequence[FeatureSpec], columns: Sequence[FloatArray | CategoricalColumn]) -> Monitored:
    """A monitor of features whose references are counted from `columns`."""
    references = build_references(specs, columns, 0, "evidence")
    table = make_bin_table([reference.shape.bins() for reference in references])
    held = np.concatenate([reference.counts for reference in references if reference.counts is not None]) > 0
    always = np.ones(held.size, dtype=np.bool_)
    for back in range(1, STRUCTURAL_CELLS + 1):
        always[table.offsets[1:] - back] = False
    return Monitored(
        references=references,
        table=table,
        probabilities=np.concatenate([reference.smoothed(JEFFREYS) for reference in references]),
        rows=np.array([reference.rows for reference in references]),
        always_counted=always | held,
        overdispersion=OverdispersionTable([measure_reference(reference) for reference in references]),
        thresholds=np.array([(spec.warning, spec.critical) for spec in specs]),
    )


def live_column(reference: FeatureReference, column: FloatArray | CategoricalColumn) -> FloatArray | CodeArray:
    """A column as a decoder hands it over: categories as the codes of the reference's schema."""
    return reference.shape.values(column)


def sliding(panes: IntArray, length: int, first: int) -> IntArray:
    """Counts of the last `length` panes at each pane from `first` on, (n_panes - first, C)."""
    sums = np.zeros((len(panes) + 1, panes.shape[1]), dtype=np.int64)
    np.cumsum(panes, axis=0, out=sums[1:])
    return np.ascontiguousarray(sums[first + 1 :] - sums[first + 1 - length : len(panes) + 1 - length])
