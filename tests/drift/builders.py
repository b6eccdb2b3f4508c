"""Small references, batches and monitors for tests."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kldrift.drift.monitor import Monitor
from kldrift.drift.references.data import build_references
from kldrift.drift.references.family import family_reference
from kldrift.drift.references.reference import FeatureReference
from kldrift.records.samples import CategoricalColumn, SampleBatch
from kldrift.records.specs import FeatureSpec, MonitorSpec, ReferenceFamily, Smoothing, TimestampSpec, WindowSpec
from kldrift.records.types import FloatArray

MINUTE = 60_000
HOUR = 60 * MINUTE

JEFFREYS = Smoothing()


def categorical(values: Sequence[str | None]) -> CategoricalColumn:
    names = tuple(sorted({value for value in values if value is not None}))
    codes = [-1 if value is None else names.index(value) for value in values]
    return CategoricalColumn(names, np.array(codes, dtype=np.int32))


def reference(*columns: tuple[FeatureSpec, object]) -> tuple[FeatureReference, ...]:
    specs = [spec for spec, _ in columns]
    return build_references(specs, [column for _, column in columns], 1_700_000_000_000, "test")  # type: ignore[misc]


def vector_reference(spec: FeatureSpec, values: FloatArray, created_ms: int = 0, source: str = "r") -> FeatureReference:
    """The normal distribution nearest to the vectors."""
    return build_references([spec], [values], created_ms, source)[0]


def normal_reference(spec: FeatureSpec, mean: float, std: float, created_ms: int = 0) -> FeatureReference:
    """A normal distribution of vectors that is known exactly."""
    given = ReferenceFamily("normal", (("mean", mean), ("std", std)))
    return family_reference(spec, given, None, created_ms, "normal")


def edges_spec(name: str = "x", edges: Sequence[float] = (0, 1, 2, 3)) -> FeatureSpec:
    from kldrift.records.specs import Bins

    return FeatureSpec(name, "numeric", Bins("edges", edges=tuple(edges)))


def monitor(
    *columns: tuple[FeatureSpec, object],
    windows: Sequence[WindowSpec] = (WindowSpec("1h", HOUR),),
    event_time: bool = False,
    lateness_ms: int = MINUTE,
    smoothing: Smoothing = JEFFREYS,
) -> Monitor:
    spec = MonitorSpec(
        name="m",
        features=tuple(spec for spec, _ in columns),
        windows=tuple(windows),
        timestamp=TimestampSpec("ts", "ms") if event_time else None,
        allowed_lateness_ms=lateness_ms,
        smoothing=smoothing,
    )
    return Monitor(spec, reference(*columns))


def batch(
    *columns: npt.ArrayLike, times: Sequence[int] | None = None, invalid: Sequence[tuple[int, Sequence[int]]] = ()
) -> SampleBatch:
    arrays = tuple(np.ascontiguousarray(column) for column in columns)
    return SampleBatch(
        n_rows=arrays[0].size,
        columns=arrays,
        event_ms=None if times is None else np.array(times, dtype=np.int64),
        invalid=tuple((feature, np.array(rows, dtype=np.int64)) for feature, rows in invalid),
    )


UNIFORM_EXAMPLE = np.repeat([0.5, 1.5, 2.5], 100)
