"""Synthetic rows."""

import math
import threading
from collections.abc import Callable, Mapping
from typing import get_args

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kldrift.records.samples import Chunk
from kldrift.records.sources import Distribution, DistributionName, SyntheticSourceConfig
from kldrift.sources.base import Surroundings
from kldrift.sources.distributions import sampler
from kldrift.sources.synthetic import BLOCK_ROWS, SyntheticSource
from tests.sources.timeline import Timeline, chunks_of, last_positions, quiet, records

FEATURES = {
    "normal": Distribution("normal", {"mean": 3, "std": 2}),
    "lognormal": Distribution("lognormal", {"mean": 0.5, "sigma": 2}),
    "uniform": Distribution("uniform", {"low": -1, "high": 4}),
    "exponential": Distribution("exponential", {"scale": 3}),
    "poisson": Distribution("poisson", {"rate": 4}),
    "categorical": Distribution("categorical", {"a": 2, "é": 1, "never": 0, "b\n": 1}),
    "constant": Distribution("constant", value="same"),
    "holes": Distribution("normal", missing=0.2),
}


def source(
    features: Mapping[str, Distribution] = FEATURES,
    rate: float = 0.0,
    seed: int = 1,
    rows: int | None = None,
    drift_after_ms: int | None = None,
    drifted: Mapping[str, Distribution] | None = None,
    clock_ms: Callable[[], int] = lambda: 7,
    **options: object,
) -> SyntheticSource:
    config = SyntheticSourceConfig(
        name="demo",
        rate_per_second=rate,
        seed=seed,
        rows=rows,
        features=features,
        drift_after_ms=drift_after_ms,
        drifted=drifted or {},
    )
    surroundings = Surroundings(clock_ms=clock_ms, on_error=lambda *_: None)
    return SyntheticSource(config, surroundings, **options)  # type: ignore[arg-type]


def read(made: SyntheticSource, positions: dict[str, dict[str, int | str]] | None = None) -> list[Chunk]:
    return chunks_of(made, positions or {}, threading.Event())


def column(chunks: list[Chunk], name: str) -> list[object]:
    return [orjson.loads(line)[name] for line in records(chunks)]


def test_every_family_has_its_distribution() -> None:
    """Kolmogorov-Smirnov and chi-squared against scipy; the seed is fixed, so this cannot be flaky."""
    chunks = read(source(rows=20_000))
    assert len(records(chunks)) == 20_000
    for name, law in {
        "normal": stats.norm(3, 2),
        "lognormal": stats.lognorm(2, scale=math.exp(0.5)),
        "uniform": stats.uniform(-1, 5),
        "exponential": stats.expon(scale=3),
    }.items():
        assert stats.kstest(column(chunks, name), law.cdf).pvalue > 1e-3, name
    counts = np.bincount(column(chunks, "poisson"), minlength=12)
    expected = 20_000 * stats.poisson(4).pmf(np.arange(12))
    assert (
        stats.chisquare([*counts[:11], counts[11:].sum()], [*expected[:11], 20_000 - expected[:11].sum()]).pvalue > 1e-3
    )
    values, counts = np.unique(column(chunks, "categorical"), return_counts=True)
    assert values.tolist() == ["a", "b\n", "é"]
    assert stats.chisquare(counts, [10_000, 5_000, 5_000]).pvalue > 1e-3
    assert set(column(chunks, "constant")) == {"same"}
    missing = sum(value is None for value in column(chunks, "holes"))
    assert stats.binomtest(missing, 20_000, 0.2).pvalue > 1e-3
    assert set(get_args(DistributionName)) <= {*FEATURES}


def test_features_and_rows_are_independent() -> None:
    features = {name: Distribution("normal") for name in "abcd"}
    rows = [list(orjson.loads(line).values()) for line in records(read(source(features, rows=20_000)))]
    values = np.array(rows)
    shifted = np.hstack([values[:-1], values[1:], np.roll(values, BLOCK_ROWS, axis=0)[:-1]])
    correlations = np.corrcoef(shifted, rowvar=False) - np.eye(12)
    assert np.abs(correlations).max() < 5 / math.sqrt(20_000)


def test_values_are_written_in_full() -> None:
    values = column(read(source({"x": Distribution("uniform")}, rows=5000)), "x")
    assert len(set(values)) == 5000
    assert any(len(repr(value)) >= 18 for value in values)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first, again, other = (b"".join(records(read(source(rows=100, seed=seed)))) for seed in (1, 1, 2))
    assert first == again != other


def test_a_feature_does_not_depend_on_the_others() -> None:
    alone = read(source({"normal": FEATURES["normal"]}, rows=100))
    assert column(alone, "normal") == column(read(source(rows=100)), "normal")


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(0, 2 * BLOCK_ROWS + 10),
    chunk_rows=st.integers(100, 5000),
    again_rows=st.integers(100, 5000),
    data=st.data(),
)
def test_it_continues_from_any_row(rows: int, chunk_rows: int, again_rows: int, data: st.DataObject) -> None:
    features = {"a": FEATURES["holes"], "b": FEATURES["categorical"]}
    whole = records(read(source(features, rows=rows)))
    row = data.draw(st.integers(0, rows))
    assert len(whole) == rows
    assert records(read(source(features, rows=rows, chunk_rows=chunk_rows))) == whole
    position: dict[str, dict[str, int | str]] = {"synthetic": {"row": row}}
    assert records(read(source(features, rows=rows, chunk_rows=again_rows), position)) == whole[row:]


