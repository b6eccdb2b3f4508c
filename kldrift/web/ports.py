"""The interfaces through which the web layer uses the rest of the daemon."""

from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kldrift.records.formats import Format
from kldrift.records.samples import Receipt
from kldrift.records.snapshots import DriftSnapshot, MonitorSnapshot, Track


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One pull source: whether it is being read, how many records are waiting, and its last error."""

    name: str
    up: bool
    lag_records: int | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the daemon.

    Parameters
    ----------
    ready : whether it accepts samples and has figures
    reason : why it is not ready; empty if it is
    hung : what has stopped working, so that only a restart helps; empty if nothing has
    config_path : the configuration file, None if there is none (demo)
    warnings : what users should know but need not act on at once
    """

    ready: bool
    reason: str
    version: str
    started_ms: int
    config_path: str | None = None
    sources: tuple[SourceStatus, ...] = ()
    warnings: tuple[str, ...] = ()
    hung: str = ""


class Ingest(Protocol):
    """The destination of posted samples."""

    def monitors(self) -> Collection[str]:
        """Return the names of the monitors that accept samples; called at every post, so membership must be cheap."""
        ...

    @property
    def honours_keys(self) -> bool:
        """Whether idempotency keys are stored."""
        ...

    def submit(
        self,
        monitor: str,
        format: Format,  # noqa: A002 (the term in this field)
        body: bytes,
        key: str | None = None,
    ) -> Awaitable[Receipt]:
        """Accept one body; resolves once its samples are committed.

        Raises
        ------
        Busy
            none of the body was accepted, or it cannot be stored now; the client should retry
        KeyConflict
            the idempotency key is in use, or was used with another body
        StateError
            the key could not be looked up in the state
        """
        ...


class Readers(Protocol):
    """What the web layer reads from the daemon. Called from the event loop and from threads."""

    def snapshot(self) -> DriftSnapshot:
        """Return the latest evaluation."""
        ...

    def status(self) -> Status:
        """Return the current state of the daemon."""
        ...

    def now_ms(self) -> int:
        """Return the time of the clock that the snapshot's instants come from."""
        ...

    def track(self, monitor: MonitorSnapshot, features: Sequence[int], windows: Sequence[int], span_ms: int) -> Track:
        """Return the history of some features and windows of a monitor or segment over the last `span_ms`."""
        ...

    def since(self, monitor: MonitorSnapshot) -> Mapping[str, Mapping[int, int]]:
        """Return since when each drifting feature has been drifting: milliseconds by index of the severity."""
        ...

    def configuration(self) -> str:
        """Return the resolved configuration, without secrets."""
        ...

    async def exposition(self, openmetrics: bool, gzip: bool) -> bytes:
        """Return every metric as Prometheus text or OpenMetrics, compressed or not."""
        ...

    async def reload(self) -> list[str]:
        """Reload the configuration; return the problems that prevented it (none: the new one is in use)."""
        ...


class GuardEvents(Protocol):
    """Receives what the guard does; reasons are words from a bounded set."""

    def http_connections(self, n_open: int) -> None:
        """Called with the number of open connections whenever it changes."""
        ...

    def http_refused(self, reason: str) -> None:
        """Called for a refused connection: too many in all (``connections``) or from one client (``client``)."""
        ...

    def http_evicted(self, reason: str) -> None:
        """Called for a connection that took too long: ``header``, ``body``, ``answer``, ``idle`` or ``write``."""
        ...
