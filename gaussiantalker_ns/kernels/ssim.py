"""Structural similarity on CPU: value and gradient of a batch of images in one compiled pass.

The Gaussian window is applied to rows, then to columns, of channels-last rows as they lie in memory
(neighbouring pixels are three numbers apart). Variances enter only as a sum, so four filtered maps
are enough: x, y, x^2 + y^2 and x y.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gaussiantalker_ns.kernels import WINDOW_SIGMA, WINDOW_SIZE
from gaussiantalker_ns.kernels.compile import fast_jit, inline_jit, jit, next_job, pooled_kernel
from gaussiantalker_ns.kernels.simd import (
    LANES,
    fma,
    lane_numbers,
    load,
    select,
    splat,
    store,
    total,
)

C1 = np.float32(0.01**2)
C2 = np.float32(0.03**2)
MARGIN = 3 * (WINDOW_SIZE - 1)
"""Numbers by which a row gets shorter when it is filtered."""

ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)
_HALF = np.exp(-0.5 * (np.arange(WINDOW_SIZE // 2 + 1) - WINDOW_SIZE // 2) ** 2 / WINDOW_SIGMA**2)
W0, W1, W2, W3, W4, W5 = (_HALF / (2 * _HALF.sum() - 1)).astype(np.float32)


@inline_jit
def windowed(source, at, step):
    """Windowed sum of eight neighbouring numbers over eleven vectors `step` apart."""
    far = at + (WINDOW_SIZE - 1) * step
    value = splat(W5) * load(source, at + 5 * step)
    value = fma(splat(W0), load(source, at) + load(source, far), value)
    value = fma(splat(W1), load(source, at + step) + load(source, far - step), value)
    value = fma(splat(W2), load(source, at + 2 * step) + load(source, far - 2 * step), value)
    value = fma(splat(W3), load(source, at + 3 * step) + load(source, far - 3 * step), value)
    return fma(splat(W4), load(source, at + 4 * step) + load(source, far - 4 * step), value)


@inline_jit
def similarity(mx, my, squares, product):
    """Similarity of windows and its derivatives by windowed x, x^2 + y^2 and x y."""
    both = mx * my
    energy = fma(mx, mx, my * my)
    a1 = fma(splat(TWO), both, splat(C1))
    a2 = fma(splat(TWO), product - both, splat(C2))
    inv_b1 = ONE / (energy + C1)
    inv_b2 = ONE / (squares - energy + C2)
    scale = inv_b1 * inv_b2
    value = a1 * a2 * scale
    by_mean = TWO * fma(my * (a2 - a1), scale, mx * value * (inv_b2 - inv_b1))
    return value, by_mean, ZERO - value * inv_b2, TWO * a1 * scale


@fast_jit
def multiply_rows(x, y, start, rows, width, pitch):
    """Fill one buffer with rows x, y, x^2 + y^2 and x y, `pitch` apart."""
    o = np.uint64(start)
    for p in range(np.uint64(width)):
        rows[p] = x[o + p]
    for p in range(np.uint64(width)):
        rows[np.uint64(pitch) + p] = y[o + p]
    for p in range(np.uint64(width)):
        a = x[o + p]
        b = y[o + p]
        rows[np.uint64(2 * pitch) + p] = a * a + b * b
    for p in range(np.uint64(width)):
        rows[np.uint64(3 * pitch) + p] = x[o + p] * y[o + p]


@pooled_kernel
def moments_kernel(queue, x, y, num_rows, width, stride, filtered):
    """Filter every row of the four maps: x and y flat, filtered [num_rows * 4 * stride]."""
    pitch = stride + MARGIN
    rows = np.zeros(4 * pitch, np.float32)
    while True:
        row = next_job(queue)
        if row >= num_rows:
            break
        multiply_rows(x, y, row * width, rows, width, pitch)
        for m in range(4):
            for p in range(0, stride, LANES):
                store(filtered, (row * 4 + m) * stride + p, windowed(rows, m * pitch + p, 3))


@jit
def compare_row(filtered, first, step, stride, inner, slopes, out, wants_slopes):
    """Filter the columns of four maps for one row of windows and compare; returns the sum."""
    summed = splat(ZERO)
    for p in range(0, stride, LANES):
        at = first + p
        value, by_mean, by_squares, by_product = similarity(
            windowed(filtered, at, step),
            windowed(filtered, at + stride, step),
            windowed(filtered, at + 2 * stride, step),
            windowed(filtered, at + 3 * stride, step),
        )
        inside = lane_numbers() < np.float32(inner - p)
        summed = summed + select(inside, value, splat(ZERO))
        if wants_slopes:
            store(slopes, out + p, select(inside, by_mean, splat(ZERO)))
            store(slopes, out + stride + p, select(inside, by_squares, splat(ZERO)))
            store(slopes, out + 2 * stride + p, select(inside, by_product, splat(ZERO)))
    return total(summed)


@pooled_kernel
def similarity_kernel(queue, filtered, num_images, height, inner, stride, slopes, sums):
    """Compare all windows: one sum a row, and slopes with ten empty rows around."""
    num_rows = height - (WINDOW_SIZE - 1)
    while True:
        job = next_job(queue)
        if job >= num_images * num_rows:
            break
        image, row = job // num_rows, job % num_rows
        first = (image * height + row) * 4 * stride
        out = (image * (height + WINDOW_SIZE - 1) + row + WINDOW_SIZE - 1) * 3 * stride
        sums[job] = compare_row(
            filtered, first, 4 * stride, stride, inner, slopes, out, slopes.size > 0
        )


@jit
def widen_row(slopes, first, stride, padded, widened, width):
    """Filter the columns of the three slopes, then the row, into three rows `pitch` apart."""
    pitch = stride + 2 * MARGIN
    for m in range(3):
        for p in range(0, stride, LANES):
            value = windowed(slopes, first + m * stride + p, 3 * stride)
            store(padded, m * pitch + MARGIN + p, value)
    for m in range(3):
        for p in range(0, width, LANES):
            store(widened, m * pitch + p, windowed(padded, m * pitch + p, 3))


@fast_jit
def combine(widened, pitch, x, y, start, width, scale, gradient):
    """Add what the three slopes contribute to the gradient by x."""
    o = np.uint64(start)
    r = np.uint64(pitch)
    for p in range(np.uint64(width)):
        gradient[o + p] = scale * (
            widened[p] + TWO * x[o + p] * widened[r + p] + y[o + p] * widened[2 * r + p]
        )


@pooled_kernel
def gradient_kernel(queue, slopes, x, y, num_images, height, width, stride, scale, gradient):
    """Spread the slopes back over the windows: the gradient of the mean similarity by x."""
    pitch = stride + 2 * MARGIN
    # A few numbers behind the last row are read, and not used.
    padded = np.zeros(3 * pitch + LANES, np.float32)
    widened = np.zeros(3 * pitch + LANES, np.float32)
    while True:
        job = next_job(queue)
        if job >= num_images * height:
            break
        image, row = job // height, job % height
        first = (image * (height + WINDOW_SIZE - 1) + row) * 3 * stride
        widen_row(slopes, first, stride, padded, widened, width)
        combine(widened, pitch, x, y, job * width, width, scale, gradient)


class MeanSSIM(torch.autograd.Function):
    """Mean similarity of two batches [b h wd 3]; the gradient flows to the first."""

    @staticmethod
    def forward(ctx: Any, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare images with values in [0, 1]; the gradient is made at the same time."""
        num_images, height, columns, _ = prediction.shape
        width = columns * 3
        inner = width - MARGIN
        stride = -(-inner // LANES) * LANES
        x = prediction.detach().contiguous().view(-1).numpy()
        y = target.detach().contiguous().view(-1).numpy()
        wants_gradient = ctx.needs_input_grad[0]
        filtered = np.empty(num_images * height * 4 * stride, np.float32)
        sums = np.empty(num_images * (height - WINDOW_SIZE + 1), np.float64)
        band = (height + WINDOW_SIZE - 1) * 3 * stride if wants_gradient else 0
        slopes = np.empty(num_images * band, np.float32)
        moments_kernel(x, y, num_images * height, width, stride, filtered)
        if wants_gradient:
            bands = slopes.reshape(num_images, height + WINDOW_SIZE - 1, -1)
            bands[:, : WINDOW_SIZE - 1] = 0
            bands[:, 1 - WINDOW_SIZE :] = 0
        similarity_kernel(filtered, num_images, height, inner, stride, slopes, sums)
        count = len(sums) * inner
        if wants_gradient:
            gradient = torch.empty_like(prediction, memory_format=torch.contiguous_format)
            gradient_kernel(
                slopes,
                x,
                y,
                num_images,
                height,
                width,
                stride,
                np.float32(1 / count),
                gradient.view(-1).numpy(),
            )
            ctx.save_for_backward(gradient)
        return prediction.new_tensor(sums.sum() / count)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, None]:
        """Scale the gradient made in the forward pass."""
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0], None
