"""Health, reload, the API and metrics, without a socket."""

import json
import math
import re
from dataclasses import replace
from typing import Any, Never

import numpy as np
import pytest
from prometheus_client.exposition import choose_encoder

from kldrift.pages.reading import cell_label
from kldrift.records.divergences import DIVERGENCES, N_DIVERGENCES
from kldrift.records.snapshots import DriftSnapshot
from kldrift.web.negotiation import accepts_gzip, wants_openmetrics
from tests.web.fakes import AGE, FakeReaders, Service, loans, segmented_loans, snapshot

NOT_CRITICAL = (
    " It is also above the critical tolerance of 0.1, but that may be chance: the verdict over all features does not"
    " confirm it."
)
CHANCE = " It may be chance: the verdict over all features does not confirm it."

CITY = "home%2Fcity%2C%20%C3%BC%20100%25"


def strict_json(answer):
    """The body, which must not use the NaN and Infinity that JSON does not have."""

    def refuse(constant) -> Never:
        raise AssertionError(constant)

    return json.loads(answer.content, parse_constant=refuse)


def test_healthy_and_ready() -> None:
    assert Service().get("/-/healthy").status_code == 200
    assert Service().get("/-/ready").status_code == 200
    hung = Service(readers=FakeReaders(hung="nothing has been counted for 90 s")).get("/-/healthy")
    assert hung.status_code == 503
    assert hung.json()["error"] == "hung: nothing has been counted for 90 s; restart the daemon"
    waiting = Service(readers=FakeReaders(ready=False))
    assert waiting.get("/-/healthy").status_code == 200
    answer = waiting.get("/-/ready")
    assert answer.status_code == 503
    assert answer.json()["error"] == "not ready: kernels are being compiled; retry later"


class Starting(FakeReaders):
    """Nothing is evaluated yet."""

    def snapshot(self):
        return DriftSnapshot(0)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/monitors",
        "/api/v1/monitors/loans",
        "/api/v1/monitors/loans/features/age",
        "/api/v1/monitors/loans/feature?name=age",
        "/api/v1/monitors/loans/history/age",
        "/monitors/loans",
        "/monitors/loans/feature?name=age",
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_before_the_first_evaluation_figures_are_503_and_to_be_asked_for_again(path: str, accept: str) -> None:
    service = Service(readers=Starting(ready=False))
    for answer in (service.get(path, headers={"accept": accept}), service.get("/", headers={"accept": "text/html"})):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert "not ready: kernels are being compiled; retry later" in answer.text
    assert service.get("/api/v1/status").json()["reason"] == "kernels are being compiled"
    assert service.get("/configuration").status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_reload(method: str) -> None:
    assert Service().request(method, "/-/reload").json() == {"reloaded": True}
    problems = ["kldrift.yaml:3: server: expected a mapping, got 5; correct it"]
    answer = Service(readers=FakeReaders(problems=problems)).request(method, "/-/reload")
    assert answer.status_code == 500
    assert answer.json()["problems"] == problems


def test_the_answer_to_a_reload_says_what_begins_anew_with_it() -> None:
    readers = FakeReaders()
    earlier, now = (
        (5, "feature income: its windows start empty (it is new)"),
        (9, "window 5m: it is new, and starts empty"),
    )

    async def reload() -> list[str]:
        readers.monitors = (replace(readers.monitors[0], began=(earlier, now)),)
        return []

    readers.monitors = (replace(readers.monitors[0], began=(earlier,)),)
    readers.reload = reload
    service = Service(readers=readers)
    name = readers.monitors[0].name
    assert service.request("POST", "/-/reload").json() == {"reloaded": True, "anew": {name: [now[1]]}}
    assert service.request("POST", "/-/reload").json() == {"reloaded": True}
    began = service.get(f"/api/v1/monitors/{name}").json()["began"]
    assert began == [{"at_ms": 5, "text": earlier[1]}, {"at_ms": 9, "text": now[1]}]
    page = service.get(f"/monitors/{name}").text
    assert f"<li>{earlier[1]}" in page
    assert f"<li>{now[1]}" in page


