"""The keys of the sources, and the record that each becomes; see `schema`."""

import glob
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, PlainValidator, ValidationError, WithJsonSchema, WrapValidator
from pydantic_core import InitErrorDetails

from kldrift.config.checks import merged
from kldrift.config.choices import BESIDE_ANOTHER, DISTRIBUTIONS, PROTOCOLS, json_schema_of
from kldrift.config.mapped import Mapped
from kldrift.config.values import (
    FeatureName,
    Finite,
    MissingValues,
    Positive,
    Probabilities,
    Share,
    Text,
    by_shape,
    duration,
    listen_address,
    one_of,
    wanted,
    wanted_word,
)
from kldrift.records.formats import Format, Transport, format_of, formats_from, why_not_from
from kldrift.records.sources import (
    ROTATE_WAIT_MS,
    Distribution,
    FileSourceConfig,
    KafkaMechanism,
    KafkaProtocol,
    KafkaSecurity,
    KafkaSourceConfig,
    KafkaStart,
    StdinSourceConfig,
    SyntheticSourceConfig,
)
from kldrift.records.texts import either

#: What the key `missing_values` of a source says.
MISSING_VALUES_OF_SOURCE = "texts that stand for a missing value in its rows, in place of the monitor's missing_values"

_TOPIC = "[A-Za-z0-9._-]{1,249}"


def _broker() -> tuple[Any, ...]:
    def check(value: Any) -> str:
        address = listen_address(value)
        if address is None or value.startswith(":") or address[1] == 0:
            raise wanted("a broker such as localhost:9092", "write its host and port")
        return str(value)

    return PlainValidator(check), WithJsonSchema({"type": "string", "pattern": "^.+:[0-9]{1,5}$"})


def _topic() -> tuple[Any, ...]:
    def check(value: Any) -> str:
        if isinstance(value, str) and re.fullmatch(_TOPIC, value) and value not in (".", ".."):
            return value
        raise wanted("a topic's name: at most 249 letters, digits, _, . and -", "write the name of one topic")

    return PlainValidator(check), WithJsonSchema({"type": "string", "pattern": f"^{_TOPIC}$"})


def _one_format(transport: Transport) -> tuple[Any, ...]:
    return one_of(formats_from(transport), "formats", why_not_from(transport))


class FileSource(Mapped):
    """Files that match a pattern; .gz and .zst are decompressed."""

    type: Literal["file"] = Field(description="the type of the source")
    path: Text = Field(description="the path of the files, with * and ? as wildcards, relative to this file")
    format: Annotated[Format | None, *_one_format("file")] = Field(
        default=None, description=f"{either(formats_from('file'))}; by default what the name of the file says"
    )
    follow: bool = Field(default=False, description="wait for more lines and files instead of reading to the end once")
    rotate_wait: Annotated[int, *duration(1000, "1s", 86_400_000, "1d")] = Field(
        default=ROTATE_WAIT_MS,
        description="how long a followed file that was renamed must stay unchanged to be finished, such as 5m",
    )
    missing_values: MissingValues | None = Field(default=None, description=MISSING_VALUES_OF_SOURCE)

    def record(self, name: str, folder: Path) -> FileSourceConfig:
        """Return the record; relative paths start at `folder`."""
        file_format = self.format or format_of(self.path)
        assert file_format is not None  # `checks` saw to it
        # a [ in the folder's own name is not a wildcard
        pattern = str(Path(glob.escape(str(folder))) / self.path)
        return FileSourceConfig(
            name=name,
            path=pattern,
            format=file_format,
            follow=self.follow,
            rotate_wait_ms=self.rotate_wait,
            missing_values=None if self.missing_values is None else tuple(self.missing_values),
        )


class StdinSource(Mapped):
    """Standard input."""

    type: Literal["stdin"] = Field(description="the type of the source")
    format: Annotated[Format, *_one_format("stdin")] = Field(
        default="ndjson", description=either(formats_from("stdin"))
    )
    missing_values: MissingValues | None = Field(default=None, description=MISSING_VALUES_OF_SOURCE)

    def record(self, name: str, folder: Path) -> StdinSourceConfig:  # noqa: ARG002 - it has no paths
        """Return the record."""
        return StdinSourceConfig(name, self.format, None if self.missing_values is None else tuple(self.missing_values))


