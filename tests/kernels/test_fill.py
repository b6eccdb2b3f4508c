"""Where a sample is counted, for any edges, and what is refused."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kldrift.kernels.bin_table import CategoryBins, NumericBins, make_bin_table
from kldrift.kernels.fill import fill_counts
from tests import naive

ANY_FLOAT = st.floats(allow_nan=False, allow_infinity=False)
EDGES = st.one_of(
    st.sets(st.floats(allow_nan=False), min_size=2, max_size=40),
    st.sets(st.floats(-10, 10), min_size=2, max_size=40),
    st.sets(st.integers(0, 200).map(float), min_size=2, max_size=90),
    st.sets(st.integers(0, 60).map(lambda n: n * 5e-324), min_size=2, max_size=40),
    # point masses: a bin [v, nextafter(v)) beside wide ones
    st.sets(st.floats(-1e6, 1e6), min_size=1, max_size=12).map(
        lambda values: values | {math.nextafter(v, math.inf) for v in values}
    ),
).map(sorted)


def count(edges, values, low=-math.inf, high=math.inf):
    table = make_bin_table([NumericBins(np.array(edges, dtype=np.float64), low, high)])
    counts = np.zeros((1, int(table.offsets[-1])), dtype=np.int64)
    fill_counts(table, [np.array(values, dtype=np.float64)], None, counts)
    return counts[0]


def by_searchsorted(edges, values):
    """Counts as numpy.searchsorted has them: the specification where loops would take too long."""
    n_bins = len(edges) - 1
    cells = np.searchsorted(edges, values, side="right") - 1
    cells = np.where(values == edges[-1], n_bins - 1, cells)
    cells = np.where((values < edges[0]) | (values == -np.inf), n_bins, cells)
    cells = np.where((values > edges[-1]) | (values == np.inf), n_bins + 1, cells)
    return np.bincount(np.where(np.isnan(values), n_bins + 2, cells), minlength=n_bins + 4)


@given(edges=EDGES, others=st.lists(st.floats(), max_size=30))
@settings(max_examples=300, deadline=None)
def test_values_on_and_beside_any_edges_fall_where_the_specification_says(edges, others) -> None:
    beside = [math.nextafter(edge, to) for edge in edges for to in (-math.inf, math.inf)]
    values = [*edges, *beside, *others, 0.0, -0.0]
    expected = naive.fill_counts([NumericBins(np.array(edges))], [values], None, 1)[0]
    np.testing.assert_array_equal(count(edges, values), expected)


@given(inner=EDGES, open_ends=st.sampled_from([(1, 1), (1, 0), (0, 1)]), ends=st.tuples(ANY_FLOAT, ANY_FLOAT),
       others=st.lists(st.floats(), max_size=30))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_values_beyond_an_open_end_are_underflow_or_overflow(inner, open_ends, ends, others) -> None:
    """Wherever the ends lie: beyond all edges, on one, or so far in that a bin has no room."""
    edges = [*[-math.inf] * open_ends[0], *inner, *[math.inf] * open_ends[1]]
    edges = sorted(set(edges))
    low, high = sorted(ends)
    for a, b in ((low, high), (inner[0], inner[-1]), (inner[-1], inner[0])):
        marks = [*edges, a, b]
        values = [*marks, *(math.nextafter(v, to) for v in marks for to in (-math.inf, math.inf)), *others]
        expected = naive.fill_counts([NumericBins(np.array(edges), a, b)], [values], None, 1)[0]
        np.testing.assert_array_equal(count(edges, values, a, b), expected)


@pytest.mark.parametrize("n_edges", [2, 3, 17, 65, 500, 10_000])
@pytest.mark.parametrize("shape", ["normal", "lognormal", "uniform", "cauchy", "steps", "tiny", "huge"])
def test_many_values_equal_searchsorted(shape: str, n_edges: int) -> None:
    rng = np.random.default_rng(n_edges)
    draw = {
        "normal": lambda n: rng.normal(size=n),
        "lognormal": lambda n: rng.lognormal(sigma=4, size=n),
        "uniform": lambda n: rng.random(n) + 1e6,
        "cauchy": lambda n: rng.standard_cauchy(n) ** 3,
        "steps": lambda n: np.round(rng.exponential(300, n)),
        "tiny": lambda n: rng.integers(-50_000, 50_000, n) * 5e-324,
        "huge": lambda n: (rng.random(n) - 0.5) * 1.7e308 * 2,
    }[shape]
    edges = np.unique(draw(n_edges))
    values = np.concatenate([draw(20_000), edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf)])
    values[::50] = np.nan
    np.testing.assert_array_equal(count(edges, values), by_searchsorted(edges, values))
    if len(edges) > 2:
        edges[0], edges[-1] = -np.inf, np.inf
        values[1::50], values[2::50] = np.inf, -np.inf
        np.testing.assert_array_equal(count(edges, values), by_searchsorted(edges, values))


@pytest.mark.parametrize("shape", ["normal", "lognormal", "uniform", "cauchy"])
@pytest.mark.parametrize("ends", ["closed", "open", "bounded"])
def test_one_comparison_a_sample_is_enough_for_quantile_bins(shape: str, ends: str) -> None:
    """The fast path: guide and one step; without it the rate drops by half and more."""
    rng = np.random.default_rng(3)
    sample = {
        "normal": rng.normal(size=50_000),
        "lognormal": rng.lognormal(sigma=2, size=50_000),
        "uniform": rng.random(50_000),
        "cauchy": rng.standard_cauchy(50_000),
    }[shape]
    edges = np.quantile(sample, np.linspace(0, 1, 65))
    low, high = float(edges[0]), float(edges[-1])
    if ends != "closed":
        edges[0], edges[-1] = -np.inf, np.inf
    table = make_bin_table([NumericBins(edges, low, high) if ends == "bounded" else NumericBins(edges)])
    steps = table.shifts[0, 3]
    assert steps == 1
    assert len(table.guides) <= 2048


@given(
    rows=st.lists(st.tuples(st.floats(-3, 3), st.integers(-1, 4), st.integers(-1, 2)), max_size=60),
    cut=st.integers(0, 60),
)
@settings(max_examples=100, deadline=None)
def test_counts_do_not_depend_on_how_rows_are_cut_into_batches(rows, cut) -> None:
    features = [
        NumericBins(np.linspace(-2, 2, 9)),
        CategoryBins(np.array([1, 0, 2, 3], dtype=np.int32), 4),
    ]
    table = make_bin_table(features)

    def fill(batches):
        counts = np.zeros((3, int(table.offsets[-1])), dtype=np.int64)
        for batch in batches:
            values, codes, slots = zip(*batch, strict=True) if batch else ((), (), ())
            columns = [np.array(values, dtype=np.float64), np.array(codes, dtype=np.int32)]
            fill_counts(table, columns, np.array(slots, dtype=np.int32), counts)
        return counts

    whole = fill([rows])
    np.testing.assert_array_equal(whole, fill([rows[:cut], rows[cut:]]))
    np.testing.assert_array_equal(whole, fill([rows[cut:], rows[:cut]]))
    # the slots add up to one window, whatever their order
    at_once = np.zeros((1, whole.shape[1]), dtype=np.int64)
    kept = [row for row in rows if row[2] >= 0]
    if kept:
        values, codes, _ = zip(*kept, strict=True)
        fill_counts(table, [np.array(values), np.array(codes, dtype=np.int32)], None, at_once)
    np.testing.assert_array_equal(whole.sum(axis=0), at_once[0])


def test_a_read_only_column_is_counted_without_a_copy() -> None:
    column = np.frombuffer(np.array([0.5, 1.5, 1.5]).tobytes())
    assert not column.flags.writeable
    np.testing.assert_array_equal(count([0, 1, 2], column), [1, 2, 0, 0, 0, 0])
    table = make_bin_table([NumericBins(np.array([0.0, 1.0, 2.0]))])
    counts = np.zeros((1, 6), dtype=np.int64)
    fill_counts(table, [column], None, counts)
    np.testing.assert_array_equal(counts, [[1, 2, 0, 0, 0, 0]])


def test_no_rows_and_no_features_are_fine() -> None:
    np.testing.assert_array_equal(count([0, 1], []), [0, 0, 0, 0, 0])
    fill_counts(make_bin_table([]), [], None, np.zeros((1, 0), dtype=np.int64))


GOOD = np.zeros(4)


@pytest.mark.parametrize(
    ("column", "slots", "counts", "message"),
    [
        (GOOD.astype(np.float32), None, (1, 5), "column 0: expected a contiguous, aligned float64 vector of 4 rows"),
        (np.zeros(8)[::2], None, (1, 5), "column 0: expected a contiguous.*strides \\(16,\\).*ascontiguousarray"),
        (np.zeros((4, 1)), None, (1, 5), "column 0: expected"),
        (GOOD, np.zeros(3, dtype=np.int32), (1, 5), "slots: expected contiguous int32 \\(4,\\), got int32 \\(3,\\)"),
        (GOOD, np.zeros(4, dtype=np.int64), (1, 5), "slots: expected contiguous int32 \\(4,\\), got int64"),
        (GOOD, np.ones(4, dtype=np.int32), (1, 5), "slots: expected rows of counts, below 1, got 1"),
        (GOOD, None, (1, 6), "counts: expected shape \\(n_slots, 5\\), got \\(1, 6\\)"),
        (GOOD, None, (0, 5), "counts: expected shape"),
        (GOOD, None, (4,), "counts: expected a writable, contiguous int64 matrix"),
    ],
)
def test_what_would_be_read_wrong_is_refused(column: Any, slots: Any, counts: tuple[int, ...], message: str) -> None:
    table = make_bin_table([NumericBins(np.array([0.0, 1.0]))])
    with pytest.raises(ValueError, match=message):
        fill_counts(table, [column], slots, np.zeros(counts, dtype=np.int64))


def test_a_missing_column_is_refused() -> None:
    table = make_bin_table([NumericBins(np.array([0.0, 1.0]))])
    with pytest.raises(ValueError, match="expected a column for each of the 1 features, got 2"):
        fill_counts(table, [GOOD, GOOD], None, np.zeros((1, 5), dtype=np.int64))


@pytest.mark.parametrize("edges", [[], [1.0], [1.0, 1.0], [0.0, -0.0], [2.0, 1.0], [0.0, np.nan], [[0.0, 1.0]]])
def test_edges_that_make_no_bins_are_refused(edges: list[Any]) -> None:
    with pytest.raises(ValueError, match="feature 0: expected 2 or more strictly increasing edges"):
        make_bin_table([NumericBins(np.array(edges))])


@pytest.mark.parametrize("lookup", [[0], [0, 4], [-1, 0]])
def test_a_lookup_that_leaves_its_cells_is_refused(lookup: list[int]) -> None:
    with pytest.raises(ValueError, match="feature 0: expected a cell from 0 to 3"):
        make_bin_table([CategoryBins(np.array(lookup, dtype=np.int32), 4)])
