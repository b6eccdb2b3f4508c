"""``kldrift backtest`` of the electricity market, cold: ``python -m tests.benchmarks.backtest``.

2.5 years of half hours, 45,312 rows, eight features over windows of 4 and 12 weeks: the installed command from the
files to its answer, its start counted. The best of three; the figures are checked.
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.table import Row, print_rows
from tests.conftest import SHARED

KLDRIFT = str(Path(sys.executable).with_name("kldrift"))
DATA = SHARED / "data" / "electricity.csv.gz"
ROWS = 45_312
#: Seconds that it may take, start included.
REACH_SECONDS = 5.0

CONFIG = """
state: none
monitors:
  electricity:
    timestamp: {field: time, unit: iso8601}
    allowed_lateness: 1h
    windows: [WINDOWS]
    reference: {learn: 17520}
    features:
      nswprice: {kind: numeric}
      nswdemand: {kind: numeric}
      vicprice: {kind: numeric}
      vicdemand: {kind: numeric}
      transfer: {kind: numeric}
      period: {kind: numeric}
      day: {kind: numeric, bins: {method: discrete}}
      class: {kind: categorical}
"""


def seconds(folder: Path) -> tuple[float, int]:
    """From the start of the process to its end, and the steps that were evaluated."""
    began = time.perf_counter()
    done = subprocess.run(
        [KLDRIFT, "backtest", "-c", "kldrift.yaml", str(DATA), "--json", "--html", "out.html"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    took = time.perf_counter() - began
    answer = json.loads(done.stdout)
    assert answer["rows"] == ROWS
    # two features that were constant for a year come alive behind the reference, and stay so
    standing = set(answer["proposal"]["standing"])
    assert {"vicprice", "vicdemand"} <= standing
    assert all(f["warnings"] == 0 for f in answer["features"] if f["name"] in ("day", "period", "class"))
    return took, answer["steps"]


def rows(repeats: int = 3) -> list[Row]:
    """A row for each length of the smallest window."""
    found = []
    for windows in ("4w, 12w", "1d, 4w, 12w"):
        with tempfile.TemporaryDirectory() as name:
            (Path(name) / "kldrift.yaml").write_text(CONFIG.replace("WINDOWS", windows))
            best, steps = math.inf, 0
            for _ in range(repeats):
                took, steps = seconds(Path(name))
                best = min(best, took)
        what = f"backtest {ROWS:,} rows × 8, windows {windows}, {steps:,} steps, cold"
        limit = REACH_SECONDS if windows == "4w, 12w" else None
        beside = f"{REACH_SECONDS:.0f} s"
        found.append(Row(what, f"{best:.1f} s", beside, "to reach", REACH_SECONDS / best, 1.0 if limit else None))
    return found


def main() -> int:
    """Print the table; 1 where the limit is not kept."""
    found = rows()
    print_rows(found)
    return int(any(row.reach is not None and row.ratio < row.reach for row in found))


if __name__ == "__main__":
    sys.exit(main())
