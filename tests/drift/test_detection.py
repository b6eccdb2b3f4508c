import math

import numpy as np
import pytest
from scipy.stats import chi2

from kldrift.drift.detection import NOISE_FLOORS, SMALL_SAMPLE, severity


def test_severities_are_reached_in_order() -> None:
    found = [severity(kl, 0.01, 8000, 0.01, 0.1) for kl in (0.0, 0.040, 0.042, 0.13, 0.14, math.inf)]
    assert found == [None, None, "warning", "warning", "critical", "critical"]


def test_nothing_is_said_of_an_empty_window() -> None:
    assert severity(math.nan, math.nan, 0, 0.01, 0.1) is None


@pytest.mark.parametrize("degrees", [1, 2, 5, 18, 66, 1000])
def test_chance_alone_exceeds_the_bound_in_fewer_than_2_in_100000(degrees: int) -> None:
    # 2 N KL > 3 k + 16
    assert chi2.sf(NOISE_FLOORS * degrees + 2 * SMALL_SAMPLE, degrees) < 2.1e-5


def test_quiet_streams_stay_quiet_by_simulation() -> None:
    rng = np.random.default_rng(8)
    n, bins = 200, 19
    q = np.full(bins, 1 / bins)
    p = rng.multinomial(n, q, size=20_000) / n
    kl = (p * np.log(np.where(p > 0, p / q, 1))).sum(axis=1)
    alarms = [severity(value, (bins - 1) / (2 * n), n, 0.0001, 0.1) for value in kl]
    assert sum(alarm is not None for alarm in alarms) <= 2
