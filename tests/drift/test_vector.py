"""Vectors and posteriors in a monitor: windows, segments, missing and invalid ones, and the file they are kept in."""

import re
from dataclasses import replace

import numpy as np
import pytest

from kldrift.drift.kinds.posterior import posterior_kl
from kldrift.drift.monitor import Monitor
from kldrift.drift.normal_kl import gaussian_kl_diagonal
from kldrift.drift.references.file import dump_references, load_references
from kldrift.drift.references.given import fixed_reference
from kldrift.drift.references.learned import to_learn
from kldrift.drift.references.reference import FeatureReference
from kldrift.drift.segments import Segmentation
from kldrift.errors import ReferenceProblem
from kldrift.records.samples import SampleBatch, Vocabulary
from kldrift.records.specs import FeatureSpec, MonitorSpec, SegmentSpec, TimestampSpec, WindowSpec
from kldrift.records.types import FloatArray
from tests.drift.builders import HOUR, MINUTE, normal_reference, vector_reference

NOW = 1_700_000_000_000 // HOUR * HOUR
D = 4
SPEC = FeatureSpec("z", "vector", dimensions=D, per_dimension=True)
FULL = FeatureSpec("z", "vector", dimensions=D, covariance="full")
LATENT = FeatureSpec("q", "posterior", dimensions=2, per_dimension=True)
WINDOWS = (WindowSpec("1h", HOUR), WindowSpec("2h", 2 * HOUR))


def monitor(feature: FeatureSpec, reference: FeatureReference, **changes: object) -> Monitor:
    return Monitor(MonitorSpec("m", (feature,), WINDOWS, **changes), [reference])  # type: ignore[arg-type]


def rows(values: FloatArray, **changes: object) -> SampleBatch:
    return replace(SampleBatch(len(values), (np.ascontiguousarray(values),)), **changes)  # type: ignore[arg-type]


def standard() -> FeatureReference:
    return normal_reference(SPEC, 0.0, 1.0, NOW)


def test_a_vector_has_the_closed_form_of_its_window_less_the_bias() -> None:
    rng = np.random.default_rng(1)
    watched = monitor(SPEC, standard())
    early, late = rng.normal(0.3, 1.2, (700, D)), rng.normal(0.5, 1, (800, D))
    watched.add(rows(early), "s", NOW - 90 * MINUTE)
    watched.add(rows(late), "s", NOW)
    snapshot = watched.evaluate(NOW)
    for w, seen in enumerate([late, np.concatenate([early, late])]):
        plug_in = gaussian_kl_diagonal(seen.mean(axis=0), seen.var(axis=0), np.zeros(D), np.ones(D))
        bias = D / len(seen)
        assert snapshot.divergences[w, 0, 0] == pytest.approx(plug_in - bias, rel=1e-10)
        assert snapshot.noise_floor[w, 0] == pytest.approx(bias, rel=1e-12)
        assert snapshot.per_dimension[0][w].sum() == pytest.approx(plug_in, rel=1e-10)
        assert snapshot.lower[w, 0] < plug_in - bias < snapshot.upper[w, 0]
    assert np.isnan(snapshot.divergences[:, 0, 1:]).all()
    assert np.isnan([snapshot.unseen_ratio, snapshot.out_of_range_ratio]).all()
    assert snapshot.detected.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("spec", [SPEC, FULL])
def test_quiet_vectors_are_quiet_and_small_windows_undecided(spec: FeatureSpec) -> None:
    rng = np.random.default_rng(2)
    mixing = rng.normal(size=(D, D))
    watched = monitor(spec, vector_reference(spec, rng.normal(size=(20_000, D)) @ mixing, NOW, "r"))
    watched.add(rows(rng.normal(size=(60, D)) @ mixing), "s", NOW)
    assert not watched.evaluate(NOW).ready.any()
    watched.add(rows(rng.normal(size=(2_000, D)) @ mixing), "s", NOW)
    snapshot = watched.evaluate(NOW)
    assert snapshot.ready.all()
    assert snapshot.detected.tolist() == [[0.0, 0.0]]
    assert snapshot.lower[0, 0] < 0.005
    watched.add(rows(rng.normal(size=(4_000, D)) @ mixing * 1.5), "s", NOW)
    assert watched.evaluate(NOW).detected.tolist() == [[1.0, 1.0]]


