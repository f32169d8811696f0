"""Teeth, gums and tongue: rounded teeth set along the dental arches of the MakeHuman helpers."""

import numpy as np
from jaxtyping import Float

from gaussiantalker_ns.scripts.dev.sample.head_model import BaseHead, triangles
from gaussiantalker_ns.scripts.dev.sample.parts import (
    CHANNELS,
    FACE_UNITS,
    GUM,
    TEETH,
    TONGUE,
    Mesh,
)
from gaussiantalker_ns.scripts.dev.sample.subdivide import catmull_clark, compact

UPPER_WIDTHS_MM = (8.2, 6.4, 7.2, 6.6, 6.4, 9.0, 8.5)
UPPER_HEIGHTS_MM = (9.2, 8.2, 9.0, 7.8, 7.2, 6.6, 6.0)
LOWER_WIDTHS_MM = (5.2, 5.6, 6.4, 6.6, 6.6, 9.5, 9.0)
LOWER_HEIGHTS_MM = (8.0, 8.0, 8.6, 7.6, 7.0, 6.4, 6.0)


UPPER_BELOW = 0.0036
LOWER_BELOW = 0.0022
"""Edges of the front teeth below MakeHuman's, so that the upper ones show when the lips part."""


def mouth_meshes(head: BaseHead) -> list[Mesh]:
    """Return upper and lower teeth, their gums and the tongue."""
    upper = head.vertices[np.unique(head.base.faces["helper-upper-teeth"])]
    lower_ids = np.unique(head.base.faces["helper-lower-teeth"])
    lower = head.vertices[lower_ids]
    jaw = {
        channel: (head.vertices[lower_ids], head.units[channel][lower_ids])
        for channel in range(len(FACE_UNITS))
        if np.abs(head.units[channel][lower_ids]).max() > 0
        and FACE_UNITS[channel].startswith("jaw")
    }
    bite = float(upper[:, 1].min())
    top, top_gum = _row(upper, UPPER_WIDTHS_MM, UPPER_HEIGHTS_MM, bite - UPPER_BELOW, up=True)
    bottom, bottom_gum = _row(
        lower, LOWER_WIDTHS_MM, LOWER_HEIGHTS_MM, bite - LOWER_BELOW, up=False
    )
    for mesh in (bottom, bottom_gum):
        mesh.basis = {channel: _affine(mesh.rest, *pair) for channel, pair in jaw.items()}
    return [top, bottom, top_gum, bottom_gum, _tongue(head)]


def _affine(
    points: np.ndarray, source: np.ndarray, offsets: np.ndarray
) -> Float[np.ndarray, "v 3"]:
    """Carry the helper's offsets over to other points by the best affine map."""
    design = np.concatenate([source, np.ones((len(source), 1))], axis=1)
    solution = np.linalg.lstsq(design, offsets, rcond=None)[0]
    return np.concatenate([points, np.ones((len(points), 1))], axis=1) @ solution


