"""Health, reload and the API: small JSON answers, routed by Starlette.

Routes match the percent-encoded path (see `app`), so that a name may contain any character, including slashes.
"""

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kldrift.pages.feature import SPANS
from kldrift.web.answers import Problem, decoded_segment, encode, not_ready, shown, unknown
from kldrift.web.drift_json import counts_csv, feature_json, history_json, monitor_json
from kldrift.web.named import evaluated, feature_index, named_monitor, window_index
from kldrift.web.page_routes import overview_page, page_routes, problem_page, wants_page
from kldrift.web.ports import Readers

_ENDPOINTS = {
    "POST /v1/monitors/{monitor}/samples": "push samples: NDJSON, JSON, CSV or an Arrow IPC stream",
    "GET /metrics": "every metric, for Prometheus",
    "GET /-/healthy": "200 while the daemon is working, 503 if it hangs",
    "GET /-/ready": "200 once samples are accepted and figures available, else 503 with the reason",
    "POST /-/reload": "reload the configuration",
    "GET /api/v1/status": "sources, version, warnings",
    "GET /api/v1/monitors": "the monitors",
    "GET /api/v1/monitors/{monitor}?segment=US": "every feature and window of a monitor, or of one of its segments",
    "GET /api/v1/monitors/{monitor}/features/{feature}?window=1h&segment=US": "one feature: the reason for its state,"
    " what changed, bins and counts; format=csv: its cells; …/feature?name={feature} is the same",
    "GET /api/v1/monitors/{monitor}/history/{feature}?window=1h&span=24h": "its divergence and bounds over time",
    "GET /, /monitors/{monitor}, /monitors/{monitor}/feature?name={feature}, /configuration": "HTML pages",
}


def api(readers: Readers) -> Starlette:
    """Build the application behind everything but ingest and metrics; endpoint names are the handler labels."""

    # Not async, so that Starlette runs it in a thread: the page takes a while.
    def index(request: Request) -> Response:
        if wants_page(request):
            return overview_page(request, readers)
        return _json({"name": "kldrift", "version": readers.status().version, "endpoints": _ENDPOINTS})

    async def healthy(_request: Request) -> Response:
        if hung := readers.status().hung:
            return _json({"error": f"hung: {hung}; restart the daemon", "healthy": False}, 503)
        return _json({"healthy": True})

    async def ready(_request: Request) -> Response:
        status = readers.status()
        if status.ready:
            return _json({"ready": True})
        problem = not_ready(status.reason)
        return _json({"error": problem.message, "ready": False}, problem.status)

    async def reload(_request: Request) -> Response:
        before = {name: set(began) for name, began in _began(readers).items()}
        problems = await readers.reload()
        if not problems:
            anew = {
                name: [text for at_ms, text in began if (at_ms, text) not in before.get(name, ())]
                for name, began in _began(readers).items()
            }
            anew = {name: texts for name, texts in anew.items() if texts}
            return _json({"reloaded": True, **({"anew": anew} if anew else {})})
        error = (
            f"the new configuration was rejected (problems: {len(problems)}); the old one stays in use. Correct it"
            " and reload again"
        )
        return _json({"error": error, "problems": problems}, 500)

    async def status(_request: Request) -> Response:
        return _json(readers.status())

    async def monitors(_request: Request) -> Response:
        snapshot = evaluated(readers)
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

    # Not async, so that Starlette runs it in a thread: with 10,000 features it takes a tenth of a second.
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
        """Answer 404 for an unknown path and 405 for an unsupported method."""
        assert isinstance(exception, HTTPException)  # registered for this type only
        allowed = ", ".join(sorted((exception.headers or {}).get("Allow", "").split(", ")))
        if exception.status_code == 405:
            response = error(request, 405, f"expected {allowed}, got {request.method}; use one of these methods")
            response.headers["allow"] = allowed
            return response
        return error(
            request, exception.status_code, f"nothing found at {shown(request.url.path)}; GET / lists the endpoints"
        )

    def problem(request: Request, exception: Exception) -> Response:
        assert isinstance(exception, Problem)  # registered for this type only
        response = error(request, exception.status, exception.message)
        response.raw_headers += exception.headers
        return response

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
    """Return the feature in the path, else in the query: browsers never request a path that ends with ``..``."""
    raw = request.path_params.get("feature")
    return request.query_params.get("name", "") if raw is None else decoded_segment(raw)


def _json(value: Any, status: int = 200) -> Response:
    headers = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
    return Response(encode(value), status, headers, "application/json")


async def _internal_error(_request: Request, _exception: Exception) -> Response:
    return _json({"error": "internal error in kldrift; see its log, and please report it"}, 500)


def _began(readers: Readers) -> dict[str, tuple[tuple[int, str], ...]]:
    """Return what began anew with changes of the configuration in the last hour, by monitor: when, what and why."""
    return {monitor.name: monitor.began for monitor in readers.snapshot().monitors}
