"""Drift of 100,000 × 50 numbers against what others use for it: ``python -m tests.benchmarks.peers [--quick]``.

Each peer gets an environment of its own in ``.cache/peers`` (``peers-requirements.txt``) and a process of its own
(``peers_measure.py``), and starts from the same columns in memory, with its reference made beforehand. kldrift runs
just before and just after each peer, and the faster counts, so that other work on the machine hits both. Half of the
columns drift: every figure of every column is compared with what the normal distribution says.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kldrift.drift.monitor import Monitor
from kldrift.drift.references.data import build_references
from kldrift.kernels import compilation
from kldrift.records.samples import SampleBatch
from kldrift.records.snapshots import MonitorSnapshot
from kldrift.records.specs import FeatureSpec, MonitorSpec, WindowSpec
from tests.benchmarks.peers_measure import PEERS, QUIET, FloatArray, column_names, fastest
from tests.benchmarks.table import Row, print_rows

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".cache" / "peers"
REQUIREMENTS = Path(__file__).with_name("peers-requirements.txt")
HOUR_MS = 3_600_000
N_COLUMNS, SHIFT = 50, 0.3


class NotInstalled(Exception):
    """A peer's environment could not be made, and why."""


def expected_figures() -> dict[str, float]:
    """N(SHIFT, 1) against N(0, 1), by quantity; all but the mean are 0 without a shift."""
    return {
        "kl": SHIFT**2 / 2,
        "psi": SHIFT**2,
        "wasserstein": SHIFT,
        "ks": math.erf(SHIFT / 2 / math.sqrt(2)),
        "mean": SHIFT,
    }


