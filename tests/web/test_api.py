"""Health, reload, the API and metrics, without a socket."""

import json
import math

import pytest
from prometheus_client.exposition import choose_encoder

from kldrift.records import DIVERGENCES
from kldrift.web.negotiation import accepts_gzip, wants_openmetrics
from tests.web.fakes import FakeReaders, Service, snapshot

CITY = "home%2Fcity%2C%20%C3%BC%20100%25"


def strict_json(answer):
    """The body, which must not use the NaN and Infinity that JSON does not have."""

    def refuse(constant):
        raise AssertionError(constant)

    return json.loads(answer.content, parse_constant=refuse)


def test_healthy_and_ready():
    assert Service().get("/-/healthy").status_code == 200
    assert Service().get("/-/ready").status_code == 200
    waiting = Service(readers=FakeReaders(ready=False))
    assert waiting.get("/-/healthy").status_code == 200
    answer = waiting.get("/-/ready")
    assert answer.status_code == 503
    assert answer.json()["error"] == "not ready: kernels are being compiled; ask again later"


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_reload(method):
    assert Service().request(method, "/-/reload").json() == {"reloaded": True}
    problems = ["kldrift.yaml:3: server: expected a mapping, got 5; correct it"]
    answer = Service(readers=FakeReaders(problems=problems)).request(method, "/-/reload")
    assert answer.status_code == 500
    assert answer.json()["problems"] == problems


def test_reload_by_get_is_405():
    answer = Service().get("/-/reload")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST, PUT"
    assert answer.json() == {"error": "expected POST, PUT, got GET; use one of these methods"}


def test_status():
    assert Service().get("/api/v1/status").json() == {
        "ready": True,
        "reason": "",
        "version": "0.1.0",
        "started_ms": 1_700_000_000_000,
        "config_path": "kldrift.yaml",
        "sources": [{"name": "files", "up": False, "lag_records": 3, "last_error": "no such file"}],
        "warnings": ["series limit"],
    }


def test_the_index_names_the_endpoints():
    answer = Service().get("/").json()
    assert answer["name"] == "kldrift"
    assert "POST /v1/monitors/{monitor}/samples" in answer["endpoints"]


def test_monitors():
    assert Service().get("/api/v1/monitors").json() == {
        "evaluated_ms": 9,
        "monitors": [{"name": "loans", "at_ms": 7, "windows": ["5m", "1h"], "features": 2}],
    }


def test_a_monitor_has_every_feature_and_window():
    monitor = strict_json(Service().get("/api/v1/monitors/loans"))
    assert [feature["name"] for feature in monitor["features"]] == ["age", "home/city, ü 100%"]
    age, city = monitor["features"]
    assert age["windows"]["5m"] == {
        "state": "ready",
        "samples": 10,
        "ready": True,
        "divergences": {name: i / 8 for i, name in enumerate(DIVERGENCES)},
        "noise_floor": 0.2,
        "lower": 0.0,
        "upper": 0.9,
        "log10_p_value": -0.3,
        "missing_ratio": 0.1,
        "unseen_ratio": 0.1,
        "out_of_range_ratio": 0.1,
    }
    empty = age["windows"]["1h"]
    assert (empty["state"], empty["samples"], empty["noise_floor"]) == ("empty", 0, None)
    assert set(empty["divergences"].values()) == {None}
    assert city["windows"]["5m"]["state"] == "undecided"
    assert city["windows"]["5m"]["divergences"]["kl"] == "+Inf"
    assert city["problem"] == "too short"


def test_a_feature_shows_what_its_figures_were_computed_from():
    feature = strict_json(Service().get("/api/v1/monitors/loans/features/age?window=5m"))
    assert feature == {
        "monitor": "loans",
        "feature": "age",
        "kind": "numeric",
        "window": "5m",
        "windows": ["5m", "1h"],
        "at_ms": 7,
        "state": "ready",
        "samples": 10,
        "ready": True,
        "problem": None,
        "divergences": {name: i / 8 for i, name in enumerate(DIVERGENCES)},
        "noise_floor": 0.2,
        "lower": 0.0,
        "upper": 0.9,
        "log10_p_value": -0.3,
        "effective_samples": 5.0,
        "missing_ratio": 0.1,
        "unseen_ratio": 0.1,
        "out_of_range_ratio": 0.1,
        "thresholds": {"warning": 0.01, "critical": 0.1},
        "edges": ["-Inf", 0.5, "+Inf"],
        "categories": None,
        "cells": ["[-inf, 0.5)", "[0.5, inf]", "missing"],
        "live_counts": [2, 7, 1],
        "reference_counts": [4, 5, 1],
        "reference_probabilities": [0.4, 0.5, 0.1],
        "reference_rows": 10.0,
        "reference_created_ms": 5,
        "reference_hash": "r1",
        "bins_hash": "b1",
        "smoothing": "none",
    }


