"""Small dense products for kernels, on rows of a working buffer that fits into the cache.

A row holds one number for each of `BLOCK` Gaussians; rows are numbered and follow each other.
"""

import numpy as np

from gaussiantalker_ns.kernels.compile import inline_jit, jit
from gaussiantalker_ns.kernels.simd import LANES, fma, load, splat, store, total

BLOCK = 128
"""Gaussians handled at a time; also the distance of rows in the working buffers."""

ZERO = np.float32(0)


@jit
def add_weighted(work, to, first, num, weights, at, inner, outer):
    """Add weighted sums of `num` neighbouring rows to four neighbouring rows.

    Row to + k gets weights[at + k * outer + i * inner] times row first + i. Four rows of two
    vectors are summed at a time: what fits into sixteen vector registers.
    """
    for q in range(0, BLOCK, 2 * LANES):
        t = to * BLOCK + q
        a0, a1 = load(work, t), load(work, t + LANES)
        b0, b1 = load(work, t + BLOCK), load(work, t + BLOCK + LANES)
        c0, c1 = load(work, t + 2 * BLOCK), load(work, t + 2 * BLOCK + LANES)
        d0, d1 = load(work, t + 3 * BLOCK), load(work, t + 3 * BLOCK + LANES)
        f = first * BLOCK + q
        w = at
        for _ in range(num):
            x0, x1 = load(work, f), load(work, f + LANES)
            v = splat(weights[w])
            a0, a1 = fma(v, x0, a0), fma(v, x1, a1)
            v = splat(weights[w + outer])
            b0, b1 = fma(v, x0, b0), fma(v, x1, b1)
            v = splat(weights[w + 2 * outer])
            c0, c1 = fma(v, x0, c0), fma(v, x1, c1)
            v = splat(weights[w + 3 * outer])
            d0, d1 = fma(v, x0, d0), fma(v, x1, d1)
            f += BLOCK
            w += inner
        store(work, t, a0)
        store(work, t + LANES, a1)
        store(work, t + BLOCK, b0)
        store(work, t + BLOCK + LANES, b1)
        store(work, t + 2 * BLOCK, c0)
        store(work, t + 2 * BLOCK + LANES, c1)
        store(work, t + 3 * BLOCK, d0)
        store(work, t + 3 * BLOCK + LANES, d1)


@jit
def add_products(work, row, num_rows, first, num, out, at, inner, outer):
    """Add the inner products of rows with others to an array, two by four at a time.

    That of rows row + k and first + i goes to out[at + k * outer + i * inner].
    """
    for k in range(0, num_rows, 2):
        for i in range(0, num, 4):
            r = (row + k) * BLOCK
            f = (first + i) * BLOCK
            a0, a1, a2, a3 = splat(ZERO), splat(ZERO), splat(ZERO), splat(ZERO)
            b0, b1, b2, b3 = splat(ZERO), splat(ZERO), splat(ZERO), splat(ZERO)
            for q in range(0, BLOCK, LANES):
                x, y = load(work, r + q), load(work, r + BLOCK + q)
                v = load(work, f + q)
                a0, b0 = fma(v, x, a0), fma(v, y, b0)
                v = load(work, f + BLOCK + q)
                a1, b1 = fma(v, x, a1), fma(v, y, b1)
                v = load(work, f + 2 * BLOCK + q)
                a2, b2 = fma(v, x, a2), fma(v, y, b2)
                v = load(work, f + 3 * BLOCK + q)
                a3, b3 = fma(v, x, a3), fma(v, y, b3)
            w = at + k * outer + i * inner
            out[w] += total(a0)
            out[w + inner] += total(a1)
            out[w + 2 * inner] += total(a2)
            out[w + 3 * inner] += total(a3)
            w += outer
            out[w] += total(b0)
            out[w + inner] += total(b1)
            out[w + 2 * inner] += total(b2)
            out[w + 3 * inner] += total(b3)


@inline_jit
def fetch(source, first, step, work, row, num_rows, count):
    """Copy rows of a flat array, `step` apart, into the working buffer."""
    for j in range(num_rows):
        o = np.uint64(first + j * step)
        t = np.uint64((row + j) * BLOCK)
        for q in range(np.uint64(count)):
            work[t + q] = source[o + q]


@inline_jit
def fill(work, row, num_rows, value):
    """Set rows to one value."""
    for q in range(row * BLOCK, (row + num_rows) * BLOCK, LANES):
        store(work, q, splat(value))
