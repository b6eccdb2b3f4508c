"""The records that pass between the stages; every stage may import them, they import nothing of ours.

Instants and durations are integer milliseconds (`_ms`), instants since the Unix epoch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
CodeArray = npt.NDArray[np.int32]

Kind = Literal["numeric", "categorical"]
TimeUnit = Literal["iso8601", "s", "ms", "us", "ns"]
Format = Literal["ndjson", "json", "csv", "parquet", "arrow"]
Severity = Literal["warning", "critical"]

#: Columns of every divergence array, in this order.
DIVERGENCES = (
    "kl",
    "reverse_kl",
    "js",
    "psi",
    "total_variation",
    "hellinger",
    "entropy",
    "cross_entropy",
)


# --- what a monitor watches (from the configuration) ---------------------------------------------


@dataclass(frozen=True, slots=True)
class Bins:
    """How a numeric feature is cut into bins; see ``drift.binning``.

    `quantile` takes `probabilities`, `uniform` and `logarithmic` take `count` and `value_range`, `edges` takes
    `edges`, `discrete` takes nothing.
    """

    method: Literal["quantile", "uniform", "logarithmic", "edges", "discrete"] = "quantile"
    count: int | None = None
    value_range: tuple[float, float] | None = None
    edges: tuple[float, ...] | None = None
    probabilities: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class ReferenceData:
    """A reference counted from a data file (Parquet, CSV or NDJSON)."""

    path: Path


@dataclass(frozen=True, slots=True)
class ReferenceFile:
    """A reference made earlier by ``kldrift reference build``."""

    path: Path


@dataclass(frozen=True, slots=True)
class ReferenceInline:
    """A reference written into the configuration, for one feature.

    Exactly one of `counts` (a sample: m is their sum) and `probabilities` (known exactly: m is infinite).
    A numeric feature has `edges` (one more than cells), a categorical one `categories` (as many as cells).
    """

    edges: tuple[float, ...] | None = None
    categories: tuple[str, ...] | None = None
    counts: tuple[int, ...] | None = None
    probabilities: tuple[float, ...] | None = None


ReferenceSpec = ReferenceData | ReferenceFile | ReferenceInline


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One feature of a monitor. `reference` overrides the monitor's."""

    name: str
    kind: Kind
    bins: Bins = Bins()
    max_categories: int = 100
    reference: ReferenceSpec | None = None
    warning: float = 0.01
    critical: float = 0.1


@dataclass(frozen=True, slots=True)
class Smoothing:
    """How empty cells of the reference get a probability.

    q = (y + a) / (m + a B) with ``a = pseudocount + epsilon * m``; ``Smoothing(0, 0)`` smooths nothing.
    """

    name: str = "jeffreys"
    pseudocount: float = 0.5
    epsilon: float = 0.0


@dataclass(frozen=True, slots=True)
class TimestampSpec:
    """The field of a row that holds its event time."""

    field: str
    unit: TimeUnit


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """A sliding window; `name` is the metric label, as configured (``5m``)."""

    name: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class MonitorSpec:
    """Everything one monitor needs to know."""

    name: str
    features: tuple[FeatureSpec, ...]
    windows: tuple[WindowSpec, ...]
    reference: ReferenceSpec | None = None
    sources: tuple[str, ...] = ()
    timestamp: TimestampSpec | None = None
    allowed_lateness_ms: int = 60_000
    smoothing: Smoothing = Smoothing()
    divergences: tuple[str, ...] = ("kl",)


# --- bytes to samples ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FeatureSchema:
    """What to decode for one feature.

    A numeric column is float64, NaN where missing. A categorical column is int32: the index into `categories`,
    ``len(categories)`` for a value that is not among them (unseen), ``len(categories) + 1`` for missing.
    A category is its text; numbers are written without a trailing ``.0`` (1 and 1.0 are ``"1"``), booleans are
    ``"true"`` and ``"false"``.
    """

    name: str
    kind: Kind
    categories: tuple[str, ...] = ()

    @property
    def unseen_code(self) -> int:
        """Code of a value that is not among the categories."""
        return len(self.categories)

    @property
    def missing_code(self) -> int:
        """Code of a null, absent or invalid value."""
        return len(self.categories) + 1


