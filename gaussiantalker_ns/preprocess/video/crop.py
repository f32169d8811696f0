"""The square part of the picture that becomes the data set: around the head, fixed over a take."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

HEAD_MARGIN = 1.9
"""Side of the square over the height of the face (forehead to chin), for a head that is still."""
FACE_CENTER_HEIGHT = 0.48
"""Where the middle of the face lies in the square, from the top."""
WHOLE_FRACTION = 0.85
"""A square that needs this much of the picture's shorter side takes all of it, unscaled."""
MIN_SIDE = 64
TRIMMED_PERCENT = 1.0


@dataclass(frozen=True)
class SquareCrop:
    """A square of the upright picture in pixels."""

    x: int
    """Left edge."""
    y: int
    """Upper edge."""
    side: int

    def apply(self, image: UInt8[np.ndarray, "h wd 3"]) -> UInt8[np.ndarray, "side side 3"]:
        """Cut the square out of a picture."""
        return image[self.y : self.y + self.side, self.x : self.x + self.side]


def crop_around(
    boxes: Sequence[Float32[np.ndarray, " 4"]], width: int, height: int, size: int
) -> SquareCrop:
    """Find the square that holds the head in all frames.

    It is never smaller than the pictures that are made of it, if the source allows: enlarging adds
    no detail, and more of the shoulders is better than that.

    Args:
        boxes: Face boxes x0, y0, x1, y1 in some of the frames.
        width: Width of the picture.
        height: Height of the picture.
        size: Side of the pictures that are made of the square.
    """
    faces = np.stack(boxes).astype(np.float64)
    centers = (faces[:, :2] + faces[:, 2:]) / 2
    face_height = float(np.percentile(faces[:, 3] - faces[:, 1], 90))
    low, high = np.percentile(centers, [TRIMMED_PERCENT, 100 - TRIMMED_PERCENT], axis=0)
    side = HEAD_MARGIN * face_height + float((high - low).max())
    shorter = min(width, height)
    side = shorter if side > WHOLE_FRACTION * shorter else round(side)
    side = min(max(side, size), shorter)
    middle = (low + high) / 2
    x = int(np.clip(round(middle[0] - side / 2), 0, width - side))
    y = int(np.clip(round(middle[1] - FACE_CENTER_HEIGHT * side), 0, height - side))
    return SquareCrop(x, y, side)


def parse_crop(text: str, width: int, height: int) -> SquareCrop | None:
    """Read `--crop`: "auto" -> None, "none" -> the whole picture, "x,y,size" -> that square.

    Raises:
        ValueError: neither of these, outside the picture, or "none" for a picture that is not
            square.
    """
    if text == "auto":
        return None
    if text == "none":
        if width != height:
            raise ValueError(
                f"The picture has {width}x{height} pixels and --crop none keeps all of it; "
                "expected a square picture. Use --crop auto or --crop x,y,size."
            )
        return SquareCrop(0, 0, width)
    try:
        x, y, side = (int(number) for number in text.split(","))
    except ValueError:
        raise ValueError(
            f"--crop is '{text}'; expected 'auto', 'none' or three whole numbers 'x,y,size' in "
            "pixels of the upright picture."
        ) from None
    if x < 0 or y < 0 or side < MIN_SIDE or x + side > width or y + side > height:
        raise ValueError(
            f"--crop {text} does not lie in the picture of {width}x{height} pixels; expected a "
            f"square of at least {MIN_SIDE} pixels inside it."
        )
    return SquareCrop(x, y, side)
