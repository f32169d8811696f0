"""The interface of segmenters, and label images on disk."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import UInt8

from gaussiantalker_ns.dataparsers.dataset_layout import (
    BACKGROUND,
    BACKGROUND_COLOR,
    HEAD,
    HEAD_COLOR,
    NECK,
    NECK_COLOR,
    TORSO,
    TORSO_COLOR,
)
from gaussiantalker_ns.dataparsers.frames import colors_to_labels
from gaussiantalker_ns.files import read_rgb, write_image

SPECK_PX = 5
"""Side of the median filter that removes specks of a wrong label."""


class Segmenter(ABC):
    """Labels the frames of one clip.

    Args:
        read_frame: Reads a frame as RGB.
    """

    name: ClassVar[str]
    """What data sets record."""

    def __init__(self, read_frame: Callable[[int], UInt8[np.ndarray, "h wd 3"]]) -> None:
        self.read_frame = read_frame

    def label(self, frame: int) -> UInt8[np.ndarray, "h wd"]:
        """Label a frame at full resolution: background 0, torso 1, neck 2, head 3."""
        return cv2.medianBlur(self.rough_labels(frame, self.read_frame(frame)), SPECK_PX)

    @abstractmethod
    def rough_labels(
        self, frame: int, image: UInt8[np.ndarray, "h wd 3"]
    ) -> UInt8[np.ndarray, "h wd"]:
        """Label the picture of a frame; specks may remain."""

    @abstractmethod
    def close(self) -> None:
        """Release networks."""


LABEL_COLORS = np.zeros((4, 3), np.uint8)
"""Label -> colour (RGB) on disk."""
LABEL_COLORS[[BACKGROUND, TORSO, NECK, HEAD]] = [
    BACKGROUND_COLOR,
    TORSO_COLOR,
    NECK_COLOR,
    HEAD_COLOR,
]

LABEL_TABLES = np.zeros((3, 256), np.uint8)
"""The same as look-up tables of red, green and blue."""
LABEL_TABLES[:, : len(LABEL_COLORS)] = LABEL_COLORS.T

PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 1]
"""Fast compression; label images are small in any case."""

JPEG_OPTIONS = [cv2.IMWRITE_JPEG_QUALITY, 95]


def labels_to_colors(labels: UInt8[np.ndarray, "h wd"]) -> UInt8[np.ndarray, "h wd 3"]:
    """Colours (RGB) of a label image as they are stored."""
    return cv2.merge([cv2.LUT(labels, channel) for channel in LABEL_TABLES])


def read_labels(path: Path) -> UInt8[np.ndarray, "h wd"]:
    """Read a stored label image."""
    return colors_to_labels(read_rgb(path))


def write_labels(path: Path, labels: UInt8[np.ndarray, "h wd"]) -> None:
    """Store a label image as PNG."""
    write_image(path, labels_to_colors(labels), PNG_OPTIONS)
