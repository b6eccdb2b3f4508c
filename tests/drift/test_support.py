"""How much a reference needs to support a verdict, to the row; and how much its stretches may differ."""

import math

import numpy as np
import pytest

from kldrift.drift.kinds.numeric import Numeric
from kldrift.drift.references.given import inline_reference
from kldrift.drift.references.reference import FeatureReference
from kldrift.drift.references.stretches import _difference, lasting_difference
from kldrift.drift.references.support import problem_of
from kldrift.records.specs import FeatureSpec, ReferenceInline

TEN_BINS = Numeric(np.arange(11.0))
THREE_BINS = Numeric(np.arange(4.0))


def panes_of(shape: Numeric, rows: int, n_panes: int, missing: int = 0) -> np.ndarray:
    """Rows spread evenly over bins and panes; some of them are missing."""
    n_bins = len(shape.edges) - 1
    panes = np.zeros((n_panes, len(shape.cells)), dtype=np.int64)
    for i in range(rows):
        panes[i * n_panes // max(rows, 1), -2 if i < missing else i % n_bins] += 1
    return panes


@pytest.mark.parametrize(
    ("shape", "rows", "n_panes", "expected"),
    [
        (THREE_BINS, 30, 1, None),  # totals
        (THREE_BINS, 29, 1, "29 rows for 3 bins; a verdict needs at least 30:"),
        (THREE_BINS, 64, 64, None),
        (THREE_BINS, 63, 63, "63 rows for 3 bins; a verdict needs at least 64:"),
        (THREE_BINS, 40, 2, "40 rows for 3 bins; a verdict needs at least 64:"),
        (TEN_BINS, 100, 64, None),
        (TEN_BINS, 99, 64, "99 rows for 10 bins; a verdict needs at least 100:"),
        (TEN_BINS, 0, 1, "0 rows for 10 bins; a verdict needs at least 100:"),
    ],
)
def test_a_reference_needs_ten_rows_for_a_bin_and_one_for_a_pane(
    shape: Numeric, rows: int, n_panes: int, expected: str | None
) -> None:
    found = problem_of(FeatureReference("x", shape, panes_of(shape, rows, n_panes)), math.inf)
    assert (found is None) if expected is None else (found is not None and expected in found)


def test_rows_without_a_value_do_not_count_for_a_bin() -> None:
    assert problem_of(FeatureReference("x", TEN_BINS, panes_of(TEN_BINS, 150, 64, missing=50)), math.inf) is None
    found = problem_of(FeatureReference("x", TEN_BINS, panes_of(TEN_BINS, 150, 64, missing=51)), math.inf)
    assert found is not None
    assert found.startswith("the reference has a value in only 99 of its 150 rows; a verdict needs at least 100,")


@pytest.mark.parametrize("given", [{"probabilities": (1.0, 0.0)}, {"counts": (500, 0)}])
def test_a_reference_in_one_cell_says_nothing_however_it_is_given(given: dict[str, tuple[float, ...]]) -> None:
    inline = ReferenceInline(categories=("a", "b"), **given)  # type: ignore[arg-type]
    found = problem_of(inline_reference(FeatureSpec("c", "categorical"), inline, 0), 0.1)
    assert found is not None
    assert "the reference is constant: all of it lies in 'a'" in found


def halves(n_panes: int) -> np.ndarray:
    """The first half is of another distribution than the second."""
    low = np.arange(n_panes) < n_panes // 2
    return np.stack([np.where(low, 30, 10), np.where(low, 10, 30)], axis=1)


@pytest.mark.parametrize(("n_panes", "enough"), [(48, False), (60, False), (64, True), (66, False), (68, True)])
def test_stretches_are_compared_where_there_are_64_and_a_multiple_of_four(n_panes: int, enough: bool) -> None:
    assert (lasting_difference(halves(n_panes)) > 0.1) is enough


def test_differences_up_to_the_tolerance_are_fine() -> None:
    reference = FeatureReference("x", Numeric(np.arange(3.0)), np.pad(halves(64), ((0, 0), (0, 4))))
    difference = lasting_difference(halves(64))
    assert problem_of(reference, difference * 1.01) is None
    assert "stretches of the reference differ" in str(problem_of(reference, difference * 0.99))


def test_the_difference_of_stretches_and_how_much_of_it_may_be_chance_by_hand() -> None:
    blocks = np.array([[30.0, 10.0, 0.0], [10.0, 30.0, 0.0]])
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)  # of each from one half
    degrees, m = 1, 80
    difference, deviation = _difference(blocks)
    assert difference == pytest.approx(divergence - degrees / (2 * m), rel=1e-12)
    assert deviation == pytest.approx(math.sqrt(2 * degrees) / (2 * m), rel=1e-12)
    with_empty = np.insert(blocks, 1, 0.0, axis=0)
    assert _difference(with_empty) == (difference, deviation)
    assert _difference(np.array([[5.0, 0.0], [7.0, 0.0]])) == (0.0, math.inf)  # one category
    assert _difference(np.array([[5.0, 3.0], [0.0, 0.0]])) == (0.0, math.inf)  # one stretch
