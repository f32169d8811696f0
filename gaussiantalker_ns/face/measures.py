"""Scalar measures of a face from its landmarks: eye opening, blink, mouth opening and mouth width.

All take MediaPipe's landmarks in pixels, those of the eyes the 68 iBUG points, too, and are
independent of the size of the face.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.ndimage import percentile_filter

from gaussiantalker_ns.face.topology import (
    INNER_LIPS,
    LEFT_EYE_CONTOUR,
    MOUTH_CORNERS,
    OUTER_EYE_CORNERS,
    RIGHT_EYE_CONTOUR,
)

CLOSED_EYE_RATIO = 0.08
"""Eye aspect ratio of a closed eye."""
OPEN_PERCENTILE = 85
"""Percentile of the eye aspect ratio around a frame that counts as open."""
OPEN_WINDOW_FRAMES = 101
"""Frames that decide what counts as open; follows slow changes such as looking down."""
EYES_FROM_MESH = RIGHT_EYE_CONTOUR, LEFT_EYE_CONTOUR
EYES_FROM_IBUG68 = tuple(range(36, 42)), tuple(range(42, 48))
"""Contours of both eyes: a corner, two points above, the other corner, two points below."""
MIN_OPEN_RANGE = 0.05  # Keeps an always closed eye from dividing by nothing.


def landmark_distance(
    points: Float[np.ndarray, "b m k"], first: int, second: int
) -> Float[np.ndarray, " b"]:
    """Distance of two landmarks per frame, in as many dimensions as the points have."""
    return np.linalg.norm(points[:, first] - points[:, second], axis=-1)


def mouth_opening(points: Float[np.ndarray, "b m k"]) -> Float[np.ndarray, " b"]:
    """Distance of the inner lips over the distance of the outer eye corners; 0 is closed."""
    return landmark_distance(points, *INNER_LIPS) / landmark_distance(points, *OUTER_EYE_CORNERS)


def mouth_width(points: Float[np.ndarray, "b m k"]) -> Float[np.ndarray, " b"]:
    """Distance of the mouth corners over that of the outer eye corners; small for rounded lips."""
    return landmark_distance(points, *MOUTH_CORNERS) / landmark_distance(points, *OUTER_EYE_CORNERS)


def eye_aspect_ratio(
    points: Float[np.ndarray, "b m k"], eyes: Sequence[Sequence[int]] = EYES_FROM_MESH
) -> Float[np.ndarray, " b"]:
    """Height over width of the eye openings in the picture; about 0.3 open, below 0.1 closed."""
    flat = points[..., :2]
    ratios = []
    for corner, upper1, upper2, other_corner, lower2, lower1 in eyes:
        height = landmark_distance(flat, upper1, lower1) + landmark_distance(flat, upper2, lower2)
        ratios.append(height / (2 * landmark_distance(flat, corner, other_corner)))
    return (ratios[0] + ratios[1]) / 2


def blink(
    points: Float[np.ndarray, "b m k"], eyes: Sequence[Sequence[int]] = EYES_FROM_MESH
) -> Float[np.ndarray, " b"]:
    """How far the eyes are closed, in [0, 1].

    The open level is a rolling percentile, so that a person with narrow eyes and one who looks down
    both start at 0.
    """
    ratio = eye_aspect_ratio(points, eyes)
    opened = percentile_filter(ratio, OPEN_PERCENTILE, size=OPEN_WINDOW_FRAMES, mode="nearest")
    span = np.maximum(opened - CLOSED_EYE_RATIO, MIN_OPEN_RANGE)
    return np.clip((opened - ratio) / span, 0, 1)
