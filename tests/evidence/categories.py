"""Categories of which most are too rare for a reference: ``python -m tests.evidence.categories``."""

from dataclasses import dataclass

import numpy as np

from kldrift.drift.judging.evaluation import Evaluation, WindowTotals
from kldrift.drift.references.data import build_references
from kldrift.records.kinds import OVERFLOW, UNDERFLOW
from kldrift.records.samples import CategoricalColumn
from kldrift.records.specs import FeatureSpec, MonitorSpec, WindowSpec
from kldrift.records.types import FloatArray, IntArray
from tests.evidence.monitored import sliding
from tests.evidence.streams import Generator
from tests.evidence.table import made_by, markdown_table, parts

SEED = 20_250_104
REFERENCES, TICKS = 20, 500
PANE_SAMPLES = 100
WINDOW_PANES = (16, 64, 256)
TOLERANCES = (0.0, 0.005, 0.01)
WINDOWS = tuple(WindowSpec(f"{n}m", n * 60_000) for n in WINDOW_PANES)
SPEC = FeatureSpec("category", "categorical")


@dataclass(frozen=True)
class Setting:
    """Values by Zipf's law, of which a share is replaced by values that never came before."""

    exponent: float
    n_values: int
    reference_rows: int
    new: float = 0.0

    @property
    def name(self) -> str:
        """How the tables call it."""
        name = f"Zipf({self.exponent:g}), {self.n_values:,} values, m = {self.reference_rows:,}"
        return f"{name}; {100 * self.new:g} % new" if self.new else name

    @property
    def probabilities(self) -> FloatArray:
        """(n_values,), those of the values that come before and after."""
        p = 1 / np.arange(1, self.n_values + 1) ** self.exponent
        return np.asarray(p / p.sum())


QUIET = (
    Setting(1.1, 300, 3_000),
    Setting(1.5, 300, 3_000),
    Setting(1.05, 2_000, 1_000),
    Setting(1.05, 2_000, 10_000),
    Setting(1.3, 100_000, 10_000),
)
DRIFTING = (Setting(1.1, 300, 20_000, 0.01), Setting(1.5, 300, 3_000, 0.05), Setting(1.5, 300, 20_000, 0.05))


@dataclass
class Found:
    """Alarmed windows by tolerance, and the shares of new values."""

    windows: int
    alarmed: IntArray
    expected: float
    unseen: float


def measure(rng: Generator, setting: Setting, references: int = REFERENCES, ticks: int = TICKS) -> Found:
    """Count the windows whose lower bound is above each tolerance."""
    p, names = setting.probabilities, tuple(f"c{i}" for i in range(setting.n_values))
    alarmed, windows, expected, unseen = np.zeros(len(TOLERANCES), dtype=np.int64), 0, 0.0, 0.0
    for _ in range(references):
        codes = rng.choice(setting.n_values, setting.reference_rows, p=p).astype(np.int32)
        (reference,) = build_references([SPEC], [CategoricalColumn(names, codes)], 0, "evidence", by_time=True)
        n_cells = len(reference.cells)
        shape = reference.shape.to_json()
        cells = {name: i for i, name in enumerate(shape["categories"])} | dict.fromkeys(
            shape["other"], n_cells + UNDERFLOW
        )
        cell_of = np.array([cells.get(name, n_cells + OVERFLOW) for name in names])
        live = cell_of[rng.choice(setting.n_values, (WINDOW_PANES[-1] + ticks) * PANE_SAMPLES, p=p)]
        live[rng.random(live.size) < setting.new] = n_cells + OVERFLOW
        panes = np.array([np.bincount(pane, minlength=n_cells) for pane in live.reshape(-1, PANE_SAMPLES)])
        evaluation = Evaluation(MonitorSpec("evidence", (SPEC,), WINDOWS), [reference])
        for length in WINDOW_PANES:
            totals = WindowTotals(sliding(panes, length, WINDOW_PANES[-1]))
            found = evaluation.evaluate(totals, 0).snapshot
            alarmed += np.array([np.count_nonzero(found.lower > tolerance) for tolerance in TOLERANCES])
            windows += ticks
            unseen += float(found.unseen_ratio.mean()) / references / len(WINDOW_PANES)
        expected += found.features[0].expected_unseen / references
    return Found(windows, alarmed, expected, unseen)


def section(references: int = REFERENCES, ticks: int = TICKS) -> str:
    """The section of the document."""
    rng = np.random.default_rng(SEED)
    rows = []
    for setting in (*QUIET, *DRIFTING):
        found = measure(rng, setting, references, ticks)
        rates = (f"{10_000 * n / found.windows:,.0f}" for n in found.alarmed)
        rows.append([setting.name, f"{100 * found.expected:.2f} %", f"{100 * found.unseen:.2f} %", *rates])
    header = ["stream", "new values expected", "found", *(f"lower bound > {tolerance:g}" for tolerance in TOLERANCES)]
    return parts(
        "## Categories with a long tail",
        made_by("categories", SEED, f"{references} references × {ticks} ticks × {len(WINDOWS)} windows a stream"),
        """Alarmed windows in 10,000, of 1,600, 6,400 and 25,600 samples, at alpha = 1e-4 per tick. In the streams at
the top nothing happens: what looks new was too rare for the reference. In the others a share of the values is replaced
by values that never came before. *Expected* is what `kldrift_unseen_expected_ratio` says.""",
        markdown_table(header, rows),
    )


if __name__ == "__main__":
    print(section())
