"""What a scrape of about 50,000 series costs, against prometheus-client on the same series.

python -m tests.benchmarks.export
"""

import statistics
import time

import numpy as np
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from kldrift.export.drift_metrics import DriftRenderer
from kldrift.export.telemetry import Telemetry
from tests.export.snapshots import feature, monitor, snapshot

N_FEATURES, WINDOWS = 1700, ("5m", "1h", "24h", "7d")
REACH_SECONDS = 0.030


def seconds(work, repeats=20):
    """Median time of a call, and what it returned last."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - started)
    return statistics.median(times), result


def peer(rendered):
    """The same series in a registry of prometheus-client."""
    registry = CollectorRegistry()
    for family in text_string_to_metric_families(rendered.decode()):
        gauge = Gauge(family.name, family.documentation, list(family.samples[0].labels), registry=registry)
        for sample in family.samples:
            gauge.labels(**sample.labels).set(sample.value)
    return registry


def series_of(body):
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def main() -> None:
    features = [feature(f"feature_{i}", ("numeric", "categorical")[i % 2]) for i in range(N_FEATURES)]
    full = monitor(features=features, windows=WINDOWS)
    divergences = full.divergences.copy()
    divergences[0] = np.nan
    half_empty = monitor(features=features, windows=WINDOWS, divergences=divergences)

    started = time.perf_counter()
    renderer = DriftRenderer()
    rendered = renderer.render(snapshot(full))
    first = time.perf_counter() - started
    ours, rendered = seconds(lambda: renderer.render(snapshot(full)))
    gaps, _ = seconds(lambda: renderer.render(snapshot(half_empty)))

    registry = peer(rendered.body)
    theirs, peer_body = seconds(lambda: generate_latest(registry), 3)
    assert series_of(rendered.body) == series_of(peer_body)

    telemetry = Telemetry(max_series=100_000)
    telemetry.configure(["scores"], ["http"], {"loans": [f.name for f in features]})
    whole, body = seconds(lambda: telemetry.exposition(True, False, snapshot(full)))

    packed, _ = seconds(lambda: telemetry.exposition(True, True, snapshot(full)), 5)

    print(f"series                              {rendered.series:8d}  ({len(rendered.body) / 1e6:.1f} MB)")
    print(f"first render, labels made           {first * 1e3:8.1f} ms")
    print(f"render                              {ours * 1e3:8.1f} ms  (reach {REACH_SECONDS * 1e3:.0f} ms)")
    print(f"render, a window empty              {gaps * 1e3:8.1f} ms")
    print(f"exposition with kldrift's own       {whole * 1e3:8.1f} ms  ({body.count(b'kldrift_')} names)")
    print(f"the same, gzipped                   {packed * 1e3:8.1f} ms")
    print(f"prometheus-client, the same series  {theirs * 1e3:8.1f} ms  = {theirs / ours:.0f} x ours")
    assert rendered.series > 45_000
    assert ours <= REACH_SECONDS


if __name__ == "__main__":
    main()
