"""Damaged bodies into every decoder, damaged requests into a daemon.

    python -m tests.faults.fuzz [payloads]      nine in ten into the decoders, the others into a daemon
    python -m tests.faults.fuzz block NUMBER    one block of the decoders' again

A decoder may call a body unreadable, reject rows and values, and nothing else: no exception, no end of the process,
no batch that is not what the records promise, no harm to the bodies that are decoded with a bad one; and the kernels
that read NDJSON, lists of JSON and CSV give what the general way gives. The daemon answers everything without a 5xx
other than 503, its ``/metrics`` parses, and its log tells of no defect.
"""

import multiprocessing
import multiprocessing.process
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from ctypes import c_int64
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from kldrift.kernels import compilation
from kldrift.kernels.bin_table import BinTable
from kldrift.records.formats import Format
from kldrift.records.samples import BatchSchema, BodyResult, Decoded, FeatureSchema, Vocabulary
from kldrift.records.specs import TimestampSpec
from kldrift.wire import csv, csv_scan, decode, json, json_scan, ndjson
from kldrift.wire.plan import Plan, plan_for
from kldrift.wire.tables import Decoding, finish
from tests.faults import fuzz_http
from tests.faults.payloads import FORMATS, SEEDS, mutant
from tests.wire.counting import assert_counted, bins_of

#: Payloads that share a schema, and with it what its vocabulary has learned.
BLOCK = 500
HANGS_SECONDS = 120.0
_BOM = b"\xef\xbb\xbf"
MISSING = frozenset({"NA", "unseen", "b"})
_UNITS = ("iso8601", "ms", "ns", None)
#: Bodies from this size on are read in bulk, in every other block: as mutants are, and not only large ones.
_SMALL_BULK_BYTES = 400
_BULK_BYTES = ndjson.BULK_BYTES
#: How often each format comes; a damaged CSV body takes twenty times as long as others do.
_WEIGHTS = (4, 3, 1, 4)


def schema_of(block: int) -> BatchSchema:
    """Every kind of column; with times in another unit, or none, from block to block."""
    unit = _UNITS[block % len(_UNITS)]
    features = (
        FeatureSchema("x", "numeric"),
        FeatureSchema("c", "categorical", ("red", "green", "blue", "1", "0", "true")),
        FeatureSchema("v", "vector", dimensions=3),
        FeatureSchema("y", "numeric"),
        FeatureSchema("s", "categorical", vocabulary=Vocabulary(6)),
    )
    return BatchSchema(features, None if unit is None else TimestampSpec("ts", unit))


def plain_schema_of(block: int) -> BatchSchema:
    """What the kernel knows, with a vocabulary of its own."""
    schema = schema_of(block)
    return BatchSchema(tuple(feature for feature in schema.features if feature.kind != "vector"), schema.timestamp)


def decode_block(block: int) -> None:
    """Decode the payloads of a block, some together with others; raises where something is not as it has to be."""
    compilation.warm_up()
    json.SCAN_BYTES = 0  # type: ignore[misc]
    ndjson.BULK_BYTES = _SMALL_BULK_BYTES if block // len(_UNITS) % 2 else _BULK_BYTES  # type: ignore[misc]
    schema = schema_of(block)
    rng = random.Random(block)
    well = {name: decode(name, [SEEDS[name][0]], schema).bodies[0] for name in FORMATS}
    plain, same = plain_schema_of(block), plain_schema_of(block)
    left = BLOCK
    while left:
        body_format = rng.choices(FORMATS, _WEIGHTS)[0]
        bodies = [mutant(rng, body_format) for _ in range(min(left, rng.choice((1, 2, 8, 16))))]
        left -= len(bodies)
        try:
            decoded = decode(body_format, [*bodies, SEEDS[body_format][0]], schema)
            check(decoded, len(bodies) + 1, schema)
            check_beside(decoded.bodies[-1], well[body_format])
            if body_format != "arrow":
                for together in (bodies, *([body] for body in bodies)):
                    check_kernel(body_format, together, plain, same)
        except BaseException as error:  # a panic of polars, too
            error.add_note(f"block {block}: {body_format} {bodies!r}")
            raise


