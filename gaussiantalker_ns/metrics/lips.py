"""Lip metrics: mouth opening, mouth width and lip landmarks against the real frames.

Peak signal-to-noise ratios hardly see the mouth, so these values stand in the training log. The
same landmarker (MediaPipe face landmarker in IMAGE mode; VIDEO mode delays and damps the opening)
is run on the render and on the real frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from gaussiantalker_ns.face.topology import (
    INNER_LIPS,
    LIP_POINTS,
    MOUTH_CORNERS,
    OUTER_EYE_CORNERS,
)


@dataclass(frozen=True)
class LipScores:
    """The agreement of rendered and real lips over a sequence of frames."""

    open_correlation: float
    """Pearson correlation of the mouth opening, in [-1, 1]."""
    width_correlation: float
    """Pearson correlation of the mouth width, in [-1, 1]."""
    open_amplitude: float
    """Standard deviation of the rendered opening over that of the real one; below 1 mumbles."""
    landmark_distance: float
    """Mean distance of the lip points in pixels, each frame's set minus its mean."""
    num_frames: int
    """Frames in which a face was found in both pictures."""


def relative_distance(
    points: Float[np.ndarray, "m 478 2"], pair: Sequence[int]
) -> Float[np.ndarray, " m"]:
    """The distance of two landmarks in units of the outer eye distance."""

    def distance(first: int, second: int) -> Float[np.ndarray, " m"]:
        return np.linalg.norm(points[:, first] - points[:, second], axis=-1)

    return distance(*pair) / distance(*OUTER_EYE_CORNERS)


def correlation(first: Float[np.ndarray, " m"], second: Float[np.ndarray, " m"]) -> float:
    """Pearson correlation, NaN if a series stands still. ([0, 1, 2], [0, 2, 4]) -> 1.0."""
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / norm if norm > 0 else float("nan")


def lip_landmark_distance(
    rendered: Float[np.ndarray, "m 478 2"], real: Float[np.ndarray, "m 478 2"]
) -> float:
    """Mean distance of the 40 lip points in pixels, the mean of each frame's set taken away."""
    rendered, real = rendered[:, LIP_POINTS, :], real[:, LIP_POINTS, :]
    rendered = rendered - rendered.mean(axis=1, keepdims=True)
    real = real - real.mean(axis=1, keepdims=True)
    return float(np.linalg.norm(rendered - real, axis=-1).mean())


def lip_scores(
    rendered: Float[np.ndarray, "m 478 2"], real: Float[np.ndarray, "m 478 2"]
) -> LipScores:
    """Compare the lips of rendered frames with those of the real frames.

    Args:
        rendered: Landmarks of the renders in pixels; frames without a face are NaN.
        real: Landmarks of the real frames at the same size.
    """
    finite = np.isfinite(rendered) & np.isfinite(real)
    seen: Bool[np.ndarray, " m"] = np.asarray(finite.all(axis=(1, 2)))
    if seen.sum() < 2:
        nan = float("nan")
        return LipScores(nan, nan, nan, nan, int(seen.sum()))
    rendered, real = rendered[seen], real[seen]
    opening, opening_real = (relative_distance(points, INNER_LIPS) for points in (rendered, real))
    width, width_real = (relative_distance(points, MOUTH_CORNERS) for points in (rendered, real))
    std = float(opening_real.std())
    return LipScores(
        open_correlation=correlation(opening, opening_real),
        width_correlation=correlation(width, width_real),
        open_amplitude=float(opening.std()) / std if std > 0 else float("nan"),
        landmark_distance=lip_landmark_distance(rendered, real),
        num_frames=int(seen.sum()),
    )
