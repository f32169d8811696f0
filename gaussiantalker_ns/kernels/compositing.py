"""Painting a rendered head into a finished picture: the torch form is `composite_uint8`.

Every operation rounds as torch's does, so that both give the same bytes. The four passes over one
row are apart, because only the second can be written in vectors of whole pixels.
"""

import numpy as np
from jaxtyping import Float32, UInt8

from gaussiantalker_ns.kernels.compile import jit

F4 = np.float32


@jit
def paint_rows(rgb, alpha, window, below, cover):
    """Lay a premultiplied head over the pixels of a window.

    Args:
        rgb: Colours in [0, 1], float32 [h, wd * 3].
        alpha: Coverage, float32 [h, wd].
        window: The picture, uint8 [h, wd, 3], with rows of any pitch; it is painted over.
        below, cover: Working memory, float32 [wd * 3].
    """
    height, width = alpha.shape
    for y in range(height):
        row = window[y]
        for x in range(width):
            rest = F4(1) - alpha[y, x]
            for c in range(3):
                cover[3 * x + c] = rest
        for x in range(width):
            for c in range(3):
                below[3 * x + c] = F4(row[x, c])
        for i in range(np.uint64(3 * width)):
            value = rgb[y, i] + cover[i] * (below[i] / F4(255))
            value = min(max(value, F4(0)), F4(1))
            below[i] = value * F4(255) + F4(0.5)
        for x in range(width):
            for c in range(3):
                row[x, c] = np.uint8(below[3 * x + c])


def paint_head(
    rgb: Float32[np.ndarray, "h wd 3"],
    alpha: Float32[np.ndarray, "h wd 1"],
    window: UInt8[np.ndarray, "h wd 3"],
) -> None:
    """Lay a premultiplied head over a part of a picture, in place."""
    height, width = alpha.shape[:2]
    work = np.empty((2, 3 * width), np.float32)
    paint_rows(
        rgb.reshape(height, 3 * width), alpha.reshape(height, width), window, work[0], work[1]
    )
