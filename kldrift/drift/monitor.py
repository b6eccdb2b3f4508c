"""A monitor: batches of samples in, divergences of each window out. It never reads a clock."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from kldrift.drift.binning import MIN_CELL_COUNT
from kldrift.drift.overdispersion import OverdispersionTable, measure_reference
from kldrift.drift.reference import FeatureReference
from kldrift.drift.windows import Panes
from kldrift.kernels.bin_table import make_bin_table
from kldrift.kernels.bounds import BOUNDS, bound_counts
from kldrift.kernels.divergence import compare_counts
from kldrift.kernels.fill import fill_counts
from kldrift.records import (
    DIVERGENCES,
    AddResult,
    BatchSchema,
    FeatureInfo,
    FloatArray,
    IntArray,
    MonitorSnapshot,
    MonitorSpec,
    SampleBatch,
)

#: A clock may be so far ahead of ours before its rows count as coming from the future.
CLOCK_SKEW_MS = 60_000

#: Of a tick and feature, shared by its windows: how often chance alone may put a lower bound above the truth.
ALPHA = 1e-4

#: Panes filled in one kernel call take at most so many counts (8 bytes each).
MAX_SLOT_COUNTS = 1 << 22

NO_ROWS: IntArray = np.empty(0, dtype=np.int64)


@dataclass(slots=True)
class _Counted:
    """What a monitor has counted so far."""

    panes: Panes
    newest_ms: dict[str, int] = field(default_factory=dict)  # newest event time of each stream …
    clock_ms: int | None = None  # … and of all
    clock_read_ms: int = 0  # when that one arrived


class Monitor:
    """The counts of one monitor's features over its windows, and their divergences.

    Parameters
    ----------
    spec : what is watched
    references : one each a feature, in the order of the specification
    """

    def __init__(self, spec: MonitorSpec, references: Sequence[FeatureReference]) -> None:
        self.spec = spec
        self.schema = BatchSchema(tuple(reference.schema for reference in references), spec.timestamp)
        self._table = make_bin_table([reference.bins for reference in references])
        self.offsets: IntArray = self._table.offsets
        self._probabilities: FloatArray = np.concatenate([r.smoothed(spec.smoothing) for r in references])
        self.features = tuple(
            _feature_info(spec, i, reference, self._probabilities[self.offsets[i] : self.offsets[i + 1]])
            for i, reference in enumerate(references)
        )
        self.feature_names = tuple(info.name for info in self.features)
        self.identity = (spec, tuple(reference.reference_hash for reference in references))
        bins = tuple((reference.name, reference.kind, reference.bins_hash) for reference in references)
        self.layout = (bins, spec.windows, spec.timestamp)
        self._reference_rows = np.array([reference.rows for reference in references])
        self._always_counted = _always_counted(references, self.offsets)
        self._overdispersion = OverdispersionTable([measure_reference(reference) for reference in references])
        self._thresholds = np.array([(feature.warning, feature.critical) for feature in spec.features])
        self._z_quantile = NormalDist().inv_cdf(1 - ALPHA / len(spec.windows))
        self._numeric = np.array([info.kind == "numeric" for info in self.features])
        self._usable = np.array([info.problem is None for info in self.features])
        self._counted = _Counted(Panes(spec.windows, int(self.offsets[-1])))

    @property
    def n_cells(self) -> int:
        """Cells over all features."""
        return int(self.offsets[-1])

    def go_on_from(self, old: "Monitor") -> None:
        """Take over what `old`, of the same `layout`, has counted and counts from now on."""
        self._counted = old._counted  # noqa: SLF001  # of its own class

    # --- samples in ------------------------------------------------------------------------------

    def add(self, batch: SampleBatch, stream: str, arrival_ms: int) -> AddResult:
        """Count a batch.

        A row is late when its pane had ended `allowed_lateness` before the newest row of its own stream, or when it
        is older than every window. The result does not depend on how rows are cut into batches.

        Parameters
        ----------
        stream : the log the rows came from; lateness is judged within it
        arrival_ms : when the batch came in, and its event time where rows carry none
        """
        invalid = np.zeros(len(self.features), dtype=np.int64)
        if batch.event_ms is None:
            self._advance(arrival_ms, arrival_ms)
            pane = arrival_ms // self._counted.panes.pane_ms
            self._fill(batch, batch.columns, slice(0, batch.n_rows), None, self._counted.panes.open_pane(pane), invalid)
            self._counted.panes.close_before(arrival_ms)
            return AddResult(batch.n_rows, NO_ROWS, NO_ROWS, invalid)

        times = batch.event_ms
        future = times > arrival_ms + max(self.spec.allowed_lateness_ms, CLOCK_SKEW_MS)
        # As each row comes: the newest of its stream, and of all. Event times begin with 1970, so 0 is before all.
        newest = np.maximum.accumulate(np.where(future, 0, times))
        clock = np.maximum(newest, self._counted.clock_ms or 0)
        newest = np.maximum(newest, self._counted.newest_ms.get(stream, 0))
        panes = times // self._counted.panes.pane_ms
        late = (panes + 1) * self._counted.panes.pane_ms <= newest - self.spec.allowed_lateness_ms
        late |= times < self._counted.panes.oldest_ms(clock)
        late &= ~future
        taken = ~(late | future)
        if not future.all():
            self._counted.newest_ms[stream] = int(newest[-1])
            self._advance(int(newest[-1]), arrival_ms)
        self._fill_by_pane(batch, panes, taken, invalid)
        if self._counted.clock_ms is not None:
            self._counted.panes.close_before(self._counted.clock_ms - self.spec.allowed_lateness_ms)
        return AddResult(int(np.count_nonzero(taken)), np.flatnonzero(late), np.flatnonzero(future), invalid)

    def _advance(self, event_ms: int, arrival_ms: int) -> None:
        if self._counted.clock_ms is None or event_ms >= self._counted.clock_ms:
            self._counted.clock_ms, self._counted.clock_read_ms = event_ms, arrival_ms

    def _fill_by_pane(
        self, batch: SampleBatch, panes: IntArray, taken: npt.NDArray[np.bool_], invalid: IntArray
    ) -> None:
        rows = np.flatnonzero(taken)
        if rows.size == 0:
            return
        first, last = int(panes[rows].min()), int(panes[rows].max())
        if first == last:  # nearly always
            slots = None if rows.size == batch.n_rows else np.where(taken, 0, -1).astype(np.int32)
            counts = self._counted.panes.open_pane(first)
            self._fill(batch, batch.columns, slice(0, batch.n_rows), slots, counts, invalid)
            return
        # Rows in the order of their panes, so that a stretch of panes is a stretch of rows.
        columns = batch.columns
        order = np.argsort(np.where(taken, panes, last + 1), kind="stable")
        in_order = np.array_equal(order, np.arange(batch.n_rows))
        if not in_order:
            columns = tuple(column[order] for column in columns)
        numbers, starts = np.unique(panes[order[: rows.size]], return_index=True)
        bounds = np.append(starts, rows.size)
        step = max(1, MAX_SLOT_COUNTS // self.n_cells)
        for a in range(0, numbers.size, step):
            b = min(a + step, numbers.size)
            stretch = slice(int(bounds[a]), int(bounds[b]))
            slots = np.repeat(np.arange(b - a, dtype=np.int32), np.diff(bounds[a : b + 1]))
            counts = np.zeros((b - a, self.n_cells), dtype=np.int64)
            self._fill(batch, columns, stretch, slots, counts, invalid, None if in_order else order)
            for number, row in zip(numbers[a:b].tolist(), counts, strict=True):
                self._counted.panes.open_pane(number)[0] += row
            assert self._counted.clock_ms is not None
            self._counted.panes.close_before(self._counted.clock_ms - self.spec.allowed_lateness_ms)

    def _fill(
        self,
        batch: SampleBatch,
        columns: Sequence[npt.NDArray[np.float64] | npt.NDArray[np.int32]],
        rows: slice,
        slots: npt.NDArray[np.int32] | None,
        counts: IntArray,
        invalid: IntArray,
        order: IntArray | None = None,
    ) -> None:
        """Fill `counts`, and take out again the invalid values, which the columns hold as missing."""
        if rows.start != 0 or rows.stop != batch.n_rows:
            columns = [column[rows] for column in columns]
        fill_counts(self._table, columns, slots, counts)
        for feature, bad_rows in batch.invalid:
            places = bad_rows if order is None else np.flatnonzero(np.isin(order, bad_rows))
            places = places[(places >= rows.start) & (places < rows.stop)] - rows.start
            where = np.zeros(places.size, dtype=np.int64) if slots is None else slots[places]
            where = where[where >= 0]
            np.subtract.at(counts[:, self.offsets[feature + 1] - 1], where, 1)
            invalid[feature] += where.size

    # --- divergences out -------------------------------------------------------------------------

    def clock_ms(self, now_ms: int) -> int:
        """The instant the windows end at: the newest event time, carried on by the time that went by since it came.

        A stream that runs an hour behind is seen an hour behind; one that stopped slides out of its windows.
        """
        if self.spec.timestamp is None or self._counted.clock_ms is None:
            return now_ms
        return self._counted.clock_ms + max(0, now_ms - self._counted.clock_read_ms)

    def evaluate(self, now_ms: int) -> MonitorSnapshot:
        """The divergences of all features and windows at `now_ms`."""
        at_ms = self.clock_ms(now_ms)
        counts = self._counted.panes.totals(at_ms)
        n_windows, n_features = counts.shape[0], len(self.features)
        divergences = np.empty((n_windows, n_features, len(DIVERGENCES)))
        smoothing = self.spec.smoothing
        compare_counts(counts, self._probabilities, self.offsets, smoothing.pseudocount, smoothing.epsilon, divergences)
        samples = np.add.reduceat(counts, self.offsets[:-1], axis=1)
        bounds = self._bounds(counts, samples)
        with np.errstate(divide="ignore", invalid="ignore"):
            flow = [counts[:, self.offsets[1:] - back] / samples for back in (3, 2, 1)]
        ready = (samples >= 10 * bounds["n_bins"]) & self._usable
        undecided = ~ready
        for name in ("lower", "upper", "log10_p_warning"):
            bounds[name][undecided] = np.nan
        snapshot = MonitorSnapshot(
            name=self.spec.name,
            windows=tuple(window.name for window in self.spec.windows),
            features=self.features,
            smoothing=smoothing.name,
            exported=self.spec.divergences,
            at_ms=at_ms,
            offsets=self.offsets,
            samples=samples,
            divergences=divergences,
            noise_floor=bounds["noise_floor"],
            lower=bounds["lower"],
            upper=bounds["upper"],
            log10_p_value=bounds["log10_p_warning"],
            effective_samples=bounds["effective_samples"],
            ready=ready,
            missing_ratio=flow[2],
            unseen_ratio=np.where(self._numeric, np.nan, flow[1]),
            out_of_range_ratio=np.where(self._numeric, flow[0] + flow[1], np.nan),
            counts=counts,
        )
        for name in MonitorSnapshot.__slots__:
            if isinstance(array := getattr(snapshot, name), np.ndarray):
                array.flags.writeable = False
        return snapshot

    def _bounds(self, counts: IntArray, samples: IntArray) -> dict[str, FloatArray]:
        """What `kernels.bounds` says of every series, (W, F) each."""
        phi, lambda_ratio = self._overdispersion.at(samples)
        out = np.empty((*samples.shape, len(BOUNDS)))
        bound_counts(
            counts,
            self._probabilities,
            self._always_counted,
            self.offsets,
            self._reference_rows,
            phi,
            self._overdispersion.phi_max,
            lambda_ratio,
            self._z_quantile,
            self._thresholds,
            out,
        )
        return {name: np.ascontiguousarray(out[:, :, i]) for i, name in enumerate(BOUNDS)}


def _feature_info(spec: MonitorSpec, index: int, reference: FeatureReference, probabilities: FloatArray) -> FeatureInfo:
    feature = spec.features[index]
    problem = None
    n_bins = len(reference.cells) - 3
    if reference.rows < MIN_CELL_COUNT * n_bins:
        problem = (
            f"the reference has {reference.rows:.0f} rows for {n_bins} bins;"
            f" it takes {MIN_CELL_COUNT * n_bins} to say anything: use a longer one, or fewer bins"
        )
    return FeatureInfo(
        name=reference.name,
        kind=reference.kind,
        edges=reference.edges,
        categories=reference.categories,
        cells=reference.cells,
        reference_counts=reference.counts,
        reference_probabilities=probabilities,
        reference_rows=reference.rows,
        reference_created_ms=reference.created_ms,
        bins_hash=reference.bins_hash,
        reference_hash=reference.reference_hash,
        warning=feature.warning,
        critical=feature.critical,
        problem=problem,
    )


def _always_counted(references: Sequence[FeatureReference], offsets: IntArray) -> npt.NDArray[np.bool_]:
    """Cells that count as bins whatever the window holds: bins proper, and the others that the reference fills."""
    always = np.ones(int(offsets[-1]), dtype=np.bool_)
    for back in (1, 2, 3):
        always[offsets[1:] - back] = False
    held = np.concatenate([(r.probabilities if r.counts is None else r.counts) > 0 for r in references])  # type: ignore[operator]  # one of the two is there
    return np.asarray(always | held)
