"""The cells of a series as a chart takes them."""

from typing import Literal

import numpy as np

from kldrift.pages.charts import Cell
from kldrift.pages.reading import explanation_of
from kldrift.records.snapshots import MonitorSnapshot

#: What the cells behind the bins are called where people see them.
_SPECIAL = {
    "underflow": "below the bins",
    "overflow": "above the bins",
    "other": "rare in the reference",
    "unseen": "not in the reference",
    "missing": "missing",
}


def cells_of(monitor: MonitorSnapshot, f: int, w: int) -> list[Cell]:
    """The cells of one series; none of a vector, nor where there is nothing to compare."""
    explanation = explanation_of(monitor, f, w)
    if explanation is None:
        return []
    info, own = monitor.features[f], slice(int(monitor.offsets[f]), int(monitor.offsets[f + 1]))
    live = monitor.counts[w, own] / max(1, int(monitor.counts[w, own].sum()))
    # The reference's own shares where it has counts: what is compared with is those, smoothed.
    counts = info.reference_counts
    moving = float(monitor.reference_rows[w, f]) != info.reference_rows
    known = counts is not None and counts.sum() > 0 and not moving
    q = monitor.reference_probabilities[w, own]
    reference = counts / counts.sum() if known and counts is not None else q
    n_own = len(info.cells) - 3
    edges = info.edges
    own_kind: Literal["bin", "category"] = "category" if edges is None else "bin"
    cells = []
    rows = float(monitor.reference_rows[w, f])
    for i, name in enumerate(info.cells):
        if i >= n_own and live[i] == 0 and reference[i] <= 1 / rows:
            continue  # without rows in either; the reference's share is of the smoothing
        left, right = (float(edges[i]), float(edges[i + 1])) if edges is not None and i < n_own else (None, None)
        cells.append(
            Cell(
                name if i < n_own else _SPECIAL.get(name, name),
                float(live[i]),
                float(np.nan_to_num(reference[i])),
                float(explanation.contributions[i]),
                own_kind if i < n_own else "special",
                left,
                right,
            )
        )
    return cells
