"""uvicorn's HTTP/1.1 protocol under a guard: limits on what is read before there is an answer, and errors in JSON."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from kldrift.web.answers import encode
from kldrift.web.guard import Guard, Waiting

#: Request line and headers; httptools itself has no limit.
MAX_HEAD_BYTES = 16 * 1024
#: Each is two objects of its own, however short.
MAX_FIELDS = 128
#: Requests that wait behind the one being answered; the connection ends after them.
MAX_PIPELINED = 128
#: What chunks may have besides their data (sizes, extensions, trailers): so much a byte of data, and at the beginning.
_FRAMING_RATIO, _FRAMING_BYTES = 8, 16 * 1024

_TOO_LATE: dict[Waiting, tuple[int, str]] = {
    "header": (408, "expected the end of the headers in time, got only a part; send the request again, at once"),
    "body": (408, "expected the rest of the body in time, it stalled; nothing of it was taken, send it again"),
    "answer": (
        503,
        "the request could not be answered in time; send it again later (samples that were sent may be counted still)",
    ),
}


class _StopParsing(Exception):
    """The rest of what came is not looked at."""


def _unacknowledged_bytes(transport: asyncio.Transport) -> int:
    """What the system holds for the client: megabytes, of which it takes more from us only once a third is gone."""
    connection = transport.get_extra_info("socket")
    if sys.platform != "linux" or connection is None:
        return 0
    import fcntl
    import termios

    try:
        return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:  # closed meanwhile
        return 0


class _OneWrite(asyncio.Transport):
    """A transport that writes the head of a response together with what follows it.

    uvicorn writes head and body apart, and uvloop sends each at once: two system calls and two segments. One
    raises the rate of an empty handler by 3 to 6 %.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._head = b""
        self._ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep a head back, else write it and `data`; nothing after `end`."""
        if self._ended:
            return
        if self._head:
            self._transport.write(self._head + data)
            self._head = b""
        elif data[:9] == b"HTTP/1.1 " and data[9:10] != b"1":  # 100 Continue must go out
            self._head = bytes(data)
        else:
            self._transport.write(data)

    @property
    def ended(self) -> bool:
        """Whether the last answer is written and only the client's end is waited for."""
        return self._ended

    def flush(self) -> None:
        """Write a head that nothing follows (HEAD, 204)."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def end(self, answer: bytes) -> None:
        """Write the last answer, and go on reading: to close while the client sends would destroy it on its way."""
        self._head = b""
        self.write(answer)
        self.flush()
        self._ended = True
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether nothing more is written."""
        return self._ended or self._transport.is_closing()

    def abort(self) -> None:
        """As the transport has it, as all that follows."""
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """Bytes that the client has not taken."""
        return self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Stop reading."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on reading."""
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Addresses, TLS."""
        return self._transport.get_extra_info(name, default)


class Protocol(HttpToolsProtocol):
    """One connection.

    Parameters
    ----------
    before : called before the guard is asked, which has known the connection until now as another
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
        self._framing_bytes = 0
        self._deaf = False

    # --- the connection --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Let the guard decide; one too many only hears that it is."""
        if self._before is not None:
            self._before()
        self._one_write = _OneWrite(transport)
        address = transport.get_extra_info("peername")
        if self._guard.admit(self, str(address[0]) if isinstance(address, tuple) else ""):
            super().connection_made(self._one_write)
        else:
            self.transport = self._one_write
            self._refuse(503, "too many connections are open; keep connections alive and share them, then try again")

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no more."""
        self._guard.gone(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not take what is written."""
        super().pause_writing()
        self._guard.unread(self)

    def resume_writing(self) -> None:
        """The client has taken most of it."""
        super().resume_writing()
        self._guard.read(self)

    # --- what comes ------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse `data`; refuse a head, a chunk's size or a trailer that does not end.

        Only what comes while one and the same head is being read counts towards its size: the parser tells where
        a head ends, not where it begins within `data`. A head that comes with more than it may have is measured
        when it is whole.
        """
        if self._deaf:
            return
        in_head, n_requests, body_bytes = self._in_head, self.n_requests, self._body_bytes
        self._fed_bytes = self._head_bytes + len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._stay_with_http1(data[offer.args[0] :])
        except httptools.HttpParserError:
            if not self._deaf:
                self.send_400_response("this is not one")
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
            # RFC 9112, section 9.6: the client sends again what was not answered before the connection's end
            self._end_behind(self.pipeline[0][0])
            raise _StopParsing
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def _stay_with_http1(self, rest: bytes) -> None:
        """Parse the request again without its offer to upgrade.

        The parser takes no body after such a head, but clients (Java's) send one: an offer may be ignored.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(405, "expected a request for a path of this server, got CONNECT; this is no proxy")
            return
        self.parser = httptools.HttpRequestParser(self)
        fields = [b"%s: %s\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        self.data_received(b"%s %s HTTP/1.1\r\n%s\r\n%s" % (method, self.url, b"".join(fields), rest))

    def on_body(self, body: bytes) -> None:
        """A piece of a body, without what frames it."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The next head begins here."""
        self._in_head = True
        if not self.parser.should_upgrade():
            super().on_message_complete()

    # --- what goes -------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """The whole response is written, or will be now; as uvicorn has it, but for two things.

        There is no timer for what comes next: the guard looks. And no more is read while requests wait behind this
        one: each answer would let a whole buffer of further ones in.
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
        """Answer what is not HTTP."""
        self._refuse(400, f"expected an HTTP/1.1 request; {msg}")

    def _refuse_head(self) -> None:
        self._refuse(
            431,
            f"expected a request line and headers of at most {MAX_HEAD_BYTES} bytes and {MAX_FIELDS} fields, got more",
        )

    def _end_behind(self, cycle: RequestResponseCycle) -> None:
        """Make this answer the last one; what comes meanwhile is read and dropped, or closing would destroy it."""
        cycle.keep_alive = False
        self._deaf = True
        self.flow.resume_reading()

    def _refuse(self, status: int, message: str) -> None:
        """Answer once more, listen to nothing, and have the guard close the connection soon.

        An answer that is due before goes out instead, as the last one: the client must not take this one for it.
        """
        if self._one_write.is_closing():
            return
        self._deaf = True
        cycle = self.cycle
        if status < 500 and cycle is not None and not (cycle.response_complete or cycle.more_body):
            self._end_behind(cycle)
            return
        if status < 500 and self.pipeline:
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
            self.flow.resume_reading()  # or its client's end would not be seen

    # --- what the guard asks ---------------------------------------------------------------------

    def waits_for(self) -> Waiting:
        """What the connection waits for."""
        cycle = self.cycle
        if self._one_write.ended:
            return "refused"
        if self._one_write.is_closing() or self.flow.write_paused:
            return "write"
        if cycle is not None and not cycle.response_complete:
            return "body" if cycle.more_body and not self.flow.read_paused else "answer"
        if not self._in_head:
            return "rest"
        # Each head has a scope of its own, made at its first byte.
        if cycle is None or self.scope is not cycle.scope:
            return "header"
        return "idle"

    def progress_bytes(self, waiting: Waiting) -> int:
        """Bytes of bodies that came, or that were taken by the client."""
        if waiting != "write":
            return self._body_bytes
        return -self.unsent_bytes() - _unacknowledged_bytes(self._one_write)

    def unsent_bytes(self) -> int:
        """What the client has not read."""
        return self._one_write.get_write_buffer_size()

    def evict(self, waiting: Waiting) -> None:
        """End the connection; a client that has begun to send hears why."""
        cycle = self.cycle
        in_answer = cycle is not None and cycle.response_started and not cycle.response_complete
        if waiting in _TOO_LATE and self.scope is not None and not in_answer:
            self._refuse(*_TOO_LATE[waiting])
        else:
            self._one_write.abort()
