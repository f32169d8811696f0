"""The tri-plane lookup on CPU: compiled kernels over channels-last planes, forward and backward.

The forward pass runs over points; the backward pass over (level, plane) pairs, whose gradients
share no memory, so that it needs no atomics and gives the same bits for any number of threads.
"""

from typing import Any

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

U_AXES = (0, 1, 2)
"""Coordinate along the columns of the planes xy, yz and zx."""
V_AXES = (1, 2, 0)
"""Coordinate along the rows of the planes xy, yz and zx."""

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "fastmath": True,
    "error_model": "numpy",
    "boundscheck": False,
}


@njit(inline="always", **_OPTIONS)
def _cell(coordinate, resolution):
    """Cell index, place inside the cell and slope of a coordinate in [0, 1], clamped outside."""
    last = np.float32(resolution - 1)
    place = coordinate * last
    slope = last if place > np.float32(0) and place < last else np.float32(0)
    place = min(max(place, np.float32(0)), last)
    index = min(int(place), resolution - 2)
    return index, place - np.float32(index), slope


@njit(parallel=True, **_OPTIONS)
def forward_kernel(planes, resolutions, unit, samples, features):
    """Sample every plane at every point.

    Args:
        planes: Tuple of flat float32 planes, one array [3 * R * R * C] a level.
        resolutions: R of each level.
        unit: Points scaled by the bounds to [0, 1], [n, 3].
        samples: Flat output [n * levels * 3 * C]: what each plane gave, kept for the backward pass.
        features: Flat output [n * levels * C]: products over the planes.
    """
    num_points = unit.shape[0]
    num_levels = len(planes)
    channels = features.size // (num_points * num_levels)
    for i in prange(num_points):
        for level in range(num_levels):
            plane = planes[level]
            r = resolutions[level]
            start = (i * num_levels + level) * channels
            for p in range(3):
                u, fu, _ = _cell(unit[i, U_AXES[p]], r)
                v, fv, _ = _cell(unit[i, V_AXES[p]], r)
                w11 = fu * fv
                w10 = fv - w11
                w01 = fu - w11
                w00 = np.float32(1) - fu - w10
                o00 = np.uint64(((p * r + v) * r + u) * channels)
                o10 = o00 + np.uint64(r * channels)
                one = np.uint64(channels)
                to = np.uint64(start * 3 + p * channels)
                for c in range(np.uint64(channels)):
                    samples[to + c] = (
                        w00 * plane[o00 + c]
                        + w01 * plane[o00 + one + c]
                        + w10 * plane[o10 + c]
                        + w11 * plane[o10 + one + c]
                    )
            a = np.uint64(start * 3)
            b = np.uint64(start * 3 + channels)
            d = np.uint64(start * 3 + 2 * channels)
            for c in range(np.uint64(channels)):
                features[np.uint64(start) + c] = samples[a + c] * samples[b + c] * samples[d + c]


@njit(parallel=True, **_OPTIONS)
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
        # The order spreads the large planes of the last levels over the threads.
        level = task % num_levels
        p = task // num_levels
        plane = planes[level]
        v_plane = v_planes[level]
        r = resolutions[level]
        row = np.empty(channels, np.float32)
        one = np.uint64(channels)
        for i in range(num_points):
            u, fu, slope_u = _cell(unit[i, U_AXES[p]], r)
            v, fv, slope_v = _cell(unit[i, V_AXES[p]], r)
            w11 = fu * fv
            w10 = fv - w11
            w01 = fu - w11
            w00 = np.float32(1) - fu - w10
            start = (i * num_levels + level) * channels
            first = np.uint64(start * 3 + ((p + 1) % 3) * channels)
            second = np.uint64(start * 3 + ((p + 2) % 3) * channels)
            for c in range(one):
                row[c] = v_features[np.uint64(start) + c] * samples[first + c] * samples[second + c]
            o00 = np.uint64(((p * r + v) * r + u) * channels)
            o10 = o00 + np.uint64(r * channels)
            for c in range(one):
                v_plane[o00 + c] += w00 * row[c]
                v_plane[o00 + one + c] += w01 * row[c]
            for c in range(one):
                v_plane[o10 + c] += w10 * row[c]
                v_plane[o10 + one + c] += w11 * row[c]
            if v_unit.size:
                along_u = np.float32(0)
                along_v = np.float32(0)
                for c in range(one):
                    s00 = plane[o00 + c]
                    s01 = plane[o00 + one + c]
                    s10 = plane[o10 + c]
                    s11 = plane[o10 + one + c]
                    twist = s00 - s01 - s10 + s11
                    along_u += row[c] * (s01 - s00 + fv * twist)
                    along_v += row[c] * (s10 - s00 + fu * twist)
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