def test_reload_by_get_is_405() -> None:
    answer = Service().get("/-/reload")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST, PUT"
    assert answer.json() == {"error": "expected POST, PUT, got GET; use one of these methods"}


def test_status() -> None:
    assert Service().get("/api/v1/status").json() == {
        "ready": True,
        "reason": "",
        "version": "0.1.0",
        "started_ms": 1_700_000_000_000,
        "config_path": "kldrift.yaml",
        "sources": [{"name": "files", "up": False, "lag_records": 3, "last_error": "no such file"}],
        "warnings": ["series limit"],
        "hung": "",
    }


def test_the_index_names_the_endpoints() -> None:
    answer = Service().get("/").json()
    assert answer["name"] == "kldrift"
    assert "POST /v1/monitors/{monitor}/samples" in answer["endpoints"]


def test_monitors() -> None:
    assert Service().get("/api/v1/monitors").json() == {
        "evaluated_ms": 9,
        "monitors": [{"name": "loans", "at_ms": 7, "windows": ["5m", "1h"], "features": 3}],
    }


def test_a_monitor_has_every_feature_and_window() -> None:
    monitor = strict_json(Service().get("/api/v1/monitors/loans"))
    assert [feature["name"] for feature in monitor["features"]] == ["age", "home/city, ü 100%", "latent"]
    age, city, _ = monitor["features"]
    assert age["windows"]["5m"] == {
        "state": "ready",
        "samples": 10,
        "ready": True,
        "absent": False,
        "divergences": {name: i / 8 for i, name in enumerate(DIVERGENCES)},
        "noise_floor": 0.2,
        "lower": 0.031,
        "upper": 0.9,
        "log10_p_value": -7.5,
        "missing_ratio": 0.1,
        "invalid_ratio": 0.05,
        "unseen_ratio": 0.1,
        "out_of_range_ratio": 0.1,
    }
    empty = age["windows"]["1h"]
    assert (empty["state"], empty["samples"], empty["noise_floor"]) == ("empty", 0, None)
    assert set(empty["divergences"].values()) == {None}
    assert city["windows"]["5m"]["state"] == "undecided"
    assert city["windows"]["5m"]["divergences"]["kl"] == "+Inf"
    assert city["problem"] == "too short"


def test_an_absent_feature_is_a_state_of_its_own() -> None:
    absent = np.array([[False, True, False], [False] * 3])
    service = Service(readers=FakeReaders(monitor=loans(absent=absent)))
    _, city, latent = strict_json(service.get("/api/v1/monitors/loans"))["features"]
    assert (city["state"], latent["state"]) == ("absent", "undecided")
    assert [(of["state"], of["absent"]) for of in city["windows"].values()] == [("absent", True), ("empty", False)]


def test_a_monitor_has_the_verdict_of_each_feature_over_its_windows() -> None:
    monitor = strict_json(Service().get("/api/v1/monitors/loans"))
    age, city, latent = monitor["features"]
    assert (age["state"], age["detected"]) == ("ready", {"warning": True, "critical": False})
    for undecided in (city, latent):
        assert (undecided["state"], undecided["detected"]) == ("undecided", {"warning": None, "critical": None})
    assert (monitor["estimator"], monitor["confidence"]) == ("kldrift", 0.9999)
    assert (monitor["segment"], monitor["segments"]) == (None, None)


def test_a_feature_without_samples_in_any_window_is_empty() -> None:
    nothing = loans(samples=np.zeros((2, 3), dtype=np.int64), ready=np.zeros((2, 3), dtype=bool))
    monitor = strict_json(Service(readers=FakeReaders(monitor=nothing)).get("/api/v1/monitors/loans"))
    assert [feature["state"] for feature in monitor["features"]] == ["empty"] * 3


