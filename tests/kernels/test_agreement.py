"""Serial, parallel, chunked and interpreted kernels give the same bits; all agree with the naive specification."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from kldrift.kernels import compilation, divergence, fill
from kldrift.kernels.bin_table import NumericBins, make_bin_table
from kldrift.records.divergences import N_DIVERGENCES
from tests import naive
from tests.kernels import scenario

ROOT = Path(__file__).parents[2]


def assert_same_bits(one, other) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name, strict=True)


def test_parallel_equals_serial_to_the_bit() -> None:
    assert_same_bits(scenario.results(1), scenario.results(2))


def test_row_chunks_equal_whole_columns() -> None:
    assert_same_bits(scenario.results(1, chunked=True), scenario.results(2, chunked=True))


def test_interpreted_equals_compiled_to_the_bit(tmp_path: Path) -> None:
    out = tmp_path / "interpreted.npz"
    subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.kernels.scenario", str(out)],
        cwd=ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        check=True,
        timeout=120,
    )
    with np.load(out) as interpreted:
        assert_same_bits(dict(interpreted), dict(scenario.results(1)))


def test_counts_and_divergences_equal_the_naive_ones() -> None:
    got = scenario.results(2)
    data = [column.tolist() for column in scenario.columns()]
    slots = scenario.slots().tolist()
    expected = [
        *naive.fill_counts(scenario.features(), data, None, 1),
        *naive.fill_counts(scenario.features(), data, slots, 3),
    ]
    np.testing.assert_array_equal(got["live"][:4], expected)
    offsets = got["offsets"]
    for window, counts in enumerate(got["live"].tolist()):
        for feature in range(len(offsets) - 1):
            own = slice(offsets[feature], offsets[feature + 1])
            q = got["reference"][own].tolist()
            for name, pseudocount, epsilon in (("smoothed", 0.5, 1e-4), ("raw", 0.0, 0.0)):
                np.testing.assert_allclose(
                    got[name][window, feature],
                    naive.compare_counts(counts[own], q, pseudocount, epsilon),
                    rtol=1e-13,
                    err_msg=f"{name} {window} {feature}",
                )
    np.testing.assert_array_equal(got["kl_only"][..., 0], got["raw"][..., 0])
    assert np.isnan(got["kl_only"][..., 1:]).all()


def test_two_python_threads_may_launch_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread pool aborts the process when it is entered twice; launches wait for one another."""
    monkeypatch.setattr(fill, "PARALLEL_FROM_SAMPLES", 0)
    monkeypatch.setattr(divergence, "PARALLEL_FROM_CELLS", 0)
    table = make_bin_table([NumericBins(np.linspace(0, 1, 11))] * 4)
    columns = [np.random.default_rng(1).random(2000)] * 4
    counts = [np.zeros((1, int(table.offsets[-1])), dtype=np.int64) for _ in range(2)]

    def work(own) -> None:
        out = np.empty((1, 4, N_DIVERGENCES))
        for _ in range(50):
            fill.fill_counts(table, columns, None, own)
            divergence.compare_counts(own, np.full(own.size, 1 / 13), table.offsets, 0.5, 0.0, out)

    threads = [threading.Thread(target=work, args=(own,)) for own in counts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(counts[0], counts[1])
    assert counts[0].sum() == 50 * 4 * 2000


def test_threads_are_counted_and_refused() -> None:
    compilation.set_threads(1)
    try:
        assert compilation.thread_count() == 1
        with pytest.raises(ValueError, match="expected at least 1 thread, got 0"):
            compilation.set_threads(0)
    finally:
        compilation.set_threads(None)
    assert compilation.thread_count() >= 1
