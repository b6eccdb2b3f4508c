"""Memory and bits as the kernels see them: arrays at an address, unaliased loads and stores, bit patterns of floats.

LLVM only vectorises a loop with a gather if it can prove that the loop's stores do not touch what it gathers. Numba
passes on nothing about aliasing, so loads and stores in inner loops use the intrinsics below, which do: *inputs* are
never written by the loop that reads them, and a *block* is scratch memory of the kernel itself. Measured on 64 quantile
bins: 110 M samples/s with plain indexing, 560 M with these.

With ``NUMBA_DISABLE_JIT=1`` the same names are plain Python.
"""

import ctypes
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import carray, config, types
from numba.extending import intrinsic

if config.DISABLE_JIT:

    def read_input(array: npt.NDArray[Any], index: Any) -> Any:
        """Return ``array[index]`` of an array that the loop does not write to."""
        return array[index]

    def read_block(array: npt.NDArray[Any], index: Any) -> Any:
        """Return ``array[index]`` of a kernel's own scratch memory."""
        return array[index]

    def write_block(array: npt.NDArray[Any], index: Any, value: Any) -> None:
        """Set ``array[index] = value`` in a kernel's own scratch memory."""
        array[index] = value

    def float_bits(value: float) -> int:
        """Return the 64 bits of a float64 as a signed integer."""
        return int(struct.unpack("<q", struct.pack("<d", value))[0])

    def float_of_bits(bits: int) -> float:
        """Return the float64 with these 64 bits."""
        return np.float64(struct.unpack("<d", struct.pack("<q", bits))[0])

    def float64_at(address: int, size: int) -> npt.NDArray[np.float64]:
        """Return the (size,) float64 array at `address` without copying it."""
        return np.ctypeslib.as_array((ctypes.c_double * int(size)).from_address(int(address)))

    def int32_at(address: int, size: int) -> npt.NDArray[np.int32]:
        """Return the (size,) int32 array at `address` without copying it."""
        return np.ctypeslib.as_array((ctypes.c_int32 * int(size)).from_address(int(address)))

else:
    from kldrift.kernels.compilation import jit

    def _inputs_scope(builder: Any) -> Any:
        """Return metadata that names the set of all inputs; equal in every function, so it survives inlining."""
        module = builder.module
        domain = module.add_metadata(["kldrift"])
        return module.add_metadata([module.add_metadata(["kldrift inputs", domain])])

    def _pointer(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_type, index_type = signature.args[:2]
        array = context.make_array(array_type)(context, builder, arguments[0])
        wide = types.intp if index_type.signed else types.uintp
        return builder.gep(array.data, [context.cast(builder, arguments[1], index_type, wide)])

    def _require_vector(array: Any) -> None:
        if array.ndim != 1 or array.layout != "C":
            raise TypeError(f"expected a contiguous vector, got {array}")

    @intrinsic
    def read_input(typing_context: Any, array: Any, index: Any) -> Any:  # noqa: ARG001 (numba's protocol)
        """Return ``array[index]`` of an array that the loop does not write to; index not negative, unchecked."""
        _require_vector(array)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            load = builder.load(_pointer(context, builder, signature, arguments))
            load.set_metadata("alias.scope", _inputs_scope(builder))
            return load

        return array.dtype(array, index), generate

    @intrinsic
    def read_block(typing_context: Any, array: Any, index: Any) -> Any:  # noqa: ARG001
        """Return ``array[index]`` of a kernel's own scratch memory; index not negative, unchecked."""
        _require_vector(array)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            load = builder.load(_pointer(context, builder, signature, arguments))
            load.set_metadata("noalias", _inputs_scope(builder))
            return load

        return array.dtype(array, index), generate

    @intrinsic
    def write_block(typing_context: Any, array: Any, index: Any, value: Any) -> Any:  # noqa: ARG001
        """Set ``array[index] = value`` in a kernel's own scratch memory; index not negative, unchecked."""
        _require_vector(array)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            store = builder.store(arguments[2], _pointer(context, builder, signature, arguments))
            store.set_metadata("noalias", _inputs_scope(builder))
            return context.get_dummy_value()

        return types.void(array, index, array.dtype), generate

    @intrinsic
    def float_bits(typing_context: Any, value: Any) -> Any:  # noqa: ARG001
        """Return the 64 bits of a float64 as a signed integer."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
            return builder.bitcast(arguments[0], ir.IntType(64))

        return types.int64(types.float64), generate

    @intrinsic
    def float_of_bits(typing_context: Any, bits: Any) -> Any:  # noqa: ARG001
        """Return the float64 with these 64 bits."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
            return builder.bitcast(arguments[0], ir.DoubleType())

        return types.float64(types.int64), generate

    @intrinsic
    def _pointer_at(typing_context: Any, address: Any) -> Any:  # noqa: ARG001
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
            return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

        return types.voidptr(types.int64), generate

    @jit
    def float64_at(address: int, size: int) -> npt.NDArray[np.float64]:
        """Return the (size,) float64 array at `address` without copying it."""
        return carray(_pointer_at(address), (size,), np.float64)  # type: ignore[no-any-return]

    @jit
    def int32_at(address: int, size: int) -> npt.NDArray[np.int32]:
        """Return the (size,) int32 array at `address` without copying it."""
        return carray(_pointer_at(address), (size,), np.int32)  # type: ignore[no-any-return]
