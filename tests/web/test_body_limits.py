"""Bodies up to each of their limits: what clients hold, sizes, ratios, members; and what is accounted for meanwhile."""

import asyncio
import gzip
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from kldrift.web.answers import Problem
from kldrift.web.body import Bodies, Disconnected, Limits, decode

SMALL = Limits(
    encoded_bytes=100, body_bytes=1_000, ratio=10, ratio_from_bytes=200, held_bytes=2_000, client_bytes=1_500
)


def refused(status: int, act: Callable[..., Any], *arguments: Any) -> Problem:
    with pytest.raises(Problem) as problem:
        act(*arguments)
    assert problem.value.status == status
    return problem.value


def test_a_client_may_hold_as_much_as_its_limit_and_a_single_body_more() -> None:
    bodies = Bodies(SMALL)
    bodies.hold("a", 1_000)
    bodies.hold("a", 500)
    problem = refused(429, bodies.hold, "a", 1)
    assert "at most 1500 unanswered bytes per client, and 1500 are still" in str(problem)
    assert dict(problem.headers)[b"retry-after"] == b"1"
    bodies.release("a", 1_500)
    assert bodies.held_bytes == 0
    assert bodies._of_client == {}
    bodies.hold("b", 1_600)  # one alone is bounded otherwise
    bodies.hold("b", 50, 1_600)  # as the same request grows
    refused(429, bodies.hold, "b", 50, 1_600)
    bodies.release("b", 1_649)
    assert bodies._of_client == {"b": 1}
    bodies.release("b", 1)
    assert bodies._of_client == {}
    bodies.release("nobody", 0)
    assert bodies._of_client == {}


def test_all_clients_together_may_hold_as_much_as_the_limit() -> None:
    bodies = Bodies(SMALL)
    bodies.hold("a", 1_000)
    bodies.hold("b", 1_000)
    problem = refused(503, bodies.hold, "c", 1)
    assert dict(problem.headers)[b"retry-after"] == b"1"
    assert bodies.held_bytes == 2_000
    assert "c" not in bodies._of_client


def test_a_declared_length_up_to_its_limit_is_fine() -> None:
    bodies = Bodies(SMALL)
    for length, coding, status in (
        (1_000, None, 0), (1_001, None, 413), (100, "gzip", 0), (101, "gzip", 413), (None, None, 0), (None, "gzip", 0),
    ):  # fmt: skip
        if status:
            refused(status, bodies.check_declared, length, coding)
        else:
            bodies.check_declared(length, coding)


def read(bodies: Bodies, *chunks: bytes, coding: str | None = None, ends: bool = True) -> bytes:
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if ends:
        messages[-1]["more_body"] = False
    else:
        messages.append({"type": "http.disconnect"})

    async def receive() -> Any:
        return messages.pop(0)

    async def act() -> bytes:
        return await bodies.read("a", await receive(), receive, coding)

    return asyncio.run(act())


def test_what_was_read_is_held_until_it_is_released_decoded_or_not() -> None:
    bodies = Bodies(SMALL)
    assert read(bodies, b"x" * 600, b"y" * 400) == b"x" * 600 + b"y" * 400
    assert bodies.held_bytes == 1_000
    bodies.release("a", 1_000)
    body = bytes(range(200))
    assert read(bodies, gzip.compress(body[:60]), coding="gzip") == body[:60]
    assert bodies.held_bytes == 60
    bodies.release("a", 60)
    assert bodies._of_client == {}


@pytest.mark.parametrize(
    ("chunks", "coding", "ends", "error"),
    [
        ((b"x" * 600, b"y" * 401), None, True, 413),
        ((b"x" * 60, b"y" * 41), "gzip", True, 413),
        ((b"no gzip",), "gzip", True, 400),
        ((b"x" * 60,), None, False, Disconnected),
    ],
)
def test_what_is_refused_is_not_held(chunks: tuple[bytes, ...], coding: str | None, ends: bool, error: Any) -> None:
    bodies = Bodies(SMALL)
    with pytest.raises(Problem if isinstance(error, int) else error) as raised:
        read(bodies, *chunks, coding=coding, ends=ends)
    if isinstance(error, int):
        assert raised.value.status == error  # type: ignore[union-attr]
    assert bodies.held_bytes == 0
    assert bodies._of_client == {}


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_body_may_expand_up_to_its_size_and_freely_below_the_floor(coding: str) -> None:
    compress: Callable[[bytes], bytes] = gzip.compress if coding == "gzip" else zstandard.compress
    limits = Limits(body_bytes=5_000, ratio=10, ratio_from_bytes=2_000)
    assert decode(compress(b"x" * 2_000), coding, limits) == b"x" * 2_000
    refused(413, decode, compress(b"x" * 2_001), coding, limits)
    free = Limits(body_bytes=5_000, ratio=10_000, ratio_from_bytes=1)
    assert len(decode(compress(b"x" * 5_000), coding, free)) == 5_000
    refused(413, decode, compress(b"x" * 5_001), coding, free)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_body_may_expand_just_as_much_as_its_ratio(coding: str) -> None:
    compress: Callable[[bytes], bytes] = gzip.compress if coding == "gzip" else zstandard.compress
    encoded = compress(b"x" * 10_000)
    fits = Limits(body_bytes=20_000, ratio=-(-10_000 // len(encoded)), ratio_from_bytes=1)
    assert len(decode(encoded, coding, fits)) == 10_000
    tight = Limits(body_bytes=20_000, ratio=10_000 // len(encoded) - 1, ratio_from_bytes=1)
    problem = refused(413, decode, encoded, coding, tight)
    assert f"got 10000 bytes from the first {len(encoded)}" in str(problem)


@pytest.mark.parametrize("mark", [0x50, 0x5F])
def test_frames_to_skip_have_sixteen_marks(mark: int) -> None:
    skipped = bytes([mark]) + b"\x2a\x4d\x18" + (2).to_bytes(4, "little") + b"ab"
    assert decode(skipped + zstandard.compress(b"rows"), "zstd", Limits()) == b"rows"
    assert decode(skipped, "zstd", Limits()) == b""
    refused(400, decode, skipped[:-1], "zstd", Limits())
    for other in (mark ^ 0x80, mark ^ 0x20):
        refused(400, decode, bytes([other]) + skipped[1:], "zstd", Limits())
