"""The tables of the history: the finest point there is, for as long as it is kept, whatever the features were then."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kldrift.errors import StateError
from kldrift.state.history import LEVELS, Layout, Row, SqliteHistory
from kldrift.state.sqlite import SqliteStore

NOW = 1_700_000_000_000 // LEVELS[-1].period_ms * LEVELS[-1].period_ms
ONE = Layout(("5m",), ("age",))
TWO = Layout(("5m", "1h"), ("age", "city"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A state file, as the store of the counts makes it."""
    made = tmp_path / "state.db"
    SqliteStore(made, lambda: NOW, lambda _: None).close()
    return made


@pytest.fixture
def history(path: Path) -> Iterator[SqliteHistory]:
    opened = SqliteHistory(path)
    yield opened
    opened.close()


def row(at_ms: int, value: float, level: int = 0, segment: str | None = None, layout: Layout = ONE) -> Row:
    shape = (3, len(layout.windows), len(layout.features))
    return Row("loans", segment, level, at_ms, layout, np.full(shape, value, dtype=np.float32))


def read(
    history: SqliteHistory,
    wanted: Layout = ONE,
    segment: str | None = None,
    span_ms: int = LEVELS[-1].span_ms,
    now_ms: int = NOW,
    monitor: str = "loans",
) -> tuple[list[int], np.ndarray]:
    at_ms, points = history.read(monitor, segment, wanted, now_ms - span_ms, now_ms, 3)
    assert points.shape == (len(at_ms), 3, len(wanted.windows), len(wanted.features))
    return (at_ms - now_ms).tolist(), points


def first_values(points: np.ndarray) -> list[float]:
    return [float(value) for value in points[:, 0, 0, 0]]


def test_nothing_is_read_of_an_empty_history(history: SqliteHistory) -> None:
    at, points = read(history, TWO)
    assert at == []
    assert points.dtype == np.float32


def test_each_instant_is_of_the_finest_level_that_has_it(history: SqliteHistory) -> None:
    fine = [row(NOW - 10_000 * i, 1, 0) for i in range(3)]
    coarse = [row(NOW - 60_000 * i, 2, 1) for i in range(4)]
    hourly = [row(NOW - 3_600_000 * i, 4, 3) for i in range(3)]
    history.write([*fine, *coarse, *hourly], {}, NOW)
    at, points = read(history)
    assert at == [-7_200_000, -3_600_000, -180_000, -120_000, -60_000, -20_000, -10_000, 0]
    assert first_values(points) == [4, 4, 2, 2, 2, 1, 1, 1]


def test_a_coarser_level_goes_on_right_before_the_finest(history: SqliteHistory) -> None:
    history.write([row(NOW - 1000, 1), row(NOW - 1000, 2, level=1), row(NOW - 1001, 3, level=1)], {}, NOW)
    at, points = read(history)
    assert at == [-1001, -1000]
    assert first_values(points) == [3, 1]


def test_a_history_can_be_used_from_any_thread(history: SqliteHistory) -> None:
    with ThreadPoolExecutor() as pool:
        pool.submit(history.write, [row(NOW, 1)], {}, NOW).result()
    assert first_values(read(history)[1]) == [1]


def test_writes_wait_for_the_disk_only_where_they_outlive_the_process(history: SqliteHistory) -> None:
    assert history._database.execute("PRAGMA synchronous").fetchone() == (1,)  # normal
    passing = SqliteHistory(None)
    assert passing._database.execute("PRAGMA synchronous").fetchone() == (0,)  # off
    passing.close()


def test_a_shorter_span_leaves_out_what_is_older(history: SqliteHistory) -> None:
    history.write([row(NOW - 60_000 * i, i, 1) for i in range(10)], {}, NOW)
    assert read(history, span_ms=120_000)[0] == [-120_000, -60_000, 0]


def test_points_of_the_future_of_a_clock_that_was_set_back_are_not_read_and_go(history: SqliteHistory) -> None:
    history.write([row(NOW + 60_000, 1)], {}, NOW + 60_000)
    assert read(history)[0] == []
    history.write([row(NOW, 2)], {}, NOW)
    assert read(history, now_ms=NOW + 60_000)[0] == [-60_000]


