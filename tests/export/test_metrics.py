import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from kldrift.export.drift_families import DRIFT_FAMILIES
from kldrift.export.drift_metrics import DriftRenderer, count_series, render_drift
from kldrift.export.exposition import printable
from kldrift.records.divergences import DIVERGENCES, N_DIVERGENCES
from kldrift.records.specs import FeatureSpec, MonitorSpec, SegmentSpec, WindowSpec
from tests.export.snapshots import feature, monitor, segmented, snapshot

GOLDEN = Path(__file__).parent / "golden"

NAMES = (
    "kldrift_kl_divergence_nats",
    "kldrift_reverse_kl_divergence_nats",
    "kldrift_js_divergence_nats",
    "kldrift_psi",
    "kldrift_total_variation",
    "kldrift_hellinger",
    "kldrift_entropy_nats",
    "kldrift_cross_entropy_nats",
)


def read(body, openmetrics=False):
    """(name, labels) -> value, by prometheus-client's parsers; fails on a series that is there twice."""
    text = body.decode("utf-8")
    families = parse_openmetrics(text + "# EOF\n") if openmetrics else parse_text(text)
    series = {}
    for family in families:
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in series
            series[key] = sample.value
    return series


def key(name, **labels):
    return name, frozenset(labels.items())


def golden_snapshot():
    """Two monitors: an empty window, an undecided one, infinities, a name that needs escapes, an exact reference."""
    loans = monitor(
        features=(
            feature("amount"),
            feature(
                'the "risk"\n\\ is 5\x00',
                "categorical",
                reference_counts=None,
                reference_rows=np.inf,
                expected_unseen=0.03,
            ),
        ),
        exported=("kl", "psi"),
        samples=np.array([[1000, 0], [12000, 7]]),
        divergences=np.array(
            [
                [[0.0201355] * N_DIVERGENCES, [np.nan] * N_DIVERGENCES],
                [[1 / 3] * N_DIVERGENCES, [np.inf] * N_DIVERGENCES],
            ]
        ),
        noise_floor=np.array([[0.0085, np.nan], [1e-300, 0.5]]),
        lower=np.array([[0.0, np.nan], [0.25, np.nan]]),
        upper=np.array([[0.0625, np.nan], [0.4, np.nan]]),
        log10_p_value=np.array([[-1.5, np.nan], [-1e-300, np.nan]]),
        ready=np.array([[True, False], [True, False]]),
        missing_ratio=np.array([[0.0, np.nan], [0.25, 1.0]]),
        invalid_ratio=np.array([[0.125, np.nan], [0.0, 0.0]]),
        unseen_ratio=np.array([[np.nan, np.nan], [np.nan, 0.125]]),
        out_of_range_ratio=np.array([[0.5, np.nan], [0.1, np.nan]]),
        detected=np.array([[1.0, 0.0], [np.nan, np.nan]]),
    )
    clicks = monitor(
        "clicks",
        features=(feature("dwell", created_ms=0, warning=1e-05, problem="it has 10 rows for 3 bins"),),
        windows=("1h",),
        estimator="evidently",
        samples=np.array([[123456789012]]),
        divergences=np.full((1, 1, N_DIVERGENCES), 1e22),
        noise_floor=np.array([[1e-7]]),
        lower=np.array([[1e21]]),
        upper=np.array([[np.inf]]),
        log10_p_value=np.array([[-np.inf]]),
        ready=np.array([[True]]),
        missing_ratio=np.array([[0.0]]),
        invalid_ratio=np.array([[0.0]]),
        unseen_ratio=np.array([[np.nan]]),
        out_of_range_ratio=np.array([[0.0]]),
        detected=np.array([[1.0, 1.0]]),
    )
    return snapshot(loans, clicks, golden_segments())


