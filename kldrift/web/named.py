"""Look up the monitors, features and windows named in a request."""

from starlette.requests import Request

from kldrift.records.snapshots import DriftSnapshot, MonitorSnapshot
from kldrift.web.answers import Problem, decoded_segment, not_ready, shown, unknown
from kldrift.web.ports import Readers


def evaluated(readers: Readers) -> DriftSnapshot:
    """Return the latest evaluation.

    Raises
    ------
    Problem
        503 before the first one
    """
    snapshot = readers.snapshot()
    if not snapshot.evaluated_ms:
        raise not_ready(readers.status().reason)
    return snapshot


def named_monitor(readers: Readers, request: Request) -> MonitorSnapshot:
    """Return the snapshot of the monitor in the path, or of its segment in the query.

    Raises
    ------
    Problem
        404; 503 before the first evaluation
    """
    name = decoded_segment(request.path_params["monitor"])
    by_name = {monitor.name: monitor for monitor in evaluated(readers).monitors}
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


def feature_index(monitor: MonitorSnapshot, name: str) -> int:
    """Return the index of a feature; 404 if there is none of that name."""
    names = [feature.name for feature in monitor.features]
    if name not in names:
        raise unknown("feature", name, names)
    return names.index(name)


def window_index(monitor: MonitorSnapshot, window: str) -> int:
    """Return the index of a window; 404 if there is none of that name."""
    if window not in monitor.windows:
        raise unknown("window", window, monitor.windows)
    return monitor.windows.index(window)
