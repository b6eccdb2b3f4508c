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

from kldrift.records import MonitorSnapshot
from kldrift.web.answers import Problem, decoded_segment, encode, shown, unknown
from kldrift.web.drift_json import feature_json, monitor_json
from kldrift.web.ports import Readers

_ENDPOINTS = {
    "POST /v1/monitors/{monitor}/samples": "push samples: NDJSON, JSON, CSV or an Arrow IPC stream",
    "GET /metrics": "every metric, for Prometheus",
    "GET /-/healthy": "200 while the process answers",
    "GET /-/ready": "200 when samples are taken and figures given, else 503 with the reason",
    "POST /-/reload": "load the configuration again",
    "GET /api/v1/status": "sources, version, warnings",
    "GET /api/v1/monitors": "the monitors",
    "GET /api/v1/monitors/{monitor}?segment=US": "every feature and window of a monitor, or of one of its segments",
    "GET /api/v1/monitors/{monitor}/features/{feature}?window=1h&segment=US": "one feature: why it is in its state,"
    " where its divergence sits, bins and counts",
}


def api(readers: Readers) -> Starlette:
    """The application behind everything but ingest and metrics; the endpoints' names are the handler labels."""

    async def index(_request: Request) -> Response:
        return _json({"name": "kldrift", "version": readers.status().version, "endpoints": _ENDPOINTS})

    async def healthy(_request: Request) -> Response:
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
        return _json(monitor_json(_named_monitor(readers, request)))

    async def feature(request: Request) -> Response:
        monitor = _named_monitor(readers, request)
        name = decoded_segment(request.path_params["feature"])
        names = [feature.name for feature in monitor.features]
        if name not in names:
            raise unknown("feature", name, names)
        window = request.query_params.get("window", monitor.windows[0])
        if window not in monitor.windows:
            raise unknown("window", window, monitor.windows)
        return _json(feature_json(monitor, names.index(name), monitor.windows.index(window)))

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
        ],
        exception_handlers={HTTPException: _http_exception, Problem: _problem, 500: _internal_error},
    )
    application.router.redirect_slashes = False
    return application


def _named_monitor(readers: Readers, request: Request) -> MonitorSnapshot:
    """The snapshot of the monitor in the path, or of its segment in the query."""
    name = decoded_segment(request.path_params["monitor"])
    by_name = {monitor.name: monitor for monitor in readers.snapshot().monitors}
    if name not in by_name:
        raise unknown("monitor", name, by_name)
    monitor, value = by_name[name], request.query_params.get("segment")
    if value is None:
        return monitor
    segments = {segment.segment: segment for segment in monitor.segments}
    if value in segments:
        return segments[value]
    if not segments:
        why = "no segment has rows yet" if monitor.segment_mix.size else "this monitor has no segments"
        raise Problem(404, f"expected a known segment, got {shown(value)}; {why}")
    raise unknown("segment", value, [str(known) for known in segments])


def _json(value: Any, status: int = 200) -> Response:
    headers = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
    return Response(encode(value), status, headers, "application/json")


async def _http_exception(request: Request, exception: Exception) -> Response:
    """404 for a path and 405 for a method that starlette's routes do not have."""
    assert isinstance(exception, HTTPException)  # registered for this type only
    allowed = ", ".join(sorted((exception.headers or {}).get("Allow", "").split(", ")))
    if exception.status_code == 405:
        error = f"expected {allowed}, got {request.method}; use one of these methods"
    else:
        error = f"nothing is at {shown(request.url.path)}; GET / lists what there is"
    response = _json({"error": error}, exception.status_code)
    if exception.status_code == 405:
        response.headers["allow"] = allowed
    return response


async def _problem(_request: Request, exception: Exception) -> Response:
    assert isinstance(exception, Problem)  # registered for this type only
    return _json({"error": exception.message}, exception.status)


async def _internal_error(_request: Request, _exception: Exception) -> Response:
    return _json({"error": "an error of kldrift's own, written to its log; please report it"}, 500)
