"""The configuration file, from YAML to frozen records."""

from kldrift.config.load import load_config, parse_config
from kldrift.config.records import (
    Config,
    Distribution,
    EngineConfig,
    FileSourceConfig,
    GuardConfig,
    KafkaSourceConfig,
    LogConfig,
    ServerConfig,
    SourceConfig,
    StdinSourceConfig,
    SyntheticSourceConfig,
)
from kldrift.config.resolution import resolved
from kldrift.config.schema import json_schema

__all__ = [
    "Config",
    "Distribution",
    "EngineConfig",
    "FileSourceConfig",
    "GuardConfig",
    "KafkaSourceConfig",
    "LogConfig",
    "ServerConfig",
    "SourceConfig",
    "StdinSourceConfig",
    "SyntheticSourceConfig",
    "json_schema",
    "load_config",
    "parse_config",
    "resolved",
]
