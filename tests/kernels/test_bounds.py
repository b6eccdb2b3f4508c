"""Bounds on KL: golden vectors, the naive specification, and that they hold what they promise."""

import json
import math
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from kldrift.kernels import bounds, compilation
from kldrift.kernels.bounds import BOUNDS, bound_counts
from tests import naive_bounds

ROOT = Path(__file__).parents[2]
COUNTS = st.lists(st.integers(0, 1000), min_size=2, max_size=30).filter(any)
REFERENCE = st.lists(st.integers(0, 5000), min_size=30, max_size=30)


def jeffreys(counts):
    counts = np.asarray(counts, dtype=np.float64)
    return (counts + 0.5) / (counts.sum(axis=-1, keepdims=True) + counts.shape[-1] / 2)


def bound_one(live, q, m, *, always=None, phi=(1.0, 1.0), lambda_ratio=1.0, alpha=1e-4, thresholds=(0.01, 0.1)):
    """Bounds of rows of counts (R, B) against rows of q (R, B), or of one of each."""
    live = np.atleast_2d(np.asarray(live, dtype=np.int64))
    n_series, n_cells = live.shape
    q = np.broadcast_to(np.asarray(q, dtype=np.float64), live.shape)
    always = np.broadcast_to(np.asarray(True if always is None else always), live.shape)
    out = np.zeros((1, n_series, len(BOUNDS)))
    bound_counts(
        live.reshape(1, -1),
        np.ascontiguousarray(q).ravel(),
        np.ascontiguousarray(always).ravel(),
        np.arange(n_series + 1) * n_cells,
        np.full(n_series, float(m)),
        np.full((1, n_series), phi[0]),
        np.full(n_series, phi[1]),
        np.full((1, n_series), lambda_ratio),
        float(norm.isf(alpha)),
        np.tile(np.asarray(thresholds, dtype=np.float64), (n_series, 1)),
        out,
    )
    columns = dict(zip(BOUNDS, out[0].T, strict=True))
    return {name: float(column[0]) for name, column in columns.items()} if n_series == 1 else columns


def scenario():
    """Windows of every kind over features of every kind."""
    rng = np.random.default_rng(5)
    widths = [1, 2, 5, 19, 40, 5]
    offsets = np.cumsum([0, *widths])
    n_cells, n_features = int(offsets[-1]), len(widths)
    reference = rng.integers(0, 400, n_cells)
    reference[rng.random(n_cells) < 0.2] = 0
    reference[offsets[:-1]] = 50
    parts = [slice(a, b) for a, b in pairwise(offsets)]
    q = np.concatenate([jeffreys(reference[part]) for part in parts])
    q[parts[5]] = [0.5, 0.25, 0.25, 0.0, 0.0]  # nothing smoothed
    rows = np.array([float(reference[part].sum()) for part in parts])
    rows[4], rows[5] = np.inf, 1000.0
    always = (np.arange(n_cells) % 3 > 0) | (reference > 0)
    near = np.concatenate([rng.multinomial(int(reference[part].sum()), q[part]) for part in parts])
    live = np.stack(
        [
            np.zeros(n_cells, dtype=np.int64),
            near,
            rng.integers(0, 4, n_cells),
            rng.integers(0, 1000, n_cells),
            np.where(rng.random(n_cells) < 0.3, 10**15, near * 10**12),
            np.where(np.isin(np.arange(n_cells), offsets[:-1]), 1, 0),
        ]
    )
    phi_live = 1 + rng.exponential(0.3, (len(live), n_features))
    return {
        "live": live,
        "reference_probabilities": q,
        "always_counted": always,
        "offsets": offsets,
        "reference_rows": rows,
        "phi_live": phi_live,
        "phi_reference": phi_live.max(axis=0),
        "lambda_ratio": 1 + rng.exponential(1, phi_live.shape) * (rng.random(phi_live.shape) < 0.7),
        "z_quantile": 3.7,
        "thresholds": np.tile([0.01, 0.1], (n_features, 1)),
    }


