"""References from parametric families: a given member, or the likeliest one for some data (README, section 3.2)."""

from dataclasses import replace
from typing import Any

import numpy as np

from kldrift.drift.binning import MAX_DISCRETE_VALUES, MIN_CELL_COUNT, QUANTILES, numeric_edges
from kldrift.drift.kinds import SHAPES
from kldrift.drift.kinds.base import Shape
from kldrift.drift.kinds.numeric import Numeric
from kldrift.drift.references.data import build_references, count_panes
from kldrift.drift.references.fitting import (
    BERNOULLI_CATEGORIES,
    Member,
    check_parameters,
    fit_parameters,
    member_of,
    zeros_and_ones,
)
from kldrift.drift.references.given import known_vectors
from kldrift.drift.references.open_ends import OpenEnds
from kldrift.drift.references.reference import FeatureReference
from kldrift.errors import ReferenceProblem
from kldrift.records.kinds import KINDS
from kldrift.records.samples import CategoricalColumn
from kldrift.records.specs import Bins, FeatureSpec, ReferenceFamily
from kldrift.records.types import FloatArray, IntArray

#: Share at each end of a discrete family that has no bin for each integer.
TAIL = 1e-3
#: Maximum number of integers with a bin each; of more, the quantiles are taken.
MAX_INTEGERS = 64

#: Maximum probability between an edge and the float64 below it. Rounding moves half of it over the edge, which costs
#: less than 1e-5 nats in the smallest of the default bins.
MAX_STEP_MASS = 1e-4


def family_reference(
    spec: FeatureSpec,
    given: ReferenceFamily,
    column: FloatArray | CategoricalColumn | None,
    created_ms: int,
    source: str,
    invalid: IntArray | None = None,
) -> FeatureReference:
    """Return the reference of a feature from a parametric family.

    With given parameters it is known exactly, and knows how many values are missing only where that is given. A fitted
    one has the probabilities of the family, scaled to the share of the data that is present and finite (missing and
    invalid values and infinities keep their shares), and in addition the counts of the data in the same bins, which
    show how many rows there were and how they spread. A categorical distribution fits the shares in the data, and a
    normal distribution of vectors their mean and covariance; in both cases the result is the reference built from data.

    Parameters
    ----------
    given : the family with its parameters, or with a file to fit it to
    column : the data of that file, float64 with NaN for missing, or categories; None where the parameters are given
    created_ms, source : stored with the reference
    invalid : rows of the column whose value is of the wrong type, and missing there

    Raises
    ------
    ReferenceProblem
        the feature, its bins, the parameters or the data do not suit the family; the caller adds the feature's name
    """
    _check_kind(spec, given, column)
    shape = SHAPES[spec.kind].preliminary(spec)
    if column is None:
        parameters = check_parameters(given.family, given.parameters)
        if shape.moments is not None:
            known = shape.moments.known(**dict(parameters))
            return known_vectors(spec.name, known, created_ms, given.family, parameters, given.missing)
        return _reference(spec, given, parameters, None, created_ms, source)
    if given.family == "categorical" or shape.moments is not None:  # the likeliest member is what the data show
        try:
            (built,) = build_references([spec], [column], created_ms, source, None if invalid is None else [invalid])
        except ReferenceProblem as problem:  # it names the feature
            raise ReferenceProblem(str(problem).removeprefix(f"{spec.name}: ")) from None
        return built
    try:
        return _fitted(spec, given, column, created_ms, source, np.empty(0, np.int64) if invalid is None else invalid)
    except ReferenceProblem as problem:
        raise ReferenceProblem(f"{problem} (reference {source})") from None


def _check_kind(spec: FeatureSpec, given: ReferenceFamily, column: FloatArray | CategoricalColumn | None) -> None:
    if given.family not in KINDS[spec.kind].families:
        kinds = [kind for kind, traits in KINDS.items() if given.family in traits.families]
        raise ReferenceProblem(
            f"expected a {' or '.join(kinds)} feature for the family {given.family}, got a {spec.kind} one;"
            " give it another reference"
        )
    if given.family == "categorical" and column is None:
        raise ReferenceProblem(
            "expected a data file to fit the family categorical to, got none;"
            " where its probabilities are known use `reference: {probabilities: …}`"
        )


