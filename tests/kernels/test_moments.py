"""Streaming moments: the naive specification, large means, any order and grouping, and the bad rows."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kldrift.kernels import compilation, moments
from kldrift.kernels.moments import Moments, add_moments, merge_moments, zero_moments

ROOT = Path(__file__).parents[2]
BOTH = pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])


def naive_moments(values, slots, n_slots, full):
    """Moments of each group in plain Python."""
    groups = [[] for _ in range(n_slots)]
    for row, slot in zip(values.tolist(), slots, strict=True):
        if slot >= 0 and not math.isnan(row[0]):
            groups[slot].append(row)
    d = values.shape[1]
    out = zero_moments((n_slots,), d, full)
    for slot, rows in enumerate(groups):
        if rows:
            out.n[slot] = len(rows)
            mean = [math.fsum(row[j] for row in rows) / len(rows) for j in range(d)]
            out.mean[slot] = mean
            products = [
                [math.fsum((row[i] - mean[i]) * (row[j] - mean[j]) for row in rows) for j in range(d)] for i in range(d)
            ]
            out.second[slot] = products if full else np.diagonal(products)
    return out


def add(values, slots=None, n_slots=1, full=False, into=None):
    out = zero_moments((n_slots,), values.shape[1], full) if into is None else into
    add_moments(values, slots, *out)
    return out


def assert_close(got, expected, rtol=1e-12) -> None:
    np.testing.assert_array_equal(got.n, expected.n)
    np.testing.assert_allclose(got.mean, expected.mean, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(got.second, expected.second, rtol=rtol, atol=rtol * max(1.0, abs(expected.second).max()))


def scenario():
    """Groups of none to hundreds of rows, over more dimensions than a tile has; some rows missing or left out."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=(700, 45)) * rng.lognormal(size=45) + rng.normal(size=45) * 100
    values[rng.random(700) < 0.05] = np.nan
    slots = rng.choice(np.array([-1, 0, 0, 0, 1, 3, 4], dtype=np.int32), 700)
    slots[5] = 5
    values[5] = 1.5
    return values, slots


def results(n_threads):
    values, slots = scenario()
    before, moments.PARALLEL_FROM_VALUES = moments.PARALLEL_FROM_VALUES, 0
    compilation.set_threads(n_threads)
    try:
        out = add(values, slots, 6)
        add(values[:300], None, 6, into=out)
    finally:
        moments.PARALLEL_FROM_VALUES = before
        compilation.set_threads(None)
    return np.concatenate([out.n[:, None], out.mean, out.second], axis=1)


# --- what they are ---------------------------------------------------------------------------------


@BOTH
def test_the_naive_specification_agrees(full: bool) -> None:
    values, slots = scenario()
    got = add(values, slots, 6, full)
    assert_close(got, naive_moments(values, slots.tolist(), 6, full))
    assert got.n[2] == 0 < got.n[0]
    assert (got.n[5], got.second[5].any()) == (1, False)
    np.testing.assert_array_equal(got.mean[5], 1.5)


def test_the_diagonal_of_full_moments_is_the_diagonal_ones() -> None:
    values, slots = scenario()
    full, diagonal = add(values, slots, 6, True), add(values, slots, 6)
    assert_close(Moments(full.n, full.mean, np.diagonal(full.second, axis1=1, axis2=2)), diagonal)


def test_parallel_equals_serial_to_the_bit() -> None:
    np.testing.assert_array_equal(results(1), results(2))


def test_interpreted_equals_compiled_to_the_bit(tmp_path: Path) -> None:
    out = tmp_path / "interpreted.npy"
    subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.kernels.test_moments", str(out)],
        cwd=ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        check=True,
        timeout=120,
    )
    np.testing.assert_array_equal(np.load(out), results(1))


def test_nothing_compiles_after_the_warm_up() -> None:
    compilation.warm_up()
    before = compilation.compiled_signatures()
    assert before["moments_serial"] == before["moments_parallel"] == before["group_rows"] == 1
    values, slots = scenario()
    values.flags.writeable = slots.flags.writeable = False
    add(values, slots, 6)
    add(values, None, 6, True)
    results(2)
    assert compilation.compiled_signatures() == before


# --- numbers that cost digits ----------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("rows_at_once", [100_000, 1000, 7])
def test_a_mean_of_1e9_costs_the_variance_nothing(full: bool, rows_at_once: int) -> None:
    values = np.random.default_rng(0).normal(size=(100_000 if rows_at_once > 7 else 7000, 3)) + 1e9
    got = zero_moments((1,), 3, full)
    for start in range(0, len(values), rows_at_once):
        add(values[start : start + rows_at_once], into=got)
    exact = values.astype(np.longdouble)
    deviations = exact - exact.mean(axis=0)
    expected = (deviations.T @ deviations if full else (deviations**2).sum(axis=0)).astype(np.float64)
    np.testing.assert_allclose(got.mean[0], exact.mean(axis=0).astype(np.float64), rtol=2e-15)
    np.testing.assert_allclose(got.second[0], expected, rtol=1e-7, atol=1e-7 * len(values))


