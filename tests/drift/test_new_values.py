"""Categories with a long tail: what a reference has missed is no drift, and more new values than that are."""

import json
import math

import numpy as np
import pytest
from scipy.stats import beta, gamma, t

from kldrift.drift.judging.evaluation import Evaluation, WindowTotals
from kldrift.drift.judging.new_values import _Missed
from kldrift.drift.kinds.categorical import Categorical
from kldrift.drift.kinds.coverage import Coverage
from kldrift.drift.references.data import build_references
from kldrift.drift.references.file import dump_references, load_references
from kldrift.drift.references.learned import to_learn
from kldrift.drift.references.overdispersion import UNMEASURED, Overdispersion
from kldrift.drift.references.reference import FeatureReference
from kldrift.records.kinds import OVERFLOW, UNDERFLOW
from kldrift.records.samples import CategoricalColumn
from kldrift.records.specs import FeatureSpec, MonitorSpec, Smoothing, WindowSpec
from kldrift.records.types import FloatArray, IntArray

SPEC = FeatureSpec("page", "categorical", warning=0.01, critical=0.1)
WINDOWS = (WindowSpec("5m", 300_000), WindowSpec("1h", 3_600_000))
ALPHA = 1e-4 / len(WINDOWS)


def zipf(exponent: float, n_values: int) -> FloatArray:
    p = 1 / np.arange(1, n_values + 1) ** exponent
    return p / p.sum()


def reference_of(codes: IntArray, n_values: int, *, by_time: bool = True) -> FeatureReference:
    column = CategoricalColumn(tuple(f"c{i}" for i in range(n_values)), codes.astype(np.int32))
    return build_references([SPEC], [column], 0, "r", by_time=by_time)[0]


def cells_of(reference: FeatureReference, n_values: int) -> IntArray:
    """The cell of each category."""
    own = {name: i for i, name in enumerate(reference.shape.categories or ())}
    rare = set(reference.shape.to_json()["other"])
    n_cells = len(reference.cells)
    other, unseen = n_cells + UNDERFLOW, n_cells + OVERFLOW
    return np.array([own.get(f"c{i}", other if f"c{i}" in rare else unseen) for i in range(n_values)])


def windows_of(reference: FeatureReference, cells: IntArray, size: int) -> IntArray:
    """Count (n // size) windows of the cells."""
    n_cells = len(reference.cells)
    rows = cells[: cells.size // size * size].reshape(-1, size)
    return np.array([np.bincount(window, minlength=n_cells) for window in rows])


def evaluation(reference: FeatureReference, smoothing: Smoothing | None = None) -> Evaluation:
    return Evaluation(MonitorSpec("m", (SPEC,), WINDOWS, smoothing=smoothing or Smoothing()), [reference])


@pytest.mark.parametrize(
    ("exponent", "n_values", "m"), [(1.1, 300, 3_000), (1.5, 300, 3_000), (1.05, 2_000, 1_000), (1.3, 50_000, 10_000)]
)
def test_what_a_reference_has_missed_is_no_drift(exponent: float, n_values: int, m: int) -> None:
    rng = np.random.default_rng(7)
    p = zipf(exponent, n_values)
    for _ in range(3):
        reference = reference_of(rng.choice(n_values, m, p=p), n_values)
        live = windows_of(reference, cells_of(reference, n_values)[rng.choice(n_values, 400_000, p=p)], 10_000)
        found = evaluation(reference).evaluate(WindowTotals(live), 0)
        assert found.snapshot.ready.all()
        assert found.snapshot.lower.max() == 0
        expected = found.snapshot.features[0].expected_unseen
        missed = p[np.setdiff1d(np.arange(n_values), [int(name[1:]) for name in names(reference)])].sum()
        assert found.snapshot.unseen_ratio.mean() == pytest.approx(missed, abs=0.01)
        assert expected == pytest.approx(missed, abs=4 * math.sqrt(3 * missed / m))


def names(reference: FeatureReference) -> list[str]:
    document = reference.shape.to_json()
    return [*document["categories"], *document["other"]]


def test_more_new_values_than_that_are_found() -> None:
    rng = np.random.default_rng(3)
    p = zipf(1.1, 300)
    reference = reference_of(rng.choice(300, 20_000, p=p), 300)
    cells = cells_of(reference, 300)[rng.choice(300, 250_000, p=p)]
    cells[rng.random(cells.size) < 0.01] = len(reference.cells) + OVERFLOW
    found = evaluation(reference).evaluate(WindowTotals(windows_of(reference, cells, 25_000)), 0)
    assert (found.snapshot.lower > 0.005).all()
    assert (found.snapshot.upper > found.snapshot.lower).all()
    # a divergence of 1 % of new values from at most 3 in 20,000
    assert (found.snapshot.lower < 0.01 * math.log(0.01 / (3 / 20_000))).all()


def test_the_limits_are_those_of_textbooks() -> None:
    """160 categories fifty times, 30 once and 10 twice; half of the live rows are new."""
    codes = np.concatenate([np.tile(np.arange(160), 50), np.arange(160, 190), np.repeat(np.arange(190, 200), 2)])
    codes = np.random.default_rng(1).permutation(codes)
    reference = reference_of(codes, 200).of_independent_rows()
    assert reference.shape.coverage is not None
    assert (reference.shape.coverage.once, reference.shape.coverage.twice) == (30, 10)
    m = codes.size
    counts = reference.counts.copy()  # type: ignore[union-attr]
    counts[OVERFLOW] = 400
    n = int(counts.sum())
    snapshot = evaluation(reference).evaluate(WindowTotals(counts[np.newaxis]), 0).snapshot
    a = ALPHA / 2 / 2  # beside the divergence of the other cells; live and reference
    p = beta.ppf(a, 400, n - 400 + 1)
    q = max(gamma.ppf(1 - a, 30 + 2 * 10 + 1) - 2 * 10, math.log(40 / a)) / m
    assert snapshot.lower[0, 0] == pytest.approx(p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)), rel=1e-9)
    assert snapshot.features[0].expected_unseen == 30 / m


