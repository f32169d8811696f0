"""Colour models of hair, skin and clothes: histograms in LAB, looked up as tables."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Int32, UInt8
from scipy.ndimage import gaussian_filter

LIGHTNESS_BINS = 32
CHROMA_BINS = 64
NUM_BINS = LIGHTNESS_BINS * CHROMA_BINS * CHROMA_BINS

SMOOTHING_BINS = (1.5, 1.2, 1.2)
"""Blur of the histograms: a neck in shadow is darker than the face, but of nearly the same hue."""

FLOOR = 0.02
"""Fraction of every model that is spread evenly over the colours seen in the clip."""


def color_index(image: UInt8[np.ndarray, "h wd 3"]) -> Int32[np.ndarray, "h wd"]:
    """Index of every pixel's LAB colour in the tables."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lightness, a, b = (channel.astype(np.int32) for channel in cv2.split(lab))
    return (lightness >> 3) * (CHROMA_BINS * CHROMA_BINS) + (a >> 2) * CHROMA_BINS + (b >> 2)


@dataclass
class ColorModel:
    """Weighted histogram of one class's colours; `table` turns it into log-likelihoods."""

    counts: Float32[np.ndarray, " m"]

    @classmethod
    def empty(cls) -> "ColorModel":
        """A model without samples."""
        return cls(np.zeros(NUM_BINS, np.float32))

    def add(self, index: Int32[np.ndarray, "h wd"], weights: Float32[np.ndarray, "h wd"]) -> None:
        """Count a frame's pixels with their weights."""
        counts = np.bincount(index.ravel(), weights.ravel(), minlength=NUM_BINS)
        self.counts += counts.astype(np.float32)

    @property
    def weight(self) -> float:
        """Sum of the weights of all samples."""
        return float(self.counts.sum())


def log_likelihood_tables(models: list[ColorModel]) -> Float32[np.ndarray, "k m"]:
    """Log-likelihood under each of `k` models of every colour bin.

    A class without samples gets the even distribution, so that it neither wins nor vanishes.
    """
    shape = (LIGHTNESS_BINS, CHROMA_BINS, CHROMA_BINS)
    smooth = []
    for model in models:
        blurred = gaussian_filter(model.counts.reshape(shape), SMOOTHING_BINS, mode="nearest")
        smooth.append(blurred.ravel() / max(float(blurred.sum()), 1e-6))
    seen = np.sum(smooth, axis=0)
    even = (seen > 1e-7 * float(np.max(seen))).astype(np.float32)
    even /= max(float(even.sum()), 1.0)
    tables = [(1.0 - FLOOR) * table + FLOOR * even + 1e-9 for table in smooth]
    return np.log(np.stack(tables)).astype(np.float32)
