"""Orientation of stored pictures: the turns and flips of the container's display matrix."""

from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from jaxtyping import UInt8

ROW_LENGTH = 3
"""Display matrices are rows a b u, c d v, x y w: a stored pixel (x, y) is seen at
(a x + c y, b x + d y), y pointing down."""


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to lay a picture on a grid of pixels."""

    transposed: bool = False
    """Rows become columns; comes before the flips."""
    flipped_x: bool = False
    """Left and right change places."""
    flipped_y: bool = False
    """Top and bottom change places."""

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the upright picture. Example: transposed, (128, 96) -> (96, 128)."""
        return (height, width) if self.transposed else (width, height)

    def upright(self, image: UInt8[np.ndarray, "h wd 3"]) -> UInt8[np.ndarray, "h2 wd2 3"]:
        """The picture as it is meant to be seen."""
        if self.transposed:
            image = image.swapaxes(0, 1)
        if self.flipped_x:
            image = image[:, ::-1]
        if self.flipped_y:
            image = image[::-1]
        return np.ascontiguousarray(image)


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """How a decoded picture must be laid, by its display matrix; as stored where it has none.

    Turns that are no multiples of 90 degrees go to the nearest one.
    """
    side_data: Any = frame.side_data
    for data in side_data:
        if data.type.name == "DISPLAYMATRIX":
            matrix = np.frombuffer(bytes(data), np.int32)[: 2 * ROW_LENGTH].astype(np.int64)
            (a, b), (c, d) = matrix[:2], matrix[ROW_LENGTH : ROW_LENGTH + 2]
            if abs(b) + abs(c) > abs(a) + abs(d):
                return Orientation(True, flipped_x=bool(c < 0), flipped_y=bool(b < 0))
            return Orientation(False, flipped_x=bool(a < 0), flipped_y=bool(d < 0))
    return Orientation()
