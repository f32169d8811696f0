"""Compiled end of the deformation on CPU: layer norm, hidden layer and offsets in one pass.

After one attention layer the feature of a Gaussian is z = x + P v, where x does not depend on the
frame, v holds the m rows that a frame's tokens contribute and P the Gaussian's m attention weights.
Everything linear in z therefore splits into a part per Gaussian, computed once for all frames, and
m numbers per Gaussian and frame. With x and v centred over their d channels,

    r = 1 / sqrt(mean(x^2) + 2 P s + P g P + eps),   s = v x / d,   g = v v / d,
    hidden = relu(r (W x + P (W v)) + c),            offsets = U hidden + e.

Gaussians run along the vectors of the CPU, in blocks. A block writes its own part of every weight's
gradient and the parts are added in order: the same bits for any number of threads.
"""

import numpy as np
from numba import prange

from gaussiantalker_ns.numba_runtime import fast_jit, parallel_kernel

BLOCK = 128
"""Gaussians handled at a time; also the distance of rows in the working buffers."""

EPS = np.float32(1e-5)
"""Term under the root of the layer norm, torch's default."""

# First rows of the working buffers; the attention weights P follow.
_HIDDEN, _SLOPE, _SCALE, _SCALE_SLOPE, _SHARES = 0, 4, 8, 9, 10


@fast_jit
def add_weighted(work, to, first, weights, at, inner, outer, count):
    """Add weighted sums of four neighbouring rows to two neighbouring rows.

    Row to + k gets weights[at + k * outer + i * inner] times row first + i. Two by four is what
    fits into sixteen vector registers.
    """
    u0, u1 = weights[at], weights[at + inner]
    u2, u3 = weights[at + 2 * inner], weights[at + 3 * inner]
    at += outer
    v0, v1 = weights[at], weights[at + inner]
    v2, v3 = weights[at + 2 * inner], weights[at + 3 * inner]
    t = np.uint64(to * BLOCK)
    f = np.uint64(first * BLOCK)
    n = np.uint64(BLOCK)
    for q in range(np.uint64(count)):
        a, b = work[f + q], work[f + n + q]
        c, d = work[f + 2 * n + q], work[f + 3 * n + q]
        work[t + q] += u0 * a + u1 * b + u2 * c + u3 * d
        work[t + n + q] += v0 * a + v1 * b + v2 * c + v3 * d


@fast_jit
def add_products(work, row, first, out, at, inner, outer, count):
    """Add the inner products of two neighbouring rows with four others to an array.

    That of rows row + k and first + i goes to out[at + k * outer + i * inner].
    """
    r = np.uint64(row * BLOCK)
    f = np.uint64(first * BLOCK)
    n = np.uint64(BLOCK)
    s0 = s1 = s2 = s3 = z0 = z1 = z2 = z3 = np.float32(0)
    for q in range(np.uint64(count)):
        x, y = work[r + q], work[r + n + q]
        a, b = work[f + q], work[f + n + q]
        c, d = work[f + 2 * n + q], work[f + 3 * n + q]
        s0 += x * a
        s1 += x * b
        s2 += x * c
        s3 += x * d
        z0 += y * a
        z1 += y * b
        z2 += y * c
        z3 += y * d
    out[at] += s0
    out[at + inner] += s1
    out[at + 2 * inner] += s2
    out[at + 3 * inner] += s3
    at += outer
    out[at] += z0
    out[at + inner] += z1
    out[at + 2 * inner] += z2
    out[at + 3 * inner] += z3


@fast_jit
def load(source, first, step, work, row, num_rows, count):
    """Copy rows of a flat array, `step` apart, into the working buffer."""
    for j in range(num_rows):
        o = np.uint64(first + j * step)
        t = np.uint64((row + j) * BLOCK)
        for q in range(np.uint64(count)):
            work[t + q] = source[o + q]


@fast_jit
def fill(work, row, value, count):
    """Set a row to one value."""
    t = np.uint64(row * BLOCK)
    for q in range(np.uint64(count)):
        work[t + q] = value


