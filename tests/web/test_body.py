"""Content codings: whole bodies come through, corrupt and cut ones are refused, bombs never unfold."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from kldrift.web.answers import Problem
from kldrift.web.body import MIB, Limits, decode

LIMITS = Limits()
NOISE = np.random.default_rng(1).integers(0, 64, 3_000_000, dtype=np.uint8).tobytes()


def zstd_frames(body, level=3, **options):
    """As a client streams it: many blocks, no content size in the header."""
    compressor = zstandard.ZstdCompressor(level, **options).compressobj()
    parts = [
        compressor.compress(body[at : at + 50_000]) + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        for at in range(0, len(body), 50_000)
    ]
    return b"".join(parts) + compressor.flush()


@pytest.mark.parametrize("size", [0, 1, 130_000, 3_000_000])
@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        ("gzip", gzip.compress),
        ("zstd", zstandard.compress),
        ("zstd", zstd_frames),
        ("zstd", lambda body: zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(body)),
        ("zstd", lambda body: zstd_frames(body, 19, write_checksum=True)),
    ],
)
def test_a_whole_body_comes_through(coding: str, compress: Callable[..., Any], size: int) -> None:
    body = NOISE[:size]
    assert decode(compress(body), coding, LIMITS) == body


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
def test_members_that_follow_one_another_are_joined(coding: str, compress: Callable[..., Any]) -> None:
    assert decode(compress(b"one,") + compress(b"") + compress(b"two"), coding, LIMITS) == b"one,two"


def test_a_skippable_zstd_frame_is_skipped() -> None:
    skippable = b"\x5a\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"
    assert decode(skippable + zstandard.compress(b"rows") + skippable, "zstd", LIMITS) == b"rows"
    with pytest.raises(Problem, match="truncated"):
        decode(skippable[:-1], "zstd", LIMITS)


def test_gzip_may_be_padded_with_zeros_and_with_nothing_else() -> None:
    assert decode(gzip.compress(b"rows") + bytes(1000), "gzip", LIMITS) == b"rows"
    for tail in (b"\0\0x", b"x"):
        with pytest.raises(Problem) as caught:
            decode(gzip.compress(b"rows") + tail, "gzip", LIMITS)
        assert caught.value.status == 400


@settings(max_examples=300, deadline=None)
@given(
    body=st.binary(max_size=2000),
    coding=st.sampled_from(["gzip", "zstd", "zstd-checksum", "zstd-stream"]),
    where=st.floats(0, 1, exclude_max=True),
)
def test_a_body_cut_anywhere_is_400(body, coding, where) -> None:
    compress = {
        "gzip": gzip.compress,
        "zstd": zstandard.compress,
        "zstd-checksum": zstandard.ZstdCompressor(write_checksum=True).compress,
        "zstd-stream": zstd_frames,
    }[coding]
    whole = compress(body)
    cut = whole[: max(1, int(where * len(whole)))]
    with pytest.raises(Problem) as caught:
        decode(cut, coding.partition("-")[0], LIMITS)
    assert caught.value.status == 400
    assert "cannot be decoded" in caught.value.message


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=400), flips=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 255))))
@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
def test_damage_gives_a_problem_or_a_body_and_nothing_else(
    coding: str, compress: Callable[..., Any], body, flips
) -> None:
    damaged = bytearray(compress(body))
    for at, bits in flips:
        damaged[at % len(damaged)] ^= bits
    try:
        status = 200 if isinstance(decode(bytes(damaged), coding, LIMITS), bytes) else None
    except Problem as problem:
        status = problem.status
    assert status in (200, 400, 413)


def peak_of(function, *arguments):
    tracemalloc.start()
    try:
        with pytest.raises(Problem) as caught:
            function(*arguments)
        return caught.value, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def run_length_bomb(n_blocks):
    """A zstd frame of 128 KiB from every 4 bytes (RFC 8878, RLE blocks)."""
    header = bytes.fromhex("28b52ffd") + bytes([0, 0x58])  # a window of 2 MiB, no size, no checksum
    block = 128 * 1024 << 3 | 1 << 1
    blocks = [(block | (at == n_blocks - 1)).to_bytes(3, "little") + b"x" for at in range(n_blocks)]
    return header + b"".join(blocks)


def test_the_run_length_bomb_is_a_valid_frame() -> None:
    """Else the bomb tests below would prove nothing."""
    assert decode(run_length_bomb(4), "zstd", LIMITS) == b"x" * (4 * 128 * 1024)


@pytest.mark.parametrize(
    ("coding", "make"),
    [
        ("gzip", lambda: gzip.compress(bytes(300 * MIB), 1)),
        ("zstd", lambda: zstandard.compress(bytes(300 * MIB))),
        ("zstd", lambda: run_length_bomb(100_000)),  # 12 GiB from 400 KB
        ("zstd", lambda: run_length_bomb(100)),  # 12 MiB from 400 bytes
    ],
    ids=["gzip", "zstd", "runs of 12 GiB", "runs of 12 MiB"],
)
def test_a_bomb_is_413_and_does_not_unfold(coding: str, make: Callable[..., Any]) -> None:
    bomb = make()
    problem, peak = peak_of(decode, bomb, coding, LIMITS)
    assert problem.status == 413
    assert peak < 2.5 * LIMITS.body_bytes
    limit = max(MIB, min(LIMITS.body_bytes, 100 * len(bomb)))
    assert peak < 2.5 * limit + 4 * MIB


def test_a_gzip_bomb_just_past_the_body_limit_is_refused_and_one_at_it_is_not() -> None:
    limits = Limits(body_bytes=1000, ratio=10**6)
    assert decode(gzip.compress(bytes(1000)), "gzip", limits) == bytes(1000)
    with pytest.raises(Problem, match="at most 1000 bytes") as caught:
        decode(gzip.compress(bytes(1001)), "gzip", limits)
    assert caught.value.status == 413


def test_the_ratio_is_free_below_its_floor() -> None:
    body = bytes(MIB)
    assert len(gzip.compress(body)) * 100 < MIB
    assert decode(gzip.compress(body), "gzip", LIMITS) == body
    with pytest.raises(Problem, match="100 times"):
        decode(gzip.compress(body + b"x"), "gzip", LIMITS)


@pytest.mark.parametrize(
    ("coding", "member"), [("gzip", gzip.compress(b"", mtime=0)), ("zstd", zstandard.compress(b""))]
)
def test_many_empty_members_are_refused(coding: str, member: bytes) -> None:
    with pytest.raises(Problem, match="more than 4096") as caught:
        decode(member * 5000, coding, LIMITS)
    assert caught.value.status == 400


def test_a_zstd_window_past_8_mib_is_refused_with_a_remedy() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=25)
    body = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    frame = body.compress(NOISE) + body.flush()
    with pytest.raises(Problem, match="window of at most 8 MiB") as caught:
        decode(frame, "zstd", LIMITS)
    assert caught.value.status == 413


def test_deflate_without_a_gzip_header_is_not_gzip() -> None:
    with pytest.raises(Problem, match="cannot be decoded"):
        decode(zlib.compress(b"rows"), "gzip", LIMITS)
