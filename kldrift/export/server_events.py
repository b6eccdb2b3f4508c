"""Events of the HTTP server: requests, connections, and who was denied access."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from kldrift.export.events import Events

#: Reasons for refusing and for closing connections. Their counters start at 0, so that `rate` sees the first one.
REFUSED_REASONS = ("connections", "client")
EVICTED_REASONS = ("header", "body", "answer", "idle", "write")


class ServerEvents(Events):
    """Counts and logs what happens in the HTTP server."""

    def __init__(self, logger: logging.Logger | None = None, clock: Callable[[], float] = time.time) -> None:
        super().__init__(logger, clock)
        for reason in REFUSED_REASONS:
            self._metrics.http_refused.at(reason)
        for reason in EVICTED_REASONS:
            self._metrics.http_evicted.at(reason)

    def http_answered(self, handler: str, code: int, seconds: float) -> None:
        """Count an answered request; `handler` is the name of the route, never the requested path."""
        self._metrics.http_requests.at(handler, str(code)).inc()
        self._metrics.http_seconds.at(handler).observe(seconds)

    def watch_entry(self, refusals: Iterable[str], handshake_failures: Iterable[str]) -> None:
        """Start the series of these reasons at 0, where access is restricted."""
        for reason in refusals:
            self._metrics.http_unauthorized.at(reason)
        for reason in handshake_failures:
            self._metrics.tls_failures.at(reason)

    def http_unauthorized(self, reason: str, client: str) -> None:
        """Record a request that was denied access; `reason` is from a bounded set."""
        self._metrics.http_unauthorized.at(reason).inc()
        self._log.repeated(
            ("unauthorized", reason),
            logging.WARNING,
            "access denied",
            {"reason": reason, "client": client},
        )

    def tls_failed(self, reason: str) -> None:
        """Record a failed TLS handshake; `reason` is from a bounded set."""
        self._metrics.tls_failures.at(reason).inc()
        self._log.repeated(("tls", reason), logging.WARNING, "TLS handshake failed", {"reason": reason})

    def certificate_used(self, expires: float) -> None:
        """Record the certificate that new connections get, by when it expires (Unix time, seconds)."""
        self._metrics.tls_expiry.set(expires)
        self._log.event(logging.INFO, "certificate loaded", expires=datetime.fromtimestamp(expires, UTC).isoformat())

    def server_files_read(self, problems: Sequence[str]) -> None:
        """Record that certificates, tokens or users were read again; if `problems`, the old ones stay in use."""
        self._metrics.server_files_successful.set(not problems)
        for problem in problems:
            self._log.event(logging.ERROR, "file rejected, the old one stays in use", problem=problem)
        if not problems:
            self._log.event(logging.INFO, "certificates, tokens and users are up to date with their files")

    def http_connections(self, n_open: int) -> None:
        """Set the number of open connections."""
        self._metrics.http_connections.set(n_open)

    def http_refused(self, reason: str) -> None:
        """Record a connection that was refused because there are too many, in total or from its client."""
        self._metrics.http_refused.at(reason).inc()
        self._log.repeated(("refused", reason), logging.WARNING, "connection refused", {"too_many": reason})

    def http_evicted(self, reason: str) -> None:
        """Record a connection that was closed for taking too long; one that was merely idle is not logged."""
        self._metrics.http_evicted.at(reason).inc()
        if reason != "idle":
            self._log.repeated(
                ("evicted", reason),
                logging.WARNING,
                "connection closed because it took too long",
                {"waited_for": reason},
            )

    def open_files(self, before: int, after: int, connections: int, wanted: int) -> None:
        """Log that the limit of open files was raised, or that it allows fewer connections than wanted."""
        if after > before:
            self._log.event(logging.INFO, "raised the limit of open files", before=before, after=after)
        if connections < wanted:
            self._log.event(
                logging.WARNING,
                "the limit of open files allows fewer connections than server.max_connections: raise it (ulimit -n)",
                open_files=after,
                connections=connections,
                wanted=wanted,
            )