@fast_jit
def mix(work, overlaps, first, step, gram, m, mixed, count):
    """Set rows `mixed` to s + g P and turn the scale row from mean(x^2) into r."""
    n = np.uint64(count)
    scale = np.uint64(_SCALE * BLOCK)
    for j in range(m):
        load(overlaps, first + j * step, 0, work, mixed + j, 1, count)
        to = np.uint64((mixed + j) * BLOCK)
        share = np.uint64((_SHARES + j) * BLOCK)
        for q in range(n):
            work[scale + q] += work[share + q] * work[to + q]
        for other in range(m):
            weight = gram[j, other]
            row = np.uint64((_SHARES + other) * BLOCK)
            for q in range(n):
                work[to + q] += weight * work[row + q]
        for q in range(n):
            work[scale + q] += work[share + q] * work[to + q]
    for q in range(n):
        work[scale + q] = np.float32(1) / np.sqrt(work[scale + q] + EPS)


@fast_jit
def begin(work, start, count, shares, overlaps, frame, gram, squares, m, padded):
    """Fill the rows P, s + g P and r of one block in one frame."""
    num_points = squares.size
    first = frame * m * num_points + start
    load(squares, start, 0, work, _SCALE, 1, count)
    load(shares, first, num_points, work, _SHARES, m, count)
    for j in range(m, padded):
        fill(work, _SHARES + j, np.float32(0), count)
    mix(work, overlaps, first, num_points, gram, m, _SHARES + padded, count)


@fast_jit
def hidden_units(work, start, c, hidden_x, num_points, shift, hidden_v, frame, padded, count):
    """Four hidden units, from c on, of all Gaussians of the block."""
    width = shift.size
    load(hidden_x, c * num_points + start, num_points, work, _HIDDEN, 4, count)
    for j in range(0, padded, 4):
        at = (frame * padded + j) * width + c
        add_weighted(work, _HIDDEN, _SHARES + j, hidden_v, at, width, 1, count)
        add_weighted(work, _HIDDEN + 2, _SHARES + j, hidden_v, at + 2, width, 1, count)
    scale = np.uint64(_SCALE * BLOCK)
    for i in range(4):
        t = np.uint64((_HIDDEN + i) * BLOCK)
        moved = shift[c + i]
        for q in range(np.uint64(count)):
            work[t + q] = max(work[t + q] * work[scale + q] + moved, np.float32(0))


