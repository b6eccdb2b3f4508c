"""References learned from the stream, and windows compared with themselves some time before."""

import io
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from scipy.special import rel_entr

from kldrift.drift.kinds.categorical import MAX_LEARNED_VALUES
from kldrift.drift.monitor import Monitor
from kldrift.drift.references.data import build_references
from kldrift.drift.references.learned import Learning, to_learn
from kldrift.drift.references.reference import FeatureReference
from kldrift.drift.segments import Segmentation
from kldrift.drift.smoothing import smooth_counts
from kldrift.records.kinds import STRUCTURAL_CELLS
from kldrift.records.samples import SampleBatch, Vocabulary
from kldrift.records.specs import FeatureSpec, MonitorSpec, SegmentSpec, TimestampSpec, WindowSpec
from tests.drift.builders import HOUR, JEFFREYS, batch, categorical, edges_spec, reference
from tests.drift.test_stored import Kept

NOW = 1_700_000_000_000 // HOUR * HOUR
DAY = 24 * HOUR
X, COLOUR = FeatureSpec("x", "numeric"), FeatureSpec("colour", "categorical", max_categories=2)


def learner(*specs: FeatureSpec, rows: int = 1_000, known: FeatureReference | None = None) -> Monitor:
    references = [to_learn(spec, rows) for spec in specs]
    spec = MonitorSpec("m", specs, (WindowSpec("1h", HOUR), WindowSpec("2h", 2 * HOUR)))
    if known is not None:
        spec = replace(spec, features=(*specs, edges_spec(known.name)))
        references.append(known)
    return Monitor(spec, references)


def test_what_is_learned_is_the_reference_of_the_first_rows_and_the_rest_is_counted() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=3_000)
    x[::50] = np.nan
    for pieces in (1, 2, 13):
        watched = learner(X)
        results = [watched.add(batch(part), "s", NOW) for part in np.array_split(x, pieces)]
        assert sum(result.counted for result in results) == 3_000
        assert [result.learned for result in results if result.learned] == [("x",)]
        (expected,) = build_references([X], [x[:1_000]], NOW, "")
        found = watched.features[0]
        assert found.bins_hash == expected.bins_hash
        assert found.reference_hash == expected.reference_hash
        assert found.problem is None
        assert found.reference_text == "the first 1,000 rows of the stream"
        snapshot = watched.evaluate(NOW)
        assert snapshot.samples.tolist() == [[2_000], [2_000]]
        own = Monitor(watched.spec, [expected])
        own.add(batch(x[1_000:]), "s", NOW)
        np.testing.assert_array_equal(own.evaluate(NOW).divergences, snapshot.divergences)
        np.testing.assert_array_equal(own.evaluate(NOW).lower, snapshot.lower)


def test_a_feature_is_undecided_until_it_is_learned_and_others_carry_on() -> None:
    (known,) = reference((edges_spec("known"), np.tile([0.5, 1.5, 2.5], 100)))
    watched = learner(X, known=known)
    live = np.tile([0.5, 1.5, 1.5], 300)
    watched.add(batch(np.zeros(900), live), "s", NOW)
    early = watched.evaluate(NOW)
    assert early.samples.tolist() == [[900, 900], [900, 900]]
    assert np.isnan(early.divergences[:, 0]).all()
    assert np.isnan(early.detected[0]).all()
    assert early.ready.tolist() == [[False, True], [False, True]]
    assert early.features[0].problem == "still learning from the first 1,000 rows of the stream"
    assert early.features[0].limits == ()
    # whatever it will know, it knows nothing yet
    assert np.isnan(early.features[0].reference_probabilities).tolist() == [False] * 3 + [True] * 2
    watched.add(batch(np.arange(100.0), np.full(100, 2.5)), "s", NOW)
    late = watched.evaluate(NOW)
    assert late.samples.tolist() == [[0, 1_000], [0, 1_000]]
    assert late.counts[0, -7:].tolist() == [300, 600, 100, 0, 0, 0, 0]


