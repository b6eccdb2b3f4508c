"""What an evaluation says of its references, and where a window is judged, to the sample."""

from dataclasses import replace

import numpy as np
import pytest

from kldrift.drift.judging.divergences import divergences
from kldrift.drift.judging.evaluation import Evaluation, WindowTotals, _held
from kldrift.drift.kinds.categorical import Categorical
from kldrift.drift.references.given import inline_reference
from kldrift.drift.references.learned import to_learn
from kldrift.drift.references.overdispersion import Overdispersion
from kldrift.drift.references.reference import FeatureReference
from kldrift.drift.smoothing import KNOWN_SAMPLE
from kldrift.errors import KldriftError
from kldrift.records.divergences import KL
from kldrift.records.specs import FeatureSpec, MonitorSpec, ReferenceInline, WindowSpec
from tests.drift.builders import HOUR, edges_spec, reference

NOW = 1_700_000_000_000
WINDOWS = (WindowSpec("1h", HOUR),)
COIN = FeatureSpec("coin", "categorical")


def evaluation(*pairs: tuple[FeatureSpec, FeatureReference], **rest: object) -> Evaluation:
    specs, references = zip(*pairs, strict=True)
    return Evaluation(MonitorSpec("m", specs, WINDOWS, **rest), references)  # type: ignore[arg-type]


