"""Header fields that decide how a request is read, and clients that leave before they are answered."""

import asyncio
import json
import logging
import socket
import struct

import pytest

from kldrift.web.guard import Guard
from tests.web.fakes import FakeIngest
from tests.web.guarded import Guarded
from tests.web.test_serve import PATH, ROW, SlowIngest, exchange, run, serving

LENGTH = f"Content-Length: {len(ROW)}"
NDJSON = "Content-Type: application/x-ndjson"
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(ROW), ROW)


def post(*fields: str, body: bytes = ROW, version: str = "1.1", path: str = PATH) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/{version}", *fields, "", ""]).encode() + body


def answers(*requests: bytes) -> tuple[list[tuple[int, str]], list]:
    """Status and message of the answer to each request, on a connection of its own; and the bodies that were taken."""

    async def scenario():
        ingest, found = FakeIngest(), []
        async with serving(ingest) as server:
            for request in requests:
                head, _, body = (await exchange(server.port, request)).partition(b"\r\n\r\n")
                found.append((int(head.split()[1]), json.loads(body).get("error", "")))
        return found, ingest.bodies

    return run(scenario())


def test_http_1_1_needs_one_host_and_1_0_does_not() -> None:
    fields = (NDJSON, LENGTH)
    found, bodies = answers(
        post(*fields),
        post("Host: a", "Host: a", *fields),
        post("Host: a", *fields, "host: b"),
        b"GET /-/healthy HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    )
    assert [status for status, _ in found] == [400] * 5
    assert found[0][1] == "expected a Host header, which HTTP/1.1 requires, got none; send the host of the URL"
    assert found[1][1] == "expected one Host header, got 2; send it once"
    assert bodies == []
    found, bodies = answers(post(*fields, version="1.0"), post("Host: ", *fields), post("Host: a", *fields))
    assert [status for status, _ in found] == [200, 200, 200]
    assert len(bodies) == 3


@pytest.mark.parametrize(
    "lines",
    [
        ["gzip, chunked"],
        ["gzip"],
        ["chunked, gzip"],
        ["identity"],
        ["xchunked"],
        ["chunked;q=1"],
        ["deflate,chunked"],
        ["gzip", "chunked"],
        ["chunked", "gzip"],
    ],
)
def test_a_transfer_coding_other_than_chunked_is_501_however_it_is_written(lines: list[str]) -> None:
    codings = [f"Transfer-Encoding: {line}" for line in lines]
    found, bodies = answers(
        post("Host: a", NDJSON, *codings, body=CHUNKED),
        post("Host: a", *codings, body=CHUNKED, path="/-/reload"),
        post("Host: a", NDJSON, *codings, LENGTH),
    )
    for status, message in found[:2]:
        assert status == 501
        assert message.startswith("expected chunked as Transfer-Encoding, got ")
    assert found[2][0] in (400, 501)  # two lengths at once are wrong whatever the coding
    assert bodies == []


@pytest.mark.parametrize("line", ["chunked", "Chunked", " chunked "])
def test_chunks_are_taken(line: str) -> None:
    found, bodies = answers(post("Host: a", NDJSON, f"Transfer-Encoding: {line}", body=CHUNKED))
    assert (found, len(bodies)) == ([(200, "")], 1)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Content-Type", ["application/x-ndjson", "application/x-ndjson"]),
        ("Content-Type", ["text/csv", "application/x-ndjson"]),
        ("Content-Encoding", ["gzip", "identity"]),
        ("Idempotency-Key", ["a", "b"]),
        ("Idempotency-Key", ["a", "a", "a"]),
        ("Origin", ["http://evil.example", "http://a"]),
        ("Sec-Fetch-Site", ["cross-site", "none"]),
    ],
)
def test_a_field_that_may_come_once_is_400_if_it_comes_again(name: str, values: list[str]) -> None:
    fields = [field for field in ("Host: a", NDJSON, LENGTH) if not field.startswith(name)]
    lines = [f"{(name, name.lower())[i % 2]}: {value}" for i, value in enumerate(values)]
    found, bodies = answers(post(*fields, *lines), post(lines[0], *fields, *lines[1:]))
    assert found == [(400, f"expected one {name} header, got {len(values)}; send it once")] * 2
    assert bodies == []


def test_fields_that_are_lists_may_come_again() -> None:
    found, _ = answers(post("Host: a", NDJSON, LENGTH, "Accept: a/b", "Accept: c/d", "X-Trace: 1", "X-Trace: 2"))
    assert found == [(200, "")]


def test_a_bad_request_behind_a_good_one_is_not_taken_for_its_answer() -> None:
    async def scenario() -> bytes:
        ingest = SlowIngest()
        async with serving(ingest) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            bad = post("Host: a", NDJSON, "Transfer-Encoding: chunked, gzip", body=b"")
            writer.write(post("Host: a", NDJSON, LENGTH) + bad)
            await ingest.submitted.wait()
            ingest.commit.set()
            async with asyncio.timeout(10):
                answer = await reader.read()
            writer.close()
            return answer

    answer = run(scenario())
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 1


# --- clients that leave ----------------------------------------------------------------------------


@pytest.mark.parametrize("resets", [True, False])
def test_pipelined_requests_of_a_client_that_left_are_dropped_without_a_traceback(
    resets: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    get = b"GET /api/v1/status HTTP/1.1\r\nHost: a\r\n\r\n"

    async def scenario() -> int:
        ingest = SlowIngest()
        async with Guarded(ingest) as guarded:
            client = socket.create_connection(("127.0.0.1", guarded.port))
            client.sendall(post("Host: a", NDJSON, LENGTH) + (get + post("Host: a", NDJSON, LENGTH)) * 5)
            await ingest.submitted.wait()
            if resets:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            await guarded.connections(0)
            ingest.commit.set()
            await guarded.quiet()
            await asyncio.sleep(0.05)
        return len(ingest.bodies)

    assert run(scenario()) == 1
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


# --- chunks ----------------------------------------------------------------------------------------


def test_a_body_in_chunks_of_one_byte_is_taken_as_it_is_between_other_requests() -> None:
    body = b"".join(b'{"age": %d}\n' % (i % 90) for i in range(10_000))
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    head = post("Host: a", NDJSON, "Transfer-Encoding: chunked", body=b"")

    async def scenario() -> tuple[bytes, list]:
        ingest = FakeIngest()
        async with serving(ingest) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(post("Host: a", NDJSON, LENGTH) + head + chunks + post("Host: a", NDJSON, LENGTH))
            writer.write(head + chunks[: len(chunks) // 2])
            answer = b""
            async with asyncio.timeout(30):
                while answer.count(b"accepted") < 3:
                    answer += await reader.read(65536)
                await asyncio.sleep(0.05)  # while the connection rests with half a body
                writer.write(chunks[len(chunks) // 2 :])
                while answer.count(b"accepted") < 4:
                    answer += await reader.read(65536)
            writer.close()
        return answer, [taken for _, _, taken in ingest.bodies]

    answer, bodies = run(scenario())
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    assert bodies == [ROW, body, ROW, body]


def test_whoever_leaves_in_the_middle_of_tiny_chunks_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        guard = Guard()
        async with serving(guard=guard) as server, asyncio.timeout(20):
            for _ in range(3):
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(post("Host: a", NDJSON, "Transfer-Encoding: chunked", body=b"1\r\n{\r\n" * 100_000))
                while not guard.n_connections:
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.02)
                writer.transport.abort()
                while guard.n_connections:
                    await asyncio.sleep(0.001)
            await asyncio.sleep(0.2)

    run(scenario())
    assert caplog.text == ""