def test_categories_are_learned_with_the_codes_that_rows_already_have() -> None:
    watched = learner(COLOUR, rows=100)
    vocabulary = watched.schema.features[0].vocabulary
    assert isinstance(vocabulary, Vocabulary)

    def rows(*texts: str | None) -> SampleBatch:
        codes = [watched.schema.features[0].missing_code if t is None else vocabulary.code(t) for t in texts]
        return batch(np.array(codes, dtype=np.int32))

    first = ["red"] * 50 + ["green"] * 30 + ["blue"] * 15 + [None] * 5
    under_way = rows("red", "black", "blue", None)  # decoded before the reference was there
    watched.add(rows(*first), "s", NOW)
    assert watched.features[0].cells == ("red", "green", "other", "unseen", "missing", "invalid")
    (expected,) = build_references([COLOUR], [categorical(first)], NOW, "")
    assert watched.features[0].reference_hash == expected.reference_hash
    watched.add(under_way, "s", NOW)
    watched.add(rows("green", "white"), "s", NOW)
    assert watched.evaluate(NOW).counts[0].tolist() == [1, 1, 1, 2, 1, 0]


def test_an_identifier_is_not_learned() -> None:
    watched = learner(FeatureSpec("id", "categorical"), rows=64)
    codes = np.full(64, MAX_LEARNED_VALUES, dtype=np.int32)
    watched.add(batch(codes), "s", NOW)
    assert watched.features[0].problem is not None
    assert "is it an identifier" in watched.features[0].problem
    assert not watched.evaluate(NOW).ready.any()


def test_rows_without_a_value_make_no_reference_but_no_crash() -> None:
    watched = learner(X, rows=64)
    watched.add(batch(np.full(70, np.nan)), "s", NOW)
    assert watched.features[0].problem is not None
    assert "not missing" in watched.features[0].problem
    assert np.isnan(watched.evaluate(NOW).divergences).all()


@pytest.mark.parametrize("n_present", [1, 5, 50])
def test_a_reference_learned_from_next_to_nothing_is_unusable_and_says_so(n_present: int) -> None:
    watched = learner(X, COLOUR, rows=1_000)
    vocabulary = watched.schema.features[1].vocabulary
    assert vocabulary is not None
    missing = watched.schema.features[1].missing_code
    x, colours = np.full(1_500, np.nan), np.full(1_500, missing, dtype=np.int32)
    x[:n_present] = np.random.default_rng(2).normal(size=n_present)
    colours[:n_present] = [vocabulary.code(("red", "green")[i % 2]) for i in range(n_present)]
    watched.add(batch(x, colours), "s", NOW)
    snapshot = watched.evaluate(NOW)
    assert snapshot.samples.tolist() == [[500, 500]] * 2
    x_info, colour = snapshot.features
    n_bins = len(x_info.cells) - STRUCTURAL_CELLS
    assert x_info.problem == (
        f"the reference has a value in only {n_present} of its 1,000 rows; a verdict needs at least {10 * n_bins},"
        " 10 for each bin: use a reference with more values, or fewer bins"
    )
    assert not snapshot.ready[:, 0].any()
    if n_present == 50:  # 25 of each are enough for the cells of two categories
        assert colour.problem is None
        assert snapshot.ready[:, 1].all()
    else:
        assert f"has a value in only {n_present} of its 1,000 rows; a verdict needs at least 10," in str(colour.problem)
        assert not snapshot.ready[:, 1].any()
    assert np.isnan(snapshot.detected[0]).all()


def test_what_is_invalid_is_no_value_to_learn_from() -> None:
    watched = learner(X, rows=1_000)
    x = np.full(1_000, np.nan)
    x[:5] = np.arange(5.0)
    watched.add(batch(x, invalid=[(0, list(range(5, 1_000)))]), "s", NOW)
    assert "has a value in only 5 of its 1,000 rows" in str(watched.features[0].problem)


