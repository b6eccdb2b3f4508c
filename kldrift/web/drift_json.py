"""What a snapshot says of a monitor and of one series, in numbers that JSON has: see `finite`."""

from dataclasses import asdict
from typing import Any

import numpy as np

from kldrift.drift.detection import severity
from kldrift.drift.explanation import Explanation, explain
from kldrift.records import DIVERGENCES, FloatArray, IntArray, MonitorSnapshot

#: A window is judged from so many samples a bin on (statistics, section 4).
_SAMPLES_PER_BIN = 10

_PARTS = {"missing": "missing values", "new": "values without a bin of their own", "shape": "the shape of the rest"}


def monitor_json(monitor: MonitorSnapshot) -> dict[str, Any]:
    """Every feature and window of a monitor, or of one of its segments."""
    divergences = finite(monitor.divergences)
    columns = [
        (field, finite(getattr(monitor, field)))
        for field in (
            "noise_floor",
            "lower",
            "upper",
            "log10_p_value",
            "missing_ratio",
            "unseen_ratio",
            "out_of_range_ratio",
        )
    ]
    samples, ready = monitor.samples.tolist(), monitor.ready.tolist()
    most, ever_ready = monitor.samples.max(axis=0).tolist(), np.any(monitor.ready, axis=0).tolist()
    features = [
        {
            "name": info.name,
            "kind": info.kind,
            "problem": info.problem,
            "state": state(most[f], ever_ready[f]),
            "detected": detected,
            "thresholds": {"warning": info.warning, "critical": info.critical},
            "windows": {
                window: {
                    "state": state(samples[w][f], ready[w][f]),
                    "samples": samples[w][f],
                    "ready": ready[w][f],
                    "divergences": dict(zip(DIVERGENCES, divergences[w][f], strict=True)),
                    **{field: values[w][f] for field, values in columns},
                }
                for w, window in enumerate(monitor.windows)
            },
        }
        for f, (info, detected) in enumerate(zip(monitor.features, _verdicts(monitor.detected), strict=True))
    ]
    return {
        "name": monitor.name,
        "segment": monitor.segment,
        "at_ms": monitor.at_ms,
        "smoothing": monitor.smoothing,
        "estimator": monitor.estimator,
        "confidence": monitor.confidence,
        "exported": monitor.exported,
        "windows": monitor.windows,
        "segments": _segments(monitor),
        "features": features,
    }


def _segments(monitor: MonitorSnapshot) -> dict[str, Any] | None:
    """The segments, largest first, and for each window their shares of the rows and how much the mix has changed."""
    if monitor.segment_mix.size == 0:
        return None
    rows = np.array([segment.samples.max(axis=1, initial=0) for segment in monitor.segments], dtype=np.int64)
    rows = rows.reshape(len(monitor.segments), len(monitor.windows))
    with np.errstate(invalid="ignore"):
        shares = rows / rows.sum(axis=0)
    return {
        "names": [segment.segment for segment in monitor.segments],
        "windows": {
            window: {
                "mix": finite(monitor.segment_mix[w]),
                "rows": rows[:, w].tolist(),
                "shares": finite(shares[:, w]),
            }
            for w, window in enumerate(monitor.windows)
        },
    }


