"""Nothing compiles after the warm-up, and the cache can only ever save time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kldrift.kernels import compilation
from kldrift.kernels.bin_table import CategoryBins, NumericBins, make_bin_table
from kldrift.kernels.cache_directory import find_place
from kldrift.kernels.divergence import compare_counts, compare_probabilities
from kldrift.kernels.fill import fill_counts
from kldrift.records.divergences import N_DIVERGENCES

ROOT = Path(__file__).parents[2]

# Only two kernels, because each of these processes compiles with an empty cache.
SCRIPT = """
import json, shutil, sys
from kldrift.kernels import compilation
from kldrift.kernels.divergence import compare_probabilities
for name in set(compilation._kernels) - {"compare_vectors", "int32_address"}:
    del compilation._kernels[name]
directory = compilation.PLACE.directory
if "vanish" in sys.argv:
    shutil.rmtree(directory)
    directory.write_text("a file where the directory was")
compilation.warm_up()
statistics = compilation._kernels["compare_vectors"][0].stats
print(json.dumps({
    "directory": directory and str(directory),
    "problem": compilation.PLACE.problem,
    "hits": len(statistics.cache_hits),
    "kl": compare_probabilities([0.4, 0.6], [0.5, 0.5])[0],
}))
"""


def in_new_process(directory, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, *arguments],
        cwd=ROOT,
        env={**environment, "KLDRIFT_CACHE_DIR": str(directory)},
        check=True,
        timeout=120,
        capture_output=True,
        text=True,
    )
    result = json.loads(done.stdout)
    assert result["kl"] == pytest.approx(0.0201355, abs=5e-8)
    return result


def test_nothing_compiles_after_the_warm_up() -> None:
    compilation.warm_up()
    assert compilation.warm_up() == 0.0
    before = compilation.compiled_signatures()
    assert before["fill_parallel"] == before["compare_parallel"] == 1
    features = [NumericBins(np.linspace(0, 1, 11)), CategoryBins(np.arange(4, dtype=np.int32), 4)]
    table = make_bin_table(features)
    n_cells = int(table.offsets[-1])
    for n_rows in (3, 100_000):
        columns = [np.zeros(n_rows), np.zeros(n_rows, dtype=np.int32)]
        slots = np.zeros(n_rows, dtype=np.int32)
        counts = np.zeros((2, n_cells), dtype=np.int64)
        reference = np.full(n_cells, 0.1)
        for writeable in (True, False):
            for array in (*columns, slots, reference):
                array.flags.writeable = writeable
            fill_counts(table, columns, None, counts)
            fill_counts(table, columns, slots, counts)
            live = counts.copy()
            live.flags.writeable = writeable
            out = np.empty((2, 2, N_DIVERGENCES))
            compare_counts(live, reference, table.offsets, 0.5, 0.0, out)
            compare_counts(live, reference, table.offsets.copy(), np.float64(1), 0, out, kl_only=True)
            compare_probabilities(reference, reference)
    wide = np.ones((2, 60_000), dtype=np.int64)
    offsets = np.arange(0, 60_001, 20)
    compare_counts(wide, np.full(60_000, 0.05), offsets, 0.5, 0.0, np.empty((2, 3000, N_DIVERGENCES)))
    assert compilation.compiled_signatures() == before


@pytest.mark.slow
def test_a_second_process_loads_what_the_first_compiled(tmp_path: Path) -> None:
    first = in_new_process(tmp_path)
    assert Path(first["directory"]).parent == tmp_path
    assert first["hits"] == 0
    assert in_new_process(tmp_path)["hits"] == 1


@pytest.mark.slow
def test_a_damaged_cache_is_compiled_anew(tmp_path: Path) -> None:
    in_new_process(tmp_path)
    for file in tmp_path.rglob("*.nb?"):
        file.write_bytes(b"not what was written")
    assert in_new_process(tmp_path)["hits"] == 0


@pytest.mark.slow
def test_no_writable_place_costs_only_the_cache(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    result = in_new_process(blocked / "below")
    assert result["directory"] is None
    assert "Not a directory; set KLDRIFT_CACHE_DIR" in result["problem"]
    assert result["hits"] == 0


def a_directory(root: Path) -> Path:
    """The directory that a process would keep its kernels in, as another user could have made it before."""
    assert compilation.PLACE.directory is not None
    directory = root / compilation.PLACE.directory.name
    directory.mkdir(mode=0o700)
    return directory


@pytest.mark.parametrize("whose", ["written by all", "another's", "another's file", "a link"])
def test_kernels_that_somebody_else_may_have_written_are_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    if whose.startswith("another's") and os.geteuid() != 0:
        pytest.skip("to give a file to another user takes root")
    directory = a_directory(tmp_path)
    file = directory / "below" / "kernel.nbi"
    file.parent.mkdir()
    file.touch()
    match whose:
        case "written by all":
            directory.chmod(0o777)
        case "another's":
            os.chown(directory, 65_534, 65_534)
        case "another's file":
            os.chown(file, 65_534, 65_534)
        case _:
            directory.rename(tmp_path / "elsewhere")
            directory.symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("KLDRIFT_CACHE_DIR", str(tmp_path))
    place = find_place()
    assert place.directory is None
    assert place.reached_by == ""
    assert place.problem.startswith(f"{directory}: ")
    assert "KLDRIFT_CACHE_DIR" in place.problem


def test_a_directory_that_others_may_read_is_closed_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = a_directory(tmp_path)
    directory.chmod(0o755)
    monkeypatch.setenv("KLDRIFT_CACHE_DIR", str(tmp_path))
    assert find_place().directory == directory
    assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc")
def test_a_directory_that_takes_its_name_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLDRIFT_CACHE_DIR", str(tmp_path))
    place = find_place()
    assert place.directory is not None
    place.directory.rename(tmp_path / "moved")
    place.directory.mkdir()
    assert Path(place.reached_by).samefile(tmp_path / "moved")


@pytest.mark.slow
def test_a_cache_that_vanishes_before_it_is_written_is_no_failure(tmp_path: Path) -> None:
    assert in_new_process(tmp_path, "vanish")["hits"] == 0
