"""Arguments of the kernels: their numba types, and the checks that they pass before a call.

A kernel takes the arrays that it only reads in a NamedTuple. Numba converts nothing inside a tuple, not even a writable
array to a read-only one, so all of them have to be read-only: `input_array` and `frozen` return views that are.
"""

from typing import Any, TypeVar, get_args, get_type_hints

import numpy as np
import numpy.typing as npt
from numba import from_dtype, types

Scalar = TypeVar("Scalar", bound=np.generic)

_SCALARS = {bool: types.boolean, int: types.int64, float: types.float64}


def array_type(dtype: npt.DTypeLike, ndim: int = 1, readonly: bool = False) -> Any:
    """Return the type of a contiguous array."""
    return types.Array(from_dtype(np.dtype(dtype)), ndim, "C", readonly=readonly)


def input_type(dtype: npt.DTypeLike, ndim: int = 1) -> Any:
    """Return the type of a contiguous array that a kernel only reads."""
    return array_type(dtype, ndim, readonly=True)


def tuple_type(bundle: type, readonly: bool = True, **ndim: int) -> Any:
    """Return the type of a NamedTuple of arrays and scalars, read off its annotations.

    Parameters
    ----------
    bundle : the NamedTuple
    readonly : whether its arrays are
    ndim : dimensions of the arrays that have more than one, by field
    """
    fields = [
        _SCALARS.get(hint) or array_type(get_args(get_args(hint)[1])[0], ndim.get(name, 1), readonly)
        for name, hint in get_type_hints(bundle).items()
    ]
    return types.BaseTuple.from_types(fields, bundle)


def require_array(name: str, array: npt.NDArray[np.generic], dtype: npt.DTypeLike, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless an array is contiguous and has this type and shape."""
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        raise ValueError(
            f"{name}: expected contiguous {np.dtype(dtype)} {shape}, got {array.dtype} {array.shape} with strides "
            f"{array.strides}; convert it with np.ascontiguousarray"
        )


def frozen(array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """Return a read-only view."""
    view = array.view()
    view.flags.writeable = False
    return view


def input_array(
    name: str, array: npt.NDArray[Scalar], dtype: npt.DTypeLike, shape: tuple[int, ...]
) -> npt.NDArray[Scalar]:
    """Return a read-only view of an array, checked by `require_array`."""
    require_array(name, array, dtype, shape)
    return frozen(array)
