"""The states of windows and features, as tables, pages, reports and the API show them."""

from typing import Literal

import numpy as np

from kldrift.records.snapshots import MonitorSnapshot
from kldrift.records.types import Severity

Readiness = Literal["ready", "absent", "undecided", "empty"]
State = Literal["critical", "absent", "warning", "quiet", "undecided", "empty"]

#: In the order in which they need attention.
STATES: tuple[State, ...] = ("critical", "absent", "warning", "quiet", "undecided", "empty")


def severity(lower: float, warning: float, critical: float) -> Severity | None:
    """Return the most severe tolerance that the lower bound of a divergence exceeds.

    None where it exceeds neither, and where the bound is undecided (NaN). The rules in ``deploy/prometheus`` decide in
    the same way.
    """
    if not lower > warning:
        return None
    return "critical" if lower > critical else "warning"


def readiness(samples: int, ready: bool, absent: bool) -> Readiness:
    """Return whether a window can be judged; if not, whether it is empty, or holds no value of the feature.

    ``undecided`` means too few samples, or a reference that supports no verdict.
    """
    if absent:
        return "absent"
    if samples == 0:
        return "empty"
    return "ready" if ready else "undecided"


def bound_severity(monitor: MonitorSnapshot, w: int, f: int) -> Severity | None:
    """Return the most severe tolerance that the lower bound of one window of a feature exceeds, confirmed or not."""
    if not monitor.ready[w, f]:
        return None
    info = monitor.features[f]
    return severity(float(monitor.lower[w, f]), info.warning, info.critical)


def series_state(monitor: MonitorSnapshot, w: int, f: int) -> State:
    """Return the state of one window of a feature.

    ``absent`` where it has no value. Otherwise it is the most severe tolerance that the lower bound exceeds and that
    the verdict over all features confirms, so that a row never says more than the verdict does.
    """
    word = readiness(int(monitor.samples[w, f]), bool(monitor.ready[w, f]), bool(monitor.absent[w, f]))
    if word != "ready":
        return word
    exceeded = bound_severity(monitor, w, f)
    warning, critical = monitor.detected[f] == 1
    if exceeded == "critical" and critical:
        return "critical"
    return "warning" if exceeded is not None and warning else "quiet"


def feature_states(monitor: MonitorSnapshot) -> list[State]:
    """Return the state of each feature, by its verdict over all windows; absent where one of them has no value.

    A drift that is critical comes first: where a feature stops coming, a longer window still holds values.
    """
    most, ready = monitor.samples.max(axis=0, initial=0).tolist(), np.any(monitor.ready, axis=0).tolist()
    absent = np.any(monitor.absent, axis=0).tolist()
    found: list[State] = []
    for (warning, critical), samples, is_ready, is_absent in zip(
        monitor.detected.tolist(), most, ready, absent, strict=True
    ):
        if critical == 1:
            found.append("critical")
        elif is_absent:
            found.append("absent")
        elif warning == 1:
            found.append("warning")
        else:
            word = readiness(samples, is_ready, is_absent)
            found.append("quiet" if word == "ready" else word)
    return found
