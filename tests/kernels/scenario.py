"""One deterministic run over every kernel, for the same run elsewhere: ``python -m tests.kernels.scenario OUT.npz``."""

import sys
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from kldrift.kernels import compilation, divergence, fill
from kldrift.kernels.bin_table import CategoryBins, NumericBins, make_bin_table
from kldrift.records.divergences import N_DIVERGENCES

N_ROWS = 701
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -5e-324, 1.7e308, -1.7e308, 1.0]


def features() -> list[NumericBins | CategoryBins]:
    """Every kind of bins: plain, heavy-tailed, infinite ends, point masses, subnormal, many, and categories."""
    rng = np.random.default_rng(7)
    point = np.nextafter(3.0, 4.0)
    return [
        NumericBins(np.array([0.0, 1.0])),
        NumericBins(np.linspace(-3, 3, 65)),
        NumericBins(np.quantile(rng.lognormal(sigma=2, size=5000), np.linspace(0, 1, 65))),
        NumericBins(np.array([-np.inf, -1.0, 0.0, 3.0, point, 4.0, np.inf])),
        NumericBins(np.array([-1.7e308, -1e-310, 0.0, 5e-324, 1e-310, 1.7e308])),
        NumericBins(np.unique(rng.standard_cauchy(3000))),
        CategoryBins(np.array([0, 1, 2, 2, 3, 4], dtype=np.int32), 5),
        CategoryBins(np.arange(40, dtype=np.int32)[::-1].copy(), 40),
    ]


def columns() -> list[npt.NDArray[np.float64] | npt.NDArray[np.int32]]:
    """Values on, beside and between the edges, and the special ones; codes, some of them out of range."""
    rng = np.random.default_rng(8)
    made: list[npt.NDArray[np.float64] | npt.NDArray[np.int32]] = []
    for feature in features():
        if isinstance(feature, NumericBins):
            edges = feature.edges
            near = np.concatenate([edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf), SPECIAL])
            broad = rng.standard_cauchy(N_ROWS)
            made.append(np.where(rng.random(N_ROWS) < 0.5, rng.choice(near, N_ROWS), broad))
        else:
            made.append(rng.integers(-1, len(feature.lookup) + 1, N_ROWS, dtype=np.int32))
    return made


def slots() -> npt.NDArray[np.int32]:
    """Three slots, and rows to skip."""
    return np.random.default_rng(9).integers(-1, 3, N_ROWS, dtype=np.int32)


def results(n_threads: int, chunked: bool = False) -> Mapping[str, npt.NDArray[np.generic]]:
    """Counts and divergences; `chunked` also cuts the rows, as is done for few features."""
    before = fill.PARALLEL_FROM_SAMPLES, fill.CHUNK_FROM_ROWS, divergence.PARALLEL_FROM_CELLS
    fill.PARALLEL_FROM_SAMPLES = divergence.PARALLEL_FROM_CELLS = 0
    fill.CHUNK_FROM_ROWS = 0 if chunked else before[1]
    compilation.set_threads(n_threads)
    try:
        with np.errstate(over="ignore", under="ignore"):
            chosen, data = features(), columns()
        if chunked:  # an odd number of features, fewer than four a thread
            chosen, data = chosen[:1] + chosen[-2:], data[:1] + data[-2:]
        table = make_bin_table(chosen)
        n_cells = int(table.offsets[-1])
        at_once, slotted = np.zeros((1, n_cells), dtype=np.int64), np.zeros((3, n_cells), dtype=np.int64)
        fill.fill_counts(table, data, None, at_once)
        fill.fill_counts(table, data, slots(), slotted)
        live = np.concatenate([at_once, slotted, np.zeros_like(at_once)])
        reference = np.random.default_rng(10).random(n_cells)
        for start, stop in zip(table.offsets[:-1], table.offsets[1:], strict=True):
            reference[start:stop] /= reference[start:stop].sum()
        smoothed, raw, kl_only = (np.empty((len(live), len(chosen), N_DIVERGENCES)) for _ in range(3))
        divergence.compare_counts(live, reference, table.offsets, 0.5, 1e-4, smoothed)
        divergence.compare_counts(live, reference, table.offsets, 0.0, 0.0, raw)
        divergence.compare_counts(live, reference, table.offsets, 0.5, 0.0, kl_only, kl_only=True)
        vector = divergence.compare_probabilities([0.4, 0.6, 0.0], [0.5, 0.25, 0.25])
    finally:
        fill.PARALLEL_FROM_SAMPLES, fill.CHUNK_FROM_ROWS, divergence.PARALLEL_FROM_CELLS = before
        compilation.set_threads(None)
    return {
        "live": live,
        "reference": reference,
        "offsets": table.offsets,
        "smoothed": smoothed,
        "raw": raw,
        "kl_only": kl_only,
        "vector": vector,
    }


if __name__ == "__main__":
    np.savez(sys.argv[1], **results(2))  # type: ignore[arg-type]