def check(decoded: Decoded, n_bodies: int, schema: BatchSchema) -> None:
    """The promises of `SampleBatch` and `BodyResult`."""
    batch = decoded.batch
    assert len(decoded.bodies) == n_bodies, f"{len(decoded.bodies)} results of {n_bodies} bodies"
    assert sum(body.accepted for body in decoded.bodies) == batch.n_rows
    assert len(batch.columns) == len(schema.features)
    for feature, column in zip(schema.features, batch.columns, strict=True):
        shape = (batch.n_rows, feature.dimensions) if feature.dimensions else (batch.n_rows,)
        assert column.shape == shape, f"{feature.name}: {column.shape}, expected {shape}"
        assert column.flags.c_contiguous, feature.name
        if feature.kind == "categorical":
            assert column.dtype == np.int32
            assert not column.size or 0 <= column.min() <= column.max() <= feature.missing_code, feature.name
        else:
            assert column.dtype == np.float64
        if feature.kind == "vector":
            missing = np.isnan(column)
            assert (missing.all(axis=1) | np.isfinite(column).all(axis=1)).all(), feature.name
    assert (batch.event_ms is None) == (schema.timestamp is None)
    if batch.event_ms is not None:
        assert batch.event_ms.shape == (batch.n_rows,)
        assert (batch.event_ms >= 0).all()
    for f, rows in batch.invalid:
        column = batch.columns[f][rows]  # within bounds, or an IndexError
        assert (rows >= 0).all()
        assert (np.diff(rows) > 0).all()
        missing_code = schema.features[f].missing_code
        assert np.isnan(column).all() if column.dtype == np.float64 else (column == missing_code).all()
    for body in decoded.bodies:
        assert body.accepted >= 0
        assert all(n > 0 for n in body.rejected.values()), body
        assert len(body.errors) <= 10
        assert body.unreadable is None or body.accepted == 0, body
        assert body.rows is None or (body.rows.shape == (body.accepted,) and (np.diff(body.rows) > 0).all())
        n_records = body.accepted + sum(body.rejected.values())
        assert all(0 <= error.row < n_records for error in body.errors), body


def check_beside(result: BodyResult, alone: BodyResult) -> None:
    """A body fares beside bad ones as it fares alone."""
    assert result == alone, f"beside bad bodies: {result}; alone: {alone}"


def check_kernel(body_format: Format, bodies: Sequence[bytes], schema: BatchSchema, same: BatchSchema) -> None:
    """The kernel gives what the general way gives, to the bit; the schemas differ in their vocabularies only."""
    plan, other = plan_for(schema, MISSING), plan_for(same, MISSING)
    found, expected = (
        finish(by_kernel(body_format, bodies, plan), plan),
        finish(generally(body_format, bodies, other), other),
    )
    assert_equal(found, expected)
    assert plan.categorical[-1].known.texts == other.categorical[-1].known.texts
    if schema.timestamp is None:
        bins = bins_of(schema)
        counted = finish(by_kernel(body_format, bodies, plan, bins), plan)
        if counted.batch.counts is not None:
            assert_counted(counted, finish(generally(body_format, bodies, other), other), bins)


def by_kernel(body_format: Format, bodies: Sequence[bytes], plan: Plan, bins: BinTable | None = None) -> Decoding:
    """However small the bodies are."""
    if body_format == "json":
        return json.decode(bodies, plan, bins=bins)
    if body_format == "csv":
        return csv.decode(bodies, plan, bins=bins)
    bodies = [body.removeprefix(_BOM) for body in bodies]
    decoding = json_scan.decode(bodies, plan, ndjson.decode_rowwise, bins)
    return ndjson.decode_rowwise(bodies, plan) if decoding is None else decoding


def generally(body_format: Format, bodies: Sequence[bytes], plan: Plan) -> Decoding:
    """Row by row, record by record, or as lists of Python's objects."""
    if body_format == "ndjson":
        return ndjson.decode_one_by_one([body.removeprefix(_BOM) for body in bodies], plan)
    if body_format == "csv":
        with (
            patch.object(csv_scan, "decode", return_value=None),
            patch.object(csv, "_decode_bulk", return_value=None),
        ):
            return csv.decode(bodies, plan)
    json.SCAN_BYTES = sys.maxsize  # type: ignore[misc]
    try:
        return json.decode(bodies, plan)
    finally:
        json.SCAN_BYTES = 0  # type: ignore[misc]


