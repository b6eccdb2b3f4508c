"""A feature of which no value arrives is absent: a state of its own, with nothing to compare."""

from dataclasses import replace

import numpy as np
import pytest

from kldrift.cli.tables import verdict_line
from kldrift.drift.judging.states import feature_states, series_state
from kldrift.drift.monitor import Monitor
from kldrift.drift.references.data import build_references
from kldrift.drift.references.given import fixed_reference
from kldrift.drift.references.reference import FeatureReference
from kldrift.pages.reading import telling_window, undecided_lines
from kldrift.records.samples import CategoricalColumn, SampleBatch
from kldrift.records.snapshots import MonitorSnapshot
from kldrift.records.specs import FeatureSpec, MonitorSpec, TimestampSpec, WindowSpec
from tests.drift.builders import HOUR

NOW = 1_700_000_000_000
X = FeatureSpec("x", "numeric")
C = FeatureSpec("c", "categorical")
V = FeatureSpec("v", "vector", dimensions=2)
WINDOWS = (WindowSpec("5m", 300_000), WindowSpec("1h", HOUR))


def reference(missing: float = 0.0, m: int = 10_000) -> FeatureReference:
    rng = np.random.default_rng(1)
    values = np.where(rng.random(m) < missing, np.nan, rng.normal(size=m))
    return build_references([X], [values], 0, "r")[0]


def watched(*references: FeatureReference) -> Monitor:
    specs = {"x": X, "c": C, "v": V}
    return Monitor(MonitorSpec("m", tuple(specs[r.name] for r in references), WINDOWS), references)


def after(monitor: Monitor, *columns: np.ndarray) -> MonitorSnapshot:
    monitor.add(SampleBatch(len(columns[0]), columns), "s", NOW)
    return monitor.evaluate(NOW)


def nothing(n: int) -> np.ndarray:
    return np.full(n, np.nan)


def test_a_feature_that_never_came_is_absent_and_has_no_divergence() -> None:
    found = after(watched(reference()), nothing(500))
    assert found.absent.tolist() == [[True], [True]]
    assert not found.ready.any()
    assert np.isnan(found.divergences).all()
    assert np.isnan(found.lower).all()
    assert np.isnan(found.detected).all()
    assert found.missing_ratio.tolist() == [[1.0], [1.0]]
    assert feature_states(found) == ["absent"]
    assert series_state(found, 0, 0) == "absent"


def test_other_features_are_judged_as_before() -> None:
    rng = np.random.default_rng(2)
    references = (
        reference(),
        *build_references([C], [CategoricalColumn(("a", "b"), rng.integers(0, 2, 9_999, np.int32))], 0, "r"),
    )
    found = after(watched(*references), nothing(2_000), np.zeros(2_000, dtype=np.int32))
    assert feature_states(found) == ["absent", "critical"]


@pytest.mark.parametrize("n_present", [1, 100])
def test_a_single_value_makes_it_a_drift_of_missing_values(n_present: int) -> None:
    values = nothing(2_000)
    values[:n_present] = 0.0
    found = after(watched(reference()), values)
    assert not found.absent.any()
    assert feature_states(found) == ["critical"]
    assert found.divergences[0, 0, 0] > 1


def test_too_few_rows_tell_nothing() -> None:
    monitor = watched(reference())
    needed = 160  # ten for each of 16 bins
    assert not after(monitor, nothing(needed - 1)).absent.any()
    assert feature_states(monitor.evaluate(NOW)) == ["undecided"]
    assert after(monitor, nothing(20)).absent.all()


def test_a_feature_that_is_hardly_ever_there_needs_more_rows() -> None:
    """With 98 % missing, 400 rows are all missing once in 3,000 times, and 500 once in 24,000."""
    monitor = watched(reference(0.98, m=100_000))
    assert not after(monitor, nothing(400)).absent.any()
    assert after(monitor, nothing(100)).absent.all()


