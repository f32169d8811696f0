"""Face motion over a sequence: lips, expression, jitter; from MediaPipe's landmarks."""

from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field

import numpy as np
from jaxtyping import Float, UInt8

from gaussiantalker_ns.face.landmarker import Face, FaceLandmarker, LandmarkConfig
from gaussiantalker_ns.face.topology import (
    INNER_LIPS,
    LOWER_BLENDSHAPES,
    MOUTH_CORNERS,
    NUM_BLENDSHAPES,
    NUM_LANDMARKS,
    STABLE_POINTS,
    UPPER_BLENDSHAPES,
)
from gaussiantalker_ns.metrics.lips import correlation, lip_scores, relative_distance
from gaussiantalker_ns.timebase import FPS

LONGEST_LAG_FRAMES = 10
FEWEST_FRAMES = 25
"""The lag of the lips is looked for up to 0.4 s, in sequences that overlap for a second."""

LONGEST_CLIP_LAG_FRAMES = 5
"""Sound of clips was found up to 130 ms off."""


def landmarker() -> AbstractContextManager[FaceLandmarker]:
    """The face landmarker for evaluation: one face a picture."""
    return FaceLandmarker(LandmarkConfig(max_faces=1))


def only_face(finder: FaceLandmarker, image: UInt8[np.ndarray, "h wd 3"]) -> Face | None:
    """The face of a picture, if there is one."""
    return next(iter(finder.detect(image)), None)


@dataclass
class FaceTrack:
    """The face in a sequence of pictures, one row a picture; NaN where none was found."""

    frames: list[int] = field(default_factory=list)
    """Numbers of the frames, rising."""
    faces: list[Face | None] = field(default_factory=list)

    def add(self, frame: int, face: Face | None) -> None:
        """Append the next picture's face."""
        self.frames.append(frame)
        self.faces.append(face)

    @property
    def points(self) -> Float[np.ndarray, "m 478 2"]:
        """Landmarks in pixels."""
        lost = np.full((NUM_LANDMARKS, 2), np.nan, np.float32)
        return np.stack([lost if face is None else face.points[:, :2] for face in self.faces])

    @property
    def blendshapes(self) -> Float[np.ndarray, "m 52"]:
        """Expression scores in [0, 1]."""
        lost = np.full(NUM_BLENDSHAPES, np.nan, np.float32)
        return np.stack([lost if face is None else face.blendshapes for face in self.faces])

    @property
    def opening(self) -> Float[np.ndarray, " m"]:
        """Mouth opening in units of the distance of the outer eye corners."""
        return relative_distance(self.points, INNER_LIPS)

    @property
    def width(self) -> Float[np.ndarray, " m"]:
        """Mouth width in the same unit."""
        return relative_distance(self.points, MOUTH_CORNERS)


def blendshape_error(
    rendered: Float[np.ndarray, "m 52"],
    real: Float[np.ndarray, "m 52"],
    columns: tuple[int, ...],
) -> float:
    """Mean absolute difference of some expression scores over the frames that have both."""
    difference = np.abs(rendered[:, columns] - real[:, columns])
    seen = np.isfinite(difference).all(axis=1)
    return float(difference[seen].mean()) if seen.any() else float("nan")


def landmark_jitter(points: Float[np.ndarray, "m 478 2"], frames: list[int]) -> float:
    """How much the points that no expression moves shake, in pixels.

    It is the mean length of their second difference over three consecutive frames, so steady
    motion costs nothing. Points at 0, 0, 1, 1 px in four frames shake by 1 px.
    """
    stable = points[:, list(STABLE_POINTS)]
    numbers = np.array(frames)
    together = np.flatnonzero(numbers[2:] - numbers[:-2] == 2)
    second = stable[together + 2] - 2 * stable[together + 1] + stable[together]
    lengths = np.linalg.norm(second, axis=-1)
    seen = np.isfinite(lengths).all(axis=1)
    return float(lengths[seen].mean()) if seen.any() else float("nan")


def lip_lag_ms(rendered: FaceTrack, real: FaceTrack) -> float:
    """By how much the rendered lips are later than the real ones, in milliseconds.

    The mean correlation of opening and width is computed for lags of up to 10 frames, over at least
    25 frames that both tracks have; the lag is where it peaks, refined by a parabola. NaN where the
    lips do not tell: they stand still, or the peak is at the end of the range.
    """
    lags = range(-LONGEST_LAG_FRAMES, LONGEST_LAG_FRAMES + 1)
    series = [
        (dict(zip(rendered.frames, first.tolist())), dict(zip(real.frames, second.tolist())))
        for first, second in ((rendered.opening, real.opening), (rendered.width, real.width))
    ]
    curve = np.array([np.mean([lagged_correlation(*pair, lag) for pair in series]) for lag in lags])
    if not np.isfinite(curve).all():
        return float("nan")
    best = int(curve.argmax())
    if best in (0, len(curve) - 1):
        return float("nan")
    left, middle, right = curve[best - 1 : best + 2]
    shift = 0.5 * (left - right) / (left - 2 * middle + right)
    return float((lags[best] + shift) * 1000 / FPS)


def correlations_at_best_lag(rendered: FaceTrack, real: FaceTrack) -> tuple[float, float]:
    """Correlations of opening and width at the lag, within five frames, where their sum peaks.

    The sound of other people's clips may be late or early by a tenth of a second, which says
    nothing about a head. NaN where there are too few frames, or lips stand still.
    """
    opening, width = (
        (dict(zip(rendered.frames, first.tolist())), dict(zip(real.frames, second.tolist())))
        for first, second in ((rendered.opening, real.opening), (rendered.width, real.width))
    )
    found = [
        (lagged_correlation(*opening, lag), lagged_correlation(*width, lag))
        for lag in range(-LONGEST_CLIP_LAG_FRAMES, LONGEST_CLIP_LAG_FRAMES + 1)
    ]
    sums = np.array([sum(pair) for pair in found])
    if not np.isfinite(sums).any():
        return float("nan"), float("nan")
    return found[int(np.nanargmax(sums))]


def lagged_correlation(rendered: dict[int, float], real: dict[int, float], lag: int) -> float:
    """Correlation of rendered frames with the real ones `lag` frames before; NaN for too few."""
    pairs = [(value, real[f - lag]) for f, value in rendered.items() if f - lag in real]
    values = np.array([pair for pair in pairs if np.isfinite(pair).all()], np.float64)
    if len(values) < FEWEST_FRAMES:
        return float("nan")
    return correlation(values[:, 0], values[:, 1])


def motion_values(rendered: FaceTrack, real: FaceTrack) -> dict[str, float]:
    """Everything that is measured on two tracks of the same frames."""
    scores = lip_scores(rendered.points, real.points)
    blendshapes = rendered.blendshapes, real.blendshapes
    shake, real_shake = (landmark_jitter(t.points, t.frames) for t in (rendered, real))
    return {
        **{f"lips_{name}": float(value) for name, value in asdict(scores).items()},
        "lips_lag_ms": lip_lag_ms(rendered, real),
        "blendshape_error_lower": blendshape_error(*blendshapes, LOWER_BLENDSHAPES),
        "blendshape_error_upper": blendshape_error(*blendshapes, UPPER_BLENDSHAPES),
        "jitter_px": shake,
        "jitter_ratio": shake / real_shake if real_shake > 0 else float("nan"),
    }
