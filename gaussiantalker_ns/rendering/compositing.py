"""Laying the rendered head over its background: background and torso layer, or the source frame.

The head is rendered as premultiplied colour and alpha, so that `alpha_composite` is all the
training needs. For pictures outside the training the background is assembled here: the paper lays
the head over the torso layer of the same frame; a camera that is not the frame's own (viewer,
camera paths) sees that layer as a card through the head's centre, shifted and scaled with the head.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

IDENTITY_TOLERANCE_PX = 0.05
"""Shifts and stretches below this leave the layer as it is: less than interpolation would blur."""

BORDER_SIGMA_PER_PX = 0.012
"""Softness of a pasted head's border, in units of the picture's height."""


@dataclass(frozen=True)
class PinholeView:
    """Where the centre of the head stands in a picture, and how large it is there."""

    centre_x: float
    """Horizontal pixel position of the head's origin."""
    centre_y: float
    """Vertical pixel position of the head's origin."""
    pixels_per_unit: float
    """Pixels that one scene unit at the head's depth covers."""
    width: int
    """Width of the picture in pixels."""
    height: int
    """Height of the picture in pixels."""


def pinhole_view(
    T_camera_head: Float[Tensor, "4 4"], K: Float[Tensor, "3 3"], width: int, height: int
) -> PinholeView:
    """Project the head's origin.

    Example: a head 2 units before a camera of focal length 100 shows 50 pixels per unit.
    """
    x, y, z = (float(value) for value in T_camera_head[:3, 3])
    depth = max(z, 1e-3)
    focal = float(K[0, 0])
    centre_x, centre_y = float(K[0, 2]) + focal * x / depth, float(K[1, 2]) + focal * y / depth
    return PinholeView(centre_x, centre_y, focal / depth, width, height)


def alpha_composite(
    head: Float[Tensor, "*shape 3"],
    alpha: Float[Tensor, "*shape 1"],
    background: Float[Tensor, "*shape 3"],
) -> Float[Tensor, "*shape 3"]:
    """Lay a premultiplied head over a background. Colour .4 with alpha .5 over white gives .9."""
    return head + (1.0 - alpha) * background


def composite_uint8(
    head: Float[Tensor, "*shape 3"],
    alpha: Float[Tensor, "*shape 1"],
    background: UInt8[Tensor, "*shape 3"],
) -> UInt8[Tensor, "*shape 3"]:
    """The same on bytes: a premultiplied head in [0, 1] over a part of a finished picture."""
    return to_bytes(alpha_composite(head, alpha, background.to(head) / 255.0))


def to_bytes(picture: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Round a picture in [0, 1] to bytes; what lies outside is clipped."""
    return (picture.clamp(0, 1) * 255.0 + 0.5).byte()


def resize_to_cover(
    image: UInt8[np.ndarray, "_ _ 3"], width: int, height: int
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Scale a picture until it covers the wanted size and cut off what stands over."""
    image_height, image_width = image.shape[:2]
    if (image_width, image_height) == (width, height):
        return image
    scale = max(width / image_width, height / image_height)
    size = (max(width, round(image_width * scale)), max(height, round(image_height * scale)))
    scaled = cv2.resize(
        image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return np.ascontiguousarray(scaled[top : top + height, left : left + width])


def is_same_view(frame: PinholeView, view: PinholeView) -> bool:
    """Whether a layer of the frame can be used in the other picture without moving it."""
    if (frame.width, frame.height) != (view.width, view.height):
        return False
    stretch = abs(view.pixels_per_unit / frame.pixels_per_unit - 1) * max(frame.width, frame.height)
    shift = max(abs(view.centre_x - frame.centre_x), abs(view.centre_y - frame.centre_y))
    return max(stretch, shift) < IDENTITY_TOLERANCE_PX


def place_layer(
    layer: UInt8[np.ndarray, "h wd 4"],
    background: UInt8[np.ndarray, "h wd 3"],
    frame: PinholeView,
    view: PinholeView,
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Lay a frame's torso (RGB with straight alpha) over the background, as another camera sees it.

    Args:
        layer: The torso layer in the frame's own picture.
        background: The empty background, stretched to cover the other picture.
        frame: The frame's own view of the head.
        view: The other camera's view of the head.
    """
    scale = view.pixels_per_unit / frame.pixels_per_unit
    affine = np.array(
        [
            [scale, 0.0, view.centre_x - scale * frame.centre_x],
            [0.0, scale, view.centre_y - scale * frame.centre_y],
        ]
    )
    premultiplied = layer.astype(np.float32) / 255.0
    premultiplied[..., :3] *= premultiplied[..., 3:]
    moved = cv2.warpAffine(premultiplied, affine, (view.width, view.height), flags=cv2.INTER_LINEAR)
    behind = resize_to_cover(background, view.width, view.height).astype(np.float32) / 255.0
    picture = moved[..., :3] + (1.0 - moved[..., 3:]) * behind
    return np.clip(picture * 255.0 + 0.5, 0, 255).astype(np.uint8)


def blend_into_source(
    rendered: Float[Tensor, "h wd 3"], source: Float[Tensor, "h wd 3"], mask: Float[Tensor, "h wd"]
) -> Float[Tensor, "h wd 3"]:
    """Blend the rendered head into the source frame along the soft border of the head mask."""
    height = rendered.shape[0]
    sigma = max(BORDER_SIGMA_PER_PX * height, 0.5)
    soft = cv2.GaussianBlur(mask.detach().cpu().numpy(), (0, 0), sigma)
    # The blur is steepened so that the inside of the mask stays rendered up to its border.
    weight = torch.from_numpy(np.clip(soft * 2.0, 0.0, 1.0)).to(rendered)[..., None]
    return weight * rendered + (1.0 - weight) * source
