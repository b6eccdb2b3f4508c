"""Turn the validated models into the records that the daemon's parts take."""

from collections.abc import Mapping
from pathlib import Path

from kldrift.config.checks import warnings
from kldrift.config.choices import FAMILIES, chosen
from kldrift.config.document import Document
from kldrift.config.records import Config, EngineConfig, LogConfig, ServerConfig, StateConfig
from kldrift.config.schema import (
    BinsModel,
    ConfigModel,
    Epsilon,
    Feature,
    FeatureReference,
    Monitor,
    MonitorReference,
)
from kldrift.config.values import cells
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
    Smoothing,
)

_PSEUDOCOUNTS = {"jeffreys": 0.5, "laplace": 1.0, "none": 0.0}


def build_config(model: ConfigModel, document: Document, path: Path) -> Config:
    """Build the records. `path` is the configuration file's; relative paths are taken from its folder."""
    folder = path.absolute().parent
    return Config(
        server=model.server.to_record(ServerConfig, folder),
        engine=model.engine.to_record(EngineConfig, folder),
        log=model.log.to_record(LogConfig, folder),
        sources=tuple(source.record(name, folder) for name, source in model.sources.items()),
        monitors=tuple(_monitor(name, monitor, folder) for name, monitor in model.monitors.items()),
        warnings=warnings(document),
        state=StateConfig() if model.state == "none" else model.state.to_record(StateConfig, folder),
    )


def _monitor(name: str, monitor: Monitor, folder: Path) -> MonitorSpec:
    tolerances = {"warning": monitor.drift.warning, "critical": monitor.drift.critical}
    exported = {"kl", *monitor.divergences}
    return monitor.to_record(
        MonitorSpec,
        folder,
        leave=("drift",),
        name=name,
        features=tuple(
            _feature(feature_name, feature, tolerances, folder) for feature_name, feature in monitor.features.items()
        ),
        reference=_reference(monitor.reference, folder),
        smoothing=_smoothing(monitor.smoothing),
        divergences=tuple(name for name in DIVERGENCES if name in exported),
        confidence=monitor.drift.confidence,
        correction=monitor.drift.correction,
    )


def _smoothing(smoothing: str | Epsilon) -> Smoothing:
    if isinstance(smoothing, Epsilon):
        return Smoothing("epsilon", pseudocount=0.0, epsilon=smoothing.epsilon)
    return Smoothing(smoothing, pseudocount=_PSEUDOCOUNTS[smoothing])


def _feature(name: str, feature: Feature, tolerances: Mapping[str, float], folder: Path) -> FeatureSpec:
    own = {} if feature.drift is None else feature.drift.model_dump(exclude_none=True)
    return feature.to_record(
        FeatureSpec,
        folder,
        leave=("drift",),
        name=name,
        bins=_default_bins(feature) if feature.bins is None else _bins(feature.bins, folder),
        reference=_reference(feature.reference, folder),
        dimensions=feature.dimensions or 0,
        **{**tolerances, **own},
    )


def _default_bins(feature: Feature) -> Bins:
    return Bins("discrete") if feature.of in ("hour", "weekday") else Bins()


def _bins(bins: BinsModel, folder: Path) -> Bins:
    method = bins.method or ("quantile" if bins.edges is None else "edges")
    value_range = None if bins.range is None else (bins.range[0], bins.range[1])
    return bins.to_record(Bins, folder, leave=("range",), method=method, value_range=value_range)


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
    parameters = tuple((key, getattr(reference, key)) for key in family.required)
    return ReferenceFamily(reference.family, parameters, missing=reference.missing)


def _inline(reference: FeatureReference) -> ReferenceInline:
    counts, probabilities = reference.counts, reference.probabilities
    given = probabilities if counts is None else counts
    return ReferenceInline(
        edges=None if reference.edges is None else tuple(reference.edges),
        categories=tuple(given) if isinstance(given, dict) else None,
        counts=None if counts is None else tuple(cells(counts)),
        probabilities=None if probabilities is None else tuple(cells(probabilities)),
        missing=reference.missing,
    )
