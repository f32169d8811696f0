"""Deformation on CPU: layer norm, hidden layer and offsets in one pass, differentiable.

It has more than 300 lines, so that the kernels stand beside their autograd function.

After one attention layer the feature of a Gaussian is z = x + P v, where x does not depend on the
frame, v holds the m rows that a frame's tokens contribute and P the Gaussian's m attention weights.
Everything linear in z therefore splits into a part per Gaussian, computed once for all frames, and
m numbers per Gaussian and frame. With x and v centred over their d channels,

    r = 1 / sqrt(mean(x^2) + 2 P s + P g P + eps),   s = v x / d,   g = v v / d,
    hidden = relu(r (W x + P (W v)) + c),            offsets = U hidden + e.

Gaussians run along the vectors of the CPU, in blocks. A block writes its own part of every weight's
gradient and the parts are added in order: the same bits for any number of threads.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gaussiantalker_ns.kernels.compile import jit, next_job, pooled_kernel
from gaussiantalker_ns.kernels.dense_rows import (
    BLOCK,
    ZERO,
    add_products,
    add_weighted,
    fetch,
    fill,
)
from gaussiantalker_ns.kernels.simd import (
    LANES,
    fma,
    load,
    maximum,
    root,
    select,
    splat,
    store,
    total,
)

UNITS = 16
"""Hidden units handled at a time."""

EPS = np.float32(1e-5)
"""Term under the root of the layer norm, torch's default."""

TWO, NEGATIVE_HALF = np.float32(2), np.float32(-0.5)

# First rows of the working buffers; the attention weights P follow.
_HIDDEN, _SLOPE, _SCALE, _SCALE_SLOPE, _WEIGHTS = 0, UNITS, 2 * UNITS, 2 * UNITS + 1, 2 * UNITS + 2


@jit
def begin(work, start, count, weights, overlaps, frame, gram, squares, m, padded):
    """Fill the rows P, s + g P and r of one block in one frame."""
    num_points = squares.size
    mixed = _WEIGHTS + padded
    first = frame * m * num_points + start
    if count < BLOCK:
        # Places behind the last Gaussian take part in vectors: they must hold harmless numbers.
        fill(work, _HIDDEN, UNITS, ZERO)
        fill(work, _SCALE, 1, np.float32(1))
        fill(work, _WEIGHTS, padded + m, ZERO)
    fetch(squares, start, 0, work, _SCALE, 1, count)
    fetch(weights, first, num_points, work, _WEIGHTS, m, count)
    fetch(overlaps, first, num_points, work, mixed, m, count)
    for q in range(0, BLOCK, LANES):
        variance = load(work, _SCALE * BLOCK + q)
        for j in range(m):
            overlap = load(work, (mixed + j) * BLOCK + q)
            fraction = load(work, (_WEIGHTS + j) * BLOCK + q)
            value = overlap
            for other in range(m):
                value = fma(gram[j, other], load(work, (_WEIGHTS + other) * BLOCK + q), value)
            store(work, (mixed + j) * BLOCK + q, value)
            variance = fma(fraction, overlap + value, variance)
        store(work, _SCALE * BLOCK + q, np.float32(1) / root(variance + EPS))


@jit
def hidden_units(work, start, c, hidden_x, num_points, shift, hidden_v, frame, padded, count):
    """Hidden units c, c + 1, ... of all Gaussians of the block."""
    width = shift.size
    num = min(UNITS, width - c)
    fetch(hidden_x, c * num_points + start, num_points, work, _HIDDEN, num, count)
    for i in range(0, num, 4):
        at = frame * padded * width + c + i
        add_weighted(work, _HIDDEN + i, _WEIGHTS, padded, hidden_v, at, width, 1)
    for i in range(num):
        moved = shift[c + i]
        for q in range(0, BLOCK, LANES):
            at = (_HIDDEN + i) * BLOCK + q
            value = fma(load(work, at), load(work, _SCALE * BLOCK + q), splat(moved))
            store(work, at, maximum(value, splat(ZERO)))
    return num