def test_a_p_value_is_the_level_at_which_the_bound_reaches_the_tolerance() -> None:
    rng = np.random.default_rng(5)
    reference = reference_of(rng.choice(300, 5_000, p=zipf(1.2, 300)), 300)
    assert reference.counts is not None
    counts = np.repeat(reference.counts[np.newaxis], 60, axis=0)
    counts[:, OVERFLOW] = np.arange(60) * 40
    found = evaluation(reference).evaluate(WindowTotals(counts), 0)
    lower, log10_p = found.snapshot.lower[:, 0], found.log10_p_values[:, 0]
    for severity, tolerance in enumerate((SPEC.warning, SPEC.critical)):
        np.testing.assert_array_equal(lower > tolerance, log10_p[:, severity] <= math.log10(ALPHA))
        assert (np.diff(log10_p[:, severity]) <= 0).all()
        assert (lower > tolerance).any()
        assert (lower <= tolerance).any()


def test_values_of_categories_in_one_stretch_only_are_counted_by_stretch() -> None:
    """Of 64 stretches of 20 values, each has 8 of a category that occurs in no other."""
    stretches = np.zeros((64, 20), dtype=np.int32)
    stretches[:, 12:] = 1 + np.arange(64)[:, np.newaxis]
    found = Coverage.of(stretches.ravel(), 1)
    assert (found.values, found.rare, found.once, found.twice) == (1_280, 64, 0, 0)
    assert (found.apart, found.apart_error) == pytest.approx((0.4, 0.0))
    stretches[:32, 12:] = 0
    found = Coverage.of(stretches.ravel(), 1)
    assert found.apart == pytest.approx(0.2)
    assert found.apart_error == pytest.approx(0.2 * math.sqrt(64 / 63) / 8)
    assert Coverage.of(stretches.ravel()[:600], 1) == Coverage(600, 0, 0, 0)  # too short