def test_a_changed_monitor_with_the_same_layout_keeps_what_was_learned() -> None:
    old = learner(X, COLOUR, rows=100)
    code = old.schema.features[1].vocabulary.code  # type: ignore[union-attr]
    colours = np.array([code("red"), code("green")] * 60, dtype=np.int32)
    old.add(batch(np.arange(120.0), colours), "s", NOW)
    new = learner(X, COLOUR, rows=100)
    assert new.layout == old.layout
    new.go_on_from(old)
    assert new.features[0].reference_hash == old.features[0].reference_hash
    assert new.schema.features[1].vocabulary is old.schema.features[1].vocabulary
    new.add(batch(np.arange(10.0), colours[:10]), "s", NOW)
    assert new.evaluate(NOW).samples[0].tolist() == [30, 30]


def test_a_monitor_that_is_still_learning_continues_to_learn() -> None:
    old = learner(X, rows=100)
    old.add(batch(np.arange(60.0)), "s", NOW)
    new = learner(X, rows=100)
    new.go_on_from(old)
    new.add(batch(np.arange(60.0)), "s", NOW)
    assert new.features[0].reference_rows == 100
    assert new.evaluate(NOW).samples[0, 0] == 20


def test_what_is_learned_knows_invalid_values_whatever_the_batches_and_after_a_restart() -> None:
    x = np.random.default_rng(3).normal(size=1_000)
    wrong = np.arange(0, 1_000, 10)
    x[wrong] = np.nan
    x[1::50] = np.nan
    (expected,) = build_references([X], [x], NOW, "", [wrong])
    for pieces in (1, 3, 13):
        watched, kept = learner(X), Kept()
        for part in np.array_split(np.arange(1_200), pieces):
            own = np.flatnonzero(np.isin(part, wrong)).tolist()
            watched.add(batch(np.append(x, np.zeros(200))[part], invalid=[(0, own)]), "s", NOW)
            kept.commit(watched)
            watched = learner(X)
            assert watched.restore(kept.entries)
        assert watched.features[0].reference_hash == expected.reference_hash
        assert watched.features[0].reference_counts is not None
        assert watched.features[0].reference_counts[-2:].tolist() == [20, 100]


def previous(**changes: object) -> Monitor:
    (bins,) = reference((edges_spec(), np.random.default_rng(1).uniform(0, 3, 900)))
    spec = MonitorSpec(
        "m",
        (edges_spec(),),
        (WindowSpec("1h", HOUR), WindowSpec("2h", 2 * HOUR)),
        timestamp=TimestampSpec("ts", "ms"),
        **changes,  # type: ignore[arg-type]
    )
    return Monitor(spec, [replace(bins, offset_ms=DAY)])


def put(watched: Monitor, at: int, *counts: int) -> None:
    values = np.repeat([0.5, 1.5, 2.5], counts)
    watched.add(SampleBatch(values.size, (values,), np.full(values.size, at)), "s", at)


def test_a_window_is_compared_with_itself_a_day_earlier() -> None:
    watched = previous()
    for day in range(3):  # seasons: the second hour of the day differs from the first
        put(watched, NOW + day * DAY, 100, 200, 300)
        put(watched, NOW + day * DAY + 90 * 60_000, 300, 200, 100)
        at = NOW + day * DAY + 91 * 60_000
        snapshot = watched.evaluate(at)
        if day == 0:
            assert np.isnan(snapshot.divergences).all()
            assert not snapshot.ready.any()
            assert snapshot.reference_rows.tolist() == [[0], [0]]
            continue
        assert snapshot.counts[:, :3].tolist() == [[300, 200, 100], [400, 400, 400]]
        assert snapshot.reference_rows.tolist() == [[600], [1200]]
        assert snapshot.ready.all()
        for w, counts in enumerate([[300, 200, 100, *[0] * 4], [400, 400, 400, *[0] * 4]]):
            q = smooth_counts(np.array(counts), JEFFREYS)
            np.testing.assert_array_equal(snapshot.reference_probabilities[w], q)
            kl = rel_entr(np.array(counts) / sum(counts), q).sum()
            assert snapshot.divergences[w, 0, 0] == pytest.approx(kl, rel=1e-12)
        assert (snapshot.lower == 0).all()


