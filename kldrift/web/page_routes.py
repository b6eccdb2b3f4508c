"""The pages for people: overview, monitor, feature, configuration.

They are drawn from the same snapshot as metrics and API, need no script, and load nothing from elsewhere.
"""

import gzip
import hashlib
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kldrift.pages.cells import cells_of
from kldrift.pages.charts import histogram, legend, sparkline, timeline
from kldrift.pages.ranking import STATES, counted, evenly, feature_states, rank, series_state
from kldrift.pages.reading import explanation_of, reading
from kldrift.pages.templating import environment, static
from kldrift.records.snapshots import MonitorSnapshot
from kldrift.web.answers import Problem, shown, unknown
from kldrift.web.named import feature_index, named_monitor, window_index
from kldrift.web.negotiation import accepts_gzip, prefers_html
from kldrift.web.ports import Readers

#: What sparklines show.
SPARK_MS = 3 * 3_600_000

#: What a timeline shows, as the user names it.
SPANS = {"15m": 900_000, "3h": 3 * 3_600_000, "24h": 86_400_000, "7d": 7 * 86_400_000}

#: Segments that the monitor page lists.
LISTED_SEGMENTS = 50

#: Undecided features of a monitor that the overview lists.
LISTED_UNDECIDED = 20

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
    """The routes of the pages; the endpoints' names are the handler labels.

    None is async: starlette runs them in threads, and a page of 1,000 features takes some 100 ms.
    """

    def monitor_page(request: Request) -> Response:
        return _page(request, "monitor.html", readers, **_monitor(request, readers))

    def feature_page(request: Request) -> Response:
        return _page(request, "feature.html", readers, **_feature(request, readers))

    def configuration_page(request: Request) -> Response:
        return _page(request, "configuration.html", readers, text=readers.configuration())

    return [
        Route("/configuration", configuration_page),
        Route("/monitors/{monitor}", monitor_page),
        Route("/monitors/{monitor}/feature", feature_page),
        Route("/static/{name}", static_file),
    ]


def overview_page(request: Request, readers: Readers) -> Response:
    """Monitors with their verdicts, sources, what is undecided."""
    monitors = []
    for monitor in readers.snapshot().monitors:
        since = readers.since(monitor)
        rows = rank(monitor, since)
        undecided = [row for row in rows if row.state in ("undecided", "empty")]
        monitors.append(
            {
                "name": monitor.name,
                "windows": monitor.windows,
                "counted": counted(feature_states(monitor)),
                "drifting": [row for row in rows if row.state in ("critical", "warning")],
                "n_undecided": len(undecided),
                "undecided": [(row, _why(monitor, row.index)) for row in undecided[:LISTED_UNDECIDED]],
                "segments": _segments(monitor),
                "samples": int(monitor.samples.max(initial=0)),
            }
        )
    return _page(request, "overview.html", readers, monitors=monitors)


def problem_page(request: Request, status: int, message: str, readers: Readers) -> Response:
    """An error for people."""
    return _page(request, "problem.html", readers, status_code=status, message=message, code=status)


def wants_page(request: Request) -> bool:
    """A browser asks, not a script."""
    return prefers_html(request.headers.get("accept", ""))


def _monitor(request: Request, readers: Readers) -> dict[str, Any]:
    monitor = named_monitor(readers, request)
    window = request.query_params.get("window") or None
    if window is not None:
        window_index(monitor, window)
    wanted, text = request.query_params.get("state", ""), request.query_params.get("q", "")
    if wanted and wanted not in STATES:
        raise unknown("state", wanted, STATES)
    rows = rank(monitor, readers.since(monitor), window)
    shown_rows = [row for row in rows if wanted in ("", row.state) and text.casefold() in row.name.casefold()]
    windows = range(len(monitor.windows)) if window is None else [monitor.windows.index(window)]
    track = readers.track(monitor, [row.index for row in shown_rows], list(windows), SPARK_MS)
    values = evenly(track)
    sparks = [
        sparkline(values[:, i], row.warning, "") if values.shape[0] > 1 else "" for i, row in enumerate(shown_rows)
    ]
    return {
        "monitor": monitor,
        "window": window,
        "state": wanted,
        "q": text,
        "states": STATES,
        "counted": counted([row.state for row in rows]),
        "rows": list(zip(shown_rows, sparks, strict=True)),
        "n_features": len(rows),
        "track_ms": int(track.at_ms[-1] - track.at_ms[0]) if track.at_ms.size else 0,
        "segments": _segments(monitor),
    }


