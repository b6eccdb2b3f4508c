"""The effective configuration as readable text: every default filled in, every path absolute."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from kldrift.config.choices import KINDS
from kldrift.config.records import Address, Config, key_of
from kldrift.config.values import size_text
from kldrift.records.texts import duration_text

#: With a thousand features, the C dumper takes a tenth of the time; not every build of PyYAML has it.
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

#: Keys that go with features of some kinds only, by kind.
_KEYS_OF = {choice.name: {*choice.required, *choice.optional} for choice in KINDS}
_OF_SOME_KINDS = set().union(*_KEYS_OF.values())


def resolved(config: Config) -> str:
    """Return YAML of everything that is set. Secrets are in files, so only their paths appear."""
    tree = _plain(config)
    for part in tree.keys() & {"sources", "monitors"}:  # empty ones are left out
        tree[part] = {each.pop("name"): each for each in tree[part]}
    for source in config.sources:
        tree["sources"][source.name] = {"type": source.type_name, **tree["sources"][source.name]}
    for monitor in tree["monitors"].values():
        monitor["features"] = {feature.pop("name"): _of_kind(feature) for feature in monitor["features"]}
    return str(yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None))


def _of_kind(feature: dict[str, Any]) -> dict[str, Any]:
    others = _OF_SOME_KINDS - _KEYS_OF[feature["kind"]]
    return {name: each for name, each in feature.items() if name not in others}


def _plain(value: Any) -> Any:
    """Return records as mappings of the keys that are set."""
    if isinstance(value, Address | Path):
        return str(value)
    if is_dataclass(value):
        found = {field.name: getattr(value, field.name) for field in fields(value)}
        return {key_of(name): _text_of(name, each) for name, each in found.items() if each is not None and each != ()}
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value


def _text_of(field: str, value: Any) -> Any:
    """Return the value of a record's field, with its unit if it has one."""
    if field.endswith("_ms"):
        return duration_text(value)
    return size_text(value) if field.endswith("_bytes") else _plain(value)