def assert_equal(found: Decoded, expected: Decoded) -> None:
    """Two batches are the same, to the bit but for which NaN."""
    assert found.bodies == expected.bodies
    assert [feature for feature, _ in found.batch.invalid] == [feature for feature, _ in expected.batch.invalid]
    arrays = [*found.batch.columns, *(rows for _, rows in found.batch.invalid)]
    others = [*expected.batch.columns, *(rows for _, rows in expected.batch.invalid)]
    for one, two in zip(arrays, others, strict=True):
        number = one.dtype == np.float64
        bits, expected_bits = (one.view(np.int64), two.view(np.int64)) if number else (one, two)
        unlike = (bits != expected_bits) & ~(np.isnan(one) & np.isnan(two)) if number else bits != expected_bits
        assert not unlike.any(), f"the kernel: {one[unlike][:5]}; the general way: {two[unlike][:5]}"
    assert (found.batch.event_ms is None) == (expected.batch.event_ms is None)
    if found.batch.event_ms is not None:
        np.testing.assert_array_equal(found.batch.event_ms, expected.batch.event_ms)


@dataclass
class Worker:
    """A process that decodes blocks, and the block that it is at."""

    process: multiprocessing.process.BaseProcess
    at: Any
    seen: int = -1
    since: float = 0.0


def _decode_blocks(at: Any, first: int, stop: int, step: int) -> None:
    with Path(os.devnull).open("w") as nothing:  # polars tells of every panic that is caught
        os.dup2(nothing.fileno(), sys.stderr.fileno())
    for block in range(first, stop, step):
        at.value = block
        decode_block(block)


def decode_payloads(payloads: int, n_processes: int) -> float:
    """Decode so many payloads in processes of their own, so that the end of one is seen; the seconds it took."""
    context = multiprocessing.get_context("spawn")
    n_blocks = -(-payloads // BLOCK)
    workers = []
    started = time.monotonic()
    for first in range(n_processes):
        at = context.Value(c_int64, -1, lock=False)
        process = context.Process(target=_decode_blocks, args=(at, first, n_blocks, n_processes), daemon=True)
        process.start()
        workers.append(Worker(process, at, since=started))
    try:
        while any(worker.process.is_alive() for worker in workers):
            for worker in workers:
                worker.process.join(0.1)
                _check_worker(worker)
    finally:
        for worker in workers:
            worker.process.kill()
    for worker in workers:
        _check_worker(worker)
    return time.monotonic() - started


def _check_worker(worker: Worker) -> None:
    """Raise where it ended, or is at one block for too long."""
    block, code, now = worker.at.value, worker.process.exitcode, time.monotonic()
    again = f"again with: python -m tests.faults.fuzz block {block}"
    assert code in (None, 0), f"a decoder ended its process with {code} in block {block}; {again}"
    if block != worker.seen:
        worker.seen, worker.since = block, now
    assert code == 0 or now - worker.since < HANGS_SECONDS, f"block {block} does not end; {again}"


def run(payloads: int, folder: Path, n_processes: int = 1) -> dict[str, Any]:
    """Both; what was seen."""
    requests = payloads // 10
    took = decode_payloads(payloads - requests, n_processes)
    started = time.monotonic()
    statuses = fuzz_http.run(requests, folder)
    return {
        "decoded": payloads - requests,
        "decoded a second": round((payloads - requests) / took),
        "requests": requests,
        "requests a second": round(requests / (time.monotonic() - started)),
        "answers": dict(sorted(statuses.items())),
    }


def main(payloads: int = 10_000_000) -> None:
    """The full run."""
    with tempfile.TemporaryDirectory() as name:
        started = time.monotonic()
        seen = run(payloads, Path(name), n_processes=2)
        print(f"{payloads:,} payloads, no crash, no 5xx: {seen} in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["block"]:
        decode_block(int(sys.argv[2]))
    else:
        main(*map(int, sys.argv[1:]))
