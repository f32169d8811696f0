"""The GPU backend: gsplat's CUDA kernels, put together for frames with their own Gaussians.

gsplat's `rasterization` gives all cameras the same Gaussians. Here each frame has deformed ones:
they are turned into their camera's space in torch and projected by one call for all frames. The
extents are those of the visible ellipses, as in the other backends, and not those that gsplat's
projection reports: it cuts every splat at 3 (from 1.5 on 3.33) standard deviations, however faint.

The module gets `gsplat` handed in: `rasterize.py` alone imports it.
"""

import functools
import importlib.metadata
import math
import re
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gaussiantalker_ns.gaussians.raster_scene import RasterSettings, Scene
from gaussiantalker_ns.rendering.spherical_harmonics import check_coefficients
from gaussiantalker_ns.rendering.torch_backend import visible_radii

TILE_SIZE = 16
"""Edge of gsplat's tiles in pixels."""

Projected = tuple[Tensor, Tensor, Tensor, Tensor]
"""means2d [b, n, 2], depths [b, n], radii int32 [b, n, 2], conics [b, n, 3]."""


@functools.cache
def gsplat_version() -> tuple[int, int]:
    """Major and minor version of the installed gsplat; (1, 4), Nerfstudio's pin, without one."""
    try:
        found = importlib.metadata.version("gsplat")
    except importlib.metadata.PackageNotFoundError:
        return 1, 4
    major, minor = re.findall(r"\d+", found)[:2]
    return int(major), int(minor)


def project(gsplat: Any, scene: Scene, settings: RasterSettings) -> Projected:
    """Project the Gaussians: means2d, depths, half extents in pixels (0: not drawn), conics.

    `means2d` is a leaf of the compositing, and so carries the gradient that densification reads.
    """
    shared = max(x.shape[0] for x in (scene.means, scene.quats, scene.scales)) == 1
    make = _project_shared if shared else _project_own
    means2d, depths, conics, drawable = make(gsplat, scene, settings)
    A, B, C = conics.detach().unbind(-1)
    variances = torch.stack([C, A], -1) / (A * C - B * B)[..., None]
    radii = visible_radii(means2d, variances, scene.opacities, drawable, settings)
    return means2d, depths, radii, conics


def _project_shared(gsplat: Any, scene: Scene, settings: RasterSettings) -> Projected:
    """Cameras that share their Gaussians are projected by gsplat's own fused kernel."""
    radii, means2d, depths, conics, *_ = gsplat.fully_fused_projection(
        scene.means[0], None, scene.quats[0], scene.scales[0], scene.viewmats, scene.Ks,
        settings.width, settings.height, eps2d=settings.eps2d, near_plane=settings.near_plane,
        far_plane=settings.far_plane, radius_clip=settings.radius_clip, packed=False,
    )  # fmt: skip
    # gsplat from 1.5 on has two half extents for each.
    return means2d, depths, conics, radii > 0 if radii.dim() == 2 else (radii > 0).all(-1)


def _project_own(gsplat: Any, scene: Scene, settings: RasterSettings) -> Projected:
    """Project the Gaussians of each camera into it, all by one call."""
    R, t = scene.viewmats[:, :3, :3], scene.viewmats[:, :3, 3]
    # Sums and no matrix product: a GPU may be told to round the factors of those to 10 bits.
    camera = (scene.means[:, :, None] * R[:, None]).sum(-1) + t[:, None]
    depths = camera[..., 2]
    in_front = (depths >= settings.near_plane) & (depths <= settings.far_plane) & (depths > 0)
    # Where the others stand does not show, but their zero gradients must not become NaN.
    placed = torch.where(in_front[..., None], camera, 1.0)
    covariances = _camera_covariances(gsplat, scene, R)
    means2d, flat = gsplat.proj(placed, covariances, scene.Ks, settings.width, settings.height)
    xx, xy, yy = flat[..., 0, 0] + settings.eps2d, flat[..., 0, 1], flat[..., 1, 1] + settings.eps2d
    det = xx * yy - xy * xy
    drawable = in_front & (det > 0)
    conics = torch.stack([yy, -xy, xx], -1) / torch.where(drawable, det, 1.0)[..., None]
    return means2d, depths, conics, drawable


def _camera_covariances(
    gsplat: Any, scene: Scene, R: Float[Tensor, "b 3 3"]
) -> Float[Tensor, "b n 3 3"]:
    """Covariances of the Gaussians as their cameras are turned: R C R^T."""
    sets = max(len(scene.quats), len(scene.scales))
    quats, scales = (
        x.expand(sets, *x.shape[1:]).reshape(-1, x.shape[-1]) for x in (scene.quats, scene.scales)
    )
    covariances, _ = gsplat.quat_scale_to_covar_preci(quats, scales, compute_preci=False)
    b, n = len(R), scene.means.shape[1]
    # Row (i, k), column (j, l): R_ij R_kl, so that one product turns a whole frame.
    turn = (R[:, :, None, :, None] * R[:, None, :, None, :]).reshape(b, 9, 9)
    with torch.autocast(R.device.type, enabled=False):
        return (covariances.view(sets, n, 9) @ turn.mT).view(b, n, 3, 3)


def sh_colors(
    gsplat: Any,
    scene: Scene,
    coefficients: Float[Tensor, "_ n s 3"],
    degree: int,
    visible: Bool[Tensor, "b n"],
) -> Float[Tensor, "b n 3"]:
    """Colours of the visible Gaussians as the cameras see them; the others' are left unset."""
    check_coefficients(degree, coefficients)
    R, t = scene.viewmats[:, :3, :3], scene.viewmats[:, :3, 3:]
    centres = -(R * t).sum(1)  # -R^T t
    directions = scene.means - centres[:, None]
    own = coefficients.expand(len(R), *coefficients.shape[1:])
    return (gsplat.spherical_harmonics(degree, directions, own, visible) + 0.5).clamp_min(0.0)


def composite_splats(
    gsplat: Any,
    scene: Scene,
    projected: Projected,
    colors: Tensor,
    backgrounds: Tensor,
    settings: RasterSettings,
) -> tuple[Tensor, Tensor]:
    """Composite projected Gaussians: pictures [b, h, wd, D] and alphas [b, h, wd]."""
    means2d, depths, radii, conics = projected
    columns, rows = (math.ceil(x / TILE_SIZE) for x in (settings.width, settings.height))
    _, isect_ids, flatten_ids = gsplat.isect_tiles(
        means2d, radii if gsplat_version() >= (1, 5) else radii.amax(-1), depths,
        TILE_SIZE, columns, rows, packed=False,
    )  # fmt: skip
    offsets = gsplat.isect_offset_encode(isect_ids, means2d.shape[0], columns, rows)
    pictures, alphas = gsplat.rasterize_to_pixels(
        means2d, conics, colors, scene.opacities.expand(depths.shape), settings.width,
        settings.height, TILE_SIZE, offsets, flatten_ids,
        backgrounds=backgrounds, packed=False, absgrad=settings.absgrad,
    )  # fmt: skip
    return pictures, alphas[..., 0]
