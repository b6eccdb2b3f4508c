"""The kernels against their peers, in one run: ``python -m tests.benchmarks.kernels``.

Ours and the peer's take turns and the fastest of several repeats counts, so that other work on the machine hits both.
Every result is checked against numpy's or scipy's.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import boost_histogram
import numpy as np
from scipy.special import rel_entr
from scipy.stats import entropy

from kldrift.kernels import compilation
from kldrift.kernels.bin_table import BinTable, NumericBins, make_bin_table
from kldrift.kernels.divergence import compare_counts
from kldrift.kernels.fill import fill_counts
from kldrift.records.divergences import N_DIVERGENCES
from tests.benchmarks.table import Row, print_rows

_TARGET = "the figure to reach"


def best_seconds(*runs: Callable[[], object], repeats: int = 15) -> list[float]:
    """The fastest of `repeats` for each of `runs`, which take turns."""
    best = [float("inf")] * len(runs)
    for _ in range(repeats):
        for i, run in enumerate(runs):
            began = time.perf_counter()
            run()
            best[i] = min(best[i], time.perf_counter() - began)
    return best


def fill_rows(n_samples: int = 4_000_000) -> list[Row]:
    """One thread, 64 quantile bins, against boost-histogram's Variable axis."""
    rng = np.random.default_rng(0)
    rows = []
    for name, values in (
        ("normal", rng.normal(size=n_samples)),
        ("lognormal σ = 2", rng.lognormal(sigma=2.0, size=n_samples)),
        ("uniform", rng.random(n_samples)),
    ):
        edges = np.quantile(values[:100_000], np.linspace(0, 1, 65))
        table = make_bin_table([NumericBins(edges)])
        counts = np.zeros((1, int(table.offsets[-1])), dtype=np.int64)
        peer = boost_histogram.Histogram(boost_histogram.axis.Variable(edges))
        compilation.set_threads(1)
        try:
            fill_counts(table, [values], None, counts)
            np.testing.assert_array_equal(counts[0, :64], np.histogram(values, edges)[0])
            ours, theirs = best_seconds(_filling(table, [values], counts), lambda v=values, h=peer: h.fill(v))
        finally:
            compilation.set_threads(None)
        rate = n_samples / ours
        rows += [
            Row(
                f"fill, 64 quantile bins, one thread, {name}",
                _m(rate),
                _m(n_samples / theirs),
                "boost-histogram Variable",
                theirs / ours,
                6.0,
            ),
            Row("… alone", _m(rate), "250 M samples/s", _TARGET, rate / 250e6, 1.0),
        ]
    return rows


def _filling(table: BinTable, columns: Sequence[np.ndarray], counts: np.ndarray) -> Callable[[], object]:
    return lambda: fill_counts(table, columns, None, counts)


def batch_rows(n_rows: int = 200_000, n_features: int = 50) -> list[Row]:
    """All threads against one, on a batch of many features."""
    rng = np.random.default_rng(1)
    columns = list(rng.normal(size=(n_features, n_rows)))
    table = make_bin_table([NumericBins(np.quantile(c[:20_000], np.linspace(0, 1, 65))) for c in columns])
    counts = np.zeros((1, int(table.offsets[-1])), dtype=np.int64)

    def with_threads(n: int | None) -> Callable[[], object]:
        def run() -> None:
            compilation.set_threads(n)
            fill_counts(table, columns, None, counts)

        return run

    try:
        one, every = best_seconds(with_threads(1), with_threads(None))
    finally:
        compilation.set_threads(None)
    assert counts.sum() == 30 * n_rows * n_features
    samples = n_rows * n_features
    what = f"fill, {n_features} features, {compilation.thread_count()} threads"
    return [Row(what, _m(samples / every), _m(samples / one), "one thread", one / every, 1.6)]


def compare_rows(n_features: int = 10_000, n_cells: int = 64) -> list[Row]:
    """All divergences, and KL alone against scipy.stats.entropy."""
    rng = np.random.default_rng(2)
    live = rng.poisson(20, size=(n_features, n_cells)).astype(np.int64)
    reference = rng.dirichlet(np.full(n_cells, 20.0), size=n_features)
    flat_live, flat_reference = live.reshape(1, -1), reference.ravel()
    offsets = np.arange(n_features + 1, dtype=np.int64) * n_cells
    out = np.empty((1, n_features, N_DIVERGENCES))

    def ours(kl_only: bool) -> Callable[[], object]:
        return lambda: compare_counts(flat_live, flat_reference, offsets, 0.5, 0.0, out, kl_only)

    every, kl, scipy = best_seconds(ours(False), ours(True), lambda: entropy(live, reference, axis=1))
    expected = rel_entr(live / live.sum(axis=1, keepdims=True), reference).sum(axis=1)
    np.testing.assert_allclose(out[0, :, 0], expected, rtol=1e-12)
    size = f"{n_features:,} features × {n_cells} bins"
    return [
        Row(f"compare, {size}, all divergences", _ms(every), "5 ms", _TARGET, 5e-3 / every, 1.0),
        Row(f"compare, {size}, KL alone", _ms(kl), _ms(scipy), "scipy.stats.entropy", scipy / kl, 10.0),
    ]


def warm_up_rows() -> list[Row]:
    """The warm-up in a new process, with an empty cache and with a full one."""
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for words, limit in (("empty cache", 10.0), ("warm cache", 0.7)):
            done = subprocess.run(
                [sys.executable, "-c", "from kldrift.kernels import compilation; print(compilation.warm_up())"],
                env={**os.environ, "KLDRIFT_CACHE_DIR": cache},
                check=True,
                capture_output=True,
                text=True,
            )
            took = float(done.stdout)
            rows.append(
                Row(f"warm-up of the kernels, {words}", f"{took:.2f} s", f"{limit:g} s", _TARGET, limit / took, 1.0)
            )
    return rows


def rows() -> list[Row]:
    """Everything, for the table."""
    compilation.warm_up()
    return [*fill_rows(), *batch_rows(), *compare_rows(), *warm_up_rows()]


def _m(rate: float) -> str:
    return f"{rate / 1e6:.0f} M samples/s"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"


if __name__ == "__main__":
    print_rows(rows())