def golden_segments():
    """Three segments, one of them of the empty value, and a latent vector with a KL for each dimension."""

    def part(rows, kl, segment=None, **changes):
        return monitor(
            "visits",
            features=latent,
            windows=("1h",),
            samples=np.array([[rows, rows]]),
            divergences=np.full((1, 2, N_DIVERGENCES), kl),
            noise_floor=np.full((1, 2), 1e-3),
            lower=np.array([[kl / 2, np.nan]]),
            upper=np.array([[kl * 2, np.nan]]),
            log10_p_value=np.array([[-4.0, np.nan]]),
            ready=np.array([[True, False]]),
            missing_ratio=np.array([[0.0, 0.5]]),
            invalid_ratio=np.array([[0.0, 0.25]]),
            unseen_ratio=np.array([[0.25, np.nan]]),
            out_of_range_ratio=np.full((1, 2), np.nan),
            detected=np.array([[float(kl > 0.01), 0.0], [np.nan, np.nan]]),
            segment=segment,
            **changes,
        )

    latent = (feature("page", "categorical"), feature("latent", "vector", cells=("present", "missing"), counts=(9, 1)))
    return part(
        1500,
        0.125,
        segments=(part(1000, 0.25, "US"), part(400, 0.0, ""), part(100, 0.5, "other")),
        segment_mix=np.array([0.0625]),
        within_segments=np.array([[0.1875, 0.3125]]),
        per_dimension={1: np.array([[0.5, 0.0, 0.75]])},
    )


@pytest.mark.parametrize(("openmetrics", "file"), [(False, "drift.txt"), (True, "drift.openmetrics")])
def test_the_exposition_is_the_golden_one(openmetrics: bool, file: str) -> None:
    body = render_drift(golden_snapshot(), openmetrics).body
    assert body.decode() == (GOLDEN / file).read_text()


@pytest.mark.parametrize("openmetrics", [False, True])
def test_every_value_is_read_back_exactly(openmetrics: bool) -> None:
    loans = monitor(exported=DIVERGENCES)
    rendered = render_drift(snapshot(loans), openmetrics)
    series = read(rendered.body, openmetrics)
    assert len(series) == rendered.series
    for w, window in enumerate(loans.windows):
        for f, info in enumerate(loans.features):
            labels = {"monitor": "loans", "feature": info.name, "window": window}
            for name, value in zip(NAMES, loans.divergences[w, f], strict=True):
                assert series.pop(key(name, **labels)) == value
            assert series.pop(key("kldrift_kl_divergence_lower_nats", **labels)) == loans.lower[w, f]
            assert series.pop(key("kldrift_kl_divergence_upper_nats", **labels)) == loans.upper[w, f]
            assert series.pop(key("kldrift_drift_log10_p_value", **labels)) == loans.log10_p_value[w, f]
            assert series.pop(key("kldrift_kl_noise_floor_nats", **labels)) == loans.noise_floor[w, f]
            assert series.pop(key("kldrift_window_samples", **labels)) == loans.samples[w, f]
            assert series.pop(key("kldrift_window_ready", **labels)) == loans.ready[w, f]
            assert series.pop(key("kldrift_feature_absent", **labels)) == loans.absent[w, f]
            assert series.pop(key("kldrift_missing_ratio", **labels)) == loans.missing_ratio[w, f]
            assert series.pop(key("kldrift_invalid_ratio", **labels)) == loans.invalid_ratio[w, f]
            if info.kind == "categorical":
                assert series.pop(key("kldrift_unseen_ratio", **labels)) == loans.unseen_ratio[w, f]
            else:
                assert series.pop(key("kldrift_out_of_range_ratio", **labels)) == loans.out_of_range_ratio[w, f]
    for f, info in enumerate(loans.features):
        labels = {"monitor": "loans", "feature": info.name}
        for severity, detected in zip(("warning", "critical"), loans.detected[f], strict=True):
            assert series.pop(key("kldrift_drift_detected", severity=severity, **labels)) == detected
        assert series.pop(key("kldrift_reference_usable", **labels)) == 1
        if info.kind == "categorical":
            assert series.pop(key("kldrift_unseen_expected_ratio", **labels)) == info.expected_unseen
        identity = {
            "estimator": "kldrift",
            "smoothing": "jeffreys",
            "bins_hash": info.bins_hash,
            "reference_hash": info.reference_hash,
        }
        assert series.pop(key("kldrift_drift_threshold_nats", severity="warning", **labels)) == 0.01
        assert series.pop(key("kldrift_drift_threshold_nats", severity="critical", **labels)) == 0.1
        assert series.pop(key("kldrift_reference_info", **identity, **labels)) == 1
        assert series.pop(key("kldrift_reference_created_timestamp_seconds", **labels)) == 1_700_000_000.123
        assert series.pop(key("kldrift_reference_rows", **labels)) == 10
        assert series.pop(key("kldrift_reference_missing_ratio", **labels)) == 0.5
        assert series.pop(key("kldrift_reference_invalid_ratio", **labels)) == 0.2
    assert series.pop(key("kldrift_last_evaluation_timestamp_seconds", monitor="loans")) == 1_750_000_000.5
    assert not series


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.text(st.characters(), max_size=8), min_size=1, max_size=4, unique=True),
    monitor_name=st.text(st.characters(), max_size=8),
    values=st.lists(st.floats(allow_nan=True), min_size=4, max_size=4),
    openmetrics=st.booleans(),
)
def test_any_name_and_value_survive_the_way_to_prometheus(names, monitor_name, values, openmetrics) -> None:
    """Surrogates and control characters included: valid UTF-8, no series lost, the rest of the scrape intact."""
    divergences = np.full((1, len(names), N_DIVERGENCES), np.nan)
    divergences[0, :, 0] = values[: len(names)]
    loans = monitor(monitor_name, [feature(name) for name in names], ("5m",), divergences=divergences)
    series = read(render_drift(snapshot(loans), openmetrics).body, openmetrics)
    for name, value in zip(names, values, strict=False):
        labels = {"monitor": printable(monitor_name), "feature": printable(name), "window": "5m"}
        assert key("kldrift_window_samples", **labels) in series
        got = series.get(key("kldrift_kl_divergence_nats", **labels))
        assert got is None if np.isnan(value) else got == value


