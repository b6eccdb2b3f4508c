"""Health, reload and the API: small JSON answers, routed by starlette.

The routes match on the percent-encoded path (`app` hands it over), so that a name may hold any character,
slashes included.
"""

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kldrift.pages.feature import SPANS
from kldrift.web.answers import Problem, decoded_segment, encode, shown, unknown
from kldrift.web.drift_json import counts_csv, feature_json, history_json, monitor_json
from kldrift.web.named import feature_index, named_monitor, window_index
from kldrift.web.page_routes import overview_page, page_routes, problem_page, wants_page
from kldrift.web.ports import Readers

_ENDPOINTS = {
    "POST /v1/monitors/{monitor}/samples": "push samples: NDJSON, JSON, CSV or an Arrow IPC stream",
    "GET /metrics": "every metric, for Prometheus",
    "GET /-/healthy": "200 while the daemon goes on, 503 where it hangs",
    "GET /-/ready": "200 when samples are taken and figures given, else 503 with the reason",
    "POST /-/reload": "load the configuration again",
    "GET /api/v1/status": "sources, version, warnings",
    "GET /api/v1/monitors": "the monitors",
    "GET /api/v1/monitors/{monitor}?segment=US": "every feature and window of a monitor, or of one of its segments",
    "GET /api/v1/monitors/{monitor}/features/{feature}?window=1h&segment=US": "one feature: why it is in its state,"
    " where its divergence sits, bins and counts; format=csv: its cells; …/feature?name={feature} is the same",
    "GET /api/v1/monitors/{monitor}/history/{feature}?window=1h&span=24h": "its divergence and bounds over time",
    "GET /, /monitors/{monitor}, /monitors/{monitor}/feature?name={feature}, /configuration": "pages for people",
}


def api(readers: Readers) -> Starlette:
    """The application behind everything but ingest and metrics; the endpoints' names are the handler labels."""

    # Not async: starlette runs it in a thread, for the sake of the page.
    def index(request: Request) -> Response:
        if wants_page(request):
            return overview_page(request, readers)
        return _json({"name": "kldrift", "version": readers.status().version, "endpoints": _ENDPOINTS})

    async def healthy(_request: Request) -> Response:
        if hung := readers.status().hung:
            return _json({"error": f"hung: {hung}; start the daemon anew", "healthy": False}, 503)
        return _json({"healthy": True})

    async def ready(_request: Request) -> Response:
        status = readers.status()
        if status.ready:
            return _json({"ready": True})
        return _json({"error": f"not ready: {status.reason}; ask again later", "ready": False}, 503)

    async def reload(_request: Request) -> Response:
        problems = await readers.reload()
        if not problems:
            return _json({"reloaded": True})
        error = (
            f"the new configuration was refused (problems: {len(problems)}) and the old one stays in use; correct it"
        )
        return _json({"error": error, "problems": problems}, 500)

    async def status(_request: Request) -> Response:
        return _json(readers.status())

    async def monitors(_request: Request) -> Response:
        snapshot = readers.snapshot()
        listed = [
            {
                "name": monitor.name,
                "at_ms": monitor.at_ms,
                "windows": monitor.windows,
                "features": len(monitor.features),
            }
            for monitor in snapshot.monitors
        ]
        return _json({"evaluated_ms": snapshot.evaluated_ms, "monitors": listed})

    # Not async: starlette runs it in a thread, and with 10,000 features it takes a tenth of a second.
    def monitor(request: Request) -> Response:
        return _json(monitor_json(named_monitor(readers, request)))

    async def feature(request: Request) -> Response:
        monitor = named_monitor(readers, request)
        f = feature_index(monitor, _feature_name(request))
        w = window_index(monitor, request.query_params.get("window", monitor.windows[0]))
        if request.query_params.get("format") == "csv":
            headers = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
            return Response(
                counts_csv(monitor, f, w).encode("utf-8", "replace"), 200, headers, "text/csv; charset=utf-8"
            )
        return _json(feature_json(monitor, f, w))

    def history(request: Request) -> Response:
        monitor = named_monitor(readers, request)
        f = feature_index(monitor, decoded_segment(request.path_params["feature"]))
        w = window_index(monitor, request.query_params.get("window", monitor.windows[0]))
        span = request.query_params.get("span", "3h")
        if span not in SPANS:
            raise unknown("span", span, tuple(SPANS))
        return _json(history_json(readers.track(monitor, [f], [w], SPANS[span])))

    def error(request: Request, status: int, message: str) -> Response:
        if wants_page(request):
            return problem_page(request, status, message, readers)
        return _json({"error": message}, status)

    def http_exception(request: Request, exception: Exception) -> Response:
        """404 for a path and 405 for a method that starlette's routes do not have."""
        assert isinstance(exception, HTTPException)  # registered for this type only
        allowed = ", ".join(sorted((exception.headers or {}).get("Allow", "").split(", ")))
        if exception.status_code == 405:
            response = error(request, 405, f"expected {allowed}, got {request.method}; use one of these methods")
            response.headers["allow"] = allowed
            return response
        return error(
            request, exception.status_code, f"nothing is at {shown(request.url.path)}; GET / lists what there is"
        )

    def problem(request: Request, exception: Exception) -> Response:
        assert isinstance(exception, Problem)  # registered for this type only
        return error(request, exception.status, exception.message)

    application = Starlette(
        routes=[
            Route("/", index),
            Route("/-/healthy", healthy),
            Route("/-/ready", ready),
            Route("/-/reload", reload, methods=["POST", "PUT"]),
            Route("/api/v1/status", status),
            Route("/api/v1/monitors", monitors),
            Route("/api/v1/monitors/{monitor}", monitor),
            Route("/api/v1/monitors/{monitor}/features/{feature:path}", feature),
            Route("/api/v1/monitors/{monitor}/feature", feature),
            Route("/api/v1/monitors/{monitor}/history/{feature:path}", history),
            *page_routes(readers),
        ],
        exception_handlers={HTTPException: http_exception, Problem: problem, 500: _internal_error},
    )
    application.router.redirect_slashes = False
    return application


def _feature_name(request: Request) -> str:
    """From the path, or where it is not there from the query: no browser asks for a path that ends with ``..``."""
    raw = request.path_params.get("feature")
    return request.query_params.get("name", "") if raw is None else decoded_segment(raw)


def _json(value: Any, status: int = 200) -> Response:
    headers = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
    return Response(encode(value), status, headers, "application/json")


async def _internal_error(_request: Request, _exception: Exception) -> Response:
    return _json({"error": "an error of kldrift's own, written to its log; please report it"}, 500)
