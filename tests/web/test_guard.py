"""The guard on real sockets: too many connections are refused, slow ones evicted, and good clients go on.

Time is the guard's own clock, moved by hand: `advance` counts seconds as the sweeps of a running server do.
"""

import asyncio
import socket

import pytest

from kldrift.web.answers import Problem
from kldrift.web.body import MIB, Bodies, Limits
from kldrift.web.guard import PROGRESS_BYTES, client_of
from tests.web.fakes import FakeReaders
from tests.web.guarded import POST, Guarded, posts, rest_of
from tests.web.test_serve import SlowIngest, post_head, run

# --- time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent", [b"", b"PO", post_head("Content-Length: 5")[:-2]], ids=["nothing", "2 bytes", "fields"]
)
def test_a_first_head_has_ten_seconds_from_the_connection(sent: bytes) -> None:
    async def scenario() -> None:
        async with Guarded() as guarded:
            reader, writer = await guarded.connected(sent)
            await guarded.received(lambda connection: connection._head_bytes == len(sent))
            await guarded.advance(9)
            assert guarded.heard.evicted == []
            await guarded.advance(2)
            assert guarded.heard.evicted == ["header"]
            answer = await rest_of(reader)
            assert answer.startswith(b"HTTP/1.1 408 ") if sent else answer == b""
            await guarded.advance(3)
            await guarded.connections(0)
            writer.close()

    run(scenario())


def test_a_head_that_trickles_is_evicted_all_the_same() -> None:
    async def scenario() -> None:
        async with Guarded() as guarded:
            reader, writer = await guarded.connected()
            for byte in post_head("Content-Length: 5")[:11]:
                writer.write(bytes([byte]))
                await guarded.advance(1)
            assert guarded.heard.evicted == ["header"]
            assert (await rest_of(reader)).startswith(b"HTTP/1.1 408 ")
            writer.close()

    run(scenario())


def test_a_later_head_has_ten_seconds_from_its_first_byte_and_before_that_the_connection_may_idle() -> None:
    async def scenario() -> None:
        async with Guarded() as guarded:
            reader, writer = await guarded.connected(POST)
            await reader.readuntil(b"}")
            await guarded.advance(70)
            writer.write(b"POST /")
            await guarded.received(lambda connection: connection._head_bytes)
            await guarded.advance(9)
            assert guarded.heard.evicted == []
            await guarded.advance(3)
            assert guarded.heard.evicted == ["header"]
            assert (await rest_of(reader)).startswith(b"HTTP/1.1 408 ")
            writer.close()

    run(scenario())


def test_a_head_that_begins_right_behind_a_body_is_not_taken_for_an_idle_connection() -> None:
    async def scenario() -> None:
        async with Guarded() as guarded:
            reader, writer = await guarded.connected(POST + b"POST /")
            await reader.readuntil(b"}")
            await guarded.advance(12)
            assert guarded.heard.evicted == ["header"]
            writer.close()

    run(scenario())


def test_an_idle_connection_is_closed_without_a_word() -> None:
    async def scenario() -> None:
        async with Guarded() as guarded:
            reader, writer = await guarded.connected(POST)
            await reader.readuntil(b"}")
            await guarded.advance(75)
            assert guarded.heard.evicted == []
            await guarded.advance(2)
            assert guarded.heard.evicted == ["idle"]
            assert await rest_of(reader) == b""
            writer.close()

    run(scenario())


def test_a_client_that_posts_now_and_then_is_not_idle() -> None:
    async def scenario() -> None:
        async with Guarded() as guarded:
            reader, writer = await guarded.connected()
            for _ in range(5):
                writer.write(POST)
                assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
                await guarded.advance(60)
            assert guarded.heard.evicted == []
            writer.close()

    run(scenario())