def test_an_empty_window_has_no_divergence_but_tells_that_it_is_empty() -> None:
    empty = monitor(
        features=(feature("amount"),),
        windows=("5m",),
        samples=np.array([[0]]),
        divergences=np.full((1, 1, N_DIVERGENCES), np.nan),
        noise_floor=np.array([[np.nan]]),
        lower=np.array([[np.nan]]),
        upper=np.array([[np.nan]]),
        log10_p_value=np.array([[np.nan]]),
        ready=np.array([[False]]),
        missing_ratio=np.array([[np.nan]]),
        invalid_ratio=np.array([[np.nan]]),
        out_of_range_ratio=np.array([[np.nan]]),
    )
    body = render_drift(snapshot(empty)).body
    series = read(body)
    labels = {"monitor": "loans", "feature": "amount", "window": "5m"}
    assert {name for name, own in series if ("window", "5m") in own} == {
        "kldrift_window_samples",
        "kldrift_window_ready",
        "kldrift_feature_absent",
    }
    assert series[key("kldrift_window_samples", **labels)] == 0
    assert series[key("kldrift_window_ready", **labels)] == 0
    assert b"kl_divergence" not in body


def judged(ready, divergence, lower, upper, log10_p_value):
    """One series, as the monitor leaves it: no bounds where it is undecided."""
    divergences = np.full((1, 1, N_DIVERGENCES), divergence)
    return monitor(
        features=(feature("amount"),),
        windows=("5m",),
        divergences=divergences,
        lower=np.array([[lower]]),
        upper=np.array([[upper]]),
        log10_p_value=np.array([[log10_p_value]]),
        ready=np.array([[ready]]),
    )


BOUNDS = ("kldrift_kl_divergence_lower_nats", "kldrift_kl_divergence_upper_nats", "kldrift_drift_log10_p_value")


def test_an_undecided_series_has_a_divergence_but_no_bounds() -> None:
    body = render_drift(snapshot(judged(False, 0.5, np.nan, np.nan, np.nan))).body
    labels = {"monitor": "loans", "feature": "amount", "window": "5m"}
    assert read(body)[key("kldrift_kl_divergence_nats", **labels)] == 0.5
    assert not [name for name in BOUNDS if name.encode() in body]  # not even a header


