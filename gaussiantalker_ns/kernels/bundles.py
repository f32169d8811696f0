"""Bundles: tuples of `kernels.simd` vectors, one per colour channel, unrolled by the compiler.

The tuple `channels` (its values do not matter) tells the compiler how many there are.
"""

from typing import Any

from llvmlite import ir
from numba.core import types

from gaussiantalker_ns.kernels.compile import emitted
from gaussiantalker_ns.kernels.simd import (
    LANES,
    address,
    float32x8,
    fused,
    load_vector,
    splat_scalar,
    sum_lanes,
    vector_type,
)


def _bundle(channels: Any) -> types.UniTuple:
    return types.UniTuple(float32x8, len(channels))


def _pack(context: Any, builder: Any, kind: Any, vectors: list[Any]) -> Any:
    return context.make_tuple(builder, kind, vectors)


def _offset(builder: Any, index: Any, steps: int) -> Any:
    return builder.add(index, ir.Constant(index.type, steps))


def _unpack(builder: Any, bundle: Any, count: int) -> list[Any]:
    return [builder.extract_value(bundle, c) for c in range(count)]


@emitted
def zero_bundle(typingctx: Any, channels: Any) -> Any:
    """Return zero vectors."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zero = ir.Constant(vector_type, [0.0] * LANES)
        return _pack(context, builder, sig.return_type, [zero] * len(channels))

    return _bundle(channels)(channels), emit


@emitted
def load_bundle(typingctx: Any, array: Any, index: Any, channels: Any) -> Any:
    """Return vectors that stand one after the other in a flat array."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vectors = []
        for c in range(len(channels)):
            at = _offset(builder, args[1], c * LANES)
            pointer = address(context, builder, args[0], sig.args[0], at, vector_type)
            vectors.append(load_vector(builder, pointer))
        return _pack(context, builder, sig.return_type, vectors)

    return _bundle(channels)(array, index, channels), emit


@emitted
def splat_bundle(typingctx: Any, array: Any, index: Any, channels: Any) -> Any:
    """Return vectors whose lanes all hold array[index], array[index + 1], and so on."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vectors = []
        for c in range(len(channels)):
            at = _offset(builder, args[1], c)
            pointer = address(context, builder, args[0], sig.args[0], at, ir.FloatType())
            vectors.append(splat_scalar(builder, builder.load(pointer)))
        return _pack(context, builder, sig.return_type, vectors)

    return _bundle(channels)(array, index, channels), emit


@emitted
def store_bundle(typingctx: Any, array: Any, index: Any, bundle: Any) -> Any:
    """Write the vectors one after the other into a flat array."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for c, vector in enumerate(_unpack(builder, args[2], len(bundle))):
            at = _offset(builder, args[1], c * LANES)
            pointer = address(context, builder, args[0], sig.args[0], at, vector_type)
            builder.store(vector, pointer).align = 4
        return context.get_dummy_value()

    return types.void(array, index, bundle), emit


@emitted
def store_totals(typingctx: Any, array: Any, index: Any, bundle: Any) -> Any:
    """Write the sums over the lanes into array[index], array[index + 1], and so on."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for c, vector in enumerate(_unpack(builder, args[2], len(bundle))):
            at = _offset(builder, args[1], c)
            pointer = address(context, builder, args[0], sig.args[0], at, ir.FloatType())
            builder.store(sum_lanes(builder, vector), pointer)
        return context.get_dummy_value()

    return types.void(array, index, bundle), emit


@emitted
def add_scaled(typingctx: Any, bundle: Any, weight: Any, other: Any) -> Any:
    """Return bundle + weight * other, the weight being one vector for all channels."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        count = len(bundle)
        pairs = zip(_unpack(builder, args[0], count), _unpack(builder, args[2], count))
        vectors = [fused(builder, args[1], b, a) for a, b in pairs]
        return _pack(context, builder, sig.return_type, vectors)

    return bundle(bundle, weight, other), emit


@emitted
def dot(typingctx: Any, bundle: Any, other: Any) -> Any:
    """Return the sum over the channels of the products."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first, *rest = zip(*(_unpack(builder, value, len(bundle)) for value in args))
        result = builder.fmul(*first)
        for a, b in rest:
            result = fused(builder, a, b, result)
        return result

    return float32x8(bundle, other), emit
