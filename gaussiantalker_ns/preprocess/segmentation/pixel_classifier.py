"""Pixel classifier: head, neck or torso from position relative to the face and from colour.

Five explanations of a person's pixel compete: hair, skin of the head (ears, forehead), something
worn on the head, skin of the neck, and clothes. Each has a map of how likely it is at a place
relative to the face (learned from the clip, starting from a drawn one) and a colour model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, Int32, UInt8

from gaussiantalker_ns.face.alignment import face_mask, skin_mask
from gaussiantalker_ns.face.topology import (
    CHIN,
    FOREHEAD,
    IMAGE_LEFT_EAR,
    IMAGE_LEFT_LOBE,
    IMAGE_RIGHT_EAR,
    IMAGE_RIGHT_LOBE,
)
from gaussiantalker_ns.preprocess.segmentation.color_models import ColorModel, log_likelihood_tables
from gaussiantalker_ns.preprocess.segmentation.matting import disc, keep_connected_to, keep_largest

HAIR, HEAD_SKIN, WORN, NECK_SKIN, CLOTHES = range(5)
"""The explanations; `WORN` is a hat, headphones or glasses, of any colour."""

EXPLANATION_COLORS = (0, 1, 3, 1, 2)
"""Column of the colour tables of each explanation: hair, skin, clothes, any colour."""

HEAD, NECK, TORSO = range(3)
"""The classes of a person's pixel."""

FORBIDDEN = 1e-3
"""Factor on the probability of what the shape of a person forbids."""

RIM = 0.035
"""Width of the strip around the face outline that is still face, in face widths."""


@dataclass(frozen=True)
class FaceGeometry:
    """Where the parts of a face are, in pixels of the image that its points belong to."""

    width: float
    height: float
    chin: Float64[np.ndarray, " 2"]
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
            lobes=lobes,
        )

    def below_lobes(self, shape: tuple[int, ...]) -> Float32[np.ndarray, "h wd"]:
        """Signed distance in pixels below the line through the ear lobes (negative above)."""
        direction = self.lobes[1] - self.lobes[0]
        direction = direction / max(float(np.linalg.norm(direction)), 1e-6)
        rows = (np.arange(shape[0], dtype=np.float32) + 0.5 - self.lobes[0, 1]) * direction[0]
        columns = (np.arange(shape[1], dtype=np.float32) + 0.5 - self.lobes[0, 0]) * direction[1]
        return rows.astype(np.float32)[:, None] - columns.astype(np.float32)[None]


def drawn_prior(
    points: Float64[np.ndarray, "478 2"], shape: tuple[int, ...]
) -> Float32[np.ndarray, "5 h wd"]:
    """Probability of every explanation by position alone, for a person who faces the camera."""
    face = FaceGeometry.of(points)
    below = face.below_lobes(shape)
    oval = face_mask(points.astype(np.float32), shape)
    distance = cv2.distanceTransform(1 - oval, cv2.DIST_L2, 5) / face.width
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    sideways = np.abs(columns - face.chin[0]) / face.width
    under_chin = np.maximum(rows - face.chin[1], 0.0) / face.height
    prior = np.empty((5, *shape), np.float32)
    upper = 1.0 / (1.0 + np.exp(np.clip(below / (0.02 * face.height), -20.0, 20.0)))
    lower = 1.0 - upper
    depth = np.maximum(below, 0.0) / face.height
    # Clothes reach above the lobes only a little (a raised collar, a hood on the shoulders).
    collar = 0.05 * np.exp(-np.maximum(-below, 0.0) / (0.1 * face.height)) + 1e-4
    rim = np.exp(-((distance / RIM) ** 2))
    prior[HAIR] = upper * 0.55 + lower * 0.12 * np.exp(-depth / 0.7)
    prior[HEAD_SKIN] = upper * 0.40 + lower * 0.5 * rim
    prior[WORN] = upper * 0.03 + 1e-5
    prior[NECK_SKIN] = (
        lower * 0.5 * np.exp(-((sideways / 0.5) ** 4)) * np.exp(-under_chin / 0.5)
        + upper * 1e-3
        + lower * 0.01
    )
    prior[CLOTHES] = upper * collar + lower * (0.15 + 0.5 * np.minimum(under_chin, 1.0))
    return prior / prior.sum(0)


