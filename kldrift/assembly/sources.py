"""From the configuration's records to sources."""

from collections.abc import Callable, Sequence

from kldrift.records.sources import (
    Distribution,
    FileSourceConfig,
    KafkaSourceConfig,
    SourceConfig,
    StdinSourceConfig,
    SyntheticSourceConfig,
)
from kldrift.records.types import Format
from kldrift.sources.base import Positions, Source
from kldrift.sources.distributions import Distribution as Drawn
from kldrift.sources.distributions import distribution
from kldrift.sources.file import FileSource
from kldrift.sources.kafka import KafkaSecurity, KafkaSource
from kldrift.sources.stdin import StdinSource
from kldrift.sources.synthetic import SyntheticSource
from kldrift.wire import parquet_rows

#: A chunk of a Parquet file has at most so many rows, and so many numbers (128 MB).
MAX_CHUNK_ROWS = 1 << 16
MAX_CHUNK_NUMBERS = 1 << 24


def build_source(
    config: SourceConfig,
    clock_ms: Callable[[], int],
    on_error: Callable[[str, str], None],
    once: bool,
    row_numbers: int = 1,
    settled: Callable[[], Positions] | None = None,
    on_rebalance: Callable[[Sequence[str]], None] = lambda _: None,
) -> tuple[Source, Format]:
    """A source and the format of its bytes.

    Parameters
    ----------
    row_numbers : numbers that are read from a row, so that chunks of wide rows stay within memory
    on_error : told (reason, detail) of what the source could not read and went on without
    once : read to the end and stop, even where the source is configured to be followed
    settled : positions of this source that are counted for good, by stream
    on_rebalance : told the streams that are ours, after each change
    """
    if isinstance(config, FileSourceConfig):
        return FileSource(
            name=config.name,
            pattern=config.path,
            framing="rows" if config.format == "parquet" else "lines",
            header=config.format == "csv",
            follow=config.follow and not once,
            clock_ms=clock_ms,
            count_rows=parquet_rows if config.format == "parquet" else None,
            rows_per_chunk=max(1, min(MAX_CHUNK_ROWS, MAX_CHUNK_NUMBERS // max(1, row_numbers))),
            on_error=on_error,
        ), config.format
    if isinstance(config, KafkaSourceConfig):
        return build_kafka(config, clock_ms, on_error, once, settled, on_rebalance)
    if isinstance(config, StdinSourceConfig):
        return StdinSource(config.name, config.format == "csv", clock_ms, on_error), config.format
    return build_synthetic(config, clock_ms), "ndjson"


def build_kafka(
    config: KafkaSourceConfig,
    clock_ms: Callable[[], int],
    on_error: Callable[[str, str], None],
    once: bool,
    settled: Callable[[], Positions] | None,
    on_rebalance: Callable[[Sequence[str]], None],
) -> tuple[KafkaSource, Format]:
    """A Kafka source; its rows come as lines, whatever JSON a value is."""
    given = config.security
    security = None if given is None else KafkaSecurity(**{key: getattr(given, key) for key in given.__slots__})
    source = KafkaSource(
        config.name,
        config.brokers,
        config.topic,
        config.group,
        config.format,
        config.start,
        not once,
        clock_ms,
        on_error,
        member=config.member,
        security=security,
        settled=settled,
        on_rebalance=on_rebalance,
    )
    return source, "arrow" if config.format == "arrow" else "ndjson"


def build_synthetic(config: SyntheticSourceConfig, clock_ms: Callable[[], int]) -> SyntheticSource:
    """A synthetic source."""
    return SyntheticSource(
        name=config.name,
        features={name: _distribution(given) for name, given in config.features.items()},
        rate=config.rate_per_second,
        seed=config.seed,
        clock_ms=clock_ms,
        rows=config.rows,
        drift_after_ms=config.drift_after_ms,
        drift_features={name: _distribution(given) for name, given in config.drifted.items()},
    )


def _distribution(given: Distribution) -> Drawn:
    if given.name == "categorical":
        return distribution(given.name, probabilities=given.parameters, missing=given.missing)
    if given.name == "constant":
        return distribution(given.name, value=given.value, missing=given.missing)
    return distribution(given.name, **given.parameters, missing=given.missing)
