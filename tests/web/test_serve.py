"""The server on real sockets: binding, limits, the end; and what only a real HTTP parser shows."""

import asyncio
import contextlib
import http.client
import socket

import httpx
import pytest

from kldrift.errors import ListenError
from kldrift.records.samples import Receipt
from kldrift.web.app import App
from kldrift.web.body import MIB
from kldrift.web.guard import Guard
from kldrift.web.protocol import MAX_HEAD_BYTES
from kldrift.web.serve import WebServer, bind, new_event_loop
from tests.web.fakes import FakeIngest, FakeReaders

PATH = "/v1/monitors/loans/samples"
ROW = b'{"age": 1}\n'


class SlowIngest(FakeIngest):
    """Commits when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.commit = asyncio.Event()
        self.submitted = asyncio.Event()

    async def submit(self, monitor, format, body, key=None):  # noqa: A002 as the port has it
        self.bodies.append((monitor, format, body))
        self.submitted.set()
        await self.commit.wait()
        return Receipt(1)


@contextlib.asynccontextmanager
async def serving(ingest=None, **options):
    server = WebServer(App(ingest or FakeIngest(), FakeReaders(), lambda *_: None), bind("127.0.0.1", 0), **options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def run(scenario):
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(scenario)


async def exchange(port, request, *, until=b"}", close=False):
    """Send raw bytes; what came back until `until` was seen or the server closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        answer = b""
        async with asyncio.timeout(10):
            while close or until not in answer:
                piece = await reader.read(65536)
                if not piece:
                    break
                answer += piece
        return answer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def post_head(*fields):
    lines = [f"POST {PATH} HTTP/1.1", "Host: x", "Content-Type: application/x-ndjson", *fields, "", ""]
    return "\r\n".join(lines).encode()


# --- binding ---------------------------------------------------------------------------------------


def test_a_port_in_use_is_named_before_anything_runs() -> None:
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ListenError) as caught:
            bind("127.0.0.1", port)
    assert str(caught.value) == (
        f"127.0.0.1:{port} is in use: stop the other process, or set server.listen to another port"
    )


def test_a_port_is_free_again_right_after_its_server_stopped() -> None:
    async def scenario() -> None:
        async with serving() as server:
            await exchange(server.port, post_head(f"Content-Length: {len(ROW)}") + ROW)
            port = server.port
        bind("127.0.0.1", port).close()

    run(scenario())


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        ("no-such-host.invalid", 9867, "no-such-host.invalid:9867"),
        ("192.0.2.1", 9867, "192.0.2.1:9867 is not an address of this machine"),
        ("127.0.0.1", 99999, "127.0.0.1:99999"),
    ],
)
def test_an_address_that_cannot_be_had_is_explained(host: str, port: int, words: str) -> None:
    with pytest.raises(ListenError, match=words):
        bind(host, port)


def test_a_server_that_never_started_stops() -> None:
    server = WebServer(App(FakeIngest(), FakeReaders(), lambda *_: None), bind("127.0.0.1", 0))
    run(server.stop())
    bind("127.0.0.1", server.port).close()


# --- requests --------------------------------------------------------------------------------------


def test_keep_alive_and_headers() -> None:
    async def scenario() -> None:
        ingest = FakeIngest()
        async with serving(ingest) as server, httpx.AsyncClient() as client:
            for _ in range(3):
                answer = await client.post(
                    f"http://127.0.0.1:{server.port}{PATH}", content=ROW, headers={"content-type": "application/json"}
                )
                assert answer.status_code == 200
                assert "server" not in answer.headers
                assert "date" in answer.headers
        assert ingest.bodies == [("loans", "json", ROW)] * 3

    run(scenario())


def test_a_large_body_comes_in_whole() -> None:
    async def scenario() -> None:
        ingest = FakeIngest()
        body = bytes(range(256)) * 16384  # 4 MiB, so that the order of chunks shows
        async with serving(ingest) as server:
            answer = await exchange(server.port, post_head(f"Content-Length: {len(body)}") + body)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert ingest.bodies[0][2] == body

    run(scenario())