def test_a_feature_shows_what_its_figures_were_computed_from() -> None:
    feature = strict_json(Service().get("/api/v1/monitors/loans/features/age?window=5m"))
    explanation = feature.pop("explanation")
    assert list(explanation) == ["kl", "missing", "invalid", "new", "shape", "contributions", "shares"]
    assert feature == {
        "monitor": "loans",
        "segment": None,
        "feature": "age",
        "kind": "numeric",
        "window": "5m",
        "windows": ["5m", "1h"],
        "at_ms": 7,
        "state": "ready",
        "reading": "Warning: KL is at least 0.031 nats, above the tolerance of 0.01. 100 % of the divergence comes from"
        " a change of shape. The biggest contributor is values below 0.5: 20 % of rows now, 40 % in the reference."
        " 10 % of rows lie outside the range of the reference, 0.25 to ∞.",
        "samples": 10,
        "ready": True,
        "absent": False,
        "problem": None,
        "detected": {"warning": True, "critical": False},
        "divergences": {name: i / 8 for i, name in enumerate(DIVERGENCES)},
        "estimator": "kldrift",
        "per_dimension": None,
        "within_segments": None,
        "noise_floor": 0.2,
        "lower": 0.031,
        "upper": 0.9,
        "confidence": 0.9999,
        "log10_p_value": -7.5,
        "effective_samples": 5.0,
        "dispersion": 1.25,
        "missing_ratio": 0.1,
        "invalid_ratio": 0.05,
        "unseen_ratio": 0.1,
        "unseen_expected_ratio": None,
        "out_of_range_ratio": 0.1,
        "thresholds": {"warning": 0.01, "critical": 0.1},
        "smallest_drift": {"window": None, "any_window": None},
        "edges": ["-Inf", 0.5, "+Inf"],
        "reference_range": [0.25, "+Inf"],
        "limits": ["only infinite values count"],
        "categories": None,
        "cells": ["[-inf, 0.5)", "[0.5, inf)", "underflow", "overflow", "missing", "invalid"],
        "left_out": [],
        "live_counts": [2, 7, 0, 0, 1, 0],
        "reference": "loans.parquet",
        "parameters": {"mean": 0.25, "std": "+Inf"},
        "reference_counts": [4, 5, 0, 0, 1, 0],
        "reference_probabilities": [0.4, 0.5, 0.0, 0.0, 0.1, 0.0],
        "reference_rows": 10.0,
        "reference_created_ms": 5,
        "reference_hash": "r1",
        "bins_hash": "b1",
        "smoothing": "none",
    }


def test_a_divergence_can_be_recomputed_from_the_answer() -> None:
    feature = Service().get("/api/v1/monitors/loans/features/age").json()
    n = sum(feature["live_counts"])
    kl = math.fsum(
        x / n * math.log(x / n / q)
        for x, q in zip(feature["live_counts"], feature["reference_probabilities"], strict=True)
        if x
    )
    assert kl == pytest.approx(0.2 * math.log(0.5) + 0.7 * math.log(1.4))
    explanation = feature["explanation"]
    assert explanation["kl"] == pytest.approx(kl, abs=1e-12)
    assert math.fsum(explanation["contributions"]) == pytest.approx(kl, abs=1e-12)
    assert sum(explanation[part] for part in ("missing", "invalid", "new", "shape")) == pytest.approx(kl, abs=1e-12)
    assert math.fsum(explanation["shares"]) == pytest.approx(1, abs=1e-12)
    assert len(explanation["contributions"]) == len(feature["cells"])


