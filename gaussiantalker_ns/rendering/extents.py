"""How far a splat can be seen from its centre."""

import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor

from gaussiantalker_ns.rendering.scene import MAX_SIGMAS, MIN_ALPHA, RasterSettings


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
