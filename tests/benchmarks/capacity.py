"""What a feature costs: memory, state, evaluation, commit and scrape by the number of features, for planning.

python -m tests.benchmarks.capacity [--quick]     (three windows, default bins, a state; half a minute each)
"""

import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.footprint import resident_mb, wide
from tests.benchmarks.load import post
from tests.e2e.processes import Client, daemon, free_port

SIZES = (10, 100, 1000, 3000)


def cost(folder: Path, features: int, seconds: float) -> str:
    """A row of the table for one number of features."""
    port = free_port()
    config = wide(folder, port, features, "[kl, psi]")
    config.write_text(f"state: {{path: state.db}}\n{config.read_text()}")
    with daemon(config, port, folder / "log") as client:
        url = "/v1/monitors/wide/samples"
        sent = post(port, url, "application/x-ndjson", folder / "body", 1, seconds)
        memory = resident_mb(client)
        started = time.perf_counter()
        _, text = client.request("/metrics")
        scraped = time.perf_counter() - started
        n_series = sum(line.startswith(b"kldrift_") for line in text.splitlines())
        evaluation, commit = (mean_ms(client, name) for name in ("evaluation", "commit"))
    state = sum(path.stat().st_size for path in folder.glob("state.db*"))
    assert sent.posts > 0
    return (
        f"| {features:,} | {memory:.0f} MB | {state / 1e6:.1f} MB | {evaluation:.1f} ms | {commit:.1f} ms |"
        f" {n_series:,} | {1e3 * scraped:.0f} ms, {len(text) / 1e6:.1f} MB |"
    )


def mean_ms(client: Client, what: str) -> float:
    """Mean of a duration that the daemon exports."""
    name = f"kldrift_{what}_duration_seconds"
    total, count = client.metric(f"{name}_sum"), client.metric(f"{name}_count")
    assert total is not None
    assert count
    return 1e3 * total / count


def main(quick: bool) -> None:
    """Print the table."""
    print("| features × 3 windows | resident memory | state file | evaluation | commit | series | scrape |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for features in SIZES[: 2 if quick else None]:
        with tempfile.TemporaryDirectory() as name:
            print(cost(Path(name), features, 3 if quick else 30), flush=True)


if __name__ == "__main__":
    main("--quick" in sys.argv)
