"""Hair, eyebrows and eyelashes as thousands of groomed strands.

The scalp is described by its radius as a function of direction from a centre inside the skull, so a
strand is a path of directions (the comb field) with a height above the scalp; it cannot enter the
skull. Strands gather into locks towards their tips.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.interpolate import NearestNDInterpolator
from scipy.ndimage import gaussian_filter1d, map_coordinates
from scipy.spatial import KDTree

from gaussiantalker_ns.scripts.dev.sample.parts import HAIR, Mesh, Strands

CENTRE = np.array([0.0, 0.045, -0.045])
"""Centre of the directions, in the head frame."""
NUM_STRANDS = 14000
NUM_LOCKS = 620
NUM_POINTS = 10
BACK_LIMIT = -0.42
"""Strands whose root direction lies farther back are left out: the camera never sees them."""
PART_X = 0.028
"""Where the parting lies, in metres to the person's left."""
HAIRLINE_DEG = np.array(
    [[0, 34], [20, 35], [38, 34], [50, 29], [62, 21], [70, 11], [76, -1], [82, -15], [88, -16],
     [93, -4], [100, -10], [108, -22], [116, -32], [126, -38], [140, -43], [160, -46], [180, -47]]
)  # fmt: skip
"""Elevation of the hairline over azimuth (0 is the front), in degrees."""
BASE_COLOUR = np.array([0.085, 0.042, 0.021])
"""Linear albedo of chestnut brown."""


@dataclass
class Scalp:
    """Radius of the head over direction, ears left out."""

    table: Float[np.ndarray, "a e"]

    @classmethod
    def of(cls, skin: Mesh) -> "Scalp":
        """Tabulate the skin's outer radius."""
        use = (skin.masks["ear"] < 0.02) & (skin.rest[:, 1] > -0.10) & (skin.masks["mouth"] < 0.5)
        offset = skin.rest[use] - CENTRE
        azimuth, elevation = angles(offset)
        azimuths = np.concatenate([azimuth - 360, azimuth, azimuth + 360])
        lookup = NearestNDInterpolator(
            np.stack([azimuths, np.tile(elevation, 3)], 1),
            np.tile(np.linalg.norm(offset, axis=1), 3),
        )
        grid = np.meshgrid(np.arange(-180, 180, 2.0), np.arange(-90, 91, 2.0), indexing="ij")
        table = lookup(*grid)
        return cls(
            gaussian_filter1d(gaussian_filter1d(table, 1.5, axis=0, mode="wrap"), 1.5, axis=1)
        )

    def radius(self, direction: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "..."]:
        """Return the scalp's radius in unit directions."""
        azimuth, elevation = angles(direction)
        where = np.stack([(azimuth + 180) / 2, (elevation + 90) / 2])
        return map_coordinates(self.table, where, order=1, mode="grid-wrap")


def angles(offset: Float[np.ndarray, "... 3"]) -> tuple[np.ndarray, np.ndarray]:
    """Return azimuth (0 front, positive to the person's left) and elevation in degrees."""
    flat = np.hypot(offset[..., 0], offset[..., 2])
    azimuth = np.degrees(np.arctan2(offset[..., 0], offset[..., 2]))
    return azimuth, np.degrees(np.arctan2(offset[..., 1], flat))


def hair_mask(offset: Float[np.ndarray, "... 3"], soft_deg: float) -> Float[np.ndarray, "..."]:
    """Return 1 where hair grows and 0 where not, with a soft hairline, from offsets to CENTRE."""
    azimuth, elevation = angles(offset)
    line = np.interp(np.abs(azimuth), HAIRLINE_DEG[:, 0], HAIRLINE_DEG[:, 1])
    line = line + 1.8 * np.sin(azimuth * 0.35 + 1.0) + 1.0 * np.sin(azimuth * 0.9)
    return np.clip((elevation - line) / soft_deg + 0.5, 0, 1)