def test_a_divergence_can_be_recomputed_from_the_answer():
    feature = Service().get("/api/v1/monitors/loans/features/age").json()
    n = sum(feature["live_counts"])
    kl = math.fsum(
        x / n * math.log(x / n / q)
        for x, q in zip(feature["live_counts"], feature["reference_probabilities"], strict=True)
    )
    assert kl == pytest.approx(0.2 * math.log(0.5) + 0.7 * math.log(1.4))


@pytest.mark.parametrize("encoded", [CITY, CITY.replace("%2F", "/")])
def test_a_feature_name_may_hold_any_character(encoded):
    feature = strict_json(Service().get(f"/api/v1/monitors/loans/features/{encoded}?window=1h"))
    assert feature["feature"] == "home/city, ü 100%"
    assert feature["window"] == "1h"
    assert feature["categories"] == ["München", "other"]
    assert feature["live_counts"] == [0, 0]
    assert feature["reference_counts"] is None
    assert feature["reference_rows"] == "+Inf"
    assert feature["edges"] is None


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/api/v1/monitors/loan", "expected a known monitor, got 'loan'; did you mean 'loans'? known: 'loans'"),
        (
            "/api/v1/monitors/loans/features/agee",
            "expected a known feature, got 'agee'; did you mean 'age'? known: 'age', 'home/city, ü 100%'",
        ),
        ("/api/v1/monitors/loans/features/", "expected a known feature, got ''; known: 'age', 'home/city, ü 100%'"),
        (
            "/api/v1/monitors/loans/features/age?window=11h",
            "expected a known window, got '11h'; did you mean '1h'? known: '5m', '1h'",
        ),
        ("/api/v1/monitors/%ff", "expected a name in percent-encoded UTF-8, got '%ff'; encode it as UTF-8"),
        ("/nowhere/ü", "nothing is at '/nowhere/%C3%BC'; GET / lists what there is"),
        ("/api/v1/monitors/", "nothing is at '/api/v1/monitors/'; GET / lists what there is"),
    ],
)
def test_what_is_not_known_is_404_with_what_is(path, error):
    answer = Service().get(path)
    assert answer.status_code == 404
    assert answer.json() == {"error": error}


@pytest.mark.parametrize("path", ["/", "/-/ready", "/api/v1/status", "/api/v1/monitors/loans", "/nowhere"])
def test_answers_are_not_cached_nor_sniffed(path):
    headers = Service().get(path).headers
    assert headers["content-type"] == "application/json"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


def test_every_request_is_heard_of_with_a_handler_from_a_bounded_set():
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
def test_an_error_of_our_own_is_500_in_json_and_logged(path, caplog):
    class Broken(FakeReaders):
        def status(self):
            raise ZeroDivisionError("secret")

        async def exposition(self, openmetrics, gzip):
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
def test_the_representation_is_the_one_that_prometheus_client_chooses(accept, openmetrics):
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
def test_weights_and_versions_are_kept_to(accept):
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
def test_gzip_is_used_when_it_is_accepted(accept_encoding, expected):
    assert accepts_gzip(accept_encoding) is expected


def test_metrics_say_what_they_are():
    service = Service()
    text = service.get("/metrics", headers={"accept": "*/*", "accept-encoding": "identity"})
    assert text.content == b"metrics"
    assert text.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert text.headers["vary"] == "Accept, Accept-Encoding"
    assert "content-encoding" not in text.headers
    openmetrics = service.get("/metrics", headers={"accept": PROMETHEUS_3, "accept-encoding": "identity"})
    assert openmetrics.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert service.readers.asked == [(False, False), (True, False)]


def test_compressed_metrics_are_labelled():
    service = Service()
    answer = service.get("/metrics", headers={"accept-encoding": "gzip"})
    assert service.readers.asked == [(False, True)]
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.content == b"metrics"  # httpx has undone it


def test_metrics_by_head_have_the_length_and_no_body():
    answer = Service().request("HEAD", "/metrics", headers={"accept-encoding": "identity"})
    assert answer.status_code == 200
    assert answer.headers["content-length"] == "7"
    assert answer.content == b""


def test_metrics_by_post_are_405():
    answer = Service().request("POST", "/metrics", content=b"x")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_the_snapshot_of_these_tests_is_consistent():
    [monitor] = snapshot().monitors
    assert monitor.counts.shape == (2, monitor.offsets[-1])
    for f, info in enumerate(monitor.features):
        assert len(info.cells) == monitor.offsets[f + 1] - monitor.offsets[f]
        assert sum(monitor.counts[0, monitor.offsets[f] : monitor.offsets[f + 1]]) == monitor.samples[0, f]