@pytest.mark.parametrize("level", range(len(LEVELS)))
def test_a_point_goes_when_its_time_is_over(history: SqliteHistory, path: Path, level: int) -> None:
    span = LEVELS[level].span_ms
    history.write([row(NOW - span, 1, level), row(NOW - span - 1, 2, level)], {}, NOW)
    with sqlite3.connect(path) as database:
        kept = database.execute("SELECT level, at_ms FROM history").fetchall()
    database.close()
    assert kept == [(level, NOW - span)]


def test_in_all_582_points_of_a_series_are_kept(history: SqliteHistory) -> None:
    for level, (period_ms, span_ms) in enumerate(LEVELS):
        n = span_ms // period_ms
        history.write([row(NOW - period_ms * i, level, level) for i in range(2 * n)], {}, NOW)
    at, points = read(history)
    # the finer ones stand for the last part of what the coarser ones cover
    expected = [0] * 91 + [1] * 165 + [2] * 126 + [3] * 144
    assert sorted(at) == at
    assert [int(value) for value in first_values(points)[::-1]] == expected
    assert sum(span_ms // period_ms for period_ms, span_ms in LEVELS) == 582


def test_a_point_of_the_same_instant_replaces_the_one_before(history: SqliteHistory) -> None:
    history.write([row(NOW, 1)], {}, NOW)
    history.write([row(NOW, 2)], {}, NOW)
    assert first_values(read(history)[1]) == [2]


def test_windows_and_features_are_found_by_name_in_rows_of_other_layouts(history: SqliteHistory) -> None:
    def numbered(at_ms: int, layout: Layout) -> Row:
        values = np.arange(len(layout.windows) * len(layout.features), dtype=np.float32)
        values = values.reshape(len(layout.windows), len(layout.features))
        return Row("loans", None, 0, at_ms, layout, np.stack([values, values + 100, values + 200]))

    history.write([numbered(NOW - 20_000, TWO)], {}, NOW)
    swapped = Layout(("1h", "24h", "5m"), ("city", "income", "age"))
    history.write([numbered(NOW - 10_000, swapped)], {}, NOW)
    history.write([numbered(NOW, Layout(("7d",), ("other",)))], {}, NOW)
    wanted = Layout(("5m", "24h"), ("income", "age"))
    _, points = read(history, wanted)
    nan = np.nan
    np.testing.assert_array_equal(points[0, 0], [[nan, 0], [nan, nan]])
    np.testing.assert_array_equal(points[1, 0], [[7, 8], [4, 5]])
    np.testing.assert_array_equal(points[1, 2], [[207, 208], [204, 205]])
    assert np.isnan(points[2]).all()


NAMES = st.lists(st.text(max_size=3), unique=True, min_size=1, max_size=4).map(tuple)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(stored=st.tuples(NAMES, NAMES), wanted=st.tuples(NAMES, NAMES), seed=st.integers(0, 9))
def test_any_two_layouts_agree_on_what_both_have(
    history: SqliteHistory, stored: tuple[tuple[str, ...], ...], wanted: tuple[tuple[str, ...], ...], seed: int
) -> None:
    layout, asked = Layout(*stored), Layout(*wanted)
    values = np.random.default_rng(seed).integers(0, 100, (3, len(layout.windows), len(layout.features)))
    history.write([Row("loans", None, 0, NOW, layout, values.astype(np.float32))], {}, NOW)
    _, points = read(history, asked)
    for w, window in enumerate(asked.windows):
        for f, feature in enumerate(asked.features):
            there = window in layout.windows and feature in layout.features
            expected = (
                values[:, layout.windows.index(window), layout.features.index(feature)] if there else [np.nan] * 3
            )
            np.testing.assert_array_equal(points[0, :, w, f], expected)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=st.floats(6.2e-5, 65_000))
def test_values_are_kept_to_three_digits(history: SqliteHistory, value: float) -> None:
    history.write([row(NOW, value)], {}, NOW)
    assert first_values(read(history)[1])[0] == pytest.approx(value, rel=5e-4)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, 0.0), (1e-9, 0.0), (np.nan, np.nan), (np.inf, np.inf), (65_600.0, np.inf), (1e30, np.inf)],
)
def test_what_float16_does_not_have(history: SqliteHistory, value: float, expected: float) -> None:
    history.write([row(NOW, value)], {}, NOW)
    np.testing.assert_array_equal(first_values(read(history)[1]), [expected])


