"""Step 5c: whether the camera was held by hand, from the motion of the background.

A camera in a hand never rests: within a few seconds the whole background sways by many pixels. A
background that moves by itself (a flag, people) does so in parts, and a camera that creeps stays
nearly where it is within such a time.
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.face.landmarker import Landmarks
from gaussiantalker_ns.files import ordered_map
from gaussiantalker_ns.preprocess.layers.background import background_of

STRETCH_FRAMES, FRAME_STEP, MAX_STRETCHES = 100, 5, 12
"""Frames of a stretch, the step inside it, and how many are looked at, spread over the take."""
MAX_POINTS, LEAST_POINTS = 80, 8
"""Corners of the background that are followed, and how many of them must be found again."""
CORNER_QUALITY, LEAST_CORNER = 0.02, 2e-5
"""A corner is this good, relative to the best one and by itself (smallest eigenvalue): faint
patterns on a wall will do, noise will not."""
POINT_DISTANCE, WINDOW = 12, (21, 21)
MAX_RETURN_ERROR = 0.5
"""A point that does not come back to its start within so many pixels was lost."""
LEAST_SPREAD = 0.2
"""Part of the picture's width or height over which the points must be spread."""

Step = tuple[UInt8[np.ndarray, "h wd"], Bool[np.ndarray, "h wd"]]
"""A grey frame, and where it shows the background."""


def background_shift(first: Step, second: Step) -> Float64[np.ndarray, " 2"] | None:
    """Median motion in pixels of the background from one frame to another; None if unknown.

    A plain wall has no corners to follow, and one thing that moves is no background.
    """
    (grey, clear), (later, later_clear) = first, second
    mask = (clear & later_clear).astype(np.uint8)
    points = cv2.goodFeaturesToTrack(
        grey, MAX_POINTS, CORNER_QUALITY, POINT_DISTANCE, mask=mask, blockSize=5
    )
    if points is None:
        return None
    strength = cv2.cornerMinEigenVal(grey, 5)
    column, row = points[:, 0].astype(int).T
    points = points[strength[row, column] > LEAST_CORNER]
    if len(points) < LEAST_POINTS:
        return None
    moved, found = follow(grey, later, points)
    back, returned = follow(later, grey, moved)
    kept = found & returned & (np.linalg.norm(back - points, axis=-1)[:, 0] < MAX_RETURN_ERROR)
    if kept.sum() < max(LEAST_POINTS, len(points) // 2):
        return None
    spread = np.ptp(points[kept, 0], axis=0) / grey.shape[::-1]
    if spread.max() < LEAST_SPREAD:
        return None
    return np.median((moved - points)[kept, 0].astype(np.float64), axis=0)


def follow(
    first: UInt8[np.ndarray, "h wd"],
    second: UInt8[np.ndarray, "h wd"],
    points: Float32[np.ndarray, "m 1 2"],
) -> tuple[Float32[np.ndarray, "m 1 2"], Bool[np.ndarray, " m"]]:
    """Follow points by optical flow; where they are, and which were found."""
    moved, status, _ = cv2.calcOpticalFlowPyrLK(
        first, second, points, np.zeros_like(points), winSize=WINDOW, maxLevel=3
    )
    return moved.astype(np.float32), status[:, 0] > 0


def camera_sway(dataset: DatasetLayout, landmarks: Landmarks, num_workers: int) -> float | None:
    """How far the camera sways within four seconds: a typical range as a fraction of the width.

    Returns:
        The median over stretches of the take; None where the background has nothing to follow.
    """
    valid = landmarks.valid
    starts = range(0, max(len(valid) - STRETCH_FRAMES, 0) + 1, STRETCH_FRAMES)
    picks = np.unique(np.linspace(0, len(starts) - 1, MAX_STRETCHES).astype(int))

    def step(frame: int) -> Step:
        image, clear = background_of(dataset, frame)
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), clear

    ranges = []
    for begin in [starts[pick] for pick in picks]:
        frames = [
            frame
            for frame in range(begin, min(begin + STRETCH_FRAMES, len(valid)), FRAME_STEP)
            if valid[frame]
        ]
        steps = list(ordered_map(step, frames, num_workers))
        shifts = [background_shift(*pair) for pair in zip(steps, steps[1:])]
        known = [shift for shift in shifts if shift is not None]
        if len(known) < max(len(shifts) // 2, 1):
            continue
        path = np.cumsum([np.zeros(2), *known], axis=0) / steps[0][0].shape[1]
        ranges.append(float(np.ptp(path, axis=0).max()))
    return float(np.median(ranges)) if ranges else None