def test_a_window_shows_what_it_was_compared_with_itself() -> None:
    q = np.array(loans().reference_probabilities)
    q[0, :6] = [0.2, 0.7, 0, 0, 0.1, 0]
    moving = loans(reference_probabilities=q, reference_rows=np.array([[77.0, np.inf, 0], [0, 0, 0]]))
    feature = strict_json(Service(readers=FakeReaders(monitor=moving)).get("/api/v1/monitors/loans/features/age"))
    assert feature["reference_probabilities"] == [0.2, 0.7, 0, 0, 0.1, 0]
    assert feature["reference_rows"] == 77
    assert feature["explanation"]["kl"] == 0
    assert feature["explanation"]["shares"] == [0] * 6


def test_an_infinite_divergence_is_explained_by_the_cell_that_the_reference_does_not_have() -> None:
    explanation = strict_json(Service().get(f"/api/v1/monitors/loans/features/{CITY}"))["explanation"]
    assert (explanation["kl"], explanation["missing"], explanation["new"]) == ("+Inf", 0, "+Inf")
    assert explanation["contributions"][2] == "+Inf"
    assert explanation["shares"] == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("path", ["latent", "age?window=1h"])
def test_vectors_and_empty_windows_have_no_explanation(path: str) -> None:
    assert strict_json(Service().get(f"/api/v1/monitors/loans/features/{path}"))["explanation"] is None


def test_what_is_compared_with_nothing_has_no_explanation() -> None:
    learning = loans(divergences=np.full((2, 3, N_DIVERGENCES), np.nan))
    feature = strict_json(Service(readers=FakeReaders(monitor=learning)).get("/api/v1/monitors/loans/features/age"))
    assert feature["explanation"] is None


def test_a_vector_has_the_divergence_of_each_dimension_where_asked_for() -> None:
    path = "/api/v1/monitors/loans/features/latent"
    assert strict_json(Service().get(path))["per_dimension"] == [0.5, 0.25]
    assert strict_json(Service().get(f"{path}?window=1h"))["per_dimension"] == [None, None]


# --- why a series is in its state ------------------------------------------------------------------


def series(detected=(1.0, 0.0), **changes):
    """``loans`` with another verdict on ``age``, and other figures of it over 5m."""
    base = loans()
    verdicts = np.array(base.detected)
    verdicts[0] = detected
    changed = {"detected": verdicts}
    for name, value in changes.items():
        changed[name] = np.array(getattr(base, name))
        changed[name][0, 0] = value
    return loans(**changed)


@pytest.mark.parametrize(
    ("monitor", "expected"),
    [
        (series(samples=0), "No samples in this window yet."),
        (series(lower=0.2, detected=(1, 1)), "Critical: KL is at least 0.2 nats, above the tolerance of 0.1."),
        (series(lower=0.02), "Warning: KL is at least 0.02 nats, above the tolerance of 0.01."),
        (
            series(lower=0.2),
            f"Warning: KL is at least 0.2 nats, above the tolerance of 0.01.{NOT_CRITICAL}",
        ),
        (
            series(lower=0.2, detected=(0, 0)),
            f"No confirmed drift: KL is at least 0.2 nats, above the tolerance of 0.1.{CHANCE}",
        ),
        (series(lower=math.inf, detected=(1, 1)), "Critical: KL is at least ∞ nats, above the tolerance of 0.1."),
        (
            series(lower=0.01),
            "No certain drift: KL is between 0.01 and 0.9 nats, and a warning takes a lower bound above 0.01.",
        ),
        (series(lower=0.0, upper=0.009), "No drift: KL is at most 0.009 nats, within the tolerance of 0.01."),
        (series(ready=False), "Undecided: 10 samples so far, and a verdict needs 30."),
        (
            series(ready=False, noise_floor=0, reference_rows=7),
            "Undecided: the reference has 7 rows, and a verdict needs 10.",
        ),
        (series(ready=False, noise_floor=math.nan), "Undecided: 10 samples are too few."),
        (series(ready=False, reference_rows=0), "Undecided: there is nothing to compare this window with yet."),
    ],
)
def test_the_reading_says_why_a_series_is_in_its_state(monitor: Any, expected: str) -> None:
    feature = strict_json(Service(readers=FakeReaders(monitor=monitor)).get("/api/v1/monitors/loans/features/age"))
    assert re.split(r" \d+ % of", feature["reading"])[0] == expected


