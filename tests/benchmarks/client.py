"""What the Python client costs a model server, beside Scouter's queue: ``python -m tests.benchmarks.client [--quick]``.

A daemon as users run it counts the rows while they are logged; how many it counted is compared with how many were
logged. Every measurement has a process of its own; ours and the peer's come in turns, and medians are shown.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.peers import NotInstalled, environment, requirements
from tests.benchmarks.pipeline import configuration
from tests.benchmarks.table import Row, print_rows
from tests.e2e.processes import Client, daemon, free_port

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("client_measure.py")
PEER = "scouter-ml"
#: Rows a second of a busy model server; 0: as fast as the loop goes.
RATES = {"in a loop without a pause": 0, "at 1,000 a second": 1000}


def measured(python: Path, who: str, n_rows: int, rate: float, *more: str) -> dict[str, Any]:
    """What ``client_measure.py`` printed."""
    command = [str(python), str(SCRIPT), who, str(n_rows), str(rate), *more]
    settings = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    return found


def ours(served: Client, n_rows: int, rate: float) -> dict[str, Any]:
    """One run, every row of it counted by the daemon."""
    before = served.metric("kldrift_samples_counted_total", monitor="bench") or 0
    found = measured(Path(sys.executable), "kldrift", n_rows, rate, served.url)
    counted = (served.metric("kldrift_samples_counted_total", monitor="bench") or 0) - before
    assert counted == n_rows + 1, f"{counted} rows counted, {n_rows + 1} logged"
    return found


def median(runs: list[dict[str, Any]], figure: str) -> float:
    return statistics.median(run[figure] for run in runs)


def shown(runs: list[dict[str, Any]]) -> str:
    figures = [median(runs, name) / 1000 for name in ("median", "mean", "p99")]
    return "{:.2f} · {:.2f} · {:.1f} µs".format(*figures)


def call_rows(served: Client, n_rows: int, rounds: int) -> tuple[list[Row], list[dict[str, Any]]]:
    """A row for each rate; and the runs without a pause."""
    try:
        peer = environment(PEER, requirements()[PEER])
    except NotInstalled as problem:
        print(f"{PEER} could not be installed: {problem}", file=sys.stderr)
        peer = None
    found, flat_out = [], []
    for words, rate in RATES.items():
        n = n_rows if rate == 0 else n_rows // 8
        mine, theirs, copies = [], [], []
        for _ in range(rounds):
            mine.append(ours(served, n, rate))
            copies.append(measured(Path(sys.executable), "copy", n, rate))
            if peer is not None:
                theirs.append(measured(peer, "scouter", n, rate))
        what = f"a row of 50 handed over, {words}: median · mean · p99"
        if theirs:
            name = f"{PEER} {theirs[0]['version']}, insert(Features(row)), no server; ratio of the medians"
            ratio = median(theirs, "median") / median(mine, "median")
            found.append(Row(what, shown(mine), shown(theirs), name, ratio, 1.0))
        else:
            found.append(Row(what, shown(mine), "not installed", PEER, math.nan, 1.0))
        floor = median(copies, "median") / median(mine, "median")
        found.append(Row("…", shown(mine), shown(copies), "dict(row) alone; ratio of the medians", floor))
        if rate == 0:
            flat_out = mine
            mean = median(mine, "mean")
            found.append(Row("… mean", f"{mean / 1000:.2f} µs", "2 µs", "the figure to reach", 2000 / mean, 1.0))
    return found, flat_out


def rows(quick: bool = False) -> list[Row]:
    """What a call costs, and how many rows a second one process brings to the daemon."""
    n_rows, rounds = (4_000, 1) if quick else (40_000, 5)
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = configuration(folder, port)
        config.write_text(config.read_text().replace("state: none", "state: {path: state.db}"))
        with daemon(config, port, folder / "log") as served:
            ours(served, 1000, 0)  # warm
            found, runs = call_rows(served, n_rows, rounds)
    alone = measured(Path(sys.executable), "json", n_rows // 4, 0)
    rate, alone_rate = n_rows / median(runs, "whole"), n_rows / 4 / alone["seconds"]
    found.append(
        Row(
            "rows of 50 a second from one process, logged to stored, the daemon on the same cores",
            f"{rate:,.0f} ({median(runs, 'cpu') / n_rows * 1e6:.0f} µs of processor time a row)",
            f"{alone_rate:,.0f}",
            "json.dumps alone",
            rate / alone_rate,
        )
    )
    return found


if __name__ == "__main__":
    print_rows(rows("--quick" in sys.argv))