@dataclass
class ClassModel:
    """Position maps and colour tables of one clip."""

    log_prior: Float32[np.ndarray, "5 h wd"]
    """In the head-aligned frame."""
    log_colors: Float32[np.ndarray, "4 m"]
    """Log-likelihood of every colour bin as hair, skin, clothes and anything."""
    log_clothes_over_neck: Float32[np.ndarray, "h wd"]
    """How much more often a pixel of the picture is clothes than neck: shoulders move less than the
    head, so this tells a tie from skin when the chin hides the neck."""

    def explain(
        self,
        colors: Int32[np.ndarray, "h wd"],
        T_aligned_image: Float64[np.ndarray, "2 3"],
    ) -> Float32[np.ndarray, "5 h wd"]:
        """Probability of every explanation for the pixels of a frame."""
        size = colors.shape[1::-1]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        score = np.stack(
            [
                cv2.warpAffine(
                    plane, T_aligned_image, size, flags=flags, borderMode=cv2.BORDER_REPLICATE
                )
                for plane in self.log_prior
            ]
        )
        likelihoods = [np.take(table, colors) for table in self.log_colors]
        for index, color in enumerate(EXPLANATION_COLORS):
            score[index] += likelihoods[color]
        score[CLOTHES] += self.log_clothes_over_neck
        score -= score.max(axis=0)
        cv2.exp(score.reshape(len(score), -1), score.reshape(len(score), -1))
        return score / score.sum(axis=0)

    def constrain(
        self,
        fractions: Float32[np.ndarray, "5 h wd"],
        points: Float32[np.ndarray, "478 2"],
        face: UInt8[np.ndarray, "h wd"],
        person: UInt8[np.ndarray, "h wd"],
    ) -> Float32[np.ndarray, "5 h wd"]:
        """Weaken explanations that the shape of a person forbids; the others take their part.

        Args:
            fractions: Probabilities of the explanations; changed in place.
            points: Landmarks in pixels of the reduced frame.
            face: Inside of the face outline (0 or 1).
            person: Where there is a person (0 or 1).
        """
        below = FaceGeometry.of(points.astype(np.float64)).below_lobes(face.shape) > 0
        body = (person > 0) & (face == 0)
        best = fractions.max(axis=0)
        # Hair below the ears hangs from hair above them: a dark collar does not.
        hair = ((fractions[HAIR] >= best) & body).astype(np.uint8)
        hanging = keep_connected_to(hair, (~below).astype(np.uint8))
        fractions[HAIR][below & (hanging == 0)] *= FORBIDDEN
        neck = ((fractions[NECK_SKIN] >= best) & body).astype(np.uint8)
        fractions[NECK_SKIN][keep_largest(neck) < neck] *= FORBIDDEN
        # Clothes hang together and reach the lower border: a dark ear ring does not.
        clothes = ((fractions[CLOTHES] >= best) & body).astype(np.uint8)
        bottom = np.zeros_like(face)
        bottom[-2:] = 1
        joined = keep_connected_to(clothes, bottom)
        if joined.any():
            fractions[CLOTHES][joined < clothes] *= FORBIDDEN
        fractions[:, face > 0] = 0.0
        fractions[HEAD_SKIN][face > 0] = 1.0
        return fractions / (fractions.sum(axis=0) + 1e-12)


def class_fractions(fractions: Float32[np.ndarray, "5 h wd"]) -> Float32[np.ndarray, "3 h wd"]:
    """Probabilities of head, neck and torso from those of the explanations."""
    classes = np.empty((3, *fractions.shape[1:]), np.float32)
    classes[HEAD] = fractions[HAIR] + fractions[HEAD_SKIN] + fractions[WORN]
    classes[NECK] = fractions[NECK_SKIN]
    classes[TORSO] = fractions[CLOTHES]
    return classes


LEARNING_ROUNDS = 2

DRAWN_FRACTION = 0.15
"""Weight of the drawn maps against those learned from the clip."""

LEAST_FRACTION = 1e-6
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
    model = ClassModel(np.log(drawn + LEAST_FRACTION), seed_colors(frames), np.zeros_like(drawn[0]))
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
        fractions = model.explain(frame.colors, frame.T_aligned_image)
        fractions = (
            model.constrain(fractions, frame.points, frame.face, frame.person) * frame.person
        )
        hair.add(frame.colors, fractions[HAIR])
        # The face outline also holds lips, eyes and brows, whose colours are not skin.
        bare = np.where(frame.face > 0, skin_mask(frame.points, size[::-1]), fractions[HEAD_SKIN])
        skin.add(frame.colors, bare + fractions[NECK_SKIN])
        clothes.add(frame.colors, fractions[CLOTHES])
        anything.add(frame.colors, np.ones_like(fractions[0]))
        neck += fractions[NECK_SKIN]
        body += fractions[CLOTHES]
        for index, plane in enumerate(fractions):
            total[index] += cv2.warpAffine(plane, frame.T_aligned_image, size)
    learned = np.stack([cv2.GaussianBlur(plane, (0, 0), MAP_BLUR) for plane in total])
    learned += DRAWN_FRACTION * len(frames) * drawn
    learned /= learned.sum(axis=0)
    prior = np.log(np.sqrt(learned * drawn) + LEAST_FRACTION)
    neck, body = (cv2.GaussianBlur(plane, (0, 0), MAP_BLUR) + 1.0 for plane in (neck, body))
    log_ratio = np.clip(np.log(body / neck), -MAX_LOG_RATIO, MAX_LOG_RATIO)
    tables = log_likelihood_tables([hair, skin, clothes, anything])
    return ClassModel(prior, tables, log_ratio)
