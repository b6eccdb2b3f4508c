"""Bytes as the kernels read them: eight or more at once at any address, and operations on 64-bit words.

A word at `index` is the bytes index to index + 7, little-endian: whoever calls has to know that they are there.
With ``NUMBA_DISABLE_JIT=1`` the same names are plain Python, and a load beyond the end is an IndexError.
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
    """Compile a piece, as `compilation.jit` does, that handles arrays without counting references to them."""
    compiled: Function = njit(**compilation.UNCOUNTED_OPTIONS)(function)
    return compiled


def piece_apart(function: Function) -> Function:
    """Compile a piece that is called and not inlined."""
    compiled: Function = njit(**compilation.CALLED_OPTIONS)(function)
    return compiled


if config.DISABLE_JIT:

    def word_at(data: Bytes, index: int) -> Any:
        """The eight bytes from `index` on."""
        if index < 0 or index + 8 > len(data):
            raise IndexError(f"bytes {index} to {index + 7} of {len(data)}")
        return np.uint64(int.from_bytes(data[index : index + 8].tobytes(), "little"))

    def byte_at(data: Bytes, index: int) -> int:
        """The byte at `index`."""
        if index < 0 or index >= len(data):
            raise IndexError(f"byte {index} of {len(data)}")
        return int(data[index])

    def marks_at(data: Bytes, index: int) -> Any:
        """A bit for each of the 32 bytes from `index` on: whether it is no digit."""
        if index < 0 or index + 32 > len(data):
            raise IndexError(f"bytes {index} to {index + 31} of {len(data)}")
        return np.uint64(sum(1 << i for i in range(32) if not 48 <= data[index + i] <= 57))

    def trailing_zeros(word: Any) -> int:
        """Zero bits below the lowest set one; 64 without any."""
        return (int(word) & -int(word)).bit_length() - 1 if word else 64

    def leading_zeros(word: Any) -> int:
        """Zero bits above the highest set one; 64 without any."""
        return 64 - int(word).bit_length()

    def product(a: Any, b: Any) -> tuple[Any, Any]:
        """High and low half of the 128-bit product."""
        wide = int(a) * int(b)
        return np.uint64(wide >> 64), np.uint64(wide & 0xFFFFFFFFFFFFFFFF)

else:

    def _word_pointer(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        index = context.cast(builder, arguments[1], signature.args[1], types.intp)
        return builder.gep(array.data, [index])

    @intrinsic
    def word_at(typing_context: Any, data: Any, index: Any) -> Any:  # noqa: ARG001 (numba's protocol)
        """The eight bytes from `index` on, not checked."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = _word_pointer(context, builder, signature, arguments)
            load = builder.load(builder.bitcast(pointer, ir.IntType(64).as_pointer()))
            load.align = 1
            return load

        return types.uint64(data, index), generate

    @intrinsic
    def byte_at(typing_context: Any, data: Any, index: Any) -> Any:  # noqa: ARG001
        """The byte at `index`, not checked."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = _word_pointer(context, builder, signature, arguments)
            return builder.zext(builder.load(pointer), ir.IntType(64))

        return types.int64(data, index), generate

    @intrinsic
    def marks_at(typing_context: Any, data: Any, index: Any) -> Any:  # noqa: ARG001
        """A bit for each of the 32 bytes from `index` on, not checked: whether it is no digit.

        In vector registers: a few instructions, whatever the number's length.
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
        """Zero bits below the lowest set one; 64 without any."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
            return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

        return types.int64(types.uint64), generate

    @intrinsic
    def leading_zeros(typing_context: Any, word: Any) -> Any:  # noqa: ARG001
        """Zero bits above the highest set one; 64 without any."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
            return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

        return types.int64(types.uint64), generate

    @intrinsic
    def product(typing_context: Any, a: Any, b: Any) -> Any:  # noqa: ARG001
        """High and low half of the 128-bit product: one instruction."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            word, wide = ir.IntType(64), ir.IntType(128)
            whole = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
            high = builder.trunc(builder.lshr(whole, ir.Constant(wide, 64)), word)
            return context.make_tuple(builder, signature.return_type, (high, builder.trunc(whole, word)))

        return types.UniTuple(types.uint64, 2)(types.uint64, types.uint64), generate
