"""`drift.estimators` beside the programs themselves, on the same samples in the same bins:
``python -m tests.evidence.estimators``.

Each program gets an environment of its own in ``.cache/peers``, in which this file runs as a script: it reads cases
from stdin and prints what the program says of each, and the edges of its bins. (boxkite computes its KL in a Grafana
panel: figures that promtool found for it are in ``tests/drift/test_other_estimators.py``.)
"""

import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

SEED = 20
REQUIREMENTS = {
    "evidently": ["evidently==0.7.23", "numpy==2.4.6", "pandas==2.3.3", "scipy==1.17.1"],
    "mlrun": ["mlrun==1.12.1"],
    "driftwatch": ["driftwatch==0.1.0"],
}
#: Our sums and theirs are in another order.
TOLERANCE = 1e-12


@dataclass(frozen=True)
class Case:
    """Samples of one feature; None is missing. Numbers are numeric, texts are categories."""

    name: str
    reference: list[Any]
    live: list[Any]

    @property
    def numeric(self) -> bool:
        return not isinstance(self.reference[0], str)


@dataclass(frozen=True)
class Figure:
    """What a program says of a case, and the edges that its bins of numbers had."""

    kl: float
    edges: list[float] | None


def cases() -> list[Case]:
    """Shifted, wider and cut-off numbers, categories that come and go, shares below 1e-4, missing values."""
    rng = np.random.default_rng(SEED)
    normal = rng.normal(size=(2, 3000))
    rare = [*rng.normal(size=30_000).tolist(), 40.0]
    few = rng.choice(list("abcde"), 2000, p=[0.5, 0.3, 0.1, 0.06, 0.04]).tolist()
    return [
        Case("the same", normal[0].tolist(), normal[1].tolist()),
        Case("shifted", normal[0].tolist(), rng.normal(0.5, 1.2, 500).tolist()),
        Case("inside", normal[0].tolist(), rng.uniform(0.2, 0.6, 400).tolist()),
        Case("missing", [*normal[0].tolist(), *[None] * 100], [*rng.normal(0.3, 1, 300).tolist(), *[None] * 90]),
        Case("a lone outlier", rare, rng.normal(0.1, 1, 5000).tolist()),
        Case("categories", few, rng.choice(list("abcde"), 400, p=[0.3, 0.3, 0.2, 0.1, 0.1]).tolist()),
        Case("categories gone", few, ["a"] * 50 + ["c"] * 20),
        Case("a new category", few, [*rng.choice(list("abcde"), 300).tolist(), *["z"] * 40]),
        Case("missing categories", [*few, *[None] * 30], [*few[:300], *[None] * 200]),
        Case("a rare category", ["a"] * 20_000 + ["b"] * 20_000 + ["c"], ["a"] * 300 + ["b"] * 200),
    ]


def cells_of(case: Case, figure: Figure) -> tuple[np.ndarray, np.ndarray]:
    """The counts (C,) of both sides, reference first, in the order of `FeatureInfo.cells`."""
    sides = (case.reference, case.live)
    present = [[value for value in side if value is not None] for side in sides]
    missing = [len(side) - len(values) for side, values in zip(sides, present, strict=True)]
    if not case.numeric:
        known = sorted(set(present[0]))
        # One unseen category at most in each case, which is then a cell of its own for either program.
        return tuple(
            np.array([*map(values.count, known), 0, sum(v not in known for v in values), gone])
            for values, gone in zip(present, missing, strict=True)
        )
    edges = np.array(figure.edges)
    counts = []
    for values, gone in zip(map(np.array, present), missing, strict=True):
        within = np.histogram(values, edges)[0]
        counts.append(np.array([*within, np.sum(values < edges[0]), np.sum(values > edges[-1]), gone]))
    return counts[0], counts[1]


# --- within a program's environment ----------------------------------------------------------------


