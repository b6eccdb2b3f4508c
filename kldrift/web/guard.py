"""Limits on connections: how many there may be, and how long each may take.

One sweep per second checks what every connection is waiting for and for how long, so that a request costs nothing.
(A timer started and stopped by each request would take 1 µs of the 27 µs of a one-row post.)
"""

import functools
import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from kldrift.web.ports import GuardEvents

#: What a connection waits for: the end of the headers, more of a body, our answer, the rest of a body already answered,
#: the next request, the client to read, a refused client to leave.
Waiting = Literal["header", "body", "answer", "rest", "idle", "write", "refused"]

SWEEP_SECONDS = 1.0
#: A body or an answer that progresses by this many bytes has not stalled.
PROGRESS_BYTES = 32 * 1024

#: The longest time a sweep counts, so that after the process was stopped or the machine slept not every client is late.
_LONGEST_STEP = 2 * SWEEP_SECONDS
#: Connections that each client may have once only reserved ones are left: enough to scrape and to probe.
_RESERVED_EACH = 4
#: Maximum number of refused connections that may still read their answer, unless fewer may be open; further ones are
#: closed at once.
_MAX_REFUSED = 64
#: Maximum size of all answers that clients have yet to read; a scrape of 50,000 series is 4.5 MB.
_MAX_UNSENT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a connection may take, in seconds; a sweep notices up to two seconds later.

    Parameters
    ----------
    header : from connecting, or from the first byte of a later request, to the end of the headers
    body : for each further `PROGRESS_BYTES` of a body, or its end; also for the rest of a body answered early
    body_total : for a complete body, however steadily it arrives
    answer : for the daemon to answer; after that, 503
    idle : between two requests
    write : for the client to read each further `PROGRESS_BYTES` of an answer, or its end
    refused : for a refused client to read the reason before the connection is closed
    """

    header: float = 10
    body: float = 30
    body_total: float = 600
    answer: float = 120
    idle: float = 75
    write: float = 30
    refused: float = 1

    def of(self, waiting: Waiting) -> float:
        """Return the time limit for a kind of waiting."""
        return self.body if waiting == "rest" else float(getattr(self, waiting))


class Connection(Protocol):
    """A connection as the guard sees it."""

    #: Number of requests whose headers were received in full.
    n_requests: int

    def waits_for(self) -> Waiting:
        """Return what the connection is waiting for now."""
        ...

    def progress_bytes(self, waiting: Waiting) -> int:
        """Return a counter that grows by the bytes being waited for."""
        ...

    def unsent_bytes(self) -> int:
        """Return the number of written bytes that the client has yet to read."""
        ...

    def evict(self, waiting: Waiting) -> None:
        """End the connection, which has been waiting too long."""
        ...


@dataclass(slots=True)
class _Watch:
    """What a connection was last seen waiting for, since when, and its progress then."""

    client: str
    waiting: Waiting
    since: float
    n_requests: int = 0
    request_since: float = 0.0
    progress_bytes: int = 0


class Guard:
    """Admits connections and evicts those that take too long.

    A client is an IPv4 address or an IPv6 /64. The last eighth of the connections is reserved for clients with few of
    them, so that no single client can keep Prometheus out, wherever it scrapes from.

    Parameters
    ----------
    max_connections : open at the same time
    max_client_connections : from one client; high by default, since behind a load balancer all clients look like one
    events : notified of refusals, evictions and the number of connections
    clock : monotonic, seconds
    """

    def __init__(
        self,
        timeouts: Timeouts | None = None,
        max_connections: int = 4096,
        max_client_connections: int = 1024,
        events: GuardEvents | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.timeouts = timeouts or Timeouts()
        self._max_connections = max_connections
        self._unreserved = max_connections - max_connections // 8
        self._max_client_connections = max_client_connections
        self._events = events
        self._clock = clock
        self._swept_at = self._costly_until = clock()
        self._now = 0.0
        self._watched: dict[Connection, _Watch] = {}
        self._refused: dict[Connection, _Watch] = {}
        self._of_client: dict[str, int] = {}
        self._unread: dict[Connection, None] = {}  # in the order in which they fell behind

    @property
    def n_connections(self) -> int:
        """Number of open connections, without refused ones."""
        return len(self._watched)

    def admit(self, connection: Connection, host: str) -> bool:
        """Return whether the connection may stay; if not, it may tell its client why until it is evicted."""
        client = client_of(host)
        n_open = self._of_client.get(client, 0)
        if n_open >= self._max_client_connections:
            self._refuse(connection, client, "client")
            return False
        if self.n_connections >= (self._unreserved if n_open >= _RESERVED_EACH else self._max_connections):
            self._refuse(connection, client, "connections")
            return False
        now = self._time()
        self._watched[connection] = _Watch(client, "header", now, request_since=now)
        self._of_client[client] = n_open + 1
        self._tell_connections()
        return True

    def _refuse(self, connection: Connection, client: str, reason: str) -> None:
        if self._events is not None:
            self._events.http_refused(reason)
        self._refused[connection] = _Watch(client, "refused", self._time())
        if len(self._refused) > min(_MAX_REFUSED, self._max_connections):
            connection.evict("write")

    def gone(self, connection: Connection) -> None:
        """Forget a closed connection."""
        self._unread.pop(connection, None)
        self._refused.pop(connection, None)
        watch = self._watched.pop(connection, None)
        if watch is None:
            return
        left = self._of_client.pop(watch.client) - 1
        if left:
            self._of_client[watch.client] = left
        self._tell_connections()

    def unread(self, connection: Connection) -> None:
        """Note that a client reads more slowly than it is answered; evict the slowest if too much is unread in all."""
        self._unread[connection] = None
        n_bytes = {waiting: waiting.unsent_bytes() for waiting in self._unread}
        total = sum(n_bytes.values())
        for slowest in list(self._unread):
            if total <= _MAX_UNSENT_BYTES:
                return
            total -= n_bytes[slowest]
            self._evict(slowest, "write")

    def read(self, connection: Connection) -> None:
        """Note that the client has caught up."""
        self._unread.pop(connection, None)

    def pause_after(self, seconds: float) -> float:
        """Return how long a connection pauses after costly work, so that all such work takes a quarter of the time."""
        now = self._clock()
        self._costly_until = max(self._costly_until, now) + 4 * seconds
        return self._costly_until - now

    def sweep(self) -> None:
        """Evict every connection that has been waiting too long."""
        self._now = self._time()
        self._swept_at = self._clock()
        for watched in (self._watched, self._refused):
            for connection, watch in list(watched.items()):
                self._look_at(connection, watch)

    def close(self) -> None:
        """Close refused connections at once; the server closes the others."""
        for connection in list(self._refused):
            connection.evict("write")

    def _look_at(self, connection: Connection, watch: _Watch) -> None:
        now, waiting, timeouts = self._now, connection.waits_for(), self.timeouts
        n_requests = connection.n_requests
        if waiting != watch.waiting or n_requests != watch.n_requests:
            if n_requests != watch.n_requests:
                watch.n_requests, watch.request_since = n_requests, now
            watch.waiting, watch.since = waiting, now
            watch.progress_bytes = connection.progress_bytes(waiting)
            return
        if waiting in ("body", "write"):
            progress = connection.progress_bytes(waiting)
            if progress - watch.progress_bytes >= PROGRESS_BYTES:
                watch.progress_bytes, watch.since = progress, now
        if now - watch.since >= timeouts.of(waiting) or (
            waiting == "body" and now - watch.request_since >= timeouts.body_total
        ):
            self._evict(connection, waiting)

    def _evict(self, connection: Connection, waiting: Waiting) -> None:
        self._unread.pop(connection, None)
        if self._events is not None and waiting != "refused":
            self._events.http_evicted("body" if waiting == "rest" else waiting)
        connection.evict(waiting)

    def _time(self) -> float:
        return self._now + min(self._clock() - self._swept_at, _LONGEST_STEP)

    def _tell_connections(self) -> None:
        if self._events is not None:
            self._events.http_connections(self.n_connections)


@functools.lru_cache(maxsize=4096)
def client_of(host: str) -> str:
    """Return the client behind an address: the IPv4 address (also if mapped to IPv6), or the /64 of an IPv6 address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(address) >> 64 << 64))