def results(n_threads):
    arguments = scenario()
    out = np.zeros((len(arguments["live"]), len(arguments["offsets"]) - 1, len(BOUNDS)))
    before, bounds.PARALLEL_FROM_SERIES = bounds.PARALLEL_FROM_SERIES, 0
    compilation.set_threads(n_threads)
    try:
        bound_counts(**arguments, out=out)
    finally:
        bounds.PARALLEL_FROM_SERIES = before
        compilation.set_threads(None)
    return out


# --- what they are ---------------------------------------------------------------------------------


def test_golden_vectors(golden_statistics: Path) -> None:
    vectors = json.loads(golden_statistics.read_text())["bounds"]
    assert len(vectors) >= 20
    for vector in vectors:
        expected = vector["expected"]
        p_values = {float(delta): p for delta, p in expected["p_value"].items()}
        arguments = {
            "phi": (vector["phi_live"], vector["phi_reference"]),
            "lambda_ratio": vector["lambda_ratio"],
            "alpha": vector["alpha"],
        }
        q, m = jeffreys(vector["reference"]), sum(vector["reference"])
        for thresholds in zip(p_values, [*list(p_values)[1:], 0.0], strict=True):
            got = bound_one(vector["live"], q, m, thresholds=thresholds, **arguments)
            for name in ("lower", "upper", "noise_floor", "effective_samples", "n_bins", "statistic", "dispersion"):
                assert got[name] == pytest.approx(expected[name], rel=1e-9, abs=0), name
            assert 10 ** got["log10_p_warning"] == pytest.approx(p_values[thresholds[0]], rel=1e-9, abs=0)
            assert 10 ** got["log10_p_critical"] == pytest.approx(p_values[thresholds[1]], rel=1e-9, abs=0)


def test_the_naive_specification_agrees() -> None:
    arguments, got = scenario(), results(1)
    offsets, checked = arguments["offsets"], 0
    for window in range(len(got)):
        for feature in range(len(offsets) - 1):
            own = slice(offsets[feature], offsets[feature + 1])
            expected = naive_bounds.bound(
                arguments["live"][window, own].tolist(),
                arguments["reference_probabilities"][own].tolist(),
                arguments["always_counted"][own].tolist(),
                float(arguments["reference_rows"][feature]),
                arguments["phi_live"][window, feature],
                arguments["phi_reference"][feature],
                arguments["lambda_ratio"][window, feature],
                arguments["z_quantile"],
                arguments["thresholds"][feature].tolist(),
            )
            wanted = [expected.get(name, math.nan) for name in BOUNDS]
            np.testing.assert_allclose(
                got[window, feature], wanted, rtol=1e-8, atol=1e-12, err_msg=f"{window} {feature} {BOUNDS}"
            )
            checked += bool(expected) and 0 < expected["lower"] < math.inf
    assert checked >= 8  # of those with something to find


def test_parallel_equals_serial_to_the_bit() -> None:
    np.testing.assert_array_equal(results(1), results(2))


def test_interpreted_equals_compiled_to_the_bit(tmp_path: Path) -> None:
    out = tmp_path / "interpreted.npy"
    subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.kernels.test_bounds", str(out)],
        cwd=ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        check=True,
        timeout=120,
    )
    np.testing.assert_array_equal(np.load(out), results(1))


def test_nothing_compiles_after_the_warm_up() -> None:
    compilation.warm_up()
    before = compilation.compiled_signatures()
    assert before["bound_serial"] == before["bound_parallel"] == 1
    results(1)
    results(2)
    arguments = scenario()
    for array in arguments.values():
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    bound_counts(**arguments, out=np.zeros((6, 6, len(BOUNDS))))
    assert compilation.compiled_signatures() == before


# --- the far ends ----------------------------------------------------------------------------------


def test_an_empty_window_or_reference_is_nan() -> None:
    q = [0.25] * 4
    assert all(math.isnan(value) for value in bound_one([0, 0, 0, 0], q, 1000).values())
    assert all(math.isnan(value) for value in bound_one([1, 2, 3, 4], q, 0).values())


def test_equal_distributions_have_no_lower_bound() -> None:
    got = bound_one([250, 250, 250, 250], [0.25] * 4, math.inf)
    assert got["lower"] == 0
    assert got["statistic"] < 0  # Williams' correction of nothing
    assert got["dispersion"] == 1
    assert got["upper"] >= 0
    assert -1e-3 < got["log10_p_warning"] <= 0