def evidently_figure(case: Case) -> Figure:
    """The public report; its edges are those that it takes from both sides together."""
    import pandas
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    columns = {"numerical_columns" if case.numeric else "categorical_columns": ["x"]}
    live, reference = (
        Dataset.from_pandas(
            pandas.DataFrame({"x": np.array(side, dtype=float if case.numeric else object)}),
            data_definition=DataDefinition(**columns),
        )
        for side in (case.live, case.reference)
    )
    report = Report([ValueDrift(column="x", method="kl_div")]).run(live, reference)
    [value] = [metric["value"] for metric in report.dict()["metrics"]]
    edges = None
    if case.numeric:
        both = [value for value in (*case.reference, *case.live) if value is not None]
        edges = np.histogram_bin_edges(np.array(both), bins="sturges").tolist()
    return Figure(float(value), edges)


def mlrun_figure(case: Case) -> Figure | None:
    """The way of its histogram application: statistics of the training set, padded; live counts in the same bins."""
    import pandas
    from mlrun.common.model_monitoring.helpers import pad_features_hist
    from mlrun.data_types.infer import DFDataInfer, InferOptions
    from mlrun.model_monitoring.applications.context import MonitoringApplicationContext
    from mlrun.model_monitoring.helpers import calculate_inputs_statistics
    from mlrun.model_monitoring.metrics.histogram_distance import KullbackLeiblerDivergence

    if not case.numeric:
        return None
    # numpy makes no histogram of a column with missing values, so MLRun has none of such a training set.
    trained = pandas.DataFrame({"x": [value for value in case.reference if value is not None]})
    statistics = DFDataInfer.get_stats(trained, InferOptions.Histogram)
    pad_features_hist(statistics)
    live = calculate_inputs_statistics(statistics, pandas.DataFrame({"x": np.array(case.live, dtype=float)}))
    shares = [MonitoringApplicationContext.dict_to_histogram(side)["x"].to_numpy() for side in (live, statistics)]
    kl = KullbackLeiblerDivergence(distrib_t=shares[0], distrib_u=shares[1]).compute()
    return Figure(float(kl), statistics["x"]["hist"][1][1:-1])


FIGURES: dict[str, Callable[[Case], Figure | None]] = {"evidently": evidently_figure, "mlrun": mlrun_figure}


def answer(peer: str) -> None:
    """Cases from stdin, one JSON document out."""
    figures = [FIGURES[peer](Case(**case)) for case in json.load(sys.stdin)]
    print(json.dumps({"version": importlib.metadata.version(peer), "figures": [f and asdict(f) for f in figures]}))


# --- driftwatch, which is written in Rust ----------------------------------------------------------

MANIFEST = """[package]
name = "figures"
version = "0.0.0"
edition = "2021"

[dependencies]
driftwatch = { version = "=0.1.0", default-features = false }
"""

#: A case is three lines: the kind, reference and live values. An answer is one: the KL, then the edges.
PROGRAM = """use driftwatch::*;
use std::io::BufRead;

fn main() {
    let lines: Vec<String> = std::io::stdin().lock().lines().map(|line| line.unwrap()).collect();
    for case in lines.chunks(3) {
        let words = |line: &str| line.split(' ').map(str::to_string).collect::<Vec<String>>();
        let (reference, live) = (words(&case[1]), words(&case[2]));
        let numbers = |words: &[String]| words.iter().map(|word| word.parse().unwrap()).collect::<Vec<f64>>();
        let labels = |words| Vec::from_iter(<[String]>::iter(words).map(String::as_str));
        let (x, y) = if case[0] == "numeric" { (numbers(&reference), numbers(&live)) } else { (vec![], vec![]) };
        let (a, b) = (labels(&reference), labels(&live));
        let (fitted, given) = if case[0] == "numeric" {
            let bins = EqualFrequencyBinning::default();
            (ReferenceDistribution::fit_continuous("x", &x, bins), LiveFeature::Continuous(&y))
        } else {
            (ReferenceDistribution::fit_categorical("x", &a), LiveFeature::Categorical(&b))
        };
        let fitted = fitted.unwrap();
        let edges = match fitted.histogram().bins() {
            BinDefinition::Continuous { edges } => edges.clone(),
            _ => vec![],
        };
        let mut config = FeatureConfig::default_for(fitted.kind());
        config.primary = MetricKind::Kl;
        let mut monitor = DatasetMonitor::new();
        monitor.add_feature_with_config(fitted, config);
        let report = monitor.check(&[("x", given)]).unwrap();
        print!("{:?}", report.features[0].primary_statistic());
        edges.iter().for_each(|edge| print!(" {edge:?}"));
        println!();
    }
}
"""


