"""What a schema means for the decoders, worked out once."""

from dataclasses import dataclass

import polars as pl

from kldrift.records import BatchSchema, FeatureSchema

#: A batch may not need more than this, whatever the body claims: rows of ``{}`` or a column of nulls cost a sender
#: almost nothing and the receiver eight bytes a feature.
MAX_BATCH_BYTES = 3 << 29


@dataclass(frozen=True, slots=True)
class Category:
    """A categorical feature, ready to be looked up.

    Parameters
    ----------
    index : position in the schema
    codes : code of every category and of None (missing)
    byte_codes : the same by the UTF-8 bytes of the category
    enum : the categories as a polars type; its physical codes are ours
    """

    index: int
    feature: FeatureSchema
    codes: dict[str | None, int]
    byte_codes: dict[bytes, int]
    enum: pl.Enum


@dataclass(frozen=True, slots=True)
class Plan:
    """A schema and what follows from it.

    Parameters
    ----------
    numeric : (index, name) of the numeric features
    ndjson : what polars is to read from a row
    bulk : whether `ndjson` can say it all. Not when one field is wanted as two types, nor when a category looks like
        what polars makes of a list, an object or a lone surrogate, which could then not be told apart.
    """

    schema: BatchSchema
    numeric: tuple[tuple[int, str], ...]
    categorical: tuple[Category, ...]
    ndjson: dict[str, pl.DataType]
    bulk: bool

    @property
    def n_features(self) -> int:
        """Columns of a batch."""
        return len(self.schema.features)

    @property
    def max_rows(self) -> int:
        """Rows that a batch of this schema may have."""
        return MAX_BATCH_BYTES // (8 * (self.n_features + 1))


def _category(index: int, feature: FeatureSchema) -> Category:
    codes: dict[str | None, int] = {text: code for code, text in enumerate(feature.categories)}
    byte_codes = {text.encode("utf-8", "surrogatepass"): code for code, text in enumerate(feature.categories)}
    codes[None] = feature.missing_code
    enum = pl.Enum([text for text in feature.categories if _is_unicode(text)])
    return Category(index, feature, codes, byte_codes, enum)


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def looks_converted(text: str) -> bool:
    """Whether polars may have made this text of a list, an object or a lone surrogate."""
    return text.startswith(("[", "{")) or "\x00" in text or not _is_unicode(text)


def _make_plan(schema: BatchSchema) -> Plan:
    numeric = tuple((i, f.name) for i, f in enumerate(schema.features) if f.kind == "numeric")
    categorical = tuple(_category(i, f) for i, f in enumerate(schema.features) if f.kind == "categorical")
    ndjson: dict[str, pl.DataType] = {}
    for feature in schema.features:
        ndjson[feature.name] = pl.Float64() if feature.kind == "numeric" else pl.String()
    n_fields = len(schema.features)
    if schema.timestamp is not None:
        ndjson[schema.timestamp.field] = pl.String() if schema.timestamp.unit == "iso8601" else pl.Float64()
        n_fields += 1
    bulk = len(ndjson) == n_fields > 0 and not any(
        looks_converted(text) for category in categorical for text in category.feature.categories
    )
    return Plan(schema, numeric, categorical, ndjson, bulk)


_PLANS: dict[int, Plan] = {}
_MAX_PLANS = 64


def plan_for(schema: BatchSchema) -> Plan:
    """The plan of a schema, made at its first use.

    Found by identity: hashing a schema of a thousand features costs more than decoding a row of it. A plan holds its
    schema, so that an identity stays taken while it is remembered.
    """
    plan = _PLANS.get(id(schema))
    if plan is None:
        if len(_PLANS) >= _MAX_PLANS:
            _PLANS.clear()
        plan = _PLANS[id(schema)] = _make_plan(schema)
    return plan
