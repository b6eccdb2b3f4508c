"""Whether the order of a reference is that of time: which streams are taken as what, and what follows from it."""

from collections.abc import Callable

import numpy as np
import pytest

from kldrift.drift.judging.evaluation import Evaluation
from kldrift.drift.monitor import Monitor
from kldrift.drift.references.data import build_references
from kldrift.drift.references.stretches import lasting_difference
from kldrift.records.samples import SampleBatch
from kldrift.records.snapshots import MonitorSnapshot
from kldrift.records.specs import FeatureSpec, MonitorSpec, WindowSpec
from kldrift.records.types import FloatArray

X = FeatureSpec("x", "numeric")
Stream = Callable[[int, np.random.Generator], FloatArray]


def autoregressive(r: float) -> Stream:
    def make(m: int, rng: np.random.Generator) -> FloatArray:
        noise = rng.normal(size=m) * np.sqrt(1 - r * r)
        values = np.empty(m)
        values[0] = rng.normal()
        for i in range(1, m):
            values[i] = r * values[i - 1] + noise[i]
        return values

    return make


def daily(days: int) -> Stream:
    return lambda m, rng: rng.normal(size=m) + np.sin(2 * np.pi * np.arange(m) * days / m)


def drifting(sigmas: float) -> Stream:
    return lambda m, rng: rng.normal(size=m) + sigmas * np.arange(m) / m


def by_label(shift: float) -> Stream:
    return lambda m, rng: np.concatenate([rng.normal(size=m // 3), rng.normal(size=m - m // 3) + shift])


def by_customer(n: int) -> Stream:
    return lambda m, rng: rng.normal(size=m) + np.repeat(rng.normal(size=n), m // n + 1)[:m]


def independent(m: int, rng: np.random.Generator) -> FloatArray:
    return rng.normal(size=m)


#: Streams with the share of references of 5,000 rows in which stretches are found to differ by more than 0.1 nats for
#: good: none of those that time evens out, all of those that it does not.
STATIONARY: dict[str, Stream] = {
    "independent": independent,
    "AR(.5)": autoregressive(0.5),
    "AR(.9)": autoregressive(0.9),
    "AR(.95)": autoregressive(0.95),
    "16 days": daily(16),
    "60 days": daily(60),
    "half a sigma in all": drifting(0.5),
    "64 customers": by_customer(64),
    "500 customers": by_customer(500),
    "shuffled": lambda m, rng: rng.permutation(np.sort(rng.normal(size=m))),
}
LASTING: dict[str, Stream] = {
    "sorted": lambda m, rng: np.sort(rng.normal(size=m)),
    "sorted downwards": lambda m, rng: -np.sort(rng.exponential(size=m)),
    "by label": by_label(3.0),
    "4 days": daily(4),
    "two sigma in all": drifting(2.0),
    "random walk": lambda m, rng: np.cumsum(rng.normal(size=m)),
    "AR(.995)": autoregressive(0.995),
}


def difference(values: FloatArray) -> float:
    (reference,) = build_references([X], [values], 0, "r")
    assert reference.panes is not None
    return lasting_difference(reference.panes)


#: Streams whose memory is so long that a reference of 640 rows is mostly undecided.
LONG_MEMORY = ["AR(.9)", "AR(.95)"]


@pytest.mark.parametrize(
    ("name", "m"),
    [(name, m) for m in (640, 5_000) for name in STATIONARY if m > 640 or name not in (*LONG_MEMORY, "64 customers")],
)
def test_what_time_evens_out_is_taken_as_time(name: str, m: int) -> None:
    rng = np.random.default_rng(11)
    found = [difference(STATIONARY[name](m, rng)) for _ in range(20)]
    assert sum(d > 0.1 for d in found) == 0, found


@pytest.mark.parametrize("name", LONG_MEMORY)
def test_a_reference_that_is_short_for_its_memory_is_undecided(name: str) -> None:
    rng = np.random.default_rng(11)
    assert sum(difference(STATIONARY[name](640, rng)) > 0.1 for _ in range(20)) >= 12
    assert sum(difference(STATIONARY[name](3_000, rng)) > 0.1 for _ in range(20)) <= 2


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_is_no_order_to_measure_by(name: str) -> None:
    rng = np.random.default_rng(12)
    found = [difference(LASTING[name](5_000, rng)) for _ in range(10)]
    assert all(d > 0.1 for d in found), found


def test_twenty_customers_one_after_another_are_mostly_found() -> None:
    rng = np.random.default_rng(13)
    assert sum(difference(by_customer(20)(5_000, rng)) > 0.1 for _ in range(20)) >= 16


def test_independent_rows_hardly_ever_differ_however_few_they_are() -> None:
    rng = np.random.default_rng(14)
    found = [difference(rng.normal(size=m)) for m in (160, 200, 400, 1_000) for _ in range(250)]
    assert sum(d > 0.1 for d in found) <= 2


def test_the_difference_is_what_it_says() -> None:
    panes = np.repeat(np.array([[300, 100, 0], [100, 300, 0]]), 32, axis=0)
    p, q = np.array([0.75, 0.25]), np.array([0.5, 0.5])
    expected = float((p * np.log(p / q)).sum()) - 15 * 1 / (2 * panes.sum())
    assert lasting_difference(panes) == pytest.approx(expected, rel=1e-12)
    assert lasting_difference(panes[:63]) == 0.0
    assert lasting_difference(panes[:, :1]) == 0.0


def judged(reference: FloatArray, live: FloatArray, critical: float = 0.1) -> MonitorSnapshot:
    feature = FeatureSpec("x", "numeric", critical=critical, warning=critical / 10)
    monitor = Monitor(
        MonitorSpec("m", (feature,), (WindowSpec("1h", 3_600_000),)), build_references([feature], [reference], 0, "r")
    )
    monitor.add(SampleBatch(live.size, (live,)), "s", 1_700_000_000_000)
    return monitor.evaluate(1_700_000_000_000)


def test_a_sorted_reference_is_undecided_with_the_reason_and_shuffled_it_finds_the_drift() -> None:
    rng = np.random.default_rng(15)
    values, live = rng.normal(size=5_000), rng.normal(3.0, 1.0, 2_000)
    in_order = judged(np.sort(values), live)
    assert not in_order.ready[0, 0]
    assert np.isnan(in_order.lower[0, 0])
    problem = in_order.features[0].problem
    assert problem is not None
    assert problem.startswith("stretches of the reference differ by 2.1 nats, more than the tolerance of 0.1")
    shuffled = judged(values, live)
    assert shuffled.features[0].problem is None
    assert shuffled.lower[0, 0] > 3
    assert shuffled.upper[0, 0] < 5


def test_stretches_may_differ_by_less_than_the_tolerance() -> None:
    rng = np.random.default_rng(16)
    reference = by_label(1.0)(5_000, rng)  # by 0.09 nats
    assert judged(reference, rng.normal(size=500), critical=0.2).features[0].problem is None
    assert judged(reference, rng.normal(size=500), critical=0.05).features[0].problem is not None


def test_the_parts_of_a_previous_period_are_not_judged_by_their_order() -> None:
    (reference,) = build_references([X], [np.sort(np.random.default_rng(17).normal(size=5_000))], 0, "r")
    assert reference.of_independent_rows().panes is not None
    spec = MonitorSpec("m", (X,), (WindowSpec("1h", 3_600_000),))
    assert Evaluation(spec, [reference.of_independent_rows()]).features[0].problem is None
    assert reference.of_independent_rows().reference_hash == reference.reference_hash