@pytest.mark.parametrize(
    ("counts", "changed"),
    [
        ([4, 4, 0, 0, 12, 0], ("98 %", "missing values", "missing values", "60 %", "10 %")),
        ([4, 4, 0, 0, 1, 1], ("84 %", "values that are not numbers", "values that are not numbers", "10 %", "1 %")),
        ([0, 1, 9, 0, 0, 0], ("96 %", "values without a bin of their own", "values below the bins", "90 %", "1 %")),
        ([0, 9, 0, 0, 1, 0], ("94 %", "a change of shape", "values below 0.5", "0 %", "37 %")),
    ],
)  # fmt: skip
def test_the_reading_of_a_drift_says_what_changed(counts: list[int], changed: tuple[str, ...]) -> None:
    cells, q = np.array(loans().counts), np.array(loans().reference_probabilities)
    cells[0, :6], q[0, :6] = counts, [0.37, 0.5, 0.01, 0.01, 0.1, 0.01]
    drifting = FakeReaders(monitor=loans(counts=cells, reference_probabilities=q))
    text = strict_json(Service(readers=drifting).get("/api/v1/monitors/loans/features/age"))["reading"]
    share, part, cell, now, before = changed
    assert text.endswith(
        f"0.01. {share} of the divergence comes from {part}. The biggest contributor is {cell}:"
        f" {now} of rows now, {before} in the reference."
        " 10 % of rows lie outside the range of the reference, 0.25 to ∞."
    )


@pytest.mark.parametrize(
    ("left", "right", "label"),
    [
        (-np.inf, np.inf, "any value"), (-np.inf, 1000, "values below 1,000"), (12.5, np.inf, "values from 12.5 on"),
        (21654.6, 32455.7, "21,655 to 32,456"), (0.3, 0.30000001, "0.3 to 0.30000001"), (-1, 0, "-1 to 0"),
        (5.0, np.nextafter(5.0, 6), "the value 5"),
    ],
)  # fmt: skip
def test_a_bin_within_a_sentence(left: float, right: Any, label: str) -> None:
    info = replace(AGE, edges=np.array([left, right]), cells=("", "underflow", "overflow", "missing", "invalid"))
    assert cell_label(info, 0) == label


def test_the_reading_names_a_problem_of_the_reference_and_counts_present_vectors() -> None:
    service = Service()
    assert service.get(f"/api/v1/monitors/loans/features/{CITY}").json()["reading"] == "Undecided: too short."
    latent = service.get("/api/v1/monitors/loans/features/latent").json()
    assert latent["reading"] == "Undecided: 7 samples so far, and a verdict needs 170."


# --- segments --------------------------------------------------------------------------------------


def test_a_monitor_has_its_segments_and_their_mix() -> None:
    monitor = strict_json(Service(readers=FakeReaders(monitor=segmented_loans())).get("/api/v1/monitors/loans"))
    assert monitor["segments"] == {
        "names": ["DE", "other"],
        "windows": {
            "5m": {"mix": 0.25, "rows": [6, 2], "shares": [0.75, 0.25]},
            "1h": {"mix": None, "rows": [0, 0], "shares": [None, None]},
        },
    }


def test_a_feature_has_what_lies_within_the_segments() -> None:
    service = Service(readers=FakeReaders(monitor=segmented_loans()))
    for path, expected in [("age", 0.5), (CITY, "+Inf"), ("age?window=1h", None)]:
        assert strict_json(service.get(f"/api/v1/monitors/loans/features/{path}"))["within_segments"] == expected