def feature_json(monitor: MonitorSnapshot, f: int, w: int) -> dict[str, Any]:
    """Everything that the figures of one series were computed from, and where its divergence sits."""
    info = monitor.features[f]
    own_cells = slice(int(monitor.offsets[f]), int(monitor.offsets[f + 1]))
    samples, ready = int(monitor.samples[w, f]), bool(monitor.ready[w, f])
    per_dimension, within = monitor.per_dimension.get(f), monitor.within_segments
    explanation = _explanation(monitor, f, w)
    return {
        "monitor": monitor.name,
        "segment": monitor.segment,
        "feature": info.name,
        "kind": info.kind,
        "window": monitor.windows[w],
        "windows": monitor.windows,
        "at_ms": monitor.at_ms,
        "state": state(samples, ready),
        "reading": reading(monitor, f, w, explanation),
        "samples": samples,
        "ready": ready,
        "problem": info.problem,
        "detected": _verdicts(monitor.detected[f : f + 1])[0],
        "divergences": dict(zip(DIVERGENCES, finite(monitor.divergences[w, f]), strict=True)),
        "estimator": monitor.estimator,
        "explanation": explanation and {name: finite(np.asarray(x)) for name, x in asdict(explanation).items()},
        "per_dimension": None if per_dimension is None else finite(per_dimension[w]),
        "within_segments": finite(within[w, f]) if within.size else None,
        "noise_floor": finite(monitor.noise_floor[w, f]),
        "lower": finite(monitor.lower[w, f]),
        "upper": finite(monitor.upper[w, f]),
        "confidence": monitor.confidence,
        "log10_p_value": finite(monitor.log10_p_value[w, f]),
        "effective_samples": finite(monitor.effective_samples[w, f]),
        "dispersion": finite(monitor.dispersion[w, f]),
        "missing_ratio": finite(monitor.missing_ratio[w, f]),
        "unseen_ratio": finite(monitor.unseen_ratio[w, f]),
        "out_of_range_ratio": finite(monitor.out_of_range_ratio[w, f]),
        "thresholds": {"warning": info.warning, "critical": info.critical},
        "edges": None if info.edges is None else finite(info.edges),
        "categories": info.categories,
        "cells": info.cells,
        "live_counts": monitor.counts[w, own_cells].tolist(),
        "reference": info.reference_text,
        "parameters": {name: finite(np.float64(value)) for name, value in info.parameters},
        "reference_counts": None if info.reference_counts is None else info.reference_counts.tolist(),
        "reference_probabilities": finite(monitor.reference_probabilities[w, own_cells]),
        "reference_rows": finite(monitor.reference_rows[w, f]),
        "reference_created_ms": info.reference_created_ms,
        "reference_hash": info.reference_hash,
        "bins_hash": info.bins_hash,
        "smoothing": monitor.smoothing,
    }


def _explanation(monitor: MonitorSnapshot, f: int, w: int) -> Explanation | None:
    """None where there are no cells to explain by, no samples, or nothing that they are compared with."""
    kind = monitor.features[f].kind
    compared = monitor.samples[w, f] > 0 and not np.isnan(monitor.divergences[w, f]).all()
    if kind not in ("numeric", "categorical") or not compared:
        return None
    own_cells = slice(int(monitor.offsets[f]), int(monitor.offsets[f + 1]))
    return explain(monitor.counts[w, own_cells], monitor.reference_probabilities[w, own_cells], kind)


def state(samples: int, ready: bool) -> str:
    """``ready`` (large enough to judge), ``undecided`` (too small, or no usable reference) or ``empty``."""
    if samples == 0:
        return "empty"
    return "ready" if ready else "undecided"


def reading(monitor: MonitorSnapshot, f: int, w: int, explanation: Explanation | None) -> str:
    """Why a series is in its state, in one line for people."""
    info = monitor.features[f]
    samples, lower = int(monitor.samples[w, f]), float(monitor.lower[w, f])
    if samples == 0:
        return "empty: no samples in this window"
    if not monitor.ready[w, f]:
        return f"undecided: {_why_undecided(monitor, f, w)}"
    reached = severity(lower, info.warning, info.critical)
    if reached is None:
        why = f"lower bound {lower:.3g} is not above the warning tolerance {info.warning:g}"
        above = monitor.upper[w, f] > info.warning
        return f"{why}, upper bound {monitor.upper[w, f]:.3g} is: no drift shown" if above else f"{why}: no drift"
    tolerance = getattr(info, reached)
    text = f"lower bound {lower:.3g} is above the {reached} tolerance {tolerance:g}: drift"
    if monitor.detected[f, 1 if reached == "critical" else 0] == 0:
        text += ", but no verdict: it may be chance"
    if explanation is not None and 0 < explanation.kl < np.inf:
        part = max(_PARTS, key=lambda name: float(getattr(explanation, name)))
        share = 100 * getattr(explanation, part) / explanation.kl
        cell = info.cells[int(np.argmax(explanation.contributions))]
        text += f"; {share:.0f} % of the divergence is {_PARTS[part]}, the largest contribution that of {cell!r}"
    return text


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


def _verdicts(detected: FloatArray) -> list[dict[str, bool | None]]:
    """(F, 2) verdicts: true, false, or null where undecided."""
    words = {1.0: True, 0.0: False}
    return [{"warning": words.get(warning), "critical": words.get(critical)} for warning, critical in detected.tolist()]


def finite(values: FloatArray | np.float64) -> Any:
    """`values` as (nested lists of) numbers that JSON has: NaN is null, the infinities are "+Inf" and "-Inf"."""
    if np.isfinite(values).all():
        return values.tolist()
    numbers = np.array(values, dtype=object)
    numbers[np.isnan(values)] = None
    numbers[np.isposinf(values)] = "+Inf"
    numbers[np.isneginf(values)] = "-Inf"
    return numbers.tolist()
