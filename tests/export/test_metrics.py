import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from kldrift.export.exposition import printable
from kldrift.export.families import DRIFT_FAMILIES
from kldrift.export.metrics import DriftRenderer, render_drift
from kldrift.records import DIVERGENCES
from tests.export.snapshots import feature, monitor, snapshot

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
            feature('the "risk"\n\\ is 5\x00', "categorical", reference_counts=None, reference_rows=np.inf),
        ),
        exported=("kl", "psi"),
        samples=np.array([[1000, 0], [12000, 7]]),
        divergences=np.array([[[0.0201355] * 8, [np.nan] * 8], [[1 / 3] * 8, [np.inf] * 8]]),
        noise_floor=np.array([[0.0085, np.nan], [1e-300, 0.5]]),
        lower=np.array([[0.0, np.nan], [0.25, np.nan]]),
        upper=np.array([[0.0625, np.nan], [0.4, np.nan]]),
        log10_p_value=np.array([[-1.5, np.nan], [-1e-300, np.nan]]),
        ready=np.array([[True, False], [True, False]]),
        missing_ratio=np.array([[0.0, np.nan], [0.25, 1.0]]),
        unseen_ratio=np.array([[np.nan, np.nan], [np.nan, 0.125]]),
        out_of_range_ratio=np.array([[0.5, np.nan], [0.1, np.nan]]),
    )
    clicks = monitor(
        "clicks",
        features=(feature("dwell", created_ms=0, warning=1e-05),),
        windows=("1h",),
        samples=np.array([[123456789012]]),
        divergences=np.full((1, 1, 8), 1e22),
        noise_floor=np.array([[1e-7]]),
        lower=np.array([[1e21]]),
        upper=np.array([[np.inf]]),
        log10_p_value=np.array([[-np.inf]]),
        ready=np.array([[True]]),
        missing_ratio=np.array([[0.0]]),
        unseen_ratio=np.array([[np.nan]]),
        out_of_range_ratio=np.array([[0.0]]),
    )
    return snapshot(loans, clicks)


@pytest.mark.parametrize(("openmetrics", "file"), [(False, "drift.txt"), (True, "drift.openmetrics")])
def test_the_exposition_is_the_golden_one(openmetrics, file):
    body = render_drift(golden_snapshot(), openmetrics).body
    assert body.decode() == (GOLDEN / file).read_text()


@pytest.mark.parametrize("openmetrics", [False, True])
def test_every_value_is_read_back_exactly(openmetrics):
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
            assert series.pop(key("kldrift_missing_ratio", **labels)) == loans.missing_ratio[w, f]
            if info.kind == "categorical":
                assert series.pop(key("kldrift_unseen_ratio", **labels)) == loans.unseen_ratio[w, f]
            else:
                assert series.pop(key("kldrift_out_of_range_ratio", **labels)) == loans.out_of_range_ratio[w, f]
    for info in loans.features:
        labels = {"monitor": "loans", "feature": info.name}
        identity = {"estimator": "kl_plug_in", "smoothing": "jeffreys", "bins_hash": info.bins_hash}
        assert series.pop(key("kldrift_drift_threshold_nats", severity="warning", **labels)) == 0.01
        assert series.pop(key("kldrift_drift_threshold_nats", severity="critical", **labels)) == 0.1
        assert series.pop(key("kldrift_reference_info", **identity, **labels)) == 1
        assert series.pop(key("kldrift_reference_created_timestamp_seconds", **labels)) == 1_700_000_000.123
        assert series.pop(key("kldrift_reference_rows", **labels)) == 10
        assert series.pop(key("kldrift_reference_missing_ratio", **labels)) == 0.2
    assert series.pop(key("kldrift_last_evaluation_timestamp_seconds", monitor="loans")) == 1_750_000_000.5
    assert not series


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.text(st.characters(), max_size=8), min_size=1, max_size=4, unique=True),
    monitor_name=st.text(st.characters(), max_size=8),
    values=st.lists(st.floats(allow_nan=True), min_size=4, max_size=4),
    openmetrics=st.booleans(),
)
def test_any_name_and_value_survive_the_way_to_prometheus(names, monitor_name, values, openmetrics):
    """Surrogates and control characters included: valid UTF-8, no series lost, the rest of the scrape intact."""
    divergences = np.full((1, len(names), len(DIVERGENCES)), np.nan)
    divergences[0, :, 0] = values[: len(names)]
    loans = monitor(monitor_name, [feature(name) for name in names], ("5m",), divergences=divergences)
    series = read(render_drift(snapshot(loans), openmetrics).body, openmetrics)
    for name, value in zip(names, values, strict=False):
        labels = {"monitor": printable(monitor_name), "feature": printable(name), "window": "5m"}
        assert key("kldrift_window_samples", **labels) in series
        got = series.get(key("kldrift_kl_divergence_nats", **labels))
        assert got is None if np.isnan(value) else got == value


def test_an_empty_window_has_no_divergence_but_tells_that_it_is_empty():
    empty = monitor(
        features=(feature("amount"),),
        windows=("5m",),
        samples=np.array([[0]]),
        divergences=np.full((1, 1, 8), np.nan),
        noise_floor=np.array([[np.nan]]),
        lower=np.array([[np.nan]]),
        upper=np.array([[np.nan]]),
        log10_p_value=np.array([[np.nan]]),
        ready=np.array([[False]]),
        missing_ratio=np.array([[np.nan]]),
        out_of_range_ratio=np.array([[np.nan]]),
    )
    body = render_drift(snapshot(empty)).body
    series = read(body)
    labels = {"monitor": "loans", "feature": "amount", "window": "5m"}
    assert {name for name, own in series if ("window", "5m") in own} == {
        "kldrift_window_samples",
        "kldrift_window_ready",
    }
    assert series[key("kldrift_window_samples", **labels)] == 0
    assert series[key("kldrift_window_ready", **labels)] == 0
    assert b"kl_divergence" not in body


