"""Head, neck or torso: per-pixel probabilities from position relative to the face and from colour.

Five explanations of a person's pixel compete: hair, skin of the head (ears, forehead), something
worn on the head, skin of the neck, and clothes. Each has a map of how likely it is at a place
relative to the face (learned from the clip, starting from a drawn one) and a colour model.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, UInt8

from gaussiantalker_ns.preprocess.color_models import ColorModel, log_likelihood_tables
from gaussiantalker_ns.preprocess.face_frame import (
    CHIN,
    FOREHEAD,
    IMAGE_LEFT_EAR,
    IMAGE_LEFT_LOBE,
    IMAGE_RIGHT_EAR,
    IMAGE_RIGHT_LOBE,
    face_mask,
    skin_mask,
)

HAIR, HEAD_SKIN, WORN, NECK_SKIN, CLOTHES = range(5)
"""The explanations; `WORN` is a hat, headphones or glasses, of any colour."""

EXPLANATION_COLORS = (0, 1, 3, 1, 2)
"""Column of the colour tables of each explanation: hair, skin, clothes, any colour."""

HEAD, NECK, TORSO = range(3)
"""The classes of a person's pixel."""

RIM = 0.035
"""Width of the strip around the face outline that is still face, in face widths."""


@dataclass(frozen=True)
class FaceGeometry:
    """Where the parts of a face are, in pixels of the image that its points belong to."""

    width: float
    height: float
    chin: Float64[np.ndarray, " 2"]
    forehead: Float64[np.ndarray, " 2"]
    lobes: Float64[np.ndarray, "2 2"]
    """Lobe of the ear on the image's left and right side."""

    @classmethod
    def of(cls, points: Float64[np.ndarray, "478 2"]) -> "FaceGeometry":
        """Measure a face."""
        lobes = np.stack([points[list(IMAGE_LEFT_LOBE)], points[list(IMAGE_RIGHT_LOBE)]]).mean(1)
        return cls(
            width=float(np.linalg.norm(points[IMAGE_LEFT_EAR] - points[IMAGE_RIGHT_EAR])),
            height=float(np.linalg.norm(points[FOREHEAD] - points[CHIN])),
            chin=points[CHIN],
            forehead=points[FOREHEAD],
            lobes=lobes,
        )

    def below_lobes(self, shape: tuple[int, int]) -> Float32[np.ndarray, "h wd"]:
        """Signed distance in pixels below the line through the ear lobes (negative above)."""
        direction = self.lobes[1] - self.lobes[0]
        direction = direction / max(float(np.linalg.norm(direction)), 1e-6)
        rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32) + 0.5
        dx, dy = columns - self.lobes[0, 0], rows - self.lobes[0, 1]
        return (dy * direction[0] - dx * direction[1]).astype(np.float32)


def drawn_prior(
    points: Float64[np.ndarray, "478 2"], shape: tuple[int, int]
) -> Float32[np.ndarray, "h wd 5"]:
    """Probability of every explanation by position alone, for a person who faces the camera."""
    face = FaceGeometry.of(points)
    below = face.below_lobes(shape)
    oval = face_mask(points.astype(np.float32), shape)
    distance = cv2.distanceTransform(1 - oval, cv2.DIST_L2, 5) / face.width
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    sideways = np.abs(columns - face.chin[0]) / face.width
    under_chin = np.maximum(rows - face.chin[1], 0.0) / face.height
    prior = np.empty((*shape, 5), np.float32)
    upper = 1.0 / (1.0 + np.exp(below / (0.02 * face.height)))
    lower = 1.0 - upper
    depth = np.maximum(below, 0.0) / face.height
    # Clothes reach above the lobes only a little (a raised collar, a hood on the shoulders).
    collar = 0.05 * np.exp(-np.maximum(-below, 0.0) / (0.1 * face.height)) + 1e-4
    rim = np.exp(-((distance / RIM) ** 2))
    prior[..., HAIR] = upper * 0.55 + lower * 0.12 * np.exp(-depth / 0.7)
    prior[..., HEAD_SKIN] = upper * 0.40 + lower * 0.5 * rim
    prior[..., WORN] = upper * 0.03 + 1e-5
    prior[..., NECK_SKIN] = lower * 0.5 * np.exp(-((sideways / 0.5) ** 4)) * np.exp(
        -under_chin / 0.5
    ) + upper * 1e-3 + lower * 0.01
    prior[..., CLOTHES] = upper * collar + lower * (0.15 + 0.5 * np.minimum(under_chin, 1.0))
    return prior / prior.sum(-1, keepdims=True)


@dataclass
class ClassModel:
    """Position maps and colour tables of one clip."""

    log_prior: Float32[np.ndarray, "h wd 5"]
    """In the head-aligned frame."""
    log_colors: Float32[np.ndarray, "m 4"]
    """Log-likelihood of every colour bin as hair, skin, clothes and anything."""

    def explain(
        self,
        colors: Int32[np.ndarray, "h wd"],
        T_aligned_image: Float64[np.ndarray, "2 3"],
    ) -> Float32[np.ndarray, "h wd 5"]:
        """Probability of every explanation for the pixels of a frame."""
        size = colors.shape[1::-1]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        prior = np.dstack(
            [
                cv2.warpAffine(part, T_aligned_image, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
                for part in (self.log_prior[..., :4], self.log_prior[..., 4])
            ]
        )
        score = prior + self.log_colors[colors][..., EXPLANATION_COLORS]
        score = np.exp(score - score.max(-1, keepdims=True))
        return score / score.sum(-1, keepdims=True)