def test_bursts_of_new_values_are_no_drift_where_the_reference_has_them_too() -> None:
    rng = np.random.default_rng(11)

    def stream(first: int, n: int) -> IntArray:
        rows = rng.choice(10, (n // 50, 50))
        rows[:, 45:] = first + np.arange(n // 50)[:, np.newaxis]  # five rows of a visitor who never comes back
        return rows.ravel()

    reference = reference_of(stream(10, 20_000), 410)
    assert reference.shape.coverage is not None
    assert reference.shape.coverage.once == 0
    live = stream(10_000, 100_000)
    cells = np.where(live >= 10, len(reference.cells) + OVERFLOW, cells_of(reference, 410)[np.minimum(live, 409)])
    found = evaluation(reference).evaluate(WindowTotals(windows_of(reference, cells, 10_000)), 0)
    np.testing.assert_allclose(found.snapshot.unseen_ratio, 0.1)
    assert found.snapshot.lower.max() == 0


def test_rows_that_occur_once_stand_for_what_was_missed() -> None:
    codes = np.concatenate([np.tile([0, 1], 100), [2, 3, 4, 4]])
    reference = reference_of(codes, 5)
    assert reference.cells == ("c0", "c1", "other", "unseen", "missing", "invalid")
    assert reference.counts is not None
    assert reference.counts.tolist() == [100, 100, 4, 0, 0, 0]
    assert reference.expected_counts.tolist() == [100, 100, 2, 2, 0, 0]
    assert reference.smoothed(Smoothing()).tolist() == pytest.approx(
        [100.5 / 207, 100.5 / 207, *[2.5 / 207] * 2, *[0.5 / 207] * 2]
    )
    assert reference.expected_new == 2 / 204


def test_without_rare_categories_no_new_value_is_to_be_expected() -> None:
    assert reference_of(np.tile([0, 1], 500), 2).expected_new == 0
    assert math.isnan(to_learn(SPEC, 100).expected_new)


def test_a_reference_file_keeps_what_was_missed_and_an_older_one_says_that_it_does_not() -> None:
    rng = np.random.default_rng(2)
    reference = reference_of(rng.choice(300, 3_000, p=zipf(1.1, 300)), 300)
    text = dump_references([reference])
    (again,) = load_references(text, "r.json")
    assert again.shape.coverage == reference.shape.coverage
    assert again.shape.limits == ()
    older = json.loads(text)
    del older["features"][0]["coverage"]
    older["features"][0]["reference_hash"] = _hash_without_coverage(reference)
    (old,) = load_references(json.dumps(older), "r.json")
    assert math.isnan(old.expected_new)
    assert "build it again" in old.shape.limits[0]


def _hash_without_coverage(reference: FeatureReference) -> str:
    from dataclasses import replace

    return replace(reference, shape=replace(reference.shape, coverage=None)).reference_hash  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("p", "m"),
    [(zipf(1.1, 300), 3_000), (zipf(1.5, 300), 20_000), (zipf(1.05, 2_000), 1_000), (np.full(300, 1 / 300), 2_000)],
    ids=["Zipf(1.1)", "Zipf(1.5)", "Zipf(1.05)", "equal"],
)
def test_the_limit_on_what_was_missed_is_one(p: FloatArray, m: int) -> None:
    """Of 2,500 references, hardly more than a share alpha has missed more than the limit, and it is not far above."""
    rng, n = np.random.default_rng(21), 2_500
    counts = rng.multinomial(m, p, size=n)
    missed = (counts == 0) @ p
    rare, once, twice = ((counts > 0) & (counts < 10)).sum(axis=1), (counts == 1).sum(axis=1), (counts == 2).sum(axis=1)
    references = [
        FeatureReference(
            "page", Categorical(("a",), ("b",), coverage=Coverage(m, *of_one)), np.array([[m, 0, 0, 0, 0]])
        )
        for of_one in zip(rare.tolist(), once.tolist(), twice.tolist(), strict=True)
    ]
    limits = _Missed(references, [UNMEASURED] * n)
    for alpha in (0.05, 0.01):
        upper = limits.upper(np.arange(n), alpha)
        share = float(np.count_nonzero(missed > upper)) / n
        assert share < 2.2 * alpha  # the last of these streams is the worst: 1.7 times at 0.01
        assert upper.mean() < missed.mean() + 5 * math.sqrt(3 * missed.mean() / m) + 12 / m
    assert (limits.upper(np.arange(n), 1e-6) > limits.upper(np.arange(n), 0.01)).all()


@pytest.mark.parametrize("n_panes", [1, 2, 64])
@pytest.mark.parametrize("phi", [1.0, 2.5])
def test_the_limit_equals_a_naive_one(n_panes: int, phi: float) -> None:
    m, values = 1_000, 900
    measured = Overdispersion(np.ones(1), np.full(1, phi), np.full(1, 2 * phi))
    for coverage in (
        Coverage(values, 1, 0, 0),
        Coverage(values, 50, 0, 3),
        Coverage(values, 60, 40, 9),
        Coverage(values, 60, 0, 0, 0.2, 0.01),
        Coverage(values, 0, 0, 0, 0.2, 0.0),
    ):
        panes = np.full((n_panes, 5), 0)
        panes[:, 0] = m // n_panes
        panes[0, 0] += m - panes[:, 0].sum()
        reference = FeatureReference("page", Categorical(("a",), ("b",), coverage=coverage), panes)
        limits = _Missed([reference], [measured])
        for alpha in (0.05, 1e-5):
            f1, f2 = coverage.once / phi, coverage.twice / phi
            expected = max(
                (gamma.ppf(1 - alpha, f1 + 2 * f2 + 1) - 2 * f2) * phi / m,
                math.log(max(coverage.rare, 1) / alpha) * phi / m,
            )
            if n_panes > 1:
                expected = max(expected, (coverage.apart + t.isf(alpha, 63) * coverage.apart_error) * values / m)
            assert limits.upper(np.array([0]), alpha)[0] == pytest.approx(min(1.0, expected), rel=1e-9)
            for new, n in ((1.0, 1.0), (300.0, 400.0), (0.0, 400.0)):
                q = limits.upper(np.array([0]), alpha / 2)[0]
                p = beta.ppf(alpha / 2, new, n - new + 1) if new else 0.0
                least = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)) if p > q else 0.0
                found = limits.lower(np.array([new]), np.array([n]), np.array([0]), alpha)
                assert found[0] == pytest.approx(least, rel=1e-9)
