"""The whole way of the data, measured through the installed daemon, as ratios to polars alone in the same run.

python -m tests.benchmarks.pipeline [--quick]
"""

import io
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from tests.benchmarks.http_handlers import requests_per_second, serve_empty
from tests.benchmarks.load import Load, post
from tests.benchmarks.table import Row, print_rows
from tests.e2e.processes import Client, daemon, free_port, kldrift

FEATURES = [f"f{i}" for i in range(50)]
SCHEMA = dict.fromkeys(FEATURES, pl.Float64)


def data(rows: int, seed: int = 0) -> pl.DataFrame:
    values = np.random.default_rng(seed).normal(size=(rows, len(FEATURES)))
    return pl.DataFrame(values, schema=FEATURES)


def ndjson(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_ndjson(buffer)
    return buffer.getvalue()


def arrow(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_ipc_stream(buffer)
    return buffer.getvalue()


def configuration(folder: Path, port: int, source: str = "") -> Path:
    """50 numeric features with the default bins, three windows."""
    data(20_000, seed=1).write_parquet(folder / "reference.parquet")
    features = "\n".join(f"      {name}: {{kind: numeric}}" for name in FEATURES)
    path = folder / "kldrift.yaml"
    path.write_text(
        f"""server: {{listen: "127.0.0.1:{port}"}}
state: none
log: {{level: warning}}
{f"sources: {{live: {source}}}" if source else ""}
monitors:
  bench:
    {"sources: [live]" if source else ""}
    reference: {{data: reference.parquet}}
    windows: [5m, 1h, 24h]
    features:
{features}
"""
    )
    return path


def best(action: Callable[[], float], times: int) -> float:
    return min(action() for _ in range(times))


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def polars_alone(path: Path) -> float:
    """Seconds of `polars.read_ndjson` on a file, in a fresh process, the import not counted."""
    code = (
        "import sys, time, polars as pl\n"
        f"schema = {{f'f{{i}}': pl.Float64 for i in range({len(FEATURES)})}}\n"
        "open(sys.argv[1], 'rb').read()\n"
        "started = time.perf_counter(); table = pl.read_ndjson(sys.argv[1], schema=schema)\n"
        "print(time.perf_counter() - started)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def file_to_counts(folder: Path, rows: int, times: int) -> Row:
    table = data(rows)
    (folder / "live.ndjson").write_bytes(ndjson(table))
    config = configuration(folder, free_port(), "{type: file, path: live.ndjson, format: ndjson}")
    samples = rows * len(FEATURES)
    ours, alone, whole = [], [], []
    for _ in range(times):  # in turns: the machine's speed drifts
        alone.append(polars_alone(folder / "live.ndjson"))
        started = time.perf_counter()
        done = kldrift("run", "--once", "-c", str(config))
        whole.append(time.perf_counter() - started)
        found = re.search(r"([\d,]+) rows in ([\d.]+) s", done.stdout)
        assert found is not None, done.stderr
        assert int(found[1].replace(",", "")) == rows
        ours.append(float(found[2]))
    (folder / "live.ndjson").unlink()
    ratio = min(alone) / min(ours)
    return Row(
        f"NDJSON file of {rows:,} rows × 50 to counts, `run --once`",
        f"{samples / min(ours) / 1e6:.1f} M samples/s ({min(whole):.1f} s with start and table)",
        f"{samples / min(alone) / 1e6:.1f} M samples/s",
        "polars.read_ndjson alone",
        ratio,
        0.8,
    )


def over_http(
    client: Client, folder: Path, name: str, media: str, body: bytes, rows: int, connections: int, seconds: float
) -> Load:
    """Load, and what was counted is what was sent."""
    path = folder / name
    path.write_bytes(body)
    before = client.metric("kldrift_samples_counted_total", monitor="bench") or 0
    load = post(client.port, "/v1/monitors/bench/samples", media, path, connections, seconds)
    counted = (client.metric("kldrift_samples_counted_total", monitor="bench") or 0) - before
    assert counted == load.posts * rows, f"{counted} rows counted, {load.posts * rows} sent"
    assert json.loads(load.answer)["accepted"] == rows
    return load


def http_rows(folder: Path, seconds: float, alone_rate: float) -> list[Row]:
    port = free_port()
    rows_out = []
    with daemon(configuration(folder, port), port, folder / "log") as client:
        big, small = data(2000), data(200)
        load = over_http(client, folder, "a", "application/x-ndjson", ndjson(big), 2000, 4, seconds)
        rate = load.posts_per_second * 2000 * 50
        rows_out.append(
            Row(
                "the same over HTTP, posts of 2,000 rows",
                _m(rate),
                _m(alone_rate),
                "polars alone",
                rate / alone_rate,
                0.5,
            )
        )
        load = over_http(client, folder, "b", "application/x-ndjson", ndjson(small), 200, 16, seconds)
        rate = load.posts_per_second * 200 * 50
        rows_out.append(Row("… posts of 200 rows", _m(rate), "5.0 M samples/s", "the figure to reach", rate / 5e6, 1.0))
        load = over_http(client, folder, "c", "application/vnd.apache.arrow.stream", arrow(big), 2000, 4, seconds)
        rate = load.posts_per_second * 2000 * 50
        rows_out.append(
            Row(
                "Arrow IPC over HTTP, posts of 2,000 rows",
                _m(rate),
                "80 M samples/s",
                "the figure to reach",
                rate / 80e6,
                1.0,
            )
        )
        rows_out += one_row_posts(client, ndjson(data(1)), seconds)
    return rows_out


def one_row_posts(client: Client, row: bytes, seconds: float) -> list[Row]:
    """Rows of 50 numbers one by one, beside empty handlers on the same server; in turns, the best of three."""
    if shutil.which("wrk") is None:
        print("one-row posts are left out: they take wrk (Debian's package)", file=sys.stderr)
        return []
    receiving, sending = multiprocessing.Pipe(duplex=False)
    empty = multiprocessing.get_context("spawn").Process(target=serve_empty, args=(sending,), daemon=True)
    empty.start()
    rows_out = []
    try:
        ports = {"ours": client.port, **dict(zip(("plain ASGI", "starlette route"), receiving.recv(), strict=True))}
        for connections in (1, 16, 64, 256):
            rates = dict.fromkeys(ports, 0.0)
            for _ in range(3):
                for name, port in ports.items():
                    rate = requests_per_second(
                        port, max(1, round(seconds / 3)), connections, row, "/v1/monitors/bench/samples"
                    )
                    rates[name] = max(rates[name], rate)
            rows_out += [
                Row(
                    f"one-row posts, {connections} connections",
                    f"{rates['ours']:,.0f} requests/s",
                    f"{rates[name]:,.0f} requests/s",
                    f"an empty handler on the same server, {name}",
                    rates["ours"] / rates[name],
                    0.8,
                )
                for name in ("plain ASGI", "starlette route")
            ]
    finally:
        empty.terminate()
        empty.join()
    return rows_out


def _m(rate: float) -> str:
    return f"{rate / 1e6:.1f} M samples/s"


def start_to_ready(folder: Path) -> list[Row]:
    """Seconds from the command to `/-/ready`, with the kernels' cache empty and then warm."""
    rows_out = []
    port = free_port()
    config = configuration(folder, port)
    with tempfile.TemporaryDirectory() as cache:
        before = os.environ.get("KLDRIFT_CACHE_DIR")
        os.environ["KLDRIFT_CACHE_DIR"] = cache
        try:
            for words, limit in (("empty kernel cache", 20.0), ("warm", 3.0), ("warm", 3.0)):
                started = time.perf_counter()
                with daemon(config, port, folder / "log"):
                    took = time.perf_counter() - started
                row = Row(
                    f"start to ready, {words}",
                    f"{took:.1f} s",
                    f"{limit:.0f} s",
                    "the figure to reach",
                    limit / took,
                    1.0,
                )
                rows_out.append(row)
        finally:
            if before is None:
                del os.environ["KLDRIFT_CACHE_DIR"]
            else:
                os.environ["KLDRIFT_CACHE_DIR"] = before
    return [rows_out[0], rows_out[2]]


def rows(quick: bool = False) -> list[Row]:
    """Everything, for the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = file_to_counts(folder, 20_000 if quick else 400_000, 1 if quick else 3)
        alone_rate = float(first.peer.split()[0]) * 1e6
        return [first, *http_rows(folder, 1 if quick else 5, alone_rate), *start_to_ready(folder)]


if __name__ == "__main__":
    print_rows(rows("--quick" in sys.argv))
