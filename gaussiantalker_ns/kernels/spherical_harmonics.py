"""The compiled form of `spherical_harmonics`, forward and backward."""

from math import sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gaussiantalker_ns.kernels.compile import jit, next_job, pooled_kernel

BLOCK = 256
"""Gaussians of one unit of parallel work."""


@jit
def _bases(x, y, z):
    """The sixteen bases at a unit direction."""
    xx, yy, zz = x * x, y * y, z * z
    middle = 0.4570457994644658 - 2.285228997322329 * zz
    return (
        0.2820947917738781, -0.48860251190292 * y, 0.48860251190292 * z, -0.48860251190292 * x,
        1.092548430592079 * x * y, -1.092548430592079 * y * z,
        0.9461746957575601 * zz - 0.3153915652525201, -1.092548430592079 * x * z,
        0.5462742152960395 * (xx - yy), -0.5900435899266435 * y * (3 * xx - yy),
        2.890611442640554 * x * y * z, y * middle,
        z * (1.865881662950577 * zz - 1.119528997770346), x * middle,
        1.445305721320277 * z * (xx - yy), -0.5900435899266435 * x * (xx - 3 * yy),
    )  # fmt: skip


@jit
def _direction_gradient(x, y, z, h):
    """Gradient of sum_k h_k B_k(x, y, z), the bases being polynomials."""
    xx, yy, zz = x * x, y * y, z * z
    middle = 0.4570457994644658 - 2.285228997322329 * zz
    d_x = (
        -0.48860251190292 * h[3] + 1.092548430592079 * (y * h[4] - z * h[7] + x * h[8])
        - 3.540261539559861 * x * y * h[9] + 2.890611442640554 * (y * z * h[10] + x * z * h[14])
        + middle * h[13] - 1.7701307697799304 * (xx - yy) * h[15]
    )  # fmt: skip
    d_y = (
        -0.48860251190292 * h[1] + 1.092548430592079 * (x * h[4] - z * h[5] - y * h[8])
        - 1.7701307697799304 * (xx - yy) * h[9]
        + 2.890611442640554 * (x * z * h[10] - y * z * h[14])
        + middle * h[11] + 3.540261539559861 * x * y * h[15]
    )  # fmt: skip
    d_z = (
        0.48860251190292 * h[2] - 1.092548430592079 * (y * h[5] + x * h[7])
        + 1.8923493915151202 * z * h[6] + 2.890611442640554 * x * y * h[10]
        - 4.570457994644658 * z * (y * h[11] + x * h[13])
        + (5.597644988851731 * zz - 1.119528997770346) * h[12]
        + 1.445305721320277 * (xx - yy) * h[14]
    )  # fmt: skip
    return d_x, d_y, d_z


@jit
def _unit(directions, camera, i):
    x = np.float64(directions[camera, i, 0])
    y = np.float64(directions[camera, i, 1])
    z = np.float64(directions[camera, i, 2])
    length = sqrt(x * x + y * y + z * z)
    inverse = 1 / length if length > 0 else 0.0
    return x * inverse, y * inverse, z * inverse, inverse


@pooled_kernel
def sh_forward(queue, num_bases, directions, coefficients, visible, colors):
    """Evaluate colours [b, n, 3]; `coefficients` [b or 1, n, s, 3], `visible` [b, n]."""
    b, n = visible.shape
    num_blocks = (n + BLOCK - 1) // BLOCK
    while True:
        job = next_job(queue)
        if job >= b * num_blocks:
            break
        camera, block = job // num_blocks, job % num_blocks
        source = min(camera, coefficients.shape[0] - 1)
        for i in range(block * BLOCK, min(n, (block + 1) * BLOCK)):
            red, green, blue = np.float32(0), np.float32(0), np.float32(0)
            if visible[camera, i]:
                x, y, z, _ = _unit(directions, camera, i)
                bases = _bases(x, y, z)
                for k in range(num_bases):
                    weight = np.float32(bases[k])
                    red += weight * coefficients[source, i, k, 0]
                    green += weight * coefficients[source, i, k, 1]
                    blue += weight * coefficients[source, i, k, 2]
            colors[camera, i, 0] = red
            colors[camera, i, 1] = green
            colors[camera, i, 2] = blue


@pooled_kernel
def sh_backward(
    queue, num_bases, directions, coefficients, visible, v_colors, v_coefficients, v_dirs
):
    """Gradients of coefficients and directions; shared coefficients gather over the cameras."""
    b, n = visible.shape
    num_shared, total = coefficients.shape[0], coefficients.shape[2]
    h = np.zeros(16)
    while True:
        block = next_job(queue)
        if block >= (n + BLOCK - 1) // BLOCK:
            break
        for i in range(block * BLOCK, min(n, (block + 1) * BLOCK)):
            for camera in range(b):
                source = min(camera, num_shared - 1)
                if camera == source:
                    for k in range(total):
                        for c in range(3):
                            v_coefficients[source, i, k, c] = 0
                for c in range(3):
                    v_dirs[camera, i, c] = 0
                if not visible[camera, i]:
                    continue
                red = v_colors[camera, i, 0]
                green = v_colors[camera, i, 1]
                blue = v_colors[camera, i, 2]
                x, y, z, inverse = _unit(directions, camera, i)
                bases = _bases(x, y, z)
                for k in range(num_bases):
                    weight = np.float32(bases[k])
                    v_coefficients[source, i, k, 0] += weight * red
                    v_coefficients[source, i, k, 1] += weight * green
                    v_coefficients[source, i, k, 2] += weight * blue
                    h[k] = (
                        coefficients[source, i, k, 0] * red
                        + coefficients[source, i, k, 1] * green
                        + coefficients[source, i, k, 2] * blue
                    )
                d_x, d_y, d_z = _direction_gradient(x, y, z, h)
                along = d_x * x + d_y * y + d_z * z
                v_dirs[camera, i, 0] = (d_x - along * x) * inverse
                v_dirs[camera, i, 1] = (d_y - along * y) * inverse
                v_dirs[camera, i, 2] = (d_z - along * z) * inverse


class _EvaluateSH(torch.autograd.Function):
    """Directions and coefficients -> colours."""

    @staticmethod
    def forward(
        ctx: Any, num_bases: int, directions: Tensor, coefficients: Tensor, visible: Tensor
    ) -> Tensor:
        directions, coefficients = directions.contiguous(), coefficients.contiguous()
        colors = torch.empty_like(directions)
        sh_forward(
            num_bases,
            *(x.detach().numpy() for x in (directions, coefficients, visible, colors)),
        )
        ctx.save_for_backward(directions, coefficients, visible)
        ctx.num_bases = num_bases
        return colors

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, v_colors: Tensor
    ) -> tuple[Tensor | None, ...]:
        directions, coefficients, visible = ctx.saved_tensors
        v_coefficients, v_dirs = torch.empty_like(coefficients), torch.empty_like(directions)
        tensors = (
            directions, coefficients, visible, v_colors.contiguous(), v_coefficients, v_dirs,
        )  # fmt: skip
        sh_backward(ctx.num_bases, *(x.detach().numpy() for x in tensors))
        return None, v_dirs, v_coefficients, None


def evaluate_sh_compiled(
    degree: int, directions: Tensor, coefficients: Tensor, visible: Tensor | None
) -> Tensor:
    """As `evaluate_sh`, for float32 tensors on the CPU."""
    if visible is None:
        visible = torch.ones(directions.shape[:2], dtype=torch.bool)
    return _EvaluateSH.apply((degree + 1) ** 2, directions, coefficients, visible.contiguous())
