"""From the checked models to the records that the parts of the daemon take."""

from collections.abc import Mapping
from pathlib import Path

from kldrift.config.checks import warnings
from kldrift.config.choices import FAMILIES, chosen
from kldrift.config.document import Document
from kldrift.config.records import (
    AuthConfig,
    Config,
    EngineConfig,
    GuardConfig,
    LogConfig,
    ServerConfig,
    StateConfig,
    TlsConfig,
)
from kldrift.config.schema import (
    AuthFiles,
    BinsModel,
    ConfigModel,
    DriftOverride,
    Epsilon,
    Feature,
    FeatureReference,
    Monitor,
    MonitorReference,
    Server,
    TlsFiles,
)
from kldrift.records.divergences import DIVERGENCES
from kldrift.records.specs import (
    LEARNED_ROWS,
    Bins,
    FeatureSpec,
    MonitorSpec,
    ReferenceData,
    ReferenceFamily,
    ReferenceFile,
    ReferenceInline,
    ReferenceLearn,
    ReferencePrevious,
    ReferenceSpec,
    SegmentSpec,
    Smoothing,
    TimestampSpec,
)

_PSEUDOCOUNTS = {"jeffreys": 0.5, "laplace": 1.0, "none": 0.0}


def build_config(model: ConfigModel, document: Document, path: Path) -> Config:
    """Build the records. `path` is the configuration file's; relative paths are taken from its folder."""
    folder = path.absolute().parent
    return Config(
        server=_server(model.server, folder),
        engine=EngineConfig(model.engine.tick, model.engine.threads, model.engine.queue),
        log=LogConfig(model.log.format, model.log.level),
        sources=tuple(source.record(name, folder) for name, source in model.sources.items()),
        monitors=tuple(_monitor(name, monitor, folder) for name, monitor in model.monitors.items()),
        warnings=warnings(document),
        state=StateConfig()
        if model.state == "none"
        else StateConfig(folder / model.state.path, model.state.commit_interval),
    )


def _server(server: Server, folder: Path) -> ServerConfig:
    tls, auth = server.tls, server.auth
    return ServerConfig(
        *server.listen,
        server.insecure,
        server.max_body,
        server.max_expanded,
        tls=None if tls is None else TlsConfig(**_paths(tls, folder)),
        auth=None if auth is None else AuthConfig(**_paths(auth, folder)),
        guard=GuardConfig(
            server.max_connections,
            server.max_client_connections,
            server.max_client_pending,
            server.header_timeout,
            server.body_timeout,
            server.idle_timeout,
            server.write_timeout,
        ),
    )


def _paths(files: TlsFiles | AuthFiles, folder: Path) -> dict[str, Path]:
    return {key: folder / path for key, path in files.model_dump(exclude_none=True).items()}


def _monitor(name: str, monitor: Monitor, folder: Path) -> MonitorSpec:
    tolerances = {"warning": monitor.drift.warning, "critical": monitor.drift.critical}
    exported = {"kl", *monitor.divergences}
    timestamp, segments = monitor.timestamp, monitor.segments
    return MonitorSpec(
        name=name,
        features=tuple(
            _feature(feature_name, feature, tolerances, folder) for feature_name, feature in monitor.features.items()
        ),
        windows=tuple(monitor.windows),
        reference=_reference(monitor.reference, folder),
        sources=tuple(monitor.sources),
        timestamp=None if timestamp is None else TimestampSpec(timestamp.field, timestamp.unit),
        allowed_lateness_ms=monitor.allowed_lateness,
        smoothing=_smoothing(monitor.smoothing),
        divergences=tuple(name for name in DIVERGENCES if name in exported),
        segments=None if segments is None else SegmentSpec(segments.by, segments.limit),
        estimator=monitor.estimator,
        confidence=monitor.drift.confidence,
        correction=monitor.drift.correction,
    )


def _smoothing(smoothing: str | Epsilon) -> Smoothing:
    if isinstance(smoothing, Epsilon):
        return Smoothing("epsilon", 0.0, smoothing.epsilon)
    return Smoothing(smoothing, _PSEUDOCOUNTS[smoothing], 0.0)


def _feature(name: str, feature: Feature, tolerances: Mapping[str, float], folder: Path) -> FeatureSpec:
    given = (feature.drift or DriftOverride()).model_dump(exclude_none=True)
    return FeatureSpec(
        name,
        feature.kind,
        Bins() if feature.bins is None else _bins(feature.bins),
        feature.max_categories,
        _reference(feature.reference, folder),
        **{**tolerances, **given},
        dimensions=feature.dimensions or 0,
        covariance=feature.covariance,
        per_dimension=feature.per_dimension,
    )


def _bins(bins: BinsModel) -> Bins:
    return Bins(
        bins.method or ("quantile" if bins.edges is None else "edges"),
        bins.count,
        None if bins.range is None else (bins.range[0], bins.range[1]),
        None if bins.edges is None else tuple(bins.edges),
        None if bins.probabilities is None else tuple(bins.probabilities),
    )


def _reference(reference: MonitorReference | None, folder: Path) -> ReferenceSpec | None:
    if reference is None:
        return None
    file: ReferenceData | ReferenceFile | None = None
    if reference.data is not None:
        file = ReferenceData(folder / reference.data)
    elif reference.file is not None:
        file = ReferenceFile(folder / reference.file)
    if reference.previous is not None:
        return ReferencePrevious(reference.previous, reference.learn or LEARNED_ROWS, file)
    if file is not None:
        return file
    if reference.learn is not None:
        return ReferenceLearn(reference.learn)
    assert isinstance(reference, FeatureReference)  # `checks` saw to it that one of the keys is there
    return _inline(reference) if reference.counts or reference.probabilities else _family(reference, folder)


def _family(reference: FeatureReference, folder: Path) -> ReferenceFamily:
    family = chosen(FAMILIES, reference.family)
    assert reference.family is not None and family is not None  # noqa: PT018 # `checks` saw to it
    if reference.fit is not None:
        return ReferenceFamily(reference.family, fit=folder / reference.fit)
    return ReferenceFamily(reference.family, tuple((key, getattr(reference, key)) for key in family.required))


def _inline(reference: FeatureReference) -> ReferenceInline:
    counts, probabilities = reference.counts, reference.probabilities
    given = counts if counts is not None else probabilities
    return ReferenceInline(
        None if reference.edges is None else tuple(reference.edges),
        tuple(given) if isinstance(given, dict) else None,
        None if counts is None else tuple(counts.values() if isinstance(counts, dict) else counts),
        None
        if probabilities is None
        else tuple(probabilities.values() if isinstance(probabilities, dict) else probabilities),
    )
