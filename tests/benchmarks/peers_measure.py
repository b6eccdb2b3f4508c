"""What one peer needs for the drift of a table; run by ``tests.benchmarks.peers`` in the peer's own environment.

python -I tests/benchmarks/peers_measure.py PEER DIRECTORY REPEATS SECONDS

DIRECTORY holds ``reference.npy`` and ``live.npy``, (n_columns, n_rows) float64. Prints JSON. Everything that can be
made from the reference alone, and the peer's own wrapper around the live columns, is made before the clock starts.
Nothing may go out: connections are refused, and one that is tried fails the measurement.
"""

import importlib.metadata
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

#: Refused below as well; these keep the peers from trying.
QUIET = {"DO_NOT_TRACK": "1", "WHYLOGS_NO_ANALYTICS": "true", "MPLBACKEND": "Agg"}


@dataclass(frozen=True)
class Way:
    """One way in which a peer's users look for drift.

    Parameters
    ----------
    what : said in the table
    quantity : what `figures` holds, a key of ``peers.expected_figures``
    run : the work on the live columns that is timed
    figures : from what `run` returned, column name to figure
    row_major : the live columns come as (n_rows, n_columns), rows contiguous
    """

    what: str
    quantity: str
    run: Callable[[], Any]
    figures: Callable[[Any], Mapping[str, float]]
    row_major: bool = False


def fastest(run: Callable[[], Any], repeats: int, seconds: float) -> tuple[float, Any]:
    """The fastest of at least `repeats` runs and `seconds` of running, and what the last one returned."""
    best, total, n = float("inf"), 0.0, 0
    while n < repeats or total < seconds:
        began = time.perf_counter()
        result = run()
        took = time.perf_counter() - began
        best, total, n = min(best, took), total + took, n + 1
    return best, result


