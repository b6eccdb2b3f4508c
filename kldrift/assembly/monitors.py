"""Build monitors and their references from the records of the configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from kldrift.assembly.references import (
    Notice,
    origin_of,
    read_in_order,
    reference_from_data,
    references_from_file,
    single_reference,
)
from kldrift.datafiles.reference import Feature
from kldrift.drift.monitor import Monitor
from kldrift.drift.references.reference import FeatureReference
from kldrift.drift.segments import Segmentation, segment_references
from kldrift.errors import ReferenceProblem
from kldrift.records.kinds import WITH_REFERENCE
from kldrift.records.samples import CategoricalColumn
from kldrift.records.specs import FeatureSpec, MonitorSpec, ReferenceData, ReferenceFile, ReferencePrevious
from kldrift.records.texts import duration_text
from kldrift.records.types import FloatArray, IntArray


def build_monitors(
    specs: Sequence[MonitorSpec], created_ms: int, notice: Notice = lambda _: None
) -> tuple[Monitor, ...]:
    """Build a monitor for each specification, with its references.

    Parameters
    ----------
    created_ms : the current time, from which the age of a reference counted from data is measured
    notice : called with each part of a reference that was skipped

    Raises
    ------
    ReferenceProblem
        references could not be loaded; one problem a line, each with its monitor
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
    """Build a monitor with its references; each file is read once for all features."""
    found: dict[str, FeatureReference] = {}
    data: dict[str, tuple[FloatArray | CategoricalColumn, IntArray]] = {}
    problems: list[str] = []
    by_origin: dict[ReferenceData | ReferenceFile, list[FeatureSpec]] = {}
    for feature in spec.features:
        given = feature.reference or spec.reference
        origin = given.bins if isinstance(given, ReferencePrevious) else given
        if isinstance(origin, ReferenceData | ReferenceFile) and feature.kind in WITH_REFERENCE:
            by_origin.setdefault(origin, []).append(feature)
            continue
        try:
            found[feature.name] = single_reference(feature, given, created_ms, spec.timestamp, spec.missing_texts)
        except ReferenceProblem as problem:
            problems.append(f"{feature.name}: {problem}")
    for origin, features in by_origin.items():
        try:
            if isinstance(origin, ReferenceData):
                made, table = reference_from_data(
                    origin.path, features, created_ms, notice, spec.timestamp, spec.missing_texts, _watched(spec)
                )
                if origin == origin_of(spec.reference):
                    counted = zip(table.columns, table.invalid, strict=True)
                    data = dict(zip((feature.name for feature in features), counted, strict=True))
            else:
                made = references_from_file(origin.path, features)
            found |= {reference.name: reference for reference in made}
        except ReferenceProblem as problem:
            problems += str(problem).splitlines()
    if problems:
        raise ReferenceProblem("\n".join(problems))
    for feature in spec.features:
        given = feature.reference or spec.reference
        if isinstance(given, ReferencePrevious) and feature.kind in WITH_REFERENCE:
            source = f"the same window {duration_text(given.offset_ms)} earlier, bins from {found[feature.name].source}"
            found[feature.name] = replace(found[feature.name], offset_ms=given.offset_ms, source=source, created_ms=0)
    references = tuple(found[feature.name] for feature in spec.features)
    return Monitor(spec, references, _segmentation(spec, references, data, notice))


def _watched(spec: MonitorSpec) -> list[str]:
    return [feature.name for feature in spec.features]


def _segmentation(
    spec: MonitorSpec,
    references: Sequence[FeatureReference],
    data: Mapping[str, tuple[FloatArray | CategoricalColumn, IntArray]],
    notice: Notice,
) -> Segmentation | None:
    """Return the segments' references if the monitor's reference is data with the field that segments are made by."""
    if spec.segments is None:
        return None
    origin = origin_of(spec.reference)
    if not data or not isinstance(origin, ReferenceData):
        return Segmentation()
    try:
        segments: list[Feature] = [(spec.segments.by, "categorical")]
        by = read_in_order(origin.path, segments, spec.timestamp, spec.missing_texts, _watched(spec))[0].columns[0]
    except ReferenceProblem:
        notice(
            f"monitors.{spec.name}: the reference {origin.path.name} does not say which segment ({spec.segments.by})"
            " its rows belong to: every segment is compared with the whole reference"
        )
        return Segmentation()
    assert isinstance(by, CategoricalColumn)
    own = [data.get(feature.name, (None, np.empty(0, dtype=np.int64))) for feature in spec.features]
    columns, invalid = zip(*own, strict=True)
    return segment_references(references, columns, by, spec.segments.limit, invalid)
