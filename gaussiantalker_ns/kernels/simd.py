"""Vectors of eight float32 as a Numba type, so that kernels state their vector code themselves.

Leaving vectorisation to the compiler is fragile: one more array in a loop, or another LLVM, and the
loop runs eight times slower. Here `a * b + c` on two vectors *is* two vector instructions on every
CPU (wider or narrower registers are LLVM's business). The operators take vectors and float32
scalars; `fma` is one fused instruction where the CPU has it.

A *bundle* is a tuple of vectors, one per colour channel. Its length comes from the type of the
tuple `channels` handed to a kernel, so that one source serves any number of channels, unrolled.
"""

import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import models, register_model

from gaussiantalker_ns.kernels.compile import emitted, inline_jit

LANES = 8
"""Floats in a vector."""

_FLOAT = ir.FloatType()
vector_type = ir.VectorType(_FLOAT, LANES)
_BITS = ir.VectorType(ir.IntType(1), LANES)
_INDEX = ir.IntType(32)


class Float32x8(types.Type):
    """Numba type of a vector of eight float32."""

    def __init__(self) -> None:
        super().__init__(name="float32x8")


class Mask8(types.Type):
    """Numba type of eight truth values, the result of comparing vectors."""

    def __init__(self) -> None:
        super().__init__(name="mask8")


float32x8 = Float32x8()
mask8 = Mask8()


@register_model(Float32x8)
class _Float32x8Model(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, vector_type)


@register_model(Mask8)
class _Mask8Model(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _BITS)


def splat_scalar(builder: Any, scalar: Any) -> Any:
    """Emit a vector with the scalar in all lanes."""
    first = builder.insert_element(ir.Constant(vector_type, ir.Undefined), scalar, _INDEX(0))
    lanes = ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(vector_type, ir.Undefined), lanes)


def _widen(context: Any, builder: Any, value: Any, kind: Any) -> Any:
    """A vector from a vector or a scalar."""
    if kind == float32x8:
        return value
    return splat_scalar(builder, context.cast(builder, value, kind, types.float32))


def _is_operand(kind: Any) -> bool:
    return kind == float32x8 or isinstance(kind, types.Float)


def _define(operation: Any, emit: Any, result: Any) -> None:
    """Give a Python operator a meaning for vectors."""

    @infer_global(operation)  # pyright: ignore[reportOptionalCall]
    class _Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            """Result type of the operator, if it concerns vectors."""
            if not kws and float32x8 in args and all(map(_is_operand, args)):
                return signature(result, *args)
            return None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        wide = [_widen(context, builder, value, kind) for value, kind in zip(args, sig.args)]
        return emit(builder, *wide)

    for kinds in ((Float32x8, Float32x8), (Float32x8, types.Float), (types.Float, Float32x8)):
        lower_builtin(operation, *kinds)(lower)


_define(operator.add, lambda builder, a, b: builder.fadd(a, b), float32x8)
_define(operator.sub, lambda builder, a, b: builder.fsub(a, b), float32x8)
_define(operator.mul, lambda builder, a, b: builder.fmul(a, b), float32x8)
_define(operator.truediv, lambda builder, a, b: builder.fdiv(a, b), float32x8)
for _symbol, _operation in (
    ("<=", operator.le),
    ("<", operator.lt),
    (">=", operator.ge),
    (">", operator.gt),
):
    _define(
        _operation,
        lambda builder, a, b, symbol=_symbol: builder.fcmp_ordered(symbol, a, b),
        mask8,
    )


def fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Emit a * b + c, fused where the CPU can."""
    kind = ir.FunctionType(vector_type, [vector_type] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
    return builder.call(function, [a, b, c])


def sum_lanes(builder: Any, vector: Any) -> Any:
    """Emit the sum over the lanes, halving: the order of additions is part of the result."""
    width = LANES
    while width > 1:
        width //= 2
        undefined = ir.Constant(vector.type, ir.Undefined)
        low, high = (
            builder.shuffle_vector(
                vector,
                undefined,
                ir.Constant(ir.VectorType(_INDEX, width), list(range(start, start + width))),
            )
            for start in (0, width)
        )
        vector = builder.fadd(low, high)
    return builder.extract_element(vector, _INDEX(0))


def address(context: Any, builder: Any, array: Any, kind: Any, index: Any, element: Any) -> Any:
    """Emit the address of array[index] as one of an LLVM type."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), element.as_pointer())


