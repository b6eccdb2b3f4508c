"""A series in words: its state, the reason for it, and what changed."""

from dataclasses import dataclass

import numpy as np

from kldrift.drift.judging.explanation import Explanation, explain
from kldrift.drift.judging.sensitivity import SmallestDrift, smallest_at, smallest_in_window
from kldrift.drift.judging.spelling import spelling_hint
from kldrift.drift.judging.states import bound_severity, feature_states, series_state
from kldrift.pages.charts.drawing import number, numbers
from kldrift.records.kinds import KINDS, SAMPLES_PER_BIN, STRUCTURAL_CELLS
from kldrift.records.snapshots import FeatureInfo, MonitorSnapshot

#: What the parts of a divergence come from; those in *invalid* depend on the kind of feature.
_PARTS = {
    "missing": "missing values",
    "new": "values without a bin of their own",
    "shape": "a change of shape",
}

#: What the cells behind the bins are called on pages.
SPECIAL_CELLS = {
    "underflow": "below the bins",
    "overflow": "above the bins",
    "other": "rare in the reference",
    "unseen": "not in the reference",
    "missing": "missing",
    "invalid": "of the wrong type",
}

#: Minimum share of values out of range that a reading mentions.
OUT_OF_RANGE_SHOWN = 0.01


def reading(monitor: MonitorSnapshot, f: int, w: int, explanation: Explanation | None) -> str:
    """Say in a sentence or two which state a series is in, why, and what changed."""
    info = monitor.features[f]
    lower, upper = float(monitor.lower[w, f]), float(monitor.upper[w, f])
    state = series_state(monitor, w, f)
    if state == "empty":
        return "No samples in this window yet."
    if state in ("absent", "undecided"):
        return f"{state.capitalize()}: {why_undecided(monitor, f, w)}."
    exceeded = bound_severity(monitor, w, f)
    if exceeded is None:
        if upper > info.warning:
            return (
                f"No certain drift: KL is between {_figure(lower)} and {_figure(upper)} nats, and a warning takes a"
                f" lower bound above {info.warning:g}."
            )
        return f"No drift: KL is at most {_figure(upper)} nats, within the tolerance of {info.warning:g}."
    word = "No confirmed drift" if state == "quiet" else state.capitalize()
    tolerance = getattr(info, exceeded if state == "quiet" else state)
    text = f"{word}: KL is at least {_figure(lower)} nats, above the tolerance of {tolerance:g}."
    if state == "quiet":
        text += " It may be chance: the verdict over all features does not confirm it."
    elif state != exceeded:
        text += (
            f" It is also above the {exceeded} tolerance of {getattr(info, exceeded):g}, but that may be chance: the"
            " verdict over all features does not confirm it."
        )
    hint = spelling_hint(monitor, f, w)
    text += f" {hint}." if hint else ""
    return text if explanation is None else text + _what_changed(monitor, f, w, explanation)


def _what_changed(monitor: MonitorSnapshot, f: int, w: int, explanation: Explanation) -> str:
    info, own_cells = monitor.features[f], slice(int(monitor.offsets[f]), int(monitor.offsets[f + 1]))
    largest = int(np.argmax(explanation.contributions))
    label = cell_label(info, largest)
    if np.isinf(explanation.kl):
        return f" The divergence is infinite, since the reference gives {label} a probability of 0."
    if not explanation.kl > 0:
        return ""
    counts = monitor.counts[w, own_cells]
    live = counts[largest] / monitor.judged_samples(w, f)
    reference = float(monitor.reference_probabilities[w, own_cells][largest])
    parts = {**_PARTS, "invalid": KINDS[info.kind].invalid}
    part = max(parts, key=lambda name: float(getattr(explanation, name)))
    there = "to be expected" if info.cells[largest] == "unseen" else "in the reference"
    share = 100 * getattr(explanation, part) / explanation.kl
    return (
        f" {share:.0f} % of the divergence comes from {parts[part]}. The biggest contributor is {label}:"
        f" {_percent(live)} of rows now, {_percent(reference)} {there}." + _out_of_range(monitor, f, w)
    )


def _out_of_range(monitor: MonitorSnapshot, f: int, w: int) -> str:
    """Say how many values the outermost bins hold that lie beyond the reference's own range, if that is much."""
    info, ratio = monitor.features[f], float(monitor.out_of_range_ratio[w, f])
    open_ends = info.edges is not None and np.isinf(info.edges[[0, -1]]).any()
    if not open_ends or info.value_range is None or not ratio >= OUT_OF_RANGE_SHOWN:
        return ""
    low, high = (_grouped(text) for text in numbers(info.value_range))
    return f" {_percent(ratio)} of rows lie outside the range of the reference, {low} to {high}."