def test_an_impossible_value_is_infinitely_far() -> None:
    got = bound_one([5, 5, 1], [0.5, 0.5, 0.0], 1000)
    assert got["lower"] == got["upper"] == got["statistic"] == math.inf
    assert got["log10_p_warning"] == got["log10_p_critical"] == -math.inf
    assert got["noise_floor"] == pytest.approx(2 / (2 * got["effective_samples"]))
    assert got["dispersion"] == 1


def test_an_impossible_value_that_does_not_come_costs_nothing() -> None:
    got = bound_one([600, 400, 0], [0.5, 0.5, 0.0], math.inf, always=[True, True, False])
    assert got == bound_one([600, 400], [0.5, 0.5], math.inf)


def test_one_cell_cannot_move() -> None:
    got = bound_one([900, 0, 0], jeffreys([1000, 0, 0]), 1000, always=[True, False, False])
    assert (got["n_bins"], got["lower"], got["noise_floor"], got["log10_p_warning"]) == (1, 0, 0, 0)
    assert got["upper"] == pytest.approx(-math.log(1000.5 / 1001.5))
    assert bound_one([7], [1.0], 10)["upper"] == 0


def test_a_known_reference_is_the_limit_of_a_large_one() -> None:
    live, q = [300, 400, 500, 200], [0.2, 0.3, 0.3, 0.2]
    known, large = bound_one(live, q, math.inf), bound_one(live, q, 1e15)
    assert known["effective_samples"] == 1400
    for name in BOUNDS:
        assert known[name] == pytest.approx(large[name], rel=1e-9), name


def test_huge_counts_pin_the_divergence_down() -> None:
    p, q = np.array([0.4, 0.6]), np.array([0.5, 0.5])
    kl = float((p * np.log(p / q)).sum())
    got = bound_one((p * 1e18).astype(np.int64), q, math.inf)
    assert got["lower"] == pytest.approx(kl, rel=1e-7)
    assert got["upper"] == pytest.approx(kl, rel=1e-7)
    assert got["lower"] < kl < got["upper"]


def test_rounding_is_not_taken_for_dispersion() -> None:
    """Divergences of 1e-18, which a sum over the cells can only miss."""
    rng = np.random.default_rng(6)
    q = rng.dirichlet(np.full(12, 5.0), size=300)
    live = np.round(1e18 * q * (1 + 1e-9 * rng.normal(size=q.shape))).astype(np.int64)
    got = bound_one(live, q, 1000)
    np.testing.assert_array_equal(got["dispersion"], 1)
    np.testing.assert_array_equal(got["lower"], 0)


@pytest.mark.parametrize("n", [10**k for k in range(2, 18)])
def test_p_values_keep_their_digits_into_the_far_tail(n: int) -> None:
    live, q = [6 * n, 4 * n], [0.5, 0.5]
    got = bound_one(live, q, math.inf, thresholds=(0.015, 0.5))
    expected = naive_bounds.bound(live, q, [True] * 2, math.inf, 1.0, 1.0, 1.0, float(norm.isf(1e-4)), (0.015, 0.5))
    # z is a difference of numbers of its own size times sqrt(N): beyond 1e12 samples its last digits are rounding
    assert got["log10_p_warning"] == pytest.approx(expected["log10_p_warning"], rel=1e-9)
    assert got["log10_p_critical"] == pytest.approx(expected["log10_p_critical"], rel=1e-9)
    assert n < 10**7 or got["log10_p_warning"] < -1000


def test_a_rare_cell_that_carries_all_of_a_drift_does_not_break_the_approximation() -> None:
    """The variance is hundreds of times that of a chi-squared; nearly no degree of freedom is left."""
    for n_unseen in (1, 2, 5, 20):
        live = [500 - n_unseen, 500, n_unseen]
        q = jeffreys([10**6, 10**6, 0])
        got = bound_one(live, q, 20, always=[True, True, False], alpha=1e-4)
        assert got["dispersion"] > 20
        assert got["lower"] == 0  # 20 reference rows cannot tell that
        assert np.isfinite(list(got.values())).all()


