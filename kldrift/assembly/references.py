"""Build the reference of each feature from what the configuration says it is made of."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from kldrift.datafiles.reference import Feature, ReferenceColumns, read_columns, read_times
from kldrift.drift.binning import MIN_CELL_COUNT
from kldrift.drift.kinds import SHAPES
from kldrift.drift.references.data import build_references
from kldrift.drift.references.family import family_reference
from kldrift.drift.references.file import by_name, load_references
from kldrift.drift.references.given import fixed_reference, inline_reference
from kldrift.drift.references.learned import to_learn
from kldrift.drift.references.reference import FeatureReference
from kldrift.errors import ReferenceProblem
from kldrift.records.categories import canonical
from kldrift.records.kinds import WITH_REFERENCE
from kldrift.records.samples import CategoricalColumn, FeatureSchema
from kldrift.records.specs import (
    FeatureSpec,
    ReferenceFamily,
    ReferenceInline,
    ReferenceLearn,
    ReferencePrevious,
    ReferenceSpec,
    TimestampSpec,
)
from kldrift.records.texts import listed
from kldrift.records.types import FloatArray, IntArray
from kldrift.wire.tables import age_seconds

Notice = Callable[[str], None]


def origin_of(given: ReferenceSpec | None) -> ReferenceSpec | None:
    """Return the data or file that the bins come from."""
    return given.bins if isinstance(given, ReferencePrevious) else given


def single_reference(
    feature: FeatureSpec,
    given: ReferenceSpec | None,
    created_ms: int,
    timestamp: TimestampSpec | None = None,
    missing_values: frozenset[str] | None = None,
) -> FeatureReference:
    """Build a reference that does not come from a file shared by several features.

    Parameters
    ----------
    timestamp, missing_values : as for `reference_from_data`

    Raises
    ------
    ReferenceProblem
        no reference is configured, or it could not be loaded
    """
    if feature.kind not in WITH_REFERENCE:
        return fixed_reference(feature, created_ms)
    if isinstance(given, ReferenceInline):
        return inline_reference(feature, given, created_ms)
    if isinstance(given, ReferenceLearn):
        return to_learn(feature, given.rows)
    if isinstance(given, ReferencePrevious):
        return to_learn(feature, given.learn)
    if isinstance(given, ReferenceFamily):
        return _family_reference(feature, given, created_ms, timestamp, missing_values)
    raise ReferenceProblem("expected a reference, got none; give the monitor or the feature one")


def _family_reference(
    feature: FeatureSpec,
    given: ReferenceFamily,
    created_ms: int,
    timestamp: TimestampSpec | None,
    missing_values: frozenset[str] | None,
) -> FeatureReference:
    column: FloatArray | CategoricalColumn | None = None
    invalid = None
    by_time = False
    source: str = given.family
    if given.fit is not None:
        table, by_time = read_in_order(given.fit, [_column(feature)], timestamp, missing_values)
        column, invalid, source = table.columns[0], table.invalid[0], _source(given.fit, table.sha256)
    return replace(family_reference(feature, given, column, created_ms, source, invalid), by_time=by_time)


def _column(feature: FeatureSpec) -> FeatureSchema:
    """Return what to read of a feature; the categories are not known yet."""
    schema = SHAPES[feature.kind].preliminary(feature).schema(feature.name)
    return FeatureSchema(schema.name, schema.kind, (), schema.dimensions, None, feature.of, feature.unit or "iso8601")


def _source(path: Path, sha256: str) -> str:
    return f"{path.name} sha256:{sha256[:16]}"


def read_in_order(
    path: Path,
    features: Sequence[Feature],
    timestamp: TimestampSpec | None,
    missing_values: frozenset[str] | None = None,
    watched: Collection[str] = (),
) -> tuple[ReferenceColumns, bool]:
    """Read the columns of some features, in the order of a field where the file has it; and whether they are."""
    table = read_columns(path, features, missing_values, watched)
    times = None if timestamp is None else read_times(path, timestamp, watched)
    table = _with_ages(path, features, table, timestamp, times)
    return (table, False) if times is None else (table.in_order(np.argsort(times, kind="stable")), True)


def _with_ages(
    path: Path,
    features: Sequence[Feature],
    table: ReferenceColumns,
    timestamp: TimestampSpec | None,
    times: IntArray | None,
) -> ReferenceColumns:
    """Return the columns with ages in place of the instants from which they are counted."""
    ages = {i: f.name for i, f in enumerate(features) if isinstance(f, FeatureSchema) and f.of == "age"}
    if not ages:
        return table
    if times is None:
        field = "" if timestamp is None else f", of which the file has no field {timestamp.field!r}"
        raise ReferenceProblem(
            "\n".join(f"{path}: {name}: an age counts from the time of the row{field}" for name in ages.values())
        )
    columns = list(table.columns)
    for i in ages:
        instants = columns[i]
        assert not isinstance(instants, CategoricalColumn)
        columns[i] = age_seconds(times, instants)
    return replace(table, columns=tuple(columns))


def reference_from_data(
    path: Path,
    features: Sequence[FeatureSpec],
    created_ms: int,
    notice: Notice = lambda _: None,
    timestamp: TimestampSpec | None = None,
    missing_values: frozenset[str] | None = None,
    watched: Collection[str] = (),
) -> tuple[tuple[FeatureReference, ...], ReferenceColumns]:
    """Count the references of features in a data file; return them with the data that were counted.

    Parameters
    ----------
    timestamp : the rows are put in the order of this field, where the file has it
    missing_values : texts that stand for a missing value; None for those of the format
    watched : the fields of all features of the monitor, see `read_columns`
    """
    columns = [_column(feature) for feature in features]
    table, by_time = read_in_order(path, columns, timestamp, missing_values, watched)
    if table.n_rejected:
        notice(f"reference {path.name}: {table.n_rejected:,} rows could not be read or hold no feature, left out")
    wrong = {feature.name: rows.size for feature, rows in zip(features, table.invalid, strict=True) if rows.size}
    if wrong:
        named = listed(f"{name} ({n:,})" for name, n in wrong.items())
        notice(f"reference {path.name}: values of the wrong type, counted as invalid: {named}")
    source = _source(path, table.sha256)
    references = build_references(features, table.columns, created_ms, source, table.invalid, by_time=by_time)
    for reference in references:
        if reference.shape.categories == ():
            notice(
                f"reference {path.name}: {reference.name}: no category is frequent enough for a bin of its own"
                f" ({MIN_CELL_COUNT} rows), so every value looks new. If it is an identifier, remove the feature"
            )
    return references, table


def references_from_file(path: Path, features: Sequence[FeatureSpec]) -> tuple[FeatureReference, ...]:
    """Load the references of features from a reference file and check that they fit the configuration."""
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
        edges, counted = feature.bins.edges, reference.shape.edges
        if edges is not None and counted is not None and tuple(counted.tolist()) != edges:
            raise ReferenceProblem(
                f"{path}: {feature.name}: expected the edges of the configuration, but the file has others; build it"
                " again"
            )
        names = [canonical(category) for category in reference.shape.categories or ()]
        twice = [name for name, n in Counter(names).items() if n > 1]
        if twice:
            raise ReferenceProblem(
                f"{path}: {feature.name}: expected each category once, got several spellings of {listed(twice)}, which"
                " are one category now; build it again"
            )
    return tuple(picked)