def test_bounds_are_absent_one_by_one() -> None:
    """An undecided feature beside a judged one loses its own bounds only."""
    nan = np.nan
    both = monitor(
        windows=("5m",),
        lower=np.array([[0.02, nan]]),
        upper=np.array([[0.08, nan]]),
        log10_p_value=np.array([[-6.5, nan]]),
    )
    series = read(render_drift(snapshot(both)).body)
    assert {(name, dict(labels)["feature"]): v for (name, labels), v in series.items() if name in BOUNDS} == {
        ("kldrift_kl_divergence_lower_nats", "amount"): 0.02,
        ("kldrift_kl_divergence_upper_nats", "amount"): 0.08,
        ("kldrift_drift_log10_p_value", "amount"): -6.5,
    }


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_bounds_of_an_infinite_divergence_are_infinite_and_its_p_value_is_zero(openmetrics: bool) -> None:
    body = render_drift(snapshot(judged(True, np.inf, np.inf, np.inf, -np.inf)), openmetrics).body.decode()
    labels = '{monitor="loans",feature="amount",window="5m"}'
    for name, value in zip(BOUNDS, ("+Inf", "+Inf", "-Inf"), strict=True):
        assert f"{name}{labels} {value}\n" in body


def test_only_configured_divergences_are_exported_and_kl_always() -> None:
    body = render_drift(snapshot(monitor(exported=("js",)), monitor("other", exported=("psi",)))).body
    names = {(name, dict(labels)["monitor"]) for name, labels in read(body)}
    assert {(name, m) for name, m in names if name in NAMES} == {
        ("kldrift_kl_divergence_nats", "loans"),
        ("kldrift_kl_divergence_nats", "other"),
        ("kldrift_js_divergence_nats", "loans"),
        ("kldrift_psi", "other"),
    }


def test_a_family_is_contiguous_over_all_monitors() -> None:
    body = render_drift(snapshot(*(monitor(name, exported=DIVERGENCES) for name in "abc"))).body.decode()
    lines = body.splitlines()
    types = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
    assert len(types) == len(set(types))
    runs = [line.split("{")[0] for line in lines if not line.startswith("#")]
    runs = [name for name, before in zip(runs, ["", *runs], strict=False) if name != before]
    assert runs == types


def test_no_monitor_no_output() -> None:
    assert render_drift(snapshot()) == render_drift(snapshot(), max_series=0)
    assert render_drift(snapshot()).body == b""


# --- verdicts, segments, dimensions ------------------------------------------------------------------


def test_an_undecided_verdict_is_absent_and_an_unusable_reference_says_so() -> None:
    features = (feature("amount"), feature("country", "categorical", problem="the reference has 5 rows"))
    loans = monitor(features=features, detected=np.array([[1.0, 0.0], [np.nan, np.nan]]))
    series = read(render_drift(snapshot(loans)).body)
    verdicts = {
        (dict(labels)["feature"], dict(labels)["severity"]): value
        for (name, labels), value in series.items()
        if name == "kldrift_drift_detected"
    }
    assert verdicts == {("amount", "warning"): 1, ("amount", "critical"): 0}
    assert series[key("kldrift_reference_usable", monitor="loans", feature="amount")] == 1
    assert series[key("kldrift_reference_usable", monitor="loans", feature="country")] == 0


OF_ROWS = {
    *NAMES,
    *BOUNDS,
    "kldrift_kl_noise_floor_nats",
    "kldrift_window_samples",
    "kldrift_window_ready",
    "kldrift_feature_absent",
    "kldrift_missing_ratio",
    "kldrift_invalid_ratio",
    "kldrift_unseen_ratio",
    "kldrift_out_of_range_ratio",
    "kldrift_drift_detected",
}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_a_segment_has_what_tells_of_its_rows_and_the_monitor_all_else(openmetrics: bool) -> None:
    whole = segmented("US", "DE", exported=DIVERGENCES)
    rendered = render_drift(snapshot(whole), openmetrics)
    series = read(rendered.body, openmetrics)
    assert len(series) == rendered.series
    assert {name for name, labels in series if "segment" in dict(labels)} == OF_ROWS
    for one in whole.segments:
        for w, window in enumerate(one.windows):
            for f, info in enumerate(one.features):
                labels = {"monitor": "loans", "feature": info.name, "window": window, "segment": one.segment}
                assert series[key("kldrift_kl_divergence_nats", **labels)] == one.divergences[w, f, 0]
                assert series[key("kldrift_kl_divergence_lower_nats", **labels)] == one.lower[w, f]
                assert series[key("kldrift_window_samples", **labels)] == one.samples[w, f]
                assert (key("kldrift_unseen_ratio", **labels) in series) == (info.kind == "categorical")
        labels = {"monitor": "loans", "feature": "country", "severity": "critical", "segment": one.segment}
        assert series[key("kldrift_drift_detected", **labels)] == one.detected[1, 1]
    assert series[key("kldrift_segments", monitor="loans")] == 2
    for w, window in enumerate(whole.windows):
        labels = {"monitor": "loans", "window": window}
        assert series[key("kldrift_segment_mix_divergence_nats", **labels)] == whole.segment_mix[w]
        within = series[key("kldrift_within_segments_divergence_nats", feature="country", **labels)]
        assert within == whole.within_segments[w, 1]


