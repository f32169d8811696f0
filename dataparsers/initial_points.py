"""Initial points of the canonical head: samples of the face mesh, of the mouth, and of the hair.

Hair, ears and the back of the head have no mesh. They are carved: random points that fall into the
head mask of about 25 frames, outside the face oval, on a surface inflated from the silhouettes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from gaussiantalker_ns.dataparsers.cameras import SCENE_UNITS_PER_METRE, project_points
from gaussiantalker_ns.dataparsers.face_mesh import FaceMesh
from gaussiantalker_ns.dataparsers.visual_hull import Silhouettes, carve_hair
from gaussiantalker_ns.face.topology import (
    BROW_LEFT,
    BROW_RIGHT,
    EYE_LEFT,
    EYE_RIGHT,
    LIPS_INNER,
    LIPS_OUTER,
    NOSE_TIP,
    NOSE_TO_LIP,
    NUM_MESH_POINTS,
)

NUM_PUBLIC_VERTICES = 34_650  # Of the Basel face model as public trackers cut it out.
# Differs from GaussianTalker: not the face alone starts with points.
FACE_FRACTION, MOUTH_FRACTION = 0.625, 0.04  # The rest is hair, ears and the back of the head.
LIPS_WEIGHT, EYES_WEIGHT = 3.0, 2.0
MOUTH_DEPTH = (0.03, 0.30)  # How far points inside the mouth lie behind the lips, scene units.
MOUTH_HEIGHT = 0.10  # Half the height of the mouth's inside, scene units.
MOUTH_SHADE = 0.4  # Teeth and tongue are darker than the closed lips whose colour they get.
BOUNDS_MARGIN = 0.06  # Added on every side of the bounds, as a fraction of their extent.


@dataclass(frozen=True)
class InitialPoints:
    """Where the canonical Gaussians start."""

    positions: Float32[Tensor, "n 3"]
    """Head space, scene units."""
    colors: UInt8[Tensor, "n 3"]
    """RGB."""
    bounds: Float32[Tensor, "2 3"]
    """Smallest and largest corner of a box around head and hair, scene units."""


def points_from_mesh(
    mesh: FaceMesh, silhouettes: Silhouettes, num_points: int | None, seed: int
) -> InitialPoints:
    """Sample face, mouth and hair, `num_points` in all, and colour them from the frames.

    With None there are as many as the public code has, or, on a mesh like its own, one on every
    vertex of the face, and mouth and hair in the usual fractions of these.
    """
    rng = np.random.default_rng(seed)
    vertices = mesh.vertices.astype(np.float64) * SCENE_UNITS_PER_METRE
    total = _usual_count(mesh) if num_points is None else num_points
    num_face, num_mouth = round(total * FACE_FRACTION), round(total * MOUTH_FRACTION)
    num_hair = total - num_face - num_mouth
    if num_points is None and mesh.landmarks is not None:
        num_face, face = len(vertices), vertices
    else:
        face = _sample_face(vertices, mesh.triangles, num_face, rng)
    lips = mesh.named_vertices[list(LIPS_INNER)].astype(np.float64) * SCENE_UNITS_PER_METRE
    mouth = _sample_mouth(lips, num_mouth, rng)
    hair = carve_hair(vertices, silhouettes, num_hair, rng)
    positions = np.concatenate([face, mouth, hair])
    colors = sample_colors(positions, silhouettes)
    inside = slice(num_face, num_face + num_mouth)
    colors[inside] = (colors[inside] * MOUTH_SHADE).astype(np.uint8)
    return _bundle(positions, colors, np.concatenate([positions, vertices]))


def points_at_random(
    mesh: FaceMesh, silhouettes: Silhouettes, num_points: int | None, seed: int
) -> InitialPoints:
    """Points all over the box around the head with random colours: the baseline without a mesh."""
    num_points = _usual_count(mesh) if num_points is None else num_points
    rng = np.random.default_rng(seed)
    vertices = mesh.vertices.astype(np.float64) * SCENE_UNITS_PER_METRE
    hair = carve_hair(vertices, silhouettes, 1000, rng)
    extent = np.concatenate([vertices, hair])
    positions = rng.uniform(extent.min(axis=0), extent.max(axis=0), (num_points, 3))
    colors = rng.integers(0, 256, (num_points, 3), dtype=np.uint8)
    return _bundle(positions, colors, extent)


def mouth_border(mesh: FaceMesh) -> Float32[Tensor, "2"]:
    """Heights in head space, scene units: halfway from nose to upper lip, and the tip of the nose.

    What lies below the first belongs to mouth and jaw, what lies above the second does not.
    """
    vertices = mesh.named_vertices.astype(np.float64) * SCENE_UNITS_PER_METRE
    low, high = vertices[list(NOSE_TO_LIP), 1].mean(), vertices[NOSE_TIP, 1]
    return torch.tensor([low, high], dtype=torch.float32)


def sample_colors(
    positions: Float[np.ndarray, "n 3"], silhouettes: Silhouettes
) -> UInt8[np.ndarray, "n 3"]:
    """Mean colour of the pixels on which the points fall in the frames kept for colour."""
    total = np.zeros((len(positions), 3))
    for pose, image in zip(silhouettes.color_poses, silhouettes.color_images):
        pixels = project_points(
            torch.from_numpy(positions), pose, silhouettes.focal, silhouettes.cx, silhouettes.cy
        ).numpy()
        column, row = np.clip(pixels, 0, len(image) - 1).astype(int).T
        total += image[row, column]
    return (total / len(silhouettes.color_images)).round().astype(np.uint8)


def _bundle(
    positions: Float[np.ndarray, "n 3"],
    colors: UInt8[np.ndarray, "n 3"],
    extent: Float[np.ndarray, "m 3"],
) -> InitialPoints:
    low, high = extent.min(axis=0), extent.max(axis=0)
    margin = BOUNDS_MARGIN * (high - low)
    return InitialPoints(
        torch.from_numpy(positions.astype(np.float32)),
        torch.from_numpy(colors),
        torch.from_numpy(np.stack([low - margin, high + margin]).astype(np.float32)),
    )


def _usual_count(mesh: FaceMesh) -> int:
    """The public code's number of points: the vertices of its mesh, which is finer than ours."""
    return NUM_PUBLIC_VERTICES if mesh.landmarks is None else len(mesh.vertices)