@dataclass(frozen=True, slots=True)
class BatchSchema:
    """What a monitor wants decoded from a row."""

    features: tuple[FeatureSchema, ...]
    timestamp: TimestampSpec | None = None


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """Rows as columns, in the order of the schema's features.

    Parameters
    ----------
    n_rows : rows in every column (rejected rows are not among them)
    columns : one C-contiguous (n_rows,) array a feature, float64 or int32 (see `FeatureSchema`)
    event_ms : (n_rows,) int64 event times; None where the schema has no timestamp
    invalid : (feature index, row indices) of values of the wrong type; the column holds *missing* there
    n_bytes : what the batch holds in memory, for the bounded queue
    """

    n_rows: int
    columns: tuple[npt.NDArray[np.float64] | npt.NDArray[np.int32], ...]
    event_ms: IntArray | None = None
    invalid: tuple[tuple[int, IntArray], ...] = ()
    n_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RowError:
    """Why a row, or one value of it, was not taken; `feature` is None for a whole row."""

    row: int
    feature: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class BodyResult:
    """What became of one body of a gathered decode.

    Parameters
    ----------
    accepted : rows of this body in the batch (they follow one another, in order of the bodies)
    rejected : rejected rows by reason, a word from a bounded set (``malformed``, ``not_an_object``, ``timestamp`` …)
    errors : the first ten, with row numbers counted from 0 in this body
    unreadable : why nothing at all could be read, else None; then `accepted` is 0
    rows : (accepted,) row numbers of the accepted rows; None where they are 0, 1, 2 …
    """

    accepted: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    errors: tuple[RowError, ...] = ()
    unreadable: str | None = None
    rows: IntArray | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a posted body, once its samples are committed.

    Parameters
    ----------
    accepted : rows that were counted
    rejected : rows that could not be read
    late : rows that came after their window had closed
    errors : the first ten reasons, with row numbers counted from 0 in the body
    unreadable : why nothing at all could be read, else None; then the numbers are 0
    """

    accepted: int
    rejected: int = 0
    late: int = 0
    errors: tuple[RowError, ...] = ()
    unreadable: str | None = None


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch and, for each body that went into it, what became of its rows."""

    batch: SampleBatch
    bodies: tuple[BodyResult, ...]


@dataclass(frozen=True, slots=True)
class CategoricalColumn:
    """A categorical column of reference data: distinct `values`, and `codes` into them, -1 where missing."""

    values: tuple[str, ...]
    codes: CodeArray


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows of a file whose format is not a stream of bytes (Parquet)."""

    path: Path
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a source.

    Parameters
    ----------
    stream : the log within the source that the piece came from (a path, a partition); each has its own position
    position : where to go on after this piece, as the source understands it; JSON-able
    payload : whole records, never a part of one
    arrival_ms : when it was read; the event time where rows carry none
    lag_records : records known to wait behind this piece, if the source knows
    header : the record that names the columns, with its newline, where the format has one (CSV); not in `payload`
    lag_bytes : bytes of this stream known to wait behind this piece, if the source knows
    """

    stream: str
    position: Mapping[str, int | str]
    payload: bytes | RowRange
    arrival_ms: int
    lag_records: int | None = None
    header: bytes = b""
    lag_bytes: int | None = None


# --- counts to divergences -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AddResult:
    """What a monitor did with a batch.

    Parameters
    ----------
    counted : rows that went into panes
    late, future : (n,) int64 row indices that came too late, or claim to come from the future
    invalid : (n_features,) int64, values of the wrong type
    """

    counted: int
    late: IntArray
    future: IntArray
    invalid: IntArray


@dataclass(frozen=True, slots=True)
class FeatureInfo:
    """The identity of a feature's bins and reference, for labels, the API and pages.

    Parameters
    ----------
    edges : (n_bins + 1,) for a numeric feature, else None; bins are [a, b), the last one [a, b]
    categories : the categories with a bin of their own, for a categorical feature, else None
    cells : the name of every cell of the feature's counts, in order
    reference_counts : (n_cells,) int64; None where the reference is known exactly
    reference_probabilities : (n_cells,) float64, smoothed: the q of every divergence
    reference_rows : m, ``inf`` where known exactly
    problem : why this reference supports no verdict, else None
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


@dataclass(frozen=True, slots=True)
class MonitorSnapshot:
    """The divergences of one monitor at one instant. Arrays are read-only.

    W windows, F features, C cells over all features; feature f owns ``offsets[f]:offsets[f + 1]`` of the cells.

    Parameters
    ----------
    at_ms : the instant the windows end (event time)
    samples : (W, F) int64, n of each series
    divergences : (W, F, len(DIVERGENCES)) float64, nats; NaN where the window is empty
    noise_floor : (W, F) float64, nats; the KL to expect at this n with no drift
    lower, upper : (W, F) float64, nats; confidence bounds on the KL; NaN where undecided
    log10_p_value : (W, F) float64, of "the KL is within the warning tolerance"; NaN where undecided
    effective_samples : (W, F) float64, independent samples that the window and the reference are worth together
    ready : (W, F) bool, n large enough and the reference usable
    missing_ratio, unseen_ratio, out_of_range_ratio : (W, F) float64; NaN where undefined
    counts : (W, C) int64, live
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
    missing_ratio: FloatArray
    unseen_ratio: FloatArray
    out_of_range_ratio: FloatArray
    counts: IntArray


@dataclass(frozen=True, slots=True)
class DriftSnapshot:
    """Everything that readers see; swapped whole at each tick."""

    evaluated_ms: int
    monitors: tuple[MonitorSnapshot, ...] = ()