def test_without_segments_there_is_no_word_of_them() -> None:
    assert b"segment" not in render_drift(snapshot(monitor())).body


def test_a_segmented_monitor_without_rows_says_that_it_has_none() -> None:
    series = read(render_drift(snapshot(segmented())).body)
    assert series[key("kldrift_segments", monitor="loans")] == 0
    assert not [labels for _, labels in series if "segment" in dict(labels)]


def segment_labels(*values):
    series = read(render_drift(snapshot(segmented(*values, features=(feature("x"),), windows=("5m",)))).body)
    # in the order of the exposition
    return [dict(labels)["segment"] for name, labels in series if name == "kldrift_window_samples" and len(labels) == 4]


def test_an_empty_value_is_not_the_absence_of_a_label() -> None:
    assert segment_labels("", "(empty)", "US") == ["(empty)", "(empty) #d29a0939", "US"]


def test_a_long_value_is_cut_and_stays_apart_from_others_with_its_beginning() -> None:
    long = "ü" * 100
    first, second, whole = segment_labels(long + "x", long + "y", long)
    assert whole == long  # 200 bytes
    assert first != second
    assert first.startswith(long + "… #")
    assert segment_labels(long + "y") == [second]  # whatever else is there


def test_the_segment_of_all_others_stays_apart_from_a_value_of_that_name() -> None:
    assert segment_labels("other", "US", "other") == ["other", "US", "other (2)"]


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.text(st.characters(), max_size=6) | st.text(min_size=190, max_size=210), max_size=6),
    openmetrics=st.booleans(),
)
def test_any_segment_value_survives_the_way_to_prometheus(values, openmetrics) -> None:
    """Surrogates, control characters, escapes that read like other values, the same value twice: no series is lost."""
    nasty = [*values, "\x00", "\\x00", "\ud800", "\\ud800"]
    whole = segmented(*nasty, features=(feature("x"),), windows=("5m",))
    series = read(render_drift(snapshot(whole), openmetrics).body, openmetrics)
    texts = [dict(labels)["segment"] for name, labels in series if name == "kldrift_window_ready" and len(labels) == 4]
    assert len(set(texts)) == len(nasty)
    assert all(texts)
    assert max(len(text.encode()) for text in texts) <= 250


def test_each_dimension_is_a_series_and_an_undecided_one_is_absent() -> None:
    features = (feature("latent", "vector"), feature("x"), feature("code", "posterior"))
    nan = np.nan
    per_dimension = {2: np.array([[0.5, nan], [0.25, 0.0]]), 0: np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])}
    series = read(render_drift(snapshot(monitor(features=features, per_dimension=per_dimension))).body)
    found = {
        (own["feature"], own["window"], own["dimension"]): value
        for name, labels in series
        if name == "kldrift_dimension_kl_divergence_nats"
        for own, value in [(dict(labels), series[name, labels])]
    }
    assert found == {
        ("latent", "5m", "0"): 1,
        ("latent", "5m", "1"): 2,
        ("latent", "5m", "2"): 3,
        ("latent", "1h", "0"): 4,
        ("latent", "1h", "1"): 5,
        ("latent", "1h", "2"): 6,
        ("code", "5m", "0"): 0.5,
        ("code", "1h", "0"): 0.25,
        ("code", "1h", "1"): 0,
    }


def test_a_vector_has_no_shares_outside_of_bins() -> None:
    body = render_drift(snapshot(monitor(features=(feature("latent", "vector"), feature("z", "posterior"))))).body
    assert b"unseen" not in body
    assert b"out_of_range" not in body


def test_a_reference_that_is_still_to_come_breaks_nothing() -> None:
    none = np.empty(0)
    to_come = feature("x", reference_counts=None, reference_probabilities=none, reference_rows=np.nan, created_ms=0)
    names = {name for name, labels in read(render_drift(snapshot(monitor(features=(to_come,)))).body)}
    assert "kldrift_reference_usable" in names
    assert not names & {"kldrift_reference_missing_ratio", "kldrift_reference_rows"}


