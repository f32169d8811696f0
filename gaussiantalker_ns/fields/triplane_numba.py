"""The tri-plane lookup on CPU: compiled kernels over channels-last planes, forward and backward.

The forward pass runs over points; the backward pass over (level, plane) pairs, whose gradients
share no memory, so that it needs no atomics and gives the same bits for any number of threads.
"""

from typing import Any

import numpy as np
import torch
from numba import prange
from torch import Tensor

from gaussiantalker_ns.numba_runtime import fast_jit, parallel_kernel

U_AXES = (0, 1, 2)
"""Coordinate along the columns of the planes xy, yz and zx."""
V_AXES = (1, 2, 0)
"""Coordinate along the rows of the planes xy, yz and zx."""


@fast_jit
def cell(coordinate, resolution):
    """Cell index, place inside the cell and slope of a coordinate in [0, 1], clamped outside."""
    last = np.float32(resolution - 1)
    place = coordinate * last
    slope = last if place > np.float32(0) and place < last else np.float32(0)
    place = min(max(place, np.float32(0)), last)
    index = min(int(place), resolution - 2)
    return index, place - np.float32(index), slope


@fast_jit
def sample(plane, first, row, channels, fu, fv, samples, at):
    """Write the bilinear sample of the cell whose first texel starts at `first` to samples[at:]."""
    w11 = fu * fv
    w10 = fv - w11
    w01 = fu - w11
    w00 = np.float32(1) - fu - w10
    o00 = np.uint64(first)
    o01 = o00 + np.uint64(channels)
    o10 = o00 + np.uint64(row)
    o11 = o10 + np.uint64(channels)
    t = np.uint64(at)
    for c in range(np.uint64(channels)):
        samples[t + c] = (
            w00 * plane[o00 + c]
            + w01 * plane[o01 + c]
            + w10 * plane[o10 + c]
            + w11 * plane[o11 + c]
        )


@fast_jit
def product(samples, first, channels, features, at):
    """Multiply the samples of the three planes."""
    a = np.uint64(first)
    b = a + np.uint64(channels)
    d = b + np.uint64(channels)
    t = np.uint64(at)
    for c in range(np.uint64(channels)):
        features[t + c] = samples[a + c] * samples[b + c] * samples[d + c]


@fast_jit
def scatter(values, fu, fv, channels, row, v_plane, first):
    """Add a gradient to the four texels of a cell, by their weights."""
    w11 = fu * fv
    w10 = fv - w11
    w01 = fu - w11
    w00 = np.float32(1) - fu - w10
    o00 = np.uint64(first)
    o10 = o00 + np.uint64(row)
    n = np.uint64(channels)
    for c in range(n):
        v_plane[o00 + c] += w00 * values[c]
    for c in range(n):
        v_plane[o00 + n + c] += w01 * values[c]
    for c in range(n):
        v_plane[o10 + c] += w10 * values[c]
    for c in range(n):
        v_plane[o10 + n + c] += w11 * values[c]


@fast_jit
def slopes(values, plane, fu, fv, channels, row, first):
    """Gradient along the columns and rows of the plane, per cell."""
    o00 = np.uint64(first)
    o01 = o00 + np.uint64(channels)
    o10 = o00 + np.uint64(row)
    o11 = o10 + np.uint64(channels)
    along_u = np.float32(0)
    along_v = np.float32(0)
    for c in range(np.uint64(channels)):
        low = plane[o01 + c] - plane[o00 + c]
        left = plane[o10 + c] - plane[o00 + c]
        twist = plane[o11 + c] - plane[o10 + c] - low
        along_u += values[c] * (low + fv * twist)
        along_v += values[c] * (left + fu * twist)
    return along_u, along_v


@parallel_kernel
def forward_kernel(planes, resolutions, unit, samples, features):
    """Sample every plane at every point.

    Args:
        planes: Tuple of flat float32 planes, one array [3 * R * R * C] a level.
        resolutions: R of each level.
        unit: Points scaled by the bounds to [0, 1], [n, 3].
        samples: Flat output [n * levels * 3 * C]: what each plane gave, for the backward pass.
        features: Flat output [n * levels * C]: products over the planes.
    """
    num_points = unit.shape[0]
    num_levels = len(planes)
    channels = features.size // (num_points * num_levels)
    for i in prange(num_points):
        for level in range(num_levels):
            r = resolutions[level]
            start = (i * num_levels + level) * channels
            for p in range(3):
                u, fu, _ = cell(unit[i, U_AXES[p]], r)
                v, fv, _ = cell(unit[i, V_AXES[p]], r)
                first = ((p * r + v) * r + u) * channels
                at = start * 3 + p * channels
                sample(planes[level], first, r * channels, channels, fu, fv, samples, at)
            product(samples, start * 3, channels, features, start)


@parallel_kernel
def backward_kernel(planes, resolutions, unit, samples, v_features, v_planes, v_unit):
    """Gradients of planes and points, one (level, plane) pair after the other.

    Args:
        planes: As in the forward pass.
        resolutions: As in the forward pass.
        unit: As in the forward pass.
        samples: What the forward pass kept.
        v_features: Flat gradient of the features [n * levels * C].
        v_planes: Tuple of flat zeroed outputs shaped like the planes.
        v_unit: Output [levels * 3, n, 2]: gradient along u and v by task; size 0 if not wanted.
    """
    num_points = unit.shape[0]
    num_levels = len(planes)
    channels = v_features.size // (num_points * num_levels)
    for task in prange(num_levels * 3):
        # Levels alternate, so that every thread gets its share of the large planes.
        level = task % num_levels
        p = task // num_levels
        r = resolutions[level]
        values = np.empty(channels, np.float32)
        for i in range(num_points):
            u, fu, slope_u = cell(unit[i, U_AXES[p]], r)
            v, fv, slope_v = cell(unit[i, V_AXES[p]], r)
            first = ((p * r + v) * r + u) * channels
            start = (i * num_levels + level) * channels
            a = np.uint64(start)
            b = np.uint64(start * 3 + ((p + 1) % 3) * channels)
            d = np.uint64(start * 3 + ((p + 2) % 3) * channels)
            for c in range(np.uint64(channels)):
                values[c] = v_features[a + c] * samples[b + c] * samples[d + c]
            scatter(values, fu, fv, channels, r * channels, v_planes[level], first)
            if v_unit.size:
                along_u, along_v = slopes(
                    values, planes[level], fu, fv, channels, r * channels, first
                )
                v_unit[task, i, 0] = slope_u * along_u
                v_unit[task, i, 1] = slope_v * along_v


class TriPlaneLookup(torch.autograd.Function):
    """Products of bilinear samples of three planes per level, levels concatenated (Eq. 7)."""

    @staticmethod
    def forward(ctx: Any, unit: Tensor, *planes: Tensor) -> Tensor:
        """Look up points [n 3] in [0, 1] in planes [3 R R C], one a level: [n, levels * C]."""
        resolutions = np.array([plane.shape[1] for plane in planes])
        channels = planes[0].shape[-1]
        unit = unit.contiguous()
        flat = tuple(plane.detach().reshape(-1).numpy() for plane in planes)
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
                tuple(plane.detach().reshape(-1).numpy() for plane in planes),
                np.array([plane.shape[1] for plane in planes]),
                unit.detach().numpy(),
                samples.view(-1).numpy(),
                grad_outputs[0].reshape(-1).numpy(),
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
