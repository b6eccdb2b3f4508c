"""The records that pass between the stages; every stage may import them, they import nothing of ours.

Instants and durations are integer milliseconds (`_ms`), instants since the Unix epoch.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
CodeArray = npt.NDArray[np.int32]

Kind = Literal["numeric", "categorical", "vector", "posterior"]
TimeUnit = Literal["iso8601", "s", "ms", "us", "ns"]
Format = Literal["ndjson", "json", "csv", "parquet", "arrow"]
Severity = Literal["warning", "critical"]
Covariance = Literal["diagonal", "full"]
Family = Literal[
    "normal", "lognormal", "exponential", "gamma", "beta", "uniform", "poisson", "bernoulli", "categorical"
]
Estimator = Literal["kldrift", "evidently", "boxkite", "mlrun", "driftwatch"]
Correction = Literal["bh", "by"]

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


@dataclass(frozen=True, slots=True)
class ReferenceFamily:
    """A member of a parametric family: with given parameters (known exactly), or the likeliest one for a data file.

    Parameters
    ----------
    parameters : (name, value) pairs; empty where fitted
    fit : a data file; None where the parameters are given
    """

    family: Family
    parameters: tuple[tuple[str, float], ...] = ()
    fit: Path | None = None


@dataclass(frozen=True, slots=True)
class ReferenceLearn:
    """The first `rows` rows of the stream."""

    rows: int


@dataclass(frozen=True, slots=True)
class ReferencePrevious:
    """The same window, `offset_ms` earlier. Its bins come from a file, or from the first `learn` rows of the stream."""

    offset_ms: int
    learn: int = 10_000
    bins: ReferenceData | ReferenceFile | None = None


ReferenceSpec = ReferenceData | ReferenceFile | ReferenceInline | ReferenceFamily | ReferenceLearn | ReferencePrevious


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One feature of a monitor. `reference` overrides the monitor's.

    A `vector` has `dimensions` numbers. A `posterior` is the q(z|x) of a variational autoencoder: `dimensions` means,
    then as many logarithms of variances; its KL from N(0, I) is averaged over the samples, and needs no reference.
    """

    name: str
    kind: Kind
    bins: Bins = Bins()
    max_categories: int = 100
    reference: ReferenceSpec | None = None
    warning: float = 0.01
    critical: float = 0.1
    dimensions: int = 0
    covariance: Covariance = "diagonal"
    per_dimension: bool = False


@dataclass(frozen=True, slots=True)
class SegmentSpec:
    """Rows are watched by the value of field `by` as well; at most `limit` values, the rest is *other*."""

    by: str
    limit: int = 20


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
    """Everything one monitor needs to know.

    Parameters
    ----------
    confidence : of a feature's bounds, one side, shared by its windows; verdicts have 1 - confidence as false discovery
        rate
    correction : how the verdicts account for many features: Benjamini-Hochberg or Benjamini-Yekutieli
    estimator : whose way of estimating KL is exported as ``kl``; bounds and verdicts are always kldrift's own
    """

    name: str
    features: tuple[FeatureSpec, ...]
    windows: tuple[WindowSpec, ...]
    reference: ReferenceSpec | None = None
    sources: tuple[str, ...] = ()
    timestamp: TimestampSpec | None = None
    allowed_lateness_ms: int = 60_000
    smoothing: Smoothing = Smoothing()
    divergences: tuple[str, ...] = ("kl",)
    segments: SegmentSpec | None = None
    estimator: Estimator = "kldrift"
    confidence: float = 0.9999
    correction: Correction = "bh"


# --- bytes to samples ------------------------------------------------------------------------------


