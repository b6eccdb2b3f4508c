"""Whatever a name or a path holds: it stays text, and leads nowhere else."""

import csv
import io
import json
import re
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import numpy as np
import pytest

from kldrift.records.snapshots import Track
from tests.export.snapshots import feature, monitor
from tests.web.fakes import NOW_MS, FakeReaders, Service, call_app, course, segmented_loans
from tests.web.html_pages import HTML, page

TEMPLATE = "{{ 7 * 7 }}{% raw %}"
SCRIPT = "<script>alert(1)</script>"

# --- static files -----------------------------------------------------------------------------------


def test_static_files_are_named_with_their_version_and_kept_for_ever() -> None:
    service = Service()
    wanted = {link for link in page(service, "/").links if link.startswith("/static/")}
    assert {urlsplit(link).path for link in wanted} == {
        f"/static/{name}" for name in ("pages.css", "charts.css", "pages.js", "icon.svg")
    }
    types = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
    for link in wanted:
        assert re.fullmatch(r"[0-9a-f]{8}", urlsplit(link).query)
        answer = service.get(link)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == types["." + urlsplit(link).path.rpartition(".")[2]]
        assert answer.headers["cache-control"] == "max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../pages/templating.py",
        "%2e%2e",
        "%2e%2e%2ftemplating.py",
        "..%2ftemplating.py",
        "..%5c..%5ctemplating.py",
        "%252e%252e%252ftemplating.py",
        "%00pages.css",
        "pages.css%00",
        "pages.css%2f",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "....//pages.css",
        ".",
        "",
        "pages.css/..",
        "PAGES.CSS",
    ],
)
def test_only_the_files_of_the_pages_are_given_away(name: str) -> None:
    # httpx would resolve the dots: the path goes to the application as a hostile client sends it
    raw = f"/static/{name}".encode()
    scope = {"type": "http", "method": "GET", "path": "/static/x", "raw_path": raw, "query_string": b"", "headers": []}
    start, body = call_app(Service().app, scope, [{"type": "http.request"}])
    assert start["status"] == 404
    assert json.loads(body["body"])["error"]


