"""What the web layer needs from the rest of the daemon."""

from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kldrift.records.formats import Format
from kldrift.records.samples import Receipt
from kldrift.records.snapshots import DriftSnapshot, MonitorSnapshot, Track


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
    hung : what no longer goes on, so that only a new start helps; empty when all does
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
    hung: str = ""


class Ingest(Protocol):
    """Where posted samples go."""

    def monitors(self) -> Collection[str]:
        """Names of the monitors that take samples; asked at every post, so membership must be cheap."""
        ...

    @property
    def honours_keys(self) -> bool:
        """Whether idempotency keys are remembered."""
        ...

    def submit(
        self,
        monitor: str,
        format: Format,  # noqa: A002 the field's word
        body: bytes,
        key: str | None = None,
    ) -> Awaitable[Receipt]:
        """Take one body; resolves once its samples are committed.

        Raises
        ------
        Busy
            nothing of the body was taken, or it cannot be stored now; the client is told to come again.
        KeyConflict
            the idempotency key is in use, or came with another body
        StateError
            the state cannot be asked for the key
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

    def now_ms(self) -> int:
        """The wall clock that the snapshot's instants are of."""
        ...

    def track(self, monitor: MonitorSnapshot, features: Sequence[int], windows: Sequence[int], span_ms: int) -> Track:
        """Some features and windows of a monitor, or of a segment, over the last `span_ms`; empty where not known."""
        ...

    def since(self, monitor: MonitorSnapshot) -> Mapping[str, Mapping[int, int]]:
        """Since when each drifting feature has been so: milliseconds by index of the severity."""
        ...

    def configuration(self) -> str:
        """The configuration as resolved, without secrets."""
        ...

    async def exposition(self, openmetrics: bool, gzip: bool) -> bytes:
        """Every metric, in Prometheus text or OpenMetrics, compressed or not."""
        ...

    async def reload(self) -> list[str]:
        """Load the configuration again; the problems that kept it from being used (none: it is in use)."""
        ...


class GuardEvents(Protocol):
    """Hears what the guard does; reasons are words from a bounded set."""

    def http_connections(self, n_open: int) -> None:
        """So many connections are open."""
        ...

    def http_refused(self, reason: str) -> None:
        """A connection was refused: there are too many in all (``connections``) or of one client (``client``)."""
        ...

    def http_evicted(self, reason: str) -> None:
        """A connection took too long: ``header``, ``body``, ``answer``, ``idle`` or ``write``."""
        ...
