"""Things before the lower half of a face: hands, microphones, title bars, cups.

The landmarker guesses the mouth behind them, so that landmarks alone do not tell. What tells is the
colour at the same places of the skin, compared with the same clip's other frames: the places move
with the landmarks, the light is taken from the eyes upwards, and what head pose and mouth opening
explain is taken off. Light that changes leaves the pattern of nose and lips; a thing hides it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from gaussiantalker_ns.face.canonical_mesh import canonical_mesh
from gaussiantalker_ns.face.landmarker import Landmarks
from gaussiantalker_ns.face.measures import mouth_opening, mouth_width
from gaussiantalker_ns.face.topology import (
    FACE_OVAL,
    FOREHEAD,
    LIPS_INNER,
    NOSE_TIP,
    OUTER_EYE_CORNERS,
)
from gaussiantalker_ns.files import ordered_map, read_rgb
from gaussiantalker_ns.timebase import spans

# Limits in metres of the canonical mesh (x to the person's left, y up).
LOWER_TOP, LOWER_HALF_WIDTH = 0.0, 0.05
EYES_BOTTOM, EYES_TOP, CHEEKS_HALF_WIDTH = 0.02, 0.03, 0.06
PATTERN_RADIUS = 0.012
"""Over this distance colours are averaged to see the pattern without the shading."""

BLUR = 1 / 80
"""Standard deviation of the blur before sampling, in face sides: hides noise and pores."""
LEAST_CHANGE, SPREADS = 18.0, 5.0
"""A place has changed by this distance in 8-bit CIELAB, and this many of its median deviations."""
CHANGED, CHANGED_BESIDE = 0.18, 0.08
"""Fraction of the lower face that has changed in covered frames, and in frames beside them."""
SAME_PATTERN, SAME_PATTERN_BESIDE = 0.7, 0.85
"""Correlation of the pattern with the usual one, below which a frame is covered."""
OTHER_GROUP = 0.1
"""Changed fraction of the lower face from which on a frame does not tell what is usual."""
SKIN_DISTANCE, LESS_SKIN = 16.0, 0.15
"""How far skin is from the skin around the eyes, and how much less of it makes another group."""
LEAST_GROUP, MIN_GROUP = 0.05, 10
"""The smallest group, as a fraction of the frames and as their number."""
RIDGE = 1e-3
LEAST_FRAMES, MAX_FRAMES = 50, 1000
"""Frames without which nothing is usual, and those that suffice to learn what is."""
BESIDE_FRAMES = 2
"""Frames between covered ones that go with them, too."""


@dataclass(frozen=True)
class SkinPlaces:
    """Triangles of the mesh at whose middles faces are compared; masks are over those."""

    triangles: np.ndarray
    lower: Bool[np.ndarray, " m"]
    """From the nose to the chin, without the inside of the mouth."""
    upper: Bool[np.ndarray, " m"]
    """Upper cheeks and forehead, which tell the light."""
    near: Float64[np.ndarray, "m m"]
    """Weights that average over the places around each one."""


@lru_cache(maxsize=1)
def skin_places() -> SkinPlaces:
    """The places on every face."""
    mesh = canonical_mesh()
    middle = mesh.vertices[mesh.triangles].mean(axis=1)
    x, y = np.abs(middle[:, 0]), middle[:, 1]
    rim = np.isin(mesh.triangles, FACE_OVAL).any(axis=1)
    mouth = np.isin(mesh.triangles, LIPS_INNER).all(axis=1)
    lower = (y < LOWER_TOP) & (x < LOWER_HALF_WIDTH) & ~rim & ~mouth
    cheeks = (y > LOWER_TOP) & (y < EYES_BOTTOM) & (x < CHEEKS_HALF_WIDTH)
    upper = cheeks | ((y > EYES_TOP) & ~rim)
    kept = lower | upper
    flat = middle[kept, :2]
    distance = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    near = np.exp(-((distance / PATTERN_RADIUS) ** 2))
    return SkinPlaces(mesh.triangles[kept], lower[kept], upper[kept], near)


def sample_skin(
    image_paths: Sequence[Path], points: Float32[np.ndarray, "b 478 2"], num_workers: int
) -> UInt8[np.ndarray, "b m 3"]:
    """Colours (8-bit CIELAB) of every frame at the places of its face."""
    triangles = skin_places().triangles
    side = float(np.median(np.ptp(points, axis=1).max(axis=-1)))
    margin = int(side / 8) + 2

    def sample(frame: int) -> UInt8[np.ndarray, "m 3"]:
        image = read_rgb(image_paths[frame])
        x0, y0 = np.maximum(points[frame].min(axis=0).astype(int) - margin, 0)
        x1, y1 = np.maximum(points[frame].max(axis=0).astype(int) + margin, (x0 + 2, y0 + 2))
        face = image[y0:y1, x0:x1]
        if not face.size:
            return np.zeros((len(triangles), 3), np.uint8)
        soft = cv2.GaussianBlur(
            cv2.cvtColor(face, cv2.COLOR_RGB2LAB), (0, 0), max(side * BLUR, 0.5)
        )
        x, y = (points[frame][triangles].mean(axis=1) - (x0 + 0.5, y0 + 0.5)).T.astype(np.float32)
        colors = cv2.remap(soft, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return colors.reshape(-1, 3)

    return np.stack(list(ordered_map(sample, range(len(image_paths)), num_workers)))


def pose_signals(points: Float32[np.ndarray, "b 478 2"]) -> Float64[np.ndarray, "b k"]:
    """What shading follows: place, size and direction of the face, and the mouth's opening."""
    points = points.astype(np.float64)
    left, right = (points[:, corner] for corner in OUTER_EYE_CORNERS)
    span = np.linalg.norm(right - left, axis=-1, keepdims=True)
    middle, across = (left + right) / 2, (right - left) / span
    down = np.stack([-across[:, 1], across[:, 0]], axis=-1)
    turns = [
        ((points[:, index] - middle) * axis).sum(axis=-1) / span[:, 0]
        for index in (NOSE_TIP, FOREHEAD)
        for axis in (across, down)
    ]
    mouth = [mouth_opening(points), mouth_width(points)]
    roll = np.arctan2(across[:, 1], across[:, 0])
    return np.stack([*(middle / np.median(span)).T, np.log(span[:, 0]), roll, *turns, *mouth], 1)


