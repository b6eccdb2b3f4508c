"""References written in the configuration: what they know of missing values, and what they do not."""

import math

import numpy as np
import pytest
from scipy.special import rel_entr

from kldrift.drift.judging.explanation import explain
from kldrift.drift.judging.sensitivity import smallest_in_window
from kldrift.drift.judging.states import feature_states
from kldrift.drift.monitor import Monitor
from kldrift.drift.references.family import family_reference
from kldrift.drift.references.given import fixed_reference, inline_reference
from kldrift.drift.references.reference import FeatureReference
from kldrift.drift.segments import Segmentation
from kldrift.records.samples import SampleBatch, Vocabulary
from kldrift.records.snapshots import MonitorSnapshot
from kldrift.records.specs import (
    FeatureSpec,
    MonitorSpec,
    ReferenceFamily,
    ReferenceInline,
    SegmentSpec,
    WindowSpec,
)
from kldrift.records.types import Estimator
from tests.drift.builders import HOUR

NOW = 1_700_000_000_000
COIN = FeatureSpec("x", "categorical")
NUMBER = FeatureSpec("x", "numeric")
#: Codes of the coin.
HEADS, TAILS, UNSEEN, NULL = range(4)


def coin(missing: float | None = None) -> FeatureReference:
    return inline_reference(COIN, ReferenceInline(None, ("heads", "tails"), None, (0.5, 0.5), missing), 0)


def counted(missing: float | None = None) -> FeatureReference:
    return inline_reference(COIN, ReferenceInline(None, ("heads", "tails"), (4_500, 4_500), None, missing), 0)


def of_family(missing: float | None = None) -> FeatureReference:
    given = ReferenceFamily("bernoulli", (("p", 0.5),), missing=missing)
    return family_reference(COIN, given, None, 0, "bernoulli")


WRITTEN = [coin, counted, of_family]


def against(
    reference: FeatureReference, *counts: int, invalid: int = 0, estimator: Estimator = "kldrift"
) -> MonitorSnapshot:
    """A window of so many heads, tails, unseen and missing values; the last of the missing ones are invalid."""
    watched = Monitor(MonitorSpec("m", (COIN,), (WindowSpec("1h", HOUR),), estimator=estimator), [reference])
    codes = np.repeat(np.arange(4), counts).astype(np.int32)
    watched.add(
        SampleBatch(codes.size, (codes,), invalid=((0, np.arange(codes.size - invalid, codes.size)),)), "s", NOW
    )
    return watched.evaluate(NOW)


@pytest.mark.parametrize("make", WRITTEN)
def test_missing_values_beside_values_that_fit_are_no_drift_where_the_reference_does_not_know_them(make) -> None:
    """The KL of a fair coin with 10 % nulls was above 1, critical for ever."""
    without = against(make(), 4_500, 4_500, 0, 0)
    found = against(make(), 4_500, 4_500, 0, 1_000, invalid=400)
    assert (found.samples[0, 0], found.missing_ratio[0, 0], found.invalid_ratio[0, 0]) == (10_000, 0.06, 0.04)
    assert found.divergences[0, 0, 0] < 1e-3
    assert feature_states(found) == ["quiet"]
    for name in ("divergences", "lower", "upper", "noise_floor", "effective_samples", "dispersion", "ready"):
        np.testing.assert_array_equal(getattr(found, name), getattr(without, name), err_msg=name)
    assert np.isfinite(found.divergences).all()
    (limit,) = found.features[0].limits
    assert limit.startswith("missing and invalid values are not part of the divergence")


