"""Structural similarity on CPU: value and gradient of a batch of images in one compiled pass.

The Gaussian window is applied to rows, then to columns, of channels-last rows as they lie in memory
(neighbouring pixels are three numbers apart). Variances enter only as a sum, so four filtered maps
are enough: x, y, x^2 + y^2 and x y.
"""

from typing import Any

import numpy as np
import torch
from numba import prange
from torch import Tensor

from gaussiantalker_ns.numba_runtime import fast_jit, parallel_kernel

TAPS = 11
"""Size of the window."""
SIGMA = 1.5
"""Standard deviation of the window in pixels."""
C1 = np.float32(0.01**2)
C2 = np.float32(0.03**2)
CHUNK = 128
"""Numbers of a row that are handled at a time; constant distances let the compiler vectorise."""

_HALF = np.exp(-0.5 * (np.arange(TAPS // 2 + 1) - TAPS // 2) ** 2 / SIGMA**2)
W0, W1, W2, W3, W4, W5 = (_HALF / (2 * _HALF.sum() - 1)).astype(np.float32)


@fast_jit
def filter_along(source, start, step, target, at, count):
    """Write `count` windowed sums of elements `step` apart, starting at `start`, to target[at:]."""
    o = np.uint64(start)
    t = np.uint64(at)
    s = np.uint64(step)
    r1, r2, r3, r4, r5 = o + s, o + 2 * s, o + 3 * s, o + 4 * s, o + 5 * s
    r6, r7, r8, r9, r10 = o + 6 * s, o + 7 * s, o + 8 * s, o + 9 * s, o + 10 * s
    # Three short loops: more than a few moving pointers in one stop the compiler from vectorising.
    for p in range(np.uint64(count)):
        target[t + p] = W0 * (source[o + p] + source[r10 + p]) + W1 * (
            source[r1 + p] + source[r9 + p]
        )
    for p in range(np.uint64(count)):
        target[t + p] += W2 * (source[r2 + p] + source[r8 + p]) + W3 * (
            source[r3 + p] + source[r7 + p]
        )
    for p in range(np.uint64(count)):
        target[t + p] += W4 * (source[r4 + p] + source[r6 + p]) + W5 * source[r5 + p]


@fast_jit
def filter_row(source, start, target, at, count):
    """Like `filter_along` for neighbouring pixels of three channels."""
    o = np.uint64(start)
    t = np.uint64(at)
    for p in range(np.uint64(count)):
        i = o + p
        target[t + p] = (
            W0 * (source[i] + source[i + np.uint64(30)])
            + W1 * (source[i + np.uint64(3)] + source[i + np.uint64(27)])
            + W2 * (source[i + np.uint64(6)] + source[i + np.uint64(24)])
            + W3 * (source[i + np.uint64(9)] + source[i + np.uint64(21)])
            + W4 * (source[i + np.uint64(12)] + source[i + np.uint64(18)])
            + W5 * source[i + np.uint64(15)]
        )


@fast_jit
def similarity(maps, count):
    """Sum the similarity over a chunk and replace the first three maps by its derivatives.

    In: windowed x, y, x^2 + y^2, x y. Out: derivatives by windowed x, x^2 + y^2 and x y.
    """
    total = np.float32(0)
    for p in range(np.uint64(count)):
        mx = maps[p]
        my = maps[p + np.uint64(CHUNK)]
        squares = maps[p + np.uint64(2 * CHUNK)]
        product = maps[p + np.uint64(3 * CHUNK)]
        both = mx * my
        energy = mx * mx + my * my
        a1 = np.float32(2) * both + C1
        a2 = np.float32(2) * (product - both) + C2
        inv_b1 = np.float32(1) / (energy + C1)
        inv_b2 = np.float32(1) / (squares - energy + C2)
        scale = inv_b1 * inv_b2
        value = a1 * a2 * scale
        total += value
        maps[p] = np.float32(2) * (my * (a2 - a1) * scale + mx * value * (inv_b2 - inv_b1))
        maps[p + np.uint64(CHUNK)] = -value * inv_b2
        maps[p + np.uint64(2 * CHUNK)] = np.float32(2) * a1 * scale
    return total


@fast_jit
def multiply_rows(x, y, start, rows, width):
    """Fill one buffer with rows x, y, x^2 + y^2 and x y, `width` numbers each."""
    o = np.uint64(start)
    for p in range(np.uint64(width)):
        rows[p] = x[o + p]
    for p in range(np.uint64(width)):
        rows[np.uint64(width) + p] = y[o + p]
    for p in range(np.uint64(width)):
        a = x[o + p]
        b = y[o + p]
        rows[np.uint64(2 * width) + p] = a * a + b * b
    for p in range(np.uint64(width)):
        rows[np.uint64(3 * width) + p] = x[o + p] * y[o + p]


@parallel_kernel
def moments_kernel(x, y, num_rows, width, filtered):
    """Filter every row of the four maps: x and y flat, filtered [num_rows * 4 * (width - 30)]."""
    inner = width - 30
    for row in prange(num_rows):
        rows = np.empty(4 * width, np.float32)
        multiply_rows(x, y, row * width, rows, width)
        for m in range(4):
            filter_row(rows, m * width, filtered, (row * 4 + m) * inner, inner)


@parallel_kernel
def similarity_kernel(filtered, num_images, height, inner, slopes, sums):
    """Filter the columns and compare: one sum a row, and slopes with ten empty rows around."""
    num_rows = height - 10
    for task in prange(num_images * num_rows):
        image = task // num_rows
        row = task % num_rows
        maps = np.empty(4 * CHUNK, np.float32)
        first = (image * height + row) * 4 * inner
        out = (image * (num_rows + 20) + row + 10) * 3 * inner
        total = 0.0
        for begin in range(0, inner, CHUNK):
            count = min(CHUNK, inner - begin)
            for m in range(4):
                filter_along(filtered, first + m * inner + begin, 4 * inner, maps, m * CHUNK, count)
            total += similarity(maps, count)
            if slopes.size:
                for m in range(3):
                    for p in range(np.uint64(count)):
                        slopes[np.uint64(out + m * inner + begin) + p] = maps[
                            np.uint64(m * CHUNK) + p
                        ]
        sums[task] = total


@fast_jit
def combine(padded, x, y, start, width, reach, scale, gradient):
    """Filter the three slopes along the row and add what each contributes to the gradient by x."""
    chunk = np.empty(3 * CHUNK, np.float32)
    for begin in range(0, width, CHUNK):
        count = min(CHUNK, width - begin)
        for m in range(3):
            filter_row(padded, m * reach + begin, chunk, m * CHUNK, count)
        o = np.uint64(start + begin)
        for p in range(np.uint64(count)):
            gradient[o + p] = scale * (
                chunk[p]
                + np.float32(2) * x[o + p] * chunk[np.uint64(CHUNK) + p]
                + y[o + p] * chunk[np.uint64(2 * CHUNK) + p]
            )


@parallel_kernel
def gradient_kernel(slopes, x, y, num_images, height, width, scale, gradient):
    """Spread the slopes back over the windows: the gradient of the mean similarity by x."""
    inner = width - 30
    reach = inner + 60
    for task in prange(num_images * height):
        image = task // height
        row = task % height
        padded = np.zeros(3 * reach, np.float32)
        first = (image * (height + 10) + row) * 3 * inner
        for m in range(3):
            filter_along(slopes, first + m * inner, 3 * inner, padded, m * reach + 30, inner)
        combine(padded, x, y, task * width, width, reach, scale, gradient)


class MeanSSIM(torch.autograd.Function):
    """Mean similarity of two batches [b h wd 3]; the gradient flows to the first."""

    @staticmethod
    def forward(ctx: Any, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare images with values in [0, 1]; the gradient is made at the same time."""
        num_images, height, columns, _ = prediction.shape
        width, inner = columns * 3, columns * 3 - 30
        x = prediction.detach().reshape(-1).numpy()
        y = target.detach().reshape(-1).numpy()
        wants_gradient = ctx.needs_input_grad[0]
        filtered = np.empty(num_images * height * 4 * inner, np.float32)
        sums = np.empty(num_images * (height - 10), np.float64)
        size = num_images * (height + 10) * 3 * inner if wants_gradient else 0
        slopes = np.empty(size, np.float32)
        moments_kernel(x, y, num_images * height, width, filtered)
        if wants_gradient:
            bands = slopes.reshape(num_images, height + 10, -1)
            bands[:, :10] = 0
            bands[:, -10:] = 0
        similarity_kernel(filtered, num_images, height, inner, slopes, sums)
        count = num_images * (height - 10) * inner
        if wants_gradient:
            gradient = torch.empty_like(prediction, memory_format=torch.contiguous_format)
            scale = np.float32(1 / count)
            gradient_kernel(
                slopes, x, y, num_images, height, width, scale, gradient.view(-1).numpy()
            )
            ctx.save_for_backward(gradient)
        return prediction.new_tensor(sums.sum() / count)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, None]:
        """Scale the gradient made in the forward pass."""
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0], None
