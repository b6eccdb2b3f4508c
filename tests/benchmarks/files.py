"""Files to counts beside polars' reading of the same file: ``python -m tests.benchmarks.files [--quick]``.

What `kldrift run --once` does, in a process of its own, from the first read to the last count; polars reads the file
with its types given in another one, all cores in one call, the import not counted. In turns, the least of each: the
machine's speed drifts. Every count is compared with numpy's.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl

from kldrift.daemon.allocator import give_back_early
from tests.benchmarks.table import Row, print_rows

NAMES = [f"f{i}" for i in range(50)]
CATEGORIES = [f"category_{i}" for i in range(30)]


def table_of(what: str, n_rows: int, seed: int) -> pl.DataFrame:
    """50 columns of what there is to be in them."""
    rng = np.random.default_rng(seed)
    floats = rng.normal(size=(n_rows, 50))
    match what:
        case "50 floats of 4 decimals":
            return pl.DataFrame(floats.round(4), schema=NAMES)
        case "50 integers":
            return pl.DataFrame(rng.integers(-1_000_000, 1_000_000, size=(n_rows, 50)), schema=NAMES)
        case "40 floats, 10 categories":
            words = [pl.Series(name, rng.choice(CATEGORIES, n_rows)) for name in NAMES[40:]]
            return pl.DataFrame(floats[:, :40], schema=NAMES[:40]).with_columns(words)
        case _:
            return pl.DataFrame(floats, schema=NAMES)


CASES = [
    ("ndjson", "50 floats of 17 digits", 2.5),
    ("ndjson", "50 floats of 4 decimals", 2.5),
    ("ndjson", "50 integers", 2.5),
    ("ndjson", "40 floats, 10 categories", 2.5),
    ("csv", "50 floats of 17 digits", 1.5),
    ("csv", "50 floats of 4 decimals", 1.5),
]


def write(table: pl.DataFrame, path: Path) -> None:
    """In the format that the name tells."""
    table.write_ndjson(path) if path.suffix == ".ndjson" else table.write_csv(path)


def configuration(folder: Path, what: str, data_format: str) -> Path:
    """Default bins, three windows."""
    reference = table_of(what, 20_000, seed=1)
    reference.write_parquet(folder / "reference.parquet")
    kinds = {name: "categorical" if reference.schema[name] == pl.String else "numeric" for name in NAMES}
    path = folder / "kldrift.yaml"
    path.write_text(
        f"""state: none
sources: {{live: {{type: file, path: live.{data_format}, format: {data_format}}}}}
monitors:
  bench:
    sources: [live]
    reference: {{data: reference.parquet}}
    windows: [5m, 1h, 24h]
    features:
"""
        + "".join(f"      {name}: {{kind: {kind}}}\n" for name, kind in kinds.items())
    )
    return path


def count(config: Path) -> None:
    """Print seconds and counts."""
    give_back_early()
    from kldrift.config.load import load_config
    from kldrift.daemon.parts import run_once
    from kldrift.export.telemetry import Telemetry

    snapshot, rows, seconds, failures = run_once(load_config(config), Telemetry())
    assert not failures, failures
    (monitor,) = snapshot.monitors
    cells = [
        (None if feature.edges is None else feature.edges.tolist(), feature.cells, counts.tolist())
        for feature, counts in zip(monitor.features, np.split(monitor.counts[-1], monitor.offsets[1:-1]), strict=True)
    ]
    print(json.dumps({"rows": rows, "seconds": seconds, "cells": cells}))


def read(path: Path) -> None:
    """Print the seconds of polars alone."""
    schema = json.loads((path.parent / "types.json").read_text())
    types = {name: pl.Float64 if kind == "number" else pl.String for name, kind in schema.items()}
    path.read_bytes()
    start = perf_counter()
    table = pl.read_ndjson(path, schema=types) if path.suffix == ".ndjson" else pl.read_csv(path, schema=types)
    print(json.dumps({"rows": table.height, "seconds": perf_counter() - start}))


def in_new_process(way: str, path: Path) -> dict[str, Any]:
    """What a way prints."""
    command = [sys.executable, "-m", "tests.benchmarks.files", way, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check(found: dict[str, Any], table: pl.DataFrame) -> None:
    """Every count is right."""
    assert found["rows"] == table.height
    for (edges, cells, counts), column in zip(found["cells"], table.get_columns(), strict=True):
        if edges is None:
            tally = dict(column.value_counts().iter_rows())
            assert dict(zip(cells, counts, strict=True)) == {cell: tally.get(cell, 0) for cell in cells}
        else:
            values = column.to_numpy()
            inside = np.histogram(values, edges)[0].tolist()
            assert counts == [*inside, int((values < edges[0]).sum()), int((values > edges[-1]).sum()), 0, 0]


def rows(quick: bool = False) -> list[Row]:
    """Every case."""
    n_rows, times = (4_000, 1) if quick else (400_000, 5)
    found = []
    for data_format, what, reach in CASES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            config = configuration(folder, what, data_format)
            table = table_of(what, n_rows, seed=0)
            live = folder / f"live.{data_format}"
            write(table, live)
            types = {name: "text" if dtype == pl.String else "number" for name, dtype in table.schema.items()}
            (folder / "types.json").write_text(json.dumps(types))
            ours, alone = [], []
            for _ in range(times):
                alone.append(in_new_process("read", live)["seconds"])
                counted = in_new_process("count", config)
                check(counted, table)
                ours.append(counted["seconds"])
        n = n_rows * 50 / 1e6
        found.append(
            Row(
                f"{data_format.upper()} file of {n_rows:,} rows to counts, {what}",
                f"{n / min(ours):.1f} M values/s",
                f"{n / min(alone):.1f} M values/s",
                f"polars.read_{data_format} alone",
                min(alone) / min(ours),
                reach,
            )
        )
    return found


def main() -> None:
    """Print the table; or do one of its parts."""
    match sys.argv[1:]:
        case ["count", path]:
            count(Path(path))
        case ["read", path]:
            read(Path(path))
        case arguments:
            print_rows(rows("--quick" in arguments))


if __name__ == "__main__":
    main()
