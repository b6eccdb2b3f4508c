"""From configuration to parts."""

import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kldrift.assembly.monitors import build_monitors
from kldrift.assembly.sources import build_source
from kldrift.config.load import parse_config
from kldrift.drift.monitor import Monitor
from kldrift.drift.references.file import dump_references
from kldrift.errors import ReferenceProblem
from kldrift.sources.base import Surroundings

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
    source = build_source(config.sources[0], Surroundings(clock_ms=lambda: 0, on_error=lambda *_: None, once=True))
    chunks = [chunk for chunk in source.chunks({}, threading.Event()) if chunk is not None]
    assert config.sources[0].body_format == "ndjson"
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
    from kldrift.drift.references.file import dump_references
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
    assert "expected the edges of the configuration, but the file has others" in line
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with reference data of 2,000 rows in two segments, and the reference file made of it."""
    folder = tmp_path_factory.mktemp("references")
    rng = np.random.default_rng(1)
    country = rng.choice(["US", "DE"], 2_000, p=[0.7, 0.3])
    frame = pl.DataFrame(
        {
            "x": np.where(country == "US", rng.normal(0, 1, 2_000), rng.normal(5, 1, 2_000)),
            "country": country,
            "rows": rng.permutation(2_000).astype(float),
            "constant": np.ones(2_000),
            "z": rng.normal(size=(2_000, 3)).tolist(),
        }
    )
    frame.write_parquet(folder / "r.parquet")
    frame.drop("country").write_parquet(folder / "no-country.parquet")
    config = parse_config("monitors: {m: {reference: {data: r.parquet}, features: {x: {kind: numeric}}}}", folder / "k")
    (monitor,) = build_monitors(config.monitors, 0)
    (folder / "r.json").write_text(dump_references(monitor._references))
    return folder


def built(text: str, folder: Path) -> tuple[Monitor, list[str]]:
    notices: list[str] = []
    config = parse_config("monitors:\n  m:\n" + text, folder / "kldrift.yaml")
    (monitor,) = build_monitors(config.monitors, 1_700_000_000_000, notices.append)
    return monitor, notices


def test_a_normal_distribution_is_fitted_to_the_vectors_of_a_file(folder: Path) -> None:
    fitted, notices = built(
        """
    features:
      z: {kind: vector, dimensions: 3, reference: {family: normal, fit: r.parquet}}
""",
        folder,
    )
    counted, _ = built(
        "    reference: {data: r.parquet}\n    features:\n      z: {kind: vector, dimensions: 3}\n", folder
    )
    assert notices == []
    assert fitted.features[0].problem is None
    assert fitted.features[0].reference_hash == counted.features[0].reference_hash


def test_every_kind_of_reference_is_built(folder: Path) -> None:
    monitor, notices = built(
        """
    reference: {data: r.parquet}
    features:
      x: {kind: numeric}
      country: {kind: categorical}
      z: {kind: vector, dimensions: 3}
      y: {kind: vector, dimensions: 2, reference: {family: normal, mean: 1, std: 2}}
      q: {kind: posterior, dimensions: 2}
      given: {kind: numeric, reference: {family: gamma, shape: 2, scale: 3}}
      rows: {kind: numeric, reference: {family: uniform, fit: r.parquet}}
      filed: {kind: numeric, reference: {learn: 100}}
      before: {kind: categorical, reference: {previous: 1d}}
""",
        folder,
    )
    assert notices == []
    found = {info.name: info for info in monitor.features}
    problems = {name: info.problem for name, info in found.items() if info.problem is not None}
    assert problems == {
        "filed": "still learning from the first 100 rows of the stream",
        "before": "still learning from the first 10,000 rows of the stream",
    }
    assert found["given"].parameters == (("shape", 2.0), ("scale", 3.0))
    assert found["given"].reference_rows == np.inf
    assert dict(found["rows"].parameters) == {"low": 0.0, "high": 1_999.0}
    assert found["rows"].reference_rows == 2_000
    assert found["y"].parameters == (("mean", 1.0), ("std", 2.0))
    assert found["before"].reference_text.startswith("the same window 1d earlier")


def test_the_same_window_earlier_may_take_its_bins_from_data_or_a_file(folder: Path) -> None:
    monitor, _ = built(
        """
    features:
      x: {kind: numeric, reference: {previous: 1h, data: r.parquet}}
""",
        folder,
    )
    filed, _ = built(
        """
    features:
      x: {kind: numeric, reference: {previous: 1h, file: r.json}}
""",
        folder,
    )
    assert monitor.features[0].problem is None
    assert monitor.features[0].bins_hash == filed.features[0].bins_hash
    assert "no value" not in monitor.features[0].reference_text


def test_segments_have_references_of_their_own_where_the_data_knows_them(folder: Path) -> None:
    text = """
    reference: {{data: {file}}}
    segments: {{by: country, limit: 5}}
    features:
      x: {{kind: numeric}}
      z: {{kind: vector, dimensions: 3}}
      other: {{kind: numeric, reference: {{family: normal, mean: 0, std: 1}}}}
"""
    monitor, notices = built(text.format(file="r.parquet"), folder)
    assert notices == []
    assert monitor._segments is not None
    known = monitor._segments._known
    assert known.names == ("US", "DE")
    assert known.rows is not None
    assert known.rows.sum() == 2_000
    assert known.rows[-1] == 0
    us = known.references["US"]
    assert [reference.rows for reference in us] == [known.rows[0], known.rows[0], np.inf]
    assert us[0].bins_hash == monitor.features[0].bins_hash
    overall, notices = built(text.format(file="no-country.parquet"), folder)
    assert len(notices) == 1
    assert "does not say which segment (country)" in notices[0]
    assert overall._segments is not None
    assert overall._segments._known.rows is None


def test_what_supports_no_verdict_is_told_and_what_cannot_be_fitted_is_refused(folder: Path) -> None:
    monitor, _ = built(
        """
    reference: {data: r.parquet}
    features:
      constant: {kind: numeric}
      x: {kind: numeric, bins: {edges: [100, 200, 300]}}
""",
        folder,
    )
    constant, outside = (info.problem for info in monitor.features)
    assert constant is not None
    assert outside is not None
    assert "constant" in constant
    assert "within the bins" in outside
    found = problems(
        """
    features:
      constant: {kind: numeric, reference: {family: normal, fit: r.parquet}}
      x: {kind: numeric, reference: {family: exponential, fit: r.parquet}}
""",
        folder,
    )
    assert len(found) == 2
    assert found[0].startswith("monitors.m: constant: ")
    assert found[1].startswith("monitors.m: x: ")
