"""The JSON schema for editors."""

import json
from pathlib import Path
from typing import get_args

import jsonschema
import pytest

from kldrift.config.choices import FAMILIES
from kldrift.config.load import read_document
from kldrift.config.schema import json_schema
from kldrift.errors import ConfigError
from kldrift.records.types import Family
from tests.config.test_config import CONTRACT, uncommented
from tests.config.test_load import FULL

ROOT = Path(__file__).parents[2]
TESTDATA = Path(__file__).parent / "testdata"
SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

#: What needs arithmetic, other keys, or more than JSON schema can say; the loader finds these, an editor does not.
BEYOND_A_SCHEMA = [
    "bins-edges-infinite",
    "bins-edges-order",
    "bins-edges-repeated",
    "bins-probabilities",
    "bins-probabilities-order",
    "bins-range",
    "bins-range-logarithmic",
    "bins-with-reference-edges",
    "distribution-probabilities",
    "distribution-uniform",
    "divergence-twice",
    "drift-distribution",
    "drift-feature",
    "drift-order",
    "drift-order-default",
    "drift-parameter",
    "feature-drift",
    "feature-name",
    "feature-no-reference",
    "feature-of-age",
    "feature-of-unit",
    "feature-vector-full-dimensions",
    "feature-vector-full-per-dimension",
    "feature-vector-previous",
    "feature-vector-reference",
    "file-format-untold",
    "kafka-brokers-twice",
    "listen-everywhere",
    "listen-everywhere-ipv6",
    "listen-port",
    "max-expanded",
    "monitor-source",
    "monitor-source-none",
    "monitor-source-twice",
    "queue-small",
    "reference-counts-spelling",
    "reference-counts-edges",
    "reference-counts-edges-missing",
    "reference-counts-length",
    "reference-counts-list",
    "reference-counts-mapping",
    "reference-counts-zero",
    "reference-edges-repeated",
    "reference-family-bins-discrete",
    "reference-family-bins-quantile",
    "reference-family-bins-uniform",
    "reference-family-categorical-list",
    "reference-family-kind",
    "reference-family-uniform",
    "reference-family-uniform-wide",
    "reference-previous-memory",
    "reference-previous-memory-windows",
    "reference-previous-range",
    "reference-probabilities-length",
    "reference-probabilities-sum",
    "source-name-http",
    "synthetic-rate-drift",
    "tick-range",
    "tls-without-client-ca",
    "windows-panes",
    "windows-short",
    "windows-slices",
    "windows-twice",
]


def readable() -> dict[str, object]:
    """The invalid files without a mistake in the YAML itself."""
    found = {}
    for path in sorted(TESTDATA.glob("invalid-*.yml")):
        try:
            document = read_document(path.read_text(encoding="utf-8"), path, {})
        except ConfigError:
            continue
        if not document.problems:
            found[path.stem.removeprefix("invalid-")] = document.root.value
    return found


READABLE = readable()


def plain(text: str) -> object:
    document = read_document(text, Path("kldrift.yaml"), {})
    assert document.problems == []
    return document.root.value


def schemas(schema: object):
    """Every schema within a schema."""
    if isinstance(schema, dict):
        yield schema
        for inner in schema.values():
            yield from schemas(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from schemas(inner)


def test_it_is_valid_against_its_draft() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_it_is_json() -> None:
    assert json.loads(json.dumps(SCHEMA, allow_nan=False)) == SCHEMA


def test_every_key_has_a_description() -> None:
    keys = [
        (name, key)
        for part in schemas(SCHEMA)
        if part.get("type") == "object"
        for name, key in part.get("properties", {}).items()
    ]
    assert len(keys) > 70
    assert [name for name, key in keys if not key.get("description")] == []


@pytest.mark.parametrize("path", sorted((ROOT / "config").rglob("*.yaml")), ids=lambda path: path.stem)
def test_it_accepts_the_shipped_configurations(path: Path) -> None:
    VALIDATOR.validate(plain(path.read_text(encoding="utf-8")))


def test_it_accepts_what_is_commented_out_in_the_annotated_configuration() -> None:
    VALIDATOR.validate(plain(uncommented()))


def test_it_knows_every_family_and_its_parameters() -> None:
    properties = SCHEMA["$defs"]["FeatureReference"]["properties"]
    assert properties["family"]["enum"] == list(get_args(Family))
    given = {"family", "fit", *(key for family in FAMILIES for key in family.required)}
    assert given <= properties.keys()


def test_it_accepts_the_file_of_the_contract() -> None:
    VALIDATOR.validate(plain(CONTRACT))
    VALIDATOR.validate(FULL)


@pytest.mark.parametrize("name", [name for name in READABLE if name not in BEYOND_A_SCHEMA])
def test_it_rejects_gross_mistakes(name: str) -> None:
    assert not VALIDATOR.is_valid(READABLE[name])


@pytest.mark.parametrize("name", BEYOND_A_SCHEMA)
def test_what_is_beyond_a_schema_is_stated_truthfully(name: str) -> None:
    assert VALIDATOR.is_valid(READABLE[name])
