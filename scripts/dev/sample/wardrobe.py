"""The presenter's shirt: the torso pushed outwards, a folded collar, and buttons."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.interpolate import NearestNDInterpolator
from scipy.ndimage import gaussian_filter1d

from gaussiantalker_ns.scripts.dev.sample.head_model import (
    BaseHead,
    neckline,
    subdivided,
    triangles,
)
from gaussiantalker_ns.scripts.dev.sample.parts import BUTTON, SHIRT, Mesh

LOWEST = -0.46
"""Lowest part of the torso that is built."""
CLOTH_GAP = 0.006
"""Distance between skin and cloth."""


def shirt_meshes(head: BaseHead) -> list[Mesh]:
    """Return torso cloth, collar and buttons; all move with the torso."""
    faces, texture_faces = head.base.faces["body"], head.base.texture_faces["body"]
    centre = head.vertices[faces].mean(axis=1)
    below = centre[:, 1] < neckline(centre, head.neck_pivot) + 0.006
    keep = below & (centre[:, 1] > LOWEST) & (np.abs(centre[:, 0]) < 0.42)
    rest, quads, _, _, _ = subdivided(head, faces[keep], texture_faces[keep])
    tris = triangles(quads)
    depth = np.clip((neckline(rest, head.neck_pivot) - rest[:, 1] - 0.004) / 0.05, 0, 1)
    relaxed = rest + depth[:, None] * (_relax(rest, quads, 14) - rest)
    cloth = relaxed + CLOTH_GAP * _normals(rest, tris)
    shirt = Mesh(cloth, tris, SHIRT, head_weight=0.0)
    return [shirt, _collar(head), *_buttons(shirt)]


def _normals(points: np.ndarray, tris: np.ndarray) -> Float[np.ndarray, "v 3"]:
    """Return unit vertex normals."""
    a, b, c = (points[tris[:, k]] for k in range(3))
    total = np.zeros_like(points)
    normal = np.cross(b - a, c - a)
    for k in range(3):
        np.add.at(total, tris[:, k], normal)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def _relax(points: np.ndarray, quads: np.ndarray, rounds: int) -> Float[np.ndarray, "v 3"]:
    """Smooth a surface so that cloth bridges the hollows of the body."""
    pairs = np.concatenate([quads[:, [k, (k + 1) % 4]] for k in range(4)])
    counts = np.bincount(pairs[:, 0], minlength=len(points))[:, None]
    result = points.copy()
    for _ in range(rounds):
        total = np.zeros_like(result)
        np.add.at(total, pairs[:, 0], result[pairs[:, 1]])
        average = total / np.maximum(counts, 1)
        result = np.where(counts > 0, 0.5 * result + 0.5 * average, result)
    return result


def _collar(head: BaseHead) -> Mesh:
    """Return a shirt collar: a stand along the neck that folds over into a leaf with two points."""
    pivot = head.neck_pivot
    profile = _neck_profile(head)
    columns, rows = 121, 25
    angle = np.linspace(np.radians(0.7), 2 * np.pi - np.radians(0.7), columns)
    front = 0.5 + 0.5 * np.cos(angle)
    along = np.linspace(0, 1, rows)
    vertices = np.zeros((columns, rows, 3))
    for i, a in enumerate(angle):
        stand = 0.028 - 0.006 * front[i]
        fall = 0.040 + 0.018 * front[i] ** 6
        spread = 0.007 + 0.009 * front[i] ** 3
        for j, s in enumerate(along):
            if s < 0.4:
                height = -0.014 + (stand + 0.014) * s / 0.4
                gap = 0.0070
            else:
                t = (s - 0.4) / 0.6
                fold = np.clip(t / 0.18, 0, 1)
                height = stand + 0.0035 * np.sin(np.pi * fold) - fall * max(t - 0.09, 0) / 0.91
                gap = 0.0070 + 0.0050 * (1 - np.cos(np.pi * fold)) / 2 + spread * t**1.3
            lean = a + np.sign(np.pi - a) * 0.30 * front[i] ** 8 * max(s - 0.45, 0)
            radius = profile(lean, height) + gap
            point = np.array([[radius * np.sin(lean), 0.0, radius * np.cos(lean) + pivot[2]]])
            point[0, 1] = neckline(point, pivot)[0] + height
            vertices[i, j] = point[0]
    index = np.arange(columns * rows).reshape(columns, rows)
    quads = np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]], axis=-1)
    points = vertices.reshape(-1, 3)
    return Mesh(
        points,
        triangles(quads.reshape(-1, 4)),
        SHIRT,
        head_weight=0.0,
        masks={"shade": np.full(len(points), 0.0), "lip": np.full(len(points), 1.0)},
    )


def _neck_profile(head: BaseHead) -> Callable[[float, float], float]:
    """Return the smooth radius of neck and shoulders over angle and height above the neckline."""
    ids = np.unique(head.base.faces["body"])
    points = head.vertices[ids]
    x, z = points[:, 0], points[:, 2] - head.neck_pivot[2]
    height = points[:, 1] - neckline(points, head.neck_pivot)
    radius = np.hypot(x, z)
    near = (np.abs(height) < 0.06) & (radius < 0.16)
    angle = np.arctan2(x, z) % (2 * np.pi)
    lookup = NearestNDInterpolator(
        np.stack([0.08 * angle[near], height[near]], axis=1), radius[near]
    )
    grid_angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    grid_height = np.linspace(-0.04, 0.04, 33)
    table = lookup(*np.meshgrid(0.08 * grid_angle, grid_height, indexing="ij"))
    table = np.minimum(
        gaussian_filter1d(
            gaussian_filter1d(table, 7, axis=0, mode="wrap"), 3, axis=1, mode="nearest"
        ),
        0.105,
    )

    def radius_at(at_angle: float, at_height: float) -> float:
        row = (at_angle % (2 * np.pi)) / (2 * np.pi) * 180
        column = np.clip((at_height + 0.04) / 0.08 * 32, 0, 31.999)
        r0, c0 = int(row), int(column)
        fr, fc = row - r0, column - c0
        top = table[r0 % 180, c0] * (1 - fr) + table[(r0 + 1) % 180, c0] * fr
        bottom = table[r0 % 180, c0 + 1] * (1 - fr) + table[(r0 + 1) % 180, c0 + 1] * fr
        return float(top * (1 - fc) + bottom * fc)

    return radius_at


def _buttons(shirt: Mesh) -> list[Mesh]:
    """Return small discs on the middle of the chest."""
    meshes = []
    around = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    for height in (-0.225, -0.305, -0.385):
        front = np.abs(shirt.rest[:, 0]) < 0.02
        rows = np.flatnonzero(front & (np.abs(shirt.rest[:, 1] - height) < 0.012))
        rows = rows[shirt.rest[rows, 2] > np.median(shirt.rest[rows, 2]) - 0.02]
        if not len(rows):
            continue
        depth = shirt.rest[rows, 2].max() + 0.0005
        rim = np.stack(
            [0.0052 * np.sin(around), height + 0.0052 * np.cos(around), np.full(20, depth)], 1
        )
        inner = rim + (np.array([0, height, depth]) - rim) * 0.25 + [0, 0, 0.0022]
        centre = np.array([[0, height, depth + 0.0014]])
        points = np.concatenate([rim, inner, centre])
        k = np.arange(20)
        n = (k + 1) % 20
        sides = np.concatenate([np.stack([k, k + 20, n], 1), np.stack([n, k + 20, n + 20], 1)])
        cap = np.stack([k + 20, np.full(20, 40), n + 20], 1)
        meshes.append(Mesh(points, np.concatenate([sides, cap]), BUTTON, head_weight=0.0))
    return meshes