# --- the limit of series ---------------------------------------------------------------------------


def names_of(rendered):
    return {name for name, _ in read(rendered.body)}


def test_at_the_limit_nothing_is_left_out() -> None:
    full = snapshot(monitor(exported=DIVERGENCES))
    n = render_drift(full).series
    assert render_drift(full, max_series=n).dropped == 0
    assert render_drift(full, max_series=n - 1).dropped > 0


def test_beyond_the_limit_whole_families_go_in_the_order_of_their_rank() -> None:
    full = snapshot(monitor(exported=DIVERGENCES))
    everything = render_drift(full)
    ranked = sorted((f for f in DRIFT_FAMILIES if f.rank is not None), key=lambda f: f.rank)
    ranked = [f for f in ranked if f.family.name in names_of(everything)]
    assert [f.family.name for f in ranked[:2]] == ["kldrift_kl_divergence_upper_nats", "kldrift_drift_log10_p_value"]
    gone = set()
    limit = everything.series
    for family in ranked:
        rendered = render_drift(full, max_series=limit - 1)
        gone.add(family.family.name)
        assert names_of(rendered) == names_of(everything) - gone
        assert rendered.series + rendered.dropped == everything.series
        assert rendered.series <= limit - 1
        limit = rendered.series
    assert names_of(rendered) == {
        "kldrift_kl_divergence_nats",
        "kldrift_kl_divergence_lower_nats",
        "kldrift_kl_noise_floor_nats",
        "kldrift_drift_threshold_nats",
        "kldrift_drift_detected",
        "kldrift_window_samples",
        "kldrift_window_ready",
        "kldrift_last_evaluation_timestamp_seconds",
    }


