"""The bound on the divergence of a feature that is constant in its reference."""

import numpy as np
import pytest
from scipy.stats import binom

from kldrift.drift.judging.constants import lower_bound


def kl(p: float, q: float) -> float:
    return p * np.log(p / q) + ((1 - p) * np.log((1 - p) / (1 - q)) if p < 1 else 0.0)


def test_it_is_the_divergence_of_the_shares_that_the_counts_barely_allow() -> None:
    n_others, n, m, alpha = 400, 4000, 5000, 0.01
    at = np.linspace(0, 1, 1_000_001)[1:-1]
    # at the least share 400 or more of 4,000 have the probability alpha / 2, at the largest one 0 of 5,000 have it
    p = at[binom.sf(n_others - 1, n, at) >= alpha / 2][0]
    q = at[binom.pmf(0, m, at) >= alpha / 2][-1]
    assert lower_bound(n_others, n, m, 1 - alpha) == pytest.approx(kl(p, q), rel=1e-4)


def test_all_other_values_are_as_far_as_the_reference_is_long() -> None:
    assert lower_bound(10**6, 10**6, 10**4, 0.9999) == pytest.approx(np.log(10**4 / -np.log(0.00005)), rel=0.001)


@pytest.mark.parametrize(("n_others", "n", "m"), [(0, 1000, 1000), (1, 1000, 1000), (1, 1, 5), (3, 10, 10)])
def test_few_other_values_may_be_chance(n_others: int, n: int, m: int) -> None:
    assert lower_bound(n_others, n, m, 0.9999) == 0


def test_it_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    true_p, true_q, n, m, alpha = 0.05, 0.001, 500, 400, 0.05
    others, in_reference = rng.binomial(n, true_p, 20_000), rng.binomial(m, true_q, 20_000)
    constant = others[in_reference == 0].tolist()
    above = np.mean([lower_bound(k, n, m, 1 - alpha) > kl(true_p, true_q) for k in constant])
    assert above <= alpha