def test_a_segment_whatever_its_name_is_apart_from_the_whole_and_from_other_monitors(history: SqliteHistory) -> None:
    names = [None, "", "=", "DE", "'; DROP TABLE history; --", "a\x00b", "ü", "\U0001f600"]
    history.write([row(NOW, i, segment=name) for i, name in enumerate(names)], {}, NOW)
    for i, name in enumerate(names):
        assert first_values(read(history, segment=name)[1]) == [i]
    assert read(history, segment="FR")[0] == []
    assert read(history, monitor="other")[0] == []


def test_rows_and_since_are_there_after_the_file_is_opened_again(path: Path) -> None:
    first = SqliteHistory(path)
    first.write([row(NOW, 3)], {("loans", None): {"age": {0: 5, 1: 7}}, ("loans", ""): {"city": {0: 9}}}, NOW)
    first.close()
    again = SqliteHistory(path)
    assert first_values(read(again)[1]) == [3]
    assert again.since() == {("loans", None): {"age": {0: 5, 1: 7}}, ("loans", ""): {"city": {0: 9}}}
    again.write([row(NOW + 1, 4)], {}, NOW + 1)
    assert first_values(read(again, now_ms=NOW + 1)[1]) == [3, 4]
    again.close()


def test_since_replaces_what_was_known_of_its_monitor_alone(history: SqliteHistory) -> None:
    history.write([], {("loans", None): {"age": {0: 5}, "city": {0: 6}}, ("loans", "DE"): {"age": {0: 7}}}, NOW)
    history.write([], {("loans", None): {"city": {0: 6, 1: 8}}}, NOW)
    assert history.since() == {("loans", None): {"city": {0: 6, 1: 8}}, ("loans", "DE"): {"age": {0: 7}}}
    history.write([], {("loans", "DE"): {}}, NOW)
    assert history.since() == {("loans", None): {"city": {0: 6, 1: 8}}}


def test_without_a_state_file_it_is_a_temporary_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = SqliteHistory(None), SqliteHistory(None)
    first.write([row(NOW, 1)], {("loans", None): {"age": {0: 5}}}, NOW)
    assert first_values(read(first)[1]) == [1]
    assert read(second)[0] == []
    assert second.since() == {}
    first.close()
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_a_locked_file_refuses_a_write_as_a_whole_and_takes_the_next(history: SqliteHistory, path: Path) -> None:
    history._database.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateError, match=r"expected to write the history, got database is locked"):
        history.write([row(NOW, 1)], {("loans", None): {"age": {0: 5}}}, NOW)
    assert read(history)[0] == []  # reading goes on meanwhile
    other.execute("ROLLBACK")
    history.write([row(NOW + 1, 2)], {}, NOW + 1)
    assert first_values(read(history, now_ms=NOW + 1)[1]) == [2]
    assert history.since() == {}
    other.close()


def test_after_a_write_that_failed_half_way_the_layouts_are_written_again(history: SqliteHistory, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TRIGGER full BEFORE INSERT ON drifts BEGIN SELECT RAISE(ABORT, 'no space'); END")
    with pytest.raises(StateError, match="no space"):
        history.write([row(NOW, 1)], {("loans", None): {"age": {0: 5}}}, NOW)
    other.execute("DROP TRIGGER full")
    other.close()
    history.write([row(NOW, 2)], {}, NOW)
    assert first_values(read(history)[1]) == [2]


@pytest.mark.parametrize("damaged", [b"", b"no zlib", b"x\x9c\x03\x00\x00\x00\x00\x01"])
def test_a_damaged_point_is_a_state_error(history: SqliteHistory, path: Path, damaged: bytes) -> None:
    history.write([row(NOW, 1)], {}, NOW)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("UPDATE history SET points = ?", (damaged,))
    other.close()
    with pytest.raises(StateError, match="expected to read the history"):
        read(history)


def test_a_database_that_is_gone_is_a_state_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"expected to open the history, .*; check the disk"):
        SqliteHistory(tmp_path / "absent" / "state.db")
    empty = SqliteHistory(tmp_path / "empty.db")
    for call in (empty.since, lambda: read(empty), lambda: empty.write([row(NOW, 1)], {}, NOW)):
        with pytest.raises(StateError, match="no such table"):
            call()
    empty.close()