# --- what must hold for any counts -----------------------------------------------------------------


@given(
    live=COUNTS,
    reference=REFERENCE,
    m=st.sampled_from([1.0, 50.0, 1e4, math.inf]),
    phi=st.tuples(st.floats(1, 50), st.floats(1, 50)),
    lambda_ratio=st.floats(1, 10),
    alpha=st.sampled_from([0.1, 0.025, 1e-3, 1e-4, 1e-6]),
)
@settings(deadline=None, max_examples=300)
def test_bounds_are_finite_ordered_and_agree_with_the_p_values(live, reference, m, phi, lambda_ratio, alpha) -> None:
    q = jeffreys(reference[: len(live)])
    arguments = {"phi": phi, "lambda_ratio": lambda_ratio, "alpha": alpha}
    got = bound_one(live, q, m, **arguments)
    assert np.isfinite(list(got.values())).all()
    assert 0 <= got["lower"] <= got["upper"]
    assert got["log10_p_warning"] <= 0
    assert got["log10_p_critical"] <= 0
    assert got["dispersion"] >= lambda_ratio
    for delta, name in ((0.01, "log10_p_warning"), (0.1, "log10_p_critical")):
        monotone = got["n_bins"] - 1 > 0.4 * got["dispersion"]
        if monotone and abs(got["lower"] - delta) > 1e-9:
            assert (got["lower"] > delta) == (10 ** got[name] < alpha), name
    if got["lower"] > 0:  # at the bound itself the p-value is alpha
        at = bound_one(live, q, m, thresholds=(got["lower"], got["upper"]), **arguments)
        assert 10 ** at["log10_p_warning"] == pytest.approx(alpha, rel=1e-6)
        assert 10 ** at["log10_p_critical"] == pytest.approx(1 - alpha, rel=1e-6)


@given(live=COUNTS, reference=REFERENCE, alphas=st.tuples(st.floats(1e-9, 0.2), st.floats(1e-9, 0.2)))
@settings(deadline=None)
def test_more_confidence_is_a_wider_interval(live, reference, alphas) -> None:
    q = jeffreys(reference[: len(live)])
    wide, narrow = (bound_one(live, q, 10_000, alpha=alpha) for alpha in sorted(alphas))
    assert wide["lower"] <= narrow["lower"] * (1 + 1e-9)
    assert wide["upper"] >= narrow["upper"] * (1 - 1e-9)


@given(live=COUNTS, empty=st.integers(1, 5), reference=REFERENCE)
@settings(deadline=None)
def test_cells_that_do_not_count_change_nothing(live, empty, reference) -> None:
    """Their smoothed share goes back to the others."""
    q = jeffreys(reference[: len(live)])
    n_cells = len(live) + empty
    more = np.concatenate([q * 0.99, np.full(empty, 0.01 / empty)])
    got = bound_one([*live, *[0] * empty], more, 5000, always=np.arange(n_cells) < len(live))
    expected = bound_one(live, q, 5000)
    for name in BOUNDS:
        assert got[name] == pytest.approx(expected[name], rel=1e-6, abs=1e-9), name


def test_a_structural_cell_counts_once_it_holds_something() -> None:
    always = [True, True, True, False, False]
    q = jeffreys([500, 300, 200, 0, 0])
    assert bound_one([50, 30, 20, 0, 0], q, 1000, always=always)["n_bins"] == 3
    assert bound_one([50, 30, 20, 0, 1], q, 1000, always=always)["n_bins"] == 4


def test_smaller_or_clustered_windows_know_less() -> None:
    p, q = np.array([0.1, 0.2, 0.3, 0.4]), np.full(4, 0.25)
    kl = float((p * np.log(p / q)).sum())
    widths = []
    for n in (100, 300, 1000, 10_000, 1_000_000):
        got = bound_one((p * n).astype(np.int64), q, math.inf, alpha=0.025)
        assert got["lower"] < kl < got["upper"]
        widths.append(got["upper"] - got["lower"])
    assert widths == sorted(widths, reverse=True)
    lowers = [
        bound_one((p * 1000).astype(np.int64), q, 1e4, phi=(phi, phi), lambda_ratio=ratio)["lower"]
        for phi, ratio in ((1.0, 1.0), (1.0, 2.0), (2.0, 2.0), (5.0, 2.0), (50.0, 2.0))
    ]
    assert lowers == sorted(lowers, reverse=True)
    assert lowers[0] > 0 == lowers[-1]