class Security(Mapped):
    """TLS and SASL settings for the brokers."""

    model_config = ConfigDict(
        json_schema_extra={
            **json_schema_of(PROTOCOLS, "protocol", ("protocol",)),
            "dependentRequired": {key: [beside] for key, beside in BESIDE_ANOTHER.items()},
        }
    )
    protocol: Annotated[KafkaProtocol, *one_of(get_args(KafkaProtocol), "protocols")] = Field(
        description="plaintext, ssl (TLS), sasl_plaintext (a user name and password) or sasl_ssl (both)"
    )
    mechanism: Annotated[KafkaMechanism | None, *one_of(get_args(KafkaMechanism), "mechanisms")] = Field(
        default=None, description="of SASL: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
    )
    username_file: Text | None = Field(default=None, description="a file with the user name, relative to this file")
    password_file: Text | None = Field(default=None, description="a file with the password, relative to this file")
    ca: Text | None = Field(
        default=None, description="authorities trusted to sign broker certificates (PEM); the system's own if absent"
    )
    certificate: Text | None = Field(default=None, description="client certificate (PEM), for brokers that require one")
    key: Text | None = Field(default=None, description="private key of the client certificate (PEM)")
    key_password_file: Text | None = Field(default=None, description="a file with the password of an encrypted key")

    def record(self, folder: Path) -> KafkaSecurity:
        """Return the record; relative paths start at `folder`."""
        paths = self.model_dump(exclude_none=True, exclude={"protocol", "mechanism"})
        return KafkaSecurity(self.protocol, self.mechanism, **{key: folder / path for key, path in paths.items()})


class KafkaSource(Mapped):
    """A topic of Apache Kafka; needs the extra `kafka`."""

    type: Literal["kafka"] = Field(description="the type of the source")
    brokers: Annotated[list[Annotated[str, *_broker()]], Field(min_length=1)] = Field(
        description="host:port of at least one broker; the others are discovered"
    )
    topic: Annotated[str, *_topic()] = Field(description="the topic to read")
    group: Text = Field(default="kldrift", description="the consumer group; members of one group share the partitions")
    member: Text | None = Field(
        default=None,
        description="a name unique to this daemon within the group; after a restart, even a kill, it resumes at once",
    )
    format: Annotated[Format, *_one_format("kafka")] = Field(
        default="ndjson",
        description="of a value: ndjson (rows, a line each), json (a row or a list of rows) or arrow (an IPC stream)",
    )
    start: Annotated[KafkaStart, *one_of(get_args(KafkaStart), "places to start")] = Field(
        default="earliest", description="where to start in a partition without a stored position: earliest or latest"
    )
    security: Security | None = Field(default=None, description="TLS and SASL; plaintext if absent")
    missing_values: MissingValues | None = Field(default=None, description=MISSING_VALUES_OF_SOURCE)

    def record(self, name: str, folder: Path) -> KafkaSourceConfig:
        """Return the record; relative paths start at `folder`."""
        return KafkaSourceConfig(
            name=name,
            brokers=tuple(self.brokers),
            topic=self.topic,
            group=self.group,
            format=self.format,
            start=self.start,
            member=self.member,
            security=None if self.security is None else self.security.record(folder),
            missing_values=None if self.missing_values is None else tuple(self.missing_values),
        )


class Override(Mapped):
    """A distribution, or only those of its parameters that change."""

    model_config = ConfigDict(
        json_schema_extra=json_schema_of(DISTRIBUTIONS, "distribution", ("distribution", "missing"), complete=False)
    )
    distribution: Annotated[str | None, *one_of([choice.name for choice in DISTRIBUTIONS], "distributions")] = Field(
        default=None, description="the new distribution, or the one that stays: normal, uniform, categorical …"
    )
    mean: Finite | None = Field(default=None, description="mean of normal; of the logarithm for lognormal")
    std: Positive | None = Field(default=None, description="standard deviation of normal")
    sigma: Positive | None = Field(default=None, description="standard deviation of the logarithm, for lognormal")
    low: Finite | None = Field(default=None, description="lower end of uniform")
    high: Finite | None = Field(default=None, description="upper end of uniform")
    scale: Positive | None = Field(default=None, description="mean of exponential")
    rate: Annotated[float, Field(gt=0, le=1e9)] | None = Field(default=None, description="mean of poisson")
    probabilities: Annotated[dict[str, Share], Probabilities] | None = Field(
        default=None, description="probabilities by category, for categorical; they sum to 1"
    )
    value: Annotated[
        float | str | None,
        WrapValidator(
            lambda value, _: by_shape(
                {str: str, int: float, float: float}, "a number or text", "write the constant's value"
            )(value)
        ),
    ] = Field(default=None, description="value of constant: a number or text")
    missing: Share | None = Field(default=None, description="share of rows that lack the feature")