def _arch(helper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points along half a dental arch from the middle backwards, and their arc length."""
    half = np.abs(helper[:, 0]).max()
    front, back = helper[:, 2].max(), helper[:, 2].min()
    angle = np.linspace(0, np.pi / 2, 200)
    x = half * np.sin(angle) ** 0.9
    z = back + (front - back) * np.cos(angle)
    curve = np.stack([x, z], axis=1)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    return curve, length


def _row(
    helper: np.ndarray, widths: tuple, heights: tuple, edge: float, up: bool
) -> tuple[Mesh, Mesh]:
    """Return one row of teeth whose biting edge is at a height, and its gum."""
    curve, length = _arch(helper)
    scale = 0.93 * length[-1] / (sum(widths) * 1e-3)
    sign = 1.0 if up else -1.0
    vertices, faces, start, at = [], [], 0, 0.0
    shape, quads = _rounded_box()
    for width_mm, height_mm in zip(widths, heights, strict=True):
        width, height = width_mm * 1e-3 * scale, height_mm * 1e-3
        middle = at + width / 2
        at += width
        x = np.interp(middle, length, curve[:, 0])
        z = np.interp(middle, length, curve[:, 1])
        ahead = (
            np.interp(middle + 1e-3, length, curve[:, 0]),
            np.interp(middle + 1e-3, length, curve[:, 1]),
        )
        tangent = np.array([ahead[0] - x, 0.0, ahead[1] - z])
        tangent /= np.linalg.norm(tangent)
        outward = np.array([-tangent[2], 0.0, tangent[0]])
        depth = min(0.0045 + 0.4 * max(middle - 0.012, 0) * 0.25, 0.008)
        for side in (1.0, -1.0):
            local = shape * np.array([width * 0.485, height * 0.5, depth * 0.5])
            local[:, 0] *= 1.0 - 0.12 * (sign * shape[:, 1] > 0)
            world = (
                np.array([x, edge + sign * height * 0.5, z])
                + local[:, :1] * tangent
                + local[:, 1:2] * np.array([0, 1.0, 0])
                + (local[:, 2:] - depth * 0.5) * outward
            ) * np.array([side, 1, 1])
            vertices.append(world)
            faces.append((quads if side > 0 else quads[:, ::-1]) + start)
            start += len(shape)
    teeth = Mesh(np.concatenate(vertices), triangles(np.concatenate(faces)), TEETH)
    gum_line = edge + sign * 0.0072
    return teeth, _gum(curve, gum_line, sign)


def _rounded_box() -> tuple[np.ndarray, np.ndarray]:
    """Return a unit superellipsoid (exponent 4) as vertices and quads."""
    rings, sectors = 10, 14
    polar = np.linspace(-np.pi / 2, np.pi / 2, rings + 1)[:, None]
    around = np.linspace(0, 2 * np.pi, sectors, endpoint=False)[None]

    def power(value: np.ndarray, exponent: float) -> np.ndarray:
        return np.sign(value) * np.abs(value) ** exponent

    x = power(np.cos(polar), 0.45) * power(np.cos(around), 0.55)
    z = power(np.cos(polar), 0.45) * power(np.sin(around), 0.55)
    y = power(np.sin(polar), 0.5) * np.ones_like(around)
    index = np.arange((rings + 1) * sectors).reshape(rings + 1, sectors)
    quads = np.stack(
        [index[:-1], index[1:], np.roll(index[1:], -1, 1), np.roll(index[:-1], -1, 1)], axis=-1
    ).reshape(-1, 4)
    return np.stack([x, y, z], axis=-1).reshape(-1, 3), quads


def _gum(curve: np.ndarray, height: float, sign: float) -> Mesh:
    """Return a tube along the arch, behind the necks of the teeth."""
    path = np.concatenate([curve[::-8] * [-1, 1], curve[8::8]])
    around = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    outward = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    centre = np.stack([path[:, 0], np.full(len(path), height + sign * 0.0045), path[:, 1]], axis=1)
    out3 = np.stack([outward[:, 0], np.zeros(len(path)), outward[:, 1]], axis=1)
    points = (
        centre[:, None]
        + (0.0031 * np.cos(around)[None, :, None] - 0.0026) * out3[:, None]
        + (0.0058 * np.sin(around))[None, :, None] * np.array([0, 1.0, 0])
    )
    index = np.arange(points.shape[0] * 12).reshape(-1, 12)
    quads = np.stack(
        [index[:-1], index[1:], np.roll(index[1:], -1, 1), np.roll(index[:-1], -1, 1)], axis=-1
    ).reshape(-1, 4)
    return Mesh(points.reshape(-1, 3), triangles(quads), GUM)


def _tongue(head: BaseHead) -> Mesh:
    """Return the tongue, subdivided once, with an own shape that lifts its tip to the palate."""
    used, local = compact(head.base.faces["helper-tongue"])
    level = catmull_clark(local, len(used))
    rest = level.matrix @ head.vertices[used]
    basis = {
        channel: level.matrix @ head.units[channel][used]
        for channel in range(len(FACE_UNITS))
        if np.abs(head.units[channel][used]).max() > 0
    }
    front = (rest[:, 2] - rest[:, 2].min()) / np.ptp(rest[:, 2])
    lift = np.clip((front - 0.45) / 0.55, 0, 1) ** 1.6
    basis[CHANNELS.index("tongueRaise")] = lift[:, None] * np.array([0.0, 0.0125, -0.001])
    rest = rest + lift[:, None] * np.array([0.0, -0.002, -0.003])
    return Mesh(rest, triangles(level.faces), TONGUE, basis)
