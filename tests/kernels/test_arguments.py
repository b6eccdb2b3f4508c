"""Arguments of kernels: numba's types are those of the values passed, and callers' arrays stay as they are."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from numba import typeof

from kldrift.kernels.arguments import frozen, input_array, require_array, tuple_type
from kldrift.kernels.bin_table import TABLE, CategoryBins, NumericBins, make_bin_table
from kldrift.kernels.parsing.fields import FIELDS, make_fields
from kldrift.kernels.parsing.gaps import LEARNED, nothing_learned
from kldrift.records.types import FloatArray, IntArray


class Mixed(NamedTuple):
    counts: IntArray
    matrix: FloatArray
    flags: npt.NDArray[np.bool_]
    words: npt.NDArray[np.uint64]
    size: int
    share: float
    done: bool


class Alike(NamedTuple):
    first: IntArray
    second: IntArray


@pytest.mark.parametrize("readonly", [True, False])
def test_the_type_of_a_bundle_is_that_of_its_values(readonly: bool) -> None:
    arrays = [np.zeros(2, np.int64), np.zeros((2, 3)), np.zeros(2, np.bool_), np.zeros(2, np.uint64)]
    if readonly:
        arrays = [frozen(array) for array in arrays]
    assert typeof(Mixed(*arrays, 1, 0.5, True)) == tuple_type(Mixed, readonly=readonly, matrix=2)  # type: ignore[call-arg]
    assert typeof(Alike(arrays[0], arrays[0])) == tuple_type(Alike, readonly=readonly)


def test_the_bundles_that_others_pass_have_the_types_that_kernels_expect() -> None:
    table = make_bin_table([NumericBins(np.array([0.0, 1.0])), CategoryBins(np.zeros(3, np.int32), 4)])
    fields = make_fields(["x"], [], "ts")
    assert typeof(table) == TABLE
    assert typeof(fields) == FIELDS
    assert typeof(nothing_learned(fields)) == LEARNED


def test_a_frozen_view_leaves_the_array_writable() -> None:
    array = np.zeros(3)
    view = input_array("array", array, np.float64, (3,))
    assert not view.flags.writeable
    array[0] = 1.0
    assert view[0] == 1.0


@pytest.mark.parametrize("array", [np.zeros(3, np.float32), np.zeros((3, 1)), np.zeros(4), np.zeros(6)[::2]], ids=str)
def test_another_type_shape_or_layout_is_refused_by_name(array: npt.NDArray[np.generic]) -> None:
    with pytest.raises(ValueError, match=r"^values: expected contiguous float64 \(3,\), got .*ascontiguousarray$"):
        require_array("values", array, np.float64, (3,))
    with pytest.raises(ValueError, match=r"^values: "):
        input_array("values", array, np.float64, (3,))
