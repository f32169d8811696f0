"""What a segmenter is."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

BACKGROUND, TORSO, NECK, HEAD = range(4)
"""The labels of pixels in memory."""


class Segmenter(ABC):
    """Labels the frames of one clip."""

    name: ClassVar[str]
    """What data sets record."""

    @abstractmethod
    def label(self, frame: int) -> UInt8[np.ndarray, "h wd"]:
        """Label a frame at full resolution: background 0, torso 1, neck 2, head 3."""

    @abstractmethod
    def close(self) -> None:
        """Release networks."""