def check_figures(who: str, quantity: str, figures: Mapping[str, float]) -> None:
    """Every column has a figure, near what is expected: sketches and coarse bins are allowed a quarter."""
    expected = expected_figures()[quantity]
    names = [f"x{i:02d}" for i in range(N_COLUMNS)]
    assert sorted(figures) == names, f"{who}: expected figures of {names}, got those of {sorted(figures)}"
    found = np.array([figures[name] for name in names])
    wanted = np.where(np.arange(N_COLUMNS) < N_COLUMNS // 2, expected, 0.0)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=expected / 4, err_msg=f"{who}: {quantity}")


def write_columns(directory: Path, n_rows: int) -> tuple[FloatArray, FloatArray]:
    """Reference and live columns, also as files; the first half of the live ones is shifted."""
    rng = np.random.default_rng(7)
    reference, live = rng.normal(size=(2, N_COLUMNS, n_rows))
    live[: N_COLUMNS // 2] += SHIFT
    np.save(directory / "reference.npy", reference)
    np.save(directory / "live.npy", live)
    return reference, live


# --- kldrift ---------------------------------------------------------------------------------------


class Ours:
    """A monitor with the default bins over the columns; each run counts them once, in an hour of its own."""

    def __init__(self, reference: FloatArray, live: FloatArray) -> None:
        features = tuple(FeatureSpec(name, "numeric") for name in column_names(reference))
        spec = MonitorSpec("peers", features, (WindowSpec("1h", HOUR_MS),))
        self._monitor = Monitor(spec, build_references(features, list(reference), 0, "benchmark"))
        self._live = live
        self._rows = np.ascontiguousarray(live.T)
        self._now_ms = 0

    def columns(self) -> MonitorSnapshot:
        """Columns that are contiguous, as the decoders leave them."""
        return self._drift(self._live)

    def row_major(self) -> MonitorSnapshot:
        """Rows that are contiguous: the columns are cut out first."""
        return self._drift(np.ascontiguousarray(self._rows.T))

    def _drift(self, columns: FloatArray) -> MonitorSnapshot:
        self._now_ms += 3 * HOUR_MS
        self._monitor.add(SampleBatch(columns.shape[1], tuple(columns)), "benchmark", self._now_ms)
        return self._monitor.evaluate(self._now_ms)

    def seconds(self, row_major: bool, repeats: int, seconds: float) -> float:
        """The fastest run, with its figures checked."""
        best, snapshot = fastest(self.row_major if row_major else self.columns, repeats, seconds)
        np.testing.assert_array_equal(snapshot.samples, np.full((1, N_COLUMNS), self._live.shape[1]))
        names = [feature.name for feature in snapshot.features]
        check_figures("kldrift", "kl", dict(zip(names, snapshot.divergences[0, :, 0].tolist(), strict=True)))
        return best


# --- the peers -------------------------------------------------------------------------------------


def requirements() -> dict[str, list[str]]:
    """What each peer's environment holds: a paragraph of the file each, the peer first."""
    found = {}
    for paragraph in REQUIREMENTS.read_text(encoding="utf-8").split("\n\n"):
        lines = [line for line in paragraph.splitlines() if line and not line.startswith("#")]
        if lines:
            found[lines[0].partition("==")[0].partition("[")[0]] = lines
    return found


def environment(peer: str, wanted: list[str]) -> Path:
    """The Python of the peer's environment, which is made unless it holds exactly `wanted` already.

    Raises
    ------
    NotInstalled
        with the last line of what went wrong
    """
    home = ENVIRONMENTS / peer
    python, stamp = home / "bin" / "python", home / "stamp"
    content = "\n".join([sys.version, *wanted])
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == content:
        return python
    shutil.rmtree(home, ignore_errors=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
    for command in ([sys.executable, "-m", "venv", str(home)], pip):
        print(f"{peer}: {' '.join(command[1:])}", file=sys.stderr)
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            lines = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
            raise NotInstalled(next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1]))
    stamp.write_text(content, encoding="utf-8")
    return python


def measured(peer: str, python: Path, directory: Path, repeats: int, seconds: float) -> dict[str, Any]:
    """What ``peers_measure.py`` printed, in a home that holds nothing of the user's."""
    script = Path(__file__).with_name("peers_measure.py")
    command = [str(python), "-I", str(script), peer, str(directory), str(repeats), str(seconds)]
    settings = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        command, env=settings | QUIET | {"HOME": str(directory)}, cwd=directory, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{peer}: {' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def rows(n_rows: int = 100_000, repeats: int = 3, seconds: float = 3.0) -> list[Row]:
    """A row for each way of each peer; one that could not be installed says why, and has no ratio."""
    compilation.warm_up()
    wanted, found = requirements(), []
    samples, size = n_rows * N_COLUMNS, f"drift of {n_rows:,} × {N_COLUMNS}"
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        ours = Ours(*write_columns(directory, n_rows))
        for peer in PEERS:
            try:
                python = environment(peer, wanted[peer])
            except NotInstalled as problem:
                found.append(Row(size, "", f"not installed: {problem}", wanted[peer][0], math.nan, 1.0))
                continue
            layouts = (False, True)
            before = [ours.seconds(row_major, repeats, seconds / 2) for row_major in layouts]
            answer = measured(peer, python, directory, repeats, seconds)
            after = [ours.seconds(row_major, repeats, seconds / 2) for row_major in layouts]
            for way in answer["ways"]:
                who = f"{peer} {answer['version']}, {way['what']}"
                check_figures(who, way["quantity"], way["figures"])
                our_seconds = min(before[way["row_major"]], after[way["row_major"]])
                what = f"{size}, row-major array" if way["row_major"] else size
                found.append(
                    Row(
                        what,
                        _m(samples / our_seconds),
                        _m(samples / way["seconds"]),
                        who,
                        way["seconds"] / our_seconds,
                        1.0,
                    )
                )
    return found


def _m(rate: float) -> str:
    millions = rate / 1e6
    return f"{millions:.0f} M samples/s" if millions >= 100 else f"{millions:.3g} M samples/s"


def main() -> int:
    """Print the table; 1 when a peer is missing from it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20,000 rows, once each: does it work?")
    found = rows(20_000, repeats=1, seconds=0.1) if parser.parse_args().quick else rows()
    print_rows(found)
    return int(any(math.isnan(row.ratio) for row in found))


if __name__ == "__main__":
    sys.exit(main())
