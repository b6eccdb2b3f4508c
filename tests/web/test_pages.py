"""The pages without a browser: what is answered to whom, and what stands in it."""

import gzip
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
import pytest

from kldrift.records.snapshots import Spread, Track
from tests.export.snapshots import feature, monitor
from tests.web.fakes import AGE, NOW_MS, FakeReaders, Service, course, loans, segmented_loans
from tests.web.html_pages import HTML, Page, page

SCRIPT = "<script>alert(1)</script>"

# --- who gets what ----------------------------------------------------------------------------------

PAGES = ["/", "/monitors/loans", "/monitors/loans/feature?name=age", "/configuration"]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_well_formed(path: str) -> None:
    found = page(Service(), path)
    assert found.tags["h1"] == found.tags["main"] == 1


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "readers",
    [
        {"monitors": ()},
        {"ready": False, "monitors": ()},
        {"monitor": segmented_loans(), "tracks": course(2)},
        {"monitor": segmented_loans(), "tracks": course(1)},
        {"tracks": course(), "drifting": {"age": {0: NOW_MS - 60_000, 1: NOW_MS}}},
    ],
)
def test_every_page_is_well_formed_in_every_state_of_the_daemon(path: str, readers: dict[str, Any]) -> None:
    service = Service(readers=FakeReaders(**readers))
    gone = "/monitors/" in path and readers.get("monitors") == ()
    page(service, path, 404 if gone else 200)


def test_a_browser_gets_html_at_the_root_and_a_script_json() -> None:
    service = Service()
    assert page(service, "/").text.startswith("Overview – kldrift")
    for accept in ("*/*", "application/json", "text/html;q=0.5, application/json", ""):
        assert service.get("/", headers={"accept": accept}).json()["name"] == "kldrift"


def test_the_headers_of_a_page() -> None:
    headers = Service().get("/", headers=HTML).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "style-src": "'self'",
        "script-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["vary"] == "Accept, Accept-Encoding"


def test_errors_as_pages_have_the_same_headers() -> None:
    answer = Service().get("/nothing", headers=HTML)
    assert answer.status_code == 404
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("path", PAGES)
def test_gzip_and_head(path: str) -> None:
    service = Service()
    plain = service.get(path, headers=HTML)
    packed = service.get(path, headers=HTML | {"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content  # httpx has undone it
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])
    head = service.request("HEAD", path, headers=HTML)
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == plain.headers["content-length"]


@pytest.mark.parametrize("path", [*PAGES, "/static/pages.css"])
def test_a_page_is_not_posted_to(path: str) -> None:
    answer = Service().request("POST", path.partition("?")[0], content=b"x", headers=HTML)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert Page(answer.text).tags["h1"] == 1


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/monitors/laons", "expected a known monitor, got 'laons'; did you mean 'loans'? known: 'loans'"),
        ("/monitors/laons/feature?name=age", "expected a known monitor, got 'laons'"),
        ("/monitors/loans/feature", "expected a known feature, got ''"),
        ("/monitors/loans/feature?name=aeg", "expected a known feature, got 'aeg'; did you mean 'age'?"),
        ("/monitors/loans/feature?name=age&window=9h", "expected a known window, got '9h'"),
        ("/monitors/loans/feature?name=age&span=1y", "expected a known span, got '1y'"),
        ("/monitors/loans/feature?name=age&segment=US", "got 'US'; this monitor has no segments"),
        ("/monitors/loans?window=9h", "expected a known window, got '9h'"),
        ("/monitors/loans?state=bad", "expected a known state, got 'bad'"),
        ("/monitors/loans?segment=US", "got 'US'; this monitor has no segments"),
        ("/monitors/%ff", "expected a name in percent-encoded UTF-8, got '%ff'"),
        ("/monitors/loans/feature?name=%ff", "expected a known feature"),
        ("/monitors/loans/feature/more", "nothing found at '/monitors/loans/feature/more'"),
        ("/monitors/", "nothing found at '/monitors/'"),
        ("/static/nothing.js", "expected a static file, got 'nothing.js'; known: pages.css"),
        ("/api/v1/monitors/loans/history/age?span=1y", "expected a known span, got '1y'"),
        ("/api/v1/monitors/loans/history/age?window=1y", "expected a known window, got '1y'"),
        ("/api/v1/monitors/loans/history/aeg", "expected a known feature, got 'aeg'"),
    ],
)
def test_what_is_not_there_is_404_as_a_page_or_as_json(path: str, words: str) -> None:
    service = Service()
    assert words in page(service, path, 404).text
    answer = service.get(path, headers={"accept": "*/*"})
    assert answer.status_code == 404
    assert words in answer.json()["error"]


