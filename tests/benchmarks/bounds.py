"""The bounds on KL and the overdispersion: ``python -m tests.benchmarks.bounds``."""

from collections.abc import Callable

import numpy as np
from scipy.stats import norm

from kldrift.drift.references.overdispersion import measure_panes
from kldrift.kernels import compilation
from kldrift.kernels.bounds import BOUNDS, bound_counts
from tests import naive_bounds
from tests.benchmarks.kernels import best_seconds
from tests.benchmarks.table import Row, print_rows

_TARGET = "the figure to reach"


def bound_rows(n_features: int = 10_000, n_cells: int = 64) -> list[Row]:
    """Three windows, quiet and in drift (there the root of the lower bound has to be found as well)."""
    rng = np.random.default_rng(0)
    q = rng.dirichlet(np.full(n_cells, 20.0), size=n_features)
    windows = (1000, 10_000, 100_000)
    offsets = np.arange(n_features + 1, dtype=np.int64) * n_cells
    rows = []
    for name, drift in (("quiet", 0.0), ("in drift", 0.3)):
        p = q * np.exp(drift * rng.normal(size=q.shape))
        p /= p.sum(axis=1, keepdims=True)
        live = np.stack([rng.multinomial(n, p).ravel() for n in windows])
        out = np.empty((len(windows), n_features, len(BOUNDS)))
        arguments = {
            "live": live,
            "reference_probabilities": q.ravel(),
            "always_counted": np.ones(q.size, dtype=np.bool_),
            "offsets": offsets,
            "reference_rows": np.full(n_features, 10_000.0),
            "phi_live": np.full((len(windows), n_features), 1.1),
            "phi_reference": np.full(n_features, 1.2),
            "lambda_ratio": np.full((len(windows), n_features), 1.3),
            "z_quantile": float(norm.isf(1e-4 / 3)),
            "thresholds": np.tile([0.01, 0.1], (n_features, 1)),
            "out": out,
        }

        def with_threads(n: int | None, arguments: dict[str, object] = arguments) -> Callable[[], object]:
            def run() -> None:
                compilation.set_threads(n)
                bound_counts(**arguments)  # type: ignore[arg-type]

            return run

        try:
            one, every = best_seconds(with_threads(1), with_threads(None), repeats=10)
        finally:
            compilation.set_threads(None)
        expected = naive_bounds.bound(
            live[1, :n_cells].tolist(),
            q[0].tolist(),
            [True] * n_cells,
            10_000.0,
            1.1,
            1.2,
            1.3,
            arguments["z_quantile"],
            [0.01, 0.1],
        )
        np.testing.assert_allclose(out[1, 0], [expected[key] for key in BOUNDS], rtol=1e-8, atol=1e-12)
        each = one / (len(windows) * n_features)
        size = f"{n_features:,} features × {len(windows)} windows, {n_cells} cells"
        rows += [
            Row(f"bounds, {name}, one series, one thread", f"{each * 1e6:.2f} µs", "10 µs", _TARGET, 10e-6 / each, 1.0),
            Row(f"bounds, {name}, {size}", f"{every * 1e3:.1f} ms", "60 ms", _TARGET, 60e-3 / every, 1.0),
        ]
    return rows


def overdispersion_rows(n_features: int = 1000, n_panes: int = 64, n_cells: int = 19) -> list[Row]:
    """Once a reference."""
    rng = np.random.default_rng(1)
    panes = rng.multinomial(150, np.full(n_cells, 1 / n_cells), size=(n_features, n_panes))
    (took,) = best_seconds(lambda: [measure_panes(one, ordered=True) for one in panes], repeats=3)
    assert all(measure_panes(one, ordered=True).measured for one in panes[:10])
    what = f"overdispersion of {n_features:,} features, {n_panes} panes, {n_cells} cells"
    return [Row(what, f"{took * 1e3:.0f} ms", "1 s", _TARGET, 1 / took, 1.0)]


def rows() -> list[Row]:
    """Everything, for the table."""
    compilation.warm_up()
    return [*bound_rows(), *overdispersion_rows()]


if __name__ == "__main__":
    print_rows(rows())
