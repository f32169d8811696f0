"""Learning a clip's position maps and colour models from a few of its frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, Int32, UInt8

from gaussiantalker_ns.preprocess.color_models import ColorModel, log_likelihood_tables
from gaussiantalker_ns.preprocess.face_frame import skin_mask
from gaussiantalker_ns.preprocess.head_classes import (
    CLOTHES,
    HAIR,
    HEAD_SKIN,
    NECK_SKIN,
    ClassModel,
    FaceGeometry,
    drawn_prior,
)
from gaussiantalker_ns.preprocess.person_matte import disc

LEARNING_ROUNDS = 2

DRAWN_SHARE = 0.15
"""Weight of the drawn maps against those learned from the clip."""

LEAST_SHARE = 1e-6
"""Probability that no explanation falls below anywhere."""

MAP_BLUR = 2.0
"""Blur of the learned maps in pixels."""

MAX_LOG_RATIO = 2.0
"""Limit of what a pixel's place in the picture says about clothes and neck."""

HAIR_CLEARANCE = 0.05
"""Certain hair is this many face widths away from the face outline, and above the brows."""

CLOTHES_DEPTH = 0.4
"""Certain clothes are this many face heights below the chin."""


@dataclass
class LearningFrame:
    """A frame to learn from, at reduced resolution."""

    colors: Int32[np.ndarray, "h wd"]
    """Colour bins."""
    person: UInt8[np.ndarray, "h wd"]
    """Where there certainly is a person (0 or 1)."""
    points: Float32[np.ndarray, "478 2"]
    """Landmarks in pixels."""
    face: UInt8[np.ndarray, "h wd"]
    """Inside of the face outline (0 or 1)."""
    T_aligned_image: Float64[np.ndarray, "2 3"]
    """Map into the head-aligned frame."""


def learn_classes(
    frames: Sequence[LearningFrame], aligned_points: Float64[np.ndarray, "478 2"]
) -> ClassModel:
    """Learn where hair, skin and clothes are relative to the face, and their colours."""
    drawn = drawn_prior(aligned_points, frames[0].colors.shape)
    model = ClassModel(np.log(drawn + LEAST_SHARE), seed_colors(frames), np.zeros_like(drawn[0]))
    for _ in range(LEARNING_ROUNDS):
        model = relearn(model, frames, drawn)
    return model


def seed_colors(frames: Sequence[LearningFrame]) -> Float32[np.ndarray, "4 m"]:
    """Colours of the places where one class is nearly certain; skin counts for nothing else."""
    skin, hair, clothes, anything = (ColorModel.empty() for _ in range(4))
    for frame in frames:
        skin.add(frame.colors, skin_mask(frame.points, frame.colors.shape).astype(np.float32))
        anything.add(frame.colors, np.ones(frame.colors.shape, np.float32))
    log_skin, log_anything = log_likelihood_tables([skin, anything])
    not_skin = 1.0 / (1.0 + np.exp(np.clip(log_skin - log_anything - 1.0, -30, 30)))
    for frame in frames:
        shape = frame.colors.shape
        face = FaceGeometry.of(frame.points.astype(np.float64))
        margin = max(1, round(HAIR_CLEARANCE * face.width))
        outside = 1 - cv2.dilate(frame.face, disc(margin))
        above_brows = face.below_lobes(shape) < -0.35 * face.height
        rows = np.arange(shape[0])[:, None]
        low = rows > min(face.chin[1] + CLOTHES_DEPTH * face.height, 0.94 * shape[0])
        weight = not_skin[frame.colors] * frame.person
        hair.add(frame.colors, weight * outside * above_brows)
        clothes.add(frame.colors, weight * low)
    return log_likelihood_tables([hair, skin, clothes, anything])


def relearn(
    model: ClassModel, frames: Sequence[LearningFrame], drawn: Float32[np.ndarray, "5 h wd"]
) -> ClassModel:
    """One round: explain the frames, then average the explanations by place and by colour."""
    size = drawn.shape[:0:-1]
    total, neck, body = np.zeros_like(drawn), np.zeros_like(drawn[0]), np.zeros_like(drawn[0])
    hair, skin, clothes, anything = (ColorModel.empty() for _ in range(4))
    for frame in frames:
        shares = model.explain(frame.colors, frame.T_aligned_image)
        shares = model.constrain(shares, frame.points, frame.face, frame.person) * frame.person
        hair.add(frame.colors, shares[HAIR])
        # The face outline also holds lips, eyes and brows, whose colours are not skin.
        bare = np.where(frame.face > 0, skin_mask(frame.points, size[::-1]), shares[HEAD_SKIN])
        skin.add(frame.colors, bare + shares[NECK_SKIN])
        clothes.add(frame.colors, shares[CLOTHES])
        anything.add(frame.colors, np.ones_like(shares[0]))
        neck += shares[NECK_SKIN]
        body += shares[CLOTHES]
        for index, plane in enumerate(shares):
            total[index] += cv2.warpAffine(plane, frame.T_aligned_image, size)
    learned = np.stack([cv2.GaussianBlur(plane, (0, 0), MAP_BLUR) for plane in total])
    learned += DRAWN_SHARE * len(frames) * drawn
    learned /= learned.sum(axis=0)
    prior = np.log(np.sqrt(learned * drawn) + LEAST_SHARE)
    neck, body = (cv2.GaussianBlur(plane, (0, 0), MAP_BLUR) + 1.0 for plane in (neck, body))
    log_ratio = np.clip(np.log(body / neck), -MAX_LOG_RATIO, MAX_LOG_RATIO)
    tables = log_likelihood_tables([hair, skin, clothes, anything])
    return ClassModel(prior, tables, log_ratio)