def _feature(request: Request, readers: Readers) -> dict[str, Any]:
    monitor = named_monitor(readers, request)
    f = feature_index(monitor, request.query_params.get("name", ""))
    w = window_index(monitor, request.query_params.get("window") or monitor.windows[0])
    span = request.query_params.get("span", "3h")
    if span not in SPANS:
        raise unknown("span", span, tuple(SPANS))
    info = monitor.features[f]
    track = readers.track(monitor, [f], [w], SPANS[span])
    label = f"KL divergence of {info.name} over {monitor.windows[w]} in the last {span}"
    kl, lower, upper = (each[:, 0, 0].astype(np.float64) for each in (track.kl, track.lower, track.upper))
    drawn = track.at_ms.size > 1 and not np.isnan(kl).all()
    row = next(row for row in rank(monitor, readers.since(monitor)) if row.index == f)
    return {
        "monitor": monitor,
        "info": info,
        "row": row,
        "f": f,
        "w": w,
        "window": monitor.windows[w],
        "span": span,
        "spans": tuple(SPANS),
        "legend": legend(),
        "timeline": timeline(track.at_ms, kl, lower, upper, info.warning, info.critical, label) if drawn else "",
        "windows": [_window(monitor, f, w) for w in range(len(monitor.windows))],
        "per_dimension": _per_dimension(monitor, f, w),
    }


def _window(monitor: MonitorSnapshot, f: int, w: int) -> dict[str, Any]:
    """One window of a feature: its reading and its histogram."""
    explanation = explanation_of(monitor, f, w)
    drawn = ""
    if explanation is not None:
        label = f"{monitor.features[f].name}, {monitor.windows[w]}: shares of the live data and of the reference"
        drawn = histogram(cells_of(monitor, f, w), label)
    return {
        "name": monitor.windows[w],
        "state": series_state(monitor, w, f),
        "reading": reading(monitor, f, w, explanation),
        "explanation": explanation,
        "histogram": drawn,
    }


def _per_dimension(monitor: MonitorSnapshot, f: int, w: int) -> list[tuple[int, float]]:
    """The dimensions of a vector, most diverged first."""
    found = monitor.per_dimension.get(f)
    if found is None or np.isnan(found[w]).all():
        return []
    return sorted(enumerate(found[w].tolist()), key=lambda pair: -pair[1])


def _why(monitor: MonitorSnapshot, f: int) -> str:
    """Why a feature is undecided: of its largest window."""
    w = int(monitor.samples[:, f].argmax())
    return reading(monitor, f, w, None).partition(": ")[2]


def _segments(monitor: MonitorSnapshot) -> list[dict[str, Any]]:
    found = []
    for segment in monitor.segments[:LISTED_SEGMENTS]:
        rows = rank(segment, {}, most=1)
        found.append(
            {
                "name": segment.segment,
                "samples": int(segment.samples.max(initial=0)),
                "counted": counted(feature_states(segment)),
                "first": rows[0] if rows else None,
            }
        )
    return found


def _page(request: Request, template: str, readers: Readers, code: int = 200, **values: Any) -> Response:
    status, snapshot = readers.status(), readers.snapshot()
    text = (
        environment()
        .get_template(template)
        .render(
            status=status, evaluated_ms=snapshot.evaluated_ms, now_ms=readers.now_ms(), versions=_versions(), **values
        )
    )
    body, headers = text.encode("utf-8", "replace"), dict(_HEADERS)
    if accepts_gzip(request.headers.get("accept-encoding", "")):
        body = gzip.compress(body, 1)
        headers["content-encoding"] = "gzip"
    return Response(body, code, headers, "text/html")


def static_file(request: Request) -> Response:
    """A file of ``static/``, and nothing else."""
    name = request.path_params["name"]
    if name not in _STATIC:
        raise Problem(404, f"expected a file of the pages, got {shown(name)}; known: {', '.join(_STATIC)}")
    headers = {"x-content-type-options": "nosniff", "cache-control": "max-age=31536000, immutable"}
    return Response(static(name), 200, headers, _STATIC[name])


_VERSIONS: dict[str, str] = {}


def _versions() -> dict[str, str]:
    """Of each static file something that changes with it, so that it can be kept for ever."""
    if not _VERSIONS:
        _VERSIONS.update((name, hashlib.sha256(static(name).encode()).hexdigest()[:8]) for name in _STATIC)
    return _VERSIONS
