"""A fast cut of the benchmarks: they run, and what they measure is right (they assert it); no time is judged here."""

import math

from tests.benchmarks import files, kernels, pipeline


def test_the_pipelines_benchmark_runs_and_counts_what_was_sent() -> None:
    rows = pipeline.rows(quick=True)
    assert len(rows) >= 5
    assert all(math.isfinite(row.ratio) and row.ratio > 0 for row in rows)


def test_the_kernels_benchmark_runs_on_small_data() -> None:
    rows = [
        *kernels.fill_rows(100_000),
        *kernels.batch_rows(n_rows=2_000),
        *kernels.compare_rows(n_features=100),
    ]
    assert all(math.isfinite(row.ratio) and row.ratio > 0 for row in rows)


def test_files_are_counted_right() -> None:
    rows = files.rows(quick=True)
    assert len(rows) == len(files.CASES)
    assert all(math.isfinite(row.ratio) and row.ratio > 0 for row in rows)
