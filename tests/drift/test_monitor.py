"""A monitor over time; instants are given, never read."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr

from kldrift.drift.judging.divergences import divergences
from kldrift.drift.kinds.categorical import MAX_FOLDED
from kldrift.records.divergences import DIVERGENCES, KNOWN_DIVERGENCES
from kldrift.records.samples import CategoricalColumn
from kldrift.records.specs import FeatureSpec, Smoothing, WindowSpec
from tests.drift.builders import HOUR, MINUTE, batch, categorical, edges_spec, monitor

NOW = 1_700_000_000_000 // HOUR * HOUR
UNIFORM = np.repeat([0.5, 1.5, 2.5], 100)


def test_a_window_without_samples_has_no_divergence() -> None:
    snapshot = monitor((edges_spec(), UNIFORM)).evaluate(NOW)
    assert snapshot.samples.tolist() == [[0]]
    assert np.isnan(snapshot.divergences).all()
    assert np.isnan(snapshot.noise_floor).all()
    assert not snapshot.ready.any()


def test_a_snapshot_cannot_be_written_to() -> None:
    snapshot = monitor((edges_spec(), UNIFORM)).evaluate(NOW)
    arrays = [value for name in snapshot.__slots__ if isinstance(value := getattr(snapshot, name), np.ndarray)]
    assert len(arrays) == 21
    assert not any(array.flags.writeable for array in arrays)


def test_the_worked_example_without_smoothing_is_0_0201355() -> None:
    reference = categorical(["heads"] * 50 + ["tails"] * 50)
    watched = monitor((FeatureSpec("coin", "categorical"), reference), smoothing=Smoothing("none", 0.0, 0.0))
    codes = np.array([watched.schema.features[0].categories.index("heads")] * 40 + [1] * 60, dtype=np.int32)
    watched.add(batch(codes), "s", NOW)
    kl = watched.evaluate(NOW).divergences[0, 0, DIVERGENCES.index("kl")]
    assert kl == pytest.approx(0.4 * np.log(0.4 / 0.5) + 0.6 * np.log(0.6 / 0.5), rel=1e-14)
    assert round(float(kl), 7) == 0.0201355


def test_every_divergence_is_that_of_its_counts() -> None:
    rng = np.random.default_rng(4)
    colours = ["red"] * 500 + ["green"] * 300 + ["blue"] * 195 + ["odd"] * 3 + [None] * 2
    numbers = rng.normal(size=1000)
    watched = monitor(
        (FeatureSpec("x", "numeric"), numbers),
        (FeatureSpec("colour", "categorical"), categorical(colours)),
    )
    n_codes = len(watched.schema.features[1].categories)
    live = np.concatenate([rng.normal(0.3, 1, 700), [np.nan, np.inf, -np.inf]])
    watched.add(batch(live, rng.integers(0, n_codes + 2, 703).astype(np.int32)), "s", NOW)
    snapshot = watched.evaluate(NOW)
    assert snapshot.samples.tolist() == [[703, 703]]
    for f, info in enumerate(snapshot.features):
        cells = slice(snapshot.offsets[f], snapshot.offsets[f + 1])
        p = snapshot.counts[0, cells] / snapshot.samples[0, f]
        q = info.reference_probabilities
        assert info.reference_counts is not None
        np.testing.assert_allclose(q, (info.reference_counts + 0.5) / (1000 + 0.5 * q.size), rtol=1e-15)
        assert snapshot.divergences[0, f, 0] == pytest.approx(rel_entr(p, q).sum(), rel=1e-12)
        pure = divergences(p, q)
        for column, divergence in enumerate(KNOWN_DIVERGENCES):
            if not divergence.smoothed:
                assert snapshot.divergences[0, f, column] == pytest.approx(pure[divergence.name], rel=1e-12)
        smooth = (snapshot.counts[0, cells] + 0.5) / (703 + 0.5 * q.size)
        reverse = snapshot.divergences[0, f, DIVERGENCES.index("reverse_kl")]
        psi = snapshot.divergences[0, f, DIVERGENCES.index("psi")]
        assert reverse == pytest.approx(rel_entr(q, smooth).sum(), rel=1e-12)
        assert psi == pytest.approx(((smooth - q) * np.log(smooth / q)).sum(), rel=1e-12)
    assert snapshot.missing_ratio[0, 0] == pytest.approx(1 / 703)
    outside = int(((live < numbers.min()) | (live > numbers.max())).sum())
    assert outside > 2
    assert snapshot.out_of_range_ratio[0, 0] == pytest.approx(outside / 703)
    assert np.isnan(snapshot.unseen_ratio[0, 0])
    assert np.isnan(snapshot.out_of_range_ratio[0, 1])


def test_rare_categories_share_a_cell_and_new_ones_are_unseen() -> None:
    watched = monitor((FeatureSpec("c", "categorical"), categorical(["a"] * 90 + ["b"] * 20 + ["rare"] * 3 + [None])))
    schema = watched.schema.features[0]
    assert schema.categories == ("a", "b", "rare")
    assert watched.features[0].cells == ("a", "b", "other", "unseen", "missing", "invalid")
    watched.add(batch(np.array([0, 0, 1, 2, 3, 3, 3, 4], dtype=np.int32)), "s", NOW)
    snapshot = watched.evaluate(NOW)
    assert snapshot.counts[0].tolist() == [2, 1, 1, 3, 1, 0]
    assert snapshot.unseen_ratio[0, 0] == pytest.approx(3 / 8)


@pytest.mark.parametrize(("n_rare", "known"), [(MAX_FOLDED, True), (MAX_FOLDED + 1, False)])
def test_the_share_of_new_values_is_exact_or_unknown_and_never_0_instead(n_rare: int, known: bool) -> None:
    names = ("a", *(f"rare {i}" for i in range(n_rare)))
    column = CategoricalColumn(names, np.concatenate([np.zeros(1_000), np.arange(1, n_rare + 1)]).astype(np.int32))
    watched = monitor((FeatureSpec("c", "categorical"), column))
    feature = watched.schema.features[0]
    live = np.repeat([0, 5, feature.unseen_code, feature.missing_code], [5_000, 3_385, 1_615, 0]).astype(np.int32)
    watched.add(batch(live), "s", NOW)
    snapshot = watched.evaluate(NOW)
    (info,) = snapshot.features
    if known:
        assert snapshot.unseen_ratio[0, 0] == 0.1615
        assert info.limits == ()
    else:
        assert np.isnan(snapshot.unseen_ratio[0, 0])
        (limit,) = info.limits
        assert limit.startswith("the share of new values is unknown: only the names of 10,000 rare categories are kept")


def test_an_invalid_value_has_a_cell_of_its_own() -> None:
    watched = monitor((edges_spec("x"), UNIFORM), (edges_spec("y"), UNIFORM))
    nan = np.nan
    result = watched.add(batch([0.5, nan, nan], [0.5, 1.5, nan], invalid=[(0, [1]), (1, [2])]), "s", NOW)
    assert result.invalid.tolist() == [1, 1]
    snapshot = watched.evaluate(NOW)
    assert snapshot.samples.tolist() == [[3, 3]]
    assert snapshot.counts[0].tolist() == [1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1]
    assert snapshot.missing_ratio.tolist() == [[1 / 3, 0]]
    assert snapshot.invalid_ratio.tolist() == [[1 / 3, 1 / 3]]


def test_readiness_takes_ten_samples_per_bin_and_a_usable_reference() -> None:
    mixed = np.random.default_rng(0).permutation(UNIFORM)  # sorted, it supports no verdict either
    for reference, enough in [(mixed, True), (UNIFORM[::15], False)]:
        watched = monitor((edges_spec(), reference))
        for n, ready in [(29, False), (1, enough)]:
            watched.add(batch(np.full(n, 0.5)), "s", NOW)
            assert watched.evaluate(NOW).ready.tolist() == [[ready]]
    assert watched.features[0].problem is not None
    assert "20 rows for 3 bins" in watched.features[0].problem


def test_the_noise_floor_is_the_kl_expected_without_drift() -> None:
    rng = np.random.default_rng(5)
    watched = monitor((FeatureSpec("x", "numeric"), rng.normal(size=20_000)))
    kl, floor = [], []
    for i in range(40):
        at = NOW + i * 2 * HOUR
        watched.add(batch(rng.normal(size=1_000)), "s", at)
        snapshot = watched.evaluate(at)
        kl.append(snapshot.divergences[0, 0, 0])
        floor.append(snapshot.noise_floor[0, 0])
    assert np.mean(kl) == pytest.approx(np.mean(floor), rel=0.15)


def test_bounds_contain_the_divergence_and_exist_only_once_it_is_decided() -> None:
    rng = np.random.default_rng(10)
    watched = monitor((FeatureSpec("x", "numeric"), rng.normal(size=20_000)), (edges_spec("short"), np.zeros(20_000)))
    watched.add(batch(rng.normal(size=100), np.full(100, 0.5)), "s", NOW)
    early = watched.evaluate(NOW)
    assert not early.ready[0, 0]
    for bound in (early.lower, early.upper, early.log10_p_value):
        assert np.isnan(bound[0, 0])
    watched.add(batch(rng.normal(0.8, 1, size=3_000), np.full(3_000, 0.5)), "s", NOW)
    drifted = watched.evaluate(NOW)
    kl = drifted.divergences[0, 0, 0]
    assert drifted.ready[0, 0]
    assert 0.1 < drifted.lower[0, 0] < kl < drifted.upper[0, 0]
    assert drifted.log10_p_value[0, 0] < -4
    # what 3,100 rows are worth beside 20,000, if both are independent
    assert drifted.effective_samples[0, 0] == pytest.approx(1 / (1 / 3_100 + 1 / 20_000), rel=0.2)


def test_quiet_windows_of_any_size_stay_within_the_warning_tolerance() -> None:
    rng = np.random.default_rng(11)
    watched = monitor((FeatureSpec("x", "numeric"), rng.normal(size=20_000)))
    for i in range(300):
        at = NOW + i * 2 * HOUR
        watched.add(batch(rng.normal(size=int(rng.integers(200, 5_000)))), "s", at)
        snapshot = watched.evaluate(at)
        assert snapshot.ready.all()
        assert snapshot.lower[0, 0] < 0.005
        assert snapshot.log10_p_value[0, 0] > -4


def test_a_reference_of_dependent_samples_is_worth_fewer_samples() -> None:
    rng = np.random.default_rng(12)
    steps = rng.normal(size=20_000)
    for i in range(1, steps.size):  # AR(1), correlation 0.95
        steps[i] += 0.95 * steps[i - 1]
    effective = []
    for reference in (steps, rng.permutation(steps)):
        watched = monitor((FeatureSpec("x", "numeric"), reference))
        watched.add(batch(rng.choice(steps, 2_000)), "s", NOW)
        effective.append(watched.evaluate(NOW).effective_samples[0, 0])
    assert effective[0] < 0.5 * effective[1]


# --- event time ------------------------------------------------------------------------------------


def test_rows_are_counted_by_their_own_time() -> None:
    # window 1h, slices of 5 min; rows at 0, 10 and 59 minutes, then one at 61 minutes pushes the first out
    watched = monitor((edges_spec(), UNIFORM), event_time=True)
    times = [NOW, NOW + 10 * MINUTE, NOW + 59 * MINUTE]
    watched.add(batch([0.5, 0.5, 0.5], times=times), "s", NOW + 59 * MINUTE)
    assert watched.evaluate(NOW + 59 * MINUTE).samples[0, 0] == 3
    watched.add(batch([1.5], times=[NOW + 61 * MINUTE]), "s", NOW + 61 * MINUTE)
    assert watched.evaluate(NOW + 61 * MINUTE).counts[0, :3].tolist() == [2, 1, 0]


def test_a_row_later_than_allowed_is_counted_as_late_and_not_mixed_in() -> None:
    # base pane 5 min, lateness 1 min:  |0    5|5   10|
    # a row at 4:59 that comes when the newest is 6:00 is late, at 5:59 it is not
    for newest, late in [(6 * MINUTE, 1), (6 * MINUTE - 1, 0)]:
        watched = monitor((edges_spec(), UNIFORM), event_time=True)
        result = watched.add(batch([0.5, 0.5], times=[NOW + newest, NOW + 5 * MINUTE - 1]), "s", NOW + HOUR)
        assert result.late.tolist() == [1] * late
        assert result.counted == 2 - late


def test_lateness_is_judged_within_a_stream() -> None:
    watched = monitor((edges_spec(), UNIFORM), event_time=True)
    watched.add(batch([0.5], times=[NOW + 30 * MINUTE]), "fast", NOW + HOUR)
    assert watched.add(batch([1.5], times=[NOW]), "slow", NOW + HOUR).counted == 1
    assert watched.add(batch([1.5], times=[NOW]), "fast", NOW + HOUR).late.tolist() == [0]
    assert watched.evaluate(NOW + 30 * MINUTE).counts[0, :3].tolist() == [1, 1, 0]


def test_a_row_from_the_future_is_refused_and_makes_no_other_late() -> None:
    watched = monitor((edges_spec(), UNIFORM), event_time=True)
    result = watched.add(batch([0.5, 1.5, 2.5], times=[NOW + 400 * HOUR, NOW, NOW + MINUTE]), "s", NOW)
    assert (result.counted, result.future.tolist(), result.late.tolist()) == (2, [0], [])


def test_absurdly_old_rows_are_late_once_anything_is_known() -> None:
    watched = monitor((edges_spec(), UNIFORM), event_time=True)
    result = watched.add(batch([1.5, 0.5], times=[NOW, 0]), "s", NOW)
    assert (result.counted, result.late.tolist()) == (1, [1])


def test_a_stream_that_stops_slides_out_of_its_windows() -> None:
    watched = monitor((edges_spec(), UNIFORM), event_time=True)
    hour_behind = NOW - HOUR
    watched.add(batch([0.5], times=[hour_behind]), "s", NOW)
    assert watched.evaluate(NOW).samples[0, 0] == 1
    assert watched.evaluate(NOW + 59 * MINUTE).samples[0, 0] == 1
    assert watched.evaluate(NOW + 61 * MINUTE).samples[0, 0] == 0


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 600), st.sampled_from([0.5, 1.5, 9.0, np.nan])), min_size=1, max_size=80),
    st.lists(st.integers(1, 79), max_size=6),
    st.integers(0, 20),
)
def test_the_result_does_not_depend_on_how_rows_are_split_into_batches(
    rows: list[tuple[int, float]], cuts: list[int], lateness: int
) -> None:
    times = [NOW + minute * MINUTE for minute, _ in rows]
    values = [value for _, value in rows]
    seen = []
    for bounds in ([0, len(rows)], sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})):
        watched = monitor(
            (edges_spec(), UNIFORM),
            windows=(WindowSpec("1h", HOUR), WindowSpec("6h", 6 * HOUR)),
            event_time=True,
            lateness_ms=lateness * MINUTE,
        )
        late: list[int] = []
        for a, b in itertools.pairwise(bounds):
            result = watched.add(batch(values[a:b], times=times[a:b]), "s", NOW + 11 * HOUR)
            late += (result.late + a).tolist()
        seen.append((late, watched.evaluate(NOW + 11 * HOUR).counts.tolist()))
    assert seen[0] == seen[1]


def test_many_panes_in_one_batch_are_counted_as_if_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    times = NOW + rng.permutation(3000) * MINUTE
    values = rng.choice([0.5, 1.5, np.nan], size=3000)
    counts = []
    for slots in (1 << 22, 24):
        monkeypatch.setattr("kldrift.drift.counting.filling.MAX_SLOT_COUNTS", slots)
        watched = monitor(
            (edges_spec(), UNIFORM), windows=(WindowSpec("60h", 60 * HOUR),), event_time=True, lateness_ms=100 * HOUR
        )
        rows = np.flatnonzero(np.isnan(values))[:7]
        result = watched.add(batch(values, times=times.tolist(), invalid=[(0, rows.tolist())]), "s", NOW + 60 * HOUR)
        assert result.counted == 3000
        assert result.invalid.tolist() == [7]
        counts.append(watched.evaluate(NOW + 50 * HOUR).counts.tolist())
    assert counts[0] == counts[1]
    assert counts[0][0][:2] == [int((values == 0.5).sum()), int((values == 1.5).sum())]
    assert counts[0][0][5] == int(np.isnan(values).sum()) - 7
