"""Snapshots for the tests of the export."""

from dataclasses import replace

import numpy as np

from kldrift.records.divergences import N_DIVERGENCES
from kldrift.records.snapshots import DriftSnapshot, FeatureInfo, MonitorSnapshot


def feature(name, kind="numeric", counts=(3, 5, 2), created_ms=1_700_000_000_123, **changes):
    values = {
        "edges": None,
        "categories": None,
        "cells": tuple(f"cell {i}" for i in range(len(counts))),
        "reference_counts": np.array(counts),
        "reference_probabilities": np.array(counts) / sum(counts),
        "reference_rows": float(sum(counts)),
        "reference_created_ms": created_ms,
        "bins_hash": "0123456789abcdef",
        "reference_hash": "fedcba9876543210",
        "warning": 0.01,
        "critical": 0.1,
        "expected_unseen": 0.0 if kind == "categorical" else np.nan,
        **changes,
    }
    return FeatureInfo(name=name, kind=kind, **values)


def monitor(name="loans", features=None, windows=("5m", "1h"), exported=("kl",), seed=0, **changes):
    """A monitor whose arrays hold random values, but for what `changes` says."""
    features = features or (feature("amount"), feature("country", "categorical"))
    rng = np.random.default_rng(seed)
    shape = (len(windows), len(features))
    values = {
        "smoothing": "jeffreys",
        "at_ms": 1_750_000_000_000,
        "offsets": np.arange(len(features) + 1) * 3,
        "samples": rng.integers(1, 10**6, shape),
        "divergences": rng.random((*shape, N_DIVERGENCES)),
        "noise_floor": rng.random(shape) / 100,
        "lower": rng.random(shape) / 10,
        "upper": 1 + rng.random(shape),
        "log10_p_value": -300 * rng.random(shape),
        "effective_samples": 1e5 * rng.random(shape),
        "ready": rng.random(shape) > 0.5,
        "absent": np.zeros(shape, dtype=np.bool_),
        "missing_ratio": rng.random(shape),
        "invalid_ratio": rng.random(shape),
        "unseen_ratio": rng.random(shape),
        "out_of_range_ratio": rng.random(shape),
        "counts": rng.integers(0, 100, (len(windows), 3 * len(features))),
        "dispersion": 1 + rng.random(shape),
        "detected": rng.integers(0, 2, (len(features), 2)).astype(np.float64),
        "reference_probabilities": np.full((len(windows), 3 * len(features)), 1 / 3),
        "reference_rows": np.full(shape, 10.0),
        **changes,
    }
    return MonitorSnapshot(name=name, windows=windows, features=tuple(features), exported=exported, **values)


def segmented(*values, **changes):
    """A monitor with a segment for each value, whatever stands in them."""
    whole = monitor(**changes)
    shape = whole.samples.shape
    rng = np.random.default_rng(99)
    return replace(
        whole,
        segments=tuple(
            replace(monitor(**{**changes, "seed": i + 1, "features": whole.features}), segment=value)
            for i, value in enumerate(values)
        ),
        segment_mix=rng.random(shape[0]),
        within_segments=rng.random(shape),
    )


def snapshot(*monitors, evaluated_ms=1_750_000_000_500):
    return DriftSnapshot(evaluated_ms, monitors)