def test_a_segment_is_asked_for_by_its_value() -> None:
    service = Service(readers=FakeReaders(monitor=segmented_loans()))
    monitor = strict_json(service.get("/api/v1/monitors/loans?segment=DE"))
    assert (monitor["segment"], monitor["segments"]) == ("DE", None)
    assert monitor["features"][0]["windows"]["5m"]["samples"] == 6
    feature = strict_json(service.get("/api/v1/monitors/loans/features/age?window=5m&segment=other"))
    assert (feature["segment"], feature["samples"]) == ("other", 2)


@pytest.mark.parametrize("path", ["", "/features/age"])
@pytest.mark.parametrize(
    ("monitor", "error"),
    [
        (segmented_loans(), "expected a known segment, got 'others'; did you mean 'other'? known: 'DE', 'other'"),
        (segmented_loans(segments=()), "expected a known segment, got 'others'; no segment has rows yet"),
        (loans(), "expected a known segment, got 'others'; this monitor has no segments"),
    ],
)
def test_an_unknown_segment_is_404_with_the_known_ones(path: str, monitor: Any, error: str) -> None:
    answer = Service(readers=FakeReaders(monitor=monitor)).get(f"/api/v1/monitors/loans{path}?segment=others")
    assert (answer.status_code, answer.json()) == (404, {"error": error})


@pytest.mark.parametrize("encoded", [CITY, CITY.replace("%2F", "/")])
def test_a_feature_name_may_hold_any_character(encoded: str) -> None:
    feature = strict_json(Service().get(f"/api/v1/monitors/loans/features/{encoded}?window=1h"))
    assert feature["feature"] == "home/city, ü 100%"
    assert feature["window"] == "1h"
    assert feature["categories"] == ["München"]
    assert feature["live_counts"] == [0, 0, 0, 0, 0]
    assert feature["reference_counts"] is None
    assert feature["reference_rows"] == "+Inf"
    assert feature["edges"] is None


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/api/v1/monitors/loan", "expected a known monitor, got 'loan'; did you mean 'loans'? known: 'loans'"),
        (
            "/api/v1/monitors/loans/features/agee",
            "expected a known feature, got 'agee'; did you mean 'age'? known: 'age', 'home/city, ü 100%', 'latent'",
        ),
        (
            "/api/v1/monitors/loans/features/",
            "expected a known feature, got ''; known: 'age', 'home/city, ü 100%', 'latent'",
        ),
        (
            "/api/v1/monitors/loans/features/age?window=11h",
            "expected a known window, got '11h'; did you mean '1h'? known: '5m', '1h'",
        ),
        ("/api/v1/monitors/%ff", "expected a name in percent-encoded UTF-8, got '%ff'; encode it as UTF-8"),
        ("/nowhere/ü", "nothing found at '/nowhere/%C3%BC'; GET / lists the endpoints"),
        ("/api/v1/monitors/", "nothing found at '/api/v1/monitors/'; GET / lists the endpoints"),
    ],
)
def test_what_is_not_known_is_404_with_what_is(path: str, error: str) -> None:
    answer = Service().get(path)
    assert answer.status_code == 404
    assert answer.json() == {"error": error}


@pytest.mark.parametrize("path", ["/", "/-/ready", "/api/v1/status", "/api/v1/monitors/loans", "/nowhere"])
def test_answers_are_not_cached_nor_sniffed(path: str) -> None:
    headers = Service().get(path).headers
    assert headers["content-type"] == "application/json"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


def test_every_request_is_heard_of_with_a_handler_from_a_bounded_set() -> None:
    service = Service()
    for method, path in [
        ("GET", "/"),
        ("GET", "/-/healthy"),
        ("GET", "/-/ready"),
        ("GET", "/-/reload"),
        ("GET", "/api/v1/status"),
        ("GET", "/api/v1/monitors"),
        ("GET", "/api/v1/monitors/loans"),
        ("GET", "/api/v1/monitors/loans/features/age"),
        ("GET", "/metrics"),
        ("GET", "/v1/monitors/x/y"),
        ("GET", "/nowhere"),
    ]:
        service.request(method, path)
    assert [(handler, status) for handler, status, _ in service.seen] == [
        ("index", 200),
        ("healthy", 200),
        ("ready", 200),
        ("reload", 405),
        ("status", 200),
        ("monitors", 200),
        ("monitor", 200),
        ("feature", 200),
        ("metrics", 200),
        ("ingest", 404),
        ("other", 404),
    ]


