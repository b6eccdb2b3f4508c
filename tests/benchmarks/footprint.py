"""Memory and scrapes of a large daemon under load.

python -m tests.benchmarks.footprint [--quick]     (in full: ten minutes of load)
"""

import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import polars as pl

from tests.benchmarks.load import post
from tests.benchmarks.pipeline import ndjson
from tests.benchmarks.table import Row, print_rows
from tests.e2e.processes import Client, daemon, free_port


def wide(folder: Path, port: int, features: int, divergences: str) -> Path:
    """Numeric features with the default bins over three windows, and a body of 100 rows in `folder`/body."""
    names = [f"feature_{i:04d}" for i in range(features)]
    values = np.random.default_rng(0).normal(size=(5000, features))
    table = pl.DataFrame(values, schema=names)
    table.write_parquet(folder / "reference.parquet")
    (folder / "body").write_bytes(ndjson(table[:100]))
    path = folder / "kldrift.yaml"
    path.write_text(
        f"""server: {{listen: "127.0.0.1:{port}"}}
log: {{level: warning}}
engine: {{tick: 5s}}
monitors:
  wide:
    reference: {{data: reference.parquet}}
    windows: [5m, 1h, 24h]
    divergences: {divergences}
    features:
"""
        + "".join(f"      {name}: {{kind: numeric}}\n" for name in names)
    )
    return path


def resident_mb(client: Client) -> float:
    status = Path(f"/proc/{client.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def memory(folder: Path, seconds: float) -> list[Row]:
    """1,000 features and three windows: resident memory after start, and after load."""
    port = free_port()
    with daemon(wide(folder, port, 1000, "[kl, psi]"), port, folder / "log") as client:
        started = resident_mb(client)
        seen = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            post(port, "/v1/monitors/wide/samples", "application/x-ndjson", folder / "body", 4, min(30.0, seconds / 4))
            client.metrics()
            seen.append(resident_mb(client))
    half = len(seen) // 2
    growth = max(seen[half:]) - max(seen[:half] or seen)
    return [
        Row(
            "resident memory, 1,000 features × 3 windows, at start",
            f"{started:.0f} MB",
            "350 MB",
            "at most",
            350 / started,
            1.0,
        ),
        Row(
            f"… the most in {seconds / 60:.0f} min of load",
            f"{max(seen):.0f} MB",
            "350 MB",
            "at most",
            350 / max(seen),
            1.0,
        ),
        Row("… growth of the peak, second half against first", f"{growth:+.1f} MB", "flat", "to be", 1.0),
    ]


def scrapes(folder: Path, seconds: float) -> list[Row]:
    """50,000 series: seconds of a scrape while posts come in, text and gzip."""
    port = free_port()
    # 3 windows × (8 + 8 divergences) + 6 a feature, and the daemon's own: just under 50,000 series
    config = wide(folder, port, 900, "[kl, reverse_kl, js, psi, total_variation, hellinger, entropy, cross_entropy]")
    with daemon(config, port, folder / "log") as client:
        body, times, n_series = folder / "body", {"identity": [], "gzip": []}, 0
        load = threading.Thread(
            target=post, args=(port, "/v1/monitors/wide/samples", "application/x-ndjson", body, 4, seconds)
        )
        load.start()
        time.sleep(min(6.0, seconds / 2))  # an evaluation with samples
        while load.is_alive():
            for coding, took in times.items():
                request = urllib.request.Request(f"{client.url}/metrics", headers={"Accept-Encoding": coding})
                started = time.perf_counter()
                with urllib.request.urlopen(request, timeout=10) as answer:
                    text = answer.read()
                took.append(time.perf_counter() - started)
                if coding == "identity":
                    n_series = sum(not line.startswith(b"#") for line in text.splitlines())
            time.sleep(0.2)
        load.join()
    return [
        Row(
            f"scrape of {n_series:,} series while ingesting, {name}",
            f"median {1e3 * np.median(took):.0f} ms, worst of {len(took)} {1e3 * max(took):.0f} ms",
            "100 ms",
            "at most",
            0.1 / float(np.median(took)),
            1.0,
        )
        for name, took in (("plain", times["identity"]), ("gzip", times["gzip"]))
    ]


def rows(quick: bool = False) -> list[Row]:
    """Everything, for the table."""
    with tempfile.TemporaryDirectory() as name:
        return memory(Path(name), 10 if quick else 600) + scrapes(Path(name), 10 if quick else 40)


if __name__ == "__main__":
    print_rows(rows("--quick" in sys.argv))
