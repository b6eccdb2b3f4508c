"""The routes of the HTML pages: overview, monitor, feature, configuration.

Pages show the same snapshot as the metrics and the API. They work without scripts and load nothing from other hosts.
"""

import gzip
import hashlib

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kldrift.drift.judging.states import STATES
from kldrift.pages.feature import SPANS, FeaturePage, feature_page
from kldrift.pages.monitor import SPARK_MS, MonitorPage, matching, monitor_page
from kldrift.pages.notices import ConfigurationPage, ProblemPage
from kldrift.pages.overview import overview
from kldrift.pages.ranking import rank
from kldrift.pages.templating import Page, render, static
from kldrift.web.answers import Problem, shown, unknown
from kldrift.web.named import evaluated, feature_index, named_monitor, window_index
from kldrift.web.negotiation import accepts_gzip, prefers_html
from kldrift.web.ports import Readers

_STATIC = {
    "pages.css": "text/css",
    "charts.css": "text/css",
    "pages.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}

#: Nothing inline, nothing from elsewhere, in no frame.
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "vary": "Accept, Accept-Encoding",
}


def page_routes(readers: Readers) -> list[Route]:
    """Return the routes of the pages; the endpoints' names are the `handler` labels of the HTTP metrics.

    None of them is async: Starlette runs them in threads, since a page of 1,000 features takes about 100 ms.
    """

    def monitor_page(request: Request) -> Response:
        return _respond(request, readers, _monitor(request, readers))

    def feature_page(request: Request) -> Response:
        return _respond(request, readers, _feature(request, readers))

    def configuration_page(request: Request) -> Response:
        return _respond(request, readers, ConfigurationPage(readers.configuration()))

    return [
        Route("/configuration", configuration_page),
        Route("/monitors/{monitor}", monitor_page),
        Route("/monitors/{monitor}/feature", feature_page),
        Route("/static/{name}", static_file),
    ]


def overview_page(request: Request, readers: Readers) -> Response:
    """Answer with the overview."""
    return _respond(request, readers, overview(evaluated(readers), readers.since))


def problem_page(request: Request, status: int, message: str, readers: Readers) -> Response:
    """Answer a browser with an error."""
    return _respond(request, readers, ProblemPage(status, message), status)


def wants_page(request: Request) -> bool:
    """Return whether a browser is asking, and not a script."""
    return prefers_html(request.headers.get("accept", ""))


def _monitor(request: Request, readers: Readers) -> MonitorPage:
    monitor = named_monitor(readers, request)
    window = request.query_params.get("window") or None
    if window is not None:
        window_index(monitor, window)
    state, text = request.query_params.get("state", ""), request.query_params.get("q", "")
    if state and state not in STATES:
        raise unknown("state", state, STATES)
    rows = rank(monitor, readers.since(monitor), window)
    shown_rows = matching(rows, state, text)
    windows = range(len(monitor.windows)) if window is None else [monitor.windows.index(window)]
    track = readers.track(monitor, [row.index for row in shown_rows], list(windows), SPARK_MS)
    return monitor_page(monitor, rows, shown_rows, track, window=window, state=state, text=text)


def _feature(request: Request, readers: Readers) -> FeaturePage:
    monitor = named_monitor(readers, request)
    f = feature_index(monitor, request.query_params.get("name", ""))
    w = window_index(monitor, request.query_params.get("window") or monitor.windows[0])
    span = request.query_params.get("span", "3h")
    if span not in SPANS:
        raise unknown("span", span, tuple(SPANS))
    track = readers.track(monitor, [f], [w], SPANS[span])
    return feature_page(monitor, f, w, span, track, readers.since(monitor))


def _respond(request: Request, readers: Readers, page: Page, code: int = 200) -> Response:
    text = render(
        page,
        status=readers.status(),
        evaluated_ms=readers.snapshot().evaluated_ms,
        now_ms=readers.now_ms(),
        versions=_versions(),
    )
    body, headers = text.encode("utf-8", "replace"), dict(_HEADERS)
    if accepts_gzip(request.headers.get("accept-encoding", "")):
        body = gzip.compress(body, 1)
        headers["content-encoding"] = "gzip"
    return Response(body, code, headers, "text/html")


def static_file(request: Request) -> Response:
    """Answer with a file of ``static/``, and with nothing else."""
    name = request.path_params["name"]
    if name not in _STATIC:
        raise Problem(404, f"expected a static file, got {shown(name)}; known: {', '.join(_STATIC)}")
    headers = {"x-content-type-options": "nosniff", "cache-control": "max-age=31536000, immutable"}
    return Response(static(name), 200, headers, _STATIC[name])


_VERSIONS: dict[str, str] = {}


def _versions() -> dict[str, str]:
    """Return a short hash of each static file, so that browsers can cache it for ever."""
    if not _VERSIONS:
        _VERSIONS.update((name, hashlib.sha256(static(name).encode()).hexdigest()[:8]) for name in _STATIC)
    return _VERSIONS