def test_a_correlation_that_breaks_shows_only_in_the_full_covariance() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(20_000, D))
    x[:, 1] = 0.9 * x[:, 0] + np.sqrt(1 - 0.81) * x[:, 1]
    for spec, detected in [(SPEC, 0.0), (FULL, 1.0)]:
        watched = monitor(spec, vector_reference(spec, x, NOW, "r"))
        watched.add(rows(rng.normal(size=(3_000, D))), "s", NOW)
        assert watched.evaluate(NOW).detected[0, 0] == detected


def test_missing_and_invalid_vectors_are_counted_apart() -> None:
    values = np.random.default_rng(4).normal(size=(500, D))
    values[10:30] = np.nan
    watched = monitor(SPEC, standard())
    result = watched.add(rows(values, invalid=((0, np.arange(10, 15)),)), "s", NOW)
    assert result.invalid.tolist() == [5]
    snapshot = watched.evaluate(NOW)
    assert snapshot.samples[0, 0] == 500
    assert snapshot.missing_ratio[0, 0] == pytest.approx(15 / 500)
    assert snapshot.invalid_ratio[0, 0] == pytest.approx(5 / 500)
    seen = values[~np.isnan(values[:, 0])]
    plug_in = gaussian_kl_diagonal(seen.mean(axis=0), seen.var(axis=0), np.zeros(D), np.ones(D))
    assert snapshot.divergences[0, 0, 0] == pytest.approx(max(0, plug_in - D / 480), rel=1e-9, abs=1e-12)


def test_the_result_does_not_depend_on_panes_and_batches() -> None:
    rng = np.random.default_rng(5)
    times = np.sort(rng.integers(NOW - HOUR, NOW, 900))
    rng.shuffle(times[300:400])
    values = rng.normal(1e9, 1, (900, D))
    values[5] = np.nan
    found = []
    for pieces in (1, 4, 50):
        watched = monitor(
            SPEC,
            normal_reference(SPEC, 1e9, 1.0, NOW),
            timestamp=TimestampSpec("ts", "ms"),
            allowed_lateness_ms=HOUR,
        )
        for part in np.array_split(np.arange(900), pieces):
            watched.add(rows(values[part], event_ms=times[part]), "s", NOW)
        found.append(watched.evaluate(NOW))
    seen = np.delete(values, 5, axis=0) - 1e9
    kl = gaussian_kl_diagonal(seen.mean(axis=0), seen.var(axis=0), np.zeros(D), np.ones(D)) - D / 899
    for snapshot in found:
        assert snapshot.samples.tolist() == [[900], [900]]
        assert snapshot.divergences[1, 0, 0] == pytest.approx(max(kl, 0), abs=1e-9)


def test_a_segment_has_the_vectors_of_its_rows() -> None:
    rng = np.random.default_rng(6)
    spec = MonitorSpec("m", (SPEC, LATENT), WINDOWS, segments=SegmentSpec("s", 2))
    watched = Monitor(spec, [standard(), fixed_reference(LATENT, NOW)], Segmentation())
    vocabulary = watched.schema.features[-1].vocabulary
    assert isinstance(vocabulary, Vocabulary)
    values, latent = rng.normal(size=(3_000, D)), rng.normal(size=(3_000, 4))
    codes = np.array([vocabulary.code(text) for text in ["a", "b", "a", "c"] * 750], dtype=np.int32)
    values[codes == 1] += 2
    watched.add(SampleBatch(3_000, (values, latent, codes)), "s", NOW)
    snapshot = watched.evaluate(NOW)
    assert [segment.segment for segment in snapshot.segments] == ["a", "b", "other"]
    for segment, code in zip(snapshot.segments, (0, 1, 2), strict=True):
        alone = monitor(SPEC, standard())
        alone.add(rows(values[codes == code]), "s", NOW)
        expected = alone.evaluate(NOW)
        np.testing.assert_allclose(segment.divergences[:, 0, 0], expected.divergences[:, 0, 0], rtol=1e-9, atol=1e-12)
        assert segment.divergences[0, 1, 0] == pytest.approx(posterior_kl(latent[codes == code])[:, -1].mean())
    alone = monitor(SPEC, standard())
    alone.add(rows(values), "s", NOW)
    assert snapshot.divergences[0, 0, 0] == pytest.approx(alone.evaluate(NOW).divergences[0, 0, 0], rel=1e-9)


