"""Connected parts of binary masks (0 or 1)."""

import cv2
import numpy as np
from jaxtyping import UInt8


def keep_touching(
    mask: UInt8[np.ndarray, "h wd"], anchor: UInt8[np.ndarray, "h wd"]
) -> UInt8[np.ndarray, "h wd"]:
    """Keep the connected parts of a mask that share a pixel with the anchor."""
    count, labels = cv2.connectedComponents(mask, connectivity=4, ltype=cv2.CV_16U)
    touched = np.zeros(count, np.uint8)
    touched[labels[anchor > 0].astype(np.int64)] = 1
    touched[0] = 0
    return np.take(touched, labels.astype(np.int64))


def keep_largest(mask: UInt8[np.ndarray, "h wd"]) -> UInt8[np.ndarray, "h wd"]:
    """Keep the largest connected part of a mask."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count <= 2:
        return mask
    return (labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))).astype(np.uint8)