def judged(ready, divergence, lower, upper, log10_p_value):
    """One series, as the monitor leaves it: no bounds where it is undecided."""
    divergences = np.full((1, 1, len(DIVERGENCES)), divergence)
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


def test_an_undecided_series_has_a_divergence_but_no_bounds():
    body = render_drift(snapshot(judged(False, 0.5, np.nan, np.nan, np.nan))).body
    labels = {"monitor": "loans", "feature": "amount", "window": "5m"}
    assert read(body)[key("kldrift_kl_divergence_nats", **labels)] == 0.5
    assert not [name for name in BOUNDS if name.encode() in body]  # not even a header


def test_bounds_are_absent_one_by_one():
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
def test_the_bounds_of_an_infinite_divergence_are_infinite_and_its_p_value_is_zero(openmetrics):
    body = render_drift(snapshot(judged(True, np.inf, np.inf, np.inf, -np.inf)), openmetrics).body.decode()
    labels = '{monitor="loans",feature="amount",window="5m"}'
    for name, value in zip(BOUNDS, ("+Inf", "+Inf", "-Inf"), strict=True):
        assert f"{name}{labels} {value}\n" in body


def test_only_configured_divergences_are_exported_and_kl_always():
    body = render_drift(snapshot(monitor(exported=("js",)), monitor("other", exported=("psi",)))).body
    names = {(name, dict(labels)["monitor"]) for name, labels in read(body)}
    assert {(name, m) for name, m in names if name in NAMES} == {
        ("kldrift_kl_divergence_nats", "loans"),
        ("kldrift_kl_divergence_nats", "other"),
        ("kldrift_js_divergence_nats", "loans"),
        ("kldrift_psi", "other"),
    }


def test_a_family_is_contiguous_over_all_monitors():
    body = render_drift(snapshot(*(monitor(name, exported=DIVERGENCES) for name in "abc"))).body.decode()
    lines = body.splitlines()
    types = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
    assert len(types) == len(set(types))
    runs = [line.split("{")[0] for line in lines if not line.startswith("#")]
    runs = [name for name, before in zip(runs, ["", *runs], strict=False) if name != before]
    assert runs == types


def test_no_monitor_no_output():
    assert render_drift(snapshot()) == render_drift(snapshot(), max_series=0)
    assert render_drift(snapshot()).body == b""


# --- the limit of series ---------------------------------------------------------------------------


def names_of(rendered):
    return {name for name, _ in read(rendered.body)}


def test_at_the_limit_nothing_is_left_out():
    full = snapshot(monitor(exported=DIVERGENCES))
    n = render_drift(full).series
    assert render_drift(full, max_series=n).dropped == 0
    assert render_drift(full, max_series=n - 1).dropped > 0


def test_beyond_the_limit_whole_families_go_in_the_order_of_their_rank():
    full = snapshot(monitor(exported=DIVERGENCES))
    everything = render_drift(full)
    ranked = sorted((f for f in DRIFT_FAMILIES if f.rank is not None), key=lambda f: f.rank)
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
        "kldrift_window_samples",
        "kldrift_window_ready",
        "kldrift_last_evaluation_timestamp_seconds",
    }


@pytest.mark.parametrize("max_series", [0, 1, 2, 13, 14, 25, 26, 27, 49, 50])
def test_then_features_go_from_the_end_and_those_that_stay_stay_whole(max_series):
    """A feature of two windows has twelve series that are never left out alone."""
    full = snapshot(monitor("a"), monitor("b"))
    rendered = render_drift(full, max_series=max_series)
    series = read(rendered.body)
    kept = [(m, f) for m in "ab" for f in ("amount", "country")][: max(0, max_series - 2) // 12]
    of_features = [dict(labels) for _, labels in series if "feature" in dict(labels)]
    assert Counter((labels["monitor"], labels["feature"]) for labels in of_features) == dict.fromkeys(kept, 12)
    assert rendered.series == len(series) == 12 * len(kept) + 2
    assert rendered.series + rendered.dropped == render_drift(full).series


def test_a_cut_does_not_move_when_a_window_is_empty():
    full = monitor(exported=DIVERGENCES)
    divergences = full.divergences.copy()
    divergences[0] = np.nan
    half = monitor(exported=DIVERGENCES, divergences=divergences)
    limit = render_drift(snapshot(full)).series - 9
    a, b = (render_drift(snapshot(m), max_series=limit) for m in (full, half))
    assert names_of(a) == names_of(b)
    assert a.dropped == b.dropped > 0


# --- a renderer keeps labels -----------------------------------------------------------------------


def test_a_renderer_that_is_used_again_renders_what_a_new_one_does():
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
        first,
    )
    for one in changed:
        for max_series in (50_000, 15):
            again = renderer.render(snapshot(one), max_series=max_series)
            assert again == render_drift(snapshot(one), max_series=max_series)


@pytest.mark.parametrize("shown", [golden_snapshot(), snapshot(monitor(exported=DIVERGENCES))])
def test_promtool_finds_nothing_to_say(promtool, shown):
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=render_drift(shown).body, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
