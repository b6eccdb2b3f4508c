"""Bodies in every format, and what a hostile or broken sender makes of them; known from a number alone."""

import gzip
import io
import json
import random

import polars as pl
import zstandard

from kldrift.records.formats import Format

ROWS = {
    "ts": ["2026-01-02T03:04:05Z", "2026-01-02T03:04:06.5+01:00", "2026-01-02 03:04:07Z", None, "soon"],
    "x": [1.5, -2.0, None, 1e300, 0.0],
    "y": [1, 2, 3, 4, 5],
    "c": ["red", "green", None, "blue", "unseen"],
    "s": ["a", "b", "ä", "1", None],
    "v": [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], None, [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]],
}
_NUMBERS = (b"1e309", b"-1e309", b"NaN", b"-Infinity", b"9" * 400, b"0." + b"0" * 400 + b"1", b"18446744073709551616")
_NUMBERS += (b"-9223372036854775809", b"1e", b"--1", b"0x1p9", b"1_0", b"+1", b"01", b"1e-400")
_TEXTS = (
    b"\xff\xfe",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf5\x80\x80\x80",
    b'\\ud800"',
    b"\\u0000",
    b"\x00",
    b"\xef\xbb\xbf",
)
_TEXTS += (
    b'"',
    b'""',
    b"\\",
    b"\r",
    b"\r\n",
    b"\n\n",
    b",,,,",
    b"\xe2\x80\xa8",
    b"null",
    b"true",
    b"True",
    b"1.0",
    b"-0.00",
    b'"1.0"',
    b"NA",
    b'"NA"',
    b'{"x":1}',
    b"[[1]]",
)
_SPECIAL_BYTES = b'\x00\x01\x7f\x80\xff"\\{}[],:\n\r '


def _arrow(frame: pl.DataFrame, oldest: bool = False) -> bytes:
    level = pl.CompatLevel.oldest() if oldest else pl.CompatLevel.newest()
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer, compat_level=level)
    return buffer.getvalue()


def _rows() -> list[dict[str, object]]:
    return [dict(zip(ROWS, values, strict=True)) for values in zip(*ROWS.values(), strict=True)]


def _csv() -> bytes:
    names = [name for name in ROWS if name != "v"]
    lines = ["" if row[name] is None else str(row[name]) for row in _rows() for name in names]
    width = len(names)
    return "\n".join(
        [",".join(names), *(",".join(lines[i : i + width]) for i in range(0, len(lines), width)), ""]
    ).encode()


def _seeds() -> dict[Format, tuple[bytes, ...]]:
    rows = _rows()
    frame = pl.DataFrame(ROWS, strict=False)
    ndjson = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    csv = _csv()
    categories = frame.with_columns(pl.col("c").cast(pl.Categorical), pl.col("v").cast(pl.Array(pl.Float32, 3)))
    times = frame.with_columns(ts=pl.Series([0, 1, None, 3, 4]).cast(pl.Datetime("us", "UTC")))
    return {
        "ndjson": (ndjson, ndjson.replace(b"\n", b"\r\n"), json.dumps(rows[0]).encode()),
        "json": (json.dumps(rows).encode(), json.dumps(ROWS).encode(), json.dumps(rows[0]).encode()),
        "csv": (csv, csv.replace(b"\n", b"\r\n"), csv.replace(b"red", b'"r""ed"').replace(b"a\n", b'"a\nb"\n')),
        "arrow": (
            _arrow(frame),
            _arrow(frame, oldest=True),
            _arrow(categories),
            _arrow(times),
            _arrow(frame.select("x", "y")),
        ),
    }  # fmt: skip


#: Bodies that are as they should be, by format; the first is read without loss.
SEEDS = _seeds()
FORMATS: tuple[Format, ...] = ("ndjson", "json", "csv", "arrow")


def mutant(rng: random.Random, body_format: Format) -> bytes:
    """A seed of a format, changed at one to six places."""
    return changed(rng, rng.choice(SEEDS[body_format]))


