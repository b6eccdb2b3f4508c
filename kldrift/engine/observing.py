"""What both intakes report about the rows they decode, and the clock they share."""

import time
from collections.abc import Sequence

import numpy as np

from kldrift.drift.monitor import Monitor
from kldrift.export.telemetry import Telemetry
from kldrift.records.samples import BodyResult
from kldrift.wire.tables import NO_KNOWN_FIELD

#: How often a row is checked for fields that no monitor uses.
UNKNOWN_FIELDS_SECONDS = 60.0


def report(
    telemetry: Telemetry, source: str, bodies: Sequence[BodyResult], others: Sequence[Sequence[BodyResult]] = ()
) -> None:
    """Report the accepted rows and the rejected ones by reason, each row once.

    Parameters
    ----------
    others : what became of the same bodies for other monitors; a row of which one of them knows a field is accepted
    """
    rejected: dict[str, int] = {}
    for body in bodies:
        for reason, count in body.rejected.items():
            rejected[reason] = rejected.get(reason, 0) + count
        if body.unreadable is not None and not body.rejected:
            rejected["unreadable"] = rejected.get("unreadable", 0) + 1
    accepted = sum(body.accepted for body in bodies)
    if NO_KNOWN_FIELD in rejected and others:
        n_known = min(rejected[NO_KNOWN_FIELD], _accepted_by_any(bodies, others) - accepted)
        rejected[NO_KNOWN_FIELD] -= n_known
        accepted += n_known
    telemetry.batch_decoded(source, accepted, rejected)


def _accepted_by_any(bodies: Sequence[BodyResult], others: Sequence[Sequence[BodyResult]]) -> int:
    """Count the rows that at least one monitor has taken."""
    total = 0
    for results in zip(bodies, *others, strict=True):
        taken = np.zeros(results[0].accepted + sum(results[0].rejected.values()), dtype=np.bool_)
        for result in results:
            taken[slice(result.accepted) if result.rows is None else result.rows] = True
        total += int(np.count_nonzero(taken))
    return total


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
