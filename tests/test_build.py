"""From configuration to parts."""

import threading
from pathlib import Path

import pytest

from kldrift.build import build_monitors, build_source
from kldrift.config import parse_config
from kldrift.errors import ReferenceProblem

DISTRIBUTIONS = {
    "normal": "{distribution: normal, mean: 1, std: 2}",
    "lognormal": "{distribution: lognormal, mean: 1, sigma: 0.5}",
    "uniform": "{distribution: uniform, low: 1, high: 2}",
    "exponential": "{distribution: exponential, scale: 3}",
    "poisson": "{distribution: poisson, rate: 4, missing: 0.5}",
    "categorical": "{distribution: categorical, probabilities: {a: 0.5, b: 0.5}}",
    "constant": "{distribution: constant, value: 7}",
}


def test_every_distribution_of_the_configuration_can_be_drawn_from(tmp_path: Path) -> None:
    features = "\n".join(f"      {name}: {given}" for name, given in DISTRIBUTIONS.items())
    config = parse_config(
        f"""
sources:
  made:
    type: synthetic
    rate: 0
    rows: 10
    features:
{features}
monitors:
  m:
    sources: [made]
    features:
      constant: {{kind: numeric, reference: {{edges: [0, 10], counts: [100]}}}}
""",
        tmp_path / "kldrift.yaml",
    )
    source, body_format = build_source(config.sources[0], lambda: 0, lambda *_: None, once=True)
    chunks = [chunk for chunk in source.chunks({}, threading.Event()) if chunk is not None]
    assert body_format == "ndjson"
    assert b"".join(chunk.payload for chunk in chunks if isinstance(chunk.payload, bytes)).count(b"\n") == 10


def problems(text: str, folder: Path) -> list[str]:
    config = parse_config("monitors:\n  m:\n" + text, folder / "kldrift.yaml")
    with pytest.raises(ReferenceProblem) as raised:
        build_monitors(config.monitors, 0)
    return str(raised.value).splitlines()


def test_a_reference_without_a_feature_empty_or_all_missing_is_refused_with_every_reason(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,empty\n1,\n2,\n")
    (tmp_path / "none.csv").write_text("x,y\n")
    found = problems(
        """
    reference: {data: a.csv}
    features:
      x: {kind: numeric}
      empty: {kind: numeric}
      y: {kind: numeric, reference: {data: none.csv}}
      z: {kind: numeric, reference: {data: absent.parquet}}
      f: {kind: numeric, reference: {file: absent.json}}
""",
        tmp_path,
    )
    assert len(found) == 4
    assert all(line.startswith("monitors.m: ") for line in found)
    text = "\n".join(found)
    for words in (
        "empty: expected at least one value that is not missing",
        "none.csv",
        "absent.parquet",
        "absent.json",
    ):
        assert words in text
    found = problems("    reference: {data: a.csv}\n    features:\n      xx: {kind: numeric}\n", tmp_path)
    assert "xx" in found[0]
    assert "x" in found[0].replace("xx", "")


def test_a_reference_file_of_other_edges_or_kind_is_refused(tmp_path: Path) -> None:
    from kldrift.drift.reference_file import dump_references
    from tests.drift.builders import UNIFORM_EXAMPLE, edges_spec, reference

    (tmp_path / "r.json").write_text(dump_references(reference((edges_spec("x"), UNIFORM_EXAMPLE))))
    kept = parse_config(
        "monitors: {m: {reference: {file: r.json}, features: {x: {kind: numeric}}}}", tmp_path / "kldrift.yaml"
    )
    (monitor,) = build_monitors(kept.monitors, 0)
    assert monitor.features[0].edges is not None
    assert monitor.features[0].edges.tolist() == [0, 1, 2, 3]
    head = "    reference: {file: r.json}\n    features:\n"
    (line,) = problems(head + "      x: {kind: numeric, bins: {edges: [0, 5]}}\n", tmp_path)
    assert "expected the edges of the configuration, the file has others" in line
    (line,) = problems(head + "      x: {kind: categorical}\n", tmp_path)
    assert "expected kind categorical, got numeric" in line


def test_an_identifier_among_the_categories_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,c\n" + "".join(f"{i},{i % 2}\n" for i in range(100)))
    config = parse_config(
        "monitors: {m: {reference: {data: a.csv}, features: {id: {kind: categorical}, c: {kind: categorical}}}}",
        tmp_path / "kldrift.yaml",
    )
    told: list[str] = []
    build_monitors(config.monitors, 0, told.append)
    assert len(told) == 1
    assert told[0].startswith("reference a.csv: id: no category is frequent enough for a bin of its own")
