"""What a monitor stores is all of it: a new one that takes it back goes on as if nothing had been."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from kldrift.drift.monitor import Monitor
from kldrift.drift.references.learned import to_learn
from kldrift.drift.segments import Segmentation
from kldrift.records.samples import SampleBatch, Vocabulary
from kldrift.records.snapshots import MonitorSnapshot
from kldrift.records.specs import FeatureSpec, MonitorSpec, SegmentSpec, TimestampSpec, WindowSpec
from tests.drift.builders import HOUR, MINUTE, edges_spec, normal_reference, reference

NOW = 1_700_000_000_000 // HOUR * HOUR
WINDOWS = (WindowSpec("5m", 5 * MINUTE), WindowSpec("1h", HOUR), WindowSpec("24h", 24 * HOUR))
VECTOR = FeatureSpec("z", "vector", dimensions=3)
COLOUR = FeatureSpec("colour", "categorical")


def plain() -> Monitor:
    spec = MonitorSpec("m", (edges_spec(),), WINDOWS, timestamp=TimestampSpec("ts", "ms"))
    return Monitor(spec, reference((edges_spec(), np.random.default_rng(0).uniform(0, 3, 2_000))))


def everything() -> Monitor:
    """Segments, a vector, a reference to be learned, and one that is the window a day before."""
    references = [
        *reference((edges_spec(), np.random.default_rng(0).uniform(0, 3, 2_000))),
        normal_reference(VECTOR, 0.0, 1.0),
        to_learn(COLOUR, 700),
        to_learn(replace(VECTOR, name="learned"), 900),
        replace(reference((edges_spec("before"), np.random.default_rng(1).uniform(0, 3, 900)))[0], offset_ms=24 * HOUR),
    ]
    spec = MonitorSpec(
        "m",
        (edges_spec(), VECTOR, COLOUR, replace(VECTOR, name="learned"), edges_spec("before")),
        WINDOWS,
        timestamp=TimestampSpec("ts", "ms"),
        segments=SegmentSpec("country", 3),
    )
    return Monitor(spec, references, Segmentation())


def batches(watched: Callable[[], Monitor], seed: int, n: int) -> list[SampleBatch]:
    """Batches for any monitor of this kind: codes are those that the vocabularies give in this order."""
    rng = np.random.default_rng(seed)
    made = []
    example = watched()
    for i in range(n):
        rows = int(rng.integers(1, 60))
        columns = []
        for feature in example.schema.features:
            if feature.kind == "numeric":
                columns.append(rng.uniform(-0.2, 3.2, rows))
            elif feature.kind == "vector":
                columns.append(rng.normal(size=(rows, feature.dimensions)))
            else:
                columns.append(rng.integers(0, 5, rows).astype(np.int32))
        times = NOW + i * 90 * MINUTE // 8 + rng.integers(-MINUTE, MINUTE, rows)
        made.append(SampleBatch(rows, tuple(columns), times))
    return made


def name_the_codes(monitor: Monitor) -> None:
    for feature in monitor.schema.features:
        if isinstance(feature.vocabulary, Vocabulary):
            for text in ("red", "green", "blue", "white", "black"):
                feature.vocabulary.code(text)


def same(a: MonitorSnapshot, b: MonitorSnapshot) -> None:
    for name in MonitorSnapshot.__slots__:
        left, right = getattr(a, name), getattr(b, name)
        if isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right, err_msg=name)
    assert [info.reference_hash for info in a.features] == [info.reference_hash for info in b.features]
    assert len(a.segments) == len(b.segments)
    for one, other in zip(a.segments, b.segments, strict=True):
        assert one.segment == other.segment
        same(one, other)


class Kept:
    """A store of one monitor's entries."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}

    def commit(self, monitor: Monitor) -> int:
        changes = monitor.changes()
        if monitor.anew:
            self.entries = {}
        for key, value in changes.items():
            if value is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = value
        monitor.stored(changes)
        return len(changes)


def as_before_invalid_values_had_a_cell(watched: Monitor, entries: dict[str, bytes]) -> dict[str, bytes]:
    """The entries as they were stored when missing was the last cell of a feature."""
    own = np.ones(watched._filling.row_cells, dtype=np.bool_)
    own[watched.offsets[1:] - 1] = False
    kept = np.tile(own, watched._filling.n_slots)
    found = {}
    for key, value in entries.items():
        start = 8 if key.startswith("counts/ring/") else 0
        if key.startswith("counts/"):
            cells = np.frombuffer(value, dtype=np.int64, offset=start)
            assert not cells[~kept].any()
            found[key] = value[:start] + cells[kept].tobytes()
        elif key.startswith("reference/"):
            found[key] = as_version_1(value.decode()).encode()
        else:
            found[key] = value
    return found | {"layout": hashlib.sha256(repr(watched.layout).encode()).hexdigest().encode()}


