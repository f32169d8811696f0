"""The head-aligned frame of a clip: the face of every frame moved onto the clip's median face.

Class maps are averaged over time in this frame, where the head stands still.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, UInt8

from gaussiantalker_ns.face.topology import (
    BROW_LEFT,
    BROW_RIGHT,
    EYE_LEFT,
    EYE_RIGHT,
    FACE_OVAL,
    IMAGE_LEFT_EAR,
    IMAGE_RIGHT_EAR,
    LIPS_OUTER,
    STABLE_POINTS,
)

FEATURES = (EYE_RIGHT, EYE_LEFT, LIPS_OUTER, BROW_RIGHT, BROW_LEFT)
"""Parts of the face that are not skin."""


def similarity(
    source: Float64[np.ndarray, "m 2"], target: Float64[np.ndarray, "m 2"]
) -> Float64[np.ndarray, "2 3"]:
    """Least-squares rotation, scale and shift that takes `source` to `target`."""
    mean_source, mean_target = source.mean(0), target.mean(0)
    a = (source - mean_source) @ np.array([1.0, 1.0j])
    b = (target - mean_target) @ np.array([1.0, 1.0j])
    factor = np.vdot(a, b) / max(float(np.vdot(a, a).real), 1e-12)
    linear = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.hstack([linear, (mean_target - linear @ mean_source)[:, None]])


def compose(
    first: Float64[np.ndarray, "2 3"], second: Float64[np.ndarray, "2 3"]
) -> Float64[np.ndarray, "2 3"]:
    """The affine map that applies `second`, then `first`."""
    full = np.vstack([second, [0.0, 0.0, 1.0]])
    return first @ full


@dataclass
class FaceFrames:
    """Alignment of all frames of a clip, for images reduced by `scale`."""

    T_aligned_image: Float64[np.ndarray, "b 2 3"]
    """Image pixels to aligned pixels, both at the reduced resolution."""
    points: Float32[np.ndarray, "b 478 2"]
    """Landmarks at the reduced resolution."""
    aligned_points: Float64[np.ndarray, "478 2"]
    """The clip's median face in the aligned frame."""

    @classmethod
    def from_landmarks(
        cls, points: Float32[np.ndarray, "b 478 3"], scale: float, seen: Bool[np.ndarray, " b"]
    ) -> "FaceFrames":
        """Align every frame to the median, over frames with a face, of its stable points."""
        flat = points[..., :2] * np.float32(scale)
        stable = flat[:, STABLE_POINTS].astype(np.float64)
        target = np.median(stable[seen], axis=0)
        maps = np.stack([similarity(frame, target) for frame in stable])
        moved = np.einsum("bij,bpj->bpi", maps[..., :2], flat) + maps[:, None, :, 2]
        return cls(maps, flat, np.median(moved[seen], axis=0))

    def between(self, source: int, target: int) -> Float64[np.ndarray, "2 3"]:
        """Map from pixels of frame `source` to pixels of frame `target`."""
        inverse = cv2.invertAffineTransform(self.T_aligned_image[target])
        return compose(inverse, self.T_aligned_image[source])


def fill_polygon(
    points: Float32[np.ndarray, "b 2"], shape: tuple[int, ...]
) -> UInt8[np.ndarray, "h wd"]:
    """Mask (0 or 1) of a polygon given in pixels, drawn with 1/16 pixel precision."""
    mask = np.zeros(shape, np.uint8)
    corners: Int32[np.ndarray, "b 2"] = np.round((points - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(mask, [corners], (1,), lineType=cv2.LINE_8, shift=4)
    return mask


def face_mask(
    points: Float32[np.ndarray, "478 2"], shape: tuple[int, ...]
) -> UInt8[np.ndarray, "h wd"]:
    """Mask (0 or 1) of the face inside its outline."""
    return fill_polygon(points[list(FACE_OVAL)], shape)


def skin_mask(
    points: Float32[np.ndarray, "478 2"], shape: tuple[int, ...]
) -> UInt8[np.ndarray, "h wd"]:
    """Mask (0 or 1) of the face without eyes, brows and lips, kept clear of the outline."""
    mask = face_mask(points, shape)
    for feature in FEATURES:
        hull = cv2.convexHull(points[list(feature)].astype(np.float32))[:, 0]
        mask &= 1 - fill_polygon(hull, shape)
    width = float(np.linalg.norm(points[IMAGE_LEFT_EAR] - points[IMAGE_RIGHT_EAR]))
    margin = max(1, round(0.06 * width))
    size = 2 * margin + 1
    border = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return cv2.erode(mask, border, borderType=cv2.BORDER_CONSTANT, borderValue=(0,))
