"""``kldrift compare`` of two Parquet files, cold, beside what others need: ``python -m tests.benchmarks.compare``.

Each is a process of its own, its start counted: the installed command from the files to its answer, a peer in its own
environment (``peers-requirements.txt``) from the same columns as arrays (``compare_peer.py``), which spares it the
decoding. A peer gets a tenth of the rows, or it would take minutes: its work is counted ten times, its start once.
kldrift runs just before and just after each peer, and the faster counts. Every figure is checked. Beside the time is
what the processors spent, which other work on the machine hardly changes.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tests.benchmarks.compare_peer import WAYS
from tests.benchmarks.peers import N_COLUMNS, NotInstalled, check_figures, environment, requirements, write_columns
from tests.benchmarks.peers_measure import QUIET, column_names
from tests.benchmarks.table import Row, print_rows

KLDRIFT = str(Path(sys.executable).with_name("kldrift"))
#: Seconds that the comparison of a million rows may take, start included.
REACH_SECONDS = 5.0
#: How far a peer is to be left behind.
REACH_RATIO = 20.0
PEER_PART = 10


def write_files(directory: Path, n_rows: int) -> None:
    """The columns as Parquet files, and the part of them that the peers get as arrays."""
    reference, live = write_columns(directory, n_rows)
    for name, columns in (("reference", reference), ("live", live)):
        frame = pl.DataFrame(dict(zip(column_names(columns), columns, strict=True)))
        frame.write_parquet(directory / f"{name}.parquet")
        np.save(directory / f"{name}.npy", columns[:, : n_rows // PEER_PART])


def children_seconds() -> float:
    """What the processors spent on the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ours(directory: Path, n_rows: int) -> tuple[float, float]:
    """Seconds from the start of the process to its end, and of the processors; with its figures checked."""
    began, used = time.perf_counter(), children_seconds()
    done = subprocess.run(
        [KLDRIFT, "compare", "reference.parquet", "live.parquet", "--json"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, used = time.perf_counter() - began, children_seconds() - used
    answer = json.loads(done.stdout)
    assert answer["rows"] == n_rows
    figures = {feature["feature"]: feature["divergences"]["kl"] for feature in answer["features"]}
    check_figures("kldrift", "kl", figures)
    return seconds, used


def theirs(peer: str, python: Path, directory: Path) -> tuple[float, dict[str, Any]]:
    """Seconds that a peer would take for all rows, and what it said."""
    script = Path(__file__).with_name("compare_peer.py")
    settings = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    began = time.perf_counter()
    done = subprocess.run(
        [str(python), str(script), peer, str(directory)],
        env=settings | QUIET | {"HOME": str(directory)},
        cwd=directory,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{peer} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    check_figures(f"{peer} {answer['version']}", answer["quantity"], answer["figures"])
    return seconds + (PEER_PART - 1) * answer["work_seconds"], answer


def rows(n_rows: int = 1_000_000) -> list[Row]:
    """A row for the time itself, and one for each peer."""
    wanted, found = requirements(), []
    what = f"compare {n_rows:,} × {N_COLUMNS} with as many, cold"
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_files(directory, n_rows)
        ours(directory, n_rows)  # compiles the kernels where they are not yet in the cache
        best = (math.inf, math.inf)
        for peer in WAYS:
            try:
                python = environment(peer, wanted[peer])
            except NotInstalled as problem:
                found.append(Row(what, "", f"not installed: {problem}", peer, math.nan, REACH_RATIO))
                continue
            before = ours(directory, n_rows)
            seconds, answer = theirs(peer, python, directory)
            mine = min(before, ours(directory, n_rows))
            best = min(best, mine)
            who = f"{peer} {answer['version']}, {answer['what']}, from a tenth of the rows"
            found.append(Row(what, _text(mine), f"{seconds:.0f} s", who, seconds / mine[0], REACH_RATIO))
        if best[0] < math.inf:
            found.insert(0, Row(what, _text(best), f"{REACH_SECONDS:.0f} s", "to reach", REACH_SECONDS / best[0], 1.0))
    return found


def _text(seconds: tuple[float, float]) -> str:
    return f"{seconds[0]:.1f} s ({seconds[1]:.1f} s of the processors)"


def main() -> int:
    """Print the table; 1 when a peer is missing from it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.compare", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="200,000 rows: does it work?")
    found = rows(200_000) if parser.parse_args().quick else rows()
    print_rows(found)
    return int(any(math.isnan(row.ratio) for row in found))


if __name__ == "__main__":
    sys.exit(main())