@pytest.mark.parametrize("make", WRITTEN)
def test_with_a_share_of_missing_values_that_share_is_none_and_others_are_a_drift(make) -> None:
    found = against(make(0.1), 4_500, 4_500, 0, 1_000)
    assert found.divergences[0, 0, 0] < 1e-3
    assert feature_states(found) == ["quiet"]
    assert found.features[0].limits == ()
    for share in (0.3, 0.0):
        half = round(5_000 * (1 - share))
        other = against(make(0.1), half, half, 0, 10_000 - 2 * half)
        p, q = [(1 - share) / 2, (1 - share) / 2, share], [0.45, 0.45, 0.1]
        assert other.divergences[0, 0, 0] == pytest.approx(rel_entr(p, q).sum(), abs=2e-4)
        assert feature_states(other) == ["critical" if share else "warning"]
    invalid = against(make(0.1), 4_500, 4_500, 0, 1_000, invalid=1_000)
    assert feature_states(invalid) == ["critical"]


def test_that_no_value_is_missing_can_be_written_too() -> None:
    found = against(coin(0.0), 4_500, 4_500, 0, 1_000)
    expected = 0.9 * math.log(0.9) + 0.1 * math.log(0.1 / 0.5e-6)
    assert found.divergences[0, 0, 0] == pytest.approx(expected, rel=1e-4)
    assert feature_states(found) == ["critical"]


def test_the_share_beside_counts_is_one_of_all_rows() -> None:
    reference = counted(0.1)
    assert reference.counts is not None
    assert reference.counts.tolist() == [4_500, 4_500, 0, 0, 1_000, 0]
    assert (reference.rows, counted().rows) == (10_000, 9_000)


def test_what_a_reference_knows_is_part_of_its_identity() -> None:
    for make in WRITTEN:
        assert len({make(missing).reference_hash for missing in (None, 0.0, 0.1)}) == 3
        assert len({make(missing).bins_hash for missing in (None, 0.0, 0.1)}) == 1


def test_a_shift_of_the_values_is_found_whatever_is_missing() -> None:
    found = against(coin(), 6_000, 3_000, 0, 1_000)
    assert found.divergences[0, 0, 0] == pytest.approx(rel_entr([2 / 3, 1 / 3], [0.5, 0.5]).sum(), rel=1e-4)
    assert feature_states(found) == ["warning"]
    new = against(coin(), 4_500, 4_500, 500, 500)
    assert new.unseen_ratio[0, 0] == 0.05
    assert feature_states(new) == ["critical"]


@pytest.mark.parametrize(("heads", "ready"), [(9, False), (10, True)])
def test_missing_values_do_not_make_a_window_ready(heads: int, ready: bool) -> None:
    found = against(coin(), heads, 10, 0, 500)
    assert found.ready.tolist() == [[ready]]


def test_missing_values_do_not_make_a_smaller_drift_visible() -> None:
    found, without = (against(coin(), 200, 200, 0, n) for n in (5_000, 0))
    assert (found.judged_samples(0, 0), found.samples[0, 0]) == (400, 5_400)
    assert smallest_in_window(found, 0, 0) == smallest_in_window(without, 0, 0) is not None
    known = against(coin(0.1), 200, 200, 0, 5_000)
    assert known.judged_samples(0, 0) == 5_400


def test_a_window_of_nothing_but_missing_values_is_absent() -> None:
    found = against(coin(), 0, 0, 0, 500)
    assert found.missing_ratio[0, 0] == 1
    assert np.isnan(found.divergences[0, 0]).all()
    assert feature_states(found) == ["absent"]


def test_the_divergence_follows_from_the_cells_that_have_a_probability() -> None:
    found = against(coin(), 6_000, 3_000, 0, 1_000, invalid=300)
    counts, q = found.counts[0], found.reference_probabilities[0]
    assert counts.tolist() == [6_000, 3_000, 0, 0, 700, 300]
    compared = ~np.isnan(q)
    assert compared.tolist() == [True] * 4 + [False] * 2
    p = counts[compared] / counts[compared].sum()
    assert q[compared].sum() == pytest.approx(1)
    assert rel_entr(p, q[compared]).sum() == pytest.approx(found.divergences[0, 0, 0], rel=1e-12)
    explained = explain(counts, q, "categorical")
    assert explained.kl == pytest.approx(found.divergences[0, 0, 0], rel=1e-12)
    assert (explained.missing, explained.invalid) == (0, 0)
    assert explained.new + explained.shape == pytest.approx(explained.kl, rel=1e-12)
    assert explained.contributions[-2:].tolist() == [0, 0]
    nothing = explain(np.array([0, 0, 0, 0, 5, 5]), q, "categorical")
    assert math.isnan(nothing.kl)


