"""The part of a picture that the head covers, so that no pixel is rendered for nothing."""

import torch
from jaxtyping import Float
from torch import Tensor

from gaussiantalker_ns.conditions import Gaussians
from gaussiantalker_ns.rendering.scene import MIN_ALPHA
from gaussiantalker_ns.rendering.splatting import Views

MARGIN_SHARE = 0.03
"""Room for the deformation, in units of the picture's height."""

EXTENT_SIGMAS = 3.0


def head_box(gaussians: Gaussians, views: Views) -> tuple[int, int, int, int]:
    """Return x0, y0, x1, y1 (ends exclusive) around the canonical head in all views together.

    The box lies inside the picture and is never empty.
    """
    visible = gaussians.opacities > MIN_ALPHA
    means, radii = gaussians.means[visible], gaussians.scales[visible].amax(-1) * EXTENT_SIGMAS
    camera = torch.einsum("bij,nj->bni", views.T_camera_head[:, :3, :3], means)
    camera = camera + views.T_camera_head[:, None, :3, 3]
    depth = camera[..., 2].clamp_min(1e-3)
    focal = views.Ks[:, 0, 0, None]
    margin = MARGIN_SHARE * views.height
    sides: list[tuple[int, int]] = []
    for axis, length in ((0, views.width), (1, views.height)):
        centre = focal * camera[..., axis] / depth + views.Ks[:, axis, 2, None]
        reach = focal * radii / depth + margin
        low, high = float((centre - reach).amin()), float((centre + reach).amax())
        first = min(max(int(low), 0), length - 1)
        sides.append((first, max(min(int(high) + 1, length), first + 1)))
    (x0, x1), (y0, y1) = sides
    return x0, y0, x1, y1


def crop_views(views: Views, box: tuple[int, int, int, int]) -> Views:
    """Cameras that see only the box."""
    x0, y0, x1, y1 = box
    Ks: Float[Tensor, "b 3 3"] = views.Ks.clone()
    Ks[:, 0, 2] -= x0
    Ks[:, 1, 2] -= y0
    return Views(views.T_camera_head, Ks, x1 - x0, y1 - y0)
