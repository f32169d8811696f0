"""Ambient visibility of vertices, from orthographic depth maps seen from many directions."""

import numpy as np
from jaxtyping import Float

from gaussiantalker_ns.scripts.dev.sample.parts import CHANNELS, Character
from gaussiantalker_ns.scripts.dev.sample.rasterizer import (
    SurfaceBuffer,
    draw_segments,
    draw_triangles,
    vertex_normals,
)

NUM_DIRECTIONS = 120
MAP_SIZE = 400
MAP_EXTENT = 0.62
"""Side of the square seen by every depth map, in metres."""
BIAS = 0.0035
MOUTH_OPEN = 0.55
"""Jaw opening at which the inside of the mouth is lit."""


def directions(count: int) -> Float[np.ndarray, "m 3"]:
    """Return nearly uniform unit directions (a Fibonacci sphere)."""
    index = np.arange(count) + 0.5
    polar = np.arccos(1 - 2 * index / count)
    around = np.pi * (1 + 5**0.5) * index
    return np.stack(
        [np.cos(around) * np.sin(polar), np.cos(polar), np.sin(around) * np.sin(polar)], axis=1
    )


def light_frame(direction: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Return a rotation whose third row points away from the light (depth grows along it)."""
    depth = -direction / np.linalg.norm(direction)
    side = np.cross([0.0, 1.0, 0.0] if abs(depth[1]) < 0.95 else [1.0, 0.0, 0.0], depth)
    side /= np.linalg.norm(side)
    return np.stack([side, np.cross(depth, side), depth])


def to_map(
    points: Float[np.ndarray, "v 3"],
    frame: np.ndarray,
    centre: np.ndarray,
    extent: float,
    size: int,
) -> Float[np.ndarray, "v 3"]:
    """Return map columns, map rows and depth plus 2, which keeps it positive."""
    local = (points - centre) @ frame.T
    scale = size / extent
    return np.stack(
        [local[:, 0] * scale + size / 2, local[:, 1] * scale + size / 2, local[:, 2] + 2.0], axis=1
    ).astype(np.float32)


def visibility(
    character: Character, vertices: Float[np.ndarray, "v 3"], strands: bool
) -> Float[np.ndarray, " v"]:
    """Return the cosine-weighted share of directions that reach every vertex."""
    normals = np.zeros_like(vertices)
    vertex_normals(vertices, character.faces, normals)
    buffer = SurfaceBuffer(MAP_SIZE, MAP_SIZE)
    centre = np.array([0.0, -0.02, -0.02])
    total, weight = np.zeros(len(vertices)), np.zeros(len(vertices))
    for direction in directions(NUM_DIRECTIONS):
        frame = light_frame(direction)
        screen = to_map(vertices, frame, centre, MAP_EXTENT, MAP_SIZE)
        buffer.clear()
        draw_triangles(screen, character.faces, buffer.depth, buffer.primitive, buffer.local)
        if strands:
            hair = to_map(character.strand_points, frame, centre, MAP_EXTENT, MAP_SIZE)
            draw_segments(
                hair, np.full(len(hair), 0.35, np.float32), character.segments,
                len(character.faces), buffer.depth, buffer.primitive, buffer.local,
            )  # fmt: skip
        column = np.clip(screen[:, 0].astype(int), 0, MAP_SIZE - 1)
        row = np.clip(screen[:, 1].astype(int), 0, MAP_SIZE - 1)
        cosine = np.clip(normals @ direction, 0, None)
        slack = BIAS * (1 + 2 * (1 - cosine))
        total += cosine * (screen[:, 2] < buffer.depth[row, column] + slack)
        weight += cosine
    return total / np.maximum(weight, 1e-9)


def bake(character: Character, mouth: Float[np.ndarray, " v"]) -> Float[np.ndarray, " v"]:
    """Return ambient visibility: neutral face outside, opened jaw where `mouth` is 1."""
    outside = visibility(character, character.rest, strands=True)
    opened = character.rest + MOUTH_OPEN * character.basis[CHANNELS.index("jawOpen")]
    inside = visibility(character, opened, strands=False)
    return outside * (1 - mouth) + inside * mouth
