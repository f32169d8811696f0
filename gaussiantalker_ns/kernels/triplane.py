"""The tri-plane lookup on CPU: compiled kernels over channels-last planes, forward and backward.

The forward pass runs over points; the backward pass over (level, plane) pairs, whose gradients
share no memory, so that it needs no atomics and gives the same bits for any number of threads.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gaussiantalker_ns.kernels.compile import inline_jit, jit, next_job, pooled_kernel
from gaussiantalker_ns.kernels.simd import LANES, fma, load, splat, store, total

U_AXES = (0, 1, 2)
"""Coordinate along the columns of the planes xy, yz and zx."""
V_AXES = (1, 2, 0)
"""Coordinate along the rows of the planes xy, yz and zx."""

BLOCK = 256
"""Points that a thread takes at a time in the forward pass."""


@inline_jit
def cell(coordinate, resolution):
    """Cell index, place inside the cell and slope of a coordinate in [0, 1], clamped outside."""
    last = np.float32(resolution - 1)
    place = coordinate * last
    slope = last if place > np.float32(0) and place < last else np.float32(0)
    place = min(max(place, np.float32(0)), last)
    index = min(int(place), resolution - 2)
    return index, place - np.float32(index), slope


@inline_jit
def sample(plane, first, row, channels, fu, fv, samples, at):
    """Write the bilinear sample of the cell whose first texel starts at `first` to samples[at:]."""
    w11 = fu * fv
    w10 = fv - w11
    w01 = fu - w11
    w00 = np.float32(1) - fu - w10
    for c in range(0, channels, LANES):
        o = first + c
        value = splat(w00) * load(plane, o)
        value = fma(splat(w01), load(plane, o + channels), value)
        value = fma(splat(w10), load(plane, o + row), value)
        value = fma(splat(w11), load(plane, o + row + channels), value)
        store(samples, at + c, value)


@inline_jit
def scatter(values, fu, fv, channels, row, v_plane, first):
    """Add a gradient to the four texels of a cell, by their weights."""
    w11 = fu * fv
    w10 = fv - w11
    w01 = fu - w11
    w00 = np.float32(1) - fu - w10
    for c in range(0, channels, LANES):
        value = load(values, c)
        o = first + c
        store(v_plane, o, fma(splat(w00), value, load(v_plane, o)))
        o += channels
        store(v_plane, o, fma(splat(w01), value, load(v_plane, o)))
        o += row
        store(v_plane, o, fma(splat(w11), value, load(v_plane, o)))
        o -= channels
        store(v_plane, o, fma(splat(w10), value, load(v_plane, o)))


@inline_jit
def slopes(values, plane, fu, fv, channels, row, first):
    """Gradient along the columns and rows of the plane, per cell."""
    along_u = splat(np.float32(0))
    along_v = splat(np.float32(0))
    for c in range(0, channels, LANES):
        o = first + c
        value = load(values, c)
        corner = load(plane, o)
        low = load(plane, o + channels) - corner
        left = load(plane, o + row) - corner
        twist = load(plane, o + row + channels) - corner - left - low
        along_u = fma(value, fma(splat(fv), twist, low), along_u)
        along_v = fma(value, fma(splat(fu), twist, left), along_v)
    return total(along_u), total(along_v)


@pooled_kernel
def forward_kernel(queue, planes, resolutions, unit, samples, features):
    """Sample every plane at every point.

    Args:
        queue: Numbers of blocks of points.
        planes: Tuple of flat float32 planes, one array [3 * R * R * C] a level.
        resolutions: R of each level.
        unit: Points scaled by the bounds to [0, 1], [n, 3].
        samples: Flat output [n * levels * 3 * C]: what each plane gave, for the backward pass.
        features: Flat output [n * levels * C]: products over the planes.
    """
    num_points = unit.shape[0]
    num_levels = len(planes)
    channels = features.size // (num_points * num_levels)
    while True:
        begin = next_job(queue) * BLOCK
        if begin >= num_points:
            break
        for i in range(begin, min(begin + BLOCK, num_points)):
            for level in range(num_levels):
                r = resolutions[level]
                start = (i * num_levels + level) * channels
                for p in range(3):
                    u, fu, _ = cell(unit[i, U_AXES[p]], r)
                    v, fv, _ = cell(unit[i, V_AXES[p]], r)
                    first = ((p * r + v) * r + u) * channels
                    at = start * 3 + p * channels
                    sample(planes[level], first, r * channels, channels, fu, fv, samples, at)
                a, b = start * 3 + channels, start * 3 + 2 * channels
                for c in range(0, channels, LANES):
                    value = load(samples, start * 3 + c) * load(samples, a + c)
                    store(features, start + c, value * load(samples, b + c))


@jit
def backward_plane(plane, p, r, level, num_levels, unit, samples, v_features, v_plane, v_unit):
    """Gradients of one plane of one level, and of the points as far as they go through it."""
    num_points = unit.shape[0]
    channels = v_features.size // (num_points * num_levels)
    values = np.empty(channels, np.float32)
    for i in range(num_points):
        u, fu, slope_u = cell(unit[i, U_AXES[p]], r)
        v, fv, slope_v = cell(unit[i, V_AXES[p]], r)
        first = ((p * r + v) * r + u) * channels
        start = (i * num_levels + level) * channels
        a = start * 3 + ((p + 1) % 3) * channels
        b = start * 3 + ((p + 2) % 3) * channels
        for c in range(0, channels, LANES):
            others = load(samples, a + c) * load(samples, b + c)
            store(values, c, load(v_features, start + c) * others)
        scatter(values, fu, fv, channels, r * channels, v_plane, first)
        if v_unit.size:
            along_u, along_v = slopes(values, plane, fu, fv, channels, r * channels, first)
            v_unit[p * num_levels + level, i, 0] = slope_u * along_u
            v_unit[p * num_levels + level, i, 1] = slope_v * along_v


@pooled_kernel
def backward_kernel(queue, planes, resolutions, unit, samples, v_features, v_planes, v_unit):
    """Gradients of planes and points, one (level, plane) pair after the other.

    Args:
        queue: Numbers of (level, plane) pairs.
        planes: As in the forward pass.
        resolutions: As in the forward pass.
        unit: As in the forward pass.
        samples: What the forward pass kept.
        v_features: Flat gradient of the features [n * levels * C].
        v_planes: Tuple of flat zeroed outputs shaped like the planes.
        v_unit: Output [3 * levels, n, 2]: gradient along u and v by plane; size 0 if not wanted.
    """
    num_levels = len(planes)
    while True:
        job = next_job(queue)
        if job >= 3 * num_levels:
            break
        # The large planes of the last levels come first, so that no thread ends late.
        level, p = num_levels - 1 - job // 3, job % 3
        backward_plane(
            planes[level],
            p,
            resolutions[level],
            level,
            num_levels,
            unit,
            samples,
            v_features,
            v_planes[level],
            v_unit,
        )


class TriPlaneLookup(torch.autograd.Function):
    """Products of bilinear samples of three planes per level, levels concatenated (Eq. 7)."""

    @staticmethod
    def forward(ctx: Any, unit: Tensor, *planes: Tensor) -> Tensor:
        """Look up points [n 3] in [0, 1] in planes [3 R R C], one a level: [n, levels * C]."""
        resolutions = np.array([plane.shape[1] for plane in planes])
        channels = planes[0].shape[-1]
        unit = unit.contiguous()
        flat = tuple(plane.detach().contiguous().view(-1).numpy() for plane in planes)
        features = torch.empty(len(unit), len(planes) * channels)
        samples = torch.empty(len(unit), len(planes) * 3 * channels)
        if len(unit):
            forward_kernel(
                flat,
                resolutions,
                unit.detach().numpy(),
                samples.view(-1).numpy(),
                features.view(-1).numpy(),
            )
        ctx.save_for_backward(unit, samples, *planes)
        return features

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Scatter the gradient of the features into planes and points."""
        unit, samples, *planes = ctx.saved_tensors
        v_planes = [torch.zeros_like(plane) for plane in planes]
        num_tasks = 3 * len(planes) if ctx.needs_input_grad[0] else 0
        v_parts = torch.empty(num_tasks, len(unit), 2)
        if len(unit):
            backward_kernel(
                tuple(plane.detach().contiguous().view(-1).numpy() for plane in planes),
                np.array([plane.shape[1] for plane in planes]),
                unit.detach().numpy(),
                samples.view(-1).numpy(),
                grad_outputs[0].contiguous().view(-1).numpy(),
                tuple(v_plane.view(-1).numpy() for v_plane in v_planes),
                v_parts.numpy(),
            )
        if not num_tasks:
            return None, *v_planes
        u_and_v = v_parts.view(3, len(planes), -1, 2).sum(dim=1)
        v_unit = torch.zeros_like(unit)
        for p in range(3):
            v_unit[:, U_AXES[p]] += u_and_v[p, :, 0]
            v_unit[:, V_AXES[p]] += u_and_v[p, :, 1]
        return v_unit, *v_planes