# --- cells and their probabilities ---------------------------------------------------------------


def _fitted(
    spec: FeatureSpec,
    given: ReferenceFamily,
    column: FloatArray | CategoricalColumn,
    created_ms: int,
    source: str,
    invalid: IntArray,
) -> FeatureReference:
    values = zeros_and_ones(column) if isinstance(column, CategoricalColumn) else column
    parameters = fit_parameters(given.family, values[np.isfinite(values)])
    made = _reference(spec, given, parameters, values, created_ms, source, invalid.size)
    codes: Any = np.ascontiguousarray(values, dtype=np.float64)
    if made.shape.categories is not None:
        codes = np.where(np.isnan(values), made.shape.schema(spec.name).missing_code, 1 - values).astype(np.int32)
    (panes,) = count_panes([made.shape], [codes], [invalid])
    return replace(made, panes=panes)


def _reference(
    spec: FeatureSpec,
    given: ReferenceFamily,
    parameters: tuple[tuple[str, float], ...],
    values: FloatArray | None,
    created_ms: int,
    source: str,
    n_invalid: int = 0,
) -> FeatureReference:
    """Return the reference of a member of a family, without counts."""
    shape: Shape = SHAPES[spec.kind].preliminary(spec)
    with np.errstate(all="ignore"):  # figures that cannot be computed are NaN, and refused
        if shape.categories is not None:
            shape = SHAPES[spec.kind].with_cells(spec, BERNOULLI_CATEGORIES)
            p = parameters[0][1]
            cells = np.array([p, 1 - p, 0.0, 0.0])
        else:
            member = member_of(given.family, parameters)
            edges = _edges(spec.bins, given.family, member, values)
            cells = _cell_probabilities(member, edges)
            _check_resolution(member, edges)
            shape = Numeric(edges, member.support)
        absent = np.array([given.missing or 0.0, 0.0])  # missing and invalid
        if values is None:
            cells *= 1 - absent.sum()
        else:
            absent[:] = np.array([np.count_nonzero(np.isnan(values)) - n_invalid, n_invalid]) / values.size
            infinite = np.array([np.mean(values == -np.inf), np.mean(values == np.inf)])
            cells *= 1 - absent.sum() - infinite.sum()
            cells[-2:] += infinite
    probabilities: FloatArray = np.concatenate([cells, absent])
    return FeatureReference(
        name=spec.name,
        shape=shape,
        panes=None,
        probabilities=OpenEnds([shape]).fold(probabilities),
        created_ms=created_ms,
        source=source,
        parameters=parameters,
        knows_missing=given.knows_missing,
    )


def _thresholds(edges: FloatArray) -> FloatArray:
    """Return the values at which the next cell begins; the last bin is closed."""
    return np.concatenate([edges[:-1], np.nextafter(edges[-1:], np.inf)])


def _cell_probabilities(member: Member, edges: FloatArray) -> FloatArray:
    """Return the probabilities of the bins, underflow and overflow, (n_bins + 2,).

    Computed from below up to the bin that holds the median and from above beyond it, so that neither tail loses digits.
    """
    thresholds = _thresholds(edges)
    below, not_below = member.below(thresholds), member.not_below(thresholds)
    bins = np.where(below[:-1] < 0.5, np.diff(below), -np.diff(not_below))
    cells = np.maximum(np.concatenate([bins, below[:1], not_below[-1:]]), 0)
    total = float(cells.sum())
    if not abs(total - 1) < 1e-9:
        raise ReferenceProblem(
            f"expected parameters for which the distribution function can be computed, got {member.text}, whose"
            f" probabilities sum to {total:g}; scale the feature, or use another family"
        )
    return np.asarray(cells / total)


def _step_masses(member: Member, thresholds: FloatArray) -> FloatArray:
    """Return the probability between each threshold and the float64 below it, which rounding may move across."""
    before = np.nextafter(thresholds, -np.inf)
    from_below = member.below(thresholds) - member.below(before)
    from_above = member.not_below(before) - member.not_below(thresholds)
    return np.asarray(np.minimum(from_below, from_above))