def smooth(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """Return the smoothstep of a value between two limits."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _roots(rng: np.random.Generator) -> Float[np.ndarray, "s 3"]:
    """Draw root directions uniformly where hair grows."""
    draw = rng.normal(size=(NUM_STRANDS * 6, 3))
    draw /= np.linalg.norm(draw, axis=1, keepdims=True)
    keep = (hair_mask(draw, 9.0) > rng.random(len(draw))) & (draw[:, 2] > BACK_LIMIT)
    return draw[keep][:NUM_STRANDS]


def _comb(direction: np.ndarray, top: np.ndarray) -> Float[np.ndarray, "s 3"]:
    """Return the comb direction: swept over from a side parting on top, down and back elsewhere."""
    x = direction[:, 0]
    right = smooth(0.02, -0.02, x * 0.11 - PART_X)[:, None]
    over = np.array([-0.62, 0.0, -0.80]) * right + np.array([0.55, -0.25, -0.80]) * (1 - right)
    behind = smooth(0.0, -0.7, direction[:, 2])[:, None]
    sides = np.array([0.0, -0.75, -0.66]) * (1 - behind) + np.array([0.0, -1.0, -0.15]) * behind
    flow = over * top[:, None] + sides * (1 - top[:, None])
    flow -= (flow * direction).sum(axis=1, keepdims=True) * direction
    return flow / np.maximum(np.linalg.norm(flow, axis=1, keepdims=True), 1e-9)


def _grow(
    scalp: Scalp, roots: np.ndarray, rng: np.random.Generator, wild: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return strand points [s p 3] and the height of each point over its volume [s p]."""
    top0 = smooth(0.46, 0.80, roots[:, 1] + 0.25 * np.clip(roots[:, 2], 0, 1))
    front = smooth(0.1, 0.75, roots[:, 2]) * top0
    edge = hair_mask(roots, 26.0)
    left = smooth(-0.01, 0.02, roots[:, 0] * 0.11 - PART_X)
    length = 0.024 + (0.040 - 0.012 * left) * top0 + 0.012 * front
    length *= (0.45 + 0.55 * smooth(0.4, 1.0, edge)) * (
        1 + wild * 0.12 * rng.normal(size=len(roots))
    )
    lift = (0.0062 + (0.0118 - 0.004 * left) * top0 + 0.009 * front) * (
        0.55 + 0.45 * smooth(0.4, 1.0, edge)
    )
    lift *= 1 + wild * 0.14 * rng.normal(size=len(roots))
    part = np.exp(-(((roots[:, 0] * 0.11 - PART_X) / 0.004) ** 2)) * top0 * (roots[:, 2] > -0.45)
    lift *= 1 - 0.75 * part
    direction = roots.copy()
    wobble = wild * 0.055 * rng.normal(size=(len(roots), 3))
    phase = rng.random(len(roots)) * 6.28
    points, heights = [], []
    for k in range(NUM_POINTS):
        t = k / (NUM_POINTS - 1)
        rise = 1 - (1 - min(t / 0.45, 1)) ** 2.2
        height = lift * rise * (1 - 0.42 * max(t - 0.45, 0) ** 1.5) - 0.0008
        height = height + wild * lift * 0.07 * np.sin(phase + 7 * t) * t
        # Hair that has come over the edge of the top hangs close to the side of the head.
        height = height * (0.52 + 0.48 * smooth(0.30, 0.72, direction[:, 1]))
        points.append(CENTRE + direction * (scalp.radius(direction) + height)[:, None])
        heights.append(height)
        slow = 0.35 + 0.65 * min(t / 0.3, 1)
        step = length / (NUM_POINTS - 1) * slow / 0.10
        top = smooth(0.40, 0.72, direction[:, 1] + 0.25 * np.clip(direction[:, 2], 0, 1))
        flow = _comb(direction, np.maximum(top, top0 * (1 - t))) + wobble
        direction = direction + flow * step[:, None]
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return np.stack(points, axis=1), np.stack(heights, axis=1)


def hair(skin: Mesh, rng: np.random.Generator) -> Strands:
    """Groom the hair; it is rigid with the head."""
    scalp = Scalp.of(skin)
    roots = _roots(rng)
    points, heights = _grow(scalp, roots, rng, wild=1.0)
    lock_roots = roots[rng.choice(len(roots), NUM_LOCKS, replace=False)]
    locks, _ = _grow(scalp, lock_roots, rng, wild=1.6)
    nearest = KDTree(lock_roots).query(roots)[1]
    t = np.linspace(0, 1, NUM_POINTS)[None, :, None]
    top = smooth(0.4, 0.8, roots[:, 1])[:, None, None]
    loose = (rng.random((len(roots), 1, 1)) < 0.04) * 0.7
    gather = (
        (0.50 + 0.22 * top) * t**1.3 * (1 - loose) * (0.6 + 0.4 * rng.random((len(roots), 1, 1)))
    )
    points = points + gather * (locks[nearest] - points)
    radius = np.linalg.norm(points - CENTRE, axis=-1)
    floor = scalp.radius((points - CENTRE) / radius[..., None]) + 0.0006
    floor[:, 0] -= 0.0016
    points = CENTRE + (points - CENTRE) * (np.maximum(radius, floor) / radius)[..., None]
    lock_tint = (1 + 0.22 * rng.normal(size=NUM_LOCKS))[nearest]
    tint = np.clip(lock_tint * (1 + 0.18 * rng.normal(size=len(roots))), 0.45, 1.9)
    colour = BASE_COLOUR * tint[:, None] ** np.array([1.0, 1.08, 1.15])
    edge = hair_mask(roots, 9.0)[:, None]
    width = np.full(points.shape[:2], 0.00056) * (0.6 + 0.4 * edge) * (1 - 0.55 * t[..., 0] ** 3)
    reach = np.maximum(heights.max(axis=1, keepdims=True), 1e-4)
    occlusion = 0.30 + 0.70 * np.clip(heights / reach, 0, 1) ** 1.2
    return Strands(points, width, HAIR, colour, occlusion)
