import math

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from kldrift.drift.judging.states import severity
from kldrift.drift.judging.verdicts import discoveries, feature_log10_p_values, verdicts


def test_severities_are_reached_in_order() -> None:
    found = [severity(lower, 0.01, 0.1) for lower in (0.0, 0.01, 0.011, 0.1, 0.11, math.inf)]
    assert found == [None, None, "warning", "warning", "critical", "critical"]


def test_an_undecided_series_has_no_severity() -> None:
    assert severity(math.nan, 0.01, 0.1) is None


@pytest.mark.parametrize("correction", ["bh", "by"])
def test_discoveries_match_scipys_adjusted_p_values(correction) -> None:
    rng = np.random.default_rng(1)
    for m in (1, 2, 7, 100):
        for _ in range(50):
            p = rng.uniform(size=m) ** rng.integers(1, 8)
            expected = false_discovery_control(p, method=correction) <= 0.05
            np.testing.assert_array_equal(discoveries(np.log10(p), 0.05, correction), expected)


def test_the_false_discovery_rate_is_held_over_independent_features() -> None:
    rng = np.random.default_rng(2)
    shares = []
    for _ in range(2_000):
        p = rng.uniform(size=40)
        p[:10] *= 1e-4  # ten have drifted
        found = discoveries(np.log10(p), 0.1, "bh")
        shares.append(found[10:].sum() / max(1, found.sum()))
    # at most alpha times the share of features that have not drifted
    assert np.mean(shares) == pytest.approx(0.1 * 30 / 40, abs=0.01)


def test_p_values_below_the_smallest_float_stay_distinct() -> None:
    log10_p = np.array([-400.0, -0.5, -1e6])
    assert discoveries(log10_p, 1e-300, "bh").tolist() == [True, False, True]
    assert discoveries(np.array([-np.inf, 0.0]), 1e-4, "bh").tolist() == [True, False]


def test_a_features_p_value_is_bonferronis_over_its_windows() -> None:
    log10_p = np.log10([[0.01, 0.5, np.nan, np.nan], [0.002, 0.9, 0.03, np.nan]])
    np.testing.assert_allclose(10 ** feature_log10_p_values(log10_p), [0.004, 1.0, 0.06, np.nan])


def test_undecided_features_have_no_verdict_and_do_not_count() -> None:
    p = np.array([[[1e-5, 1e-3], [np.nan, np.nan], [0.2, 0.9]]])
    # among two features p = 1e-5 is enough for alpha = 1e-4, among three or more with undecided ones too
    assert verdicts(np.log10(p), 1e-4, "bh").tolist()[0] == [1.0, 0.0]
    assert np.isnan(verdicts(np.log10(p), 1e-4, "bh")[1]).all()
    many = np.concatenate([p, np.full((1, 3, 2), np.nan)])  # a second window, undecided: it counts
    assert verdicts(np.log10(many), 3e-5, "bh").tolist()[0] == [0.0, 0.0]
    assert verdicts(np.log10(p), 3e-5, "bh").tolist()[0] == [1.0, 0.0]
    assert np.isnan(verdicts(np.full((2, 3, 2), np.nan), 1e-4, "by")).all()


def test_whatever_is_critical_is_also_a_warning() -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        warning = rng.uniform(size=(2, 12)) ** 6
        critical = warning + (1 - warning) * rng.uniform(size=(2, 12)) ** 3
        detected = verdicts(np.log10(np.stack([warning, critical], axis=2)), 0.05, "bh")
        assert np.all(detected[:, 0] >= detected[:, 1])