def _check_resolution(member: Member, edges: FloatArray) -> None:
    if member.discrete:
        return
    coarse = _step_masses(member, _thresholds(edges)) > MAX_STEP_MASS
    if coarse.any():
        raise ReferenceProblem(
            f"expected a distribution much wider than the spacing of float64 numbers, got {member.text}, which is not"
            f" at the edge {float(edges[np.argmax(coarse)])!r}; scale or shift the feature, or use other bins"
        )


def _edges(bins: Bins, family: str, member: Member, values: FloatArray | None) -> FloatArray:
    """Return the edges of a numeric feature, by the rules for data but with the quantiles of the family."""
    if bins.method in ("quantile", "discrete"):
        if family == "bernoulli":
            return np.array([-0.5, 0.5, 1.5])
        if bins.method == "discrete" and not member.discrete:
            raise ReferenceProblem(f"expected a family of integers for discrete bins, got {family}; use quantile bins")
        rows = np.inf if values is None else float(np.count_nonzero(np.isfinite(values)))
        return _quantile_edges(bins, member, rows)
    if values is None and bins.method != "edges" and bins.value_range is None:
        raise ReferenceProblem(
            f"expected a range for {bins.method} bins of a family with given parameters, got none;"
            " give `bins` a range, or use quantile bins"
        )
    return numeric_edges(bins, np.empty(0) if values is None else values)


def _quantile_edges(bins: Bins, member: Member, rows: float) -> FloatArray:
    """Return edges at quantiles, open at both ends unless a range is declared; halfway between integers.

    As with data, a quantile outside of which fewer than ten of `rows` values lie is dropped. So is one that float64
    numbers cannot resolve, such as quantiles of a beta distribution that are practically 1.
    """
    # counts begin at 0: anything below is underflow
    low, high = bins.value_range or (-0.5 if member.discrete else -np.inf, np.inf)
    start, mass = 0.0, 1.0
    if bins.value_range is not None:
        mass, start, _ = _cell_probabilities(member, np.array([low, high])).tolist()
        if not mass > TAIL:
            raise ReferenceProblem(
                f"expected some of the distribution within the range [{low:g}, {high:g}], got {mass:g} of"
                f" {member.text}; widen the range"
            )
    smallest = min(0.5, MIN_CELL_COUNT / (rows * mass))
    inner = _integer_edges(bins, member, start, mass, smallest) if member.discrete else None
    if inner is None:
        probabilities = np.asarray(bins.probabilities or QUANTILES)
        kept = probabilities[np.minimum(probabilities, 1 - probabilities) >= smallest]
        inner = np.unique(member.quantiles(start + mass * (kept if kept.size else np.array([0.5]))))
        inner = inner - 0.5 if member.discrete else inner
    inner = inner[(inner > low) & (inner < high) & (member.below(inner) > 0) & (member.not_below(inner) > 0)]
    if not member.discrete:
        inner = inner[_step_masses(member, inner) <= MAX_STEP_MASS]
    if inner.size == 0 and bins.value_range is None:
        raise ReferenceProblem(
            f"expected a distribution whose quantiles float64 numbers can tell apart, got {member.text};"
            " scale or shift the feature, or give its bins edges"
        )
    return np.concatenate([[low], inner, [high]])


def _integer_edges(bins: Bins, member: Member, start: float, mass: float, smallest: float) -> FloatArray | None:
    """Return edges between all integers except those far out; None if there are too many or the quantiles are given."""
    if bins.probabilities is not None:
        return None
    tail = max(TAIL, smallest)
    first, last = member.quantiles(start + mass * np.array([tail, 1 - tail])).tolist()
    if bins.method == "discrete" and last - first >= MAX_DISCRETE_VALUES:
        raise ReferenceProblem(
            f"expected at most {MAX_DISCRETE_VALUES} integers for discrete bins, got {last - first + 1:.0f} of"
            f" {member.text}; use quantile bins"
        )
    if bins.method != "discrete" and last - first >= MAX_INTEGERS:
        return None
    return np.arange(first, last) + 0.5 if last > first else np.array([first - 0.5, first + 0.5])