# --- the monitor page -------------------------------------------------------------------------------


def rows(found):
    """Feature names in the order of the page."""
    return [
        parse_qs(urlsplit(attrs["href"]).query)["name"][0]
        for tag, attrs in found.found
        if tag == "a" and "/feature?" in attrs["href"]
    ]


def test_features_come_with_the_most_certain_drift_first() -> None:
    features = [feature(f"f{i}") for i in range(5)]
    lower = np.array([[0.0, 0.2, np.nan, 0.02, 0.0], [0.0, 0.0, np.nan, 0.5, 0.0]])
    kl = np.full((2, 5, 14), 0.1)
    kl[:, 4, 0] = 0.3
    shown = monitor(features=features, lower=lower, ready=~np.isnan(lower))
    shown = replace(
        shown,
        divergences=np.where(np.arange(shown.divergences.shape[2]) == 0, kl[:, :, :1], 0.0),
        detected=np.array([[0, 0], [1, 1], [np.nan, np.nan], [1, 1], [0, 0]], dtype=float),
    )
    service = Service(readers=FakeReaders(monitor=shown))
    found = page(service, "/monitors/loans")
    assert rows(found) == ["f3", "f1", "f4", "f0", "f2"]
    assert "2 critical 2 quiet 1 undecided" in found.text
    assert rows(page(service, "/monitors/loans?window=5m")) == ["f1", "f3", "f4", "f0", "f2"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["age", "home/city, ü 100%", "latent"]),
        ("q=", ["age", "home/city, ü 100%", "latent"]),
        ("q=AGE", ["age"]),
        ("q=%C3%9C", ["home/city, ü 100%"]),  # Ü, folded
        ("q=%25", ["home/city, ü 100%"]),
        ("q=.*", []),
        ("state=critical", []),
        ("state=warning", ["age"]),
        ("state=undecided", ["home/city, ü 100%", "latent"]),
        ("state=undecided&q=lat", ["latent"]),
        ("state=&window=", ["age", "home/city, ü 100%", "latent"]),
        ("window=1h", ["age", "home/city, ü 100%", "latent"]),
        ("window=1h&state=empty", ["age", "home/city, ü 100%", "latent"]),
        ("window=5m&state=warning", ["age"]),
    ],
)
def test_filters(query: str, expected: list[Any]) -> None:
    service = Service(readers=FakeReaders(tracks=course(3)))
    found = page(service, f"/monitors/loans?{query}")
    assert sorted(rows(found)) == sorted(expected)
    assert f"{len(expected)} of 3 features" in found.text
    assert found.tags["svg"] == len(expected)
    # only what is shown is read of the history
    assert len(service.readers.tracked[-1][1]) == len(expected)


def test_a_window_is_kept_on_the_way_to_the_feature() -> None:
    found = page(Service(), "/monitors/loans?window=1h")
    assert "loans/feature?name=age&window=1h" in found.links


def test_since_when_a_feature_drifts() -> None:
    service = Service(readers=FakeReaders(drifting={"age": {0: NOW_MS - 7_500_000}}))
    assert " 2 h " in page(service, "/monitors/loans").text
    assert "drifting for 2 h, since 2023-11-14 20:18:20 UTC" in page(service, "/monitors/loans/feature?name=age").text
    assert page(service, "/").text.count("2 h") == 1


def test_sparklines_need_two_points() -> None:
    for n, drawn in ((0, 0), (1, 0), (2, 3), (400, 3)):
        found = page(Service(readers=FakeReaders(tracks=course(n))), "/monitors/loans")
        assert found.tags["svg"] == drawn


def test_segments_are_listed_and_have_pages_of_their_own() -> None:
    service = Service(readers=FakeReaders(monitor=segmented_loans(), tracks=course(3)))
    found = page(service, "/monitors/loans")
    assert {"/monitors/loans?segment=DE", "/monitors/loans?segment=other"} <= set(found.links)
    own = page(service, "/monitors/loans?segment=DE")
    assert "segment DE" in own.text
    assert "loans/feature?name=age&segment=DE" in own.links
    assert {"name": "segment", "value": "DE", "type": "hidden"} in [attrs for _, attrs in own.found]
    assert service.readers.tracked[-1][0] == "DE"
    of_feature = page(service, "/monitors/loans/feature?name=age&segment=DE&window=5m")
    assert any("segment=DE&format=csv" in link for link in of_feature.links)
    assert "expected a known segment, got 'FR'" in page(service, "/monitors/loans?segment=FR", 404).text


N_FEATURES, MOST_BYTES = 1000, 500_000


