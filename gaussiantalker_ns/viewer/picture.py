"""Finished pictures: deformed Gaussians inside the head's box, over the background.

At the default camera, with the settings of `gaussiantalker drive`, it is the frame that `drive`
would write.
"""

import math

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gaussiantalker_ns.frame_signals import FrameCondition
from gaussiantalker_ns.gaussians.gaussians import Gaussians
from gaussiantalker_ns.model import GaussianTalkerModel
from gaussiantalker_ns.model_outputs import inside_crop
from gaussiantalker_ns.rendering.compositing import composite_uint8, to_bytes
from gaussiantalker_ns.rendering.splatting import (
    RenderedHead,
    Views,
    crop_views,
    head_box,
    splat_values,
)
from gaussiantalker_ns.viewer.camera import CameraOffset

OVERLAY_OPACITY = 0.7
"""How much of the head the colours of the attention cover."""

COLOR_MAP = "inferno"
"""Colours of the attention, from matplotlib."""


class AttentionColors:
    """Colours for the attention of the Gaussians to a token; the scale stays while frames go by."""

    def __init__(self) -> None:
        self._token: str | None = None
        self.limits = (0.0, 1.0)
        """Fractions of the attention at the ends of the colour scale."""

    def colors(self, token: str, weights: Float[Tensor, "1 n"]) -> Float[Tensor, "1 n 3"]:
        """Colours of all Gaussians; the first frame of a token sets the scale."""
        if token != self._token:
            low, high = (float(weights.quantile(fraction)) for fraction in (0.02, 0.98))
            self._token, self.limits = token, (low, max(high, low + 1e-6))
        low, high = self.limits
        fractions = ((weights - low) / (high - low)).clamp(0, 1).cpu().numpy()
        colors = matplotlib.colormaps[COLOR_MAP](fractions)[..., :3].astype(np.float32)
        return torch.from_numpy(colors).to(weights)

    def forget(self) -> None:
        """Let the next frame set a new scale."""
        self._token = None


@torch.no_grad()
def composed_picture(
    model: GaussianTalkerModel,
    frame: int,
    pose: Float[Tensor, "4 4"],
    camera_offset: CameraOffset,
    attention: str | None,
    colors: AttentionColors,
    max_size: int,
) -> UInt8[np.ndarray, "h wd 3"]:
    """Render one frame of a model that is `applied`.

    Args:
        model: The model, not in training.
        frame: The model's number of the frame.
        pose: The head's pose before the clip's camera.
        camera_offset: Where the viewer's camera is.
        attention: Token whose attention is laid over the head.
        colors: Colour scale of the attention.
        max_size: Largest side of the picture in pixels.
    """
    views = square_view(model, pose, camera_offset, max_size)
    frames = torch.tensor([frame], device=model.device)
    condition = model.bank.condition(frames, views.T_camera_head)
    box = head_box(model.canonical_gaussians(), views)
    gaussians = inside_crop(model, model.deformed_gaussians(condition))
    cropped = crop_views(views, box)
    head = model.splat(gaussians, cropped)
    rgb = head.rgb
    if attention is not None:
        rgb = overlaid(model, condition, gaussians, cropped, head, attention, colors)
    source = int(model.bank.track_frames(frames))
    own_pose = model.bank.poses[source].cpu()
    behind_head = model.background.picture(
        source, own_pose, on_cpu(views), 0, static_background=model.bank.driven
    )
    picture = behind_head.numpy().copy()
    x0, y0, x1, y1 = box
    part = torch.from_numpy(picture[y0:y1, x0:x1])
    picture[y0:y1, x0:x1] = composite_uint8(rgb[0].cpu(), head.alpha[0].cpu(), part).numpy()
    if model.background.mode == "paste-back":
        rendered = torch.from_numpy(picture).float() / 255.0
        blended = model.background.blended(rendered, source, own_pose, on_cpu(views), 0)
        picture = to_bytes(blended).numpy()
    return picture


def overlaid(
    model: GaussianTalkerModel,
    condition: FrameCondition,
    gaussians: Gaussians,
    views: Views,
    head: RenderedHead,
    token: str,
    colors: AttentionColors,
) -> Float[Tensor, "1 h wd 3"]:
    """The head with the attention to one token over it (the paper's Fig. 4), premultiplied."""
    weights = model.head.attention_maps(model.cached_canonical()[0], condition)[token]
    values = colors.colors(token, weights)
    values = values if gaussians.means.ndim == 3 else values[0]
    shown = splat_values(gaussians, values, views, model.config.rasterizer).rgb
    return (1.0 - OVERLAY_OPACITY) * head.rgb + OVERLAY_OPACITY * shown


def square_view(
    model: GaussianTalkerModel,
    pose: Float[Tensor, "4 4"],
    camera_offset: CameraOffset,
    max_size: int,
) -> Views:
    """The clip's camera, moved and zoomed as the viewer has moved and zoomed his own."""
    trained = model.background
    size = trained.layers.size
    shown = min(size, max(max_size - max_size % 2, 16))
    K = trained.K.clone()
    K[:2] *= shown / size
    clip_fov = 2.0 * math.atan(shown / 2.0 / float(K[1, 1]))
    zoom = math.tan(clip_fov / 2.0) / math.tan(camera_offset.fov / 2.0)
    if abs(zoom - 1.0) > 1e-3:
        K[0, 0] *= zoom
        K[1, 1] *= zoom
    view = camera_offset.view(pose)
    return Views(view[None].to(model.device), K[None].to(model.device), shown, shown)


def on_cpu(views: Views) -> Views:
    """The same views in main memory, where pictures are put together."""
    return Views(views.T_camera_head.cpu(), views.Ks.cpu(), views.width, views.height)
