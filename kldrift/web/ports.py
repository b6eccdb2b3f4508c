"""What the web layer needs from the rest of the daemon."""

from collections.abc import Awaitable, Collection
from dataclasses import dataclass
from typing import Protocol

from kldrift.records import DriftSnapshot, Format, Receipt


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One pull source: is it read, how many records wait, what went wrong last."""

    name: str
    up: bool
    lag_records: int | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """What the daemon says about itself.

    Parameters
    ----------
    ready : whether it takes samples and answers with figures
    reason : why it is not ready; empty when it is
    config_path : the configuration file, None when there is none (demo)
    warnings : what the user should know but need not act on at once
    """

    ready: bool
    reason: str
    version: str
    started_ms: int
    config_path: str | None = None
    sources: tuple[SourceStatus, ...] = ()
    warnings: tuple[str, ...] = ()


class Ingest(Protocol):
    """Where posted samples go."""

    def monitors(self) -> Collection[str]:
        """Names of the monitors that take samples; asked at every post, so membership must be cheap."""
        ...

    def submit(self, monitor: str, format: Format, body: bytes) -> Awaitable[Receipt]:  # noqa: A002 the field's word
        """Take one body; resolves once its samples are committed.

        Raises
        ------
        Busy
            nothing of the body was taken; the client is told to come again.
        """
        ...


class Readers(Protocol):
    """What can be read from the daemon. Everything here is called from the event loop, and from threads."""

    def snapshot(self) -> DriftSnapshot:
        """The latest evaluation."""
        ...

    def status(self) -> Status:
        """The daemon's own state, now."""
        ...

    async def exposition(self, openmetrics: bool, gzip: bool) -> bytes:
        """Every metric, in Prometheus text or OpenMetrics, compressed or not."""
        ...

    async def reload(self) -> list[str]:
        """Load the configuration again; the problems that kept it from being used (none: it is in use)."""
        ...
