"""The GPU backend: gsplat's CUDA kernels, put together for frames with their own Gaussians.

gsplat's `rasterization` gives all cameras the same Gaussians. Here each frame has deformed ones, so
each is projected by itself; the stacked results are composited in one call. gsplat up to 1.4 cuts
splats at three standard deviations by a square; as in 1.5, the extent here is that of the visible
ellipse, which is smaller for faint splats and never cuts off a visible alpha.

The module gets `gsplat` handed in: `rasterize.py` alone imports it.
"""

import math
from typing import Any

import torch
from torch import Tensor

from gaussiantalker_ns.rendering.scene import MAX_SIGMAS, MIN_ALPHA, RasterSettings, Scene

TILE_SIZE = 16
"""Edge of gsplat's tiles in pixels."""


def project(
    gsplat: Any, scene: Scene, settings: RasterSettings
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Project the Gaussians: means2d [b, n, 2], depths [b, n], gsplat's radii, conics [b, n, 3].

    `means2d` is a leaf of the compositing, and so carries the gradient that densification reads.
    """
    num_cameras = scene.viewmats.shape[0]
    num_scenes = max(x.shape[0] for x in (scene.means, scene.quats, scene.scales))
    # Cameras that share their Gaussians are projected in one call.
    groups = [slice(None)] if num_scenes == 1 else [slice(i, i + 1) for i in range(num_cameras)]
    # `unbind` has one gradient; single indices would fill and add up a whole batch for each camera.
    tensors = [
        x.unbind() * (len(groups) if len(x) == 1 else 1)
        for x in (scene.means, scene.quats, scene.scales)
    ]
    projected = []
    for group, means, quats, scales in zip(groups, *tensors):
        projected.append(
            gsplat.fully_fused_projection(
                means, None, quats, scales, scene.viewmats[group], scene.Ks[group],
                settings.width, settings.height,
                eps2d=settings.eps2d, near_plane=settings.near_plane,
                far_plane=settings.far_plane, radius_clip=settings.radius_clip,
                packed=False,
            )[:4]
        )  # fmt: skip
    if len(projected) == 1:
        radii, means2d, depths, conics = projected[0]
    else:
        radii, means2d, depths, conics = (torch.cat(parts) for parts in zip(*projected))
    return means2d, depths, _visible_radii(radii, conics, scene.opacities), conics


@torch.no_grad()
def _visible_radii(radii: Tensor, conics: Tensor, opacities: Tensor) -> Tensor:
    """Radii of the ellipses where alpha is at least 1/255; gsplat 1.5 gives them itself."""
    if radii.dim() == 3:
        return radii
    A, B, C = conics.unbind(-1)
    det = A * C - B * B
    middle = 0.5 * (A + C)
    largest = (middle + (middle * middle - det).clamp_min(0).sqrt()) / det
    extent = (2 * (opacities.clamp_min(MIN_ALPHA) / MIN_ALPHA).log()).sqrt().clamp_max(MAX_SIGMAS)
    exact = (extent * largest.sqrt()).ceil().clamp(0, 1e9).to(radii.dtype)
    return torch.where((radii > 0) & (opacities >= MIN_ALPHA), exact, 0)


def composite_splats(
    gsplat: Any,
    scene: Scene,
    projected: tuple[Tensor, Tensor, Tensor, Tensor],
    colors: Tensor,
    backgrounds: Tensor,
    settings: RasterSettings,
) -> tuple[Tensor, Tensor]:
    """Composite projected Gaussians: pictures [b, h, wd, D] and alphas [b, h, wd]."""
    means2d, depths, radii, conics = projected
    columns, rows = (math.ceil(x / TILE_SIZE) for x in (settings.width, settings.height))
    _, isect_ids, flatten_ids = gsplat.isect_tiles(
        means2d, radii, depths, TILE_SIZE, columns, rows, packed=False
    )
    offsets = gsplat.isect_offset_encode(isect_ids, means2d.shape[0], columns, rows)
    pictures, alphas = gsplat.rasterize_to_pixels(
        means2d, conics, colors, scene.opacities.expand(depths.shape), settings.width,
        settings.height, TILE_SIZE, offsets, flatten_ids,
        backgrounds=backgrounds, packed=False, absgrad=settings.absgrad,
    )  # fmt: skip
    return pictures, alphas[..., 0]
