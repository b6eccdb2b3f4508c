"""From the configuration's records to the parts: references, monitors, sources."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kldrift.config import (
    Distribution,
    FileSourceConfig,
    KafkaSourceConfig,
    SourceConfig,
    StdinSourceConfig,
    SyntheticSourceConfig,
)
from kldrift.config.values import duration_text
from kldrift.drift.binning import MIN_CELL_COUNT
from kldrift.drift.families import family_reference
from kldrift.drift.learning import to_learn
from kldrift.drift.monitor import Monitor
from kldrift.drift.reference import FeatureReference, build_references, by_name, inline_reference
from kldrift.drift.reference_file import load_references
from kldrift.drift.segments import Segmentation, segment_references
from kldrift.drift.vectors import given_vector_reference, posterior_reference, vector_reference
from kldrift.errors import ReferenceProblem
from kldrift.records import (
    CategoricalColumn,
    FeatureSpec,
    FloatArray,
    Format,
    MonitorSpec,
    ReferenceData,
    ReferenceFamily,
    ReferenceFile,
    ReferenceInline,
    ReferenceLearn,
    ReferencePrevious,
    ReferenceSpec,
)
from kldrift.sources.base import Positions, Source
from kldrift.sources.distributions import Distribution as Drawn
from kldrift.sources.distributions import distribution
from kldrift.sources.file import FileSource
from kldrift.sources.kafka import KafkaSecurity, KafkaSource
from kldrift.sources.stdin import StdinSource
from kldrift.sources.synthetic import SyntheticSource
from kldrift.wire import parquet_rows, read_columns

Notice = Callable[[str], None]

#: A chunk of a Parquet file has at most so many rows, and so many numbers (128 MB).
MAX_CHUNK_ROWS = 1 << 16
MAX_CHUNK_NUMBERS = 1 << 24


def build_monitors(
    specs: Sequence[MonitorSpec], created_ms: int, notice: Notice = lambda _: None
) -> tuple[Monitor, ...]:
    """A monitor for each specification, with its references.

    Parameters
    ----------
    created_ms : now; the age of a reference that is counted from data begins here
    notice : told of what a reference left out

    Raises
    ------
    ReferenceProblem
        every reference that cannot be had, one problem a line, each with its monitor
    """
    monitors: list[Monitor] = []
    problems: list[str] = []
    for spec in specs:
        try:
            monitors.append(build_monitor(spec, created_ms, notice))
        except ReferenceProblem as problem:
            problems += [f"monitors.{spec.name}: {line}" for line in str(problem).splitlines()]
    if problems:
        raise ReferenceProblem("\n".join(problems))
    return tuple(monitors)


def build_monitor(spec: MonitorSpec, created_ms: int, notice: Notice = lambda _: None) -> Monitor:
    """A monitor with its references; each file is read once for all features."""
    found: dict[str, FeatureReference] = {}
    data: dict[str, FloatArray | CategoricalColumn] = {}
    problems: list[str] = []
    by_origin: dict[ReferenceData | ReferenceFile, list[FeatureSpec]] = {}
    for feature in spec.features:
        given = feature.reference or spec.reference
        origin = given.bins if isinstance(given, ReferencePrevious) else given
        if isinstance(origin, ReferenceData | ReferenceFile) and feature.kind != "posterior":
            by_origin.setdefault(origin, []).append(feature)
            continue
        try:
            found[feature.name] = _single_reference(feature, given, created_ms)
        except ReferenceProblem as problem:
            problems.append(f"{feature.name}: {problem}")
    for origin, features in by_origin.items():
        try:
            if isinstance(origin, ReferenceData):
                made, columns = reference_from_data(origin.path, features, created_ms, notice)
                if origin == _origin(spec.reference):
                    data = dict(zip((feature.name for feature in features), columns, strict=True))
            else:
                made = _from_file(origin.path, features)
            found |= {reference.name: reference for reference in made}
        except ReferenceProblem as problem:
            problems += str(problem).splitlines()
    if problems:
        raise ReferenceProblem("\n".join(problems))
    for feature in spec.features:
        given = feature.reference or spec.reference
        if isinstance(given, ReferencePrevious) and feature.kind != "posterior":
            source = f"the same window {duration_text(given.offset_ms)} earlier, bins from {found[feature.name].source}"
            found[feature.name] = replace(found[feature.name], offset_ms=given.offset_ms, source=source, created_ms=0)
    references = tuple(found[feature.name] for feature in spec.features)
    return Monitor(spec, references, _segmentation(spec, references, data, notice))


def _origin(given: ReferenceSpec | None) -> ReferenceSpec | None:
    """The data or file that the bins come from."""
    return given.bins if isinstance(given, ReferencePrevious) else given


def _single_reference(feature: FeatureSpec, given: ReferenceSpec | None, created_ms: int) -> FeatureReference:
    """A reference that is no file with references of several features.

    Raises
    ------
    ReferenceProblem
        there is none, or it cannot be had
    """
    if feature.kind == "posterior":
        return posterior_reference(feature, created_ms)
    if isinstance(given, ReferenceInline):
        return inline_reference(feature.name, feature.kind, given, created_ms)
    if isinstance(given, ReferenceLearn):
        return to_learn(feature, given.rows)
    if isinstance(given, ReferencePrevious):
        return to_learn(feature, given.learn)
    if isinstance(given, ReferenceFamily):
        return _family_reference(feature, given, created_ms)
    raise ReferenceProblem("expected a reference, got none; give the monitor or the feature one")


def _family_reference(feature: FeatureSpec, given: ReferenceFamily, created_ms: int) -> FeatureReference:
    column: FloatArray | CategoricalColumn | None = None
    source: str = given.family
    if given.fit is not None:
        table = read_columns(given.fit, [(feature.name, feature.kind)])
        column, source = table.columns[0], _source(given.fit, table.sha256)
    if feature.kind != "vector":
        return family_reference(feature, given, column, created_ms, source)
    if column is None:
        parameters = dict(given.parameters)
        return given_vector_reference(feature, parameters["mean"], parameters["std"], created_ms)
    assert not isinstance(column, CategoricalColumn)
    return vector_reference(feature, column, created_ms, source)


def _source(path: Path, sha256: str) -> str:
    return f"{path.name} sha256:{sha256[:16]}"


def _segmentation(
    spec: MonitorSpec,
    references: Sequence[FeatureReference],
    data: Mapping[str, FloatArray | CategoricalColumn],
    notice: Notice,
) -> Segmentation | None:
    """The references of the segments, where the monitor's reference is data that has the field they are made by."""
    if spec.segments is None:
        return None
    origin = _origin(spec.reference)
    if not data or not isinstance(origin, ReferenceData):
        return Segmentation()
    try:
        by = read_columns(origin.path, [(spec.segments.by, "categorical")]).columns[0]
    except ReferenceProblem:
        notice(
            f"monitors.{spec.name}: the reference {origin.path.name} does not say which segment ({spec.segments.by})"
            " its rows belong to: every segment is compared with all of it"
        )
        return Segmentation()
    assert isinstance(by, CategoricalColumn)
    columns = [data.get(feature.name) for feature in spec.features]
    return segment_references(spec.features, references, columns, by, spec.segments.limit)