def uniform(n: int = 300, missing: int = 0) -> FeatureReference:
    x = np.random.default_rng(0).permutation(np.repeat([0.5, 1.5, 2.5], n // 3))
    x[:missing] = np.nan
    return reference((edges_spec(), x))[0]


def test_a_feature_says_which_of_its_own_cells_count_in_every_window() -> None:
    unused_bin = reference((edges_spec(), np.repeat([0.5, 1.5], 100)))[0]
    once_missing = replace(uniform(), panes=np.array([[100, 100, 100, 0, 0, 1, 0]]))
    evaluated = evaluation(
        (edges_spec(), unused_bin), (edges_spec("y"), once_missing), (edges_spec("z"), uniform(missing=5))
    )
    counted = [info.spread.counted.tolist() for info in evaluated.features if info.spread is not None]  # type: ignore[union-attr]
    bins = [True] * 3
    assert counted == [[*bins, *[False] * 4], [*bins, False, False, True, False], [*bins, False, False, True, False]]


def test_a_known_cell_counts_where_it_outweighs_what_smoothing_adds() -> None:
    shape = Categorical(("a", "b"))
    probabilities = np.array([0.5, 0.5, 0.0, 1.5 / KNOWN_SAMPLE, 0.5 / KNOWN_SAMPLE, 0.0])
    known = FeatureReference("x", shape, None, probabilities)
    assert _held(known).tolist() == [True, True, False, True, False, False]


def test_a_feature_says_how_much_its_samples_spread() -> None:
    measured = Overdispersion(np.array([10.0, 20.0]), np.array([1.0, 2.0]), np.array([3.0, 8.0]))
    (info,) = evaluation((edges_spec(), replace(uniform(), overdispersion=measured))).features
    assert info.spread is not None
    assert info.spread.block_samples.tolist() == [10, 20]
    assert info.spread.phi.tolist() == [1, 2]
    assert info.spread.lambda_ratio.tolist() == [3, 4]


def test_a_feature_says_whether_missing_values_are_part_of_the_divergence() -> None:
    given = ReferenceInline(categories=("a", "b"), counts=(90, 10))
    does_not_know = inline_reference(COIN, given, 0)
    knows = inline_reference(COIN, replace(given, missing=0.0), 0)
    awaited = to_learn(FeatureSpec("x", "numeric"), 1)  # of a single row, even
    evaluated = evaluation((COIN, does_not_know), (COIN, knows), (edges_spec(), uniform()), (edges_spec(), awaited))
    assert [info.knows_missing for info in evaluated.features] == [False, True, True, True]
    assert evaluated.features[3].problem is not None
    snapshot = evaluated.evaluate(WindowTotals(np.ones((1, evaluated.offsets[-1]), dtype=np.int64)), NOW).snapshot
    assert np.isnan(snapshot.divergences[0, :, KL]).tolist() == [False, False, False, True]


@pytest.mark.parametrize(("earlier", "ready"), [(29, False), (30, True)])
def test_the_window_before_needs_as_many_samples_as_the_window(earlier: int, ready: bool) -> None:
    evaluated = evaluation((edges_spec(), replace(uniform(), offset_ms=HOUR)))
    now = np.array([[100, 100, 100, 0, 0, 0, 0]])
    before = np.array([[earlier - 20, 10, 10, 0, 0, 0, 0]])
    snapshot = evaluated.evaluate(WindowTotals(now, {}, {HOUR: before}), NOW).snapshot
    assert snapshot.ready.tolist() == [[ready]]
    assert snapshot.reference_rows.tolist() == [[earlier]]


def test_an_earlier_window_with_an_offset_of_a_millisecond_is_one() -> None:
    evaluated = evaluation((edges_spec(), replace(uniform(), offset_ms=1)))
    now, nothing = np.array([[100, 100, 100, 0, 0, 0, 0]]), np.zeros((1, 7), dtype=np.int64)
    assert not evaluated.evaluate(WindowTotals(now, {}, {1: nothing}), NOW).snapshot.ready.any()


@pytest.mark.parametrize(("samples", "absent"), [(39, False), (40, True)])  # three bins, and missing
def test_a_feature_is_absent_where_as_many_values_are_missing_as_a_verdict_needs(samples: int, absent: bool) -> None:
    evaluated = evaluation((edges_spec(), uniform()))
    snapshot = evaluated.evaluate(WindowTotals(np.array([[0, 0, 0, 0, 0, samples, 0]])), NOW).snapshot
    assert snapshot.absent.tolist() == [[absent]]


@pytest.mark.parametrize("known", ["exactly", "counts"])
def test_a_known_reference_is_a_large_sample_to_other_estimators(known: str) -> None:
    values = {"probabilities": (0.5, 0.5)} if known == "exactly" else {"counts": (500, 500)}
    given = inline_reference(COIN, ReferenceInline(categories=("a", "b"), missing=0.0, **values), 0)  # type: ignore[arg-type]
    live, m = np.array([30.0, 10.0]), KNOWN_SAMPLE if known == "exactly" else 1_000
    p, q = (live + 1) / (40 + 2), (np.array([0.5, 0.5]) * m + 1) / (m + 2)
    evaluated = evaluation((COIN, given), estimator="boxkite")
    found = evaluated.evaluate(WindowTotals(np.array([[30, 10, 0, 0, 0, 0]])), NOW)
    assert found.snapshot.divergences[0, 0, KL] == pytest.approx(float(((q - p) * np.log(q / p)).sum()), rel=1e-12)
    assert found.kl[0, 0] != found.snapshot.divergences[0, 0, KL]  # our own is there as well


@pytest.mark.parametrize(
    "vector", [[[0.5, 0.5]], [], [0.5, 0.6], [1.5, -0.5], [0.5, 0.499], [-0.1, 0.1], [[1.0]], [np.nan, 1.0]]
)
def test_what_is_no_distribution_is_refused(vector: list[float]) -> None:
    fine, wrong = np.array([0.5, 0.5]), np.array(vector)
    for p, q, name in ((fine, wrong, "q"), (wrong, fine, "p")):
        with pytest.raises(KldriftError, match=f"{name}: expected probabilities >= 0 that sum to 1"):
            divergences(p, q)


def test_a_distribution_may_have_one_cell_and_both_have_the_same() -> None:
    assert divergences(np.array([1.0]), np.array([1.0]))["kl"] == 0
    assert divergences(np.array([1.0, 0.0]), np.array([0.5, 0.5]))["kl"] == pytest.approx(np.log(2))
    with pytest.raises(KldriftError, match="expected p and q over the same cells, got 1 and 2"):
        divergences(np.array([1.0]), np.array([0.5, 0.5]))
