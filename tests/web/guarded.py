"""A server under a guard whose time is moved by hand."""

import asyncio

from kldrift.web.app import App
from kldrift.web.guard import Guard, Timeouts
from kldrift.web.serve import WebServer, bind
from tests.web.fakes import FakeIngest, FakeReaders
from tests.web.test_serve import ROW, post_head

POST = post_head(f"Content-Length: {len(ROW)}") + ROW


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Heard:
    """What the guard tells the telemetry."""

    def __init__(self) -> None:
        self.open = 0
        self.most = 0
        self.refused = []
        self.evicted = []

    def http_connections(self, n_open) -> None:
        self.open = n_open
        self.most = max(self.most, n_open)

    def http_refused(self, reason) -> None:
        self.refused.append(reason)

    def http_evicted(self, reason) -> None:
        self.evicted.append(reason)


class Guarded:
    """A server under a guard whose time is moved by hand."""

    def __init__(self, ingest=None, readers=None, **options) -> None:
        self.clock = Clock()
        self.heard = Heard()
        self.guard = Guard(Timeouts(**options.pop("timeouts", {})), events=self.heard, clock=self.clock, **options)
        self.ingest = ingest or FakeIngest()
        self.statuses = []
        app = App(self.ingest, readers or FakeReaders(), lambda *heard: self.statuses.append(heard[1]))
        self.server = WebServer(app, bind("127.0.0.1", 0), guard=self.guard)

    async def __aenter__(self):
        await self.server.start()
        self.port = self.server.port
        return self

    async def __aexit__(self, *_):
        await self.server.stop()

    async def advance(self, seconds) -> None:
        """Sweep once a second, as the server does; what came meanwhile is taken in before each."""
        for _ in range(seconds):
            await self.quiet()
            self.clock.now += 1
            self.guard.sweep()
        await self.quiet()

    async def quiet(self) -> None:
        """Let the event loop handle what is there."""
        for _ in range(3):
            await asyncio.sleep(0)

    async def connections(self, wanted) -> None:
        """Wait until so many connections are open."""
        async with asyncio.timeout(10):
            while self.heard.open != wanted:
                await asyncio.sleep(0.001)

    async def received(self, state) -> None:
        """Wait until some connection satisfies `state`."""
        async with asyncio.timeout(10):
            while not any(state(connection) for connection in self.guard._watched):
                await asyncio.sleep(0.001)

    async def connected(self, *pieces, source="127.0.0.1"):
        """A connection that has sent `pieces`."""
        before = self.heard.open
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
        await self.connections(before + 1)
        writer.writelines(pieces)
        return reader, writer


async def rest_of(reader):
    """All that comes until the server ends the connection."""
    async with asyncio.timeout(10):
        return await reader.read()


async def posts(guarded, times=1, source="127.0.0.1") -> None:
    """Post rows on a connection of its own; they must be taken."""
    reader, writer = await asyncio.open_connection("127.0.0.1", guarded.port, local_addr=(source, 0))
    for _ in range(times):
        writer.write(POST)
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await writer.wait_closed()