@pytest.mark.parametrize("drift_row", [0, 1, 5000, BLOCK_ROWS, 3 * BLOCK_ROWS])
def test_the_drift_begins_at_its_row(drift_row: int) -> None:
    features = {"a": Distribution("constant", value=0), "b": Distribution("normal")}
    drifted = {"a": Distribution("constant", value=1)}
    all_due: dict[str, dict[str, int | str]] = {"synthetic": {"row": 0, "start_ms": -1_000_000}}

    def drifting() -> list[Chunk]:
        return read(source(features, rate=1000, rows=10_000, drift_after_ms=drift_row, drifted=drifted), all_due)

    values = column(drifting(), "a")
    assert values == [0] * min(drift_row, 10_000) + [1] * max(0, 10_000 - drift_row)
    assert column(drifting(), "b") == column(read(source(features, rows=10_000)), "b")


def test_rows_come_at_their_rate() -> None:
    timeline = Timeline(*quiet(8))
    made = source({"a": Distribution("poisson")}, rate=10, clock_ms=timeline.clock_ms, wait=timeline.wait)
    chunks = chunks_of(made, {}, timeline.stop)
    assert [(int(c.position["row"]), c.arrival_ms - 1_000_000) for c in chunks] == [
        (2, 250),
        (5, 500),
        (7, 750),
        (10, 1000),
        (12, 1250),
        (15, 1500),
        (17, 1750),
        (20, 2000),
    ]
    assert max(timeline.waits) <= 0.5


def test_a_drift_in_time_is_a_drift_at_a_row() -> None:
    timeline = Timeline(*quiet(12))
    made = source(
        {"a": Distribution("constant", value=0)},
        rate=10,
        clock_ms=timeline.clock_ms,
        wait=timeline.wait,
        drift_after_ms=2000,
        drifted={"a": Distribution("constant", value=1)},
    )
    values = column(chunks_of(made, {}, timeline.stop), "a")
    assert values == [0] * 20 + [1] * 10


def test_after_a_restart_the_rows_that_fell_due_meanwhile_follow_at_once() -> None:
    def run(positions: dict[str, dict[str, int | str]], start_ms: int) -> list[Chunk]:
        timeline = Timeline(*quiet(4), start_ms=start_ms)
        made = source({"a": Distribution("normal")}, rate=8, clock_ms=timeline.clock_ms, wait=timeline.wait)
        return chunks_of(made, positions, timeline.stop)

    before = run({}, 1_000_000)
    after = run(last_positions(before), 1_060_000)  # type: ignore[arg-type]
    assert {chunk.position["start_ms"] for chunk in before + after} == {1_000_000}
    assert before[-1].position["row"] == 8
    assert (after[0].position["row"], after[0].arrival_ms) == (8 * 60, 1_060_000)
    assert len(records(before + after)) == 8 * 61


def test_stop_takes_effect_between_chunks() -> None:
    stop = threading.Event()
    iterator = source(chunk_rows=10).chunks({}, stop)
    assert next(iterator) is not None
    stop.set()
    assert list(iterator) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Distribution("gauss"), "expected a distribution out of normal, .*, got 'gauss'"),  # type: ignore[arg-type]
        (Distribution("normal", {"sigma": 1}), "normal takes missing, mean, std; got sigma"),
        (Distribution("normal", {"std": -1}), "expected std ≥ 0, got -1"),
        (Distribution("normal", {"std": "wide"}), "normal takes missing, mean, std"),  # type: ignore[dict-item]
        (Distribution("normal", {"mean": math.nan}), "expected a finite mean, got nan"),
        (Distribution("lognormal", {"sigma": math.inf}), "expected sigma ≥ 0, got inf"),
        (Distribution("uniform", {"low": 2}), r"expected low < high, finite, got \(2, 1.0\)"),
        (Distribution("exponential", {"scale": 0}), "expected scale > 0, got 0"),
        (Distribution("poisson", {"rate": -1}), "expected rate between 0 and 1e18, got -1"),
        (Distribution("categorical"), "expected probabilities ≥ 0, not all of them 0, got {}"),
        (Distribution("categorical", {"a": 0}), "expected probabilities ≥ 0, not all of them 0"),
        (Distribution("constant", value=1, missing=2), "expected missing between 0 and 1, got 2"),
    ],
)
def test_wrong_parameters_are_named(given: Distribution, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sampler(given)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"drifted": {"c": Distribution("normal")}}, "expected names out of a, got c"),
        ({"drift_after_ms": 1}, "needs a rate"),
        ({"rate": -1}, "got -1"),
    ],
)
def test_contradictions_are_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        source({"a": Distribution("normal")}, **options)  # type: ignore[arg-type]