def test_a_window_is_compared_with_the_invalid_values_of_a_day_earlier() -> None:
    watched = previous()
    values = np.repeat([0.5, 1.5, 2.5, np.nan], 100)
    for day in range(2):
        at = NOW + day * DAY + 30 * 60_000
        times = np.full(values.size, at)
        watched.add(SampleBatch(values.size, (values,), times, ((0, np.arange(300, 400)),)), "s", at)
    snapshot = watched.evaluate(at)
    assert snapshot.counts[0].tolist() == [100, 100, 100, 0, 0, 0, 100]
    assert snapshot.reference_probabilities[0].tolist() == smooth_counts(snapshot.counts[0], JEFFREYS).tolist()
    assert snapshot.divergences[0, 0, 0] < 0.01
    assert snapshot.ready.all()


def test_another_day_than_the_one_before_is_drift() -> None:
    watched = previous()
    put(watched, NOW, 200, 200, 200)
    put(watched, NOW + DAY, 500, 60, 40)
    snapshot = watched.evaluate(NOW + DAY)
    assert snapshot.detected.tolist() == [[1.0, 1.0]]
    assert snapshot.lower[0, 0] > 0.1


def test_too_few_samples_in_the_earlier_window_leave_it_undecided() -> None:
    watched = previous()
    put(watched, NOW, 10, 10, 9)
    put(watched, NOW + DAY, 500, 60, 40)
    assert not watched.evaluate(NOW + DAY).ready.any()


def test_an_estimator_uses_the_earlier_window_too() -> None:
    watched = previous(estimator="driftwatch")
    put(watched, NOW, 100, 200, 300)
    put(watched, NOW + DAY, 300, 200, 100)
    snapshot = watched.evaluate(NOW + DAY)
    p, q = (np.array(x) / 600 for x in ([300, 200, 100], [100, 200, 300]))
    assert snapshot.divergences[0, 0, 0] == pytest.approx(rel_entr(p, q).sum(), rel=1e-3)
    assert snapshot.estimator == "driftwatch"


def test_booleans_that_were_learned_as_words_are_known_as_digits_too() -> None:
    watched = learner(FeatureSpec("paid", "categorical"), rows=100)
    vocabulary = watched.schema.features[0].vocabulary
    assert vocabulary is not None
    words = [vocabulary.code("true"), vocabulary.code("false")] * 50
    watched.add(batch(np.array(words, dtype=np.int32)), "s", NOW)
    digits = [vocabulary.find("1"), vocabulary.find("0")]
    assert None not in digits
    watched.add(batch(np.array([*digits, digits[0]], dtype=np.int32)), "s", NOW)
    counts = dict(zip(watched.features[0].cells, watched.evaluate(NOW).counts[0].tolist(), strict=True))
    assert (counts["true"], counts["false"]) == (2, 1)


