"""The guided filter (He et al. 2013): smooths a mask while its edges follow those of an image."""

import cv2
import numpy as np
from jaxtyping import Float32


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


def guided_filter(
    guide: Float32[np.ndarray, "h wd"],
    values: Float32[np.ndarray, "h wd"],
    radius: int,
    epsilon: float,
) -> Float32[np.ndarray, "h wd"]:
    """Filter `values` with edges taken from the grey image `guide`; arguments as above."""
    slope, offset = guided_coefficients(guide, values, radius, epsilon)
    return slope * guide + offset


def guided_enlarge(
    guide: Float32[np.ndarray, "h wd"],
    values: Float32[np.ndarray, "g gw"],
    radius: int,
    epsilon: float,
) -> Float32[np.ndarray, "h wd"]:
    """Enlarge a reduced mask to the size of the guide, with edges where the guide has them."""
    size = guide.shape[1::-1]
    reduced = cv2.resize(guide, values.shape[1::-1], interpolation=cv2.INTER_AREA)
    slope, offset = guided_coefficients(reduced, values, radius, epsilon)
    slope = cv2.resize(slope, size, interpolation=cv2.INTER_LINEAR)
    offset = cv2.resize(offset, size, interpolation=cv2.INTER_LINEAR)
    return slope * guide + offset