@BOTH
def test_a_first_row_far_from_the_rest_costs_nothing(full: bool) -> None:
    values = np.random.default_rng(0).normal(size=(5000, 2))
    values[0] = 1e12
    got = add(values, full=full)
    np.testing.assert_allclose(got.mean[0], values.mean(axis=0), rtol=1e-11)
    scatter = got.second[0] if not full else np.diagonal(got.second[0])
    np.testing.assert_allclose(scatter, 5000 * values.var(axis=0), rtol=1e-11)


@BOTH
def test_a_constant_has_no_variance(full: bool) -> None:
    assert not add(np.full((5000, 3), 0.1), full=full).second.any()


@BOTH
def test_what_overflows_is_not_finite_and_warns_of_nothing(full: bool) -> None:
    got = add(np.array([[1e300, 1.0], [-1e300, 2.0], [1e308, 3.0], [-1e308, 4.0]]), full=full)
    assert got.n[0] == 4
    assert not np.isfinite(got.second[0, 0]).all()
    merge_moments(got, add(np.array([[-1e308, 1.0]]), full=full))
    assert not np.isfinite(got.second[0, 0]).all()


@BOTH
def test_one_huge_vector_can_be_held(full: bool) -> None:
    got = add(np.array([[1e300, -1e300]]), full=full)
    np.testing.assert_array_equal(got.mean, [[1e300, -1e300]])
    assert not got.second.any()


# --- groups, order and merging ---------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 300),
    d=st.integers(1, 20),
    cuts=st.lists(st.integers(0, 300), max_size=6),
    full=st.booleans(),
)
def test_any_order_and_grouping_gives_the_same(seed, rows, d, cuts, full) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, d)) * 3 + 10
    whole = add(values, full=full)
    parts = [add(np.ascontiguousarray(part), full=full) for part in np.split(rng.permutation(values), sorted(cuts))]
    while len(parts) > 1:
        other = parts.pop(int(rng.integers(len(parts))))
        into = parts[int(rng.integers(len(parts)))]
        merge_moments(into, other)
    assert_close(parts[0], whole)


@BOTH
def test_merging_nothing_changes_nothing(full: bool) -> None:
    values, slots = scenario()
    moments_of = add(values, slots, 6, full)
    into, empty = moments_of.copy(), zero_moments((6,), 45, full)
    merge_moments(into, empty)
    merge_moments(empty, moments_of)
    for got in (into, empty):
        for array, expected in zip(got, moments_of, strict=True):
            np.testing.assert_array_equal(array, expected)


@BOTH
def test_rows_that_are_missing_or_left_out_leave_no_trace(full: bool) -> None:
    values, _ = scenario()
    assert add(values[:0], full=full).n[0] == 0
    assert add(np.full((3, 2), np.nan), full=full).n[0] == 0
    none = add(values, np.full(len(values), -1, dtype=np.int32), 2, full)
    assert not none.n.any()
    assert not none.mean.any()
    present = np.ascontiguousarray(values[~np.isnan(values[:, 0])])
    assert_close(add(values, full=full), add(present, full=full), rtol=0)


# --- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros((3, 2), dtype=np.float32)}, "values: expected contiguous float64"),
        ({"values": np.zeros((2, 3)).T}, "values: expected contiguous float64"),
        ({"values": np.zeros(3)}, "values: expected \\(n_rows, d\\)"),
        ({"values": np.zeros((3, 0))}, "values: expected \\(n_rows, d\\)"),
        ({"slots": np.zeros(2, dtype=np.int32)}, "slots: expected contiguous int32 \\(3,\\)"),
        ({"slots": np.array([0, 4, 0], dtype=np.int32)}, "slots: expected groups below 4, got 4"),
        ({"n": np.zeros(4)}, "n: expected contiguous int64"),
        ({"mean": np.zeros((4, 3))}, "mean: expected contiguous float64"),
        ({"second": np.zeros((4, 3, 3))}, "second: expected contiguous float64"),
    ],
)
def test_another_type_or_shape_is_refused(change: dict[str, Any], message: str) -> None:
    n, mean, second = zero_moments((4,), 2, False)
    arguments = {"values": np.zeros((3, 2)), "slots": None, "n": n, "mean": mean, "second": second}
    with pytest.raises(ValueError, match=message):
        add_moments(**{**arguments, **change})


if __name__ == "__main__":
    np.save(sys.argv[1], results(2))