def reference_from_data(
    path: Path, features: Sequence[FeatureSpec], created_ms: int, notice: Notice = lambda _: None
) -> tuple[tuple[FeatureReference, ...], tuple[FloatArray | CategoricalColumn, ...]]:
    """Count the reference of some features in a data file; with the columns that were counted."""
    table = read_columns(path, [(feature.name, feature.kind, feature.dimensions) for feature in features])
    n_invalid = sum(table.n_invalid)
    if n_invalid or table.n_rejected:
        notice(
            f"reference {path.name}: {table.n_rejected} rows could not be read and were left out,"
            f" {n_invalid} values of the wrong type were counted as missing"
        )
    source = _source(path, table.sha256)
    binned = [i for i, feature in enumerate(features) if feature.kind != "vector"]
    counted = build_references([features[i] for i in binned], [table.columns[i] for i in binned], created_ms, source)
    built: dict[int, FeatureReference] = dict(zip(binned, counted, strict=True))
    for i, feature in enumerate(features):
        column = table.columns[i]
        if feature.kind == "vector" and not isinstance(column, CategoricalColumn):
            built[i] = vector_reference(feature, column, created_ms, source)
    references = tuple(built[i] for i in range(len(features)))
    for reference in references:
        if reference.categories == ():
            notice(
                f"reference {path.name}: {reference.name}: no category is frequent enough for a bin of its own"
                f" ({MIN_CELL_COUNT} rows), so that only new ones can be seen; is it an identifier? remove it"
            )
    return references, table.columns


