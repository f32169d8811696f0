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
        margin = MARGIN_SHARE * views.height
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