@pytest.mark.parametrize("max_series", [0, 1, 2, 15, 16, 29, 30, 31, 57, 58])
def test_then_features_go_from_the_end_and_those_that_stay_stay_whole(max_series: int) -> None:
    """A feature of two windows has fourteen series that are never left out alone."""
    full = snapshot(monitor("a"), monitor("b"))
    rendered = render_drift(full, max_series=max_series)
    series = read(rendered.body)
    kept = [(m, f) for m in "ab" for f in ("amount", "country")][: max(0, max_series - 2) // 14]
    of_features = [dict(labels) for _, labels in series if "feature" in dict(labels)]
    assert Counter((labels["monitor"], labels["feature"]) for labels in of_features) == dict.fromkeys(kept, 14)
    assert rendered.series == len(series) == 14 * len(kept) + 2
    assert rendered.series + rendered.dropped == render_drift(full).series


def test_a_cut_does_not_move_when_a_window_is_empty() -> None:
    full = monitor(exported=DIVERGENCES)
    divergences = full.divergences.copy()
    divergences[0] = np.nan
    half = monitor(exported=DIVERGENCES, divergences=divergences)
    limit = render_drift(snapshot(full)).series - 9
    a, b = (render_drift(snapshot(m), max_series=limit) for m in (full, half))
    assert names_of(a) == names_of(b)
    assert a.dropped == b.dropped > 0


def shown(rendered):
    """The dimensions and segments of a scrape."""
    labels = [dict(labels) for _, labels in read(rendered.body)]
    return "dimension" in {name for own in labels for name in own}, {
        own["segment"] for own in labels if "segment" in own
    }


def test_beyond_the_limit_dimensions_go_first_then_the_smallest_segments_then_families() -> None:
    whole = segmented("US", "DE", "FR", exported=DIVERGENCES, per_dimension={0: np.ones((2, 4))})
    everything = render_drift(snapshot(whole))
    assert shown(everything) == (True, {"US", "DE", "FR"})
    limit, seen = everything.series, []
    for _ in range(5):
        rendered = render_drift(snapshot(whole), max_series=limit - 1)
        assert rendered.series + rendered.dropped == everything.series
        assert rendered.series == len(read(rendered.body)) <= limit - 1
        seen.append((*shown(rendered), names_of(everything) - names_of(rendered)))
        limit = rendered.series
    dimensions = {"kldrift_dimension_kl_divergence_nats"}
    assert seen == [
        (False, {"US", "DE", "FR"}, dimensions),
        (False, {"US", "DE"}, dimensions),
        (False, {"US"}, dimensions),
        (False, set(), dimensions),
        (False, set(), dimensions | {"kldrift_within_segments_divergence_nats"}),
    ]
    fewest = render_drift(snapshot(whole), max_series=0)
    assert names_of(fewest) == {"kldrift_last_evaluation_timestamp_seconds", "kldrift_segments"}
    assert fewest.series + fewest.dropped == everything.series


def test_the_monitor_with_more_segments_loses_some_first() -> None:
    both = snapshot(segmented("a", "b", "c", name="many"), segmented("d", name="few"))
    rendered = render_drift(both, max_series=render_drift(both).series - 1)
    assert shown(rendered) == (False, {"a", "b", "d"})


def test_ten_thousand_segments_are_no_crash() -> None:
    values = [f"{i:05}" for i in range(10_000)]
    one = segmented(features=(feature("x"),), windows=("5m",))
    part = monitor(features=one.features, windows=("5m",))
    whole = replace(one, segments=tuple(replace(part, segment=value) for value in values))
    rendered = render_drift(snapshot(whole))
    assert 49_950 < rendered.series <= 50_000
    assert rendered.dropped > 50_000
    kept = shown(rendered)[1]
    assert kept == set(values[: len(kept)])


def test_series_are_counted_for_a_configuration_as_they_are_exported() -> None:
    features = (
        FeatureSpec("amount", "numeric"),
        FeatureSpec("country", "categorical"),
        FeatureSpec("latent", "vector", dimensions=4, per_dimension=True),
        FeatureSpec("image", "vector", dimensions=9),
    )
    windows = (WindowSpec("5m", 300_000), WindowSpec("1h", 3_600_000))
    plain = MonitorSpec("loans", features, windows, divergences=("kl", "psi"))
    infos = tuple(feature(f.name, f.kind) for f in features)
    values = {"features": infos, "exported": ("kl", "psi"), "per_dimension": {2: np.ones((2, 4))}}
    assert count_series(plain) == render_drift(snapshot(monitor(**values))).series
    split = replace(plain, segments=SegmentSpec("region", 2))
    assert count_series(split) == render_drift(snapshot(segmented("US", "DE", "other", **values))).series


# --- a renderer keeps labels -----------------------------------------------------------------------


def test_a_renderer_that_is_used_again_renders_what_a_new_one_does() -> None:
    renderer = DriftRenderer()
    first = monitor()
    changed = (
        first,
        monitor(features=first.features, seed=1),  # new values
        monitor(features=(first.features[0], feature("country", "categorical", warning=0.5))),
        monitor(features=first.features[:1]),
        monitor(features=first.features, windows=("5m", "24h")),
        monitor(features=first.features, smoothing="laplace"),
        monitor(features=first.features, exported=("kl", "js")),
        monitor("other", features=first.features),
        monitor(features=first.features, estimator="boxkite"),
        monitor(features=first.features, per_dimension={0: np.ones((2, 3))}),
        monitor(features=first.features, per_dimension={0: np.ones((2, 2)), 1: np.ones((2, 1))}),
        segmented("US", "DE", features=first.features),
        segmented("DE", "US", "", features=first.features),  # others are larger now, and one is new
        segmented("", "US", features=first.features),
        segmented(features=first.features),
        first,
    )
    for one in changed:
        for max_series in (50_000, 75, 15):
            again = renderer.render(snapshot(one), max_series=max_series)
            assert again == render_drift(snapshot(one), max_series=max_series)


def test_scrapes_at_one_time_do_not_get_each_others_labels() -> None:
    """Two threads, two states of a monitor's segments, one renderer."""
    features = (feature("x"),)
    states = [snapshot(segmented(*values, features=features)) for values in (("US", "DE"), ("DE", "FR", "US"))]
    expected = [render_drift(state) for state in states]
    renderer = DriftRenderer()
    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(renderer.render, states * 100))
    assert got == expected * 100


@pytest.mark.parametrize(
    "shown", [golden_snapshot(), snapshot(monitor(exported=DIVERGENCES)), snapshot(segmented("", '"\\\n', "é" * 300))]
)
def test_promtool_finds_nothing_to_say(promtool: str, shown: Any) -> None:
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=render_drift(shown).body, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
