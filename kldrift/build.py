"""From the configuration's records to the parts: references, monitors, sources."""

from collections.abc import Callable, Sequence
from pathlib import Path

from kldrift.config import Distribution, FileSourceConfig, SourceConfig, StdinSourceConfig, SyntheticSourceConfig
from kldrift.drift.binning import MIN_CELL_COUNT
from kldrift.drift.monitor import Monitor
from kldrift.drift.reference import FeatureReference, build_references, by_name, inline_reference
from kldrift.drift.reference_file import load_references
from kldrift.errors import ReferenceProblem
from kldrift.records import FeatureSpec, Format, MonitorSpec, ReferenceData, ReferenceFile
from kldrift.sources.base import Source
from kldrift.sources.distributions import Distribution as Drawn
from kldrift.sources.distributions import distribution
from kldrift.sources.file import FileSource
from kldrift.sources.stdin import StdinSource
from kldrift.sources.synthetic import SyntheticSource
from kldrift.wire import parquet_rows, read_columns

Notice = Callable[[str], None]


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
            monitors.append(Monitor(spec, references_of(spec, created_ms, notice)))
        except ReferenceProblem as problem:
            problems += [f"monitors.{spec.name}: {line}" for line in str(problem).splitlines()]
    if problems:
        raise ReferenceProblem("\n".join(problems))
    return tuple(monitors)


def references_of(spec: MonitorSpec, created_ms: int, notice: Notice = lambda _: None) -> tuple[FeatureReference, ...]:
    """The references of a monitor's features, in their order; each file is read once."""
    by_origin: dict[ReferenceData | ReferenceFile, list[FeatureSpec]] = {}
    found: dict[str, FeatureReference] = {}
    problems: list[str] = []
    for feature in spec.features:
        given = feature.reference or spec.reference
        if given is None:
            problems.append(f"{feature.name}: expected a reference, got none; give the monitor or the feature one")
        elif isinstance(given, ReferenceData | ReferenceFile):
            by_origin.setdefault(given, []).append(feature)
        else:
            found[feature.name] = inline_reference(feature.name, feature.kind, given, created_ms)
    for origin, features in by_origin.items():
        try:
            if isinstance(origin, ReferenceData):
                made = reference_from_data(origin.path, features, created_ms, notice)
            else:
                made = _from_file(origin.path, features)
            found |= {reference.name: reference for reference in made}
        except ReferenceProblem as problem:
            problems += str(problem).splitlines()
    if problems:
        raise ReferenceProblem("\n".join(problems))
    return tuple(found[feature.name] for feature in spec.features)


def reference_from_data(
    path: Path, features: Sequence[FeatureSpec], created_ms: int, notice: Notice = lambda _: None
) -> tuple[FeatureReference, ...]:
    """Count the reference of some features in a data file."""
    table = read_columns(path, [(feature.name, feature.kind) for feature in features])
    n_invalid = sum(table.n_invalid)
    if n_invalid or table.n_rejected:
        notice(
            f"reference {path.name}: {table.n_rejected} rows could not be read and were left out,"
            f" {n_invalid} values of the wrong type were counted as missing"
        )
    built = build_references(features, table.columns, created_ms, f"{path.name} sha256:{table.sha256[:16]}")
    for reference in built:
        if reference.categories == ():
            notice(
                f"reference {path.name}: {reference.name}: no category is frequent enough for a bin of its own"
                f" ({MIN_CELL_COUNT} rows), so that only new ones can be seen; is it an identifier? remove it"
            )
    return built


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
) -> tuple[Source, Format]:
    """A source and the format of its bytes.

    Parameters
    ----------
    on_error : told (reason, detail) of what the source could not read and went on without
    once : read to the end and stop, even where the source is configured to be followed
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
            on_error=on_error,
        ), config.format
    if isinstance(config, StdinSourceConfig):
        return StdinSource(config.name, config.format == "csv", clock_ms, on_error), config.format
    return build_synthetic(config, clock_ms), "ndjson"


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
