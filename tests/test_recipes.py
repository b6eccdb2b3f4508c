"""The recipes in ``kldrift/README.md`` hold: whoever adds something is told by name what is still missing.

Each recipe has a function that returns what a member of its registry lacks. One test runs it over all members; another
runs it over a half-finished member, to show that it finds every gap.
"""

import dataclasses
import inspect
import re
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from kldrift import kernels, wire
from kldrift.config.schema import ConfigModel
from kldrift.config.source_schema import AnySource
from kldrift.drift.kinds import SHAPES
from kldrift.export.drift_families import DRIFT_FAMILIES
from kldrift.kernels import compilation
from kldrift.provisioning.alerts import RuleOptions, rule_groups
from kldrift.records.divergences import DIVERGENCES, KNOWN_DIVERGENCES, Divergence
from kldrift.records.formats import FORMATS, FormatInfo
from kldrift.records.kinds import KINDS
from kldrift.records.sources import SourceConfig
from tests import naive, naive_bounds
from tests.conftest import ROOT
from tests.drift.test_kinds import COLUMNS
from tests.faults.payloads import SEEDS
from tests.sources.test_conformance import CASES

ANNOTATED = (ROOT / "config" / "kldrift.yaml").read_text()
CONFIG_GUIDE = (ROOT / "config" / "README.md").read_text()
METRICS_GUIDE = (ROOT / "deploy" / "metrics.md").read_text()
RUNBOOK = (ROOT / "deploy" / "prometheus" / "README.md").read_text()
STATISTICS = (ROOT / "kldrift" / "drift" / "README.md").read_text()
PAGES = ROOT / "kldrift" / "pages"


def lacking(found: Mapping[str, bool]) -> list[str]:
    """Return the names of what is not there."""
    return [what for what, is_there in found.items() if not is_there]


# --- sources ---------------------------------------------------------------------------------------

TRAITS = ("type_name", "body_format", "endless", "lag_unit", "has_record_times")


def missing_of_source(record: type[Any]) -> list[str]:
    name = getattr(record, "type_name", record.__name__)
    schema_names = {get_args(model.model_fields["type"].annotation)[0] for model in get_args(AnySource)}
    return lacking(
        {f"the trait {trait} on {record.__name__}": hasattr(record, trait) for trait in TRAITS}
        | {
            f"a model with type {name!r} in config/source_schema.AnySource": name in schema_names,
            f"a case for {record.__name__} in tests/sources/test_conformance.CASES": bool(CASES.get(record)),
            f"an example with `type: {name}` in config/kldrift.yaml": f"type: {name}" in ANNOTATED,
            f"a row with `type: {name}` in config/README.md": f"`type: {name}`" in CONFIG_GUIDE,
        }
    )


@pytest.mark.parametrize("record", get_args(SourceConfig), ids=lambda record: record.type_name)
def test_a_source_is_complete(record: type[SourceConfig]) -> None:
    assert missing_of_source(record) == []


def test_a_source_of_which_only_the_record_is_written_is_told_everything_else() -> None:
    @dataclasses.dataclass(frozen=True, slots=True)
    class PulsarSourceConfig:
        name: str

        type_name = "pulsar"

    assert missing_of_source(PulsarSourceConfig) == [
        "the trait body_format on PulsarSourceConfig",
        "the trait endless on PulsarSourceConfig",
        "the trait lag_unit on PulsarSourceConfig",
        "the trait has_record_times on PulsarSourceConfig",
        "a model with type 'pulsar' in config/source_schema.AnySource",
        "a case for PulsarSourceConfig in tests/sources/test_conformance.CASES",
        "an example with `type: pulsar` in config/kldrift.yaml",
        "a row with `type: pulsar` in config/README.md",
    ]


# --- formats ---------------------------------------------------------------------------------------


def missing_of_format(name: str, info: FormatInfo) -> list[str]:
    decoders: Mapping[Any, object] = wire.FILE_FORMATS if info.framing == "rows" else wire.BODY_FORMATS
    registry = "FILE_FORMATS" if info.framing == "rows" else "BODY_FORMATS"
    return lacking(
        {
            f"a decoder for {name} in kldrift.wire.{registry}": name in decoders,
            f"payloads of {name} in tests/faults/payloads.SEEDS": info.framing == "rows" or name in SEEDS,
            f"{name} in config/README.md": f"`{name}`" in CONFIG_GUIDE,
            f"a media type of {name}, which comes over HTTP": "http" not in info.transports or bool(info.media_types),
            f"a suffix of {name}, which comes from files": "file" not in info.transports or bool(info.suffixes),
        }
        | {f"{media_type} in config/README.md": media_type in CONFIG_GUIDE for media_type in info.media_types[:1]}
    )