def cell_label(info: FeatureInfo, cell: int) -> str:
    """Name a cell within a sentence: ``0.5 to 1.25``, ``values below 3``, ``'red'``, ``missing values``."""
    name = info.cells[cell]
    if cell >= len(info.cells) - STRUCTURAL_CELLS:
        if name == "invalid":
            return KINDS[info.kind].invalid
        return "missing values" if name == "missing" else f"values {SPECIAL_CELLS.get(name, name)}"
    if info.edges is None:
        return repr(name)
    left, right = float(info.edges[cell]), float(info.edges[cell + 1])
    if right == np.nextafter(left, np.inf):
        return f"the value {_grouped(number(left, 10))}"
    low, high = (_grouped(text) for text in numbers((left, right)))
    if np.isinf(left):
        return f"values below {high}" if np.isfinite(right) else "any value"
    return f"values from {low} on" if np.isinf(right) else f"{low} to {high}"


def _grouped(text: str) -> str:
    """Group the digits of a number in threes: ``21654.6`` to ``21,654.6``."""
    whole, point, rest = text.partition(".")
    return f"{int(whole):,}{point}{rest}" if whole.lstrip("-").isdigit() and int(whole) else text


def _figure(value: float) -> str:
    return "∞" if np.isinf(value) else f"{value:.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if 0 < share < 0.1 else f"{100 * share:.0f} %"


def undecided_lines(monitor: MonitorSnapshot) -> list[str]:
    """Name each feature that is absent, or that no window decides, with the reason (see `telling_window`)."""
    lines = []
    for f, (info, state) in enumerate(zip(monitor.features, feature_states(monitor), strict=True)):
        if state in ("absent", "undecided", "empty"):
            word = "absent" if state == "absent" else "undecided"
            lines.append(f"{info.name}: {word}: {why_undecided(monitor, f, telling_window(monitor, f))}")
    return lines


def telling_window(monitor: MonitorSnapshot, f: int) -> int:
    """Return the window that says why a feature is not judged: the fullest, of those without a value if there are."""
    absent = monitor.absent[:, f]
    return int(np.where(absent | ~absent.any(), monitor.samples[:, f], -1).argmax())


def why_undecided(monitor: MonitorSnapshot, f: int, w: int) -> str:
    """Say why a series has no verdict."""
    if monitor.absent[w, f]:
        return (
            f"none of {int(monitor.samples[w, f]):,} rows has a value, and the reference has; check that the field is"
            " sent, under this name"
        )
    if int(monitor.samples[w, f]) == 0:
        return "no samples in this window yet"
    if (problem := monitor.features[f].problem) is not None:
        return problem
    rows = float(monitor.reference_rows[w, f])
    if rows == 0:
        return "there is nothing to compare this window with yet"
    # The noise floor is (B - 1) / 2N.
    needed = SAMPLES_PER_BIN * (1 + 2 * monitor.effective_samples[w, f] * monitor.noise_floor[w, f])
    present = monitor.judged_samples(w, f)
    if not np.isfinite(needed):
        return f"{present:,} samples are too few"
    if present < round(needed):
        return f"{present:,} samples so far, and a verdict needs {needed:,.0f}"
    return f"the reference has {rows:,.0f} rows, and a verdict needs {needed:,.0f}"


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The smallest drifts, warning and critical, that a window can show with its samples, and any window could."""

    window: tuple[SmallestDrift, SmallestDrift] | None
    any_window: tuple[SmallestDrift, SmallestDrift] | None

    @property
    def never(self) -> bool:
        """Whether no window can alarm, whatever comes."""
        return self.any_window is not None and bool(np.isinf(self.any_window[0].nats))


def sensitivity(monitor: MonitorSnapshot, f: int, w: int) -> Sensitivity:
    """Return the smallest drifts that a series can show."""
    at_all = smallest_at(monitor.features[f], np.inf, monitor.confidence, len(monitor.windows))
    return Sensitivity(smallest_in_window(monitor, f, w), at_all)


def explanation_of(monitor: MonitorSnapshot, f: int, w: int) -> Explanation | None:
    """Explain a series by its cells; None for vectors, empty windows, and windows with nothing to compare with."""
    kind = monitor.features[f].kind
    compared = monitor.samples[w, f] > 0 and not np.isnan(monitor.divergences[w, f]).all()
    if not KINDS[kind].histogram or not compared:
        return None
    own_cells = slice(int(monitor.offsets[f]), int(monitor.offsets[f + 1]))
    return explain(monitor.counts[w, own_cells], monitor.reference_probabilities[w, own_cells], kind)
