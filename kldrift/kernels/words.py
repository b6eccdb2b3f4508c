"""Bytes as the kernels read them: eight or more at once from any address, and operations on 64-bit words.

The word at `index` consists of bytes index to index + 7, little-endian; the caller has to make sure that they exist.
With ``NUMBA_DISABLE_JIT=1`` the same names are plain Python, and reading beyond the end is an IndexError.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import config, njit, types
from numba.extending import intrinsic

from kldrift.kernels import compilation

Function = TypeVar("Function", bound=Callable[..., Any])
Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]


def piece(function: Function) -> Function:
    """Compile a piece as `compilation.jit` does, but without counting references to arrays."""
    compiled: Function = njit(**compilation.UNCOUNTED_OPTIONS)(function)
    return compiled


def piece_apart(function: Function) -> Function:
    """Compile a piece that is called instead of inlined."""
    compiled: Function = njit(**compilation.CALLED_OPTIONS)(function)
    return compiled


if config.DISABLE_JIT:

    def word_at(data: Bytes, index: int) -> Any:
        """Return the eight bytes from `index` on."""
        if index < 0 or index + 8 > len(data):
            raise IndexError(f"bytes {index} to {index + 7} of {len(data)}")
        return np.uint64(int.from_bytes(data[index : index + 8].tobytes(), "little"))

    def byte_at(data: Bytes, index: int) -> int:
        """Return the byte at `index`."""
        if index < 0 or index >= len(data):
            raise IndexError(f"byte {index} of {len(data)}")
        return int(data[index])

    def marks_at(data: Bytes, index: int) -> Any:
        """Return one bit for each of the 32 bytes from `index` on, set unless the byte is a digit."""
        if index < 0 or index + 32 > len(data):
            raise IndexError(f"bytes {index} to {index + 31} of {len(data)}")
        return np.uint64(sum(1 << i for i in range(32) if not 48 <= data[index + i] <= 57))

    def trailing_zeros(word: Any) -> int:
        """Count the zero bits below the lowest one bit; 64 if there is none."""
        return (int(word) & -int(word)).bit_length() - 1 if word else 64

    def leading_zeros(word: Any) -> int:
        """Count the zero bits above the highest one bit; 64 if there is none."""
        return 64 - int(word).bit_length()

    def product(a: Any, b: Any) -> tuple[Any, Any]:
        """Return the high and the low half of the 128-bit product."""
        wide = int(a) * int(b)
        return np.uint64(wide >> 64), np.uint64(wide & 0xFFFFFFFFFFFFFFFF)

else:

    def _word_pointer(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        index = context.cast(builder, arguments[1], signature.args[1], types.intp)
        return builder.gep(array.data, [index])

    @intrinsic
    def word_at(typing_context: Any, data: Any, index: Any) -> Any:  # noqa: ARG001 (numba's protocol)
        """Return the eight bytes from `index` on, unchecked."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = _word_pointer(context, builder, signature, arguments)
            load = builder.load(builder.bitcast(pointer, ir.IntType(64).as_pointer()))
            load.align = 1
            return load

        return types.uint64(data, index), generate

    @intrinsic
    def byte_at(typing_context: Any, data: Any, index: Any) -> Any:  # noqa: ARG001
        """Return the byte at `index`, unchecked."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = _word_pointer(context, builder, signature, arguments)
            return builder.zext(builder.load(pointer), ir.IntType(64))

        return types.int64(data, index), generate

    @intrinsic
    def marks_at(typing_context: Any, data: Any, index: Any) -> Any:  # noqa: ARG001
        """Return one bit for each of the 32 bytes from `index` on, unchecked, set unless the byte is a digit.

        This uses vector registers and takes a few instructions, however long the number is.
        """

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = _word_pointer(context, builder, signature, arguments)
            vector = ir.VectorType(ir.IntType(8), 32)
            load = builder.load(builder.bitcast(pointer, vector.as_pointer()))
            load.align = 1
            values = builder.sub(load, ir.Constant(vector, [48] * 32))
            marks = builder.icmp_unsigned(">", values, ir.Constant(vector, [9] * 32))
            return builder.zext(builder.bitcast(marks, ir.IntType(32)), ir.IntType(64))

        return types.uint64(data, index), generate

    @intrinsic
    def trailing_zeros(typing_context: Any, word: Any) -> Any:  # noqa: ARG001
        """Count the zero bits below the lowest one bit; 64 if there is none."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
            return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

        return types.int64(types.uint64), generate

    @intrinsic
    def leading_zeros(typing_context: Any, word: Any) -> Any:  # noqa: ARG001
        """Count the zero bits above the highest one bit; 64 if there is none."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
            return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

        return types.int64(types.uint64), generate

    @intrinsic
    def product(typing_context: Any, a: Any, b: Any) -> Any:  # noqa: ARG001
        """Return the high and the low half of the 128-bit product, in one instruction."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            word, wide = ir.IntType(64), ir.IntType(128)
            whole = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
            high = builder.trunc(builder.lshr(whole, ir.Constant(wide, 64)), word)
            return context.make_tuple(builder, signature.return_type, (high, builder.trunc(whole, word)))

        return types.UniTuple(types.uint64, 2)(types.uint64, types.uint64), generate
