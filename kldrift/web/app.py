"""The ASGI application: ingest and metrics are routed by hand, everything else through `api`."""

import asyncio
import logging
import time
from collections.abc import Callable
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kldrift.web.access import Access
from kldrift.web.answers import Problem, encode, send_json, send_problem
from kldrift.web.api import api
from kldrift.web.body import Limits
from kldrift.web.fields import fields_of
from kldrift.web.hosts import Hosts
from kldrift.web.ingest import PREFIX, IngestEndpoint
from kldrift.web.negotiation import OPENMETRICS, TEXT, accepts_gzip, wants_openmetrics
from kldrift.web.ports import Ingest, Readers

logger = logging.getLogger(__name__)

#: Called after each request with the handler (a word from a bounded set), the status (499: client gone) and seconds.
OnRequest = Callable[[str, int, float], None]


class App:
    """An ASGI application (HTTP only).

    The handlers passed to `on_request` are ``ingest``, ``metrics``, ``index``, ``healthy``, ``ready``, ``reload``,
    ``status``, ``monitors``, ``monitor``, ``feature``, ``history``, ``monitor_page``, ``feature_page``,
    ``configuration_page``, ``static_file`` and ``other``. Without `access`, everyone may do everything, and without
    `hosts` under any name.
    """

    def __init__(
        self,
        ingest: Ingest | None,
        readers: Readers,
        on_request: OnRequest,
        limits: Limits | None = None,
        access: Access | None = None,
        hosts: Hosts | None = None,
    ) -> None:
        self._hosts = hosts or Hosts()
        self._access = access
        self._ingest = IngestEndpoint(ingest, limits or Limits())
        self._readers = readers
        self._on_request = on_request
        self._api: ASGIApp = api(readers)

    def take_samples(self, ingest: Ingest) -> None:
        """Hand posted samples to `ingest` from now on; until then posts are answered with 503."""
        self._ingest.ingest = ingest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request and report it to `on_request`."""
        started = time.perf_counter()
        raw_path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
        # Ingest comes first and bypasses Starlette, whose routing and Request would cost it a third of its rate.
        handler = "ingest" if raw_path.startswith(PREFIX) else "metrics" if raw_path == b"/metrics" else "other"
        try:
            fields = fields_of(scope)
            self._hosts.admit(scope["method"], fields)
            if self._access is not None:
                await self._access.admit(scope, raw_path)
            if handler == "ingest":
                status = await self._ingest(scope, raw_path, fields, receive, send)
            elif handler == "metrics":
                status = await self._metrics(scope, fields, send)
            else:
                scope["path"] = raw_path.decode("ascii")
                handler, status = await self._routed(scope, receive, send)
        except Problem as problem:
            status = await send_problem(send, problem)
        except asyncio.CancelledError:
            # The server is stopping and has waited long enough; the samples may or may not have been committed.
            status = await send_problem(
                send,
                Problem(503, "the daemon stopped before the answer was ready; retry", [(b"retry-after", b"5")]),
            )
        except Exception:  # the last line of defence: one request fails, the daemon keeps running
            logger.exception("request failed handler=%s", handler)
            error = encode({"error": "internal error in kldrift; see its log, and please report it"})
            status = await send_json(send, 500, error)
        self._on_request(handler, status, time.perf_counter() - started)

    async def _metrics(self, scope: Scope, fields: dict[bytes, bytes], send: Send) -> int:
        method = scope["method"]
        if method not in ("GET", "HEAD"):
            raise Problem(405, f"expected GET, HEAD; got {method}; read the metrics", [(b"allow", b"GET, HEAD")])
        openmetrics = wants_openmetrics(fields.get(b"accept", b"").decode("latin-1"))
        gzip = accepts_gzip(fields.get(b"accept-encoding", b"").decode("latin-1"))
        body = await self._readers.exposition(openmetrics, gzip)
        start = [
            (b"content-type", OPENMETRICS if openmetrics else TEXT),
            (b"content-length", b"%d" % len(body)),
            (b"vary", b"Accept, Accept-Encoding"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if gzip:
            start.append((b"content-encoding", b"gzip"))
        await send({"type": "http.response.start", "status": 200, "headers": start})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
        return 200

    async def _routed(self, scope: Scope, receive: Receive, send: Send) -> tuple[str, int]:
        """Pass the request to Starlette; return the name of the handler and the status it sent."""
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._api(scope, receive, note_status)
        except Exception:
            if not status:
                raise
            # Starlette has already answered 500 and raises the error again.
            logger.exception("request failed path=%s", scope["path"])
        return getattr(scope.get("endpoint"), "__name__", "other"), status
