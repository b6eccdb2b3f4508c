"""Out of range is what lies beyond the reference's own range; divergences are those of bins without an end."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import rel_entr

from kldrift.drift.judging.evaluation import Evaluation, WindowTotals
from kldrift.drift.kinds.numeric import Numeric
from kldrift.drift.monitor import Monitor
from kldrift.drift.references.data import build_references, count_panes
from kldrift.drift.references.family import family_reference
from kldrift.drift.references.file import dump_references, load_references
from kldrift.drift.references.given import inline_reference
from kldrift.drift.references.learned import to_learn
from kldrift.drift.references.reference import FeatureReference
from kldrift.drift.segments import segment_references
from kldrift.offline.compare import compare_files
from kldrift.records.divergences import KL
from kldrift.records.samples import BatchSchema, SampleBatch
from kldrift.records.snapshots import MonitorSnapshot
from kldrift.records.specs import (
    Bins,
    FeatureSpec,
    MonitorSpec,
    ReferenceFamily,
    ReferenceInline,
    SegmentSpec,
    WindowSpec,
)
from kldrift.wire import decode
from tests.drift.builders import HOUR, categorical, monitor

NOW = 1_700_000_000_000 // HOUR * HOUR
NUMBER = FeatureSpec("x", "numeric")
WINDOWS = (WindowSpec("1h", HOUR),)
RNG = np.random.default_rng(1)
REFERENCE = RNG.random(5_000)
#: 1,000 of 4,000 beyond the reference's minimum and maximum.
INSIDE = RNG.uniform(REFERENCE.min(), REFERENCE.max(), 3_000)
LIVE = np.concatenate([INSIDE, RNG.uniform(2, 3, 700), RNG.uniform(-2, -1, 300)])


def against(reference: FeatureReference, live: object, spec: FeatureSpec = NUMBER) -> MonitorSnapshot:
    watched = Monitor(MonitorSpec("m", (spec,), WINDOWS), [reference])
    column = np.asarray(live, dtype=np.float64)
    watched.add(SampleBatch(column.size, (column,)), "s", NOW)
    return watched.evaluate(NOW)


def of_data(values: object = REFERENCE, spec: FeatureSpec = NUMBER) -> FeatureReference:
    return build_references([spec], [np.asarray(values, dtype=np.float64)], 0, "r")[0]


def test_values_that_the_reference_never_reached_are_all_out_of_range() -> None:
    found = against(of_data(), RNG.uniform(2, 3, 2_000))
    assert found.out_of_range_ratio[0, 0] == 1
    assert found.features[0].value_range == (REFERENCE.min(), REFERENCE.max())


def test_the_reference_itself_is_in_range_to_its_last_value() -> None:
    found = against(of_data(), REFERENCE)
    assert found.out_of_range_ratio[0, 0] == 0
    assert found.divergences[0, 0, KL] < 1e-3
    beside = [np.nextafter(REFERENCE.min(), -1), np.nextafter(REFERENCE.max(), 2), REFERENCE.min(), REFERENCE.max()]
    assert against(of_data(), beside).out_of_range_ratio[0, 0] == 0.5


def test_the_divergence_is_that_of_open_bins_and_follows_from_the_counts_shown() -> None:
    found = against(of_data(), LIVE)
    assert found.out_of_range_ratio[0, 0] == 1_000 / 4_000
    info = found.features[0]
    assert info.edges is not None
    inner = info.edges[1:-1]
    expected = np.bincount(np.searchsorted(inner, LIVE, side="right"), minlength=inner.size + 1)
    assert found.counts[0].tolist() == [*expected.tolist(), 0, 0, 0, 0]
    kl = rel_entr(found.counts[0] / 4_000, found.reference_probabilities[0]).sum()
    assert found.divergences[0, 0, KL] == pytest.approx(kl, rel=1e-12)


@pytest.mark.parametrize("estimator", ["kldrift", "evidently", "driftwatch"])
def test_every_figure_but_the_share_is_as_without_a_range(estimator: str) -> None:
    reference = of_data()
    assert reference.shape.edges is not None
    without = replace(reference, shape=Numeric(reference.shape.edges))
    spec = MonitorSpec("m", (NUMBER,), WINDOWS, estimator=estimator)  # type: ignore[arg-type]
    snapshots = []
    for each in (reference, without):
        counts = count_of(each, LIVE)
        snapshots.append(Evaluation(spec, [each]).evaluate(WindowTotals(counts[np.newaxis]), NOW).snapshot)
    for name in MonitorSnapshot.__slots__:
        ours, theirs = (getattr(each, name) for each in snapshots)
        if isinstance(ours, np.ndarray) and name != "out_of_range_ratio":
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
    assert [each.out_of_range_ratio[0, 0] for each in snapshots] == [0.25, 0]


def count_of(reference: FeatureReference, values: object) -> np.ndarray:
    """The counts of the daemon's kernel, before anything is compared."""
    from kldrift.kernels.bin_table import make_bin_table
    from kldrift.kernels.fill import fill_counts

    table = make_bin_table([reference.shape.bins()])
    counts = np.zeros((1, int(table.offsets[-1])), dtype=np.int64)
    fill_counts(table, [np.asarray(values, dtype=np.float64)], None, counts)
    return counts[0]


