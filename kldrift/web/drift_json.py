"""Snapshots of monitors and series as JSON values; `finite` replaces the numbers that JSON lacks."""

import csv
import io
from dataclasses import asdict
from typing import Any

import numpy as np

from kldrift.drift.judging.sensitivity import SmallestDrift
from kldrift.drift.judging.states import readiness
from kldrift.pages.reading import explanation_of, reading, sensitivity
from kldrift.records.divergences import DIVERGENCES
from kldrift.records.snapshots import MonitorSnapshot, Track
from kldrift.records.types import FloatArray


def monitor_json(monitor: MonitorSnapshot) -> dict[str, Any]:
    """Return every feature and window of a monitor, or of one of its segments."""
    divergences = finite(monitor.divergences)
    columns = [
        (field, finite(getattr(monitor, field)))
        for field in (
            "noise_floor",
            "lower",
            "upper",
            "log10_p_value",
            "missing_ratio",
            "invalid_ratio",
            "unseen_ratio",
            "out_of_range_ratio",
        )
    ]
    samples, ready, absent = monitor.samples.tolist(), monitor.ready.tolist(), monitor.absent.tolist()
    most, ever_ready = monitor.samples.max(axis=0).tolist(), np.any(monitor.ready, axis=0).tolist()
    ever_absent = np.any(monitor.absent, axis=0).tolist()
    features = [
        {
            "name": info.name,
            "kind": info.kind,
            "problem": info.problem,
            "state": readiness(most[f], ever_ready[f], ever_absent[f]),
            "detected": detected,
            "thresholds": {"warning": info.warning, "critical": info.critical},
            "windows": {
                window: {
                    "state": readiness(samples[w][f], ready[w][f], absent[w][f]),
                    "samples": samples[w][f],
                    "ready": ready[w][f],
                    "absent": absent[w][f],
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
        "began": [{"at_ms": at_ms, "text": text} for at_ms, text in monitor.began],
        "features": features,
    }


def _segments(monitor: MonitorSnapshot) -> dict[str, Any] | None:
    """Return the segments, largest first, with their shares of the rows and the divergence of the mix, by window."""
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
    """Return everything that the figures of one series were computed from, and what changed."""
    info = monitor.features[f]
    own_cells = slice(int(monitor.offsets[f]), int(monitor.offsets[f + 1]))
    samples, ready, absent = int(monitor.samples[w, f]), bool(monitor.ready[w, f]), bool(monitor.absent[w, f])
    per_dimension, within = monitor.per_dimension.get(f), monitor.within_segments
    explanation, shows = explanation_of(monitor, f, w), sensitivity(monitor, f, w)
    return {
        "monitor": monitor.name,
        "segment": monitor.segment,
        "feature": info.name,
        "kind": info.kind,
        "window": monitor.windows[w],
        "windows": monitor.windows,
        "at_ms": monitor.at_ms,
        "state": readiness(samples, ready, absent),
        "reading": reading(monitor, f, w, explanation),
        "samples": samples,
        "ready": ready,
        "absent": absent,
        "problem": info.problem,
        "limits": info.limits,
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
        "invalid_ratio": finite(monitor.invalid_ratio[w, f]),
        "unseen_ratio": finite(monitor.unseen_ratio[w, f]),
        "unseen_expected_ratio": finite(np.float64(info.expected_unseen)),
        "out_of_range_ratio": finite(monitor.out_of_range_ratio[w, f]),
        "thresholds": {"warning": info.warning, "critical": info.critical},
        "smallest_drift": {
            "window": _drifts(shows.window),
            "any_window": _drifts(shows.any_window),
        },
        "edges": None if info.edges is None else finite(info.edges),
        "reference_range": None if info.value_range is None else finite(np.array(info.value_range)),
        "categories": info.categories,
        "cells": info.cells,
        "left_out": [name for name, q in zip(info.cells, info.reference_probabilities, strict=True) if np.isnan(q)],
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


def _drifts(drifts: tuple[SmallestDrift, SmallestDrift] | None) -> dict[str, dict[str, Any]] | None:
    """Return the smallest drifts, warning and critical; "+Inf" where nothing can alarm."""
    if drifts is None:
        return None
    found = [{"nats": finite(np.float64(x.nats)), "sigma": finite(np.float64(x.sigma))} for x in drifts]
    return dict(zip(("warning", "critical"), found, strict=True))


def history_json(track: Track) -> dict[str, Any]:
    """Return one series over time."""
    values = {name: finite(getattr(track, name)[:, 0, 0].astype(np.float64)) for name in ("kl", "lower", "upper")}
    return {"at_ms": track.at_ms.tolist(), **values}


def counts_csv(monitor: MonitorSnapshot, f: int, w: int) -> str:
    """Return the cells of one series: name, live count, reference count (empty if known exactly), smoothed q.

    The last is empty in cells that are not part of the divergence.
    """
    info, own = monitor.features[f], slice(int(monitor.offsets[f]), int(monitor.offsets[f + 1]))
    live = monitor.counts[w, own].tolist()
    q = ["" if np.isnan(p) else p for p in monitor.reference_probabilities[w, own].tolist()]
    reference = [""] * len(live) if info.reference_counts is None else info.reference_counts.tolist()
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("cell", "live_count", "reference_count", "reference_probability"))
    writer.writerows((_no_formula(name), *rest) for name, *rest in zip(info.cells, live, reference, q, strict=True))
    return out.getvalue()


def _no_formula(name: str) -> str:
    """Quote a name that a spreadsheet would take for a formula; a bin such as ``[-1, 2)`` is not one."""
    return f"'{name}" if name[:1] in ("=", "+", "-", "@", "\t", "\r") else name


def _verdicts(detected: FloatArray) -> list[dict[str, bool | None]]:
    """Return (F, 2) verdicts as true, false, or null where undecided."""
    words = {1.0: True, 0.0: False}
    return [{"warning": words.get(warning), "critical": words.get(critical)} for warning, critical in detected.tolist()]


def finite(values: FloatArray | np.float64) -> Any:
    """Convert numbers, in nested lists, for JSON: NaN becomes null, infinities become "+Inf" and "-Inf"."""
    if np.isfinite(values).all():
        return values.tolist()
    numbers = np.array(values, dtype=object)
    numbers[np.isnan(values)] = None
    numbers[np.isposinf(values)] = "+Inf"
    numbers[np.isneginf(values)] = "-Inf"
    return numbers.tolist()
