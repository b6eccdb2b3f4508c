"""The cells of a series, as charts need them."""

from typing import Literal

import numpy as np

from kldrift.pages.charts import Cell
from kldrift.pages.reading import SPECIAL_CELLS, explanation_of
from kldrift.records.kinds import STRUCTURAL_CELLS
from kldrift.records.snapshots import MonitorSnapshot


def cells_of(monitor: MonitorSnapshot, f: int, w: int) -> list[Cell]:
    """Return the cells of one series; none for a vector, or where there is nothing to compare."""
    explanation = explanation_of(monitor, f, w)
    if explanation is None:
        return []
    info, own = monitor.features[f], slice(int(monitor.offsets[f]), int(monitor.offsets[f + 1]))
    q = monitor.reference_probabilities[w, own]
    compared = ~np.isnan(q)
    live = monitor.counts[w, own] / max(1, int(monitor.counts[w, own][compared].sum()))
    # Draw the reference's own shares where it has counts; the divergence is of these, smoothed.
    counts = info.reference_counts
    moving = float(monitor.reference_rows[w, f]) != info.reference_rows
    known = counts is not None and counts.sum() > 0 and not moving
    reference = counts / counts.sum() if known and counts is not None else q
    n_own = len(info.cells) - STRUCTURAL_CELLS
    edges = info.edges
    own_kind: Literal["bin", "category"] = "category" if edges is None else "bin"
    cells = []
    rows = float(monitor.reference_rows[w, f])
    for i, name in enumerate(info.cells):
        if not compared[i] or (i >= n_own and live[i] == 0 and reference[i] <= 1 / rows):
            continue  # not part of the divergence, or empty on both sides: that share comes from smoothing alone
        left, right = (float(edges[i]), float(edges[i + 1])) if edges is not None and i < n_own else (None, None)
        cells.append(
            Cell(
                name if i < n_own else SPECIAL_CELLS.get(name, name),
                float(live[i]),
                float(np.nan_to_num(reference[i])),
                float(explanation.contributions[i]),
                own_kind if i < n_own else "special",
                left,
                right,
            )
        )
    return cells