@pytest.mark.parametrize(("name", "info"), FORMATS.items(), ids=list(FORMATS))
def test_a_format_is_complete(name: str, info: FormatInfo) -> None:
    assert missing_of_format(name, info) == []


def test_a_format_of_which_only_the_entry_is_written_is_told_everything_else() -> None:
    info = FormatInfo(("http", "file"), "body", media_types=("application/avro",))
    assert missing_of_format("avro", info) == [
        "a decoder for avro in kldrift.wire.BODY_FORMATS",
        "payloads of avro in tests/faults/payloads.SEEDS",
        "avro in config/README.md",
        "a suffix of avro, which comes from files",
        "application/avro in config/README.md",
    ]


# --- divergences -----------------------------------------------------------------------------------


def missing_of_divergence(divergence: Divergence) -> list[str]:
    names = re.search(r"^ *divergences: .*#(.*)$", ANNOTATED, re.MULTILINE)
    assert names is not None, "config/kldrift.yaml: expected the names of the divergences behind `divergences:`"
    twins = naive.divergences([0.5, 0.5], [0.5, 0.5], [0.25, 0.75])
    column = DIVERGENCES.index(divergence.name) if divergence.name in DIVERGENCES else len(DIVERGENCES)
    return lacking(
        {
            f"{divergence.name} in tests/naive.divergences": column < len(twins),
            f"{divergence.name} behind `divergences:` in config/kldrift.yaml": divergence.name in names[1],
            f"{divergence.metric} in deploy/metrics.md": divergence.metric in METRICS_GUIDE,
            f"{divergence.name} in the table of kldrift/drift/README.md": f"`{divergence.name}`" in STATISTICS,
        }
    )


@pytest.mark.parametrize("divergence", KNOWN_DIVERGENCES, ids=lambda divergence: divergence.name)
def test_a_divergence_is_complete(divergence: Divergence) -> None:
    assert missing_of_divergence(divergence) == []


def test_a_divergence_of_which_only_the_entry_is_written_is_told_everything_else() -> None:
    half = Divergence(name="renyi", title="Rényi", heading="Rényi", metric="kldrift_renyi_nats", help="Rényi.")
    assert missing_of_divergence(half) == [
        "renyi in tests/naive.divergences",
        "renyi behind `divergences:` in config/kldrift.yaml",
        "kldrift_renyi_nats in deploy/metrics.md",
        "renyi in the table of kldrift/drift/README.md",
    ]


# --- metrics ---------------------------------------------------------------------------------------


def missing_of_metric(name: str) -> list[str]:
    return lacking({f"{name} in deploy/metrics.md": f"`{name}`" in METRICS_GUIDE})


@pytest.mark.parametrize("name", sorted({each.family.name for each in DRIFT_FAMILIES}))
def test_a_metric_is_documented(name: str) -> None:  # those of the daemon: tests/test_docs.py compares the tables
    assert missing_of_metric(name) == []


def test_a_metric_that_is_not_documented_is_named() -> None:
    assert missing_of_metric("kldrift_made_up") == ["kldrift_made_up in deploy/metrics.md"]


# --- configuration keys ----------------------------------------------------------------------------


def keys_of(model: type[BaseModel], seen: set[type[BaseModel]] | None = None) -> set[str]:
    """Return every key of a model and of the models within it."""
    seen = {model} if seen is None else seen | {model}
    found = set()
    for name, field in model.model_fields.items():
        found.add(field.alias or name)
        for inner in _models(field.annotation):
            if inner not in seen:
                found |= keys_of(inner, seen)
    return found


