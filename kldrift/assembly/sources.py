"""Build sources from their records."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import assert_never

from kldrift.records.sources import (
    FileSourceConfig,
    KafkaSourceConfig,
    SourceConfig,
    StdinSourceConfig,
    SyntheticSourceConfig,
)
from kldrift.sources.base import Position, Source, Surroundings
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


def renamed_sources(sources: Sequence[SourceConfig], positions: Mapping[str, Mapping[str, Position]]) -> dict[str, str]:
    """Return the new names, by the old ones, of file sources that were renamed.

    A source was renamed if no source of its name is configured any more, and one without positions reads its files. The
    positions of Kafka sources are also kept by their broker, under the group, whatever the name.

    Parameters
    ----------
    sources : those that are configured
    positions : of each stream, by the name of its source
    """
    names = {source.name for source in sources}
    new = [source for source in sources if isinstance(source, FileSourceConfig) and source.name not in positions]
    found: dict[str, str] = {}
    for old in sorted(positions.keys() - names):
        paths = {str(position.get("path", "")) for position in positions[old].values()}
        for source in new:
            if source.name not in found.values() and any(fnmatchcase(path, source.path) for path in paths):
                found[old] = source.name
                break
    return found
