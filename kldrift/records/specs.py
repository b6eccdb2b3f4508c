"""Specifications of monitors, from the configuration."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kldrift.records.kinds import Kind
from kldrift.records.types import Aspect, Correction, Covariance, Estimator, Family, TimeUnit

#: Defaults of the configuration.
CONFIDENCE = 0.9999
WARNING, CRITICAL = 0.01, 0.1  # nats
MAX_CATEGORIES = 100
LEARNED_ROWS = 10_000  # from which a `previous` reference takes its bins


@dataclass(frozen=True, slots=True)
class Bins:
    """How a numeric feature is cut into bins; see ``drift.binning``.

    `quantile` uses `probabilities`; `uniform` and `logarithmic` use `count` and `value_range`; `edges` uses `edges`;
    `discrete` uses nothing.
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
    """A reference file built by ``kldrift reference build``."""

    path: Path


@dataclass(frozen=True, slots=True)
class ReferenceInline:
    """A reference for one feature, written in the configuration.

    It has exactly one of `counts` (a sample: m is their sum) and `probabilities` (known exactly: m is infinite). A
    numeric feature has `edges` (one more than cells), a categorical one `categories` (one per cell). `missing` is the
    share of rows without a value; None: unknown, so missing and invalid values are not part of the divergence.
    """

    edges: tuple[float, ...] | None = None
    categories: tuple[str, ...] | None = None
    counts: tuple[int, ...] | None = None
    probabilities: tuple[float, ...] | None = None
    missing: float | None = None

    @property
    def knows_missing(self) -> bool:
        """Whether it says how many values are missing."""
        return self.missing is not None


@dataclass(frozen=True, slots=True)
class ReferenceFamily:
    """A parametric family, with given parameters (known exactly) or fitted to a data file by maximum likelihood.

    Parameters
    ----------
    parameters : (name, value) pairs; empty if fitted
    fit : a data file; None if the parameters are given
    missing : beside given parameters, that of `ReferenceInline`
    """

    family: Family
    parameters: tuple[tuple[str, float], ...] = ()
    fit: Path | None = None
    missing: float | None = None

    @property
    def knows_missing(self) -> bool:
        """Whether it says how many values are missing, as the data does that it is fitted to."""
        return self.fit is not None or self.missing is not None


@dataclass(frozen=True, slots=True)
class ReferenceLearn:
    """The first `rows` rows of the stream."""

    rows: int


@dataclass(frozen=True, slots=True)
class ReferencePrevious:
    """The same window, `offset_ms` earlier. Its bins come from a file or from the first `learn` rows of the stream."""

    offset_ms: int
    learn: int = LEARNED_ROWS
    bins: ReferenceData | ReferenceFile | None = None


ReferenceSpec = ReferenceData | ReferenceFile | ReferenceInline | ReferenceFamily | ReferenceLearn | ReferencePrevious


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One feature of a monitor. `reference` overrides the monitor's.

    A `vector` has `dimensions` numbers. A `posterior` is the q(z|x) of a variational autoencoder: `dimensions` means,
    then as many logarithms of variances. Its KL from N(0, I) is averaged over the samples and needs no reference.

    With `of`, a numeric feature is that aspect of the field's values; `unit` is that of times that are numbers;
    None: times are ISO 8601 texts.
    """

    name: str
    kind: Kind
    bins: Bins = Bins()
    max_categories: int = MAX_CATEGORIES
    reference: ReferenceSpec | None = None
    warning: float = WARNING
    critical: float = CRITICAL
    dimensions: int = 0
    covariance: Covariance = "diagonal"
    per_dimension: bool = False
    of: Aspect | None = None
    unit: TimeUnit | None = None


@dataclass(frozen=True, slots=True)
class SegmentSpec:
    """Also monitor rows by the value of the field `by`; at most `limit` values, the rest are *other*."""

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
    """The field with the event time of a row."""

    field: str
    unit: TimeUnit


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """A sliding window; `name` is the metric label, as configured (``5m``)."""

    name: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class MonitorSpec:
    """The specification of one monitor.

    Parameters
    ----------
    confidence : one-sided confidence of a feature's bounds, shared by its windows; verdicts have a false discovery rate
        of 1 - confidence
    correction : how verdicts account for many features: Benjamini-Hochberg or Benjamini-Yekutieli
    estimator : the tool whose KL estimate is exported as ``kl``; bounds and verdicts always use kldrift's own
    missing_values : texts that stand for a missing value, in the reference and in live rows; None for those of the
        format
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
    confidence: float = CONFIDENCE
    correction: Correction = "bh"
    missing_values: tuple[str, ...] | None = None

    @property
    def missing_texts(self) -> frozenset[str] | None:
        """The same as a set."""
        return None if self.missing_values is None else frozenset(self.missing_values)