def test_a_monitor_of_1000_features_weighs_at_most_500_kb() -> None:
    features = [feature(f"feature_{i:04d}", ("numeric", "categorical")[i % 2]) for i in range(N_FEATURES)]
    # where there are values of the wrong type, a column with their share adds up to 11 kB
    wide = monitor("wide", features, ("5m", "1h", "24h"), invalid_ratio=np.zeros((3, N_FEATURES)))
    drifting = {each.name: {0: NOW_MS - 3_600_000 * i} for i, each in enumerate(features)}
    service = Service(readers=FakeReaders(monitor=wide, tracks=course(40), drifting=drifting))
    answer = service.get("/monitors/wide", headers=HTML)
    found = Page(answer.text)
    assert len(rows(found)) == found.tags["svg"] == N_FEATURES
    assert len(answer.content) <= MOST_BYTES
    assert len(gzip.compress(answer.content, 5)) <= MOST_BYTES // 4


# --- the feature page -------------------------------------------------------------------------------


def test_values_of_the_wrong_type_are_shown_where_there_are_any() -> None:
    for ratio, there in ((0.125, True), (0.0, False)):
        whole = loans(invalid_ratio=np.array([[ratio, 0.0, 0.0], [np.nan] * 3]))
        service = Service(readers=FakeReaders(monitor=whole))
        text = page(service, "/monitors/loans").text
        assert ("invalid" in text) is there
        assert ("12.5 %" in text) is there
        text = page(service, "/monitors/loans/feature?name=age").text
        assert ("of the wrong type 12.5 %" in text) is there
        assert "values of the wrong type 0" in text  # what they contribute


def test_a_feature_has_a_histogram_of_each_window_with_samples() -> None:
    service = Service(readers=FakeReaders(tracks=course(5)))
    found = page(service, "/monitors/loans/feature?name=age")
    assert found.tags["figure"] == 2
    assert "Warning: KL is at least 0.031 nats, above the tolerance of 0.01." in found.text
    assert "No samples in this window yet." in found.text
    assert "About this reference: only infinite values count" in found.text
    assert "range of the reference 0.25 to inf" in found.text
    labels = [attrs["aria-label"] for tag, attrs in found.found if tag == "svg" and attrs.get("role") == "img"]
    assert "age, 5m: shares of the live data and of the reference" in labels
    assert "KL divergence of age over 5m in the last 3h" in labels
    assert service.readers.tracked[-1] == (None, [0], [0], 3 * 3_600_000)


def of_reference(phi: float) -> FakeReaders:
    """1,000 samples of `age` against a reference of 2,000 rows whose blocks spread phi times as much as they should."""
    spread = Spread(np.ones(1), np.full(1, phi), np.ones(1), np.array([True, True, False, False, True, False]))
    age = replace(AGE, spread=spread, reference_rows=2_000.0)
    whole = loans()
    counts = whole.counts.copy()
    counts[0, :6] = [400, 500, 0, 0, 100, 0]
    rows = np.full(whole.reference_rows.shape, 2_000.0)
    return FakeReaders(monitor=replace(whole, features=(age, *whole.features[1:]), counts=counts, reference_rows=rows))


def test_a_feature_shows_the_smallest_drift_that_it_can_show() -> None:
    service = Service(readers=of_reference(1.0))
    text = page(service, "/monitors/loans/feature?name=age").text
    answer = service.get("/api/v1/monitors/loans/features/age?window=5m").json()["smallest_drift"]
    now, ever = (answer[name]["warning"] for name in ("window", "any_window"))
    assert 0.01 < ever["nats"] < now["nats"] < 0.1
    assert f"smallest drift that warns {now['nats']:.4f} –" in text
    assert f"smallest drift it can show {ever['nats']:.4f} nats ({ever['sigma']:.2g} σ) to warn" in text
    assert "cannot alarm" not in text


def test_a_feature_that_cannot_alarm_says_so() -> None:
    service = Service(readers=of_reference(1_000.0))
    assert "This feature cannot alarm" in page(service, "/monitors/loans/feature?name=age").text
    answer = service.get("/api/v1/monitors/loans/features/age?window=5m").json()["smallest_drift"]
    assert answer["any_window"]["critical"] == {"nats": "+Inf", "sigma": "+Inf"}


@pytest.mark.parametrize(("span", "ms"), [("15m", 900_000), ("24h", 86_400_000), ("7d", 604_800_000)])
def test_the_time_shown_is_chosen(span: str, ms: int) -> None:
    service = Service(readers=FakeReaders(tracks=course(5)))
    found = page(service, f"/monitors/loans/feature?name=age&window=1h&span={span}")
    assert service.readers.tracked[-1] == (None, [0], [1], ms)
    current = [attrs["href"] for _, attrs in found.found if attrs.get("aria-current") == "true"]
    assert len(current) == 2
    assert all(f"window=1h&span={span}" in link for link in current)