def load_vector(builder: Any, pointer: Any) -> Any:
    """Emit a load of a vector that need not be aligned to its size."""
    vector = builder.load(pointer)
    vector.align = 4
    return vector


@emitted
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:  # noqa: D417
    """Return a * b + c with one rounding; scalars count for all lanes."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return fused(builder, *(_widen(context, builder, v, k) for v, k in zip(args, sig.args)))

    return float32x8(a, b, c), emit


@emitted
def splat(typingctx: Any, scalar: Any) -> Any:
    """Return a vector with the scalar in all lanes."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _widen(context, builder, args[0], sig.args[0])

    return float32x8(scalar), emit


@emitted
def lane_numbers(typingctx: Any) -> Any:
    """Return the vector 0, 1, ..., 7."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(vector_type, [float(lane) for lane in range(LANES)])

    return float32x8(), emit


@emitted
def select(typingctx: Any, mask: Any, yes: Any, no: Any) -> Any:
    """Return per lane `yes` where the mask is true, else `no`."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        yes, no = (_widen(context, builder, v, k) for v, k in zip(args[1:], sig.args[1:]))
        return builder.select(args[0], yes, no)

    return float32x8(mask, yes, no), emit


@inline_jit
def minimum(a, b):
    """The smaller of two, per lane."""
    return select(a < b, a, b)


@inline_jit
def maximum(a, b):
    """The larger of two, per lane."""
    return select(a > b, a, b)


@emitted
def both(typingctx: Any, a: Any, b: Any) -> Any:
    """Return the lanes where both masks are true."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.and_(*args)

    return mask8(a, b), emit


@emitted
def negative(typingctx: Any, a: Any) -> Any:
    """Return the lanes with their sign turned."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fneg(args[0])

    return float32x8(a), emit


def _unary(name: str, doc: str) -> Any:
    """Make an intrinsic out of one of LLVM's functions of a vector."""

    def function(typingctx: Any, a: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind = ir.FunctionType(vector_type, [vector_type])
            full_name = f"llvm.{name}.v{LANES}f32"
            emitted = cgutils.get_or_insert_function(builder.module, kind, full_name)
            return builder.call(emitted, args)

        return float32x8(a), emit

    function.__doc__ = doc
    function.__name__ = name
    return emitted(function)


absolute = _unary("fabs", "Return the lanes without their sign.")
root = _unary("sqrt", "Return the square roots.")
round_up = _unary("ceil", "Return the lanes rounded up.")
round_down = _unary("floor", "Return the lanes rounded down.")


@emitted
def total(typingctx: Any, a: Any) -> Any:
    """Return the sum of the lanes."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return sum_lanes(builder, args[0])

    return types.float32(a), emit


@emitted
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """Return array[index : index + 8] of a flat float32 array."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = address(context, builder, args[0], sig.args[0], args[1], vector_type)
        return load_vector(builder, pointer)

    return float32x8(array, index), emit


@emitted
def store(typingctx: Any, array: Any, index: Any, vector: Any) -> Any:
    """Set array[index : index + 8]."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = address(context, builder, args[0], sig.args[0], args[1], vector_type)
        builder.store(args[2], pointer).align = 4
        return context.get_dummy_value()

    return types.void(array, index, vector), emit


@emitted
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Ask for array[index] before it is read or written."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = address(context, builder, args[0], sig.args[0], args[1], ir.IntType(8))
        kind = ir.FunctionType(ir.VoidType(), [pointer.type] + [_INDEX] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # Read access, keep in all cache levels, data cache.
        builder.call(function, [pointer, _INDEX(0), _INDEX(3), _INDEX(1)])
        return context.get_dummy_value()

    return types.void(array, index), emit
