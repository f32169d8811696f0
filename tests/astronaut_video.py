"""Videos of a real face for tests: scikit-image's picture of an astronaut, swaying."""

import cv2
import numpy as np


def astronaut(side: int) -> np.ndarray:
    """Head and shoulders of the astronaut (a NASA picture in the public domain)."""
    from skimage.data import astronaut as picture

    return cv2.resize(picture()[:400, 24:424], (side, side), interpolation=cv2.INTER_AREA)


def swaying_motion(index: int, side: int) -> np.ndarray:
    """Affine map `[2, 3]` by which the picture turns and moves a little in frame `index`."""
    angle = 3.0 * np.sin(index / 6.0)
    return cv2.getRotationMatrix2D((side / 2, side), angle, 1.0 + 0.02 * np.sin(index / 9.0))


def swaying(index: int, side: int = 160) -> np.ndarray:
    """Frame `index` of a clip in which the picture turns and moves a little."""
    motion = swaying_motion(index, side)
    return cv2.warpAffine(astronaut(side), motion, (side, side), borderMode=cv2.BORDER_REFLECT)


def pair(index: int, side: int = 160) -> np.ndarray:
    """The astronaut, and a smaller copy of her beside, seen in the first half of 100 frames."""
    canvas = np.full((side, 2 * side, 3), 120, np.uint8)
    if index < 50:
        canvas[:, :side] = swaying(index, side)
    small = astronaut(side * 6 // 10)
    canvas[side - len(small) :, 2 * side - len(small) :] = small
    return canvas