class Drawn(Override):
    """The distribution of a synthetic feature."""

    model_config = ConfigDict(
        json_schema_extra=json_schema_of(DISTRIBUTIONS, "distribution", ("distribution", "missing"))
    )
    distribution: Annotated[str, *one_of([choice.name for choice in DISTRIBUTIONS], "distributions")] = Field(
        description="a distribution: normal, lognormal, uniform, exponential, poisson, categorical or constant"
    )


class SyntheticDrift(Mapped):
    """A change of distributions at some point."""

    after: Annotated[int, *duration(0, "0")] = Field(description="the time after the first row, such as 2m")
    features: Annotated[dict[FeatureName, Override], Field(min_length=1)] = Field(
        description="the features that change, each with its changed parameters"
    )


class SyntheticSource(Mapped):
    """Random rows, for demos and tests."""

    type: Literal["synthetic"] = Field(description="the type of the source")
    rate: Annotated[float, Field(ge=0, le=1e9)] = Field(
        default=1000.0, description="rows per second; 0: as fast as they are consumed"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(default=0, description="seed of the random numbers")
    rows: Annotated[int, Field(ge=1)] | None = Field(default=None, description="number of rows after which to stop")
    features: Annotated[dict[FeatureName, Drawn], Field(min_length=1)] = Field(
        description="the features to draw, by name"
    )
    drift: SyntheticDrift | None = Field(default=None, description="a change of distributions at some point")

    def record(self, name: str, folder: Path) -> SyntheticSourceConfig:  # noqa: ARG002 - it has no paths
        """Return the record."""
        features = {feature: drawn.model_dump(exclude_unset=True) for feature, drawn in self.features.items()}
        changes = {} if self.drift is None else self.drift.features
        return SyntheticSourceConfig(
            name=name,
            rate_per_second=self.rate,
            seed=self.seed,
            rows=self.rows,
            features={feature: _distribution(drawn) for feature, drawn in features.items()},
            drift_after_ms=None if self.drift is None else self.drift.after,
            drifted={
                feature: _distribution(merged(features[feature], override.model_dump(exclude_unset=True)))
                for feature, override in changes.items()
            },
        )


def _distribution(parameters: Mapping[str, Any]) -> Distribution:
    given = {key: value for key, value in parameters.items() if value is not None}
    name, value, missing = given.pop("distribution"), given.pop("value", None), given.pop("missing", 0.0)
    return Distribution(name, given.pop("probabilities", given), value, missing)


AnySource = FileSource | KafkaSource | StdinSource | SyntheticSource
_TYPES: Mapping[str, type[AnySource]] = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(AnySource)
}


def _source(value: Any, _: Callable[[Any], Any]) -> AnySource:
    # Chosen by hand: the location in the errors of a pydantic union contains the tag, where it reads like a key.
    if not isinstance(value, dict):
        raise wanted(f"a mapping with a type: {either(list(_TYPES))}", "write key: value pairs")
    kind = value.get("type")
    if isinstance(kind, str) and kind in _TYPES:
        return _TYPES[kind].model_validate(value)
    error = (
        wanted_word(kind, list(_TYPES), "types")
        if "type" in value
        else wanted(f"the type of the source: {either(list(_TYPES))}", "add the key")
    )
    raise ValidationError.from_exception_data("Source", [InitErrorDetails(type=error, loc=("type",), input=kind)])


Source = Annotated[AnySource, Field(discriminator="type"), WrapValidator(_source)]