def test_the_rows_to_learn_from_are_stored_once_and_all_of_them_again_where_they_are_stored_anew() -> None:
    learning = Learning({0: 100})
    for n in (3, 4):
        learning.add(batch(np.zeros(n), invalid=[(0, [1])]))
        found = learning.changes()
        assert found["rows"] == str(learning.n_rows).encode()
        learning.stored()
    assert sorted(found) == ["0/00000001", "invalid/0/00000001", "rows"]
    assert learning.changes() == {}
    learning.touch()
    everything = {key: value for key, value in learning.changes().items() if value is not None}
    assert sorted(everything) == ["0/00000000", "0/00000001", "invalid/0/00000000", "invalid/0/00000001", "rows"]
    restored = Learning({0: 7})
    restored.restore(everything, [])
    assert restored.changes() == {}
    assert restored.rows_until_complete == 0
    column, invalid = restored.take_complete()[0]
    assert column.size == 7
    assert invalid.tolist() == [1, 4]
    assert restored.done


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_vectors_are_learned_with_the_covariance_that_was_asked_for(covariance: Literal["full", "diagonal"]) -> None:
    spec = FeatureSpec("v", "vector", dimensions=2, covariance=covariance)
    watched = learner(spec, rows=500)
    x = np.random.default_rng(5).normal(size=(600, 2)) @ [[1.0, 0.9], [0.0, 0.4]]
    for part in np.array_split(x, 3):
        watched.add(SampleBatch(len(part), (np.ascontiguousarray(part),)), "s", NOW)
    (expected,) = build_references([spec], [x[:500]], NOW, "")
    own = Monitor(watched.spec, [expected])
    own.add(SampleBatch(100, (np.ascontiguousarray(x[500:]),)), "s", NOW)
    found, wanted = watched.evaluate(NOW), own.evaluate(NOW)
    assert found.divergences[0, 0, 0] == pytest.approx(wanted.divergences[0, 0, 0], rel=1e-9)


def test_rows_that_make_no_reference_are_not_learned_from_again_after_a_restart() -> None:
    spec = FeatureSpec("id", "categorical")
    for column in (
        np.full(64, MAX_LEARNED_VALUES, dtype=np.int32),
        np.full(64, MAX_LEARNED_VALUES + 1, dtype=np.int32),
    ):
        watched, kept = learner(spec, rows=64), Kept()
        assert watched.add(batch(column), "s", NOW).learned == ("id",)
        kept.commit(watched)
        problem = watched.features[0].problem
        assert problem is not None
        assert "still learning" not in problem
        again = learner(spec, rows=64)
        assert again.restore(kept.entries)
        assert again.features[0].problem == problem
        assert again.add(batch(column), "s", NOW).learned == ()
        assert again.changes().keys().isdisjoint({"learning/rows"})


def test_entries_that_are_no_arrays_are_refused() -> None:
    out = io.BytesIO()
    np.save(out, np.array([{1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        Learning({0: 5}).restore({"0/00000000": out.getvalue(), "rows": b"1"}, [])


def test_what_another_feature_counted_stays_when_a_reference_is_learned() -> None:
    """Whichever of them comes first, in every segment."""
    (known,) = reference((edges_spec("known"), np.tile([0.5, 1.5, 2.5], 100)))
    for first in (True, False):
        specs = (edges_spec("known"), X) if first else (X, edges_spec("known"))
        references = [known, to_learn(X, 100)] if first else [to_learn(X, 100), known]
        spec = MonitorSpec("m", specs, (WindowSpec("1h", HOUR),), segments=SegmentSpec("country", 2))
        watched = Monitor(spec, references, Segmentation())
        codes = watched.schema.features[-1].vocabulary
        assert codes is not None
        segments = np.array([codes.code(("a", "b")[i % 2]) for i in range(100)], dtype=np.int32)
        live = np.where(segments == 0, 0.5, 2.5)
        columns = (live, np.arange(100.0)) if first else (np.arange(100.0), live)
        assert watched.add(SampleBatch(100, (*columns, segments)), "s", NOW).learned == ("x",)
        snapshot = watched.evaluate(NOW)
        at = snapshot.offsets[0 if first else 1]
        assert snapshot.counts[0, at : at + 3].tolist() == [50, 0, 50]
        found = {one.segment: one.counts[0, at : at + 3].tolist() for one in snapshot.segments}
        assert found == {"a": [50, 0, 0], "b": [0, 0, 50]}
        assert snapshot.samples[0].tolist() == ([100, 0] if first else [0, 100])