def evidently(reference: FloatArray, live: FloatArray) -> Iterator[Way]:
    """The preset, and one KL a column; a report takes the raw reference each time, there is no profile of it."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift
    from evidently.presets import DataDriftPreset

    names = column_names(live)
    definition = DataDefinition(numerical_columns=names)
    ref, cur = (Dataset.from_pandas(frame(columns), data_definition=definition) for columns in (reference, live))

    def figures(snapshot: Any) -> dict[str, float]:
        metrics = [metric for metric in snapshot.dict()["metrics"] if "column" in metric["config"]]
        return {metric["config"]["column"]: float(metric["value"]) for metric in metrics}

    preset = Report([DataDriftPreset()])
    yield Way("DataDriftPreset", "wasserstein", lambda: preset.run(cur, ref), figures)
    kl = Report([ValueDrift(column=name, method="kl_div") for name in names])
    yield Way("ValueDrift kl_div", "kl", lambda: kl.run(cur, ref), figures)


def whylogs(reference: FloatArray, live: FloatArray) -> Iterator[Way]:
    """The profile of the live columns, with and without its comparison."""
    import whylogs
    from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores

    ref, cur = whylogs.log(frame(reference)).view(), frame(live)

    def means(view: Any) -> dict[str, float]:
        return {name: column.to_summary_dict()["distribution/mean"] for name, column in view.get_columns().items()}

    yield Way("profile alone", "mean", lambda: whylogs.log(cur).view(), means)
    yield Way(
        "profile + drift scores",
        "ks",
        lambda: calculate_drift_scores(whylogs.log(cur).view(), ref, with_thresholds=True),
        lambda scores: {name: score["statistic"] for name, score in scores.items()},
    )


def popmon(reference: FloatArray, live: FloatArray) -> Iterator[Way]:
    """The histograms of one live day, alone and with all that the report shows, against a reference of ten days."""
    import pandas
    from histogrammar.dfinterface.make_histograms import make_histograms
    from popmon.pipeline.metrics import df_stability_metrics

    logging.disable(logging.INFO)
    first, names = pandas.Timestamp("2024-01-01"), column_names(live)

    def dated(columns: FloatArray, days: int, start: int) -> Any:
        table = frame(columns)
        table.insert(0, "date", first + pandas.to_timedelta(start + np.arange(len(table)) * days // len(table), "D"))
        return table

    ref, cur = dated(reference, 10, 0), dated(live, 1, 10)
    day = {"bin_width": float(pandas.Timedelta("1D").value), "bin_offset": float(first.value)}
    made, features, bins, axis, types = make_histograms(
        ref, [f"date:{name}" for name in names], bin_specs={"date": day}, time_axis="date", ret_specs=True
    )

    def means(hists: Mapping[str, Any]) -> dict[str, float]:
        found = {}
        for feature, by_day in hists.items():
            (histogram,) = by_day.bins.values()
            found[feature.removeprefix("date:")] = float(
                np.average(histogram.bin_centers(), weights=histogram.bin_entries())
            )
        return found

    yield Way(
        "histograms alone",
        "mean",
        lambda: make_histograms(cur, features, bin_specs=bins, time_axis=axis, var_dtype=types),
        means,
    )
    # popmon's ks is sqrt(n m / (n + m)) D
    scale = np.sqrt(live.shape[1] * reference.shape[1] / (live.shape[1] + reference.shape[1]))
    yield Way(
        "stability metrics",
        "ks",
        lambda: df_stability_metrics(cur, time_axis="date", reference_type="external", reference=made),
        lambda store: {name: float(store["comparisons"][name]["ref_ks"].iloc[-1]) / scale for name in names},
    )


def scouter(reference: FloatArray, live: FloatArray) -> Iterator[Way]:
    """The PSI drifter, on an array whose columns are contiguous (what is fastest for it), and on one whose rows are."""
    from scouter.drift import Drifter, PsiDriftConfig

    drifter = Drifter()
    profile = drifter.create_drift_profile(
        reference.T, PsiDriftConfig(space="benchmark", name="peers", version="0.1.0")
    )
    rows = np.ascontiguousarray(live.T)

    def figures(drift: Any) -> dict[str, float]:
        return {f"x{int(name.removeprefix('feature_')):02d}": psi for name, psi in drift.features.items()}

    yield Way("PSI", "psi", lambda: drifter.compute_drift(live.T, profile), figures)
    yield Way("PSI", "psi", lambda: drifter.compute_drift(rows, profile), figures, row_major=True)


PEERS = {"evidently": evidently, "whylogs": whylogs, "popmon": popmon, "scouter-ml": scouter}


def column_names(columns: FloatArray) -> list[str]:
    """``x00``, ``x01``, …"""
    return [f"x{i:02d}" for i in range(len(columns))]


def frame(columns: FloatArray) -> Any:
    """The columns as a pandas DataFrame, without a copy."""
    import pandas

    return pandas.DataFrame(columns.T, columns=column_names(columns))


def refuse_network() -> list[str]:
    """Refuse every look-up and connection from here on; what was tried is in the list."""
    tried: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}:
            tried.append(f"{event} {arguments[-1]!r}")
            raise ConnectionRefusedError("no network in a benchmark")

    sys.addaudithook(hook)
    return tried


def measure(peer: str, directory: Path, repeats: int, seconds: float) -> dict[str, Any]:
    """Every way of a peer, timed."""
    tried = refuse_network()
    reference, live = (np.load(directory / f"{name}.npy") for name in ("reference", "live"))
    ways = []
    for way in PEERS[peer](reference, live):
        took, result = fastest(way.run, repeats, seconds)
        figures = {name: float(figure) for name, figure in way.figures(result).items()}
        ways.append(
            {"what": way.what, "quantity": way.quantity, "row_major": way.row_major}
            | {
                "seconds": took,
                "figures": figures,
            }
        )
    if tried:
        raise SystemExit(f"{peer}: expected no connection, it tried {tried}")
    return {"version": importlib.metadata.version(peer), "ways": ways}


if __name__ == "__main__":
    os.environ.update(QUIET)
    warnings.simplefilter("ignore")
    answer = measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    print(json.dumps(answer))
