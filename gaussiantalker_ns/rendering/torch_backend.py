"""The torch backend: the rasterizer written out densely, with which the fast backends must agree.

Every Gaussian meets every pixel, in any floating-point type and on any device; meant for a few
hundred Gaussians, for tests and for reading. Autograd gives all gradients.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int32
from torch import Tensor

from gaussiantalker_ns.gaussians.raster_scene import (
    MAX_SIGMAS,
    MIN_ALPHA,
    MIN_TRANSMITTANCE,
    RasterSettings,
    Scene,
)


@torch.no_grad()
def visible_radii(
    means2d: Float[Tensor, "b n 2"],
    variances: Float[Tensor, "b n 2"],
    opacities: Float[Tensor, "_ n"],
    drawable: Bool[Tensor, "b n"],
    settings: RasterSettings,
) -> Int32[Tensor, "b n 2"]:
    """Half extents of the ellipses where alpha is at least 1/255, in whole pixels.

    Args:
        means2d: Centres in pixels.
        variances: Along x and y, in square pixels.
        opacities: Opacities, shared by the cameras or not.
        drawable: Which Gaussians can be drawn at all; the others' values are not looked at.
        settings: Size of the pictures, and the smallest extent that is drawn.

    Returns:
        Zero where nothing is to be drawn: what is too faint, too small or beside the picture.
    """
    extent = (2 * (opacities.clamp_min(MIN_ALPHA) / MIN_ALPHA).log()).sqrt().clamp_max(MAX_SIGMAS)
    radii = (extent[..., None] * variances.sqrt()).ceil().clamp_max(1e9)
    low, high = means2d - radii, means2d + radii
    inside = (high > 0).all(-1) & (low[..., 0] < settings.width) & (low[..., 1] < settings.height)
    large = (radii > settings.radius_clip).any(-1)
    drawn = drawable & (opacities >= MIN_ALPHA) & inside & large
    return torch.where(drawn[..., None], radii, 0.0).to(torch.int32)


def rotation_matrices(quats: Float[Tensor, "*shape 4"]) -> Float[Tensor, "*shape 3 3"]:
    """Rotation matrices of quaternions wxyz of any length but zero.

    Example: (2, 0, 0, 0) gives the identity.
    """
    w, x, y, z = F.normalize(quats, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _clamped_slope(
    distance: Tensor, depth: Tensor, focal: Tensor, centre: Tensor, size: int
) -> Tensor:
    """x / z, kept within the picture and 15 % around it, as the Jacobian sees it."""
    margin = 0.15 * size / focal
    low, high = -(centre / focal + margin), (size - centre) / focal + margin
    return torch.minimum(torch.maximum(distance / depth, low[:, None]), high[:, None])


def project(scene: Scene, settings: RasterSettings) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Project the Gaussians into every camera.

    Returns:
        means2d [b, n, 2], depths [b, n], radii int32 [b, n, 2] with zeros where a Gaussian is not
        drawn, conics [b, n, 3] (upper triangle of the inverse covariance).
    """
    V, t = scene.viewmats[:, :3, :3], scene.viewmats[:, :3, 3]
    fx, fy, cx, cy = (scene.Ks[:, i, j] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    x, y, z = (scene.means @ V.mT + t[:, None]).unbind(-1)
    in_front = (z >= settings.near_plane) & (z <= settings.far_plane) & (z > 0)
    # A depth of 1 for what is not drawn keeps its zero gradients from becoming NaN.
    depth = torch.where(in_front, z, torch.ones_like(z))
    slope_x = _clamped_slope(x, depth, fx, cx, settings.width)
    slope_y = _clamped_slope(y, depth, fy, cy, settings.height)
    zero = torch.zeros_like(depth)
    J = torch.stack(
        [
            torch.stack([fx[:, None] / depth, zero, -fx[:, None] * slope_x / depth], -1),
            torch.stack([zero, fy[:, None] / depth, -fy[:, None] * slope_y / depth], -1),
        ],
        -2,
    )
    axes = rotation_matrices(scene.quats) * scene.scales[..., None, :]
    Q = J @ V[:, None] @ axes
    covariance = Q @ Q.mT + settings.eps2d * torch.eye(2).to(Q)
    xx, xy, yy = covariance[..., 0, 0], covariance[..., 0, 1], covariance[..., 1, 1]
    det = xx * yy - xy * xy
    conics = torch.stack([yy, -xy, xx], -1) / det[..., None]
    means2d = torch.stack(
        [fx[:, None] * x / depth + cx[:, None], fy[:, None] * y / depth + cy[:, None]], -1
    )
    variances = torch.stack([xx, yy], -1)
    radii = visible_radii(means2d, variances, scene.opacities, in_front & (det > 0), settings)
    return means2d, z, radii, conics


def _composite_one(
    means2d: Tensor,
    depths: Tensor,
    conics: Tensor,
    visible: Tensor,
    opacities: Tensor,
    colors: Tensor,
    background: Tensor,
    absgrad: Tensor | None,
    settings: RasterSettings,
) -> tuple[Tensor, Tensor]:
    """Composite one camera; returns the picture [h, wd, D] and its alpha [h, wd].

    The backward pass adds to `absgrad` the absolute gradients of the positions, summed over pixels.
    """
    order = torch.argsort(depths.detach(), stable=True)
    order = order[visible[order]]
    rows, columns = torch.meshgrid(
        torch.arange(settings.height), torch.arange(settings.width), indexing="ij"
    )
    pixels = torch.stack([columns, rows], -1).reshape(-1, 2).to(means2d) + 0.5
    centres = means2d[order][:, None].expand(-1, pixels.shape[0], -1)
    if absgrad is not None and centres.requires_grad:

        def add_absolutes(gradient: Tensor) -> None:
            absgrad.index_add_(0, order, gradient.abs().sum(1))

        centres.register_hook(add_absolutes)
    dx, dy = (centres - pixels).unbind(-1)
    A, B, C = conics[order][..., None].unbind(1)
    sigma = 0.5 * (A * dx * dx + C * dy * dy) + B * dx * dy
    alpha = (opacities[order][:, None] * torch.exp(-sigma)).clamp_max(settings.max_alpha)
    alpha = torch.where(alpha >= MIN_ALPHA, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha, 0)
    before = torch.cat([torch.ones_like(after[:1]), after[:-1]])
    active = after > MIN_TRANSMITTANCE
    weights = alpha * before * active
    rest = torch.where(active, 1 - alpha, torch.ones_like(alpha)).prod(0)
    picture = weights.T @ colors[order] + rest[:, None] * background
    shape = (settings.height, settings.width)
    return picture.reshape(*shape, -1), (1 - rest).reshape(shape)


def composite_splats(
    scene: Scene,
    projected: tuple[Tensor, Tensor, Tensor, Tensor],
    colors: Tensor,
    backgrounds: Tensor,
    settings: RasterSettings,
) -> tuple[Tensor, Tensor]:
    """Composite projected Gaussians: pictures [b, h, wd, D] and alphas [b, h, wd]."""
    means2d, depths, radii, conics = projected
    opacities = scene.opacities.expand(depths.shape)
    absgrad = torch.zeros_like(means2d, requires_grad=False) if settings.absgrad else None
    if absgrad is not None:
        means2d.absgrad = absgrad  # pyright: ignore[reportAttributeAccessIssue]
    results = [
        _composite_one(
            means2d[i],
            depths[i],
            conics[i],
            radii[i, :, 0] > 0,
            opacities[i],
            colors[i],
            backgrounds[i],
            None if absgrad is None else absgrad[i],
            settings,
        )  # fmt: skip
        for i in range(depths.shape[0])
    ]
    pictures, alphas = zip(*results)
    return torch.stack(pictures), torch.stack(alphas)
