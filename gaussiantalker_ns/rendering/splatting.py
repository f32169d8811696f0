"""From Gaussians before activation to pictures of colour, depth or any per-Gaussian values."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gaussiantalker_ns.gaussians.gaussians import Gaussians
from gaussiantalker_ns.gaussians.raster_scene import MIN_ALPHA
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


MARGIN_FRACTION = 0.03
"""Room for the deformation, in units of the picture's height."""

EXTENT_SIGMAS = 3.0


class HeadExtent:
    """The canonical head as a cloud of balls, of which pictures show the outline."""

    def __init__(self, gaussians: Gaussians) -> None:
        """Pick the Gaussians that can be seen; the boxes are found where their tensors are."""
        visible = gaussians.opacities > MIN_ALPHA
        self._means = gaussians.means[visible]
        self._radii = gaussians.scales[visible].amax(-1) * EXTENT_SIGMAS

    def box(self, views: Views) -> tuple[int, int, int, int]:
        """Return x0, y0, x1, y1 (ends exclusive) around the head in all views together.

        The box lies inside the picture and is never empty.
        """
        camera = torch.einsum("bij,nj->bni", views.T_camera_head[:, :3, :3], self._means)
        camera = camera + views.T_camera_head[:, None, :3, 3]
        depth = camera[..., 2].clamp_min(1e-3)
        focal = views.Ks[:, 0, 0, None]
        margin = MARGIN_FRACTION * views.height
        reach = focal * self._radii / depth + margin
        ends = []
        for axis in (0, 1):
            centre = focal * camera[..., axis] / depth + views.Ks[:, axis, 2, None]
            ends += [(centre - reach).amin(), (centre + reach).amax()]
        left, right, top, bottom = torch.stack(ends).tolist()
        x0, x1 = _within(left, right, views.width)
        y0, y1 = _within(top, bottom, views.height)
        return x0, y0, x1, y1


def _within(low: float, high: float, length: int) -> tuple[int, int]:
    """Whole pixels of a range inside a side of the picture, at least one."""
    first = min(max(int(low), 0), length - 1)
    return first, max(min(int(high) + 1, length), first + 1)


def head_box(gaussians: Gaussians, views: Views) -> tuple[int, int, int, int]:
    """The box around the canonical head in all views together, see `HeadExtent.box`."""
    return HeadExtent(gaussians).box(views)


def crop_views(views: Views, box: tuple[int, int, int, int]) -> Views:
    """Cameras that see only the box."""
    x0, y0, x1, y1 = box
    Ks: Float[Tensor, "b 3 3"] = views.Ks.clone()
    Ks[:, 0, 2] -= x0
    Ks[:, 1, 2] -= y0
    return Views(views.T_camera_head, Ks, x1 - x0, y1 - y0)
