"""Every benchmark, as one table.

python -m tests.benchmarks [--quick]     (in full ten minutes of load on one daemon, and Evidently on a million rows)

Each row is measured beside a peer, or a figure to reach, in the same run; what is counted is checked.
"""

import platform
import sys
from pathlib import Path

from tests.benchmarks import (
    backtest,
    bounds,
    client,
    commits,
    compare,
    decode,
    files,
    footprint,
    kafka,
    kernels,
    pages,
    peers,
    pipeline,
)
from tests.benchmarks.table import print_rows


def main() -> None:
    """Print the machine and the table."""
    quick = "--quick" in sys.argv
    described = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    cpu = f"{len(described)} × {described[0].split(':')[1].strip()}" if described else "?"
    print(f"{platform.machine()}, {cpu}, Python {platform.python_version()}\n")
    rows = [*kernels.rows(), *bounds.rows(), *decode.rows(quick), *files.rows(quick)]
    rows += [*pipeline.rows(quick), *footprint.rows(quick)]
    rows += [*commits.rows(quick), *kafka.rows(quick), *client.rows(quick)]
    rows += [
        *pages.rows(quick),
        *backtest.rows(1 if quick else 3),
        *(compare.rows(200_000) if quick else compare.rows()),
    ]
    rows += peers.rows(20_000, repeats=1, seconds=0.1) if quick else peers.rows()
    print_rows(rows)


if __name__ == "__main__":
    main()
