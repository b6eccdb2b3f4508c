"""Bins of a schema's columns, and what rows count in them by way of columns."""

import numpy as np

from kldrift.kernels.bin_table import BinTable, CategoryBins, NumericBins, make_bin_table
from kldrift.kernels.fill import fill_counts
from kldrift.records.samples import BatchSchema, Decoded, FeatureSchema
from kldrift.records.types import IntArray

_EDGES = np.array([-1e300, -9.0, -1.0, 0.0, 1.0, 2.0, 9.0, 1000.0, 1e300])


def bins_of(schema: BatchSchema) -> BinTable:
    """A cell for each category, and the same edges for all numbers."""
    return make_bin_table([_bins(feature) for feature in schema.features])


def _bins(feature: FeatureSchema) -> NumericBins | CategoryBins:
    if feature.kind == "numeric":
        return NumericBins(_EDGES)
    n_codes = feature.missing_code + 1
    return CategoryBins(np.arange(n_codes, dtype=np.int32), n_codes + 1)  # the last is for invalid values


def counts_of(decoded: Decoded, bins: BinTable) -> IntArray:
    """Counts of the rows of a batch, (n_cells,)."""
    counts = np.zeros((1, bins.offsets[-1]), dtype=np.int64)
    fill_counts(bins, decoded.batch.columns, None, counts)
    for feature, at in decoded.batch.invalid:
        missing, invalid = bins.offsets[feature + 1] + [-2, -1]
        counts[0, missing] -= len(at)
        counts[0, invalid] += len(at)
    return counts[0]


def assert_counted(found: Decoded, expected: Decoded, bins: BinTable) -> None:
    """A batch of counts tells of the same rows as one of columns."""
    counts = found.batch.counts
    assert counts is not None
    assert counts.layout is bins
    assert not found.batch.columns
    assert found.batch.n_rows == expected.batch.n_rows
    assert found.bodies == expected.bodies
    assert [(f, at.tolist()) for f, at in found.batch.invalid] == [(f, at.tolist()) for f, at in expected.batch.invalid]
    np.testing.assert_array_equal(counts.values, counts_of(expected, bins))