# --- whether they keep their promise ---------------------------------------------------------------


def normal_cells(shift, n_bins=16):
    edges = np.concatenate([[-np.inf], np.linspace(-2, 2, n_bins - 1), [np.inf]])
    return np.diff(norm.cdf(edges, loc=shift))


def simulate(p, q, n, m, windows, **arguments):
    rng = np.random.default_rng(17)
    live, reference = rng.multinomial(n, p, size=windows), rng.multinomial(m, q, size=windows)
    return bound_one(live, jeffreys(reference), m, **arguments)


@pytest.mark.parametrize(("n", "m"), [(300, 10_000), (3000, 10_000), (100_000, 10_000), (3000, 10**9)])
@pytest.mark.parametrize("shift", [0.1, 0.25, 0.5, 1.0])
def test_a_95_percent_interval_covers_in_95_percent(shift: float, n: int, m: int) -> None:
    p, q = normal_cells(shift), normal_cells(0)
    kl = float((p * np.log(p / q)).sum())
    got = simulate(p, q, n, m, 10_000, alpha=0.025)
    covered = float(((got["lower"] <= kl) & (kl <= got["upper"])).mean())
    assert 0.94 < covered < 0.965  # 95 and six standard errors
    assert float((got["lower"] > kl).mean()) < 0.035


def test_quiet_windows_raise_no_alarm() -> None:
    q = normal_cells(0)
    for n, m in ((200, 10_000), (1000, 2000), (10_000, 10_000)):
        got = simulate(q, q, n, m, 2000)
        assert (got["lower"] > 0).sum() <= 3
        assert (got["lower"] > 0.005).sum() == 0
        assert (got["log10_p_warning"] < -4).sum() == 0


def test_a_coin_with_empty_structural_cells_is_quiet() -> None:
    """Two bins and three cells that take part in the smoothing only; 15 % before their share was given back."""
    rng = np.random.default_rng(4)
    p = [0.5, 0.5, 0.0, 0.0, 0.0]
    live, reference = rng.multinomial(10_000, p, size=10_000), rng.multinomial(1000, p, size=10_000)
    got = bound_one(live, jeffreys(reference), 1000, always=[True, True, False, False, False], alpha=0.025)
    assert 0.015 < float((got["lower"] > 0).mean()) < 0.035


def test_drift_is_found() -> None:
    got = simulate(normal_cells(0.5), normal_cells(0), 1000, 10_000, 1000)
    assert (got["lower"] > 0.01).mean() > 0.99
    assert (got["log10_p_warning"] < -4).mean() > 0.99


# --- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in scenario() if name != "z_quantile"] + ["out"])
def test_another_type_or_shape_is_refused(name: str) -> None:
    arguments = {**scenario(), "out": np.zeros((6, 6, len(BOUNDS)))}
    arguments[name] = arguments[name].astype(np.float32)
    with pytest.raises(ValueError, match=f"{name}: expected contiguous .*, got float32"):
        bound_counts(**arguments)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_a_quantile_that_bounds_nothing_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="z_quantile: expected a finite number above 0, got"):
        bound_counts(**{**scenario(), "z_quantile": wrong}, out=np.zeros((6, 6, len(BOUNDS))))


def test_no_features_are_fine() -> None:
    none = np.zeros((2, 0))
    empty = np.zeros(0)
    out = np.zeros((2, 0, len(BOUNDS)))
    counts, always = np.zeros((2, 0), dtype=np.int64), np.zeros(0, dtype=np.bool_)
    offsets = np.zeros(1, dtype=np.int64)
    bound_counts(counts, empty, always, offsets, empty, none, empty, none, 3.0, np.zeros((0, 2)), out)


if __name__ == "__main__":
    np.save(sys.argv[1], results(2))