@parallel_kernel
def forward_kernel(shares, overlaps, gram, squares, hidden_x, hidden_v, shift, weight, bias, out):
    """Offsets of all Gaussians in all frames; all inputs but g and e are flat.

    Args:
        shares: P [b, m, n].
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
    for task in prange(num_frames * num_blocks):
        frame = task // num_blocks
        start = (task % num_blocks) * BLOCK
        count = min(BLOCK, num_points - start)
        outputs = _SHARES + padded + m
        work = np.empty((outputs + padded_out) * BLOCK, np.float32)
        begin(work, start, count, shares, overlaps, frame, gram[frame], squares, m, padded)
        for o in range(padded_out):
            fill(work, outputs + o, bias[min(o, num_out - 1)], count)
        for c in range(0, width, 4):
            hidden_units(
                work, start, c, hidden_x, num_points, shift, hidden_v, frame, padded, count
            )
            for o in range(0, padded_out, 2):
                at = o * width + c
                add_weighted(work, outputs + o, _HIDDEN, weight, at, 1, width, count)
        for q in range(count):
            for o in range(num_out):
                out[frame, start + q, o] = work[(outputs + o) * BLOCK + q]


@fast_jit
def hidden_slopes(work, start, c, num_points, shift, weight, v_hidden_x, v_shift, outputs, count):
    """Slopes of four hidden units, divided by the factor r in their argument."""
    width = shift.size
    for i in range(4):
        fill(work, _SLOPE + i, np.float32(0), count)
    for o in range(0, weight.size // width, 4):
        for i in range(0, 4, 2):
            at = o * width + c + i
            add_weighted(work, _SLOPE + i, outputs + o, weight, at, width, 1, count)
    scale = np.uint64(_SCALE * BLOCK)
    scale_slope = np.uint64(_SCALE_SLOPE * BLOCK)
    for i in range(4):
        hidden = np.uint64((_HIDDEN + i) * BLOCK)
        slope = np.uint64((_SLOPE + i) * BLOCK)
        at = np.uint64((c + i) * num_points + start)
        moved = shift[c + i]
        total = np.float32(0)
        for q in range(np.uint64(count)):
            value = work[slope + q] if work[hidden + q] > np.float32(0) else np.float32(0)
            total += value
            work[scale_slope + q] += value * (work[hidden + q] - moved)
            work[slope + q] = value * work[scale + q]
        for q in range(np.uint64(count)):
            v_hidden_x[at + q] += work[slope + q]
        v_shift[c + i] += total


@fast_jit
def finish(
    work, start, count, frame, m, padded, num_points, v_shares, v_overlaps, v_squares, v_gram
):
    """Carry the slope of r on to P, s, g and mean(x^2), and write what a block gives in a frame."""
    n = np.uint64(count)
    scale = np.uint64(_SCALE * BLOCK)
    v_variance = np.uint64(_SCALE_SLOPE * BLOCK)
    for q in range(n):
        r = work[scale + q]
        # The row holds the slope of r times r, because hidden - c is r times its argument.
        work[v_variance + q] *= np.float32(-0.5) * r * r
    at = np.uint64(start)
    for q in range(n):
        v_squares[at + q] += work[v_variance + q]
    v_rows = _SHARES + padded + m
    for j in range(m):
        share = np.uint64((_SHARES + j) * BLOCK)
        mixed = np.uint64((_SHARES + padded + j) * BLOCK)
        v_share = np.uint64((v_rows + j) * BLOCK)
        to = np.uint64((frame * m + j) * num_points + start)
        for q in range(n):
            v_shares[to + q] = (
                work[v_share + q] + np.float32(2) * work[v_variance + q] * work[mixed + q]
            )
        for q in range(n):
            work[v_share + q] = work[v_variance + q] * work[share + q]
        for q in range(n):
            v_overlaps[to + q] = np.float32(2) * work[v_share + q]
    for j in range(0, padded, 2):
        for first in range(0, padded, 4):
            at_gram = j * padded + first
            add_products(work, v_rows + j, _SHARES + first, v_gram, at_gram, 1, padded, count)


@parallel_kernel
def backward_kernel(
    shares, overlaps, gram, squares, hidden_x, hidden_v, shift, weight, v_out,
    v_shares, v_overlaps, v_gram, v_squares, v_hidden_x, v_hidden_v, v_shift, v_weight,
):  # fmt: skip
    """Gradients of everything but e; the hidden layer is made again instead of being kept.

    Args are those of the forward pass. Gradients start at zero and are flat like the inputs, but
    those of weights, and of what belongs to a frame, are [blocks, flat] and to be summed; that of g
    has its sides rounded up like W v.
    """
    num_frames, num_points, num_out = v_out.shape
    m, width = gram.shape[1], shift.size
    padded = hidden_v.size // (num_frames * width)
    padded_out = weight.size // width
    v_rows = _SHARES + padded + m
    outputs = v_rows + padded
    for block in prange((num_points + BLOCK - 1) // BLOCK):
        start = block * BLOCK
        count = min(BLOCK, num_points - start)
        work = np.zeros((outputs + padded_out) * BLOCK, np.float32)
        for frame in range(num_frames):
            begin(work, start, count, shares, overlaps, frame, gram[frame], squares, m, padded)
            for q in range(count):
                for o in range(num_out):
                    work[(outputs + o) * BLOCK + q] = v_out[frame, start + q, o]
            fill(work, _SCALE_SLOPE, np.float32(0), count)
            for j in range(padded):
                fill(work, v_rows + j, np.float32(0), count)
            for c in range(0, width, 4):
                hidden_units(
                    work, start, c, hidden_x, num_points, shift, hidden_v, frame, padded, count
                )
                hidden_slopes(
                    work, start, c, num_points, shift, weight, v_hidden_x, v_shift[block],
                    outputs, count,
                )  # fmt: skip
                for o in range(0, padded_out, 2):
                    at = o * width + c
                    add_products(work, outputs + o, _HIDDEN, v_weight[block], at, 1, width, count)
                for j in range(0, padded, 2):
                    at = (frame * padded + j) * width + c
                    add_products(work, _SHARES + j, _SLOPE, v_hidden_v[block], at, 1, width, count)
                    add_weighted(work, v_rows + j, _SLOPE, hidden_v, at, 1, width, count)
            finish(
                work, start, count, frame, m, padded, num_points, v_shares, v_overlaps, v_squares,
                v_gram[block, frame],
            )  # fmt: skip
