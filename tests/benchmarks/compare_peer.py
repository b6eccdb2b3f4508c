"""A table compared once, cold, by one peer; run by ``tests.benchmarks.compare`` in the peer's own environment.

python compare_peer.py PEER DIRECTORY

DIRECTORY is as in ``peers_measure.py``. Prints JSON: how long the libraries took to load, how long everything else
did, reading the arrays and what is made of the reference included, and the figures.
"""

import importlib.metadata
import json
import os
import sys
import time
import warnings
from pathlib import Path

BEGAN = time.perf_counter()
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np  # noqa: E402 (the clock runs)
import peers_measure  # noqa: E402

#: The way of each peer that compares everything, by its name in `peers_measure`.
WAYS = {"evidently": "DataDriftPreset", "popmon": "stability metrics"}
LIBRARIES = {"evidently": ("evidently.presets",), "popmon": ("popmon", "histogrammar.dfinterface.make_histograms")}


def main(peer: str, directory: Path) -> None:
    """Load, compare, print."""
    tried = peers_measure.refuse_network()
    for library in LIBRARIES[peer]:
        importlib.import_module(library)
    loaded = time.perf_counter()
    reference, live = (np.load(directory / f"{name}.npy") for name in ("reference", "live"))
    way = next(way for way in peers_measure.PEERS[peer](reference, live) if way.what == WAYS[peer])
    figures = dict(way.figures(way.run()))
    done = time.perf_counter()
    if tried:
        raise SystemExit(f"{peer}: expected no connection, it tried {tried}")
    answer = {
        "version": importlib.metadata.version(peer),
        "what": way.what,
        "quantity": way.quantity,
        "load_seconds": loaded - BEGAN,
        "work_seconds": done - loaded,
        "figures": figures,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    os.environ.update(peers_measure.QUIET)
    warnings.simplefilter("ignore")
    main(sys.argv[1], Path(sys.argv[2]))
