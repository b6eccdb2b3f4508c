"""Serve the application: the listening socket, uvicorn, and an orderly shutdown."""

import asyncio
import contextlib
import errno
import socket
import ssl
import sys
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from kldrift.errors import ListenError
from kldrift.web.guard import SWEEP_SECONDS, Guard
from kldrift.web.protocol import Protocol
from kldrift.web.tls import TlsServer

_BACKLOG = 1024
#: Time for requests in flight at shutdown; the daemon has ten seconds in all.
_GRACE_SECONDS = 8


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Make the event loop for the server, uvloop where available; for ``asyncio.Runner(loop_factory=…)``."""
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


def bind(host: str, port: int) -> socket.socket:
    """Open the listening socket, so that an unusable address is found before anything is built.

    Clients that connect before the server starts wait for it. Port 0 picks a free port.

    Raises
    ------
    ListenError
        the address is in use, unknown, or not allowed
    """
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if not 0 <= port <= 65535:  # glibc takes it modulo 65536
            raise OverflowError("a port is 0 to 65535")
        family, kind, protocol, _, bound_address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except (socket.gaierror, UnicodeError, OverflowError) as error:
        raise ListenError(
            f"server.listen: expected an address of this machine, got {address} ({error}); correct the host or port"
        ) from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(bound_address)
        # Linux refuses the address to others only once the socket listens.
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            reason = "is in use: stop the other process, or set server.listen to another port"
        elif error.errno in (errno.EACCES, errno.EPERM):
            reason = "is not allowed: ports below 1024 need privileges; set server.listen to a higher port"
        elif error.errno == errno.EADDRNOTAVAIL:
            reason = "is not an address of this machine: set server.listen to one that is, or to 0.0.0.0 for all"
        else:
            reason = f"cannot be listened on: {error.strerror or error}; set server.listen to another address"
        raise ListenError(f"{address} {reason}") from None
    return listening


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers, since the daemon has its own; TLS handshakes are guarded too."""

    def __init__(self, config: uvicorn.Config, guard: Guard) -> None:
        super().__init__(config)
        self._guard = guard

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does with given sockets, but know of connections before their handshakes."""
        await self.lifespan.startup()
        loop, config = asyncio.get_running_loop(), self.config

        def connection(before: Callable[[], None] | None = None) -> asyncio.Protocol:
            return Protocol(self._guard, config, self.server_state, self.lifespan.state, before=before)

        self.servers = []
        for listening in sockets or ():
            if config.ssl is None:
                self.servers.append(await loop.create_server(connection, sock=listening, backlog=config.backlog))
            else:
                secured = TlsServer(listening, config.ssl, self._guard, connection)
                self.servers.append(secured)  # type: ignore[arg-type]  # it has all that uvicorn uses of one
        self.started = True


class WebServer:
    """Runs an ASGI application on a listening socket, in the running event loop.

    Parameters
    ----------
    app : answers every request
    listening : from `bind`; the server takes ownership
    grace_seconds : how long `stop` waits for requests in flight
    tls : for HTTPS
    guard : limits connections and evicts them
    """

    def __init__(
        self,
        app: ASGIApp,
        listening: socket.socket,
        grace_seconds: int = _GRACE_SECONDS,
        tls: ssl.SSLContext | None = None,
        guard: Guard | None = None,
    ) -> None:
        self._listening = listening
        self._guard = guard or Guard()
        self._sweep: asyncio.TimerHandle | None = None
        #: The bound port.
        self.port: int = listening.getsockname()[1]
        self._server = _Server(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                proxy_headers=False,
                server_header=False,
                access_log=False,
                log_config=None,
                # At lower levels, every malformed request would write a line.
                log_level="error",
                backlog=_BACKLOG,
                timeout_graceful_shutdown=grace_seconds,
            ),
            self._guard,
        )
        self._server.config.load()
        self._server.config.ssl = tls
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start answering requests."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listening]), name="web server")
        while not self._server.started:
            if self._serving.done():
                await self._serving
                raise ListenError(f"the server on port {self.port} stopped before it started; see the log")
            await asyncio.sleep(0.001)
        self._sweep_on()

    def _sweep_on(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep_on)
        self._guard.sweep()

    async def stop(self) -> None:
        """Stop accepting, answer what is in flight, and close; after the grace time, answer the rest with 503."""
        if self._serving is None:
            self._listening.close()
            return
        self._server.should_exit = True
        await self._serving
        if self._sweep is not None:
            self._sweep.cancel()
        self._guard.close()
        # Uvicorn cancels the remaining requests but does not wait for them.
        if left := set(self._server.server_state.tasks):
            await asyncio.wait(left, timeout=1)
