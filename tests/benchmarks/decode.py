"""Rows to columns and counts beside polars and JSON libraries on the same bytes: ``python -m tests.benchmarks.decode``.

Times are the best of interleaved repetitions, so that a busy moment of the machine hits all sides; every way's values
are compared with those that were written, bit by bit. polars uses all cores, in one call; ours decodes pieces of 2 MB
in two threads, as the daemon's decoders do, or in one. msgspec and simdjson are measured where they are installed
(``pip install msgspec pysimdjson``).
"""

import importlib
import importlib.util
import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import chain
from typing import Any

import numpy as np
import orjson
import polars as pl

from kldrift.kernels import compilation
from kldrift.kernels.bin_table import BinTable, CategoryBins, NumericBins, make_bin_table
from kldrift.kernels.fill import fill_counts
from kldrift.kernels.parsing import csv_records
from kldrift.records.samples import BatchSchema, Decoded, FeatureSchema
from kldrift.wire import decode, ndjson
from kldrift.wire import json as wire_json
from tests.benchmarks.table import Row, print_rows

NAMES = [f"f{i}" for i in range(50)]
CATEGORIES = tuple(f"category_{i}" for i in range(30))
NUMERIC = BatchSchema(tuple(FeatureSchema(name, "numeric") for name in NAMES))
MIXED = BatchSchema((*NUMERIC.features[:40], *(FeatureSchema(name, "categorical", CATEGORIES) for name in NAMES[40:])))
PIECE_BYTES = 2_000_000


