"""Invalid and missing values count alike in a reference and in live rows, whatever the format."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import rel_entr

from kldrift.assembly.monitors import build_monitors
from kldrift.config.load import parse_config
from kldrift.drift.judging.states import feature_states
from kldrift.drift.monitor import Monitor
from kldrift.export.drift_metrics import render_drift
from kldrift.offline.compare import Comparison, compare_files
from kldrift.pages.cells import cells_of
from kldrift.records.snapshots import DriftSnapshot, MonitorSnapshot
from kldrift.web.drift_json import counts_csv, feature_json
from kldrift.wire import decode

NOW = 1_700_000_000_000
N = 9_000


def numbers(seed: int, share: float, wrong: Any = "#REF!") -> list[Any]:
    """Normally distributed numbers, and something else in their place here and there."""
    rng = np.random.default_rng(seed)
    is_wrong = rng.random(N) < share
    return [wrong if bad else x for x, bad in zip(rng.normal(size=N).round(6).tolist(), is_wrong.tolist(), strict=True)]


def vectors(seed: int, share: float) -> list[Any]:
    rng = np.random.default_rng(seed)
    is_short = rng.random(N) < share
    return [x[:1] if bad else x for x, bad in zip(rng.normal(size=(N, 2)).tolist(), is_short.tolist(), strict=True)]


def categories(seed: int, share: float) -> list[Any]:
    rng = np.random.default_rng(seed)
    texts = rng.choice(["red", "blue"], N).tolist()
    return [["red"] if bad else text for text, bad in zip(texts, (rng.random(N) < share).tolist(), strict=True)]


def write(path: Path, values: Sequence[Any]) -> Path:
    if path.suffix == ".ndjson":
        path.write_text("".join(json.dumps({"x": value}) + "\n" for value in values))
    elif path.suffix == ".csv":
        texts = [json.dumps(value) if isinstance(value, list) else str(value) for value in values]
        pl.DataFrame({"x": texts, "beside": 1}).write_csv(path)
    else:
        pl.DataFrame({"x": pl.Series(values, dtype=pl.List(pl.Float64))}).write_parquet(path)
    return path


def body(live_format: str, values: Sequence[Any]) -> bytes:
    if live_format == "ndjson":
        return "".join(json.dumps({"x": value}) + "\n" for value in values).encode()
    if live_format == "json":
        return json.dumps([{"x": value} for value in values]).encode()
    if live_format == "columns":
        return json.dumps({"x": list(values)}).encode()
    if live_format == "csv":
        texts = [json.dumps(value) if isinstance(value, list) else str(value) for value in values]
        return pl.DataFrame({"x": texts}).write_csv().encode()
    out = io.BytesIO()
    pl.DataFrame({"x": pl.Series(values, dtype=pl.List(pl.Float64))}).write_ipc_stream(out)
    return out.getvalue()


def built(folder: Path, feature: str, windows: str = "[1h]") -> Monitor:
    text = f"monitors:\n  m:\n    windows: {windows}\n    features:\n      x: {feature}\n"
    (monitor,) = build_monitors(parse_config(text, folder / "kldrift.yaml").monitors, NOW)
    return monitor


def put(monitor: Monitor, live_format: str, values: Sequence[Any]) -> MonitorSnapshot:
    kind = "json" if live_format == "columns" else live_format
    decoded = decode(kind, [body(live_format, values)], monitor.schema, bins=monitor.bins)
    monitor.add(decoded.batch, "s", NOW)
    return monitor.evaluate(NOW)


KINDS = {
    "numeric": ("kind: numeric", numbers, ["csv", "ndjson"], ["csv", "ndjson", "json", "columns"]),
    "categorical": ("kind: categorical", categories, ["ndjson"], ["ndjson", "json", "columns"]),
    "vector": (
        "kind: vector, dimensions: 2",
        vectors,
        ["csv", "ndjson", "parquet"],
        ["csv", "ndjson", "json", "columns", "arrow"],
    ),
}
CASES = [
    (kind, suffix, live_format)
    for kind, (_, _, suffixes, formats) in KINDS.items()
    for suffix in suffixes
    for live_format in formats
]


@pytest.mark.parametrize(("kind", "suffix", "live_format"), CASES)
def test_a_file_does_not_drift_from_itself_and_more_invalid_values_are_a_drift(
    tmp_path: Path, kind: str, suffix: str, live_format: str
) -> None:
    keys, make, _, _ = KINDS[kind]
    values = make(1, 0.11)
    n_wrong = sum(value == "#REF!" or value == ["red"] or (kind == "vector" and len(value) == 1) for value in values)
    assert 900 < n_wrong < 1_100
    write(tmp_path / f"r.{suffix}", values)
    monitor = built(tmp_path, f"{{{keys}, reference: {{data: r.{suffix}}}}}")
    found = put(monitor, live_format, values)
    assert found.samples[0, 0] == N
    assert found.invalid_ratio[0, 0] == n_wrong / N
    assert found.missing_ratio[0, 0] == 0
    counts = found.features[0].reference_counts
    assert counts is not None
    assert counts[-2:].tolist() == [0, n_wrong]
    assert found.divergences[0, 0, 0] < 1e-3
    assert feature_states(found) == ["quiet"]
    if kind == "vector":  # of vectors, the KL is that of the present ones
        return
    np.testing.assert_array_equal(found.counts[0], counts)
    fresh = built(tmp_path, f"{{{keys}, reference: {{data: r.{suffix}}}}}")
    more = put(fresh, live_format, make(2, 0.3))
    q = (counts + 0.5) / (counts.sum() + 0.5 * counts.size)
    assert more.divergences[0, 0, 0] == pytest.approx(rel_entr(more.counts[0] / N, q).sum(), rel=1e-12)
    assert feature_states(more) == ["critical"]


@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
@pytest.mark.parametrize("reference", ["{family: normal, fit: r.SUFFIX}", "{data: r.SUFFIX}", "{learn: 9000}"])
def test_it_makes_no_difference_where_the_reference_comes_from(tmp_path: Path, suffix: str, reference: str) -> None:
    write(tmp_path / f"r.{suffix}", numbers(1, 0.1))
    monitor = built(tmp_path, f"{{kind: numeric, reference: {reference.replace('SUFFIX', suffix)}}}")
    if "learn" in reference:
        put(monitor, suffix, numbers(1, 0.1))
    found = put(monitor, suffix, numbers(2, 0.1))
    assert found.invalid_ratio[0, 0] == pytest.approx(0.1, abs=0.01)
    assert found.missing_ratio[0, 0] == 0
    counts = found.features[0].reference_counts
    assert counts is not None
    assert counts[-2:].tolist() == [0, numbers(1, 0.1).count("#REF!")]
    assert feature_states(found) == ["quiet"]
    assert found.divergences[0, 0, 0] < 0.005
    without = put(monitor, suffix, numbers(3, 0.0) * 3)
    assert feature_states(without) != ["quiet"]


# --- written references ----------------------------------------------------------------------------

COIN = "probabilities: {heads: 0.5, tails: 0.5}"
NUMBER = "edges: [0, 1, 2], counts: [5000, 5000]"


@pytest.mark.parametrize("live_format", ["csv", "ndjson", "json", "columns", "arrow"])
@pytest.mark.parametrize(
    ("kind", "reference", "texts"),
    [
        ("categorical", COIN, ["heads", "tails"]),
        ("categorical", "family: bernoulli, p: 0.5", ["true", "false"]),
        ("numeric", NUMBER, [0.5, 1.5]),
        ("numeric", "family: bernoulli, p: 0.5", [0, 1]),
    ],
)
@pytest.mark.parametrize("missing", ["", ", missing: 0.1"])
def test_nulls_beside_values_that_fit_a_written_reference_are_no_drift(
    tmp_path: Path, live_format: str, kind: str, reference: str, texts: list[Any], missing: str
) -> None:
    values = texts * 4_500 + [None] * 1_000
    monitor = built(tmp_path, f"{{kind: {kind}, reference: {{{reference}{missing}}}}}")
    if live_format == "csv":
        payload = pl.DataFrame({"x": values, "beside": 1}).write_csv().encode()
    elif live_format == "arrow":
        out = io.BytesIO()
        pl.DataFrame({"x": values}).write_ipc_stream(out)
        payload = out.getvalue()
    else:
        payload = body(live_format, values)
    kind_of_body = "json" if live_format == "columns" else live_format
    monitor.add(decode(kind_of_body, [payload], monitor.schema, bins=monitor.bins).batch, "s", NOW)
    found = monitor.evaluate(NOW)
    assert found.missing_ratio[0, 0] == 0.1
    assert found.divergences[0, 0, 0] < 1e-3
    assert feature_states(found) == ["quiet"]
    assert np.isnan(found.reference_probabilities[0, -2:]).all() == (not missing)


def test_the_api_says_what_was_left_out_and_the_divergence_follows_from_the_rest(tmp_path: Path) -> None:
    monitor = built(tmp_path, f"{{kind: categorical, reference: {{{COIN}}}}}")
    found = put(monitor, "ndjson", ["heads"] * 600 + ["tails"] * 300 + [None] * 60 + [[1]] * 40)
    told = feature_json(found, 0, 0)
    assert told["left_out"] == ["missing", "invalid"]
    assert told["live_counts"] == [600, 300, 0, 0, 60, 40]
    assert told["reference_probabilities"][-2:] == [None, None]
    assert (told["missing_ratio"], told["invalid_ratio"], told["samples"]) == (0.06, 0.04, 1_000)
    compared = [(x, q) for x, q in zip(told["live_counts"], told["reference_probabilities"], strict=True) if q]
    live, q = (np.array(values) for values in zip(*compared, strict=True))
    assert rel_entr(live / live.sum(), q).sum() == pytest.approx(told["divergences"]["kl"], rel=1e-12)
    assert told["explanation"]["kl"] == pytest.approx(told["divergences"]["kl"], rel=1e-12)
    assert counts_csv(found, 0, 0).splitlines()[-2:] == ["missing,60,,", "invalid,40,,"]
    drawn = [cell.name for cell in cells_of(found, 0, 0)]
    assert drawn[:2] == ["heads", "tails"]
    assert not {"missing", "of the wrong type"} & set(drawn)
    assert cells_of(found, 0, 0)[0].live == pytest.approx(2 / 3)
    exported = render_drift(DriftSnapshot(NOW, (found,))).body
    assert b"kldrift_reference_missing_ratio{" not in exported
    assert b'kldrift_reference_invalid_ratio{monitor="m",feature="x"} 0.0' in exported  # so that an alert can compare


# --- compare ---------------------------------------------------------------------------------------


def compare(folder: Path, suffix: str, reference: Sequence[Any], live: Sequence[Any]) -> Comparison:
    ours, theirs = (write(folder / f"{name}.{suffix}", v) for name, v in (("a", reference), ("b", live)))
    return compare_files(ours, theirs, now_ms=NOW)


@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
def test_two_samples_of_which_a_tenth_is_text_are_quiet(tmp_path: Path, suffix: str) -> None:
    """They were taken as text: KL 7.70, critical."""
    found = compare(tmp_path, suffix, numbers(1, 0.1, "wrong"), numbers(2, 0.1, "wrong"))
    assert found.monitor.features[0].kind == "numeric"
    assert feature_states(found.monitor)[0] == "quiet"
    assert found.monitor.divergences[0, 0, 0] < 0.005
    n = [numbers(seed, 0.1).count("#REF!") for seed in (1, 2)]
    for which, name, count in zip(("reference", "live data"), "ab", n, strict=True):
        note = f"{which} {name}.{suffix}: values of the wrong type, counted as invalid: x ({count:,})"
        assert [told for told in found.notes if told.startswith(f"{which} {name}")] == [note]


@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
def test_a_tenth_that_is_text_only_in_the_live_data_is_critical_and_says_so(tmp_path: Path, suffix: str) -> None:
    found = compare(tmp_path, suffix, numbers(1, 0), numbers(2, 0.1, "wrong"))
    assert feature_states(found.monitor)[0] == "critical"
    assert found.monitor.invalid_ratio[0, 0] == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
def test_a_file_of_numbers_with_a_tenth_of_text_does_not_drift_from_itself(tmp_path: Path, suffix: str) -> None:
    values = numbers(1, 0.11, "#REF!")
    found = compare(tmp_path, suffix, values, values)
    assert found.monitor.divergences[0, 0, 0] < 1e-3
    assert feature_states(found.monitor)[0] == "quiet"