def test_a_posterior_is_the_kl_term_of_the_autoencoder() -> None:
    rng = np.random.default_rng(7)
    mean, log_variance = rng.normal(0, 0.1, (1_000, 2)), rng.normal(-0.05, 0.1, (1_000, 2))
    watched = monitor(LATENT, fixed_reference(LATENT, NOW))
    watched.add(rows(np.concatenate([mean, log_variance], axis=1)), "s", NOW)
    snapshot = watched.evaluate(NOW)
    terms = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance)
    total = terms.sum(axis=1)
    assert snapshot.divergences[0, 0, 0] == pytest.approx(total.mean(), rel=1e-12)
    np.testing.assert_allclose(snapshot.per_dimension[0][0], terms.mean(axis=0), rtol=1e-12)
    assert snapshot.ready.all()
    assert snapshot.lower[0, 0] < total.mean() < snapshot.upper[0, 0]
    assert snapshot.detected.tolist() == [[float(snapshot.lower[0, 0] > 0.01), 0.0]]


def test_a_posterior_without_a_finite_kl_is_invalid() -> None:
    values = np.zeros((200, 4))
    values[3, 2] = 800.0
    values[4] = np.nan
    values[5] = np.nan
    watched = monitor(LATENT, fixed_reference(LATENT, NOW))
    assert watched.add(rows(values, invalid=((0, np.array([5])),)), "s", NOW).invalid.tolist() == [2]
    snapshot = watched.evaluate(NOW)
    assert snapshot.samples[0, 0] == 200
    assert snapshot.missing_ratio[0, 0] == pytest.approx(1 / 200)
    assert snapshot.invalid_ratio[0, 0] == pytest.approx(2 / 200)
    assert snapshot.divergences[0, 0, 0] == 0


def test_a_vectors_reference_can_be_learned() -> None:
    rng = np.random.default_rng(8)
    watched = monitor(SPEC, to_learn(SPEC, 1_000))
    values = rng.normal(3, 2, (1_500, D))
    watched.add(rows(values), "s", NOW)
    snapshot = watched.evaluate(NOW)
    assert snapshot.samples[0, 0] == 500
    assert snapshot.ready.all()
    expected = monitor(SPEC, vector_reference(SPEC, values[:1_000], NOW, ""))
    expected.add(rows(values[1_000:]), "s", NOW)
    np.testing.assert_array_equal(snapshot.divergences, expected.evaluate(NOW).divergences)


def test_a_vector_whose_reference_is_not_learned_yet_says_so_and_has_no_divergence_in_any_dimension() -> None:
    watched = monitor(SPEC, to_learn(SPEC, 1_000))
    watched.add(rows(np.random.default_rng(8).normal(size=(900, D))), "s", NOW)
    snapshot = watched.evaluate(NOW)
    assert snapshot.features[0].problem == "still learning from the first 1,000 rows of the stream"
    assert snapshot.per_dimension[0].shape == (len(WINDOWS), D)
    assert np.isnan(snapshot.per_dimension[0]).all()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.random.default_rng(9).normal(size=(50, D)), "50 vectors"),
        (np.full((5_000, D), [0.0, 1.0, 0.1, -3.0]), r"dimension 0 \(and 3 more\) .* constant"),
        (np.full((500, D), np.nan), "0 vectors"),
    ],
)
def test_a_reference_that_supports_no_verdict_says_so_and_stays_undecided(values: FloatArray, words: str) -> None:
    watched = monitor(SPEC, vector_reference(SPEC, values, NOW, "r"))
    watched.add(rows(np.random.default_rng(1).normal(size=(5_000, D))), "s", NOW)
    snapshot = watched.evaluate(NOW)
    assert snapshot.features[0].problem is not None
    assert re.search(words, snapshot.features[0].problem)
    assert not snapshot.ready.any()
    assert np.isnan(snapshot.divergences).all()
    assert np.isnan(snapshot.detected).all()


@pytest.mark.parametrize("spec", [SPEC, FULL])
def test_a_vectors_reference_comes_back_from_its_file(spec: FeatureSpec) -> None:
    made = vector_reference(spec, np.random.default_rng(10).normal(5, 2, (3_000, D)), NOW, "r")
    text = dump_references([made])
    (again,) = load_references(text, "r.json")
    assert again.reference_hash == made.reference_hash
    assert dump_references([again]) == text
    with pytest.raises(ReferenceProblem, match="changed by hand"):
        load_references(text.replace('"mean": [4.', '"mean": [3.').replace('"mean": [5.', '"mean": [6.'), "r.json")