def test_infinite_values_are_out_of_range_and_compared_in_the_outermost_bins_on_both_sides() -> None:
    values = np.concatenate([REFERENCE, np.full(250, np.inf)])
    reference = of_data(values)
    assert reference.shape.value_range == (REFERENCE.min(), REFERENCE.max())
    assert reference.counts is not None
    assert reference.counts[-4:].tolist() == [0, 0, 0, 0]
    same = against(reference, values)
    assert same.out_of_range_ratio[0, 0] == 250 / 5_250
    assert same.divergences[0, 0, KL] < 1e-3
    new = against(of_data(), values)
    assert new.out_of_range_ratio[0, 0] == 250 / 5_250
    assert new.lower[0, 0] > 0.01
    assert against(of_data(), [*REFERENCE, -np.inf, np.nan]).out_of_range_ratio[0, 0] == 1 / 5_002


@pytest.mark.parametrize("bins", [Bins("uniform", 4, (0.0, 1.0)), Bins("edges", edges=(0.0, 0.5, 1.0)),
                                  Bins(value_range=(0.0, 1.0))])  # fmt: skip
def test_a_declared_range_is_the_range_and_what_is_outside_has_cells(bins: Bins) -> None:
    found = against(of_data(spec=FeatureSpec("x", "numeric", bins)), LIVE, FeatureSpec("x", "numeric", bins))
    assert found.out_of_range_ratio[0, 0] == 0.25
    assert found.counts[0, -4:].tolist() == [300, 700, 0, 0]
    # what the reference did not reach within the range is in range
    (low,) = [REFERENCE.min() / 2]
    assert against(of_data(spec=FeatureSpec("x", "numeric", bins)), [low]).out_of_range_ratio[0, 0] == 0


@pytest.mark.parametrize("edges", [(-np.inf, 0.5, np.inf), (-np.inf, np.inf), (-np.inf, 0.0, 5.0), (-5.0, 0.5, np.inf)])
def test_edges_without_an_end_reach_as_far_as_the_reference(edges: tuple[float, ...]) -> None:
    found = against(of_data(spec=FeatureSpec("x", "numeric", Bins("edges", edges=edges))), LIVE)
    below = 300 if edges[0] == -np.inf else 0
    above = 700 if edges[-1] == np.inf else 0
    assert found.out_of_range_ratio[0, 0] == (below + above) / 4_000
    assert found.counts.sum() == 4_000


@pytest.mark.parametrize("values", [[7.0] * 90 + [3.0] * 10, [0.0] * 50 + [1.0] * 50, [2.0] * 5_000 + [1.0] * 1_000])
def test_tied_values_at_an_end_are_in_range_and_their_neighbours_are_not(values: list[float]) -> None:
    reference = of_data(values)
    top, bottom = max(values), min(values)
    live = [top, bottom, np.nextafter(top, np.inf), np.nextafter(bottom, -np.inf)]
    assert against(reference, live).out_of_range_ratio[0, 0] == 0.5
    assert against(reference, values).out_of_range_ratio[0, 0] == 0


