"""Batches that decoders have counted already: when they may, and that it makes no difference."""

import numpy as np
import pytest

from kldrift.drift.monitor import Monitor
from kldrift.drift.references.learned import to_learn
from kldrift.drift.segments import Segmentation
from kldrift.kernels.bin_table import BinTable
from kldrift.kernels.fill import fill_counts, move_invalid
from kldrift.records.samples import Counts, SampleBatch
from kldrift.records.specs import FeatureSpec, MonitorSpec, SegmentSpec, WindowSpec
from kldrift.wire import decode
from tests.drift.builders import HOUR, UNIFORM_EXAMPLE, batch, categorical, edges_spec, monitor, reference

NOW = 1_700_000_000_000
COLOURS = FeatureSpec("c", "categorical")
RED_AND_BLUE = categorical(["red"] * 180 + ["blue"] * 120)


def watched() -> Monitor:
    return monitor((edges_spec(), UNIFORM_EXAMPLE), (COLOURS, RED_AND_BLUE))


def bins_of(watched: Monitor) -> BinTable:
    assert watched.bins is not None
    return watched.bins


def counted(samples: SampleBatch, bins: BinTable) -> SampleBatch:
    """The same rows as counts, as a decoder makes them."""
    counts = np.zeros((1, bins.offsets[-1]), dtype=np.int64)
    fill_counts(bins, samples.columns, None, counts)
    for feature, rows in samples.invalid:
        move_invalid(bins, feature, np.zeros(len(rows), dtype=np.int64), counts)
    return SampleBatch(samples.n_rows, (), invalid=samples.invalid, counts=Counts(bins, counts[0]))


def test_rows_and_their_counts_are_the_same_to_a_monitor() -> None:
    x = np.array([0.5, 1.5, np.nan, np.nan, 9.0, -1.0])
    codes = np.array([0, 1, 2, 3, 3, 0], dtype=np.int32)
    rows = batch(x, codes, invalid=[(0, [2]), (1, [3, 4])])
    as_rows, as_counts = watched(), watched()
    first, second = as_rows.add(rows, "s", NOW), as_counts.add(counted(rows, bins_of(as_counts)), "s", NOW)
    assert (first.counted, second.counted) == (6, 6)
    assert first.invalid.tolist() == second.invalid.tolist() == [1, 2]
    one, other = as_rows.evaluate(NOW), as_counts.evaluate(NOW)
    np.testing.assert_array_equal(one.counts, other.counts)
    assert one.counts.sum() == 12
    np.testing.assert_array_equal(one.lower, other.lower)


def test_bodies_that_are_decoded_into_bins_count_as_their_rows_do() -> None:
    lines = [b'{"x": %.3f, "c": "%s"}' % (i % 40 / 10, (b"red", b"blue", b"green")[i % 3]) for i in range(500)]
    lines[7] = b'{"x": "text", "c": "r\\u0065d"}'  # not plain: one value invalid, the other red
    lines[9] = b"{"
    lines[300] = b'{"c": null}'
    body = b"\n".join(lines)
    as_rows, as_counts = watched(), watched()
    plain = decode("ndjson", [body], as_rows.schema)
    binned = decode("ndjson", [body], as_counts.schema, bins=as_counts.bins)
    assert binned.batch.columns == ()
    assert binned.bodies == plain.bodies
    assert plain.bodies[0].rejected == {"malformed": 1}
    results = as_rows.add(plain.batch, "s", NOW), as_counts.add(binned.batch, "s", NOW)
    assert results[0].counted == results[1].counted == 499
    assert results[0].invalid.tolist() == results[1].invalid.tolist() == [1, 0]
    counts = [m.evaluate(NOW).counts for m in (as_rows, as_counts)]
    np.testing.assert_array_equal(*counts)
    assert counts[0].sum() == 2 * 499


def test_counts_in_other_bins_are_refused() -> None:
    first, second = watched(), watched()
    rows = batch([0.5], np.array([0], dtype=np.int32))
    with pytest.raises(ValueError, match="bins"):
        first.add(counted(rows, bins_of(second)), "s", NOW)
    assert first.evaluate(NOW).samples.tolist() == [[0, 0]]


def test_rows_with_times_or_segments_are_not_counted_while_decoding() -> None:
    assert monitor((edges_spec(), UNIFORM_EXAMPLE), event_time=True).bins is None
    segments = MonitorSpec("m", (edges_spec(),), (WindowSpec("1h", HOUR),), segments=SegmentSpec("country", 3))
    assert Monitor(segments, reference((edges_spec(), UNIFORM_EXAMPLE)), Segmentation()).bins is None


def test_rows_are_not_counted_while_decoding_until_everything_is_learned() -> None:
    x = FeatureSpec("x", "numeric")
    learning = Monitor(MonitorSpec("m", (x,), (WindowSpec("1h", HOUR),)), [to_learn(x, 1_000)])
    values = np.random.default_rng(1).normal(size=1_000)
    learning.add(batch(values[:600]), "s", NOW)
    assert learning.bins is None
    assert learning.add(batch(values[600:]), "s", NOW).learned == ("x",)
    learning.add(counted(batch(values[:50]), bins_of(learning)), "s", NOW)
    assert learning.evaluate(NOW).samples.tolist() == [[50]]
    again = Monitor(learning.spec, [to_learn(x, 1_000)])
    assert again.bins is None
    again.go_on_from(learning)
    again.add(counted(batch(values[:50]), bins_of(again)), "s", NOW)
    assert again.evaluate(NOW).samples.tolist() == [[100]]
    restored = Monitor(learning.spec, [to_learn(x, 1_000)])
    assert restored.restore({key: value for key, value in learning.changes().items() if value is not None})
    assert restored.bins is not None
