"""Evidently's own scores, by the method that it takes by default; run by ``tests.evidence.alarms`` in its environment.

python -I tests/evidence/evidently_scores.py DIRECTORY

DIRECTORY holds ``reference.npy`` (m,) and ``live.npy`` (n_windows, n), float64. Prints JSON: its version, and for the
whole reference and for its last 1,000 rows the score of each window.
"""

import json
import os
import sys
import warnings
from pathlib import Path

import numpy as np


def scores(directory: Path) -> dict[str, object]:
    """The drift score of each window: a distance, or a p-value."""
    import evidently
    import pandas
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    definition = DataDefinition(numerical_columns=["x"])

    def dataset(values: object) -> Dataset:
        return Dataset.from_pandas(pandas.DataFrame({"x": values}), data_definition=definition)

    reference, live = np.load(directory / "reference.npy"), np.load(directory / "live.npy")
    found: dict[str, object] = {"version": evidently.__version__}
    for name, own in (("large", reference), ("small", reference[-1000:])):
        runs = [Report([ValueDrift(column="x")]).run(dataset(window), dataset(own)).dict() for window in live]
        found[name] = [float(run["metrics"][0]["value"]) for run in runs]
    return found


if __name__ == "__main__":
    os.environ["DO_NOT_TRACK"] = "1"
    warnings.simplefilter("ignore")
    print(json.dumps(scores(Path(sys.argv[1]))))