def test_a_reference_file_keeps_the_range_and_one_from_before_counts_infinities_only() -> None:
    (again,) = load_references(dump_references([of_data()]), "r.json")
    assert again.shape.value_range == (REFERENCE.min(), REFERENCE.max())
    assert against(again, LIVE).out_of_range_ratio[0, 0] == 0.25
    changed = dump_references([of_data()]).replace(repr(float(REFERENCE.max())), "7.5")
    with pytest.raises(Exception, match="changed by hand"):
        load_references(changed, "r.json")
    assert again.shape.edges is not None
    text = dump_references([replace(again, shape=Numeric(again.shape.edges))])
    assert "range" not in json.loads(text)["features"][0]
    (old,) = load_references(text, "old.json")
    found = against(old, [*LIVE, np.inf])
    assert found.out_of_range_ratio[0, 0] == 1 / 4_001
    assert found.features[0].limits == (
        "only infinite values count as out of range: the reference file has no range; build it again",
    )
    assert against(again, LIVE).features[0].limits == ()
    assert against(old, LIVE).divergences[0, 0, KL] == against(again, LIVE).divergences[0, 0, KL]


def test_counts_stored_before_there_were_ranges_go_on() -> None:
    reference = of_data()
    assert reference.shape.edges is not None
    spec = MonitorSpec("m", (NUMBER,), WINDOWS)
    before, after = (Monitor(spec, [r]) for r in (replace(reference, shape=Numeric(reference.shape.edges)), reference))
    before.add(SampleBatch(LIVE.size, (LIVE,)), "s", NOW)
    assert after.restore({key: value for key, value in before.changes().items() if value is not None})
    assert after.evaluate(NOW).divergences[0, 0, KL] == before.evaluate(NOW).divergences[0, 0, KL]
    after.add(SampleBatch(LIVE.size, (LIVE,)), "s", NOW)
    found = after.evaluate(NOW)
    assert found.samples[0, 0] == 8_000
    assert found.out_of_range_ratio[0, 0] == 1_000 / 8_000


def learned() -> Monitor:
    watched = Monitor(MonitorSpec("m", (NUMBER,), WINDOWS), [to_learn(NUMBER, 5_000)])
    watched.add(SampleBatch(5_000, (REFERENCE,)), "s", NOW)
    return watched


def previous() -> Monitor:
    watched = Monitor(MonitorSpec("m", (NUMBER,), WINDOWS), [replace(of_data(), offset_ms=24 * HOUR)])
    watched.add(SampleBatch(5_000, (REFERENCE,)), "s", NOW - 23 * HOUR - 1)
    return watched


@pytest.mark.parametrize("made", [learned, previous])
def test_a_range_is_learned_and_kept_for_an_earlier_window(made: Callable[[], Monitor]) -> None:
    watched = made()
    watched.add(SampleBatch(LIVE.size, (LIVE,)), "s", NOW + HOUR - 1)
    found = watched.evaluate(NOW + HOUR)
    assert found.samples[0, 0] == 4_000
    assert found.out_of_range_ratio[0, 0] == 0.25
    assert found.divergences[0, 0, KL] == pytest.approx(against(of_data(), LIVE).divergences[0, 0, KL], rel=1e-9)


@pytest.mark.parametrize(("step", "usable"), [(1, False), (2, False), (10**4, True)])
def test_a_range_in_which_float64_is_too_coarse_supports_no_verdict(step: int, usable: bool) -> None:
    values = np.array([2**60 + step * i for i in range(1_000)], dtype=np.int64).astype(np.float64)
    values = np.random.default_rng(0).permutation(values)
    watched = Monitor(MonitorSpec("m", (NUMBER,), WINDOWS), [to_learn(NUMBER, 1_000)])
    watched.add(SampleBatch(1_000, (values,)), "s", NOW)
    (filed,) = load_references(dump_references([of_data(values)]), "r.json")
    for found in (watched.evaluate(NOW), against(filed, values), against(of_data(-values), -values)):
        problem = found.features[0].problem
        assert (problem is None) is usable
        assert usable or "float64 keeps only one in 256" in str(problem)


def test_segments_share_the_range_of_the_whole() -> None:
    reference = of_data()
    names = np.where(REFERENCE < 0.5, "low", "high")
    by = categorical(names.tolist())
    known = segment_references([reference], [REFERENCE], by, 2)
    spec = MonitorSpec("m", (NUMBER,), WINDOWS, segments=SegmentSpec("by", 2))
    watched = Monitor(spec, [reference], known)
    codes = np.where(LIVE > 1.5, known.names.index("high"), known.names.index("low")).astype(np.int32)
    watched.add(SampleBatch(LIVE.size, (LIVE, codes)), "s", NOW)
    found = {segment.segment: segment for segment in watched.evaluate(NOW).segments}
    assert found["high"].out_of_range_ratio[0, 0] == 1
    assert found["low"].out_of_range_ratio[0, 0] == 300 / 3_300
    assert found["high"].counts.sum() == 700


