"""The keys of the configuration file, one model per mapping, and the JSON schema for editors.

Those of the server and of the sources have files of their own.

A model checks each key by itself. Rules that involve several keys are in `checks`, so that a mistake in one key never
hides mistakes in others.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import ConfigDict, Field, TypeAdapter, WrapValidator
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import DictSchema, NullableSchema, WithDefaultSchema

from kldrift.config.choices import (
    BIN_METHODS,
    FAMILIES,
    FEATURE_REFERENCES,
    FITTED_FAMILIES,
    KINDS,
    MONITOR_REFERENCES,
    json_schema_of,
)
from kldrift.config.mapped import Mapped
from kldrift.config.server_schema import Server
from kldrift.config.source_schema import Source
from kldrift.config.values import (
    DEFAULT_WINDOWS,
    Count,
    Counts,
    Edges,
    FeatureName,
    Finite,
    MissingValues,
    Name,
    Positive,
    Probabilities,
    Quantiles,
    Range,
    Share,
    Text,
    Threads,
    Window,
    by_shape,
    duration,
    one_of,
    size,
    wanted,
    window,
)
from kldrift.records.divergences import DIVERGENCES
from kldrift.records.kinds import Kind
from kldrift.records.specs import CONFIDENCE, CRITICAL, MAX_CATEGORIES, WARNING
from kldrift.records.types import Aspect, Correction, Covariance, Estimator, Family, TimeUnit


class Engine(Mapped):
    """The thread that counts and compares."""

    tick: Annotated[int, *duration(100, "100ms", 3_600_000, "1h")] = Field(
        default=10_000, description="how often divergences are computed, such as 10s"
    )
    threads: Threads = Field(default=None, description="kernel threads: auto (one per core) or a number")
    queue: Annotated[int, *size(1_000_000, "1MB")] = Field(
        default=256_000_000, description="maximum decoded data waiting to be counted, such as 256MB"
    )


class Log(Mapped):
    """The log, on standard error."""

    format: Annotated[Literal["logfmt", "json"], *one_of(("logfmt", "json"), "formats")] = Field(
        default="logfmt", description="logfmt or json"
    )
    level: Annotated[
        Literal["debug", "info", "warning", "error"], *one_of(("debug", "info", "warning", "error"), "levels")
    ] = Field(default="info", description="least severe level that is written: debug, info, warning or error")


class Timestamp(Mapped):
    """The event time of a row; without it, the arrival time is used."""

    field: Text = Field(description="the field with the event time")
    unit: Annotated[Literal["iso8601", "s", "ms", "us", "ns"], *one_of(("iso8601", "s", "ms", "us", "ns"), "units")] = (
        Field(description="the unit of the event time: iso8601, s, ms, us or ns")
    )


_OF_A_FEATURE = (
    "no such key here: only the reference of a single feature has it",
    "move it to that feature's reference",
)


class MonitorReference(Mapped):
    """What live samples are compared with: a file, the beginning of the stream, or an earlier window."""

    model_config = ConfigDict(json_schema_extra=json_schema_of(MONITOR_REFERENCES))
    elsewhere: ClassVar[Mapping[str, tuple[str, str]]] = dict.fromkeys(
        ("edges", "counts", "missing", "family", "fit", *(key for family in FAMILIES for key in family.required)),
        _OF_A_FEATURE,
    )
    data: Text | None = Field(default=None, description="a Parquet, CSV or NDJSON file, relative to this file")
    file: Text | None = Field(default=None, description="a file from `kldrift reference build`, relative to this file")
    learn: Annotated[int, Field(ge=64, le=10_000_000)] | None = Field(
        default=None,
        description="number of rows to take from the beginning of the stream; with previous, to learn the bins from",
    )
    previous: Annotated[int, *duration(1000, "1s")] | None = Field(
        default=None,
        description="the same window this long ago, such as 7d; its bins come from data, file or learn (10000)",
    )


def _cells(cell: Any) -> WrapValidator:
    """Accept a mapping (categorical) or a list (numeric) of cells."""
    strict = ConfigDict(strict=True)
    mapping, sequence = TypeAdapter(dict[str, cell], config=strict), TypeAdapter(list[cell], config=strict)
    check = by_shape(
        {dict: mapping.validate_python, list: sequence.validate_python},
        "a mapping (of categories) or a list (one per bin)",
        "write {category: value, …} or [value, …]",
    )
    return WrapValidator(lambda value, _: check(value))


_PARAMETRIC = json_schema_of((*FAMILIES, *FITTED_FAMILIES), "family", ("family",))


class FeatureReference(MonitorReference):
    """A reference for one feature: as for a monitor, or written out, or a parametric family."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [*json_schema_of(FEATURE_REFERENCES)["anyOf"], *_PARAMETRIC["anyOf"]]}
    )
    elsewhere: ClassVar[Mapping[str, tuple[str, str]]] = {}
    edges: Edges | None = Field(default=None, description="bin edges of a numeric feature, one more than cells")
    counts: Annotated[dict[str, Count] | list[Count], _cells(Count), Counts] | None = Field(
        default=None, description="a sample: counts by category, or one count per bin"
    )
    probabilities: Annotated[dict[str, Share] | list[Share], _cells(Share), Probabilities] | None = Field(
        default=None, description="known exactly: probabilities by category, or one per bin; they sum to 1"
    )
    missing: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None,
        description="share of rows without a value, beside counts, probabilities or the parameters of a family; without"
        " it, missing and invalid values are not part of the divergence",
    )
    family: Annotated[Family, *one_of([family.name for family in FAMILIES], "families")] | None = Field(
        default=None,
        description="normal (mean, std), lognormal (mean, sigma), exponential (scale), gamma (shape, scale), "
        "beta (a, b), uniform (low, high), poisson (rate), bernoulli (p) or categorical (probabilities); or fit",
    )
    fit: Text | None = Field(
        default=None, description="a data file to fit the family to by maximum likelihood, relative to this file"
    )
    mean: Finite | None = Field(default=None, description="mean of normal; of the logarithm for lognormal")
    std: Positive | None = Field(default=None, description="standard deviation of normal")
    sigma: Positive | None = Field(default=None, description="standard deviation of the logarithm, for lognormal")
    scale: Positive | None = Field(default=None, description="scale of exponential (its mean) or gamma")
    shape: Positive | None = Field(default=None, description="shape of gamma")
    a: Positive | None = Field(default=None, description="first parameter of beta, the power at 0")
    b: Positive | None = Field(default=None, description="second parameter of beta, the power at 1")
    low: Finite | None = Field(default=None, description="lower end of uniform")
    high: Finite | None = Field(default=None, description="upper end of uniform")
    rate: Positive | None = Field(default=None, description="mean of poisson")
    p: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="probability of 1, or of true, for bernoulli"
    )