@pytest.mark.parametrize("field", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
def test_a_body_that_stalls_is_evicted_after_thirty_seconds_and_nothing_of_it_is_taken(field: str) -> None:
    async def scenario() -> None:
        async with Guarded() as guarded:
            reader, writer = await guarded.connected(post_head(field) + b"400\r\n" + bytes(500))
            await guarded.received(lambda connection: connection.n_requests == 1)
            await guarded.advance(30)
            assert guarded.heard.evicted == []
            await guarded.advance(2)
            assert guarded.heard.evicted == ["body"]
            assert (await rest_of(reader)).startswith(b"HTTP/1.1 408 ")
            assert guarded.statuses == [499]
            assert guarded.ingest.bodies == []
            assert guarded.server._server.config.app._ingest._bodies.held_bytes == 0
            writer.close()

    run(scenario())


def test_a_body_that_keeps_coming_is_taken_however_long_it_is() -> None:
    async def scenario() -> None:
        async with Guarded() as guarded:
            n_pieces = 10
            reader, writer = await guarded.connected(post_head(f"Content-Length: {n_pieces * PROGRESS_BYTES}"))
            for at in range(n_pieces):
                writer.write(bytes(PROGRESS_BYTES))
                wanted = (at + 1) * PROGRESS_BYTES
                await guarded.received(lambda connection, wanted=wanted: connection._body_bytes == wanted)
                await guarded.advance(25)
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
            assert guarded.heard.evicted == []
            assert len(guarded.ingest.bodies[0][2]) == n_pieces * PROGRESS_BYTES
            writer.close()

    run(scenario())


def test_a_body_that_trickles_is_evicted() -> None:
    """One byte a second is less than 32 KiB in 30 s."""

    async def scenario() -> None:
        async with Guarded() as guarded:
            reader, writer = await guarded.connected(post_head("Content-Length: 1000"))
            for at in range(30):
                writer.write(b"x")
                await guarded.received(lambda connection, wanted=at + 1: connection._body_bytes == wanted)
                await guarded.advance(1)
            assert guarded.heard.evicted == []
            await guarded.advance(2)
            assert guarded.heard.evicted == ["body"]
            assert (await rest_of(reader)).startswith(b"HTTP/1.1 408 ")
            writer.close()

    run(scenario())


def test_a_body_that_keeps_coming_without_an_end_has_ten_minutes() -> None:
    async def scenario() -> None:
        async with Guarded(timeouts={"body_total": 60}) as guarded:
            _, writer = await guarded.connected(post_head("Transfer-Encoding: chunked"))
            for at in range(6):
                writer.write(b"%x\r\n%s\r\n" % (PROGRESS_BYTES, bytes(PROGRESS_BYTES)))
                wanted = (at + 1) * PROGRESS_BYTES
                await guarded.received(lambda connection, wanted=wanted: connection._body_bytes == wanted)
                assert guarded.heard.evicted == []
                await guarded.advance(11)
            assert guarded.heard.evicted == ["body"]
            writer.close()

    run(scenario())


def test_the_rest_of_a_body_that_is_answered_already_has_thirty_seconds_however_fast_it_comes() -> None:
    async def scenario() -> None:
        async with Guarded() as guarded:
            head = post_head("Transfer-Encoding: chunked").replace(b"/loans/", b"/nobody/")
            reader, writer = await guarded.connected(head)
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 404 ")
            for _ in range(33):
                writer.write(b"%x\r\n%s\r\n" % (PROGRESS_BYTES, bytes(PROGRESS_BYTES)))
                await guarded.advance(1)
            assert guarded.heard.evicted == ["body"]
            writer.transport.abort()

    run(scenario())


def test_a_request_that_is_not_answered_in_time_is_503_and_not_waited_for() -> None:
    async def scenario() -> None:
        ingest = SlowIngest()
        async with Guarded(ingest) as guarded:
            reader, writer = await guarded.connected(POST)
            await ingest.submitted.wait()
            await guarded.advance(120)
            assert guarded.heard.evicted == []
            await guarded.advance(2)
            assert guarded.heard.evicted == ["answer"]
            answer = await rest_of(reader)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: " in answer
            ingest.commit.set()  # its answer is for nobody, and no error
            await guarded.advance(2)
            assert guarded.statuses == [200]
            writer.close()

    run(scenario())


class LongReaders(FakeReaders):
    """A scrape of 8 MB: more than a socket holds."""

    async def exposition(self, openmetrics, gzip):
        return bytes(8 * MIB)


async def reads_slowly(guarded):
    """A connection that asks for the metrics and does not read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 * 1024)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", guarded.port))
    return connection


@pytest.mark.parametrize("field", ["Connection: keep-alive", "Connection: close"])
def test_a_client_that_does_not_read_its_answer_is_evicted(field: str) -> None:
    async def scenario() -> None:
        async with Guarded(readers=LongReaders()) as guarded:
            connection = await reads_slowly(guarded)
            request = f"GET /metrics HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n".encode()
            await asyncio.get_running_loop().sock_sendall(connection, request)
            await guarded.received(lambda connection: connection.transport and connection.unsent_bytes() > 0)
            await guarded.advance(30)
            assert guarded.heard.evicted == []
            await guarded.advance(2)
            assert guarded.heard.evicted == ["write"]
            await guarded.connections(0)
            connection.close()

    run(scenario())


def test_a_client_that_reads_its_answer_slowly_but_steadily_gets_it() -> None:
    async def scenario() -> None:
        async with Guarded(readers=LongReaders()) as guarded:
            connection = await reads_slowly(guarded)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(connection, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            await guarded.received(lambda connection: connection.unsent_bytes() > 0)
            got = 0
            while got < 8 * MIB:
                before = got
                while got < before + 512 * 1024 and got < 8 * MIB:
                    piece = await loop.sock_recv(connection, 65536)
                    assert piece, guarded.heard.evicted
                    got += len(piece)
                await guarded.advance(20)
            assert "write" not in guarded.heard.evicted  # the last megabytes are the system's: to us it is idle then
            connection.close()

    run(scenario())


def test_answers_that_nobody_reads_are_bounded_all_together() -> None:
    """Each client is within its time; together they would hold 400 MB."""

    async def scenario() -> None:
        async with Guarded(readers=LongReaders()) as guarded:
            loop = asyncio.get_running_loop()
            held = [await reads_slowly(guarded) for _ in range(50)]
            for connection in held:
                await loop.sock_sendall(connection, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(10):
                while len(guarded.statuses) < 50 or len(guarded.heard.evicted) + guarded.heard.open < 50:
                    await asyncio.sleep(0.001)
            assert set(guarded.heard.evicted) == {"write"}
            await guarded.connections(50 - len(guarded.heard.evicted))
            assert sum(connection.unsent_bytes() for connection in guarded.guard._watched) <= 64 * MIB
            await posts(guarded)
            for connection in held:
                connection.close()

    run(scenario())


def test_a_process_that_was_stopped_for_a_minute_does_not_find_every_client_late() -> None:
    async def scenario() -> None:
        async with Guarded() as guarded:
            reader, writer = await guarded.connected(POST[:60])
            await guarded.received(lambda connection: connection._head_bytes == 60)
            guarded.clock.now += 60
            guarded.guard.sweep()
            writer.write(POST[60:])
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
            writer.close()

    run(scenario())


# --- how many --------------------------------------------------------------------------------------


def test_connections_of_one_client_are_limited_and_others_are_let_in() -> None:
    async def scenario() -> None:
        async with Guarded(max_client_connections=3) as guarded:
            held = [await guarded.connected(source="127.0.0.2") for _ in range(3)]
            refused = await asyncio.open_connection("127.0.0.1", guarded.port, local_addr=("127.0.0.2", 0))
            answer = await rest_of(refused[0])
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert guarded.heard.refused == ["client"]
            await posts(guarded, source="127.0.0.3")
            held.pop()[1].close()
            await guarded.connections(2)
            await posts(guarded, source="127.0.0.2")
            for _, writer in (*held, refused):
                writer.close()

    run(scenario())


def test_the_last_connections_are_for_clients_that_have_few() -> None:
    async def scenario() -> None:
        async with Guarded(max_connections=16) as guarded:
            held = [await guarded.connected(source="127.0.0.2") for _ in range(14)]
            refused = await asyncio.open_connection("127.0.0.1", guarded.port, local_addr=("127.0.0.2", 0))
            assert (await rest_of(refused[0])).startswith(b"HTTP/1.1 503 ")
            held += [await guarded.connected(source="127.0.0.3") for _ in range(2)]
            late = await asyncio.open_connection("127.0.0.1", guarded.port, local_addr=("127.0.0.4", 0))
            assert (await rest_of(late[0])).startswith(b"HTTP/1.1 503 ")
            assert guarded.heard.refused == ["connections"] * 2
            assert guarded.heard.most == 16
            for _, writer in (*held, refused, late):
                writer.close()

    run(scenario())


def test_refused_connections_are_closed_soon_and_a_flood_of_them_at_once() -> None:
    async def scenario() -> None:
        async with Guarded(max_client_connections=1) as guarded:
            kept = await guarded.connected(source="127.0.0.2")
            flood = [
                await asyncio.open_connection("127.0.0.1", guarded.port, local_addr=("127.0.0.2", 0))
                for _ in range(100)
            ]
            async with asyncio.timeout(10):
                while len(guarded.heard.refused) < 100:
                    await asyncio.sleep(0.001)
            await guarded.quiet()
            assert len(guarded.guard._refused) <= 65
            await posts(guarded, 10, source="127.0.0.3")
            await guarded.advance(2)
            assert not guarded.guard._refused
            assert guarded.heard.open == 1
            for _, writer in (kept, *flood):
                writer.close()

    run(scenario())


def test_good_clients_post_on_while_bad_ones_hold_what_they_can() -> None:
    """Idle, half-header and half-body connections; the table of clients is empty again when all are gone."""

    async def scenario() -> None:
        async with Guarded() as guarded:
            good = await guarded.connected(source="127.0.0.2")
            bad = [await guarded.connected(source="127.0.0.3") for _ in range(50)]
            bad += [await guarded.connected(POST[:40], source="127.0.0.4") for _ in range(50)]
            bad += [
                await guarded.connected(post_head("Content-Length: 9") + b"x", source="127.0.0.5") for _ in range(20)
            ]
            async with asyncio.timeout(10):
                while sum(connection.n_requests for connection in guarded.guard._watched) < 20:
                    await asyncio.sleep(0.001)
            for second in range(34):
                good[1].write(POST)
                assert (await good[0].readuntil(b"}")).startswith(b"HTTP/1.1 200 "), second
                await guarded.advance(1)
            assert sorted(guarded.heard.evicted) == ["body"] * 20 + ["header"] * 100
            await guarded.connections(1)
            for _, writer in (good, *bad):
                writer.close()
            await guarded.connections(0)
            assert guarded.guard._of_client == {}

    run(scenario())


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
    ],
)
def test_a_client_is_an_address_or_a_64(host: str, client: str) -> None:
    assert client_of(host) == client


# --- how much --------------------------------------------------------------------------------------


def test_a_client_with_much_unanswered_is_429_and_others_are_taken() -> None:
    async def scenario() -> None:
        ingest = SlowIngest()
        async with Guarded(ingest) as guarded:
            guarded.server._server.config.app._ingest._bodies.limits = Limits(client_bytes=1000)
            request = post_head("Content-Length: 600") + bytes(600)
            first = await guarded.connected(request, source="127.0.0.2")
            await ingest.submitted.wait()
            second = await guarded.connected(request, source="127.0.0.2")
            answer = await second[0].readuntil(b"}")
            assert answer.startswith(b"HTTP/1.1 429 ")
            assert b"retry-after: 1\r\n" in answer
            other = await guarded.connected(request, source="127.0.0.3")
            ingest.commit.set()
            for reader, writer in (first, other):
                assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
                writer.close()
            second[1].write(request)
            assert (await second[0].readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
            second[1].close()

    run(scenario())


def test_the_only_body_of_a_client_is_taken_however_large_also_in_pieces() -> None:
    bodies = Bodies(Limits(client_bytes=10))
    bodies.hold("a", 8)
    bodies.hold("a", 50, own=8)
    with pytest.raises(Problem) as caught:
        bodies.hold("a", 1)
    assert caught.value.status == 429
    bodies.hold("b", 100)
    bodies.release("a", 58)
    bodies.release("b", 100)
    assert (bodies.held_bytes, bodies._of_client) == (0, {})
