"""What decoders need to know about a schema, worked out once."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from kldrift.records.categories import CategoryCodes, canonical
from kldrift.records.kinds import ColumnKind
from kldrift.records.samples import BatchSchema, FeatureSchema
from kldrift.records.specs import TimestampSpec
from kldrift.records.types import FloatArray

#: Largest batch, whatever the body claims: rows of ``{}`` or a column of nulls cost the sender almost nothing, and the
#: receiver eight bytes a number.
MAX_BATCH_BYTES = 3 << 29
#: The text that is a missing value in every format.
EMPTY = frozenset({""})
#: Texts that are no categories, or are spelled otherwise, whose code is remembered, and the longest of them.
_REMEMBERED, _REMEMBERED_BYTES = 1000, 100
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


class Known:
    """Categories and their codes: those of a feature, or those a vocabulary has at one moment.

    Parameters
    ----------
    texts : the categories, in order of their codes
    feature : what has them
    missing_texts : what stands for a missing value

    Attributes
    ----------
    codes : code of every text in any spelling, and of None (missing)
    byte_codes : the same by the UTF-8 bytes of the text
    others : the texts in `codes` that are not in `enum`
    enum : the categories as a polars type; its physical codes are ours
    converted : codes of the categories that look like what polars makes of a list, an object or a lone surrogate
    """

    def __init__(self, texts: tuple[str, ...], feature: FeatureSchema, missing_texts: Iterable[str]) -> None:
        self.texts = texts
        self.codes = CategoryCodes(
            texts, feature.unseen_code, feature.missing_code, missing_texts, grows=feature.vocabulary is not None
        )
        self.byte_codes = _ByteCodes(self.codes)
        known = set(texts)
        self.others = pl.Series(
            [text for text in self.codes if text is not None and text not in known], dtype=pl.String
        )
        # polars has no lone surrogates; a placeholder keeps the position of such a text
        self.enum = pl.Enum([text if is_unicode(text) else f"\x00no Unicode {i}" for i, text in enumerate(texts)])
        self.converted = [code for code, text in enumerate(texts) if looks_converted(text)]


class _ByteCodes(dict[bytes | None, int]):
    """Codes by the UTF-8 bytes of texts, in every spelling; some of other texts are remembered."""

    def __init__(self, codes: CategoryCodes) -> None:
        super().__init__(
            (None if text is None else text.encode("utf-8", "surrogatepass"), code) for text, code in codes.items()
        )
        self._codes = codes
        self._room = len(self) + _REMEMBERED

    def __missing__(self, text: bytes) -> int:
        code = self._codes[text.decode()] if text.isascii() else self._codes.other
        if len(self) < self._room and len(text) <= _REMEMBERED_BYTES:
            self[text] = code
        return code


class Category:
    """A categorical column with its lookup tables; threads may share it.

    Parameters
    ----------
    index : position in the schema
    missing_texts : what stands for a missing value
    """

    def __init__(self, index: int, feature: FeatureSchema, missing_texts: frozenset[str]) -> None:
        self.index = index
        self.feature = feature
        self._missing_texts = missing_texts
        self._known = Known(feature.categories, feature, missing_texts)

    @property
    def known(self) -> Known:
        """The current categories; a vocabulary grows, but a category never changes its code."""
        known = self._known
        vocabulary = self.feature.vocabulary
        if vocabulary is not None and len(texts := vocabulary.texts) != len(known.texts):
            known = self._known = Known(texts, self.feature, self._missing_texts)
        return known

    @property
    def may_learn(self) -> bool:
        """Whether there is a vocabulary with room for more."""
        vocabulary = self.feature.vocabulary
        return vocabulary is not None and len(vocabulary.texts) < vocabulary.limit

    def learn(self, texts: Iterable[str | None]) -> None:
        """Give the new texts codes, in order, as long as there is room.

        A lone surrogate is no Unicode, so no category, here as in reference data.
        """
        vocabulary = self.feature.vocabulary
        if vocabulary is None or not self.may_learn:
            return
        codes = self.known.codes
        for text in texts:
            if text is None or text in codes or (name := canonical(text)) in codes or not is_unicode(name):
                continue
            if vocabulary.code(name) >= vocabulary.limit:
                return  # full: nothing can be added from now on


@dataclass(frozen=True, slots=True)
class Vector:
    """A vector column: its position in the schema, its field, and how many numbers a vector has."""

    index: int
    name: str
    dimensions: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A schema and what decoders derive from it.

    Parameters
    ----------
    numeric : (index, name) of the numeric features whose values are numbers
    aspects : (index, feature) of those that are an aspect of the values
    ndjson : the type that polars reads each field as
    bulk : whether `ndjson` can say it all. Not when one field is wanted as two types or as an aspect, nor when a
        category looks like what polars makes of a list, an object or a lone surrogate, which could then not be told
        apart.
    scan : whether the kernel that reads rows supports every field: no vectors or aspects, and no field read as two
        kinds
    watched : the fields of the features
    missing_texts : what stands for a missing value
    missing_numbers : those of them that are numbers
    row_bytes : memory that a row of a batch takes
    """

    schema: BatchSchema
    numeric: tuple[tuple[int, str], ...]
    aspects: tuple[tuple[int, FeatureSchema], ...]
    categorical: tuple[Category, ...]
    vectors: tuple[Vector, ...]
    ndjson: dict[str, pl.DataType]
    bulk: bool
    scan: bool
    watched: frozenset[str]
    missing_texts: frozenset[str]
    missing_numbers: FloatArray
    row_bytes: int

    @property
    def n_features(self) -> int:
        """Number of columns in a batch."""
        return len(self.schema.features)

    @property
    def countable(self) -> bool:
        """Whether a number counts as what it is, so that kernels may count it while they read it."""
        return not self.missing_numbers.size

    @property
    def n_numbers(self) -> int:
        """Number of numbers and codes in a row."""
        return self.n_features + sum(vector.dimensions - 1 for vector in self.vectors)

    @property
    def max_rows(self) -> int:
        """The most rows that a batch of this schema may have."""
        return MAX_BATCH_BYTES // (8 * (self.n_numbers + 1))