def best(ways: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """The least seconds of each, repeated in turns; twice at least."""
    times = [float("inf")] * len(ways)
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < 2 or time.perf_counter() < end:
        rounds += 1
        for i, way in enumerate(ways):
            start = time.perf_counter()
            way()
            times[i] = min(times[i], time.perf_counter() - start)
    return times


def lines_of(columns: Sequence[list[Any]]) -> list[bytes]:
    """A line for each row."""
    return [orjson.dumps(dict(zip(NAMES, row, strict=True))) + b"\n" for row in zip(*columns, strict=True)]


def pieces_of(lines: Sequence[bytes]) -> list[bytes]:
    """The lines in pieces, as a file is read."""
    rows = max(1, PIECE_BYTES * len(lines) // sum(map(len, lines)))
    return [b"".join(lines[i : i + rows]) for i in range(0, len(lines), rows)]


def assert_decoded(decoded: Sequence[Decoded], columns: Sequence[list[Any]]) -> None:
    """Bit by bit; categories by their codes."""
    for i, written in enumerate(columns):
        found = np.concatenate([one.batch.columns[i] for one in decoded])
        if found.dtype == np.int32:
            assert [CATEGORIES[code] for code in found.tolist()] == written
        else:
            np.testing.assert_array_equal(found.view(np.int64), np.array(written, dtype=np.float64).view(np.int64))


def datasets(n_rows: int) -> dict[str, tuple[BatchSchema, list[list[Any]]]]:
    """Columns by what they are."""
    rng = np.random.default_rng(1)
    floats = rng.normal(size=(50, n_rows))
    words = [[CATEGORIES[code] for code in codes] for codes in rng.integers(0, 30, size=(10, n_rows)).tolist()]
    return {
        "50 floats of 17 digits": (NUMERIC, floats.tolist()),
        "50 floats of 4 decimals": (NUMERIC, floats.round(4).tolist()),
        "50 integers": (NUMERIC, rng.integers(-1_000_000, 1_000_000, size=(50, n_rows)).tolist()),
        "40 floats, 10 categories": (MIXED, [*floats[:40].tolist(), *words]),
    }


def rate(n_values: int, seconds: float) -> str:
    """Values a second."""
    return f"{n_values / seconds / 1e6:.1f} M values/s"


def beside_polars(n_rows: int, seconds: float) -> list[Row]:
    """Two threads and one, beside polars' one call."""
    rows = []
    with ThreadPoolExecutor(2) as threads:
        for name, (schema, columns) in datasets(n_rows).items():
            lines = lines_of(columns)
            whole, pieces = b"".join(lines), pieces_of(lines)
            types = {
                feature.name: pl.Float64() if feature.kind == "numeric" else pl.String() for feature in schema.features
            }

            def ours(piece: bytes, schema: BatchSchema = schema) -> Decoded:
                return decode("ndjson", [piece], schema)

            assert_decoded(list(map(ours, pieces)), columns)
            assert pl.read_ndjson(BytesIO(whole), schema=types)["f3"].to_list() == columns[3]
            two, one, theirs = best(
                [
                    lambda ours=ours, pieces=pieces: list(threads.map(ours, pieces)),
                    lambda ours=ours, pieces=pieces: [ours(piece) for piece in pieces],
                    lambda whole=whole, types=types: pl.read_ndjson(BytesIO(whole), schema=types),
                ],
                seconds,
            )
            n = n_rows * 50
            peer = rate(n, theirs)
            rows.append(Row(f"NDJSON, {name}, two threads", rate(n, two), peer, "polars", theirs / two, 2.5))
            rows.append(Row("the same, one thread", rate(n, one), peer, "polars, all cores", theirs / one))
            rows.append(Row("the same, two threads beside one", rate(n, two), rate(n, one), "one", one / two, 1.6))
    return rows


def csv_beside_polars(n_rows: int, seconds: float) -> list[Row]:
    """Two threads and one, beside polars' one call."""
    rows = []
    header = ",".join(NAMES).encode() + b"\n"
    with ThreadPoolExecutor(2) as threads:
        for name, (schema, columns) in datasets(n_rows).items():
            lines = [",".join(map(str, row)).encode() + b"\n" for row in zip(*columns, strict=True)]
            whole, pieces = header + b"".join(lines), pieces_of(lines)
            types = {f.name: pl.Float64() if f.kind == "numeric" else pl.String() for f in schema.features}

            def ours(piece: bytes, schema: BatchSchema = schema) -> Decoded:
                return decode("csv", [piece], schema, header=header)

            assert_decoded(list(map(ours, pieces)), columns)
            assert pl.read_csv(BytesIO(whole), schema=types)["f3"].to_list() == columns[3]
            two, one, theirs = best(
                [
                    lambda ours=ours, pieces=pieces: list(threads.map(ours, pieces)),
                    lambda ours=ours, pieces=pieces: [ours(piece) for piece in pieces],
                    lambda whole=whole, types=types: pl.read_csv(BytesIO(whole), schema=types),
                ],
                seconds,
            )
            n = n_rows * 50
            peer = rate(n, theirs)
            rows.append(Row(f"CSV, {name}, two threads", rate(n, two), peer, "polars", theirs / two, 1.5))
            rows.append(Row("the same, one thread", rate(n, one), peer, "polars, all cores", theirs / one))
    return rows


def csv_worst_cases(n_rows: int, seconds: float) -> list[Row]:
    """What the kernel of CSV is bad at, beside the general way on the same bytes."""
    schema, columns = datasets(n_rows)["40 floats, 10 categories"]
    records = [",".join(map(str, row)).encode() for row in zip(*columns, strict=True)]
    short = [record.rpartition(b",")[0] for record in records]
    third = n_rows // 3
    cases = {
        "every record malformed": short,
        "one record in five malformed": [short[i] if i % 5 == 0 else record for i, record in enumerate(records)],
        "the later half malformed": records[: n_rows // 2] + short[n_rows // 2 :],
        "every cell in quotes": [b'"' + record.replace(b",", b'","') + b'"' for record in records],
        "quotes in every category": [
            record.replace(b"_", b'""').replace(b"c", b'"c').replace(b"y", b'y"') for record in records
        ],
        "a number with a plus in one record of five": [
            b"+" + record.lstrip(b"-") if i % 5 == 0 else record for i, record in enumerate(records)
        ],
        "the last third with a plus": records[:-third] + [b"+" + record.lstrip(b"-") for record in records[-third:]],
        "a quote that is not closed at the end": [*records[:-1], b'"' + records[-1]],
        "quotes and a newline in a category at the end": [*records, short[-1] + b',"a ""b""\nc"'],
    }
    header = ",".join(NAMES).encode() + b"\n"

    def by_kernel(body: bytes) -> Decoded:
        return decode("csv", [body], schema, header=header)

    def general(body: bytes) -> Decoded:
        ready = csv_records.is_ready
        csv_records.is_ready = lambda: False
        try:
            return by_kernel(body)
        finally:
            csv_records.is_ready = ready

    rows = []
    for name, lines in cases.items():
        ours, theirs = beside_general(by_kernel, general, b"\n".join(lines), seconds)
        n = n_rows * 50
        what = f"worst case of CSV: {name}"
        rows.append(Row(what, rate(n, ours), rate(n, theirs), "general way", theirs / ours, 0.5))
    return rows


def beside_general(
    by_kernel: Callable[[bytes], Decoded], general: Callable[[bytes], Decoded], body: bytes, seconds: float
) -> list[float]:
    """The least seconds of both ways, which give the same."""
    found, expected = by_kernel(body), general(body)
    assert found.bodies == expected.bodies
    for column, other in zip(found.batch.columns, expected.batch.columns, strict=True):
        np.testing.assert_array_equal(column, other)
    return best([lambda: by_kernel(body), lambda: general(body)], seconds)


def beside_libraries(n_rows: int, seconds: float) -> list[Row]:
    """One thread to counts, beside libraries that make Python objects, and columns of them."""
    schema, columns = datasets(n_rows)["50 floats of 17 digits"]
    lines = lines_of(columns)
    whole = b"".join(lines)

    def matrix(rows: Sequence[Sequence[float]]) -> np.ndarray:
        flat = np.fromiter(chain.from_iterable(rows), np.float64, len(rows) * 50)
        return np.ascontiguousarray(flat.reshape(-1, 50).T)

    def by_orjson() -> np.ndarray:
        return matrix([list(orjson.loads(line).values()) for line in lines])

    ways: dict[str, Callable[[], np.ndarray]] = {"orjson": by_orjson}
    if installed("msgspec"):
        msgspec = importlib.import_module("msgspec")
        record = msgspec.defstruct("record", [(name, float) for name in NAMES])
        decoder = msgspec.json.Decoder(record)
        ways["msgspec"] = lambda: matrix([msgspec.structs.astuple(row) for row in decoder.decode_lines(whole)])
    if installed("simdjson"):
        simdjson = importlib.import_module("simdjson")
        parser = simdjson.Parser()
        ways["simdjson"] = lambda: matrix([list(parser.parse(line).as_dict().values()) for line in lines])
    for way in ways.values():
        np.testing.assert_array_equal(way(), np.array(columns))
    bins = bins_of(columns)
    ours, *theirs = best([lambda: decode("ndjson", [whole], schema, bins=bins), *ways.values()], seconds)
    n = n_rows * 50
    return [
        Row("NDJSON to counts, one thread; theirs to columns", rate(n, ours), rate(n, peer), name, peer / ours, 3)
        for name, peer in zip(ways, theirs, strict=True)
    ]


def json_lists(n_rows: int, seconds: float) -> list[Row]:
    """A list of rows in one body and one thread, beside the general way of JSON bodies and polars."""
    schema, columns = datasets(n_rows)["50 floats of 17 digits"]
    records = [dict(zip(NAMES, row, strict=True)) for row in zip(*columns, strict=True)]
    objects = [orjson.dumps(record) for record in records]
    texts = [row.replace(b":", b':"').replace(b",", b'",').replace(b"}", b'"}') for row in objects]
    rng = random.Random(1)

    def ours(body: bytes) -> Decoded:
        return decode("json", [body], schema)

    def general(body: bytes) -> Decoded:
        before = wire_json.SCAN_BYTES
        wire_json.SCAN_BYTES = sys.maxsize  # type: ignore[misc]
        try:
            return ours(body)
        finally:
            wire_json.SCAN_BYTES = before  # type: ignore[misc]

    body = b"[" + b",".join(objects) + b"]"
    assert_decoded([ours(body)], columns)
    assert pl.read_json(BytesIO(body))["f3"].to_list() == columns[3]
    one, objects_of, theirs = best(
        [lambda: ours(body), lambda: general(body), lambda: pl.read_json(BytesIO(body))], seconds
    )
    n = n_rows * 50
    what = f"JSON, a list of {n_rows:,} rows, 50 floats of 17 digits, one thread"
    rows = [
        Row(what, rate(n, one), rate(n, objects_of), "general way, orjson", objects_of / one, 3),
        Row("the same", rate(n, one), rate(n, theirs), "polars, all cores", theirs / one, 2.5),
    ]
    cases = {
        "every row not plain": b"[" + b",".join(texts) + b"]",
        "one row in five not plain": b"["
        + b",".join(texts[i] if i % 5 == 0 else row for i, row in enumerate(objects))
        + b"]",
        "malformed at the end": body[:-1],
        "every row's keys in another order": orjson.dumps(
            [dict(rng.sample(list(record.items()), 50)) for record in records]
        ),
        "indented": orjson.dumps(records, option=orjson.OPT_INDENT_2),
    }
    for name, case in cases.items():
        one, objects_of = beside_general(ours, general, case, seconds / 2)
        what = f"worst case: JSON, {name}"
        rows.append(Row(what, rate(n, one), rate(n, objects_of), "general way, orjson", objects_of / one, 0.5))
    return rows


def installed(module: str) -> bool:
    """Whether there is such a module."""
    return importlib.util.find_spec(module) is not None


def bins_of(columns: Sequence[list[Any]]) -> BinTable:
    """Twenty bins of equal weight for numbers, one for each category."""
    fractions = np.linspace(0, 1, 21)
    n_codes = len(CATEGORIES)
    return make_bin_table(
        [
            CategoryBins(np.arange(n_codes + 2, dtype=np.int32), n_codes + 2)
            if isinstance(column[0], str)
            else NumericBins(np.quantile(np.array(column, dtype=np.float64), fractions))
            for column in columns
        ]
    )


def small_bodies(seconds: float) -> list[Row]:
    """Bodies of 200 rows to counts: each by itself, and gathered in two threads, as pieces of a source are decoded."""
    rows = []
    with ThreadPoolExecutor(2) as threads:
        for name, (schema, columns) in datasets(200 * 64).items():
            lines = lines_of(columns)
            bodies = [b"".join(lines[i : i + 200]) for i in range(0, len(lines), 200)]
            gathered = [bodies[i : i + 8] for i in range(0, len(bodies), 8)]
            types = {f.name: pl.Float64() if f.kind == "numeric" else pl.String() for f in schema.features}
            assert_decoded([decode("ndjson", [body], schema) for body in bodies], columns)
            bins = bins_of(columns)

            def counts(bodies: Sequence[bytes], schema: BatchSchema = schema, bins: BinTable = bins) -> np.ndarray:
                counted = decode("ndjson", bodies, schema, bins=bins).batch.counts
                assert counted is not None
                return counted.values

            expected = np.zeros((1, bins.offsets[-1]), dtype=np.int64)
            fill_counts(bins, decode("ndjson", bodies, schema).batch.columns, None, expected)
            np.testing.assert_array_equal(sum(counts([body]) for body in bodies), expected[0])
            np.testing.assert_array_equal(sum(map(counts, gathered)), expected[0])
            one, two, theirs = best(
                [
                    lambda counts=counts, bodies=bodies: [counts([body]) for body in bodies],
                    lambda counts=counts, gathered=gathered: list(threads.map(counts, gathered)),
                    lambda bodies=bodies, types=types: [pl.read_ndjson(BytesIO(body), schema=types) for body in bodies],
                ],
                seconds,
            )
            n = len(lines) * 50
            what, peer = f"bodies of 200 rows to counts, {name}", rate(n, theirs)
            rows.append(Row(f"{what}, gathered by 8, two threads", rate(n, two), peer, "polars", theirs / two, 5))
            rows.append(Row("… each by itself, one thread", rate(n, one), peer, "polars", theirs / one))
    return rows


def worst_cases(n_rows: int, seconds: float) -> list[Row]:
    """What the kernel is bad at, beside the general way on the same bytes."""
    schema, columns = datasets(n_rows)["50 floats of 17 digits"]
    rng = random.Random(1)
    records = [list(zip(NAMES, row, strict=True)) for row in zip(*columns, strict=True)]
    lines = lines_of(columns)
    shuffled = b"".join(orjson.dumps(dict(rng.sample(record, 50))) + b"\n" for record in records)
    spaced = b"".join(
        json.dumps(dict(record), separators=("," + " " * rng.randrange(9), ":" + " " * rng.randrange(9))).encode()
        + b"\n"
        for record in records
    )
    cases = {
        "every row malformed": b"".join(line[:-2] + b"\n" for line in lines),
        "one row in five malformed": b"".join(
            line[:-2] + b"\n" if i % 5 == 0 else line for i, line in enumerate(lines)
        ),
        "the later half malformed": b"".join(
            line[:-2] + b"\n" if i > n_rows // 2 else line for i, line in enumerate(lines)
        ),
        "every row's keys in another order": shuffled,
        "every row spaced in another way": spaced,
        "texts in place of numbers": b"".join(line.replace(b":", b':"').replace(b",", b'",') for line in lines),
    }

    def general(body: bytes) -> Decoded:
        before = ndjson.SCAN_BYTES
        ndjson.SCAN_BYTES = sys.maxsize  # type: ignore[misc]
        try:
            return decode("ndjson", [body], schema)
        finally:
            ndjson.SCAN_BYTES = before  # type: ignore[misc]

    rows = []
    for name, body in cases.items():
        ours, theirs = beside_general(lambda body: decode("ndjson", [body], schema), general, body, seconds)
        n = n_rows * 50
        rows.append(Row(f"worst case: {name}", rate(n, ours), rate(n, theirs), "general way", theirs / ours, 0.5))
    return rows


def rows(quick: bool = False) -> list[Row]:
    """Every row."""
    compilation.warm_up()
    n_rows, seconds = (2_000, 0.2) if quick else (20_000, 4.0)
    found = [*beside_polars(n_rows, seconds), *csv_beside_polars(n_rows, seconds), *small_bodies(seconds / 2)]
    found += [*beside_libraries(n_rows // 4, seconds), *worst_cases(n_rows // 10, seconds / 2)]
    return [*found, *csv_worst_cases(n_rows // 10, seconds / 2), *json_lists(n_rows // 10, seconds / 2)]


def main() -> None:
    """Print the table."""
    print(f"{os.cpu_count()} cores\n")
    print_rows(rows("--quick" in sys.argv))


if __name__ == "__main__":
    main()