class BinsModel(Mapped):
    """How a numeric feature is cut into bins."""

    model_config = ConfigDict(json_schema_extra=json_schema_of(BIN_METHODS, "method"))
    method: Annotated[
        Literal["quantile", "uniform", "logarithmic", "discrete"] | None,
        *one_of([choice.name for choice in BIN_METHODS if choice.name != "edges"], "methods"),
    ] = Field(default=None, description="quantile (default), uniform, logarithmic or discrete")
    count: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="number of bins, for uniform and logarithmic"
    )
    range: Range | None = Field(default=None, description="[low, high]; values outside are underflow and overflow")
    probabilities: Quantiles | None = Field(default=None, description="probabilities of the inner edges, for quantile")
    edges: Edges | None = Field(
        default=None, description="the edges themselves, strictly increasing, instead of a method"
    )


_OF_THE_MONITOR = ("no such key here: only the monitor has it", "move it to the monitor's drift")


class DriftOverride(Mapped):
    """Tolerances in nats; what is absent is taken from the monitor."""

    elsewhere: ClassVar[Mapping[str, tuple[str, str]]] = dict.fromkeys(("confidence", "correction"), _OF_THE_MONITOR)
    warning: Positive | None = Field(default=None, description="nats; below critical")
    critical: Positive | None = Field(default=None, description="nats")


class Drift(Mapped):
    """Tolerances for the Kullback-Leibler divergence, in nats, and the confidence a verdict needs."""

    confidence: Annotated[float, Field(gt=0.5, le=1 - 1e-12)] = Field(
        default=CONFIDENCE,
        description="confidence of the bounds on each feature; verdicts have a false discovery rate of 1 - confidence",
    )
    correction: Annotated[Correction, *one_of(("bh", "by"), "corrections")] = Field(
        default="bh",
        description="correction for many features: bh (Benjamini-Hochberg) or by (Benjamini-Yekutieli, any dependence)",
    )
    warning: Positive = Field(default=WARNING, description="nats; below critical")
    critical: Positive = Field(default=CRITICAL, description="nats")


class Feature(Mapped):
    """A feature of a monitor."""

    model_config = ConfigDict(json_schema_extra=json_schema_of(KINDS, "kind", ("kind", "drift")))
    kind: Annotated[Kind, *one_of([choice.name for choice in KINDS], "kinds")] = Field(
        description="the kind of the feature: numeric, categorical, vector or posterior"
    )
    bins: BinsModel | None = Field(
        default=None, description="how a numeric feature is cut into bins; quantiles if absent"
    )
    max_categories: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=MAX_CATEGORIES, description="categories with a cell of their own; the rest fall into other"
    )
    reference: FeatureReference | None = Field(default=None, description="replaces the monitor's reference")
    drift: DriftOverride | None = Field(default=None, description="replaces the monitor's tolerances")
    dimensions: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None,
        description="length of a vector; for a posterior, the number of means, followed by as many log variances",
    )
    covariance: Annotated[Covariance, *one_of(("diagonal", "full"), "covariances")] = Field(
        default="diagonal", description="covariance of a vector: diagonal, or full (at most 512 dimensions)"
    )
    per_dimension: bool = Field(
        default=False, description="export the KL of each dimension of a posterior or of a diagonal vector"
    )
    of: Annotated[Aspect, *one_of(get_args(Aspect), "aspects")] | None = Field(
        default=None,
        description="watch, instead of the value, the hour or weekday (0 is Monday) of a time, its age in seconds"
        " before the time of the row, or the length of a text",
    )
    unit: Annotated[TimeUnit, *one_of(get_args(TimeUnit), "units")] | None = Field(
        default=None,
        description="the unit of times with `of`: iso8601 (if absent), or s, ms, us or ns for numbers since 1970",
    )


