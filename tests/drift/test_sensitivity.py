"""The smallest drift that a reference can show is where half of the windows alarm."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from kldrift.drift.judging.evaluation import Evaluation, WindowTotals
from kldrift.drift.judging.sensitivity import (
    CANNOT_ALARM,
    SmallestDrift,
    _normal_score,
    smallest_at,
    smallest_in_window,
)
from kldrift.drift.kinds.base import Column
from kldrift.drift.monitor import Monitor
from kldrift.drift.references.data import build_references, count_panes
from kldrift.drift.references.given import fixed_reference, inline_reference
from kldrift.drift.references.reference import FeatureReference
from kldrift.records.kinds import MIN_DEGREES_OF_FREEDOM
from kldrift.records.samples import SampleBatch
from kldrift.records.snapshots import FeatureInfo, z_quantile
from kldrift.records.specs import FeatureSpec, MonitorSpec, ReferenceInline, Smoothing, WindowSpec
from tests import naive_bounds
from tests.drift.builders import HOUR, JEFFREYS, categorical, normal_reference

NUMBER = FeatureSpec("x", "numeric")
VECTOR = FeatureSpec("x", "vector", dimensions=4)
WINDOWS = (WindowSpec("1h", HOUR),)
NOW = 1_700_000_000_000 // HOUR * HOUR


def evaluation(reference: FeatureReference, spec: FeatureSpec = NUMBER, smoothing: Smoothing = JEFFREYS) -> Evaluation:
    return Evaluation(MonitorSpec("m", (spec,), WINDOWS, smoothing=smoothing), [reference])


def built(column: Column, spec: FeatureSpec = NUMBER) -> FeatureReference:
    return build_references([spec], [column], 0, "r")[0]


def smallest(info: FeatureInfo, rows: float) -> tuple[SmallestDrift, SmallestDrift]:
    found = smallest_at(info, rows, 0.9999, 1)
    assert found is not None
    return found


def test_the_score_is_that_of_the_kernels() -> None:
    rng = np.random.default_rng(0)
    x, dof, noncentrality = rng.gamma(2, 20, 200), rng.uniform(0.1, 60, 200), rng.gamma(1, 30, 200)
    expected = [naive_bounds.normal_score(*each) for each in zip(x, dof, noncentrality, strict=True)]
    np.testing.assert_allclose(_normal_score(x, dof, noncentrality), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("m", "n"), [(400, 400), (400, 50_000), (2_000, 1_000), (10_000, 50_000)])
@pytest.mark.parametrize("tolerance", [0, 1])
def test_half_of_the_windows_with_that_shift_alarm(m: int, n: int, tolerance: int) -> None:
    """Simulated, with a new reference for each pair of windows, one shifted up and one down."""
    rng = np.random.default_rng(m + n + tolerance)
    alarms = dict.fromkeys((0.75, 1.0, 1.3), 0)
    repeats = 60
    for _ in range(repeats):
        reference = built(rng.normal(size=m))
        evaluated = evaluation(reference)
        (info,) = evaluated.features
        shift = smallest(info, n)[tolerance].sigma
        for factor in alarms:
            for sign in (-1, 1):
                (panes,) = count_panes([reference.shape], [rng.normal(sign * factor * shift, 1, n)])
                totals = WindowTotals(panes.sum(axis=0, keepdims=True))
                lower = evaluated.evaluate(totals, NOW).snapshot.lower[0, 0]
                alarms[factor] += lower > (info.warning, info.critical)[tolerance]
    shares = {factor: alarmed / (2 * repeats) for factor, alarmed in alarms.items()}
    assert shares[0.75] < 0.2
    assert 0.3 < shares[1.0] < 0.7
    assert shares[1.3] > 0.9


def test_half_of_the_windows_of_vectors_alarm() -> None:
    rng = np.random.default_rng(3)
    alarms = {0.75: 0, 1.0: 0, 1.3: 0}
    for _ in range(60):
        reference = built(rng.normal(size=(1_000, 4)), VECTOR)
        watched = {factor: Monitor(MonitorSpec("m", (VECTOR,), WINDOWS), [reference]) for factor in alarms}
        warns, _ = smallest(watched[1.0].features[0], 1_000)
        for factor, monitor in watched.items():
            values = rng.normal(size=(1_000, 4))
            values[:, 0] += factor * warns.sigma
            monitor.add(SampleBatch(1_000, (values,)), "s", NOW)
            alarms[factor] += monitor.evaluate(NOW).lower[0, 0] > 0.01
    assert alarms[0.75] < 12
    assert 18 < alarms[1.0] < 42
    assert alarms[1.3] > 54


def test_a_reference_of_400_rows_shows_what_it_shows_in_a_window_of_any_size() -> None:
    (info,) = evaluation(built(np.random.default_rng(0).normal(size=400))).features
    warns, critical = smallest(info, math.inf)
    assert warns.nats == pytest.approx(0.06, rel=0.15)
    assert warns.sigma == pytest.approx(0.35, rel=0.1)
    assert critical.nats == pytest.approx(0.21, rel=0.15)
    assert critical.sigma == pytest.approx(0.66, rel=0.1)


def test_longer_references_and_windows_show_smaller_drifts() -> None:
    rng = np.random.default_rng(1)
    by_rows = [
        smallest(evaluation(built(rng.normal(size=m))).features[0], math.inf)[0].nats for m in (300, 3_000, 30_000)
    ]
    assert by_rows == sorted(by_rows, reverse=True)
    (info,) = evaluation(built(rng.normal(size=3_000))).features
    by_window = [smallest(info, n)[0].nats for n in (300, 3_000, 30_000, math.inf)]
    assert by_window == sorted(by_window, reverse=True)
    assert by_window[-1] > info.warning


def test_a_distribution_known_exactly_shows_every_drift_above_the_tolerance() -> None:
    edges = (-np.inf, *np.linspace(-3, 3, 101), np.inf)
    from scipy.stats import norm

    given = ReferenceInline(edges=edges, probabilities=tuple(np.diff(norm.cdf(edges))))
    (info,) = evaluation(inline_reference(NUMBER, given, 0)).features
    warns, critical = smallest(info, math.inf)
    assert (warns.nats, critical.nats) == (pytest.approx(0.01, rel=1e-3), pytest.approx(0.1, rel=1e-3))
    assert warns.sigma == pytest.approx(math.sqrt(0.02), rel=0.01)  # D = sigma^2 / 2
    assert critical.sigma == pytest.approx(math.sqrt(0.2), rel=0.01)
    (vector,) = evaluation(normal_reference(VECTOR, 0.0, 1.0), VECTOR).features
    assert smallest(vector, math.inf)[0].sigma == pytest.approx(math.sqrt(0.02), rel=0.01)


def test_a_reference_whose_rows_depend_on_each_other_without_end_cannot_alarm() -> None:
    """Sorted rows, taken for time: a window of N(3, 1) has a KL of 3.7 nats and a lower bound of 0."""
    rng = np.random.default_rng(2)
    reference = replace(built(np.sort(rng.normal(size=5_000))), by_time=True)
    evaluated = evaluation(reference)
    assert smallest(evaluated.features[0], math.inf) == (CANNOT_ALARM, CANNOT_ALARM)
    (panes,) = count_panes([reference.shape], [rng.normal(3, 1, 100_000)])
    assert evaluated.evaluate(WindowTotals(panes.sum(axis=0, keepdims=True)), NOW).snapshot.lower[0, 0] == 0


def test_categories_have_a_divergence_and_no_distance_and_missing_values_stay() -> None:
    texts = np.random.default_rng(4).choice(["a", "b", "c", None], 2_000, p=[0.5, 0.3, 0.1, 0.1]).tolist()
    spec = FeatureSpec("x", "categorical")
    (info,) = evaluation(built(categorical(texts), spec), spec).features
    warns, critical = smallest(info, 2_000)
    assert 0.01 < warns.nats < 0.1 < critical.nats < 1
    assert math.isnan(warns.sigma)


def test_a_cell_that_is_impossible_without_smoothing_does_not_matter() -> None:
    spec = FeatureSpec("x", "categorical")
    given = ReferenceInline(categories=("a", "b", "c"), counts=(1_000, 1_000, 0))
    found = [
        smallest(evaluation(inline_reference(spec, given, 0), spec, smoothing).features[0], 2_000)[0].nats
        for smoothing in (JEFFREYS, Smoothing("none", 0, 0))
    ]
    assert found[1] == pytest.approx(found[0], rel=0.05)


def test_where_nothing_is_known_nothing_is_said() -> None:
    rng = np.random.default_rng(5)
    (info,) = evaluation(built(rng.normal(size=1_000))).features
    assert smallest_at(info, 100, 0.9999, 1) is None  # undecided
    assert smallest_at(replace(info, problem="too short"), math.inf, 0.9999, 1) is None
    (moving,) = evaluation(replace(built(rng.normal(size=1_000)), offset_ms=HOUR)).features
    assert smallest_at(moving, math.inf, 0.9999, 1) is None
    assert smallest(moving, 5_000)[0].nats < smallest(info, 5_000)[0].nats  # the earlier window has 5,000 rows
    posterior = FeatureSpec("x", "posterior", dimensions=2)
    (of_posterior,) = evaluation(fixed_reference(posterior, 0), posterior).features
    assert smallest_at(of_posterior, math.inf, 0.9999, 1) is None


def test_a_window_shows_what_its_samples_allow() -> None:
    watched = Monitor(MonitorSpec("m", (NUMBER,), WINDOWS), [built(np.random.default_rng(6).normal(size=2_000))])
    assert smallest_in_window(watched.evaluate(NOW), 0, 0) is None
    watched.add(SampleBatch(500, (np.zeros(500),)), "s", NOW)
    assert smallest_in_window(watched.evaluate(NOW), 0, 0) == smallest(watched.features[0], 500)


def plain_smallest(
    info: FeatureInfo, rows: float, reference_rows: float, z: float, tolerance: float
) -> tuple[float, float]:
    """The shift, one size at a time: the first of them that is certain, up or down, whichever shows less."""
    spread = info.spread
    assert spread is not None
    found = []
    phi, ratio = (float(each) for each in spread.at(rows))
    inverse = phi / rows + float(spread.phi.max()) / reference_rows
    for sign in (1, -1) if spread.counted is not None else (1,):
        before: tuple[float, float, float] | None = None
        for size in np.geomspace(1e-4, 12.0, 400).tolist():
            if spread.counted is None:
                dof, kl = spread.dof, size**2 / 2
                live, reference = size**2, size**2 + size**4 / 2
            else:
                q = info.reference_probabilities[spread.counted]
                q = q / q.sum()
                n_own = len(info.cells) - 4
                own = q[:n_own]
                inner = ndtri(np.cumsum(own / own.sum())[:-1])
                p = q.copy()
                p[:n_own] = own.sum() * np.diff([0.0, *ndtr(inner - sign * size), 1.0])
                log = np.log(np.where(p > 0, p, q) / q)
                dof, kl = q.size - 1, max(float((p * log).sum()), 1e-14)
                live = float((p * log**2).sum()) - float((p * log).sum()) ** 2
                reference = float(((p - q) ** 2 / q).sum())
            matched = (live / rows + reference / reference_rows) / (1 / rows + 1 / reference_rows) / (2 * kl)
            dispersion = ratio * max(spread.concentration, matched) if spread.dof else max(ratio, matched)
            excess = z - naive_bounds.normal_score(
                (dof + 2 * kl / inverse) / dispersion,
                max(dof / dispersion, MIN_DEGREES_OF_FREEDOM),
                2 * tolerance / inverse / dispersion,
            )
            if excess < 0:
                assert before is not None
                share = before[0] / (before[0] - excess)
                found.append(tuple(b + share * (a - b) for a, b in zip((kl, size), before[1:], strict=True)))
                break
            before = excess, kl, size
        else:
            found.append((math.inf, math.inf))
    nats, sigma = max(found)
    return nats, sigma


@pytest.mark.parametrize("rows", [200, 1_000, 30_000])
@pytest.mark.parametrize("kind", ["numeric", "dependent", "categorical", "vector"])
def test_the_smallest_drift_is_that_of_the_naive_specification(kind: str, rows: int) -> None:
    rng = np.random.default_rng(8)
    if kind == "categorical":
        spec = FeatureSpec("x", "categorical")
        reference = built(categorical(rng.choice(["a", "b", "c", None], 900, p=[0.5, 0.3, 0.1, 0.1]).tolist()), spec)
    elif kind == "vector":
        spec, reference = VECTOR, built(rng.normal(size=(900, 4)) @ np.diag([1.0, 2.0, 3.0, 4.0]), VECTOR)
    else:
        spec, values = NUMBER, rng.normal(size=3_000)
        if kind == "dependent":
            values = np.repeat(values[:300], 10)
        reference = replace(built(values), by_time=True)
    (info,) = evaluation(reference, spec).features
    found = smallest(info, rows)
    for one, tolerance in zip(found, (info.warning, info.critical), strict=True):
        nats, sigma = plain_smallest(info, rows, info.reference_rows, z_quantile(0.9999, 1), tolerance)
        assert one.nats == pytest.approx(nats, rel=1e-9)
        if kind != "categorical":
            assert one.sigma == pytest.approx(sigma, rel=1e-9)


def test_a_window_is_judged_from_ten_samples_for_each_cell_on() -> None:
    (info,) = evaluation(built(np.random.default_rng(9).normal(size=2_000))).features
    n_bins = len(info.cells) - 4
    assert smallest_at(info, 10 * n_bins - 1, 0.9999, 1) is None
    assert smallest_at(info, 10 * n_bins, 0.9999, 1) is not None


def test_in_a_single_category_nothing_can_shift() -> None:
    spec = FeatureSpec("x", "categorical")
    given = ReferenceInline(categories=("a",), probabilities=(1.0,), missing=0.5)
    (info,) = evaluation(inline_reference(spec, given, 0), spec).features
    assert smallest_at(replace(info, problem=None), math.inf, 0.9999, 1) is None
    one_bin = ReferenceInline(edges=(0.0, 1.0), probabilities=(1.0,), missing=0.5)
    (info,) = evaluation(inline_reference(NUMBER, one_bin, 0)).features
    assert smallest_at(replace(info, problem=None), math.inf, 0.9999, 1) is None
    two_bins = ReferenceInline(edges=(0.0, 1.0, 2.0), probabilities=(0.5, 0.5), missing=0.5)
    (info,) = evaluation(inline_reference(NUMBER, two_bins, 0)).features
    assert smallest_at(info, math.inf, 0.9999, 1) is not None