def changed(rng: random.Random, body: bytes) -> bytes:
    """A body, changed at one to six places."""
    damaged = bytearray(body)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        rng.choice(_MUTATIONS)(rng, damaged)
    return bytes(damaged[:100_000])


def _span(rng: random.Random, body: bytearray) -> tuple[int, int]:
    start = rng.randrange(len(body) + 1)
    return start, min(len(body), start + rng.choice((1, 2, 4, 8, 30, 200)))


def _truncate(rng: random.Random, body: bytearray) -> None:
    del body[rng.randrange(len(body) + 1) :]


def _flip(rng: random.Random, body: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 4, 30))):
        if body:
            body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)


def _overwrite(rng: random.Random, body: bytearray) -> None:
    start, stop = _span(rng, body)
    body[start:stop] = rng.randbytes(stop - start)


def _insert(rng: random.Random, body: bytearray) -> None:
    at = rng.randrange(len(body) + 1)
    body[at:at] = bytes(rng.choices(_SPECIAL_BYTES, k=rng.choice((1, 2, 9))))


def _delete(rng: random.Random, body: bytearray) -> None:
    start, stop = _span(rng, body)
    del body[start:stop]


def _duplicate(rng: random.Random, body: bytearray) -> None:
    start, stop = _span(rng, body)
    body[start:start] = body[start:stop] * rng.choice((1, 2, 50))


def _splice(rng: random.Random, body: bytearray) -> None:
    other = rng.choice(SEEDS[rng.choice(FORMATS)])
    start = rng.randrange(len(other))
    body[rng.randrange(len(body) + 1) :] = other[start:]


def _number(rng: random.Random, body: bytearray) -> None:
    """Put a strange number where one is."""
    digits = [i for i, byte in enumerate(body) if 48 <= byte < 58]
    at = rng.choice(digits) if digits else 0
    body[at : at + 1] = rng.choice(_NUMBERS)


def _text(rng: random.Random, body: bytearray) -> None:
    start, stop = _span(rng, body)
    body[start : rng.choice((start, stop))] = rng.choice(_TEXTS)


def _nest(rng: random.Random, body: bytearray) -> None:
    bracket, depth = rng.choice((b"[", b"{", b'{"a":', b"]", b"}", b'"')), rng.choice((3, 100, 1200, 5000))
    at = rng.randrange(len(body) + 1)
    body[at:at] = bracket * depth + (rng.choice((b"", b"1", b"]" * depth, b"}" * depth)))


def _extreme_word(rng: random.Random, body: bytearray) -> None:
    """A number of 2, 4 or 8 bytes, as lengths and offsets are."""
    size = rng.choice((2, 4, 8))
    if len(body) >= size:
        at = rng.randrange(len(body) - size + 1) // size * size
        value = rng.choice((0, 1, 2, 255, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1))
        body[at : at + size] = value.to_bytes(size, "little")


_MUTATIONS = (
    _truncate, _flip, _overwrite, _insert, _delete, _duplicate, _splice, _number, _text, _nest, _extreme_word,
)  # fmt: skip


def encoded(rng: random.Random, body: bytes) -> tuple[bytes, bytes]:
    """A body under a Content-Encoding, which may be a lie or damaged: what to write as the header, and the body."""
    coding = rng.choice(
        (b"", b"", b"gzip", b"zstd", b"identity", b"br", b"gzip, gzip", rng.randbytes(4).hex().encode())
    )
    if coding == b"gzip" and rng.random() < 0.9:
        body = gzip.compress(body, 1)
    elif coding == b"zstd" and rng.random() < 0.9:
        body = zstandard.compress(body, 1)
    if coding and rng.random() < 0.3:
        damaged = bytearray(body)
        rng.choice((_flip, _truncate, _duplicate, _overwrite))(rng, damaged)
        body = bytes(damaged)
    return coding, body
