"""Decoding against polars alone on the same bytes, in one run: ``python -m tests.benchmarks.wire``.

Times are the best of interleaved repetitions, so that a busy moment of the machine hits both sides. Ratios are ours to
polars: 1 means that decoding costs no more than parsing.
"""

import time
from collections.abc import Callable
from io import BytesIO

import numpy as np
import orjson
import polars as pl

from kldrift.records.formats import Format
from kldrift.records.samples import BatchSchema, FeatureSchema
from kldrift.records.specs import TimestampSpec
from kldrift.wire import decode

N_FEATURES = 50
NAMES = [f"f{i}" for i in range(N_FEATURES)]
SCHEMA = BatchSchema(tuple(FeatureSchema(name, "numeric") for name in NAMES))
FLOATS = dict.fromkeys(NAMES, pl.Float64)
CATEGORIES = tuple(f"category_{i}" for i in range(50))


def best(ours: Callable[[], object], theirs: Callable[[], object], seconds: float = 3.0) -> tuple[float, float]:
    """The least seconds of each, repeated in turns."""
    times = (float("inf"), float("inf"))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        theirs()
        middle = time.perf_counter()
        ours()
        times = min(times[0], time.perf_counter() - middle), min(times[1], middle - start)
    return times


def show(name: str, n_samples: int, times: tuple[float, float], peer: str) -> None:
    ours, theirs = times
    print(
        f"{name:<44} {n_samples / ours / 1e6:8.1f} M samples/s   {ours * 1e3:8.2f} ms   "
        f"{theirs / ours:5.2f} x {peer} ({n_samples / theirs / 1e6:.1f})"
    )


def check(body_format: Format, bodies: list[bytes], schema: BatchSchema, expected: np.ndarray) -> None:
    decoded = decode(body_format, bodies, schema)
    assert sum(body.accepted for body in decoded.bodies) == len(expected)
    np.testing.assert_array_equal(np.column_stack(decoded.batch.columns), expected)


def main() -> None:
    rng = np.random.default_rng(1)
    data = rng.normal(size=(6500, N_FEATURES))
    lines = [orjson.dumps(dict(zip(NAMES, row, strict=True))) + b"\n" for row in data.tolist()]
    body = b"".join(lines)

    def read_lines(text: bytes) -> pl.DataFrame:
        return pl.read_ndjson(BytesIO(text), schema=FLOATS)

    check("ndjson", [body], SCHEMA, data)
    times = best(lambda: decode("ndjson", [body], SCHEMA), lambda: read_lines(body))
    show(f"NDJSON, one chunk of {len(body) / 1e6:.1f} MB", data.size, times, "polars.read_ndjson")

    posts = [b"".join(lines[i : i + 200]) for i in range(0, 6400, 200)]
    gathered = b"".join(posts)
    check("ndjson", posts, SCHEMA, data[:6400])
    times = best(lambda: decode("ndjson", posts, SCHEMA), lambda: read_lines(gathered))
    show("NDJSON, 32 posts of 200 rows gathered", 6400 * N_FEATURES, times, "polars on their bytes")

    post = b"".join(lines[:2000])
    times = best(lambda: decode("ndjson", [post], SCHEMA), lambda: read_lines(post))
    show("NDJSON, a post of 2000 rows", 2000 * N_FEATURES, times, "polars.read_ndjson")

    for n in (1, 10):
        few = lines[:n]
        check("ndjson", few, SCHEMA, data[:n])
        times = best(lambda few=few: decode("ndjson", few, SCHEMA), lambda few=few: read_lines(b"".join(few)), 1)
        show(f"NDJSON, {n} posts of one row", n * N_FEATURES, times, "polars on their bytes")

    broken = b"".join([*lines[:3000], b"{bad\n", *lines[3000:]])
    check("ndjson", [broken], SCHEMA, data)
    times = best(lambda: decode("ndjson", [broken], SCHEMA), lambda: read_lines(body))
    show("NDJSON, one chunk with one bad line", data.size, times, "polars without it")

    buffer = BytesIO()
    pl.DataFrame(data[:2000], schema=NAMES).write_ipc_stream(buffer)
    arrow = buffer.getvalue()
    check("arrow", [arrow], SCHEMA, data[:2000])
    times = best(
        lambda: decode("arrow", [arrow], SCHEMA),
        lambda: [column.to_numpy() for column in pl.read_ipc_stream(BytesIO(arrow)).get_columns()],
        1,
    )
    show("Arrow IPC, a post of 2000 rows", 2000 * N_FEATURES, times, "polars.read_ipc_stream + to_numpy")

    table = pl.DataFrame(data, schema=NAMES).write_csv().encode()
    check("csv", [table], SCHEMA, data)
    times = best(lambda: decode("csv", [table], SCHEMA), lambda: pl.read_csv(BytesIO(table), schema=FLOATS))
    show("CSV", data.size, times, "polars.read_csv")

    rows = orjson.dumps([orjson.loads(line) for line in lines[:2000]])
    check("json", [rows], SCHEMA, data[:2000])
    times = best(lambda: decode("json", [rows], SCHEMA), lambda: orjson.loads(rows))
    show("JSON, a list of 2000 rows", 2000 * N_FEATURES, times, "orjson.loads")

    columns = orjson.dumps({name: data[:2000, i].tolist() for i, name in enumerate(NAMES)})
    check("json", [columns], SCHEMA, data[:2000])
    times = best(lambda: decode("json", [columns], SCHEMA), lambda: orjson.loads(columns))
    show("JSON, columns of 2000 rows", 2000 * N_FEATURES, times, "orjson.loads")

    codes = rng.integers(0, len(CATEGORIES), size=(20_000, 15))
    fields = [f"c{i}" for i in range(15)]
    mixed = BatchSchema(
        tuple(FeatureSchema(name, "categorical", CATEGORIES) for name in fields), TimestampSpec("ts", "iso8601")
    )
    moments = np.datetime64("2024-01-01T00:00:00.000") + np.arange(len(codes))
    words = [
        {"ts": f"{moment}Z"} | {name: CATEGORIES[code] for name, code in zip(fields, row, strict=True)}
        for moment, row in zip(moments, codes.tolist(), strict=True)
    ]
    text = b"\n".join(map(orjson.dumps, words))
    check("ndjson", [text], mixed, codes)
    strings = dict.fromkeys(["ts", *fields], pl.String)
    times = best(lambda: decode("ndjson", [text], mixed), lambda: pl.read_ndjson(BytesIO(text), schema=strings))
    show("NDJSON, 15 categories and a time", codes.size, times, "polars.read_ndjson to strings")


if __name__ == "__main__":
    main()