class Epsilon(Mapped):
    """A constant added to every reference probability."""

    epsilon: Annotated[float, Field(gt=0, le=1)] = Field(description="a number above 0, added to every probability")


class Segments(Mapped):
    """The same divergences for the rows of each value of a field."""

    by: Text = Field(description="the field whose values define the segments")
    limit: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=20, description="values with a segment of their own; the rest fall into other"
    )


SMOOTHINGS = ("jeffreys", "laplace", "none")


def _smoothing(value: Any, _: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return Epsilon.model_validate(value)
    if isinstance(value, str) and value in SMOOTHINGS:
        return value
    raise wanted("jeffreys, laplace, none or {epsilon: number}", "use one of these")


class Monitor(Mapped):
    """A set of features, what they are compared with, and over which windows."""

    sources: list[Text] = Field(default_factory=list, description="names of pull sources; HTTP push needs none")
    timestamp: Timestamp | None = Field(
        default=None, description="the event time of a row; without it, the arrival time is used"
    )
    allowed_lateness: Annotated[int, *duration(0, "0", 31 * 86_400_000, "31d")] = Field(
        default=60_000, description="how long to wait for late rows, such as 1m"
    )
    windows: Annotated[list[Window], Field(min_length=1, max_length=12)] = Field(
        default_factory=lambda: [window(text) for text in DEFAULT_WINDOWS],
        description="sliding windows over which divergences are computed: [5m, 1h, 24h]",
    )
    reference: MonitorReference | None = Field(default=None, description="what live samples are compared with")
    missing_values: MissingValues | None = Field(
        default=None,
        description="texts that stand for a missing value, in the reference and in live rows; by default NA, null and "
        "other common ones in CSV, none elsewhere; the empty text always does",
    )
    segments: Segments | None = Field(default=None, description="also monitor the rows of each value of a field")
    smoothing: Annotated[Literal["jeffreys", "laplace", "none"] | Epsilon, WrapValidator(_smoothing)] = Field(
        default="jeffreys", description="how empty cells of the reference get a probability"
    )
    estimator: Annotated[Estimator, *one_of(get_args(Estimator), "estimators")] = Field(
        default="kldrift", description="tool whose KL estimate is exported as kl; verdicts always use kldrift's own"
    )
    divergences: list[Annotated[str, *one_of(DIVERGENCES, "divergences")]] = Field(
        default_factory=lambda: ["kl", "psi"], description="divergences to export; kl is always included"
    )
    drift: Drift = Field(default=Drift(), description="tolerances in nats, and the confidence a verdict needs")
    features: Annotated[dict[FeatureName, Feature], Field(min_length=1)] = Field(
        description="the features to monitor, by name"
    )


class StateFile(Mapped):
    """Counts, source positions and answers to keyed posts, kept across restarts."""

    path: Text = Field(description="an SQLite file on a local disk, relative to this file; created if missing")
    commit_interval: Annotated[int, *duration(10, "10ms", 60_000, "1m")] = Field(
        default=1000, description="how often to store what no post is waiting for, such as 1s"
    )


def _state(value: Any, _: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return StateFile.model_validate(value)
    if value == "none":
        return value
    raise wanted("none or {path: FILE}", "use one of these")


class ConfigModel(Mapped):
    """The whole file."""

    server: Server = Field(default=Server(), description="the HTTP server")
    state: Annotated[Literal["none"] | StateFile, WrapValidator(_state)] = Field(
        default="none", description="{path: FILE} keeps counts across restarts; none keeps nothing"
    )
    engine: Engine = Field(default=Engine(), description="the thread that counts and compares")
    log: Log = Field(default=Log(), description="the log, on standard error")
    sources: dict[Name, Source] = Field(
        default_factory=dict, description="pull sources, by name; HTTP push needs none: every monitor accepts it"
    )
    monitors: Annotated[dict[Name, Monitor], Field(min_length=1)] = Field(description="the monitors, by name")


class _JsonSchema(GenerateJsonSchema):
    """Omits what the file's grammar does not have: defaults in parsed form, null, generated titles."""

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        """Return the schema of the value alone."""
        return self.generate_inner(schema["schema"])

    def nullable_schema(self, schema: NullableSchema) -> JsonSchemaValue:
        """Return the schema without null: a key has a value or is absent."""
        return self.generate_inner(schema["schema"])

    def dict_schema(self, schema: DictSchema) -> JsonSchemaValue:
        """Refuse keys that do not match the pattern for names."""
        made = super().dict_schema(schema)
        return {**made, "additionalProperties": False} if "patternProperties" in made else made

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002
        """Set no titles: the descriptions say it all."""
        return False


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of the file, for editors."""
    schema = ConfigModel.model_json_schema(schema_generator=_JsonSchema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "kldrift configuration"}
