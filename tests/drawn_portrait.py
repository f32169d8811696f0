"""A drawn portrait with exact landmarks and labels, for tests of segmentation and layers."""

from dataclasses import dataclass

import cv2
import numpy as np

from gaussiantalker_ns.face.alignment import face_mask
from gaussiantalker_ns.face.canonical_mesh import canonical_mesh
from gaussiantalker_ns.face.landmarker import Landmarks

BACKGROUND_RGB, HAIR_RGB, SKIN_RGB = (60, 120, 190), (60, 38, 24), (214, 160, 130)
NECK_RGB, SHIRT_RGB, LIPS_RGB = (176, 126, 102), (40, 44, 66), (170, 70, 80)
SIDE = 256
PIXELS_PER_METRE = 560.0
EARS = ((-0.083, 0.0), (0.083, 0.0))


@dataclass
class Portrait:
    """One frame: picture, landmarks, and the labels background 0, torso 1, neck 2, head 3."""

    image: np.ndarray
    points: np.ndarray
    labels: np.ndarray


def draw_portrait(shift: tuple[float, float] = (0.0, 0.0), seed: int = 0) -> Portrait:
    """Draw a face, moved by `shift` pixels, before a plain background; shoulders stand still."""
    center = np.array([SIDE / 2, 0.45 * SIDE])
    head = center + shift
    vertices = canonical_mesh().vertices
    points = np.zeros((478, 3), np.float32)
    points[:468, 0] = head[0] + PIXELS_PER_METRE * vertices[:, 0]
    points[:468, 1] = head[1] - PIXELS_PER_METRE * vertices[:, 1]
    points[468:] = points[33]
    labels = np.zeros((SIDE, SIDE), np.uint8)
    image = np.full((SIDE, SIDE, 3), BACKGROUND_RGB, np.uint8)

    def paint(mask: np.ndarray, color: tuple[int, int, int], label: int) -> None:
        image[mask > 0] = color
        labels[mask > 0] = label

    def ellipse(middle: np.ndarray, axes: tuple[float, float]) -> np.ndarray:
        mask = np.zeros((SIDE, SIDE), np.uint8)
        at = tuple(np.round(middle).astype(int).tolist())
        size = tuple(np.round(axes).astype(int).tolist())
        return cv2.ellipse(mask, at, size, 0, 0, 360, 1, -1)

    s = PIXELS_PER_METRE
    paint(ellipse(center + (0, 0.30 * s), (0.19 * s, 0.16 * s)), SHIRT_RGB, 1)
    neck = np.zeros((SIDE, SIDE), np.uint8)
    neck[int(center[1] + 0.02 * s) : int(center[1] + 0.16 * s)] = 1
    neck[:, : int(center[0] - 0.045 * s)] = 0
    neck[:, int(center[0] + 0.045 * s) :] = 0
    paint(neck, NECK_RGB, 2)
    paint(ellipse(head + (0, -0.04 * s), (0.088 * s, 0.105 * s)), HAIR_RGB, 3)
    for ear in EARS:
        paint(ellipse(head + np.array(ear) * s, (0.012 * s, 0.025 * s)), SKIN_RGB, 3)
    paint(face_mask(points[:, :2], (SIDE, SIDE)), SKIN_RGB, 3)
    image[ellipse(head + (0, 0.042 * s), (0.024 * s, 0.008 * s)) > 0] = LIPS_RGB
    rng = np.random.default_rng(seed)
    noisy = image.astype(np.float32) + rng.normal(0, 3, image.shape)
    return Portrait(np.clip(noisy, 0, 255).astype(np.uint8), points, labels)


def drawn_clip(num_frames: int) -> list[Portrait]:
    """Frames of a head that sways."""
    angles = np.linspace(0, 4 * np.pi, num_frames)
    return [
        draw_portrait((6 * np.sin(angle), 3 * np.sin(2 * angle)), seed)
        for seed, angle in enumerate(angles)
    ]


def seen(num_frames: int, without: range = range(0)) -> Landmarks:
    """Landmarks of a clip in which a face was found, but for some frames."""
    valid = np.ones(num_frames, bool)
    valid[list(without)] = False
    return Landmarks(
        np.stack([frame.points for frame in drawn_clip(num_frames)]),
        np.zeros((num_frames, 52), np.float32),
        valid,
    )