def test_a_chunked_body_comes_in_whole() -> None:
    async def scenario() -> None:
        ingest = FakeIngest()
        async with serving(ingest) as server:
            chunks = b'5\r\n{"age\r\n6;x=y\r\n": 1}\n\r\n0\r\n\r\n'
            answer = await exchange(server.port, post_head("Transfer-Encoding: chunked") + chunks)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert ingest.bodies[0][2] == ROW

    run(scenario())


def test_expect_100_continue_is_answered_before_the_body() -> None:
    async def scenario() -> None:
        async with serving() as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(post_head(f"Content-Length: {len(ROW)}", "Expect: 100-continue"))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(ROW)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            writer.close()

    run(scenario())


def test_expect_100_continue_with_a_length_past_the_limit_is_413_at_once() -> None:
    async def scenario() -> None:
        async with serving() as server:
            head = post_head(f"Content-Length: {64 * MIB + 1}", "Expect: 100-continue")
            assert (await exchange(server.port, head)).startswith(b"HTTP/1.1 413 ")

    run(scenario())


def test_a_client_that_sends_before_it_reads_gets_its_413() -> None:
    """The answer comes while the body is still being sent; closing then would reset the connection."""

    async def scenario() -> None:
        async with serving() as server:

            def post():
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
                connection.request("POST", PATH, bytes(64 * MIB + 1), {"Content-Type": "application/json"})
                status = connection.getresponse().status
                connection.close()
                return status

            assert await asyncio.to_thread(post) == 413

    run(scenario())


def test_pipelined_requests_are_answered_in_order() -> None:
    async def scenario() -> None:
        ingest = FakeIngest()
        async with serving(ingest) as server:
            requests = b"".join(
                post_head("Content-Length: 2", *(["Connection: close"] if i == 49 else [])) + b"%02d" % i
                for i in range(50)
            )
            answer = await exchange(server.port, requests, close=True)
        assert answer.count(b"HTTP/1.1 200 ") == 50
        assert [body for _, _, body in ingest.bodies] == [b"%02d" % i for i in range(50)]

    run(scenario())