@pytest.mark.parametrize("estimator", ["evidently", "boxkite", "mlrun", "driftwatch"])
def test_the_estimators_of_other_tools_leave_them_out_as_well(estimator: Estimator) -> None:
    found, without = (against(coin(), 6_000, 3_000, 0, n, estimator=estimator) for n in (1_000, 0))
    assert found.divergences[0, 0, 0] == without.divergences[0, 0, 0] > 0


def test_only_the_features_that_say_nothing_leave_cells_out() -> None:
    """Beside each other, in segments too."""
    spec = MonitorSpec("m", (COIN, COIN, NUMBER), (WindowSpec("1h", HOUR),), segments=SegmentSpec("s", 2))
    number = inline_reference(NUMBER, ReferenceInline((0.0, 1.0, 2.0), None, None, (0.5, 0.5)), 0)
    watched = Monitor(spec, [coin(0.1), coin(), number], Segmentation())
    vocabulary = watched.schema.features[-1].vocabulary
    assert isinstance(vocabulary, Vocabulary)
    codes = np.repeat([HEADS, TAILS, NULL], [4_500, 4_500, 1_000]).astype(np.int32)
    numbers = np.repeat([0.5, 1.5, np.nan], [4_500, 4_500, 1_000])
    segments = np.array([vocabulary.code("ab"[i % 2]) for i in range(10_000)], dtype=np.int32)
    watched.add(SampleBatch(10_000, (codes, codes, numbers, segments)), "s", NOW)
    found = watched.evaluate(NOW)
    for one in (found, *found.segments):
        assert one.divergences[0, :, 0].max() < 1e-3
        assert one.missing_ratio[0].tolist() == [0.1] * 3
        assert feature_states(one) == ["quiet"] * 3
    assert found.samples[0].tolist() == [10_000] * 3
    assert np.isnan(found.reference_probabilities[0]).tolist() == [False] * 6 + ([False] * 4 + [True] * 2) * 2


@pytest.mark.parametrize(
    ("family", "parameters"),
    [("normal", {"mean": 0.0, "std": 1.0}), ("uniform", {"low": 0.0, "high": 1.0}), ("poisson", {"rate": 4.0})],
)
def test_families_of_numbers(family, parameters) -> None:
    for missing in (None, 0.0, 0.25):
        given = ReferenceFamily(family, tuple(parameters.items()), missing=missing)
        reference = family_reference(NUMBER, given, None, 0, family)
        assert reference.knows_missing is (missing is not None)
        assert reference.probabilities is not None
        assert reference.probabilities.sum() == pytest.approx(1, abs=1e-12)
        assert reference.probabilities[-2:].tolist() == [missing or 0, 0]


def test_vectors_do_not_know_either_and_a_posterior_has_none_missing() -> None:
    vector, posterior = (FeatureSpec("z", kind, dimensions=2) for kind in ("vector", "posterior"))
    for missing, share in ((None, math.nan), (0.2, 0.2)):
        given = ReferenceFamily("normal", (("mean", 0.0), ("std", 1.0)), missing=missing)
        made = family_reference(vector, given, None, 0, "normal")
        watched = Monitor(MonitorSpec("m", (vector,), (WindowSpec("1h", HOUR),)), [made])
        values = np.random.default_rng(1).normal(size=(2_000, 2))
        values[:400] = np.nan
        watched.add(SampleBatch(2_000, (values,)), "s", NOW)
        found = watched.evaluate(NOW)
        assert (found.samples[0, 0], found.missing_ratio[0, 0]) == (2_000, 0.2)
        assert feature_states(found) == ["quiet"]
        assert found.reference_probabilities[0, -2] == pytest.approx(share, abs=1e-5, nan_ok=True)
        assert found.features[0].limits == ()
    assert fixed_reference(posterior, 0).knows_missing
