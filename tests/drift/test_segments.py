"""Segments: the same figures for each value of a field, and the drift of the whole taken apart into mix and within."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import rel_entr

from kldrift.drift.monitor import Monitor
from kldrift.drift.segments import OTHER, Segmentation, segment_references
from kldrift.records.samples import SampleBatch, Vocabulary
from kldrift.records.snapshots import MonitorSnapshot
from kldrift.records.specs import MonitorSpec, SegmentSpec, TimestampSpec, WindowSpec
from tests.drift.builders import HOUR, categorical, edges_spec, reference
from tests.drift.test_stored import Kept

NOW = 1_700_000_000_000
SHARES = {"US": 0.5, "DE": 0.3, "FR": 0.2}


def segmented(limit: int = 20, shares: Mapping[str, float] | None = SHARES, seed: int = 1) -> Monitor:
    """A feature x, uniform on [0, 3] within every segment; without `shares` the reference does not know segments."""
    rng = np.random.default_rng(seed)
    n = 20_000
    x = rng.uniform(0, 3, n)
    spec = MonitorSpec(
        "m",
        (edges_spec(),),
        (WindowSpec("1h", HOUR), WindowSpec("2h", 2 * HOUR)),
        segments=SegmentSpec("country", limit),
    )
    references = reference((edges_spec(), x))
    segmentation = Segmentation()
    if shares:
        by = categorical(rng.choice(list(shares), n, p=list(shares.values())).tolist())
        segmentation = segment_references(references, [x], by, limit)
    return Monitor(spec, references, segmentation)


def rows(watched: Monitor, values: Sequence[float], segments: Sequence[str | None]) -> SampleBatch:
    vocabulary = watched.schema.features[-1].vocabulary
    assert isinstance(vocabulary, Vocabulary)
    codes = [vocabulary.limit + 1 if s is None else vocabulary.code(s) for s in segments]
    return SampleBatch(len(values), (np.array(values, dtype=np.float64), np.array(codes, dtype=np.int32)))


def by_name(snapshot: MonitorSnapshot) -> dict[str | None, MonitorSnapshot]:
    return {segment.segment: segment for segment in snapshot.segments}


def test_a_segment_has_the_figures_of_a_monitor_that_sees_only_its_rows() -> None:
    rng = np.random.default_rng(2)
    x = {"US": rng.uniform(0, 3, 600), "DE": rng.uniform(1, 3, 900)}
    both = segmented()
    both.add(rows(both, [*x["US"], *x["DE"]], ["US"] * 600 + ["DE"] * 900), "s", NOW)
    found = both.evaluate(NOW)
    assert [segment.segment for segment in found.segments] == ["DE", "US"]
    for name, values in x.items():
        alone = segmented()
        alone.add(rows(alone, values.tolist(), [name] * values.size), "s", NOW)
        expected = by_name(alone.evaluate(NOW))[name]
        segment = by_name(found)[name]
        for field in ("samples", "counts", "divergences", "lower", "upper", "noise_floor", "log10_p_value", "ready"):
            np.testing.assert_array_equal(getattr(segment, field), getattr(expected, field), err_msg=field)
    np.testing.assert_array_equal(found.counts, sum(segment.counts for segment in found.segments))
    assert by_name(found)["DE"].detected.tolist() == [[1.0, 1.0]]
    assert by_name(found)["US"].detected.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("shares", [SHARES, None])
def test_mix_and_within_make_up_the_divergence_of_segment_and_value_together(
    shares: Mapping[str, float] | None,
) -> None:
    rng = np.random.default_rng(3)
    watched = segmented(shares=shares)
    segments = rng.choice(["US", "DE", "IT"], 3_000, p=[0.2, 0.7, 0.1]).tolist()
    watched.add(rows(watched, rng.uniform(0.5, 3, 3_000).tolist(), segments), "s", NOW)
    found = watched.evaluate(NOW)
    within = sum(
        segment.samples[0, 0]
        / 3_000
        * rel_entr(segment.counts[0] / segment.samples[0, 0], segment.reference_probabilities[0]).sum()
        for segment in found.segments
    )
    assert found.within_segments[0, 0] == pytest.approx(within, rel=1e-12)
    if shares is None:
        assert np.isnan(found.segment_mix).all()
        return
    assert by_name(found)["IT"].features is found.features  # a segment that the reference does not know
    # the mix, by hand: 21 places for 20 segments and other, half a row added to each
    known = np.bincount([["US", "DE", "FR"].index(s) for s in _segments_of_reference()], minlength=3)
    q = dict(zip(["US", "DE", "FR"], (known + 0.5) / (20_000 + 21 / 2), strict=True)) | {"IT": 0.5 / (20_000 + 21 / 2)}
    p = {name: segments.count(name) / 3_000 for name in ("US", "DE", "IT")}
    mix = sum(p[name] * np.log(p[name] / q[name]) for name in p)
    assert found.segment_mix[0] == pytest.approx(mix, rel=1e-12)
    joint = sum(
        rel_entr(p[s.segment] * s.counts[0] / s.samples[0, 0], q[s.segment] * s.reference_probabilities[0]).sum()
        for s in found.segments
    )
    assert found.segment_mix[0] + found.within_segments[0, 0] == pytest.approx(joint, rel=1e-12)


def _segments_of_reference() -> list[str]:
    rng = np.random.default_rng(1)
    rng.uniform(0, 3, 20_000)
    return rng.choice(list(SHARES), 20_000, p=list(SHARES.values())).tolist()


def test_values_beyond_the_limit_are_other_and_counted() -> None:
    watched = segmented(limit=3)
    values = [f"v{i}" for i in range(10_000)]
    result = watched.add(rows(watched, [1.5] * 10_000, values), "s", NOW)
    assert result.folded == 10_000
    result = watched.add(rows(watched, [1.5] * 4, ["US", None, "other", "v1"]), "s", NOW)
    assert result.folded == 2  # "other" has no segment of its own
    found = watched.evaluate(NOW)
    assert [(s.segment, s.samples[0, 0]) for s in found.segments] == [("US", 1), (OTHER, 10_003)]
    assert found.samples[0, 0] == 10_004


def test_segments_that_the_reference_does_not_know_come_as_they_appear() -> None:
    watched = segmented(limit=2, shares=None)
    watched.add(rows(watched, [0.5, 1.5, 2.5, 2.5], ["b", "a", "c", "a"]), "s", NOW)
    found = watched.evaluate(NOW)
    assert [(s.segment, s.samples[0, 0]) for s in found.segments] == [("a", 2), ("b", 1), (OTHER, 1)]


def test_a_segment_with_too_few_reference_rows_stays_undecided() -> None:
    watched = segmented(shares={"US": 0.9999, "DE": 0.0001})
    watched.add(rows(watched, [0.5] * 2_000, ["DE"] * 2_000), "s", NOW)
    segment = by_name(watched.evaluate(NOW))["DE"]
    assert not segment.ready.any()
    assert segment.features[0].problem is not None
    assert np.isnan(segment.detected).all()


def test_an_invalid_value_is_a_sample_of_its_segment() -> None:
    watched = segmented()
    batch = rows(watched, [np.nan, 1.5], ["US", "DE"])
    invalid = SampleBatch(2, batch.columns, None, ((0, np.array([0])), (1, np.array([1]))))
    assert watched.add(invalid, "s", NOW).invalid.tolist() == [1]
    found = by_name(watched.evaluate(NOW))
    assert (found["US"].samples[0, 0], found["US"].invalid_ratio[0, 0]) == (1, 1)
    assert (found["DE"].samples[0, 0], found["DE"].invalid_ratio[0, 0]) == (1, 0)


def test_a_segment_has_a_reference_with_its_own_invalid_values() -> None:
    x = np.tile([0.5, 1.5, 2.5, np.nan, np.nan], 200)
    by = categorical((["US"] * 4 + ["DE"]) * 200)
    wrong = np.flatnonzero(np.isnan(x))
    references = reference((edges_spec(), x))
    found = segment_references(references, [x], by, 2, [wrong]).references
    assert {name: of[0].counts.tolist()[-2:] for name, of in found.items() if of[0].counts is not None} == {
        "US": [0, 200],
        "DE": [0, 200],
    }


def test_the_result_does_not_depend_on_how_batches_mix_panes_and_segments() -> None:
    rng = np.random.default_rng(4)
    n = 500

    def fresh() -> Monitor:
        made = segmented()
        return Monitor(
            replace(made.spec, timestamp=TimestampSpec("ts", "ms"), allowed_lateness_ms=HOUR),
            reference((edges_spec(), np.tile([0.5, 1.5, 2.5], 100))),
        )

    times = np.sort(rng.integers(NOW - HOUR, NOW, n))
    rng.shuffle(times[100:200])
    values, segments = rng.uniform(0, 3, n), rng.choice(["a", "b", "c"], n)
    snapshots = []
    for pieces in (1, 7):
        watched = fresh()
        for part in np.array_split(np.arange(n), pieces):
            batch = rows(watched, values[part].tolist(), segments[part].tolist())
            watched.add(replace(batch, event_ms=times[part]), "s", NOW)
        snapshots.append(watched.evaluate(NOW))
    one, many = snapshots
    assert [s.segment for s in one.segments] == [s.segment for s in many.segments]
    for a, b in zip(one.segments, many.segments, strict=True):
        np.testing.assert_array_equal(a.counts, b.counts)
    assert one.samples[1, 0] == n


def test_the_most_frequent_values_are_segments_whatever_their_place_in_the_alphabet() -> None:
    x = np.tile([0.5, 1.5, 2.5], 100)
    references = reference((edges_spec(), x))
    by = categorical((["a"] * 3 + ["b"] * 2 + ["c"] * 4 + [None]) * 30)
    found = segment_references(references, [x], by, 2)
    assert found.names == ("c", "a")
    assert found.rows is not None
    assert found.rows.tolist() == [120, 90, 90]
    assert [int(of[0].rows) for of in found.references.values()] == [120, 90, 90]


def test_values_as_frequent_as_each_other_come_by_name_and_other_is_no_segment() -> None:
    x = np.tile([0.5, 1.5, 2.5], 100)
    by = categorical([OTHER, "b", "a"] * 100)
    found = segment_references(reference((edges_spec(), x)), [x], by, 5)
    assert found.names == ("a", "b")
    assert list(found.references) == ["a", "b", OTHER]


@pytest.mark.parametrize("shares", [SHARES, None])
def test_a_value_named_other_is_in_the_segment_of_that_name(shares: Mapping[str, float] | None) -> None:
    watched = segmented(shares=shares)
    watched.add(rows(watched, [0.5] * 4, ["US", OTHER, None, OTHER]), "s", NOW)
    found = watched.evaluate(NOW)
    assert [(s.segment, s.samples[0, 0]) for s in found.segments] == [("US", 1), (OTHER, 3)]


def test_a_monitor_without_rows_has_no_segments_yet() -> None:
    found = segmented().evaluate(NOW)
    assert found.segments == ()
    assert found.segment_mix.shape == (2,)
    assert np.isnan(found.within_segments).all()


def test_booleans_are_the_same_segments_as_words_and_as_digits() -> None:
    watched = segmented(shares={"true": 0.6, "false": 0.4})
    watched.add(rows(watched, [0.5] * 6, ["true", "1", "1", "0", "0", "0"]), "s", NOW)
    found = watched.evaluate(NOW)
    assert [(s.segment, s.samples[0, 0]) for s in found.segments] == [("true", 3), ("false", 3)]
    plain = segmented()
    plain.add(rows(plain, [0.5] * 3, ["1", "US", "0"]), "s", NOW)
    assert {s.segment for s in plain.evaluate(NOW).segments} == {"1", "US", "0"}


def test_segments_keep_their_place_through_a_reload_and_those_without_one_are_other() -> None:
    old = segmented(limit=2, shares=None)
    old.add(rows(old, [0.5] * 2, ["IT", "FR"]), "s", NOW)
    new = segmented(limit=2, shares={"US": 0.6, "DE": 0.4})
    assert new.layout == old.layout
    new.go_on_from(old)
    new.add(rows(new, [0.5] * 2, ["IT", "US"]), "s", NOW)
    found = new.evaluate(NOW)
    assert [(s.segment, s.samples[0, 0]) for s in found.segments] == [("IT", 2), ("FR", 1), (OTHER, 1)]
    q = np.array([0.5, 0.5, 20_000.5]) / 20_001.5  # no room for the segments that the reference knows
    assert found.segment_mix[0] == pytest.approx(float(rel_entr(np.array([2, 1, 1]) / 4, q).sum()), rel=1e-12)


def test_a_single_segment_is_stored() -> None:
    watched, kept = segmented(shares=None), Kept()
    watched.add(rows(watched, [0.5], ["IT"]), "s", NOW)
    kept.commit(watched)
    again = segmented(shares=None)
    assert again.restore(kept.entries)
    assert [s.segment for s in again.evaluate(NOW).segments] == ["IT"]
