"""uvicorn's HTTP/1.1 protocol with a limit on the request head and on connections, and errors in JSON."""

import asyncio
from typing import Any

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from kldrift.web.answers import Problem, encode, send_problem

#: Request line and headers; httptools itself has no limit.
MAX_HEAD_BYTES = 64 * 1024


class _OneWrite(asyncio.Transport):
    """A transport that writes the head of a response together with what follows it.

    uvicorn writes head and body apart, and uvloop sends each at once: two system calls and two segments. One
    raises the rate of an empty handler by 3 to 6 %.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._head = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep a head back, else write it and `data`."""
        if self._head:
            self._transport.write(self._head + data)
            self._head = b""
        elif data[:9] == b"HTTP/1.1 " and data[9:10] != b"1":  # 100 Continue must go out
            self._head = bytes(data)
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Write a head that nothing follows (HEAD, 204)."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """As the transport has it, as all that follows."""
        return self._transport.is_closing()

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

    ``Config.limit_concurrency`` is the number of connections; one more is answered 503 with Retry-After, in JSON.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._max_connections = self.limit_concurrency
        self.limit_concurrency = None
        self._in_head = True
        self._head_bytes = 0
        self._n_heads = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Count the connection; one too many only hears that it is."""
        self._one_write = _OneWrite(transport)
        super().connection_made(self._one_write)
        if self._max_connections is not None and len(self.connections) > self._max_connections:
            self.app = _too_many_connections

    def data_received(self, data: bytes) -> None:
        """Parse `data`; refuse a head that does not end.

        Only what comes while one and the same head is being read counts towards its size: the parser tells where
        a head ends, not where it begins within `data`.
        """
        self._unset_keepalive_if_required()
        heads = self._n_heads if self._in_head else -1
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._stay_with_http1(data[offer.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("this is not one")
        if self._in_head and heads == self._n_heads:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self._refuse(431, f"expected a request line and headers of at most {MAX_HEAD_BYTES} bytes, got more")

    def on_headers_complete(self) -> None:
        """The head ends here."""
        self._in_head = False
        self._n_heads += 1
        self._head_bytes = 0
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

    def on_message_complete(self) -> None:
        """The next head begins here."""
        self._in_head = True
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """The whole response is written, or will be now."""
        self._one_write.flush()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._refuse(400, f"expected an HTTP/1.1 request; {msg}")

    def _refuse(self, status: int, message: str) -> None:
        body = encode({"error": message})
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()


async def _too_many_connections(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send_problem(
        send,
        Problem(
            503,
            "too many connections are open; keep connections alive and share them, then try again",
            [(b"retry-after", b"1"), (b"connection", b"close")],
        ),
    )