def _models(annotation: Any) -> list[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def missing_of_key(key: str) -> list[str]:
    return lacking({f"{key} in config/kldrift.yaml": re.search(rf"\b{key}(:|[,)])", ANNOTATED) is not None})


@pytest.mark.parametrize("key", sorted(keys_of(ConfigModel)))
def test_a_key_has_an_example(key: str) -> None:
    assert missing_of_key(key) == []


def test_a_key_without_an_example_is_named() -> None:
    class Half(BaseModel):
        half_done: int

    assert [gap for key in keys_of(Half) for gap in missing_of_key(key)] == ["half_done in config/kldrift.yaml"]


# --- kinds of features -----------------------------------------------------------------------------


def missing_of_kind(kind: str) -> list[str]:
    return lacking(
        {
            f"a shape for {kind} in kldrift.drift.kinds.SHAPES": kind in SHAPES,
            f"an entry for {kind} in kldrift.records.kinds.KINDS": kind in KINDS,
            f"a column for {kind} in tests/drift/test_kinds.COLUMNS": kind in COLUMNS
            or any(traits.always_against for name, traits in KINDS.items() if name == kind),
            f"an example with `kind: {kind}` in config/kldrift.yaml": f"kind: {kind}" in ANNOTATED,
            f"an example with `kind: {kind}` in config/README.md": f"kind: {kind}" in CONFIG_GUIDE,
        }
    )


@pytest.mark.parametrize("kind", sorted({*KINDS, *SHAPES}))
def test_a_kind_of_feature_is_complete(kind: str) -> None:
    assert missing_of_kind(kind) == []


def test_a_kind_of_feature_that_has_only_a_name_is_told_everything_else() -> None:
    assert missing_of_kind("text") == [
        "a shape for text in kldrift.drift.kinds.SHAPES",
        "an entry for text in kldrift.records.kinds.KINDS",
        "a column for text in tests/drift/test_kinds.COLUMNS",
        "an example with `kind: text` in config/kldrift.yaml",
        "an example with `kind: text` in config/README.md",
    ]


# --- pages -----------------------------------------------------------------------------------------

#: Templates that others extend or import.
SHARED_TEMPLATES = {"base.html", "bits.html", "report_base.html"}


def templates_named(folder: Path) -> Collection[str]:
    """Return the templates that typed records of the pages name."""
    text = "".join(path.read_text() for path in folder.glob("*.py"))
    return re.findall(r'template: ClassVar\[str\] = "([\w.]+)"', text)


def test_a_page_is_a_template_with_one_typed_record() -> None:
    named = sorted(templates_named(PAGES))
    assert named == sorted({path.name for path in (PAGES / "templates").iterdir()} - SHARED_TEMPLATES)


# --- kernels ---------------------------------------------------------------------------------------

#: Kernels whose specification is something other than a function of `tests.naive` and `tests.naive_bounds`.
SPECIFIED_ELSEWHERE = {
    "compare_vectors": "scipy and the naive divergences, tests/kernels/test_divergence.py",
    "bound_statistics_serial": "scipy's noncentral chi-squared, tests/kernels/test_bounds.py",
    "moments_serial": "numpy's moments, tests/kernels/test_moments.py",
    "moments_parallel": "numpy's moments, tests/kernels/test_moments.py",
    "group_rows": "numpy's sort, tests/kernels/test_moments.py",
    "scan_rows": "the general decoders, tests/wire/test_json_scan.py",
    "scan_records": "the general decoders, tests/wire/test_csv_scan.py",
    "_sort_lines": "the parser of rows, tests/wire/test_json_lines.py",
    "_sort_elements": "the parser of rows, tests/wire/test_json_lines.py",
    "_find_members": "the parser of rows, tests/wire/test_json_lines.py",
    "_sort_records": "Python's csv module, tests/wire/test_csv_lines.py",
    "count_byte": "bytes.count, tests/kernels/test_json_rows.py",
    "float64_address": "numpy's own address, tests/kernels/test_agreement.py",
    "int32_address": "numpy's own address, tests/kernels/test_agreement.py",
}
TWINS = {"fill": naive.fill_counts, "compare": naive.compare_counts, "bound": naive_bounds.bound}


def missing_of_kernel(name: str) -> list[str]:
    is_specified = name in SPECIFIED_ELSEWHERE or name.rpartition("_")[0] in TWINS
    return lacking({f"a naive twin of {name}, or what specifies it, in tests/test_recipes.py": is_specified})


def test_every_kernel_is_specified_by_something_simpler() -> None:
    assert kernels.__all__
    assert [gap for name in compilation._kernels for gap in missing_of_kernel(name)] == []
    assert set(SPECIFIED_ELSEWHERE) <= set(compilation._kernels)


IMPORT_ALL = """
import importlib, pkgutil
import kldrift.kernels
from kldrift.kernels import compilation
registered = set(compilation._kernels)
for module in pkgutil.walk_packages(kldrift.kernels.__path__, "kldrift.kernels."):
    importlib.import_module(module.name)
print(sorted(set(compilation._kernels) - registered))
"""


def test_importing_the_package_registers_every_kernel() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n", "kldrift/kernels/__init__.py: expected an import of the module with these kernels"


def test_a_kernel_without_a_specification_is_named() -> None:
    assert missing_of_kernel("sort_parallel") == [
        "a naive twin of sort_parallel, or what specifies it, in tests/test_recipes.py"
    ]


# --- alerts ----------------------------------------------------------------------------------------


def missing_of_alert(name: str) -> list[str]:
    return lacking({f"a section {name} in deploy/prometheus/README.md": f"\n## {name}\n" in RUNBOOK})


def alerts() -> Sequence[str]:
    """Return the names of all alerts that are shipped."""
    return sorted({alert.name for group in rule_groups(None, RuleOptions()) for alert in group.alerts})


@pytest.mark.parametrize("name", alerts())
def test_an_alert_has_a_section_in_the_runbook(name: str) -> None:
    assert missing_of_alert(name) == []


def test_an_alert_without_a_section_is_named() -> None:
    assert missing_of_alert("KldriftHalfDone") == ["a section KldriftHalfDone in deploy/prometheus/README.md"]
