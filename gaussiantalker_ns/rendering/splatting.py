"""From Gaussians before activation to pictures of colour, depth or any per-Gaussian values."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gaussiantalker_ns.conditions import Gaussians
from gaussiantalker_ns.rendering.rasterize import Backend, rasterize


@dataclass(frozen=True)
class Views:
    """OpenCV cameras of b pictures of one size."""

    T_camera_head: Float[Tensor, "b 4 4"]
    """Head poses in scene units; the rasterizer's view matrices."""
    Ks: Float[Tensor, "b 3 3"]
    """Intrinsics in pixels."""
    width: int
    """Width of the pictures."""
    height: int
    """Height of the pictures."""


@dataclass(frozen=True)
class RenderedHead:
    """The head in b pictures, with nothing behind it."""

    rgb: Float[Tensor, "b h wd c"]
    """Premultiplied colour, or other per-Gaussian values."""
    alpha: Float[Tensor, "b h wd 1"]
    """Coverage in [0, 1]."""
    info: dict[str, Any]
    """What the rasterizer reports: screen positions, radii."""


def splat_colors(
    gaussians: Gaussians, views: Views, sh_degree: int, backend: Backend, absgrad: bool = False
) -> RenderedHead:
    """Render colours from the spherical harmonics.

    Args:
        gaussians: Canonical Gaussians (the same in every view) or one set per view.
        views: Cameras.
        sh_degree: Degree in use; higher coefficients are ignored.
        backend: Rasterizer.
        absgrad: Also gather absolute screen gradients, which the densification reads.
    """
    bases = (sh_degree + 1) ** 2
    colors, alphas, info = rasterize(
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        gaussians.sh[..., :bases, :],
        views.T_camera_head,
        views.Ks,
        views.width,
        views.height,
        sh_degree=sh_degree,
        absgrad=absgrad,
        backend=backend,
    )
    return RenderedHead(colors, alphas, info)


def splat_values(
    gaussians: Gaussians, values: Float[Tensor, "*b n c"], views: Views, backend: Backend
) -> RenderedHead:
    """Render any per-Gaussian values in place of colours."""
    colors, alphas, info = rasterize(
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        values,
        views.T_camera_head,
        views.Ks,
        views.width,
        views.height,
        backend=backend,
    )
    return RenderedHead(colors, alphas, info)


def splat_depth(gaussians: Gaussians, views: Views, backend: Backend) -> Float[Tensor, "b h wd 1"]:
    """Render the mean distance along the viewing axis; empty pixels get the farthest distance."""
    depths, alphas, _ = rasterize(
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        gaussians.sh[..., 0, :],
        views.T_camera_head,
        views.Ks,
        views.width,
        views.height,
        render_mode="ED",
        backend=backend,
    )
    return torch.where(alphas > 1e-3, depths, depths.amax())