def test_a_response_is_written_at_once_and_one_without_a_body_is_not_kept_back() -> None:
    """By the writes of the transport: head with body; 100 Continue alone; the head of an answer to HEAD."""

    async def scenario() -> None:
        async with serving() as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(post_head(f"Content-Length: {len(ROW)}"))
            while not (connections := server._server.server_state.connections):
                await asyncio.sleep(0.001)
            [connection] = connections
            written = []
            transport = connection._one_write._transport

            class Recording:
                def write(self, data) -> None:
                    written.append(bytes(data))
                    transport.write(data)

                def __getattr__(self, name):
                    return getattr(transport, name)

            connection._one_write._transport = Recording()
            writer.write(ROW)
            await reader.readuntil(b"}")
            assert len(written) == 1
            assert written[0].endswith(b"}")
            writer.write(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"content-length: 7\r\n" in await reader.readuntil(b"\r\n\r\n")
            assert len(written) == 2
            writer.write(post_head(f"Content-Length: {len(ROW)}", "Expect: 100-continue", "Connection: close"))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(ROW)
            assert (await reader.read()).endswith(b"}")
            assert len(written) == 4
            writer.close()

    run(scenario())


@pytest.mark.parametrize("split", [0, 40, 150], ids=["whole", "in the request line", "in the fields"])
def test_a_request_that_offers_an_upgrade_is_answered_over_http_1(split: int) -> None:
    """Java's client offers h2c with its first request."""

    async def scenario() -> None:
        ingest = FakeIngest()
        async with serving(ingest) as server:
            head = post_head(f"Content-Length: {len(ROW)}", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write((head + ROW)[:split])
            connections = server._server.server_state.connections
            while sum(connection._head_bytes for connection in connections) < split:  # so that they arrive apart
                await asyncio.sleep(0.001)
            writer.write((head + ROW)[split:])
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
            writer.close()
        assert ingest.bodies[0][2] == ROW

    run(scenario())


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS hello
        b"GET\r\n\r\n",
        b"POST " + PATH.encode() + b" HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST " + PATH.encode() + b" HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET nonsense HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_not_a_request_is_4xx_in_json_and_the_server_goes_on(
    request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with serving() as server:
            answer = await exchange(server.port, request_bytes)
            assert answer.startswith(b"HTTP/1.1 40"), answer
            assert b"content-type: application/json" in answer
            assert b'{"error":"' in answer
            again = await exchange(server.port, post_head(f"Content-Length: {len(ROW)}") + ROW)
            assert again.startswith(b"HTTP/1.1 200 ")

    run(scenario())
    assert caplog.text == ""


@pytest.mark.parametrize(
    "endless",
    [b"X: " + b"y" * 2 * MAX_HEAD_BYTES, b"X: y\r\n" * MAX_HEAD_BYTES],
    ids=["a value", "fields"],
)
def test_a_head_without_an_end_is_431(endless: bytes) -> None:
    async def scenario() -> None:
        async with serving() as server:
            answer = await exchange(server.port, post_head("Content-Length: 1")[:-2] + endless)
            assert answer.startswith(b"HTTP/1.1 431 "), answer

    run(scenario())


def test_large_bodies_on_one_connection_are_not_taken_for_a_head() -> None:
    async def scenario() -> None:
        ingest = FakeIngest()
        async with serving(ingest) as server:
            request = post_head("Content-Length: 300000") + bytes(300_000)
            last = post_head("Content-Length: 1", "Connection: close") + b"1"
            answer = await exchange(server.port, request * 5 + last, close=True)
        assert answer.count(b"HTTP/1.1 200 ") == 6
        assert len(ingest.bodies) == 6

    run(scenario())


def test_one_connection_too_many_is_503_and_the_others_go_on() -> None:
    async def scenario() -> None:
        async with serving(guard=Guard(max_connections=2)) as server:
            request = post_head(f"Content-Length: {len(ROW)}") + ROW
            held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
            for reader, writer in held:  # answered, so that the server has them
                writer.write(request)
                assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
            answer = await exchange(server.port, request, close=True)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1\r\n" in answer
            assert b"connection: close\r\n" in answer
            assert b'{"error":"too many connections' in answer
            for reader, writer in held:
                writer.write(request)
                assert b"HTTP/1.1 200 " in await reader.readuntil(b"}")
                writer.close()

    run(scenario())


# --- the end ---------------------------------------------------------------------------------------


def test_stop_answers_what_is_in_flight() -> None:
    async def scenario() -> None:
        ingest = SlowIngest()
        async with serving(ingest) as server:
            posting = asyncio.create_task(
                exchange(server.port, post_head(f"Content-Length: {len(ROW)}") + ROW, close=True)
            )
            await ingest.submitted.wait()
            stopping = asyncio.create_task(server.stop())
            while True:  # until nobody new is let in
                try:
                    socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
                except ConnectionError:
                    break
                await asyncio.sleep(0.01)
            assert not stopping.done()
            ingest.commit.set()
            assert (await posting).startswith(b"HTTP/1.1 200 ")
            await stopping

    run(scenario())


def test_stop_answers_503_to_what_is_not_done_in_time_and_forgets_idle_connections() -> None:
    async def scenario() -> None:
        ingest = SlowIngest()
        async with serving(ingest, grace_seconds=1) as server:
            idle = await asyncio.open_connection("127.0.0.1", server.port)
            posting = asyncio.create_task(
                exchange(server.port, post_head(f"Content-Length: {len(ROW)}") + ROW, close=True)
            )
            await ingest.submitted.wait()
            async with asyncio.timeout(5):
                await server.stop()
            answer = await posting
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after" in answer
            assert await idle[0].read() == b""
            idle[1].close()

    run(scenario())
