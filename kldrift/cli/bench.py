"""``kldrift bench``: the throughput of this machine."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
from rich.console import Console
from rich.table import Table

from kldrift.assembly.monitors import build_monitors
from kldrift.cli.tables import console
from kldrift.config.load import load_config
from kldrift.drift.monitor import Monitor
from kldrift.engine.observing import now_ms
from kldrift.export.telemetry import Telemetry
from kldrift.kernels.compilation import set_threads, warm_up
from kldrift.records.samples import FeatureSchema, SampleBatch
from kldrift.records.snapshots import DriftSnapshot, FeatureInfo
from kldrift.records.specs import Bins, FeatureSpec, MonitorSpec, ReferenceInline, WindowSpec
from kldrift.records.types import CodeArray, FloatArray, IntArray
from kldrift.wire import decode

Column = FloatArray | CodeArray

ROWS = 20_000


def bench_command(path: Path | None, seconds: float) -> None:
    """Print a table of rates for each monitor of the configuration: decode, count, compare, render."""
    err = Console(stderr=True)
    config = None if path is None else load_config(path)
    set_threads(config.engine.threads if config else None)
    if err.is_terminal:
        err.print("preparing kernels and references", style="dim")
    warm_up()
    monitors = (_default(),) if config is None else build_monitors(config.monitors, now_ms())
    table = Table(title="sustained throughput of this machine, each stage alone", title_justify="left")
    for heading in ("monitor", "stage", "of", "time"):
        table.add_column(heading)
    table.add_column("per second", justify="right")
    for monitor in monitors:
        for stage, unit, amount, action in _stages(monitor):
            took = _best(action, seconds)
            table.add_row(
                monitor.spec.name, stage, f"{amount:,} {unit}", f"{took * 1e3:.3f} ms", f"{amount / took:,.0f}"
            )
    console().print(table)


def _stages(monitor: Monitor) -> list[tuple[str, str, int, Callable[[], object]]]:
    rng = np.random.default_rng(0)
    columns = tuple(_draw(info, len(schema.categories), rng) for info, schema in _pairs(monitor))
    batch = SampleBatch(ROWS, columns, event_ms=_times(monitor))
    samples = ROWS * len(columns)
    body = _ndjson(monitor, columns)
    monitor.add(batch, "bench", now_ms())
    snapshot = DriftSnapshot(now_ms(), (monitor.evaluate(now_ms()),))
    n_series = snapshot.monitors[0].samples.size
    telemetry = Telemetry()
    return [
        ("decode NDJSON", "samples", samples, lambda: decode("ndjson", [body], monitor.schema)),
        ("count", "samples", samples, lambda: monitor.add(batch, "bench", now_ms())),
        ("compare, all divergences", "series", n_series, lambda: monitor.evaluate(now_ms())),
        ("render /metrics", "series", n_series, lambda: telemetry.exposition(False, False, snapshot)),
    ]


def _pairs(monitor: Monitor) -> list[tuple[FeatureInfo, FeatureSchema]]:
    return list(zip(monitor.features, monitor.schema.features, strict=True))


def _best(action: Callable[[], object], seconds: float) -> float:
    """Return the shortest duration within `seconds`: the speed when nothing else disturbs the machine."""
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - started)
    return best


def _draw(info: FeatureInfo, n_categories: int, rng: np.random.Generator) -> Column:
    """Draw values from the distribution of the reference, uniform within each bin."""
    if info.edges is None:
        return rng.integers(0, max(1, n_categories), ROWS).astype(np.int32)
    masses = info.reference_probabilities[: info.edges.size - 1]
    inner = np.clip(info.edges, -1e6, 1e6)
    bins = rng.choice(masses.size, ROWS, p=masses / masses.sum())
    return inner[bins] + rng.random(ROWS) * (inner[bins + 1] - inner[bins])


def _times(monitor: Monitor) -> IntArray | None:
    return None if monitor.spec.timestamp is None else np.full(ROWS, now_ms(), dtype=np.int64)


def _ndjson(monitor: Monitor, columns: tuple[Column, ...]) -> bytes:
    fields: dict[str, list[object]] = {}
    for (_, schema), column in zip(_pairs(monitor), columns, strict=True):
        values = column.tolist()
        fields[schema.name] = [schema.categories[v] for v in values] if schema.categories else values
    if monitor.spec.timestamp is not None:
        now = now_ms()
        iso = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now / 1000))
        scale = {"s": 1e-3, "ms": 1, "us": 1e3, "ns": 1e6}
        unit = monitor.spec.timestamp.unit
        fields[monitor.spec.timestamp.field] = [iso if unit == "iso8601" else int(now * scale[unit])] * ROWS
    names = list(fields)
    return b"\n".join(orjson.dumps(dict(zip(names, row, strict=True))) for row in zip(*fields.values(), strict=True))


def _default() -> Monitor:
    edges = (-np.inf, *np.linspace(-3, 3, 15).tolist(), np.inf)
    reference = ReferenceInline(edges=edges, counts=(1000,) * 16)
    features = tuple(FeatureSpec(f"f{i}", "numeric", Bins(), reference=reference) for i in range(50))
    windows = (WindowSpec("5m", 300_000), WindowSpec("1h", 3_600_000), WindowSpec("24h", 86_400_000))
    (monitor,) = build_monitors([MonitorSpec("default", features, windows)], now_ms())
    return monitor