@pooled_kernel
def forward_kernel(
    queue, weights, overlaps, gram, squares, hidden_x, hidden_v, shift, weight, bias, out
):
    """Offsets of all Gaussians in all frames; all inputs but g and e are flat.

    Args:
        queue: Numbers of blocks, frame after frame.
        weights: P [b, m, n].
        overlaps: s [b, m, n].
        gram: g [b, m, m], symmetric.
        squares: mean(x^2) [n].
        hidden_x: W x [width, n].
        hidden_v: W v [b, m rounded up to fours with zeros, width].
        shift: c [width], a multiple of four.
        weight: U [outputs rounded up to fours with zeros, width].
        bias: e [outputs].
        out: Output [b, n, outputs].
    """
    num_frames, num_points, num_out = out.shape
    m, width = gram.shape[1], shift.size
    padded, padded_out = hidden_v.size // (num_frames * width), weight.size // width
    num_blocks = (num_points + BLOCK - 1) // BLOCK
    outputs = _WEIGHTS + padded + m
    work = np.zeros((outputs + padded_out) * BLOCK, np.float32)
    while True:
        job = next_job(queue)
        if job >= num_frames * num_blocks:
            break
        frame = job // num_blocks
        start = (job % num_blocks) * BLOCK
        count = min(BLOCK, num_points - start)
        begin(work, start, count, weights, overlaps, frame, gram[frame], squares, m, padded)
        for o in range(num_out):
            fill(work, outputs + o, 1, bias[o])
        for c in range(0, width, UNITS):
            num = hidden_units(
                work, start, c, hidden_x, num_points, shift, hidden_v, frame, padded, count
            )
            for o in range(0, padded_out, 4):
                add_weighted(work, outputs + o, _HIDDEN, num, weight, o * width + c, 1, width)
        for q in range(count):
            for o in range(num_out):
                out[frame, start + q, o] = work[(outputs + o) * BLOCK + q]


