"""What both intakes report about the rows they decode, and the clock they share."""

import time
from collections.abc import Sequence

from kldrift.drift.monitor import Monitor
from kldrift.export.telemetry import Telemetry
from kldrift.records.samples import BodyResult

#: How often a row is checked for fields that no monitor uses.
UNKNOWN_FIELDS_SECONDS = 60.0


def report(telemetry: Telemetry, source: str, bodies: Sequence[BodyResult]) -> None:
    """Report the accepted rows and the rejected ones by reason."""
    rejected: dict[str, int] = {}
    for body in bodies:
        for reason, count in body.rejected.items():
            rejected[reason] = rejected.get(reason, 0) + count
        if body.unreadable is not None and not body.rejected:
            rejected["unreadable"] = rejected.get("unreadable", 0) + 1
    telemetry.batch_decoded(source, sum(body.accepted for body in bodies), rejected)


class UnknownFields:
    """Reports fields that no feature uses, by looking at one row per monitor and minute."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._next: dict[str, float] = {}

    def due(self, monitor: str) -> bool:
        """Whether it is time to check a row for this monitor."""
        now = time.monotonic()
        if now < self._next.get(monitor, 0.0):
            return False
        self._next[monitor] = now + UNKNOWN_FIELDS_SECONDS
        return True

    def tell(self, monitor: Monitor, fields: frozenset[str]) -> None:
        """Log the fields that are neither features nor the timestamp."""
        known = {feature.name for feature in monitor.schema.features}
        if monitor.schema.timestamp is not None:
            known.add(monitor.schema.timestamp.field)
        if unknown := fields - known:
            self._telemetry.unknown_fields(monitor.spec.name, sorted(unknown))


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """A clock that is never set."""
    return time.monotonic_ns() // 1_000_000