def test_the_style_and_the_script_load_nothing_from_elsewhere() -> None:
    service = Service()
    for name in ("pages.css", "charts.css", "pages.js", "icon.svg"):
        text = service.get(f"/static/{name}").text.replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z]+\.|@import|url\(|innerHTML|eval\(", text), name


# --- names ------------------------------------------------------------------------------------------

NAMES = [
    SCRIPT,
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    TEMPLATE,
    "../..",
    "..",
    ".",
    "a/b?c=d&e#f%41",
    " ",
    "x" * 2048,
    "شهر الولادة",
    "‮evil",
    "年齢",
    "👩‍👩‍👧",
    "a\nb\tc",
    "\ud800 alone",
    "\x00nul",
]


def named(name):
    """A monitor whose feature, category and segment have this name."""
    city = feature(
        name, "categorical", cells=(name, "other", "missing"), categories=(name,), reference_text=name, problem=name
    )
    of_segment = monitor("loans", [city, AGE_LIKE], segment=name)
    return monitor(
        "loans",
        [city, AGE_LIKE],
        segments=(of_segment,),
        segment_mix=np.zeros(2),
        detected=np.ones((2, 2)),
        ready=np.array([[False, True]] * 2),
    )


AGE_LIKE = feature("plain")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_text_wherever_it_stands(name: str) -> None:
    service = Service(readers=FakeReaders(monitor=named(name), tracks=course(5), drifting={name: {0: NOW_MS - 5}}))
    asked = quote(name, safe="", errors="replace")
    known = service.get(f"/monitors/loans/feature?name={asked}", headers=HTML).status_code == 200
    assert known is ("\ud800" not in name)  # what is not Unicode cannot be asked for; its page does not exist
    paths = ["/", "/monitors/loans", f"/monitors/loans?q={asked}"]
    if known:
        paths += [
            f"/monitors/loans?segment={asked}",
            f"/monitors/loans/feature?name={asked}",
            f"/monitors/loans/feature?name={asked}&segment={asked}&window=1h&span=7d",
        ]
    for path in paths:
        found = page(service, path)
        assert found.tags["script"] == 1  # ours
        assert found.tags["img"] == 0
        assert name != TEMPLATE or " 49" not in found.text
        for link in found.links:
            assert service.get(urljoin(path, link), headers=HTML).status_code == 200 or not known
        # every link with the name leads back to it
        led = {
            value
            for link in found.links
            for value in parse_qs(urlsplit(link).query, keep_blank_values=True).get("name", [])
        }
        assert led <= {name.encode("utf-8", "replace").decode(), name.encode(errors="replace").decode(), "plain"}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_does_not_exist_is_shown_as_text(name: str) -> None:
    service = Service()
    asked = quote(name, safe="", errors="replace")
    for path in (
        f"/monitors/loans/feature?name={asked}",
        f"/monitors/loans?window={asked}",
        f"/monitors/loans?state={asked}",
        f"/monitors/loans?segment={asked}",
        f"/monitors/loans/feature?name=age&span={asked}",
    ):
        found = page(service, path, 404)
        assert found.tags["script"] == 1
        assert found.tags["img"] == 0
        assert len(found.text) < 1000


def test_the_searched_text_stands_in_its_field_again() -> None:
    found = page(Service(), "/monitors/loans?q=" + quote('"><script>'))
    [search] = [attrs for tag, attrs in found.found if tag == "input" and attrs["type"] == "search"]
    assert search["value"] == '"><script>'
    assert "No features match this filter." in found.text


# --- counts and history -----------------------------------------------------------------------------


def test_counts_as_csv() -> None:
    answer = Service().get("/api/v1/monitors/loans/features/age?format=csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.text.splitlines() == [
        "cell,live_count,reference_count,reference_probability",
        '"[-inf, 0.5)",2,4,0.4',
        '"[0.5, inf)",7,5,0.5',
        "underflow,0,0,0.0",
        "overflow,0,0,0.0",
        "missing,1,1,0.1",
        "invalid,0,0,0.0",
    ]
    exactly = Service().get("/api/v1/monitors/loans/features/home%2Fcity%2C%20%C3%BC%20100%25?format=csv&window=5m")
    assert exactly.text.splitlines()[1] == "München,1,,0.5"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("x","y")'])
def test_a_category_is_no_formula_of_a_spreadsheet(name: str) -> None:
    city = feature("city", "categorical", cells=(name, "other", "missing"), categories=(name,))
    answer = Service(readers=FakeReaders(monitor=monitor("loans", [city]))).get(
        "/api/v1/monitors/loans/features/city?format=csv"
    )
    table = list(csv.reader(io.StringIO(answer.text, newline="")))
    assert table[1][0] == f"'{name}"
    assert len(table) == 4


def test_a_lone_surrogate_as_csv() -> None:
    city = feature("city", "categorical", cells=("\ud800", "other", "missing"), categories=("\ud800",))
    answer = Service(readers=FakeReaders(monitor=monitor("loans", [city]))).get(
        "/api/v1/monitors/loans/features/city?format=csv"
    )
    assert answer.status_code == 200
    assert answer.text.splitlines()[1].startswith("?,")


def test_the_history_of_a_series() -> None:
    def two(n_windows, n_features):
        kl = np.array([0.25, np.inf, np.nan], dtype=np.float32).reshape(3, 1, 1)
        assert (n_windows, n_features) == (1, 1)
        return Track(np.array([1, 2, 3]), kl, kl / 2, kl * 2)

    service = Service(readers=FakeReaders(tracks=two))
    answer = service.get("/api/v1/monitors/loans/history/age?window=1h&span=24h")
    assert answer.json() == {
        "at_ms": [1, 2, 3],
        "kl": [0.25, "+Inf", None],
        "lower": [0.125, "+Inf", None],
        "upper": [0.5, "+Inf", None],
    }
    assert service.readers.tracked == [(None, [0], [1], 86_400_000)]
    nothing = Service().get("/api/v1/monitors/loans/history/home%2Fcity%2C%20%C3%BC%20100%25").json()
    assert nothing == {"at_ms": [], "kl": [], "lower": [], "upper": []}


def test_the_history_of_a_segment() -> None:
    service = Service(readers=FakeReaders(monitor=segmented_loans(), tracks=course(2)))
    assert service.get("/api/v1/monitors/loans/history/age?segment=other").status_code == 200
    assert service.readers.tracked[-1][0] == "other"