@jit
def hidden_slopes(
    work, start, c, num, num_points, shift, weight, v_hidden_x, v_shift, outputs, count
):
    """Slopes of hidden units, divided by the factor r in their argument."""
    width = shift.size
    fill(work, _SLOPE, num, ZERO)
    for i in range(0, num, 4):
        add_weighted(work, _SLOPE + i, outputs, weight.size // width, weight, c + i, width, 1)
    for i in range(num):
        moved = shift[c + i]
        summed = splat(ZERO)
        for q in range(0, BLOCK, LANES):
            at = (_SLOPE + i) * BLOCK + q
            hidden = load(work, (_HIDDEN + i) * BLOCK + q)
            value = select(hidden > splat(ZERO), load(work, at), splat(ZERO))
            summed = summed + value
            to = _SCALE_SLOPE * BLOCK + q
            store(work, to, fma(value, hidden - moved, load(work, to)))
            store(work, at, value * load(work, _SCALE * BLOCK + q))
        v_shift[c + i] += total(summed)
        o = np.uint64((c + i) * num_points + start)
        t = np.uint64((_SLOPE + i) * BLOCK)
        for q in range(np.uint64(count)):
            v_hidden_x[o + q] += work[t + q]


@jit
def finish(
    work, start, count, frame, m, padded, num_points, v_weights, v_overlaps, v_squares, v_gram
):
    """Carry the slope of r on to P, s, g and mean(x^2), and write what a block gives in a frame."""
    v_rows = _WEIGHTS + padded + m
    for q in range(0, BLOCK, LANES):
        r = load(work, _SCALE * BLOCK + q)
        # The row holds the slope of r times r, because hidden - c is r times its argument.
        v_variance = load(work, _SCALE_SLOPE * BLOCK + q) * r * r * NEGATIVE_HALF
        store(work, _SCALE_SLOPE * BLOCK + q, v_variance)
        for j in range(m):
            at = (v_rows + j) * BLOCK + q
            mixed = load(work, (_WEIGHTS + padded + j) * BLOCK + q)
            fraction = load(work, (_WEIGHTS + j) * BLOCK + q)
            store(work, (_WEIGHTS + padded + j) * BLOCK + q, v_variance * fraction)
            store(work, at, fma(v_variance * mixed, splat(TWO), load(work, at)))
    for q in range(count):
        v_squares[start + q] += work[_SCALE_SLOPE * BLOCK + q]
    for j in range(m):
        to = (frame * m + j) * num_points + start
        for q in range(count):
            v_weights[to + q] = work[(v_rows + j) * BLOCK + q]
        for q in range(count):
            v_overlaps[to + q] = TWO * work[(_WEIGHTS + padded + j) * BLOCK + q]
    add_products(work, _WEIGHTS + padded, m, _WEIGHTS, padded, v_gram, 0, 1, padded)


@pooled_kernel
def backward_kernel(
    queue, weights, overlaps, gram, squares, hidden_x, hidden_v, shift, weight, v_out,
    v_weights, v_overlaps, v_gram, v_squares, v_hidden_x, v_hidden_v, v_shift, v_weight,
):  # fmt: skip
    """Gradients of everything but e; the hidden layer is made again instead of being kept.

    Args are those of the forward pass, with a queue of blocks. Gradients start at zero and are flat
    like the inputs, but those of weights, and of what belongs to a frame, are [blocks, flat] and to
    be summed; that of g has its sides rounded up like W v.
    """
    num_frames, num_points, num_out = v_out.shape
    m, width = gram.shape[1], shift.size
    padded, padded_out = hidden_v.size // (num_frames * width), weight.size // width
    v_rows = _WEIGHTS + padded + m
    outputs = v_rows + padded
    work = np.zeros((outputs + padded_out) * BLOCK, np.float32)
    while True:
        block = next_job(queue)
        start = block * BLOCK
        if start >= num_points:
            break
        count = min(BLOCK, num_points - start)
        for frame in range(num_frames):
            begin(work, start, count, weights, overlaps, frame, gram[frame], squares, m, padded)
            fill(work, outputs, padded_out, ZERO)
            for q in range(count):
                for o in range(num_out):
                    work[(outputs + o) * BLOCK + q] = v_out[frame, start + q, o]
            fill(work, _SCALE_SLOPE, 1, ZERO)
            fill(work, v_rows, padded, ZERO)
            for c in range(0, width, UNITS):
                num = hidden_units(
                    work, start, c, hidden_x, num_points, shift, hidden_v, frame, padded, count
                )
                hidden_slopes(
                    work, start, c, num, num_points, shift, weight, v_hidden_x, v_shift[block],
                    outputs, count,
                )  # fmt: skip
                add_products(work, outputs, padded_out, _HIDDEN, num, v_weight[block], c, 1, width)
                at = frame * padded * width + c
                add_products(work, _WEIGHTS, padded, _SLOPE, num, v_hidden_v[block], at, 1, width)
                for j in range(0, padded, 4):
                    add_weighted(work, v_rows + j, _SLOPE, num, hidden_v, at + j * width, 1, width)
            finish(
                work, start, count, frame, m, padded, num_points, v_weights, v_overlaps, v_squares,
                v_gram[block, frame],
            )  # fmt: skip


def rounded_up(values: Tensor, dim: int) -> Tensor:
    """Append zeros so that the size along `dim` is a multiple of four."""
    missing = -values.shape[dim] % 4
    padding = [0, 0] * (values.ndim - dim - 1) + [0, missing]
    return F.pad(values, padding) if missing else values


class FusedDeformation(torch.autograd.Function):
    """Offsets from attention weights; symbols and shapes as in `kernels.deformation`."""

    @staticmethod
    def forward(
        ctx: Any,
        weights: Tensor,
        overlaps: Tensor,
        gram: Tensor,
        squares: Tensor,
        hidden_x: Tensor,
        hidden_v: Tensor,
        shift: Tensor,
        weight: Tensor,
        bias: Tensor,
    ) -> Tensor:
        """Compute the offsets [b, n, outputs]."""
        b, _, n = weights.shape
        inputs = (
            weights.contiguous(),
            overlaps.contiguous(),
            gram.contiguous(),
            squares.contiguous(),
            hidden_x.contiguous(),
            rounded_up(hidden_v, 1).contiguous(),
            shift.contiguous(),
            rounded_up(weight, 0).contiguous(),
        )
        out = torch.empty(b, n, len(weight))
        forward_kernel(*as_arrays(inputs), bias.detach().numpy(), out.numpy())
        ctx.save_for_backward(*inputs)
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, ...]:
        """Make the hidden layer again, block by block, and spread the gradient."""
        weights, overlaps, gram, squares, hidden_x, hidden_v, shift, weight = inputs = (
            ctx.saved_tensors
        )
        v_out = grad_outputs[0].contiguous()
        b, n, num_out = v_out.shape
        m, padded, width = gram.shape[1], hidden_v.shape[1], hidden_v.shape[2]
        num_blocks = (n + BLOCK - 1) // BLOCK
        v_weights, v_overlaps = torch.empty_like(weights), torch.empty_like(overlaps)
        v_squares, v_hidden_x = torch.zeros_like(squares), torch.zeros_like(hidden_x)
        v_gram = torch.zeros(num_blocks, b, padded * padded)
        v_hidden_v = torch.zeros(num_blocks, b * padded * width)
        v_shift = torch.zeros(num_blocks, width)
        v_weight = torch.zeros(num_blocks, weight.numel())
        backward_kernel(
            *as_arrays(inputs),
            v_out.numpy(),
            v_weights.view(-1).numpy(),
            v_overlaps.view(-1).numpy(),
            v_gram.numpy(),
            v_squares.numpy(),
            v_hidden_x.view(-1).numpy(),
            v_hidden_v.numpy(),
            v_shift.numpy(),
            v_weight.numpy(),
        )
        return (
            v_weights,
            v_overlaps,
            v_gram.sum(dim=0).view(b, padded, padded)[:, :m, :m],
            v_squares,
            v_hidden_x,
            v_hidden_v.sum(dim=0).view(b, padded, width)[:, :m],
            v_shift.sum(dim=0),
            v_weight.sum(dim=0).view(-1, width)[:num_out],
            v_out.sum(dim=(0, 1)),
        )


def as_arrays(inputs: tuple[Tensor, ...]) -> tuple[np.ndarray, ...]:
    """What the kernels take: everything flat but g."""
    gram = inputs[2]
    return tuple((t if t is gram else t.view(-1)).detach().numpy() for t in inputs)