class Vocabulary:
    """Texts and their codes, in order of appearance: for categories that are not known beforehand.

    Decoders of several threads add to it. A code, once given, stays.

    Parameters
    ----------
    limit : texts beyond so many get no code of their own
    texts : those that are there from the beginning
    """

    def __init__(self, limit: int, texts: Sequence[str] = ()) -> None:
        self.limit = limit
        self._codes = {text: code for code, text in enumerate(texts[:limit])}
        self._texts = list(texts[:limit])
        self._lock = threading.Lock()

    def code(self, text: str) -> int:
        """The code of a text, a new one where it is new and there is room, else `limit`."""
        code = self._codes.get(text)
        if code is not None:
            return code
        with self._lock:
            if text not in self._codes and len(self._texts) < self.limit:
                self._texts.append(text)
                self._codes[text] = len(self._texts) - 1
            return self._codes.get(text, self.limit)

    def find(self, text: str) -> int | None:
        """The code of a text, None where it has none."""
        return self._codes.get(text)

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts, in order of their codes."""
        return tuple(self._texts)


@dataclass(frozen=True, slots=True)
class FeatureSchema:
    """What to decode for one column.

    A numeric column is (n_rows,) float64, NaN where missing. A categorical column is (n_rows,) int32: the index into
    `categories`, `unseen_code` for a value that is not among them, `missing_code` for missing. With a `vocabulary` in
    place of categories a code is that of the vocabulary. A category is its text; numbers are written without a trailing
    ``.0`` (1 and 1.0 are ``"1"``), booleans are ``"true"`` and ``"false"``.
    A vector column is (n_rows, dimensions) float64, C-contiguous; NaN throughout where a vector is missing or invalid
    (no list, another length, an element that is no finite number). There is no column of kind ``posterior``: it is read
    as a vector.
    """

    name: str
    kind: Kind
    categories: tuple[str, ...] = ()
    dimensions: int = 0
    vocabulary: Vocabulary | None = None

    @property
    def unseen_code(self) -> int:
        """Code of a value that is not among the categories."""
        return len(self.categories) if self.vocabulary is None else self.vocabulary.limit

    @property
    def missing_code(self) -> int:
        """Code of a null, absent or invalid value."""
        return self.unseen_code + 1


@dataclass(frozen=True, slots=True)
class BatchSchema:
    """What a monitor wants decoded from a row.

    The features of the monitor, and behind them the column by which it is segmented, if it is. Two columns may be read
    from one field.
    """

    features: tuple[FeatureSchema, ...]
    timestamp: TimestampSpec | None = None

    @property
    def row_numbers(self) -> int:
        """Numbers and codes in a row."""
        return sum(max(1, feature.dimensions) for feature in self.features)


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """Rows as columns, in the order of the schema's features.

    Parameters
    ----------
    n_rows : rows in every column (rejected rows are not among them)
    columns : one C-contiguous array a column of the schema, (n_rows,) or (n_rows, dimensions), float64 or int32 (see
        `FeatureSchema`)
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
    folded : rows whose segment has no place of its own
    learned : features whose reference the batch completed
    """

    counted: int
    late: IntArray
    future: IntArray
    invalid: IntArray
    folded: int = 0
    learned: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FeatureInfo:
    """The identity of a feature's bins and reference, for labels, the API and pages.

    Parameters
    ----------
    edges : (n_bins + 1,) for a numeric feature, else None; bins are [a, b), the last one [a, b]
    categories : the categories with a bin of their own, for a categorical feature, else None
    cells : the name of every cell of the feature's counts, in order; a vector is ``present`` or ``missing``
    reference_counts : (n_cells,) int64; None where the reference is known exactly
    reference_probabilities : (n_cells,) float64, smoothed: the q of every divergence
    reference_rows : m, ``inf`` where known exactly
    problem : why this reference supports no verdict, else None
    reference_text : where the reference comes from, for people
    parameters : what a parametric reference, given or fitted, was computed from: (name, value) pairs
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
    dispersion : (W, F) float64, what the statistic was divided by before it was compared with its distribution
    detected : (F, 2) float64, the verdict at the warning and the critical tolerance over all windows: 1 drift, 0 none,
        NaN undecided
    reference_probabilities : (W, C) float64, the q that each window was compared with
    reference_rows : (W, F) float64, m of each window's reference, ``inf`` where known exactly
    ready : (W, F) bool, n large enough and the reference usable
    missing_ratio, unseen_ratio, out_of_range_ratio : (W, F) float64; NaN where undefined
    counts : (W, C) int64, live
    segment : the value that all rows share, in the snapshot of a segment, else None
    segments : a snapshot of each segment with rows, largest first, then *other*; the same windows and features
    segment_mix : (W,) float64, KL of the live shares of the segments from the reference's; NaN where the reference does
        not know them; empty without segments
    within_segments : (W, F) float64, sum over segments of share x KL within; with the mix it makes up the KL of segment
        and feature together; empty without segments
    per_dimension : KL of each dimension, (W, d), of the features by index that ask for it
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
    dispersion: FloatArray
    detected: FloatArray
    reference_probabilities: FloatArray
    reference_rows: FloatArray
    estimator: Estimator = "kldrift"
    confidence: float = 0.9999
    segment: str | None = None
    segments: "tuple[MonitorSnapshot, ...]" = ()
    segment_mix: FloatArray = field(default_factory=lambda: np.empty(0))
    within_segments: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    per_dimension: Mapping[int, FloatArray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DriftSnapshot:
    """Everything that readers see; swapped whole at each tick."""

    evaluated_ms: int
    monitors: tuple[MonitorSnapshot, ...] = ()
