"""One block of a matrix product on the vector registers of the processor.

Numba's loop vectoriser settles for half of the widest registers, and without blocking in registers a
product of small matrices waits for memory. The block here is written in LLVM's own vectors, which every
processor executes with the widest registers that it has.
"""

# ruff: noqa: ARG001 - numba reads the arity of an intrinsic from its signature

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

TILE_ROWS = 4
TILE_COLUMNS = 16  # lines of work arrays are padded to a multiple of it
VECTOR_BYTES = 64


def _block_product(rows: int, add: bool) -> Any:
    """Make ``c += a @ b``, or without ``add`` ``c = a @ b``, for a block of ``rows`` rows.

    The block has ``TILE_COLUMNS`` columns, and each of its entries is a sum of ``depth`` terms.

    ``c``, ``a`` and ``b`` are C-contiguous arrays of float64; ``start`` is the flat index of the block's
    first entry, ``stride`` the distance between its rows and ``a_step`` the one between the columns of
    ``a``. Nothing is checked.
    """

    @intrinsic
    def product(  # type: ignore[no-untyped-def]
        typingctx, c, c_start, c_stride, a, a_start, a_stride, a_step, b, b_start, b_stride, depth
    ):
        index = types.intp

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _emit(rows, add, context, builder, signature, args)

        return types.void(c, index, index, a, index, index, index, b, index, index, index), emit

    return product


def _emit(rows: int, add: bool, context: Any, builder: Any, signature: Any, args: Any) -> Any:
    lanes, align = VECTOR_BYTES // 8, 8
    vector = ir.VectorType(ir.DoubleType(), lanes)
    integer = ir.IntType(64)
    undefined = ir.Constant(vector, ir.Undefined)
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)

    def base(position: int) -> Any:
        return cgutils.create_struct_proxy(signature.args[position])(context, builder, args[position]).data

    def at(start: Any, stride: Any, row: Any, column: int = 0) -> Any:
        return builder.add(builder.add(start, builder.mul(stride, row)), integer(column))

    def vector_at(pointer: Any, index: Any) -> Any:
        return builder.bitcast(builder.gep(pointer, [index]), vector.as_pointer())

    def broadcast(scalar: Any) -> Any:
        first = builder.insert_element(undefined, scalar, ir.IntType(32)(0))
        return builder.shuffle_vector(first, undefined, zeros)

    c, a, b = base(0), base(3), base(7)
    _, c_start, c_stride, _, a_start, a_stride, a_step, _, b_start, b_stride, depth = args
    vectors = range(TILE_COLUMNS // lanes)
    block = [(r, v) for r in range(rows) for v in vectors]
    target = {(r, v): vector_at(c, at(c_start, c_stride, integer(r), v * lanes)) for r, v in block}
    total = {entry: cgutils.alloca_once(builder, vector) for entry in block}
    for entry in block:
        start = builder.load(target[entry], align=align) if add else ir.Constant(vector, None)
        builder.store(start, total[entry])
    with cgutils.for_range(builder, depth, intp=integer) as loop:
        right = [
            builder.load(vector_at(b, at(b_start, b_stride, loop.index, v * lanes)), align=align)
            for v in vectors
        ]
        column = at(a_start, a_step, loop.index)
        left = [
            broadcast(builder.load(builder.gep(a, [at(column, a_stride, integer(r))]))) for r in range(rows)
        ]
        for r, v in block:
            product = builder.fmul(left[r], right[v], flags=("contract",))
            builder.store(builder.fadd(product, builder.load(total[r, v]), flags=("contract",)), total[r, v])
    for entry in block:
        builder.store(builder.load(total[entry]), target[entry], align=align)
    return context.get_dummy_value()


multiply_add = _block_product(TILE_ROWS, add=True)
multiply = _block_product(TILE_ROWS, add=False)
multiply_row = _block_product(1, add=False)