class UsualFace:
    """What the lower face looks like in most frames of a clip, as a function of the pose.

    Args:
        colors: Colours of the frames to learn from.
        signals: Their pose signals.
        areas: How much of the face each place stands for.
    """

    def __init__(
        self,
        colors: Float64[np.ndarray, "b m 3"],
        signals: Float64[np.ndarray, "b k"],
        areas: Float64[np.ndarray, " m"],
    ) -> None:
        self.places = skin_places()
        self.weights = areas * self.places.lower / (areas * self.places.lower).sum()
        self.average = self.places.near * areas / (self.places.near @ areas)[:, None]
        self.light = np.median(colors, axis=0)[self.places.upper]
        lit = self.in_usual_light(colors)
        usual = self._usual_frames(colors, lit)
        self.range = np.percentile(signals[usual], (1, 99), axis=0)
        x = self._centered(signals)
        self.mean_signal = x[usual].mean(axis=0)
        x, self.mean = x[usual] - self.mean_signal, lit[usual].mean(axis=0)
        flat = (lit[usual] - self.mean).reshape(len(x), -1)
        scale = np.maximum(x.std(axis=0), 1e-6)
        penalty = RIDGE * len(x) * np.diag(scale**2)
        self.slopes = np.linalg.solve(x.T @ x + penalty, x.T @ flat)
        residual = lit[usual] - self._expected(signals[usual])
        self.mean = self.mean + np.median(residual, axis=0)
        residual = residual - np.median(residual, axis=0)
        spread = np.linalg.norm(np.median(np.abs(residual), axis=0), axis=-1)
        self.limit = np.maximum(LEAST_CHANGE, SPREADS * spread)
        self.pattern = np.median(self._pattern(colors[usual]), axis=0)

    def in_usual_light(self, colors: Float64[np.ndarray, "b m 3"]) -> Float64[np.ndarray, "b m 3"]:
        """Colours without what has changed all over the upper face."""
        return colors - np.median(colors[:, self.places.upper] - self.light, axis=1)[:, None]

    def _usual_frames(
        self, colors: Float64[np.ndarray, "b m 3"], lit: Float64[np.ndarray, "b m 3"]
    ) -> Bool[np.ndarray, " b"]:
        """The frames in which nothing is before the face: not always the most.

        Where some frames show less skin than others (a title bar, or a beard behind a hand), the
        face is in those whose pattern keeps still: the landmarks follow it, not the thing.
        """
        skin = self._skin(lit)
        bare = skin >= np.percentile(skin, 95) - LESS_SKIN
        least = max(LEAST_GROUP * len(lit), MIN_GROUP)
        groups = [group for group in (bare, ~bare) if group.sum() >= least]
        group = max(groups, key=lambda group: self._coherence(colors[group]))
        usual = self._changed(lit - np.median(lit[group], axis=0), LEAST_CHANGE) < OTHER_GROUP
        usual &= group
        return usual if usual.sum() >= MIN_GROUP else group

    def _coherence(self, colors: Float64[np.ndarray, "b m 3"]) -> float:
        """How well the patterns of some frames agree, but for the worst tenth of them."""
        pattern = self._pattern(colors)
        typical = np.median(pattern, axis=0)
        return float(np.percentile(pattern @ typical / np.linalg.norm(typical), 10))

    def _changed(
        self, residual: Float64[np.ndarray, "b m 3"], limit: Float64[np.ndarray, " m"] | float
    ) -> Float64[np.ndarray, " b"]:
        """Fraction of the lower face that differs by more than a limit."""
        return (np.linalg.norm(residual, axis=-1) > limit) @ self.weights

    def _skin(self, lit: Float64[np.ndarray, "b m 3"]) -> Float64[np.ndarray, " b"]:
        """Fraction of the lower face that has the colour of the upper face's skin."""
        difference = lit - np.median(lit[:, self.places.upper], axis=1)[:, None]
        difference[..., 0] /= 4.0  # Shading changes the lightness most.
        return (np.linalg.norm(difference, axis=-1) < SKIN_DISTANCE) @ self.weights

    def _centered(self, signals: Float64[np.ndarray, "b k"]) -> Float64[np.ndarray, "b k"]:
        """Signals inside the range that was seen: beyond it nothing is known."""
        return np.clip(signals, *self.range)

    def _expected(self, signals: Float64[np.ndarray, "b k"]) -> Float64[np.ndarray, "b m 3"]:
        shift = (self._centered(signals) - self.mean_signal) @ self.slopes
        return self.mean + shift.reshape(len(signals), *self.mean.shape)

    def _pattern(self, colors: Float64[np.ndarray, "b m 3"]) -> Float64[np.ndarray, "b m"]:
        """Lightness against that around, with mean 0 and length 1 over the lower face."""
        light = colors[..., 0]
        pattern = light - light @ self.average.T
        pattern = (pattern - (pattern @ self.weights)[:, None]) * np.sqrt(self.weights)
        return pattern / np.maximum(np.linalg.norm(pattern, axis=1, keepdims=True), 1e-9)

    def compare(
        self, colors: Float64[np.ndarray, "b m 3"], signals: Float64[np.ndarray, "b k"]
    ) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
        """Fraction of the lower face that has changed, and the correlation of its pattern."""
        residual = self.in_usual_light(colors) - self._expected(signals)
        usual = self.pattern / max(float(np.linalg.norm(self.pattern)), 1e-9)
        return self._changed(residual, self.limit), self._pattern(colors) @ usual


