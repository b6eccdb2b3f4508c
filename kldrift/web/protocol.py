"""Uvicorn's HTTP/1.1 protocol under a guard: limits on what is read before an answer is due, and errors as JSON."""

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from kldrift.web.answers import Problem, encode
from kldrift.web.fields import check_transfer_coding, unknown_transfer_coding
from kldrift.web.guard import Guard, Waiting
from kldrift.web.transport import OneWrite, unacknowledged_bytes

#: Maximum size of the request line and headers; httptools itself has no limit.
MAX_HEAD_BYTES = 16 * 1024
#: Maximum number of header fields; each costs two objects, however short it is.
MAX_FIELDS = 128
#: Maximum number of pipelined requests waiting for the one being answered; after them the connection ends.
MAX_PIPELINED = 128
#: Allowance for chunk framing (sizes, extensions, trailers): a multiple of the data, and a fixed amount.
_FRAMING_RATIO, _FRAMING_BYTES = 8, 16 * 1024
#: What is received is parsed in slices of this many bytes, unless it continues a body that is not in chunks. After one
#: with more pieces of a body than this, the connection rests: each chunk is a piece and costs half a microsecond. Fifty
#: connections with chunks of one byte kept a post of one row waiting for 16 s (tests/faults/dripping.py).
_SLICE_BYTES, _SLICE_PIECES, _PIECE_SECONDS = 32 * 1024, 1024, 0.5e-6

_TOO_LATE: dict[Waiting, tuple[int, str]] = {
    "header": (408, "timed out waiting for the end of the headers; send the request again without pauses"),
    "body": (408, "timed out waiting for the rest of the body; no samples were accepted, send it again"),
    "answer": (
        503,
        "the request could not be answered in time; retry later (samples that were sent may still be counted)",
    ),
}


class _StopParsing(Exception):
    """Raised to discard the rest of the received data."""