def driftwatch_figures(home: Path, asked: Sequence[Case]) -> list[Figure | None]:
    """Build the program in `home`, and ask it. It refuses missing values, so they are left out."""
    (home / "src").mkdir(parents=True, exist_ok=True)
    (home / "Cargo.toml").write_text(MANIFEST, encoding="utf-8")
    (home / "src" / "main.rs").write_text(PROGRAM, encoding="utf-8")
    text = ""
    for case in asked:
        text += "numeric\n" if case.numeric else "categorical\n"
        for side in (case.reference, case.live):
            text += " ".join(str(value) for value in side if value is not None) + "\n"
    command = ["cargo", "run", "--release", "--quiet", "--manifest-path", str(home / "Cargo.toml")]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    answers = [[float(word) for word in line.split()] for line in done.stdout.splitlines()]
    return [Figure(kl, edges or None) for kl, *edges in answers]


# --- beside ours -----------------------------------------------------------------------------------


def figures_of(peer: str, asked: Sequence[Case]) -> tuple[str, list[Figure | None]]:
    """Version and figures of a program, which is installed first.

    Raises
    ------
    NotInstalled
        with the last line of what went wrong
    """
    from tests.benchmarks.peers import ENVIRONMENTS, NotInstalled, environment

    if peer == "driftwatch":
        if shutil.which("cargo") is None:
            raise NotInstalled("there is no cargo to build it with")
        return REQUIREMENTS[peer][0].partition("==")[2], driftwatch_figures(ENVIRONMENTS / peer, asked)
    python = environment(peer, REQUIREMENTS[peer])
    text = json.dumps([asdict(case) for case in asked])
    # Not where the peer's own folders could be taken for packages.
    done = subprocess.run(
        [str(python), "-I", "-W", "ignore", __file__, peer],
        input=text, capture_output=True, text=True, cwd=Path(__file__).parent,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{peer} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return found["version"], [figure and Figure(**figure) for figure in found["figures"]]


def differences(peer: str, asked: Sequence[Case], figures: Sequence[Figure | None]) -> dict[str, float]:
    """|ours - theirs| / theirs of every case that the program has a figure for, by the case's name."""
    from kldrift.drift.judging.other_estimators import estimate

    found = {}
    for case, figure in zip(asked, figures, strict=True):
        if figure is not None:
            reference, live = cells_of(case, figure)
            offsets = np.array([0, live.size])
            [[ours]] = estimate(peer, live[np.newaxis], reference.astype(float), offsets, np.array([case.numeric]))
            found[case.name] = float(abs(ours - figure.kl) / abs(figure.kl))
    return found


def main() -> int:
    """Print the table; 1 where a program is missing from it, or says something else than we do."""
    from tests.benchmarks.peers import NotInstalled

    asked, failed = cases(), False
    print("| estimator | version | cases | largest relative difference | in case |")
    print("|---|---|---:|---:|---|")
    for peer in REQUIREMENTS:
        try:
            version, figures = figures_of(peer, asked)
        except NotInstalled as problem:
            print(f"| {peer} | not installed: {problem} | 0 | | |")
            failed = True
            continue
        found = differences(peer, asked, figures)
        worst = max(found, key=found.__getitem__)
        print(f"| {peer} | {version} | {len(found)} | {found[worst]:.1e} | {worst} |")
        failed |= not found[worst] <= TOLERANCE
    return int(failed)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        answer(sys.argv[1])
    else:
        sys.exit(main())
