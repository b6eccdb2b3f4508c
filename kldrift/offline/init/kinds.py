"""What a column is as a feature, and why.

`init` writes these guesses down, and `compare` works by them, so that both see the same drift.
"""

import re
from dataclasses import dataclass

import numpy as np
import polars as pl

from kldrift.config.document import quoted, shortened
from kldrift.datafiles.columns import Column, list_in
from kldrift.drift.binning import MIN_CELL_COUNT, QUANTILES, discrete_edges, too_coarse
from kldrift.drift.kinds.categorical import MAX_FOLDED
from kldrift.records.kinds import KINDS, SAMPLES_PER_BIN, Kind
from kldrift.records.specs import MAX_CATEGORIES, Bins, FeatureSpec
from kldrift.records.types import FloatArray
from kldrift.wire.columns import vectors_from_texts
from kldrift.wire.plan import Vector

#: Numbers with at most this many distinct values (levels) are counted level by level; whole numbers are codes then.
FEW_LEVELS = 20
#: Whole numbers with at most this many levels have a bin for each, given this many rows for each.
DISCRETE_LEVELS, ROWS_PER_LEVEL = 50, 50
#: Text is categories when at least this share of the rows is in values that are frequent enough for a cell.
FREQUENT_SHARE = 0.5
#: The most values that are listed one by one.
LISTED = 5
MAX_DIMENSIONS = 4096
MAX_NAME_BYTES = 200

QUANTILE_BINS = Bins()

A_TIME = "a time, which only moves on; `of: hour`, `of: weekday` or `of: age` watches when it is, or how long ago"

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,79}")
_CODE = r"^(0|-?[1-9][0-9]*)$"
_ID_NAME = re.compile(r"(?i)(^|[_ .-])(id|uuid|guid|key|index|idx|rowid|row|nr|no)$|(?<=[a-z])(Id|ID|Key|Uuid)$")
_REFUSED_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Guess:
    """What a column is taken to be.

    Parameters
    ----------
    feature : None where the column is not worth watching
    why : the reason, in one line
    needed : samples that a window must hold for a verdict
    constant : the feature that shows any other value than the only one; None where the column is not constant
    """

    name: str
    feature: FeatureSpec | None
    why: str
    needed: int = 0
    constant: FeatureSpec | None = None

    @property
    def kind(self) -> Kind | None:
        """The kind of the feature; None where the column is left out."""
        return None if self.feature is None else self.feature.kind


def guess_feature(column: Column, scale: float, live: Column | None = None) -> Guess:
    """Guess the kind, bins and categories of a column.

    Parameters
    ----------
    scale : rows of the file for each row looked at
    live : the same column of the rows to compare, where they are known
    """
    fault = column.fault or _name_fault(column.name)
    if fault is not None:
        return _left_out(column, fault)
    values = column.values
    present = values.drop_nulls()
    if present.len() == 0:
        return _left_out(column, "no value in it")
    dtype = values.dtype
    if dtype in (pl.Categorical, pl.Enum):
        return _texts(column, present.cast(pl.String), scale)
    if dtype == pl.String:
        start = str(present[0]).lstrip()[:1] if column.cells is not None else ""
        if start == "[":
            return _text_vectors(column, present)
        return (
            _left_out(column, "an object; make columns of its parts")
            if start == "{"
            else _texts(column, present, scale)
        )
    if dtype == pl.Boolean:
        return _booleans(column, present)
    if dtype.is_numeric():
        return _numbers(column, present, scale, live)
    if isinstance(dtype, pl.List | pl.Array):
        return _lists(column, present)
    if dtype in (pl.Date, pl.Datetime):
        return _left_out(column, A_TIME)
    what = "an object" if dtype == pl.Struct else f"of type {dtype}"
    return _left_out(column, f"{what}, which has no bins; turn it into numbers or categories")


def _name_fault(name: str) -> str | None:
    """Return why the configuration refuses a name, or None."""
    if not name:
        return "it has no name"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"its name is longer than {MAX_NAME_BYTES} bytes; rename it"
    return "its name has control characters; rename it" if _REFUSED_IN_NAMES.search(name) else None


def _left_out(column: Column, why: str) -> Guess:
    return Guess(column.name, None, why)


def _constant(column: Column, kind: Kind, value: str) -> Guess:
    # a vector without any variance has no divergence
    feature = None if kind == "vector" else FeatureSpec(column.name, kind)
    return Guess(column.name, None, f"constant: always {value}", constant=feature)


def _feature(
    column: Column, kind: Kind, why: str, needed: int, bins: Bins = QUANTILE_BINS, dimensions: int = 0
) -> Guess:
    feature = FeatureSpec(column.name, kind, bins, dimensions=dimensions)
    return Guess(column.name, feature, _with_absent(column, why, kind), needed)


