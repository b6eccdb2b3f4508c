"""The whole way of the data, measured through the installed daemon, as ratios to polars alone in the same run.

python -m tests.benchmarks.pipeline [--quick]
"""

import io
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from tests.benchmarks import files
from tests.benchmarks.http_handlers import requests_per_second, serve_empty
from tests.benchmarks.load import Load, post
from tests.benchmarks.table import Row, print_rows
from tests.e2e.processes import Client, daemon, free_port

FEATURES = [f"f{i}" for i in range(50)]


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


def polars_alone(folder: Path, rows: int, times: int) -> float:
    """Values a second of `polars.read_ndjson` on a file, in a process of its own."""
    live = folder / "live.ndjson"
    table = data(rows)
    live.write_bytes(ndjson(table))
    (folder / "types.json").write_text(json.dumps(dict.fromkeys(FEATURES, "number")))
    seconds = min(files.in_new_process("read", live)["seconds"] for _ in range(times))
    live.unlink()
    return rows * len(FEATURES) / float(seconds)


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
                "NDJSON over HTTP, posts of 2,000 rows × 50",
                _m(rate),
                _m(alone_rate),
                "polars alone",
                rate / alone_rate,
                1.2,
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
        alone_rate = polars_alone(folder, 20_000 if quick else 400_000, 1 if quick else 3)
        return [*http_rows(folder, 1 if quick else 5, alone_rate), *start_to_ready(folder)]


if __name__ == "__main__":
    print_rows(rows("--quick" in sys.argv))
