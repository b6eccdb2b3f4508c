"""The keys of the sources; see `schema`."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, WrapValidator
from pydantic_core import InitErrorDetails

from kldrift.config.choices import DISTRIBUTIONS, json_schema_of
from kldrift.config.mapped import Mapped
from kldrift.config.values import (
    FeatureName,
    Finite,
    Positive,
    Probabilities,
    Share,
    Text,
    by_shape,
    duration,
    one_of,
    wanted,
    wanted_word,
)

_HTTP_ONLY = {
    "json": "json bodies come over HTTP only",
    "arrow": "arrow streams come over HTTP only",
}


class FileSource(Mapped):
    """Files that match a pattern; .gz and .zst are decompressed."""

    type: Literal["file"] = Field(description="the type of the source")
    path: Text = Field(description="the path of the files, with * and ? as wildcards, relative to this file")
    format: Annotated[
        Literal["ndjson", "csv", "parquet"] | None, *one_of(("ndjson", "csv", "parquet"), "formats", _HTTP_ONLY)
    ] = Field(default=None, description="ndjson, csv or parquet; told by the suffix of the path where absent")
    follow: bool = Field(default=False, description="wait for more lines and more files; else read to the end once")


class StdinSource(Mapped):
    """Standard input."""

    type: Literal["stdin"] = Field(description="the type of the source")
    format: Annotated[
        Literal["ndjson", "csv"],
        *one_of(("ndjson", "csv"), "formats", {**_HTTP_ONLY, "parquet": "parquet cannot be read as a stream"}),
    ] = Field(default="ndjson", description="ndjson or csv")


class Override(Mapped):
    """A distribution, or only the parameters of it that change."""

    model_config = ConfigDict(
        json_schema_extra=json_schema_of(DISTRIBUTIONS, "distribution", ("distribution", "missing"), complete=False)
    )
    distribution: Annotated[str | None, *one_of([choice.name for choice in DISTRIBUTIONS], "distributions")] = Field(
        default=None, description="the distribution that stays or comes in its place: normal, uniform, categorical …"
    )
    mean: Finite | None = Field(default=None, description="of normal; of the logarithm of lognormal")
    std: Positive | None = Field(default=None, description="standard deviation of normal")
    sigma: Positive | None = Field(default=None, description="standard deviation of the logarithm of lognormal")
    low: Finite | None = Field(default=None, description="of uniform")
    high: Finite | None = Field(default=None, description="of uniform")
    scale: Positive | None = Field(default=None, description="mean of exponential")
    rate: Annotated[float, Field(gt=0, le=1e9)] | None = Field(default=None, description="mean of poisson")
    probabilities: Annotated[dict[str, Share], Probabilities] | None = Field(
        default=None, description="of categorical: category to probability; they sum to 1"
    )
    value: Annotated[
        float | str | None,
        WrapValidator(
            lambda value, _: by_shape(
                {str: str, int: float, float: float}, "a number or some text", "write the constant's value"
            )(value)
        ),
    ] = Field(default=None, description="of constant: a number or text")
    missing: Share | None = Field(default=None, description="share of the rows that lack the feature")


class Drawn(Override):
    """What a synthetic feature is drawn from."""

    model_config = ConfigDict(
        json_schema_extra=json_schema_of(DISTRIBUTIONS, "distribution", ("distribution", "missing"))
    )
    distribution: Annotated[str, *one_of([choice.name for choice in DISTRIBUTIONS], "distributions")] = Field(
        description="a distribution: normal, lognormal, uniform, exponential, poisson, categorical or constant"
    )


class SyntheticDrift(Mapped):
    """A change of distributions while the source runs."""

    after: Annotated[int, *duration(0, "0")] = Field(description="a duration after the first row, such as 2m")
    features: Annotated[dict[FeatureName, Override], Field(min_length=1)] = Field(
        description="the features that change, each with the parameters that change"
    )


class SyntheticSource(Mapped):
    """Rows drawn at random, for the demo and for tests."""

    type: Literal["synthetic"] = Field(description="the type of the source")
    rate: Annotated[float, Field(ge=0, le=1e9)] = Field(
        default=1000.0, description="rows a second; 0: as fast as they are taken"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(default=0, description="of the random numbers")
    rows: Annotated[int, Field(ge=1)] | None = Field(default=None, description="stop after so many rows")
    features: Annotated[dict[FeatureName, Drawn], Field(min_length=1)] = Field(
        description="the features to draw, by name"
    )
    drift: SyntheticDrift | None = Field(default=None, description="a change of distributions while the source runs")


_SOURCES: Mapping[str, type[Mapped]] = {"file": FileSource, "stdin": StdinSource, "synthetic": SyntheticSource}


def _source(value: Any, _: Callable[[Any], Any]) -> Mapped:
    # chosen by hand: the errors of a pydantic union carry the tag in their place, where it reads like a key
    if not isinstance(value, dict):
        raise wanted("a mapping with a type: file, stdin or synthetic", "write key: value pairs")
    later = {"kafka": "kafka is not in this version"}
    kind = value.get("type")
    if isinstance(kind, str) and kind in _SOURCES:
        return _SOURCES[kind].model_validate(value)
    error = (
        wanted_word(kind, list(_SOURCES), "types", later)
        if "type" in value
        else wanted("the type of the source: file, stdin or synthetic", "add the key")
    )
    raise ValidationError.from_exception_data("Source", [InitErrorDetails(type=error, loc=("type",), input=kind)])


Source = Annotated[FileSource | StdinSource | SyntheticSource, Field(discriminator="type"), WrapValidator(_source)]
