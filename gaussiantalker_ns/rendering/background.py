"""Backgrounds of rendered frames that no training batch brings along."""

from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gaussiantalker_ns.rendering.compositing import (
    blend_into_source,
    is_same_view,
    pinhole_view,
    place_layer,
    resize_to_cover,
)
from gaussiantalker_ns.rendering.splatting import Views

TorsoMode = Literal["layer", "gaussians", "paste-back"]
"""layer: the head over the frame's torso layer (the paper); gaussians: Gaussians model neck and
shoulders too, over the background; paste-back: the head is blended into the source frame where the
view is that frame's own, else as layer."""

SAME_POSE = 1e-3
"""Difference of two poses' entries, in radians and scene units, below which they are one; it moves
the skin by a sixth of a pixel in pictures of 512."""

SAME_PIXELS = 0.1
"""The same for intrinsics, in pixels."""


class Background:
    """Backgrounds of frames for any camera."""

    def __init__(self, layers: Any, K: Float[Tensor, "3 3"], mode: TorsoMode) -> None:
        """Remember where the layers come from.

        Args:
            layers: The data parser's lazy reader: `background_behind(frame)`, `composite(frame)`,
                `torso(frame)`, `source(frame)`, `mask(frame)`.
            K: Intrinsics of the clip at the layers' size.
            mode: What the head is laid over.
        """
        self.layers = layers
        # In main memory, where single numbers are read.
        self.K = K.cpu()
        self.mode: TorsoMode = mode

    def picture(
        self,
        track_frame: int,
        own_pose: Float[Tensor, "4 4"],
        views: Views,
        index: int,
        static_background: bool = False,
    ) -> UInt8[Tensor, "h wd 3"]:
        """The picture behind the head.

        Args:
            track_frame: Frame of the clip whose torso is shown.
            own_pose: That frame's own head pose.
            views: The views that are rendered.
            index: Which of them is meant.
            static_background: Show the whole clip's background; the backgrounds of its periods
                would jump where the clip is played in ping-pong.
        """
        layers = self.layers.static if static_background else self.layers
        background = layers.background_behind(track_frame).numpy()
        height, width = background.shape[:2]
        own = pinhole_view(own_pose, self.K, width, height)
        view = pinhole_view(views.T_camera_head[index], views.Ks[index], views.width, views.height)
        if self.mode == "gaussians":
            picture = torch.from_numpy(resize_to_cover(background, view.width, view.height))
        elif is_same_view(own, view):
            picture = layers.composite(track_frame)
        else:
            layer = layers.torso(track_frame).numpy()
            picture = torch.from_numpy(place_layer(layer, background, own, view))
        return picture

    def blended(
        self,
        picture: Float[Tensor, "h wd 3"],
        track_frame: int,
        own_pose: Float[Tensor, "4 4"],
        views: Views,
        index: int,
    ) -> Float[Tensor, "h wd 3"]:
        """Blend a rendered head into the clip's own frame, where it covers the head that is there.

        Args:
            picture: The head over what `picture` gives.
            track_frame: Frame of the clip whose background is shown.
            own_pose: That frame's own head pose.
            views: The views that are rendered.
            index: Which of them is meant; the picture of one that is not the frame's own stays.
        """
        if not self._is_own_view(own_pose, views, index):
            return picture
        source = self.layers.source(track_frame)
        mask = self.layers.mask(track_frame).float() / 255.0
        return blend_into_source(picture, source.to(picture) / 255.0, mask)

    def _is_own_view(self, own_pose: Float[Tensor, "4 4"], views: Views, index: int) -> bool:
        """Whether size, intrinsics and head pose are the frame's own; a turned head is not."""
        if (views.width, views.height) != (self.layers.size, self.layers.size):
            return False
        pose_change = views.T_camera_head[index].cpu() - own_pose.cpu()
        K_change = views.Ks[index].cpu() - self.K.cpu()
        moved = float(pose_change.abs().max()) >= SAME_POSE
        return not moved and float(K_change.abs().max()) < SAME_PIXELS
