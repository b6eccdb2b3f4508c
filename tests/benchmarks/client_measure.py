"""What one call costs that hands a row of 50 numbers over; run by ``tests.benchmarks.client`` in a process of its own.

python tests/benchmarks/client_measure.py kldrift|scouter|json|copy N_ROWS ROWS_PER_SECOND [URL]

0 rows a second: without a pause. Imports kldrift only where that is measured: Scouter has an environment of its own.
Prints JSON on stderr. Scouter publishes to the mock transport that it comes with: no server and no network, but what it
does in the process of the model is done. (The mock writes each batch to stdout, from a thread of its own.)
"""

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Row = dict[str, float]
N_FEATURES, N_DISTINCT = 50, 200
NAMES = [f"f{i}" for i in range(N_FEATURES)]


def values() -> list[list[float]]:
    """Of different rows."""
    found: list[list[float]] = np.random.default_rng(3).normal(size=(N_DISTINCT, N_FEATURES)).tolist()
    return found


def timed(call: Callable[[Row], object], names: list[str], n_rows: int, rate: float) -> dict[str, float]:
    """Nanoseconds of the calls, one by one, and how long all took. Each row is made just before, as by a server."""
    took, lines = np.empty(n_rows), values()
    clock, wall = time.perf_counter_ns, time.perf_counter
    started = due = wall()
    for i in range(n_rows):
        if rate:
            due += 1 / rate
            if (pause := due - wall()) > 0:
                time.sleep(pause)
        row = dict(zip(names, lines[i % N_DISTINCT], strict=True))
        before = clock()
        call(row)
        took[i] = clock() - before
    low, median, high = np.percentile(took, [0, 50, 99])
    return {"min": low, "median": median, "mean": took.mean(), "p99": high, "seconds": wall() - started}


def kldrift(n_rows: int, rate: float, url: str) -> dict[str, Any]:
    from kldrift.client import Client

    client = Client(monitor="bench", url=url, max_rows=n_rows, max_bytes=1 << 30)
    client.log(dict(zip(NAMES, values()[0], strict=True)))
    assert client.flush(30)
    cpu, started = time.process_time(), time.perf_counter()
    found = timed(client.log, NAMES, n_rows, rate)
    assert client.flush(120)
    whole = time.perf_counter() - started
    assert (client.sent, client.dropped, client.failed) == (n_rows + 1, 0, 0)
    return found | {"whole": whole, "cpu": time.process_time() - cpu}


def scouter(n_rows: int, rate: float, _: str) -> dict[str, Any]:
    from scouter.drift import Drifter, PsiDriftConfig
    from scouter.mock import MockConfig
    from scouter.queue import Features, ScouterQueue

    reference = np.asfortranarray(np.random.default_rng(1).normal(size=(1000, N_FEATURES)))
    config = PsiDriftConfig(space="benchmark", name="client", version="0.1.0")
    profile = Drifter().create_drift_profile(reference, config)
    queue = ScouterQueue.from_profile({"bench": profile}, MockConfig(), True)
    bench = queue["bench"]
    found = timed(lambda row: bench.insert(Features(row)), list(profile.features), n_rows, rate)
    queue.shutdown()
    return found | {"version": importlib.metadata.version("scouter-ml")}


def json_alone(n_rows: int, rate: float, _: str) -> dict[str, Any]:
    return timed(json.dumps, NAMES, n_rows, rate)


def copy_alone(n_rows: int, rate: float, _: str) -> dict[str, Any]:
    return timed(dict, NAMES, n_rows, rate)


if __name__ == "__main__":
    who, n_text, rate_text, *more = sys.argv[1:]
    measure: Callable[..., dict[str, Any]] = {
        "kldrift": kldrift,
        "scouter": scouter,
        "json": json_alone,
        "copy": copy_alone,
    }[who]
    answer = measure(int(n_text), float(rate_text), *(more or [""]))
    print("\n" + json.dumps(answer), file=sys.stderr)