def covered_in_shot(
    colors: UInt8[np.ndarray, "b m 3"],
    points: Float32[np.ndarray, "b 478 2"],
    valid: Bool[np.ndarray, " b"],
) -> Bool[np.ndarray, " b"]:
    """Frames of one shot in which something is before the lower face."""
    covered = np.zeros_like(valid)
    frames = np.flatnonzero(valid)
    if len(frames) < LEAST_FRAMES:
        return covered
    signals = pose_signals(points)
    picks = frames[np.unique(np.linspace(0, len(frames) - 1, MAX_FRAMES).astype(int))]
    a, b, c = np.moveaxis(points[picks][:, skin_places().triangles].astype(np.float64), 2, 0)
    first, second = b - a, c - a
    areas = np.abs(first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0])
    usual = UsualFace(colors[picks].astype(np.float64), signals[picks], np.median(areas, axis=0))
    beside = np.zeros_like(valid)
    for begin in range(0, len(frames), MAX_FRAMES):
        some = frames[begin : begin + MAX_FRAMES]
        changed, alike = usual.compare(colors[some].astype(np.float64), signals[some])
        covered[some] = (changed > CHANGED) & (alike < SAME_PATTERN)
        beside[some] = (changed > CHANGED_BESIDE) & (alike < SAME_PATTERN_BESIDE)
    for first_frame, last in spans(np.flatnonzero(beside | covered).tolist(), 1):
        if covered[first_frame : last + 1].any():
            covered[first_frame : last + 1] = True
    for first_frame, last in spans(np.flatnonzero(covered).tolist(), 1 + BESIDE_FRAMES):
        covered[first_frame : last + 1] = True
    return covered & valid


def covered_frames(
    image_paths: Sequence[Path], landmarks: Landmarks, cuts: Sequence[int], num_workers: int
) -> Bool[np.ndarray, " b"]:
    """Frames in which something is before the lower half of the face.

    A thing that is there all the time cannot be told from the face, and neither can one in a shot
    of less than two seconds.

    Args:
        image_paths: The pictures of all frames.
        landmarks: Their landmarks.
        cuts: First frames of new shots, each of which is compared with itself alone.
        num_workers: Threads.
    """
    points = landmarks.points[..., :2]
    colors = sample_skin(image_paths, points, num_workers)
    edges = [0, *(cut for cut in cuts if 0 < cut < len(points)), len(points)]
    parts = [slice(begin, end) for begin, end in zip(edges, edges[1:])]
    return np.concatenate(
        [covered_in_shot(colors[part], points[part], landmarks.valid[part]) for part in parts]
    )