def test_cells_without_rows_in_either_are_not_drawn() -> None:
    text = page(Service(), "/monitors/loans/feature?name=age").text
    assert "missing" in text
    for name in ("underflow", "overflow"):
        assert name not in text


def test_a_reference_that_is_no_good_and_an_infinite_divergence() -> None:
    text = page(Service(), "/monitors/loans/feature?name=" + quote("home/city, ü 100%")).text
    assert "This reference supports no verdict: too short" in text
    assert "KL divergence ∞ –" in text
    assert "known exactly; made" in text


def test_a_vector_has_no_histogram_but_its_dimensions() -> None:
    service = Service()
    found = page(service, "/monitors/loans/feature?name=latent")
    assert found.tags["figure"] == 0
    assert "Undecided: 7 samples so far, and a verdict needs" in found.text
    assert "Dimensions, 5m dimension KL, nats 0 0.5000 1 0.2500" in found.text
    assert "Dimensions," not in page(service, "/monitors/loans/feature?name=latent&window=1h").text  # empty


def test_infinities_and_gaps_over_time() -> None:
    def hard(n_windows, n_features):
        kl = np.full((6, n_windows, n_features), 0.01, dtype=np.float32)
        kl[1], kl[3], kl[4] = np.nan, np.inf, 60_000
        return Track(NOW_MS + 60_000 * np.arange(6), kl, np.where(kl > 1, np.nan, 0).astype(np.float32), 2 * kl)

    service = Service(readers=FakeReaders(tracks=hard))
    for path in ("/monitors/loans", "/monitors/loans/feature?name=age"):
        assert "nan" not in service.get(path, headers=HTML).text.lower().replace("nanosec", "")


# --- overview, configuration ------------------------------------------------------------------------


def test_the_overview_says_what_drifts_what_is_undecided_and_why() -> None:
    found = page(Service(), "/")
    assert "1 warning 2 undecided" in found.text
    assert "2 undecided, with the reasons" in found.text
    assert "too short" in found.text
    assert "series limit" in found.text
    assert "files down 3 no such file" in found.text


def test_a_daemon_that_is_not_ready_says_so() -> None:
    found = page(Service(readers=FakeReaders(ready=False, monitors=())), "/")
    assert "not ready kernels are being compiled" in found.text
    assert "Nothing has been evaluated yet: kernels are being compiled." in found.text


def test_the_configuration_is_text() -> None:
    found = page(Service(readers=FakeReaders(text=f"monitors:\n  {SCRIPT}: ü\n")), "/configuration")
    assert f"{SCRIPT}: ü" in found.text


def test_handlers_have_names_from_a_bounded_set() -> None:
    service = Service()
    for path in (*PAGES, "/static/pages.css", "/monitors/x", "/x", "/api/v1/monitors/loans/history/age"):
        service.get(path, headers=HTML)
    assert {handler for handler, _, _ in service.seen} <= {
        "index",
        "monitor_page",
        "feature_page",
        "configuration_page",
        "static_file",
        "history",
        "other",
    }


def test_a_thousand_undecided_features_are_counted_and_the_first_are_listed() -> None:
    features = [feature(f"f{i}") for i in range(1000)]
    waiting = monitor("wide", features, ready=np.zeros((2, 1000), dtype=bool), detected=np.full((1000, 2), np.nan))
    answer = Service(readers=FakeReaders(monitor=waiting)).get("/", headers=HTML)
    found = Page(answer.text)
    assert "1,000 undecided, with the reasons" in found.text
    assert len(rows(found)) == 20
    assert "/monitors/wide?state=undecided" in found.links


def test_the_segments_of_a_page_are_the_largest() -> None:
    whole = segmented_loans()
    many = replace(whole, segments=tuple(replace(whole.segments[0], segment=f"s{i}") for i in range(200)))
    found = page(Service(readers=FakeReaders(monitor=many)), "/monitors/loans")
    listed = [link for link in found.links if "?segment=" in link]
    assert listed == [f"/monitors/loans?segment=s{i}" for i in range(50)]


@pytest.mark.parametrize(("n", "tables"), [(200, 1), (201, 2), (1000, 2)])
def test_of_many_features_the_rest_is_a_table_of_its_own_with_the_same_columns(n: int, tables: int) -> None:
    features = [feature(f"f{i}") for i in range(n)]
    found = page(Service(readers=FakeReaders(monitor=monitor("wide", features))), "/monitors/wide")
    assert found.tags["table"] == found.tags["thead"] == tables
    assert len(set(rows(found))) == n
    assert len(found.with_class("rest")) == tables - 1
