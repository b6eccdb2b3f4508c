"""After any change of features, windows and segments, what still means the same has the counts of all rows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kldrift.drift.counting.past import KEPT_CHANGES, KEPT_MS
from kldrift.drift.monitor import Monitor
from kldrift.drift.references.learned import to_learn
from kldrift.drift.segments import Segmentation
from kldrift.records.samples import SampleBatch
from kldrift.records.snapshots import MonitorSnapshot
from kldrift.records.specs import FeatureSpec, MonitorSpec, SegmentSpec, TimestampSpec, WindowSpec
from tests.drift.builders import HOUR, MINUTE, categorical, edges_spec, normal_reference, reference
from tests.drift.test_stored import Kept

NOW = 1_700_000_000_000 // (24 * HOUR) * 24 * HOUR
LENGTHS = {"1m": MINUTE, "5m": 5 * MINUTE, "30m": 30 * MINUTE, "1h": HOUR, "2h": 2 * HOUR, "24h": 24 * HOUR}
EDGES = {"a": (0, 1, 2, 3), "b": (0, 1.5, 3), "c": (0, 0.5, 1, 3)}
COLOUR, VECTOR = FeatureSpec("colour", "categorical"), FeatureSpec("z", "vector", dimensions=2)
TIMES = TimestampSpec("ts", "ms")
COUNTRIES = ("at", "be", "ch", "de")


@dataclass(frozen=True)
class Change:
    """A configuration of the monitor."""

    features: tuple[str, ...] = ("a", "colour")
    windows: tuple[str, ...] = ("5m", "1h", "24h")
    limit: int = 0
    by: str = "country"
    times: bool = True
    missing: tuple[str, ...] | None = None

    def monitor(self, edges: dict[str, tuple[float, ...]] = EDGES) -> Monitor:
        values = np.random.default_rng(3).uniform(0, 3, 500)
        made = {name: reference((edges_spec(name, of), values))[0] for name, of in edges.items()}
        specs = {name: edges_spec(name, of) for name, of in edges.items()} | {"colour": COLOUR, "z": VECTOR}
        made["colour"] = reference((COLOUR, categorical(["red", "green", "green"] * 50)))[0]
        made["z"] = normal_reference(VECTOR, 0.0, 1.0)
        for name in ("learned", "learned later"):
            specs[name] = edges_spec(name, EDGES["a"])
            made[name] = to_learn(specs[name], 60)
        spec = MonitorSpec(
            "m",
            tuple(specs[name] for name in self.features),
            tuple(WindowSpec(name, LENGTHS[name]) for name in self.windows),
            timestamp=TIMES if self.times else None,
            segments=SegmentSpec(self.by, self.limit) if self.limit else None,
            missing_values=self.missing,
        )
        return Monitor(spec, [made[name] for name in self.features], Segmentation() if self.limit else None)


@dataclass
class Rows:
    """All rows that ever came: their times, values and countries."""

    times: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    countries: list[str] = field(default_factory=list)

    def batch(self, monitor: Monitor, first: int) -> SampleBatch:
        values = np.array(self.values[first:])
        columns = []
        for feature in monitor.schema.features:
            if feature.name == "country":
                codes = [feature.vocabulary.code(text) for text in self.countries[first:]]  # type: ignore[union-attr]
                columns.append(np.array(codes, dtype=np.int32))
            elif feature.kind == "numeric":
                columns.append(values)
            elif feature.kind == "vector":
                columns.append(np.stack([values, -values], axis=1))
            else:
                columns.append((values > 1).astype(np.int32))
        event_ms = None if monitor.spec.timestamp is None else np.array(self.times[first:])
        return SampleBatch(values.size, tuple(columns), event_ms)

    def expected(self, edges: Sequence[float], window_ms: int, at_ms: int, country: str | None, since_ms: int = 0):
        """Count by hand what a window holds."""
        slice_ms = window_ms // 12
        begin = max((at_ms // slice_ms - 11) * slice_ms, since_ms)
        kept = [
            value
            for time, value, own in zip(self.times, self.values, self.countries, strict=True)
            if time >= begin and country in (None, own)
        ]
        return np.histogram(kept, edges)[0].tolist()


def counts(snapshot: MonitorSnapshot, feature: str, window: str) -> list[int]:
    f = [info.name for info in snapshot.features].index(feature)
    w = snapshot.windows.index(window)
    n = 3 if feature == "a" else {"b": 2, "c": 3, "colour": 2}.get(feature, 1)
    start = int(snapshot.offsets[f])
    return snapshot.counts[w, start : start + n].tolist()  # type: ignore[no-any-return]


def changed(old: Monitor, new: Monitor, at_ms: int, by_state: bool) -> list[str]:
    """Go from one to the other by a reload, or by a start with another configuration."""
    if new.counts_alike(old):
        new.go_on_from(old)
        return []
    if not by_state:
        return new.take_over(old.everything(), at_ms)
    kept = Kept()
    old._touch()
    kept.commit(old)
    assert not new.restore(kept.entries)
    return new.take_over(kept.entries, at_ms)


def post(monitor: Monitor, rows: Rows, at_ms: int, rng: np.random.Generator, n: int = 20) -> None:
    first = len(rows.times)
    rows.times += [at_ms] * n
    rows.values += rng.uniform(0, 3, n).tolist()
    rows.countries += rng.choice(COUNTRIES[:3], n).tolist()
    monitor.add(rows.batch(monitor, first), "s", at_ms)


optional = st.sets(st.sampled_from(["b", "c", "z"]))
windows = st.sets(st.sampled_from(["1m", "5m", "30m", "2h"]))


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 100 * MINUTE), optional, windows, st.integers(3, 6), st.booleans()),
        min_size=1,
        max_size=6,
    ),
    times=st.booleans(),
    segments=st.booleans(),
    shuffled=st.randoms(use_true_random=False),
    seed=st.integers(0, 99),
)
def test_what_is_kept_through_random_changes_counts_every_row(steps, times, segments, shuffled, seed) -> None:  # type: ignore[no-untyped-def]
    rng, rows, at = np.random.default_rng(seed), Rows(), NOW
    monitor = Change(limit=3 * segments, times=times).monitor()
    for wait, features, others, limit, by_state in steps:
        post(monitor, rows, at, rng)
        features, others = ["a", "colour", *sorted(features)], ["1h", "24h", *sorted(others)]
        shuffled.shuffle(features)
        shuffled.shuffle(others)
        change = Change(tuple(features), tuple(others), limit * segments, times=times)
        old, monitor = monitor, change.monitor()
        said = changed(old, monitor, at, by_state)
        assert not [
            text for text in said if text.startswith(("feature a:", "feature colour:", "window 1h", "window 24h"))
        ]
        at += wait
        post(monitor, rows, at, rng)
        snapshot = monitor.evaluate(at)
        for window in ("1h", "24h"):
            assert counts(snapshot, "a", window) == rows.expected(EDGES["a"], LENGTHS[window], at, None)
            colours = rows.expected((0, 1, 3), LENGTHS[window], at, None)
            assert sorted(counts(snapshot, "colour", window)) == sorted(colours)
            for segment in snapshot.segments:
                found = counts(segment, "a", window)
                assert found == rows.expected(EDGES["a"], LENGTHS[window], at, segment.segment)


def after(first: Change, *others: Change, seed: int = 1) -> tuple[Monitor, Rows, list[list[str]], int]:
    """Post rows over three hours before each of the changes; return what was said of each."""
    rng, rows, at, said = np.random.default_rng(seed), Rows(), NOW, []
    monitor = first.monitor()
    for change in others:
        for _ in range(36):
            post(monitor, rows, at, rng, 5)
            at += 5 * MINUTE
        old, monitor = monitor, change.monitor()
        said.append(changed(old, monitor, at, by_state=len(said) % 2 == 1))
    return monitor, rows, said, at


def test_a_new_window_starts_with_what_a_window_of_finer_slices_holds() -> None:
    monitor, rows, (said,), at = after(Change(), Change(windows=("5m", "1h", "2h", "24h")))
    assert said == ["window 2h: it is new, and starts with what window 1h holds"]
    last = rows.times[-1]
    since = (last // (5 * MINUTE) - 11) * 5 * MINUTE  # all that the window of 1h held
    assert counts(monitor.evaluate(at), "a", "2h") == rows.expected(EDGES["a"], LENGTHS["2h"], at, None, since)
    assert sum(counts(monitor.evaluate(at), "a", "2h")) == 60


def test_a_new_window_into_which_no_slices_fit_starts_empty() -> None:
    monitor, _, (said,), at = after(Change(windows=("1h",)), Change(windows=("30m", "1h")))
    assert said == ["window 30m: it is new, and starts empty"]
    assert sum(counts(monitor.evaluate(at), "a", "30m")) == 0
    assert sum(counts(monitor.evaluate(at), "a", "1h")) > 0


def test_other_cells_begin_anew_with_the_reason() -> None:
    old = Change(("a", "b", "colour"))
    rng, rows = np.random.default_rng(0), Rows()
    watched = old.monitor()
    post(watched, rows, NOW, rng)
    other = old.monitor({**EDGES, "b": (0, 1, 3)})
    assert other.take_over(watched.everything(), NOW) == ["feature b: its windows start empty (other bins)"]
    snapshot = other.evaluate(NOW)
    assert counts(snapshot, "b", "1h") == [0, 0]
    assert counts(snapshot, "a", "1h") == rows.expected(EDGES["a"], HOUR, NOW, None)
    assert snapshot.began == ((NOW, "feature b: its windows start empty (other bins)"),)
    assert other.evaluate(NOW + KEPT_MS).began == ()


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (Change(times=False), "the time of a row comes from elsewhere"),
        (Change(limit=2), "segments are made by country now"),
        (Change(missing=("?",)), "other missing_values"),
    ],
)
def test_a_change_of_what_all_counts_mean_begins_anew(new: Change, reason: str) -> None:
    monitor, _, (said,), at = after(Change(), new)
    assert said == [f"feature {name}: its windows start empty ({reason})" for name in ("a", "colour")]
    assert monitor.evaluate(at).samples.sum() == 0


@pytest.mark.parametrize(
    "new", [Change(("colour",)), Change(windows=("5m", "1h")), Change(times=False), Change(limit=2)]
)
def test_a_change_that_is_taken_back_within_an_hour_has_the_counts_again(new: Change) -> None:
    rng, rows = np.random.default_rng(0), Rows()
    first = Change().monitor()
    for at in range(NOW, NOW + 3 * HOUR, 5 * MINUTE):
        post(first, rows, at, rng)
    between, back, too_late = new.monitor(), Change().monitor(), Change().monitor()
    changed(first, between, at, by_state=True)
    later = Change(new.features, new.windows, new.limit, times=new.times).monitor()
    kept = Kept()
    kept.commit(between)
    assert later.restore(kept.entries)  # a start in between
    changed(later, back, at + KEPT_MS - 1, by_state=True)
    snapshot = back.evaluate(at)
    for name in ("5m", "1h", "24h"):
        assert counts(snapshot, "a", name) == rows.expected(EDGES["a"], LENGTHS[name], at, None)
    later.evaluate(at + KEPT_MS)
    kept.commit(later)
    assert not [key for key in kept.entries if key.startswith("former/")]
    changed(later, too_late, at + KEPT_MS, by_state=True)
    assert counts(too_late.evaluate(at), "a", "24h") != counts(snapshot, "a", "24h")


def test_a_window_that_is_back_has_the_rows_of_the_meantime_that_others_have() -> None:
    monitor, rows, said, at = after(Change(), Change(windows=("5m", "1h")))
    rng = np.random.default_rng(2)
    for _ in range(6):
        post(monitor, rows, at, rng)
        at += 5 * MINUTE
    back = Change().monitor()
    assert changed(monitor, back, at, by_state=True) == [
        "window 24h: it goes on with the counts from before it was taken out"
    ]
    assert counts(back.evaluate(at), "a", "24h") == rows.expected(EDGES["a"], LENGTHS["24h"], at, None)
    assert said == [[]]


def test_only_so_many_changes_are_kept() -> None:
    monitor = Change().monitor()
    post(monitor, Rows(), NOW, np.random.default_rng(0))
    for second, features in enumerate(["ab", "ac", "bc", "a", "b", "c"]):
        old, monitor = monitor, Change(tuple(features)).monitor()
        changed(old, monitor, NOW + second, by_state=False)
    assert len({key.split("/")[1] for key in monitor.everything() if key.startswith("former/")}) == KEPT_CHANGES


def test_a_lower_limit_folds_the_last_segments_and_no_segments_add_up_all() -> None:
    for limit, segments in ((2, {"other"}), (0, set())):
        monitor, rows, (said,), at = after(Change(limit=4), Change(limit=limit))
        assert said == []
        snapshot = monitor.evaluate(at)
        assert counts(snapshot, "a", "24h") == rows.expected(EDGES["a"], LENGTHS["24h"], at, None)
        order = list(dict.fromkeys(rows.countries))[:limit]
        assert {one.segment for one in snapshot.segments} == {*order} | segments
        for one in snapshot.segments:
            if one.segment != "other":
                expected = rows.expected(EDGES["a"], LENGTHS["24h"], at, one.segment)
                assert counts(one, "a", "24h") == expected


def test_learning_goes_on_beside_a_feature_that_begins_later() -> None:
    rng, rows = np.random.default_rng(0), Rows()
    first = Change(("colour", "learned")).monitor()
    post(first, rows, NOW, rng, 40)
    second = Change(("learned later", "learned")).monitor()
    said = changed(first, second, NOW, by_state=True)
    assert said == ["feature learned later: its windows start empty (it is new)"]
    third = Change(("learned later", "learned")).monitor()
    kept = Kept()
    kept.commit(second)
    assert third.restore(kept.entries)
    post(third, rows, NOW, rng, 25)  # 65 of 60 rows, and 25
    learned, later = third.features[1], third.features[0]
    assert learned.reference_counts is not None
    assert learned.reference_counts[:3].tolist() == np.histogram(rows.values[:60], EDGES["a"])[0].tolist()
    assert later.reference_counts is None
    fourth = Change(("a", "learned later", "learned")).monitor()
    changed(third, fourth, NOW, by_state=True)
    assert fourth.features[2].reference_counts.tolist() == learned.reference_counts.tolist()  # type: ignore[union-attr]
    post(fourth, rows, NOW, rng, 40)
    found = fourth.features[1].reference_counts
    assert found is not None
    assert found[:3].tolist() == np.histogram(rows.values[40:100], EDGES["a"])[0].tolist()


def test_state_of_an_earlier_version_is_taken_over_if_nothing_changed_and_else_begins_anew() -> None:
    rows, watched, kept = Rows(), Change().monitor(), Kept()
    post(watched, rows, NOW, np.random.default_rng(0))
    kept.commit(watched)
    del kept.entries["described"]
    again = Change().monitor()
    assert again.restore(kept.entries)
    assert counts(again.evaluate(NOW), "a", "1h") == rows.expected(EDGES["a"], HOUR, NOW, None)
    kept.commit(again)
    assert json.loads(kept.entries["described"])["windows_ms"] == [5 * MINUTE, HOUR, 24 * HOUR]
    del kept.entries["described"]
    other = Change(("a",)).monitor()
    assert not other.restore(kept.entries)
    assert other.take_over(kept.entries, NOW) == [
        "feature a: its windows start empty (an earlier version stored its counts)"
    ]
    assert counts(other.evaluate(NOW), "a", "1h") == [0, 0, 0]