def test_a_feature_that_stops_coming_is_absent_in_the_window_that_has_none_of_it() -> None:
    rng = np.random.default_rng(3)
    monitor = watched(reference())
    monitor.add(SampleBatch(2_000, (rng.normal(size=2_000),)), "s", NOW)
    later = NOW + 1_200_000
    monitor.add(SampleBatch(1_000, (nothing(1_000),)), "s", later)
    found = monitor.evaluate(later)
    assert found.absent.tolist() == [[True], [False]]
    assert series_state(found, 0, 0) == "absent"
    assert series_state(found, 1, 0) == "critical"
    assert feature_states(found) == ["critical"]


def test_vectors_and_categories_can_be_absent() -> None:
    rng = np.random.default_rng(4)
    (vectors,) = build_references([V], [rng.normal(size=(5_000, 2))], 0, "r")
    (colours,) = build_references([C], [CategoricalColumn(("a", "b"), rng.integers(0, 2, 5_000, np.int32))], 0, "r")
    monitor = watched(vectors, colours)
    missing = monitor.schema.features[1].missing_code
    found = after(monitor, np.full((400, 2), np.nan), np.full(400, missing, dtype=np.int32))
    assert feature_states(found) == ["absent", "absent"]


def test_a_posterior_that_never_comes_is_absent() -> None:
    posterior = FeatureSpec("q", "posterior", dimensions=1)
    monitor = Monitor(MonitorSpec("m", (posterior,), WINDOWS), [fixed_reference(posterior, 0)])
    assert feature_states(after(monitor, np.full((500, 2), np.nan))) == ["absent"]


def test_values_that_are_missing_for_hours_on_end_are_not_absent_because_a_short_window_has_none() -> None:
    """A sensor that is off at night: half of its values are missing, but not independently of each other."""
    rng = np.random.default_rng(5)
    n = 64_000
    values = np.where(np.arange(n) // 2_000 % 2, np.nan, rng.normal(size=n))
    (sensor,) = build_references([X], [values], 0, "r", by_time=True)
    (shuffled,) = build_references([X], [rng.permutation(values)], 0, "r", by_time=True)
    assert not after(watched(sensor), nothing(500)).absent.any()
    assert after(watched(shuffled), nothing(500)).absent.all()


def test_a_feature_that_was_absent_at_the_earlier_time_as_well_is_never_quiet() -> None:
    """Compared with itself a day before: absent for a day, and then there is nothing to compare with."""
    rng = np.random.default_rng(6)
    day = 24 * HOUR
    timestamp = TimestampSpec("t", "ms")
    monitor = Monitor(MonitorSpec("m", (X,), WINDOWS, timestamp=timestamp), [replace(reference(), offset_ms=day)])
    for days, column in enumerate((rng.normal(size=900), nothing(900), nothing(900), rng.normal(size=900))):
        at = NOW + days * day
        monitor.add(SampleBatch(900, (column,), np.full(900, at)), "s", at)
        found = monitor.evaluate(at)
        assert not found.ready.any()
        assert feature_states(found) == [("undecided", "absent", "undecided", "undecided")[days]]
    assert found.reference_rows.tolist() == [[0], [0]]


def test_a_warning_elsewhere_does_not_hide_that_a_feature_has_stopped() -> None:
    found = replace(
        after(watched(reference()), nothing(500)),
        absent=np.array([[True], [False]]),
        ready=np.array([[False], [True]]),
        detected=np.array([[1.0, 0.0]]),
    )
    assert feature_states(found) == ["absent"]
    assert undecided_lines(found) == [
        "x: absent: none of 500 rows has a value, and the reference has; check that the field is sent, under this name"
    ]
    assert verdict_line(found).endswith("warning: x; absent: x")


def test_an_absent_feature_is_not_counted_as_undecided() -> None:
    found = after(watched(reference()), nothing(500))
    assert verdict_line(found) == "verdict (false discovery rate 0.01 %): absent: x"
    quiet = replace(found, absent=np.array([[True], [False]]), detected=np.zeros((1, 2)))
    assert verdict_line(quiet) == "verdict (false discovery rate 0.01 %): absent: x"
    assert telling_window(quiet, 0) == 0