def _with_absent(column: Column, why: str, kind: Kind) -> str:
    """Add the shares of values that are missing or of the wrong type to the reason."""
    n, invalid = len(column.values), column.n_invalid
    missing = column.values.null_count() - invalid
    parts = [why]
    if missing:
        parts.append(f"{_percent(missing / n)} missing")
    if invalid:
        parts.append(f"{_percent(invalid / n)} invalid ({KINDS[kind].invalid})")
    return "; ".join(parts)


def _percent(share: float) -> str:
    return "under 0.1 %" if share < 0.001 else f"{100 * share:.2g} %" if share < 0.995 else "over 99 %"


def named(name: str) -> str:
    """Write the name of a column in a comment or a message: one line, not too long."""
    return name if _PLAIN_NAME.fullmatch(name) else quoted(name)


def shown(value: object) -> str:
    """Write a value in a comment."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}" if value != int(value) or abs(value) >= 1e15 else f"{int(value)}"
    text = shortened(str(value))[:40]
    return text if text.isprintable() and text.strip() else quoted(text)


# --- texts ----------------------------------------------------------------------------------------


def _texts(column: Column, present: pl.Series, scale: float) -> Guess:
    n, missing = present.len(), column.values.null_count()
    counts = present.value_counts(sort=True, name="n")
    distinct = counts.height
    if distinct == 1 and not missing:
        return _constant(column, "categorical", shown(present[0]))
    if distinct == n and n > 1:
        return _left_out(column, f"each of its {n:,} values comes once: an identifier, or free text")
    frequent = counts.filter(pl.col("n") * scale >= MIN_CELL_COUNT).head(MAX_CATEGORIES)
    share = int(frequent["n"].sum()) / n
    if share < FREQUENT_SHARE:
        what = "free text" if (present.str.count_matches(" ").mean() or 0) >= 3 else "identifiers, text or too few rows"  # type: ignore[operator]
        return _left_out(
            column,
            f"{distinct:,} distinct values, few of which occur {MIN_CELL_COUNT} times or more"
            f" ({_percent(share) if share else '0 %'} of the rows): {what}",
        )
    if distinct == 1:
        why = f"always {shown(present[0])}, or missing"
    elif distinct > MAX_CATEGORIES:
        why = f"{distinct:,} values; {_percent(share)} of the rows are in the {frequent.height} that have a cell"
        why += " (max_categories), the rest is `other`"
        if distinct - frequent.height > MAX_FOLDED:
            why += f"; more than {MAX_FOLDED:,} are rare, so how many values are new will not be known"
    else:
        listed = counts[counts.columns[0]].head(LISTED).to_list()
        why = f"{distinct} values" + (f": {', '.join(map(shown, sorted(listed)))}" if distinct <= LISTED else "")
        rare = distinct - frequent.height
        why += f", {rare} of them too rare for a cell, so in `other`" if rare else ""
    needed = SAMPLES_PER_BIN * (frequent.height + 1)
    return _feature(column, "categorical", why, needed)


def _booleans(column: Column, present: pl.Series) -> Guess:
    if present.n_unique() == 1 and not column.values.null_count():
        return _constant(column, "categorical", shown(present[0]))
    return _feature(column, "categorical", "true and false", 2 * SAMPLES_PER_BIN)


# --- numbers --------------------------------------------------------------------------------------


def _numbers(column: Column, present: pl.Series, scale: float, live: Column | None) -> Guess:
    numbers = np.asarray(present.cast(pl.Float64).to_numpy(), dtype=np.float64)
    finite = np.unique(numbers[np.isfinite(numbers)])
    if finite.size == 0:
        return _left_out(column, "no finite numbers")
    if (reason := too_coarse(float(finite[0]), float(finite[-1]))) is not None:
        return _left_out(column, reason)
    levels = finite.size
    all_finite = bool(np.isfinite(numbers).all())
    whole = bool((finite == np.rint(finite)).all()) and float(np.abs(finite).max()) < 2**51
    if levels == 1 and all_finite:
        if column.values.null_count():
            return _feature(
                column, "numeric", f"always {shown(float(finite[0]))} where there is a value", 2 * SAMPLES_PER_BIN
            )
        return _constant(column, "numeric", shown(float(finite[0])))
    if levels == numbers.size and whole and levels > FEW_LEVELS:
        if bool((np.diff(numbers) > 0).all()):
            return _left_out(column, "whole numbers that only grow, each once: numbers of rows, or identifiers")
        if _ID_NAME.search(column.name):
            return _left_out(column, "whole numbers, each occurring once, and the name of an identifier")
    enough = all_finite and numbers.size * scale >= MIN_CELL_COUNT * levels
    if levels <= FEW_LEVELS and enough:
        return _few_levels(column, finite, whole, live)
    spread = f"{finite[0]:.4g} to {finite[-1]:.4g}" if not whole else f"{finite[0]:,.0f} to {finite[-1]:,.0f}"
    if whole and enough and levels <= DISCRETE_LEVELS and numbers.size * scale >= ROWS_PER_LEVEL * levels:
        why = f"{levels} whole numbers, {spread}: each has its own bin"
        return _feature(column, "numeric", why, SAMPLES_PER_BIN * (discrete_edges(finite).size - 1), Bins("discrete"))
    noun = "whole numbers" if whole else "numbers"
    why = f"{levels:,} distinct {noun}, {spread}: bins at the quantiles"
    return _feature(column, "numeric", why, SAMPLES_PER_BIN * (len(QUANTILES) + 1))


def _few_levels(column: Column, levels: FloatArray, whole: bool, live: Column | None) -> Guess:
    """Whole numbers are codes, unless they are written as decimals; others have edges between the levels."""
    needed = SAMPLES_PER_BIN * (levels.size + 1)
    listed = ", ".join(shown(level) for level in levels.tolist())
    listed = listed if levels.size <= LISTED else f"{shown(float(levels[0]))} to {shown(float(levels[-1]))}"
    if whole and _are_codes(column) and (live is None or _are_codes(live)):
        why = f"{levels.size} whole numbers ({listed}): taken for codes"
        if levels.size > 2:
            why += "; if quantities: {kind: numeric, bins: {method: discrete}}"
        return _feature(column, "categorical", why, needed)
    if whole:
        why = f"{levels.size} whole numbers ({listed}), written as decimals: each has its own bin"
        return _feature(column, "numeric", why, needed, Bins("discrete"))
    why = f"{levels.size} distinct numbers ({listed}): edges between them"
    return _feature(column, "numeric", why, needed, Bins("edges", edges=(-np.inf, *_between(levels), np.inf)))


def _are_codes(column: Column) -> bool:
    """Whether text cells are written as codes are: 1, not 1.0, which looks like a quantity."""
    return column.cells is None or bool(column.cells.drop_nulls().str.contains(_CODE).all())


def _between(levels: FloatArray) -> list[float]:
    """Return a short number between each two levels, in the middle half of the gap where there is one."""
    edges = []
    for a, b in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
        middle, quarter = a / 2 + b / 2, b / 4 - a / 4
        short = (float(f"{middle:.{digits}g}") for digits in range(1, 18))
        edges.append(next((x for x in short if a + quarter <= x <= b - quarter and a < x < b), b))
    return edges


# --- vectors --------------------------------------------------------------------------------------


def _lists(column: Column, present: pl.Series) -> Guess:
    dtype = present.dtype
    inner = dtype.inner if isinstance(dtype, pl.List | pl.Array) else None
    if not isinstance(inner, pl.DataType) or not inner.is_numeric():
        return _left_out(column, f"lists of {inner}; only lists of numbers have a divergence")
    lists = present.arr.to_list() if isinstance(dtype, pl.Array) else present
    lengths = lists.list.len().unique().sort().to_list()
    if len(lengths) > 1:
        return _left_out(column, f"lists of {lengths[0]} to {lengths[-1]} numbers; vectors have one length")
    items = lists.explode().cast(pl.Float64)
    finite = items.is_finite().fill_null(value=False)
    if not finite.any():
        return _left_out(column, "no finite numbers in its lists")
    return _vector(column, int(lengths[0]), present.n_unique() == 1 if isinstance(dtype, pl.List) else False)


def _text_vectors(column: Column, present: pl.Series) -> Guess:
    first = list_in(present)
    if not first:
        return _left_out(column, "text that begins with [ and is not a list of numbers")
    _, bad = vectors_from_texts(present, Vector(0, column.name, len(first)))
    if bad is not None:
        return _left_out(column, f"lists, {len(bad.rows):,} of them not of {len(first)} numbers")
    return _vector(column, len(first), present.n_unique() == 1)


def _vector(column: Column, dimensions: int, constant: bool) -> Guess:
    if constant:
        return _constant(column, "vector", "the same vector")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        return _left_out(column, f"lists of {dimensions:,} numbers; a vector may have 1 to {MAX_DIMENSIONS}")
    why = f"lists of {dimensions} numbers: by their mean and variances"
    return _feature(column, "vector", why, SAMPLES_PER_BIN * (2 * dimensions + 1), dimensions=dimensions)
