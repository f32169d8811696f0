"""The guided filter (He et al. 2013): smooths a mask while its edges follow those of an image.

The filter is computed on a reduced image and evaluated in the full one (He and Sun 2015), there
only at the pixels around edges.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Int64, UInt8

GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32) / np.float32(255)


def grey_levels(colors: UInt8[np.ndarray, "*m 3"]) -> Float32[np.ndarray, "*m"]:
    """Grey levels in [0, 1] of 8-bit RGB colours, the guide of the filter."""
    return colors.astype(np.float32) @ GREY_WEIGHTS


def box_mean(values: Float32[np.ndarray, "h wd *c"], radius: int) -> Float32[np.ndarray, "h wd *c"]:
    """Mean over a square window of `2 * radius + 1` pixels; the border is mirrored."""
    size = 2 * radius + 1
    return cv2.blur(values, (size, size)).reshape(values.shape)


def guided_coefficients(
    guide: Float32[np.ndarray, "h wd"],
    values: Float32[np.ndarray, "h wd"],
    radius: int,
    epsilon: float,
) -> tuple[Float32[np.ndarray, "h wd"], Float32[np.ndarray, "h wd"]]:
    """Slope and offset, per pixel, of the linear function of the guide that fits `values` best.

    They vary slowly, so they may be computed on a reduced image and enlarged (He and Sun 2015).

    Args:
        guide: Grey image in [0, 1].
        values: The mask to be filtered.
        radius: Half the window's side in pixels.
        epsilon: Variance of the guide under which a window counts as flat and is just averaged.
    """
    mean_guide, mean_values = box_mean(guide, radius), box_mean(values, radius)
    variance = box_mean(guide * guide, radius) - mean_guide * mean_guide
    covariance = box_mean(guide * values, radius) - mean_guide * mean_values
    slope = covariance / (variance + np.float32(epsilon))
    offset = mean_values - slope * mean_guide
    return box_mean(slope, radius), box_mean(offset, radius)


@dataclass(frozen=True)
class EdgePixels:
    """Pixels of a frame around an edge, and the pixels of the reduced frame that they lie in."""

    rows: Int64[np.ndarray, " m"]
    columns: Int64[np.ndarray, " m"]
    reduced: tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]

    @classmethod
    def of(cls, band: UInt8[np.ndarray, "g gw"], shape: tuple[int, ...]) -> "EdgePixels":
        """All pixels of a frame of `shape` inside a band (0 or 1) of the reduced frame."""
        full = cv2.resize(band, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)
        columns, rows = (
            cv2.findNonZero(full).reshape(-1, 2).astype(np.int64).T if full.any() else EMPTY
        )
        height, width = band.shape
        return cls(rows, columns, (rows * height // shape[0], columns * width // shape[1]))


EMPTY = np.zeros((2, 0), np.int64)


def guided_values(
    guide: Float32[np.ndarray, "g gw"],
    values: Float32[np.ndarray, "g gw"],
    radius: int,
    epsilon: float,
    pixels: EdgePixels,
    full_guide: Float32[np.ndarray, " m"],
) -> Float32[np.ndarray, " m"]:
    """Filter a reduced mask and evaluate it at pixels of the full frame.

    Args:
        guide: Reduced grey image in [0, 1].
        values: Reduced mask.
        radius: As in `guided_coefficients`.
        epsilon: As in `guided_coefficients`.
        pixels: Where to evaluate.
        full_guide: Grey levels of the full frame there, in [0, 1].
    """
    slope, offset = guided_coefficients(guide, values, radius, epsilon)
    return slope[pixels.reduced] * full_guide + offset[pixels.reduced]