@pytest.mark.parametrize(
    ("family", "parameters", "expected"),
    [
        ("uniform", {"low": 0.0, "high": 1.0}, 0.25),
        ("exponential", {"scale": 1.0}, 300 / 4_000),
        ("beta", {"a": 2.0, "b": 2.0}, 0.25),
        ("normal", {"mean": 0.0, "std": 1.0}, 0.0),
    ],
)
def test_the_range_of_a_family_is_its_support(family: str, parameters: dict[str, float], expected: float) -> None:
    given = ReferenceFamily(family, tuple(parameters.items()))  # type: ignore[arg-type]
    assert against(family_reference(NUMBER, given, None, 0, family), LIVE).out_of_range_ratio[0, 0] == expected
    fitted = ReferenceFamily(family, fit=Path("r.csv"))  # type: ignore[arg-type]
    made = family_reference(NUMBER, fitted, np.append(REFERENCE, np.inf), 0, "r.csv")
    found = against(made, [*LIVE, np.inf]).out_of_range_ratio[0, 0]
    assert found == pytest.approx((4_000 * expected + 1) / 4_001, abs=1e-12)
    assert made.probabilities is not None
    assert made.probabilities.sum() == pytest.approx(1)
    assert made.probabilities[-4:-2].tolist() == [0, 0]


def test_panes_of_a_reference_hold_no_more_and_no_less_than_its_rows() -> None:
    values = np.concatenate([REFERENCE, [np.inf, -np.inf, np.nan]])
    shape = of_data(values).shape
    (panes,) = count_panes([shape], [values])
    assert panes.sum() == 5_003
    assert panes.sum(axis=0)[-4:].tolist() == [0, 0, 1, 0]


def test_declared_bins_without_an_end_hold_what_is_infinite() -> None:
    spec = FeatureSpec("x", "numeric")
    given = ReferenceInline(edges=(-np.inf, 0.5, np.inf), probabilities=(0.5, 0.5), missing=0.0)
    found = against(inline_reference(spec, given, 0), [0.1, 0.9, 7.0, np.inf])
    assert found.counts[0].tolist() == [1, 3, 0, 0, 0, 0]
    assert found.out_of_range_ratio[0, 0] == 0.25
    assert found.features[0].limits == ()


@pytest.mark.parametrize("suffix", [".csv", ".ndjson", ".parquet"])
def test_files_are_compared_within_the_range(tmp_path: Path, suffix: str) -> None:
    paths = [tmp_path / f"{name}{suffix}" for name in ("reference", "live")]
    for path, values in zip(paths, (REFERENCE, LIVE), strict=True):
        frame = pl.DataFrame({"x": values})
        {".csv": frame.write_csv, ".ndjson": frame.write_ndjson, ".parquet": frame.write_parquet}[suffix](path)
    found = compare_files(*paths, now_ms=NOW).monitor
    assert found.out_of_range_ratio[0, 0] == 0.25


@pytest.mark.parametrize("into_bins", [True, False])
@pytest.mark.parametrize("body_format", ["ndjson", "json", "csv", "arrow"])
def test_bodies_are_counted_within_the_range(body_format: str, into_bins: bool) -> None:
    watched = monitor((NUMBER, REFERENCE))
    schema: BatchSchema = watched.schema
    bins = watched.bins if into_bins else None
    watched.add(decode(body_format, [body(body_format)], schema, bins=bins).batch, "s", NOW)  # type: ignore[arg-type]
    found = watched.evaluate(NOW)
    assert found.samples[0, 0] == 4_000
    assert found.out_of_range_ratio[0, 0] == 0.25


def body(body_format: str) -> bytes:
    frame = pl.DataFrame({"x": LIVE})
    if body_format == "csv":
        return frame.write_csv().encode()
    if body_format == "arrow":
        out = io.BytesIO()
        frame.write_ipc_stream(out)
        return out.getvalue()
    rows = [json.dumps({"x": x}) for x in LIVE.tolist()]
    return ("[" + ",".join(rows) + "]" if body_format == "json" else "\n".join(rows)).encode()