def numbers_among(texts: Iterable[str]) -> FloatArray:
    """Return the finite numbers among some texts."""
    return np.array([float(text) for text in sorted(texts) if _NUMBER.fullmatch(text)])


def is_unicode(text: str) -> bool:
    """Return whether a text has no lone surrogates."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def looks_converted(text: str) -> bool:
    """Return whether polars may have made this text out of a list, an object or a lone surrogate."""
    return text.startswith(("[", "{")) or "\x00" in text or not is_unicode(text)


def polars_type(kind: ColumnKind) -> pl.DataType:
    """Return the type that polars reads a column of NDJSON as."""
    match kind:
        case "numeric":
            return pl.Float64()
        case "categorical":
            return pl.String()
        case _:
            return pl.List(pl.Float64())


def _make_plan(schema: BatchSchema, missing_texts: frozenset[str]) -> Plan:
    numeric = tuple((i, f.name) for i, f in enumerate(schema.features) if f.kind == "numeric" and f.of is None)
    aspects = tuple((i, f) for i, f in enumerate(schema.features) if f.of is not None)
    categorical = tuple(Category(i, f, missing_texts) for i, f in enumerate(schema.features) if f.kind == "categorical")
    vectors = tuple(Vector(i, f.name, f.dimensions) for i, f in enumerate(schema.features) if f.kind == "vector")
    fields = [(feature.name, polars_type(feature.kind)) for feature in schema.features]
    if schema.timestamp is not None:
        fields.append((schema.timestamp.field, pl.String() if schema.timestamp.unit == "iso8601" else pl.Float64()))
    ndjson = dict(fields)
    # A vocabulary grows, so its texts are checked in every batch.
    bulk = len(fields) > 0 and not aspects and all(ndjson[name] == dtype for name, dtype in fields)
    bulk = bulk and not any(category.known.converted for category in categorical if category.feature.vocabulary is None)
    scan = not vectors and not aspects and _is_one_kind_each(numeric, categorical, schema.timestamp)
    row_bytes = 8 * (
        len(numeric) + len(aspects) + sum(vector.dimensions for vector in vectors) + (schema.timestamp is not None)
    )
    row_bytes += 4 * len(categorical)
    missing_numbers = numbers_among(missing_texts)
    return Plan(
        schema,
        numeric,
        aspects,
        categorical,
        vectors,
        ndjson,
        bulk,
        scan,
        frozenset(schema.watched),
        missing_texts,
        missing_numbers,
        row_bytes,
    )


def _is_one_kind_each(
    numeric: Sequence[tuple[int, str]], categorical: Sequence[Category], timestamp: TimestampSpec | None
) -> bool:
    """Return whether each field is read as one kind (numbers, categories, time), numbers as one column only."""
    numbers = [name for _, name in numeric]
    others = {category.feature.name for category in categorical}
    if timestamp is not None and timestamp.unit == "iso8601":
        numbers.append(timestamp.field)
    elif timestamp is not None and timestamp.field in others:
        return False
    return len(set(numbers)) == len(numbers) and others.isdisjoint(numbers)


_PLANS: dict[tuple[int, frozenset[str]], Plan] = {}
_MAX_PLANS = 64


def plan_for(schema: BatchSchema, missing_texts: frozenset[str] = EMPTY) -> Plan:
    """Return the plan of a schema, made at its first use.

    Found by identity: hashing a schema of a thousand features costs more than decoding a row of it. A plan holds its
    schema, so that an identity stays taken while it is remembered.

    Parameters
    ----------
    missing_texts : what stands for a missing value; the empty text always does
    """
    key = id(schema), missing_texts
    plan = _PLANS.get(key)
    if plan is None:
        if len(_PLANS) >= _MAX_PLANS:
            _PLANS.clear()
        plan = _PLANS[key] = _make_plan(schema, missing_texts | EMPTY)
    return plan
