"""What a series says, in words for people: its state, why it is in it, and where its divergence sits."""

import numpy as np

from kldrift.drift.judging.explanation import Explanation, explain
from kldrift.drift.judging.states import series_state
from kldrift.records.snapshots import MonitorSnapshot
from kldrift.records.types import IntArray

#: A window is judged from so many samples a bin on (statistics, section 4).
_SAMPLES_PER_BIN = 10

_PARTS = {"missing": "missing values", "new": "values without a bin of their own", "shape": "the shape of the rest"}


def reading(monitor: MonitorSnapshot, f: int, w: int, explanation: Explanation | None) -> str:
    """Why a series is in its state, in one line for people."""
    info = monitor.features[f]
    lower, state = float(monitor.lower[w, f]), series_state(monitor, w, f)
    if state == "empty":
        return "empty: no samples in this window"
    if state == "undecided":
        return f"undecided: {_why_undecided(monitor, f, w)}"
    if state == "quiet":
        why = f"lower bound {_figure(lower)} is not above the warning tolerance {info.warning:g}"
        above = monitor.upper[w, f] > info.warning
        return f"{why}, upper bound {_figure(monitor.upper[w, f])} is: no drift shown" if above else f"{why}: no drift"
    tolerance = getattr(info, state)
    text = f"lower bound {_figure(lower)} is above the {state} tolerance {tolerance:g}: drift"
    if monitor.detected[f, 1 if state == "critical" else 0] == 0:
        text += ", but no verdict: it may be chance"
    if explanation is not None and np.isinf(explanation.kl):
        cell = info.cells[int(np.argmax(explanation.contributions))]
        text += f"; the divergence is infinite, since {cell!r} has no share in the reference"
    elif explanation is not None and explanation.kl > 0:
        part = max(_PARTS, key=lambda name: float(getattr(explanation, name)))
        share = 100 * getattr(explanation, part) / explanation.kl
        cell = info.cells[int(np.argmax(explanation.contributions))]
        text += f"; {share:.0f} % of the divergence is {_PARTS[part]}, the largest contribution that of {cell!r}"
    return text


def _figure(value: float) -> str:
    return "∞" if np.isinf(value) else f"{value:.3g}"


def _why_undecided(monitor: MonitorSnapshot, f: int, w: int) -> str:
    if (problem := monitor.features[f].problem) is not None:
        return problem
    rows = float(monitor.reference_rows[w, f])
    if rows == 0:
        return "there is nothing yet to compare this window with"
    # The noise floor is (B - 1) / 2N.
    needed = _SAMPLES_PER_BIN * (1 + 2 * monitor.effective_samples[w, f] * monitor.noise_floor[w, f])
    present = _judged_samples(monitor, f, w)
    if not np.isfinite(needed):
        return f"{present:,} samples are too few"
    if present < round(needed):
        return f"{present:,} samples, needs {needed:,.0f}"
    return f"{rows:,.0f} rows to compare it with, needs {needed:,.0f}"


def _judged_samples(monitor: MonitorSnapshot, f: int, w: int) -> int:
    """Missing values are a cell like any other; a missing vector is none."""
    counts: IntArray = monitor.counts[w, monitor.offsets[f] : monitor.offsets[f + 1]]
    return int(counts.sum() if monitor.features[f].kind in ("numeric", "categorical") else counts[:-1].sum())


def explanation_of(monitor: MonitorSnapshot, f: int, w: int) -> Explanation | None:
    """None where there are no cells to explain by, no samples, or nothing that they are compared with."""
    kind = monitor.features[f].kind
    compared = monitor.samples[w, f] > 0 and not np.isnan(monitor.divergences[w, f]).all()
    if kind not in ("numeric", "categorical") or not compared:
        return None
    own_cells = slice(int(monitor.offsets[f]), int(monitor.offsets[f + 1]))
    return explain(monitor.counts[w, own_cells], monitor.reference_probabilities[w, own_cells], kind)