def _sample_face(
    vertices: Float[np.ndarray, "m 3"],
    triangles: np.ndarray | None,
    count: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "n 3"]:
    """Points on the surface, more of them where the face moves most."""
    if triangles is None:
        weights = np.ones(len(vertices))
        if len(vertices) == NUM_MESH_POINTS:
            weights = _vertex_weights()
        replace = count > np.count_nonzero(weights)
        return vertices[rng.choice(len(vertices), count, bool(replace), weights / weights.sum())]
    corners = vertices[triangles]
    sides = corners[:, 1:] - corners[:, :1]
    weights = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
    if len(vertices) == NUM_MESH_POINTS:
        weights = weights * _vertex_weights()[triangles].max(axis=1)
    chosen = corners[rng.choice(len(triangles), count, p=weights / weights.sum())]
    u, v = rng.random((2, count, 1))
    outside = u + v > 1
    u, v = np.where(outside, 1 - u, u), np.where(outside, 1 - v, v)
    return chosen[:, 0] + u * (chosen[:, 1] - chosen[:, 0]) + v * (chosen[:, 2] - chosen[:, 0])


def _vertex_weights() -> Float[np.ndarray, "468"]:
    weights = np.ones(NUM_MESH_POINTS)
    weights[[*EYE_LEFT, *EYE_RIGHT, *BROW_LEFT, *BROW_RIGHT]] = EYES_WEIGHT
    weights[[*LIPS_OUTER, *LIPS_INNER]] = LIPS_WEIGHT
    return weights


def _sample_mouth(
    lips: Float[np.ndarray, "m 3"], count: int, rng: np.random.Generator
) -> Float[np.ndarray, "n 3"]:
    """Points behind the inner rim of the lips, for teeth and tongue."""
    center = lips.mean(axis=0)
    half_width = (lips[:, 0].max() - lips[:, 0].min()) / 2
    angle, radius = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.random(count))
    depth = rng.uniform(*MOUTH_DEPTH, count)
    x = center[0] + half_width * radius * np.cos(angle)
    # The corners of the lips lie further back than their middle.
    curve = (lips[:, 2].max() - lips[:, 2].min()) * (radius * np.cos(angle)) ** 2
    y = center[1] + MOUTH_HEIGHT * radius * np.sin(angle)
    return np.stack([x, y, lips[:, 2].max() - curve - depth], axis=1)