@pytest.mark.parametrize("path", ["/api/v1/status", "/metrics"])
def test_an_error_of_our_own_is_500_in_json_and_logged(path: str, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeReaders):
        def status(self) -> Never:
            raise ZeroDivisionError("secret")

        async def exposition(self, openmetrics, gzip) -> Never:
            raise ZeroDivisionError("secret")

    service = Service(readers=Broken())
    answer = service.get(path)
    assert answer.status_code == 500
    assert "its log" in answer.json()["error"]
    assert b"secret" not in answer.content
    assert "ZeroDivisionError" in caplog.text
    assert [status for _, status, _ in service.seen] == [500]


# --- metrics ---------------------------------------------------------------------------------------

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        (PROMETHEUS_3, True),
        (PROMETHEUS_2, True),
        ("application/openmetrics-text", True),
        ("text/plain;version=0.0.4;q=0.5, application/openmetrics-text;q=0.9", True),
        ("", False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("text/plain;version=0.0.4", False),
    ],
)
def test_the_representation_is_the_one_that_prometheus_client_chooses(accept: str, openmetrics: bool) -> None:
    assert wants_openmetrics(accept) is openmetrics
    assert choose_encoder(accept)[1].startswith("application/openmetrics-text") is openmetrics


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;q=0",
        "application/openmetrics-text;q=0.1, text/plain;q=0.9",
        "application/openmetrics-text;version=2.0.0",
        "application/openmetrics-text;q=x",
        "application/openmetrics-text;q=nan",
        ";;,,=;q",
    ],
)
def test_weights_and_versions_are_kept_to(accept: str) -> None:
    assert wants_openmetrics(accept) is False


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("*", True),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("identity", False),
    ],
)
def test_gzip_is_used_when_it_is_accepted(accept_encoding: str, expected: bool) -> None:
    assert accepts_gzip(accept_encoding) is expected


def test_metrics_say_what_they_are() -> None:
    service = Service()
    text = service.get("/metrics", headers={"accept": "*/*", "accept-encoding": "identity"})
    assert text.content == b"metrics"
    assert text.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert text.headers["vary"] == "Accept, Accept-Encoding"
    assert "content-encoding" not in text.headers
    openmetrics = service.get("/metrics", headers={"accept": PROMETHEUS_3, "accept-encoding": "identity"})
    assert openmetrics.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert service.readers.asked == [(False, False), (True, False)]


def test_compressed_metrics_are_labelled() -> None:
    service = Service()
    answer = service.get("/metrics", headers={"accept-encoding": "gzip"})
    assert service.readers.asked == [(False, True)]
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.content == b"metrics"  # httpx has undone it


def test_metrics_by_head_have_the_length_and_no_body() -> None:
    answer = Service().request("HEAD", "/metrics", headers={"accept-encoding": "identity"})
    assert answer.status_code == 200
    assert answer.headers["content-length"] == "7"
    assert answer.content == b""


def test_metrics_by_post_are_405() -> None:
    answer = Service().request("POST", "/metrics", content=b"x")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_the_snapshot_of_these_tests_is_consistent() -> None:
    [monitor] = snapshot().monitors
    assert monitor.counts.shape == (2, monitor.offsets[-1])
    for f, info in enumerate(monitor.features):
        assert len(info.cells) == monitor.offsets[f + 1] - monitor.offsets[f]
        assert sum(monitor.counts[0, monitor.offsets[f] : monitor.offsets[f + 1]]) == monitor.samples[0, f]
