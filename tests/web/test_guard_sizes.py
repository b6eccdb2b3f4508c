"""Sizes on real sockets: heads, chunks, pipelines and bombs that are too large are refused, and not kept."""

import asyncio
import contextlib
import gzip
import socket
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from kldrift.web.answers import Problem
from kldrift.web.body import MIB, Limits, decode
from kldrift.web.protocol import MAX_FIELDS, MAX_HEAD_BYTES, MAX_PIPELINED
from tests.web.fakes import Service
from tests.web.guarded import POST, Guarded, posts, rest_of
from tests.web.test_body import run_length_bomb
from tests.web.test_serve import ROW, SlowIngest, exchange, post_head, run


@pytest.mark.parametrize(
    "head",
    [
        post_head("Content-Length: 1", "X: " + "y" * MAX_HEAD_BYTES),
        post_head("Content-Length: 1", *["X: y"] * MAX_FIELDS),
        b"GET /" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["a field", "fields", "a path"],
)
def test_a_head_that_is_too_large_is_431_also_when_it_comes_at_once(head: bytes) -> None:
    async def scenario() -> None:
        async with Guarded() as guarded:
            answer = await exchange(guarded.port, head, close=True)
            assert answer.startswith(b"HTTP/1.1 431 ")
            assert b"connection: close" in answer
            await posts(guarded)
            # behind another request its answer would be taken for that one's
            answer = await exchange(guarded.port, POST + head, close=True)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in answer
            assert answer.count(b"HTTP/1.1") == 1

    run(scenario())


def test_a_head_of_almost_16_kib_is_taken() -> None:
    async def scenario() -> None:
        async with Guarded() as guarded:
            filler = "X: " + "y" * (MAX_HEAD_BYTES - 300)
            assert (await exchange(guarded.port, post_head("Content-Length: 1", filler) + b"x")).startswith(
                b"HTTP/1.1 200 "
            )

    run(scenario())


UNENDED = post_head("Content-Length: 1")[:-2]


@pytest.mark.parametrize(
    "endless",
    [UNENDED + b"X: " + b"y" * 20_000_000, UNENDED + b"X: y\r\n" * 3_000_000, b"\r\n" * 10_000_000],
    ids=["a field", "fields", "empty lines"],
)
def test_20_mb_of_head_are_not_kept(endless: bytes) -> None:
    async def scenario() -> None:
        async with Guarded() as guarded:
            sending = asyncio.to_thread(send_all, guarded.port, endless)
            tracemalloc.start()
            try:
                task = asyncio.create_task(sending)
                while not task.done():
                    await guarded.advance(1)
                    await asyncio.sleep(0.001)
                assert tracemalloc.get_traced_memory()[1] < 8 * MIB
            finally:
                tracemalloc.stop()
            answer = await task
            assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 408 ")) or answer == b""
            await posts(guarded)

    run(scenario())


def send_all(port, data):
    """Send with a blocking socket and read what comes; a server that has heard enough may reset the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection, contextlib.suppress(OSError):
        connection.settimeout(10)
        with contextlib.suppress(OSError):
            connection.sendall(data)
        return connection.recv(65536)
    return b""


@pytest.mark.parametrize(
    "endless",
    [
        b"5;" + b"x" * 2_000_000,  # an extension of a chunk
        b"0" * 2_000_000,  # a size
        (b"1;" + b"x" * 500 + b"\r\ny\r\n") * 4_000,  # small chunks with long extensions
        b"1\r\ny\r\n0\r\n" + b"X: y\r\n" * 300_000,  # trailers
        b"1\r\ny\r\n0\r\nX: " + b"y" * 2_000_000,
    ],
    ids=["an extension", "a size", "extensions", "trailers", "a trailer"],
)
def test_chunks_that_are_mostly_framing_are_refused_and_not_kept(endless: bytes) -> None:
    async def scenario() -> None:
        async with Guarded() as guarded:
            tracemalloc.start()
            try:
                data = post_head("Transfer-Encoding: chunked") + endless
                task = asyncio.create_task(asyncio.to_thread(send_all, guarded.port, data))
                while not task.done():
                    await guarded.advance(1)
                    await asyncio.sleep(0.001)
                assert tracemalloc.get_traced_memory()[1] < len(data) + 6 * MIB
            finally:
                tracemalloc.stop()
            answer = await task
            assert answer.startswith(b"HTTP/1.1 400 ") or answer == b""
            assert guarded.ingest.bodies == []
            await posts(guarded)

    run(scenario())


def test_a_row_in_each_chunk_is_no_excess() -> None:
    async def scenario() -> None:
        async with Guarded() as guarded:
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(ROW), ROW) for _ in range(20_000))
            tiny = b"1\r\nx\r\n" * 20_000
            for body in (chunks, tiny):
                request = post_head("Transfer-Encoding: chunked") + body + b"0\r\n\r\n"
                assert (await exchange(guarded.port, request)).startswith(b"HTTP/1.1 200 ")
            assert [len(body) for _, _, body in guarded.ingest.bodies] == [20_000 * len(ROW), 20_000]

    run(scenario())


def test_a_size_that_no_number_holds_is_400() -> None:
    async def scenario() -> None:
        async with Guarded() as guarded:
            answer = await exchange(guarded.port, post_head("Transfer-Encoding: chunked") + b"F" * 17 + b"\r\nx")
            assert answer.startswith(b"HTTP/1.1 400 ")

    run(scenario())


def test_100_pipelined_requests_are_answered_and_more_end_the_connection_after_those_that_wait() -> None:
    async def scenario() -> None:
        async with Guarded() as guarded:
            reader, writer = await guarded.connected(POST * 100)
            for _ in range(100):
                assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
            writer.write(POST * 1000)
            await guarded.advance(1)
            answer = await rest_of(reader)
            assert answer.count(b"HTTP/1.1 200 ") == len(guarded.ingest.bodies) - 100 <= MAX_PIPELINED + 1
            assert answer.count(b"connection: close") == 1
            writer.close()

    run(scenario())


def test_pipelined_requests_behind_one_that_is_not_answered_are_bounded() -> None:
    async def scenario() -> None:
        ingest = SlowIngest()
        async with Guarded(ingest) as guarded:
            tracemalloc.start()
            try:
                reader, writer = await guarded.connected(POST)
                await ingest.submitted.wait()
                writer.write(b"GET / HTTP/1.1\r\n\r\n" * 200_000)
                await guarded.advance(5)
                assert tracemalloc.get_traced_memory()[1] < 8 * MIB  # 3.6 MB of them are what is sent
            finally:
                tracemalloc.stop()
            assert len(next(iter(guarded.guard._watched)).pipeline) <= MAX_PIPELINED
            ingest.commit.set()
            assert (await rest_of(reader)).count(b"HTTP/1.1 200 ") <= MAX_PIPELINED + 1
            writer.close()

    run(scenario())


# --- bombs -----------------------------------------------------------------------------------------


def gzip_bomb(n_bytes, members=1):
    """Zeros, 1,000 to 1."""
    piece = gzip.compress(bytes(n_bytes // members), 9)
    return piece * members


@pytest.mark.parametrize(
    ("coding", "make"),
    [
        ("gzip", lambda: gzip_bomb(200 * MIB)),
        ("gzip", lambda: gzip_bomb(200 * MIB, members=200)),
        ("gzip", lambda: gzip.compress(gzip_bomb(200 * MIB))),
        ("zstd", lambda: run_length_bomb(80_000)),
        ("zstd", lambda: run_length_bomb(8) * 2_000),
        ("zstd", lambda: zstandard.compress(bytes(200 * MIB))),
    ],
    ids=["gzip", "gzip members", "gzip in gzip", "zstd", "zstd frames", "zstd, one frame"],
)
def test_a_bomb_is_413_at_its_first_megabytes(coding: str, make: Callable[..., Any]) -> None:
    bomb = make()
    tracemalloc.start()
    try:
        service = Service()
        answer = service.post(bomb, content_encoding=coding)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    twice = coding == "gzip" and bomb[:2] == b"\x1f\x8b" and len(bomb) < 10_000
    assert answer.status_code == (200 if twice else 413)  # the inner one is never looked at
    assert peak < 8 * MIB
    assert service.held_bytes == 0


def test_a_body_is_decoded_without_holding_it_twice() -> None:
    limits = Limits()
    row = b'{"age": %d}\n'
    body = b"".join(row % at for at in range(1_500_000))
    encoded = gzip.compress(body, 1)
    for coding, data in (("gzip", encoded), ("zstd", zstandard.compress(body))):
        tracemalloc.start()
        try:
            assert len(decode(data, coding, limits)) == len(body)
            assert tracemalloc.get_traced_memory()[1] < 1.3 * len(body) + 2 * MIB
        finally:
            tracemalloc.stop()


def test_a_zstd_body_of_empty_blocks_is_refused() -> None:
    """Each is 3 bytes and yields nothing: 16 MiB of them would take seconds."""
    frame = bytes.fromhex("28b52ffd") + bytes([0, 0x58]) + bytes(3) * 300_000 + (1).to_bytes(3, "little")
    with pytest.raises(Problem, match="smaller than") as caught:
        decode(frame, "zstd", Limits())
    assert caught.value.status == 400
