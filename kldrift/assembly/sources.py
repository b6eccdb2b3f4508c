"""Build sources from their records."""

from functools import partial
from typing import assert_never

from kldrift.records.sources import (
    FileSourceConfig,
    KafkaSourceConfig,
    SourceConfig,
    StdinSourceConfig,
    SyntheticSourceConfig,
)
from kldrift.sources.base import Source, Surroundings
from kldrift.sources.file import FileSource
from kldrift.sources.kafka import KafkaSource
from kldrift.sources.stdin import StdinSource
from kldrift.sources.synthetic import SyntheticSource
from kldrift.wire import count_rows


def build_source(config: SourceConfig, surroundings: Surroundings) -> Source:
    """Build the source that a record describes."""
    match config:
        case FileSourceConfig():
            return FileSource(config, surroundings, count_rows=partial(count_rows, config.format))
        case KafkaSourceConfig():
            return KafkaSource(config, surroundings)
        case StdinSourceConfig():
            return StdinSource(config, surroundings)
        case SyntheticSourceConfig():
            return SyntheticSource(config, surroundings)
    assert_never(config)