class Protocol(HttpToolsProtocol):
    """One connection.

    Parameters
    ----------
    before : called before the connection is passed to the guard, which until then knows it under another object
    """

    def __init__(
        self,
        guard: Guard,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.n_requests = 0
        self._before = before
        self._guard = guard
        self._in_head = True
        self._head_bytes = 0
        self._fed_bytes = 0
        self._body_bytes = 0
        self._n_pieces = 0
        self._framing_bytes = 0
        self._kept = b""
        self._rests = False
        self._deaf = False

    # --- the connection --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Ask the guard for admission; a refused connection is only told why."""
        if self._before is not None:
            self._before()
        self._one_write = OneWrite(transport)
        address = transport.get_extra_info("peername")
        if self._guard.admit(self, str(address[0]) if isinstance(address, tuple) else ""):
            super().connection_made(self._one_write)
        else:
            self.transport = self._one_write
            self._refuse(503, "too many connections are open; reuse connections, then retry")

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the guard that the connection is gone, and drop what is still to be answered."""
        self._guard.gone(self)
        self.pipeline.clear()
        self._kept = b""
        self._one_write.lose()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Note that the client does not read what is written."""
        super().pause_writing()
        self._guard.unread(self)

    def resume_writing(self) -> None:
        """Note that the client has read most of what was written."""
        super().resume_writing()
        self._guard.read(self)

    # --- receiving -------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse `data`; many chunks in slices, and after one of many small pieces only once it is our turn again."""
        if self._rests:
            self._kept += data
        elif len(data) > _SLICE_BYTES and (
            self._in_head or any(name == b"transfer-encoding" for name, _ in self.headers)
        ):
            self._parse_slices(data)
        else:
            self._parse(data)

    def _parse_slices(self, data: bytes) -> None:
        view = memoryview(data)
        for at in range(0, len(data), _SLICE_BYTES):
            n_pieces = self._n_pieces
            self._parse(view[at : at + _SLICE_BYTES])
            n_pieces = self._n_pieces - n_pieces
            if n_pieces > _SLICE_PIECES and not self._deaf:
                self._rests, self._kept = True, data[at + _SLICE_BYTES :]
                self._one_write.rest()
                self.loop.call_later(self._guard.pause_after(n_pieces * _PIECE_SECONDS), self._wake)
                return

    def _wake(self) -> None:
        """Parse what was kept, and receive again."""
        self._rests = False
        kept, self._kept = self._kept, b""
        if self.parser is not None:  # otherwise the connection is gone
            self._one_write.wake()
            self._parse_slices(kept)

    def _parse(self, data: bytes | memoryview) -> None:
        """Parse `data`; refuse headers, chunk sizes or trailers without end.

        Only data received while the same head is being read counts towards its size: the parser reports where a head
        ends, not where it begins within `data`. A head that arrives together with more data than a head may have is
        measured once it is complete.
        """
        if self._deaf:
            return
        in_head, n_requests, body_bytes = self._in_head, self.n_requests, self._body_bytes
        self._fed_bytes = self._head_bytes + len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._stay_with_http1(bytes(data[offer.args[0] :]))
        except httptools.HttpParserError as error:
            if not self._deaf:
                self._refuse_unparsable(str(error))
            return
        if n_requests != self.n_requests:
            return
        if in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES or len(self.headers or ()) > MAX_FIELDS:
                self._refuse_head()
        else:
            framing = self._framing_bytes + len(data) - (_FRAMING_RATIO + 1) * (self._body_bytes - body_bytes)
            self._framing_bytes = max(0, framing)
            if framing > _FRAMING_BYTES or len(self.headers) > 2 * MAX_FIELDS:
                self._refuse(
                    400, "expected chunks that are mostly data, got sizes, extensions or trailers; send plain data"
                )

    def on_headers_complete(self) -> None:
        """The head ends here."""
        self._in_head = False
        self.n_requests += 1
        self._head_bytes = self._framing_bytes = 0
        if len(self.headers) > MAX_FIELDS or (
            self._fed_bytes > MAX_HEAD_BYTES
            and len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD_BYTES
        ):
            self._refuse_head()
            raise _StopParsing
        if len(self.pipeline) >= MAX_PIPELINED:
            # RFC 9112, section 9.6: the client resends whatever was unanswered when the connection closed.
            self._end_behind(self.pipeline[0][0])
            raise _StopParsing
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def _stay_with_http1(self, rest: bytes) -> None:
        """Parse the request again without its offer to upgrade.

        The parser reads no body after such an offer, but clients (Java's) send one; a server may ignore the offer.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(405, "expected a request for a path of this server, got CONNECT; this is not a proxy")
            return
        self.parser = httptools.HttpRequestParser(self)
        fields = [b"%s: %s\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        self.data_received(b"%s %s HTTP/1.1\r\n%s\r\n%s" % (method, self.url, b"".join(fields), rest))

    def on_body(self, body: bytes) -> None:
        """Add a piece to the body, without its framing, as uvicorn does; and count it."""
        self._n_pieces += 1
        self._body_bytes += len(body)
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Expect the next head."""
        self._in_head = True
        if not self.parser.should_upgrade():
            super().on_message_complete()

    # --- answering -------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """Finish a response and start the next request, as uvicorn does, with two differences.

        There is no keep-alive timer, since the guard sweeps. And nothing more is read while pipelined requests are
        waiting; otherwise each answer would let another buffer full of requests in.
        """
        self._one_write.flush()
        self.server_state.total_requests += 1
        if self._one_write.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        if not self.pipeline:
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        """Answer data that is not HTTP."""
        self._refuse(400, f"expected an HTTP/1.1 request; {msg}")

    def _refuse_unparsable(self, reason: str) -> None:
        """Answer what the parser cannot read, which includes transfer codings."""
        try:
            check_transfer_coding(self.headers or ())
            if "invalid `transfer-encoding`" in reason.lower():  # the parser keeps the field to itself
                raise unknown_transfer_coding("others or several")
        except Problem as problem:
            self._refuse(problem.status, problem.message)
        else:
            self.send_400_response("this is not one")

    def _refuse_head(self) -> None:
        self._refuse(
            431,
            f"expected a request line and headers of at most {MAX_HEAD_BYTES} bytes and {MAX_FIELDS} fields, got more",
        )

    def _end_behind(self, cycle: RequestResponseCycle) -> None:
        """Make this answer the last one, and drop data that still arrives: closing now could destroy the answer."""
        cycle.keep_alive = False
        self._deaf = True
        self.flow.resume_reading()

    def _refuse(self, status: int, message: str) -> None:
        """Send a last answer, ignore all further data, and let the guard close the connection soon.

        If an earlier request is still unanswered, its answer is sent instead: the client must not mistake this one
        for it.
        """
        if self._one_write.is_closing():
            return
        self._deaf = True
        cycle = self.cycle
        if status != 503 and cycle is not None and not (cycle.response_complete or cycle.more_body):
            self._end_behind(cycle)
            return
        if status != 503 and self.pipeline:
            self._one_write.close()
            return
        body = encode({"error": message})
        retry = b"retry-after: 1\r\n" if status == 503 else b""
        self._one_write.end(
            b"%scontent-type: application/json\r\n%sconnection: close\r\ncontent-length: %d\r\n\r\n%s"
            % (STATUS_LINE[status], retry, len(body), body)
        )
        self.pipeline.clear()
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        if self.flow is not None:
            self.flow.resume_writing()
            self.flow.resume_reading()  # otherwise we would not notice that the client closes

    # --- for the guard ---------------------------------------------------------------------------

    def waits_for(self) -> Waiting:
        """Return what the connection is waiting for."""
        cycle = self.cycle
        if self._one_write.ended:
            return "refused"
        if self._one_write.is_closing() or self.flow.write_paused:
            return "write"
        if cycle is not None and not cycle.response_complete:
            return "body" if cycle.more_body and not self.flow.read_paused else "answer"
        if not self._in_head:
            return "rest"
        # Each request has its own scope, made at its first byte.
        if cycle is None or self.scope is not cycle.scope:
            return "header"
        return "idle"

    def progress_bytes(self, waiting: Waiting) -> int:
        """Return a counter of the body bytes received, or of the bytes read by the client."""
        if waiting != "write":
            return self._body_bytes
        return -self.unsent_bytes() - unacknowledged_bytes(self._one_write)

    def unsent_bytes(self) -> int:
        """Return the number of bytes that the client has yet to read."""
        return self._one_write.get_write_buffer_size()

    def evict(self, waiting: Waiting) -> None:
        """End the connection; a client that has started to send is told why."""
        cycle = self.cycle
        in_answer = cycle is not None and cycle.response_started and not cycle.response_complete
        if waiting in _TOO_LATE and self.scope is not None and not in_answer:
            self._refuse(*_TOO_LATE[waiting])
        else:
            self._one_write.abort()
