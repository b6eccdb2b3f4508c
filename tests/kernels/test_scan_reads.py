"""The kernels that read rows read what they may: compiled as interpreted, and no byte that is not there."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from kldrift.kernels import compilation
from tests.kernels import scan_csv_scenario, scan_scenario

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.parametrize("scenario", [scan_scenario, scan_csv_scenario], ids=["json", "csv"])


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    compilation.warm_up()


def in_new_process(
    scenario: ModuleType, out: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", scenario.__name__, str(out), *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=200,
        check=False,
        capture_output=True,
    )


def test_interpreted_equals_compiled_and_stays_within_bounds(scenario: ModuleType, tmp_path: Path) -> None:
    done = in_new_process(scenario, tmp_path / "interpreted.npz", NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0, done.stderr.decode()
    with np.load(tmp_path / "interpreted.npz") as interpreted:
        compiled = scenario.results(scenario.INTERPRETED)
        assert interpreted.keys() == compiled.keys()
        for name, array in compiled.items():
            np.testing.assert_array_equal(interpreted[name], array, err_msg=name, strict=True)
    assert len(compiled["times"]) > 50
    assert len(compiled["left"]) > 50


def test_no_byte_is_read_behind_the_padding(scenario: ModuleType, tmp_path: Path) -> None:
    done = in_new_process(scenario, tmp_path / "guarded.npz", "guard")
    assert done.returncode == 0, done.stderr.decode()
    with np.load(tmp_path / "guarded.npz") as guarded:
        for name, array in scenario.results(scenario.GUARDED).items():
            np.testing.assert_array_equal(guarded[name], array, err_msg=name, strict=True)


def test_reading_behind_the_padding_would_be_seen(scenario: ModuleType, tmp_path: Path) -> None:
    assert in_new_process(scenario, tmp_path / "overrun.npz", "guard", "overrun").returncode == -signal.SIGSEGV