def as_version_1(reference_file: str) -> str:
    document = json.loads(reference_file)
    assert document["kldrift_reference"] == 2
    document["kldrift_reference"] = 1
    for feature in document["features"]:
        assert feature["cells"].pop() == "invalid"
        feature["counts"].pop()
        for pane in feature["panes"]:
            assert pane.pop() == 0
    return json.dumps(document)


@pytest.mark.parametrize("make", [plain, everything])
def test_counts_stored_before_invalid_values_had_a_cell_are_taken_over(make: Callable[[], Monitor]) -> None:
    rows = batches(make, 1, 60)
    through, kept = make(), Kept()
    name_the_codes(through)
    for i, batch in enumerate(rows[:40]):
        at = NOW + i * 90 * MINUTE // 8 + MINUTE
        through.add(batch, "s", at)
    kept.commit(through)
    restarted = make()
    assert restarted.restore(as_before_invalid_values_had_a_cell(through, kept.entries))
    same(through.evaluate(at), restarted.evaluate(at))
    assert restarted.anew  # all of it is stored again, with the cells of now
    kept.commit(restarted)
    again = make()
    assert again.restore(kept.entries)
    for one in (through, again):
        name_the_codes(one)
        for i, batch in enumerate(rows[40:], 40):
            at = NOW + i * 90 * MINUTE // 8 + MINUTE
            wrong = ((0, np.arange(0, batch.n_rows, 2)),)
            columns = (np.where(np.arange(batch.n_rows) % 2 == 0, np.nan, batch.columns[0]), *batch.columns[1:])
            one.add(replace(batch, columns=columns, invalid=wrong), "s", at)
    same(through.evaluate(at), again.evaluate(at))
    assert through.evaluate(at).invalid_ratio[:, 0].min() > 0


@pytest.mark.parametrize("make", [plain, everything])
def test_a_monitor_restored_at_any_commit_continues_exactly(make: Callable[[], Monitor]) -> None:
    rows = batches(make, 1, 60)
    through = make()
    name_the_codes(through)
    restarted, kept = make(), Kept()
    name_the_codes(restarted)
    for i, batch in enumerate(rows):
        at = NOW + i * 90 * MINUTE // 8 + MINUTE
        through.add(batch, "s", at)
        restarted.add(batch, "s", at)
        if i % 3 == 0:
            kept.commit(restarted)
        if i % 12 == 0:  # a new process
            restarted = make()
            assert restarted.restore(kept.entries)
            name_the_codes(restarted)
        if i % 7 == 0:
            same(through.evaluate(at), restarted.evaluate(at))
    assert through.evaluate(at).samples.sum() > 0
    same(through.evaluate(at), restarted.evaluate(at))


def test_only_what_has_changed_is_stored_again() -> None:
    watched, kept = plain(), Kept()
    rows = batches(plain, 2, 30)
    for i, batch in enumerate(rows[:-1]):
        watched.add(batch, "s", NOW + i * 90 * MINUTE // 8 + MINUTE)
    first = kept.commit(watched)
    assert first > 10
    assert kept.commit(watched) == 0
    watched.add(rows[-1], "s", NOW + 29 * 90 * MINUTE // 8 + MINUTE)
    again = kept.commit(watched)
    assert 0 < again < first
    assert kept.commit(watched) == 0


def test_changes_that_were_not_stored_after_all_are_returned_again() -> None:
    watched, kept = everything(), Kept()
    name_the_codes(watched)
    for i, batch in enumerate(batches(everything, 3, 20)):
        watched.add(batch, "s", NOW + i * 90 * MINUTE // 8 + MINUTE)
    lost = watched.changes()
    assert watched.changes().keys() == lost.keys()
    kept.commit(watched)
    assert kept.entries.keys() == {key for key, value in lost.items() if value is not None}
    restored = everything()
    assert restored.restore(kept.entries)
    same(watched.evaluate(NOW + 4 * HOUR), restored.evaluate(NOW + 4 * HOUR))


def test_state_stored_with_another_layout_is_not_used() -> None:
    watched, kept = plain(), Kept()
    watched.add(batches(plain, 4, 1)[0], "s", NOW)
    kept.commit(watched)
    other = Monitor(replace(watched.spec, windows=WINDOWS[:2]), watched._references)
    assert not other.restore(kept.entries)
    assert other.anew
    assert plain().restore(kept.entries)


def test_the_identity_of_a_layout_is_the_same_in_every_process() -> None:
    import subprocess
    import sys

    script = "from tests.drift.test_stored import everything; print(everything().layout_text)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    assert found == everything().layout_text


def test_truncated_entries_are_an_error_not_a_wrong_number() -> None:
    watched, kept = everything(), Kept()
    name_the_codes(watched)
    for i, batch in enumerate(batches(everything, 5, 8)):
        watched.add(batch, "s", NOW + i * 90 * MINUTE // 8 + MINUTE)
    kept.commit(watched)
    for key, value in kept.entries.items():
        if key.startswith(("counts/", "moments/")):
            with pytest.raises(ValueError):
                everything().restore({**kept.entries, key: value[:-8]})