def _from_file(path: Path, features: Sequence[FeatureSpec]) -> tuple[FeatureReference, ...]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReferenceProblem(
            f"{path}: expected a reference file, got {error}; make it with `kldrift reference build`"
        ) from None
    picked = by_name(load_references(text, str(path)), [feature.name for feature in features], str(path))
    for feature, reference in zip(features, picked, strict=True):
        if feature.kind != reference.kind:
            raise ReferenceProblem(
                f"{path}: {feature.name}: expected kind {feature.kind}, got {reference.kind}; build it again"
            )
        edges = feature.bins.edges
        if edges is not None and reference.edges is not None and tuple(reference.edges.tolist()) != edges:
            raise ReferenceProblem(
                f"{path}: {feature.name}: expected the edges of the configuration, the file has others; build it again"
            )
    return tuple(picked)


def build_source(
    config: SourceConfig,
    clock_ms: Callable[[], int],
    on_error: Callable[[str, str], None],
    once: bool,
    row_numbers: int = 1,
    settled: Callable[[], Positions] | None = None,
    on_rebalance: Callable[[Sequence[str]], None] = lambda _: None,
) -> tuple[Source, Format]:
    """A source and the format of its bytes.

    Parameters
    ----------
    row_numbers : numbers that are read from a row, so that chunks of wide rows stay within memory
    on_error : told (reason, detail) of what the source could not read and went on without
    once : read to the end and stop, even where the source is configured to be followed
    settled : positions of this source that are counted for good, by stream
    on_rebalance : told the streams that are ours, after each change
    """
    if isinstance(config, FileSourceConfig):
        return FileSource(
            name=config.name,
            pattern=config.path,
            framing="rows" if config.format == "parquet" else "lines",
            header=config.format == "csv",
            follow=config.follow and not once,
            clock_ms=clock_ms,
            count_rows=parquet_rows if config.format == "parquet" else None,
            rows_per_chunk=max(1, min(MAX_CHUNK_ROWS, MAX_CHUNK_NUMBERS // max(1, row_numbers))),
            on_error=on_error,
        ), config.format
    if isinstance(config, KafkaSourceConfig):
        return build_kafka(config, clock_ms, on_error, once, settled, on_rebalance)
    if isinstance(config, StdinSourceConfig):
        return StdinSource(config.name, config.format == "csv", clock_ms, on_error), config.format
    return build_synthetic(config, clock_ms), "ndjson"


def build_kafka(
    config: KafkaSourceConfig,
    clock_ms: Callable[[], int],
    on_error: Callable[[str, str], None],
    once: bool,
    settled: Callable[[], Positions] | None,
    on_rebalance: Callable[[Sequence[str]], None],
) -> tuple[KafkaSource, Format]:
    """A Kafka source; its rows come as lines, whatever JSON a value is."""
    given = config.security
    security = None if given is None else KafkaSecurity(**{key: getattr(given, key) for key in given.__slots__})
    source = KafkaSource(
        config.name,
        config.brokers,
        config.topic,
        config.group,
        config.format,
        config.start,
        not once,
        clock_ms,
        on_error,
        member=config.member,
        security=security,
        settled=settled,
        on_rebalance=on_rebalance,
    )
    return source, "arrow" if config.format == "arrow" else "ndjson"


def build_synthetic(config: SyntheticSourceConfig, clock_ms: Callable[[], int]) -> SyntheticSource:
    """A synthetic source."""
    return SyntheticSource(
        name=config.name,
        features={name: _distribution(given) for name, given in config.features.items()},
        rate=config.rate_per_second,
        seed=config.seed,
        clock_ms=clock_ms,
        rows=config.rows,
        drift_after_ms=config.drift_after_ms,
        drift_features={name: _distribution(given) for name, given in config.drifted.items()},
    )


def _distribution(given: Distribution) -> Drawn:
    if given.name == "categorical":
        return distribution(given.name, probabilities=given.parameters, missing=given.missing)
    if given.name == "constant":
        return distribution(given.name, value=given.value, missing=given.missing)
    return distribution(given.name, **given.parameters, missing=given.missing)
