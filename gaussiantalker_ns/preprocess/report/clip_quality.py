"""Quality of the recording itself: sharpness, light, things before the face, sound level."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from gaussiantalker_ns.audio.read import read_audio
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.face.alignment import face_mask, similarity
from gaussiantalker_ns.face.landmarker import Landmarks
from gaussiantalker_ns.face.topology import STABLE_POINTS
from gaussiantalker_ns.files import read_rgb
from gaussiantalker_ns.timebase import SAMPLES_PER_FRAME

MAX_LOOKS = 400
"""Frames, spread evenly, that are looked at."""

PATCH_SIDE = 64
"""Faces are compared as pictures of this many pixels, aligned to each other."""

COVERED_CORRELATION = 0.5
"""A face this much unlike the clip's median face is probably covered by something."""

FULL_SCALE = 0.985
"""A sample this near to the largest value counts as clipped."""

MIN_POWER_DB = -100.0


@dataclass
class FaceLooks:
    """The face in a few frames of the clip."""

    frames: Int64[np.ndarray, " m"]
    edge_width: Float64[np.ndarray, " m"]
    """Width in pixels of the sharpest edges in the face; small is sharp."""
    brightness: Float64[np.ndarray, " m"]
    """Mean grey level of the face, 0 to 255."""
    likeness: Float64[np.ndarray, " m"]
    """Correlation with the clip's median face."""

    @property
    def covered(self) -> list[int]:
        """Frames in which something seems to be before the face."""
        return self.frames[self.likeness < COVERED_CORRELATION].tolist()


def edge_width(face: UInt8[np.ndarray, "h wd"]) -> float:
    """Width of the sharpest edges: the range of the grey levels over the steepest slope.

    Example: a step of one pixel gives about 1, the same step blurred over ten pixels about 10.
    """
    grey = cv2.GaussianBlur(face, (0, 0), 0.7).astype(np.float32)
    slope = np.hypot(
        cv2.Sobel(grey, cv2.CV_32F, 1, 0) / 8.0, cv2.Sobel(grey, cv2.CV_32F, 0, 1) / 8.0
    )
    low, high = np.percentile(grey, (2, 98))
    return float((high - low) / max(float(np.percentile(slope, 99.5)), 1e-3))


def face_patch(
    grey: UInt8[np.ndarray, "h wd"],
    points: Float32[np.ndarray, "478 2"],
    target: Float64[np.ndarray, "m 2"],
) -> Float32[np.ndarray, "64 64"]:
    """The face, moved onto `target` (stable points in a square of 64 px) and standardised."""
    to_patch = similarity(points[list(STABLE_POINTS)].astype(np.float64), target)
    patch = cv2.warpAffine(grey, to_patch, (PATCH_SIDE, PATCH_SIDE)).astype(np.float32)
    patch = cv2.GaussianBlur(patch, (0, 0), 1.5)
    return (patch - patch.mean()) / max(float(patch.std()), 1e-3)


def look_at_faces(dataset: DatasetLayout, landmarks: Landmarks) -> FaceLooks:
    """Measure the face in a few of the frames that show one."""
    valid = np.flatnonzero(landmarks.valid)
    picks = np.linspace(0, len(valid) - 1, min(MAX_LOOKS, len(valid))).astype(int)
    frames = valid[picks]
    points = landmarks.points[..., :2]
    first = points[frames[0]]
    low, high = first.min(axis=0), first.max(axis=0)
    target = (first[list(STABLE_POINTS)] - (low + high) / 2) / (high - low).max() * 0.9 + 0.5
    target = PATCH_SIDE * target.astype(np.float64)
    widths, lights, patches = [], [], []
    for frame in frames:
        grey = cv2.cvtColor(read_rgb(dataset.frame(int(frame))), cv2.COLOR_RGB2GRAY)
        x0, y0 = np.maximum(points[frame].min(axis=0), 0).astype(int)
        x1, y1 = points[frame].max(axis=0).astype(int) + 1
        box = grey[y0:y1, x0:x1]
        widths.append(edge_width(box) if box.size else 0.0)
        mask = face_mask(points[frame], grey.shape)
        lights.append(float(grey[mask > 0].mean()) if mask.any() else 0.0)
        patches.append(face_patch(grey, points[frame], target))
    stack = np.stack(patches)
    typical = np.median(stack, axis=0)
    typical = (typical - typical.mean()) / max(float(typical.std()), 1e-3)
    likeness = (stack * typical).mean(axis=(1, 2))
    return FaceLooks(frames, np.array(widths), np.array(lights), likeness.astype(np.float64))


@dataclass
class AudioLevels:
    """Loudness of the recorded sound."""

    level_db: Float64[np.ndarray, " b"]
    """RMS level of every frame in dB below full scale."""
    clipped: float
    """Fraction of the samples at the largest possible value."""

    @property
    def range_db(self) -> float:
        """From the quiet parts (5th percentile) to the loud ones (95th)."""
        low, high = np.percentile(self.level_db, (5, 95))
        return float(high - low)


def measure_audio(samples: Float32[np.ndarray, " m"]) -> AudioLevels:
    """Measure sound at 16 kHz frame by frame."""
    num_frames = len(samples) // SAMPLES_PER_FRAME
    windows = samples[: num_frames * SAMPLES_PER_FRAME].reshape(num_frames, SAMPLES_PER_FRAME)
    power = np.mean(windows.astype(np.float64) ** 2, axis=1)
    level = np.maximum(10.0 * np.log10(power + 1e-12), MIN_POWER_DB)
    return AudioLevels(level, float(np.mean(np.abs(samples) > FULL_SCALE)))


def read_levels(dataset: DatasetLayout) -> AudioLevels:
    """Measure the corrected sound of a data set."""
    return measure_audio(read_audio(dataset.audio))
