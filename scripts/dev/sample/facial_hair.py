"""Eyebrows and eyelashes: short strands that ride on the skin and move with the face."""

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from gaussiantalker_ns.scripts.dev.sample.head_model import BaseHead, follow_skin
from gaussiantalker_ns.scripts.dev.sample.parts import BROW, FACE_UNITS, LASH, Mesh, Strands

BROW_COLOUR = np.array([0.105, 0.058, 0.034])
BROW_PATH_MM = np.array([[11.5, 18.6], [20.0, 20.6], [31.0, 22.4], [41.0, 21.2], [51.5, 15.8]])
"""Middle line of the left brow: x from the face's middle and height above the eye centre, mm."""
BROW_THICKNESS_MM = np.array([3.6, 5.0, 4.6, 3.4, 1.3])


def brows(skin: Mesh, eye_height: float, rng: np.random.Generator) -> Strands:
    """Return both brows, about 700 hairs each."""
    count, length = 700, 5
    at = np.linspace(0, 1, 60)
    knots = np.linspace(0, 1, len(BROW_PATH_MM))
    front = skin.rest[:, 2] > 0.0
    tree = KDTree(skin.rest[front][:, :2])
    depth_of = skin.rest[front][:, 2]
    sides = []
    for side in (1.0, -1.0):
        u = rng.beta(1.05, 1.15, count)
        v = np.clip(rng.normal(0, 0.42, count), -1, 1)
        path = np.stack([np.interp(at, knots, BROW_PATH_MM[:, k]) for k in range(2)], 1)
        for _ in range(6):
            path[1:-1] = 0.25 * path[:-2] + 0.5 * path[1:-1] + 0.25 * path[2:]
        slope = np.gradient(path, axis=0)
        slope /= np.linalg.norm(slope, axis=1, keepdims=True)
        base = np.stack([np.interp(u, at, path[:, k]) for k in range(2)], 1)
        tangent = np.stack([np.interp(u, at, slope[:, k]) for k in range(2)], 1)
        normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1)
        thick = np.interp(u, knots, BROW_THICKNESS_MM) * 0.5
        root = base + normal * (v * thick)[:, None]
        upward = np.interp(u, [0, 0.25, 0.6, 1], [1.5, 0.75, 0.25, 0.0]) - 0.45 * v * (u > 0.2)
        grow = tangent + normal * (upward + 0.18 * rng.normal(size=count))[:, None]
        grow /= np.linalg.norm(grow, axis=1, keepdims=True)
        reach = (5.4 - 1.6 * u) * (0.75 + 0.4 * rng.random(count))
        t = np.linspace(0, 1, length)[None, :, None]
        curve = root[:, None] + grow[:, None] * t * reach[:, None, None]
        curve = curve - normal[:, None] * (t**2) * (0.10 * upward * reach)[:, None, None]
        xy = curve * 1e-3 * [side, 1.0] + [0.0, eye_height]
        sides.append(_lay_on(xy, tree, depth_of, t))
    points = np.concatenate(sides)
    shade = np.clip(1 + 0.25 * rng.normal(size=(len(points), 1)), 0.5, 1.7)
    width = np.full(points.shape[:2], 0.00034) * (1 - 0.6 * np.linspace(0, 1, length) ** 2)
    return Strands(
        points,
        width,
        BROW,
        BROW_COLOUR * shade,
        np.ones(points.shape[:2]),
        follow_skin(skin, points),
    )


def _lay_on(
    xy: np.ndarray, tree: KDTree, depth_of: np.ndarray, t: np.ndarray
) -> Float[np.ndarray, "s p 3"]:
    """Lift plane curves onto the face seen from the front, tips a little proud of it."""
    distance, index = tree.query(xy, k=4)
    weight = 1 / (distance + 1e-5) ** 2
    z = (depth_of[index] * weight).sum(-1) / weight.sum(-1)
    z = z + 0.0004 + 0.0011 * np.broadcast_to(t[..., 0], z.shape)
    return np.concatenate([xy, z[..., None]], axis=-1)


def lashes(head: BaseHead, skin: Mesh, rng: np.random.Generator) -> Strands:
    """Return lashes: curves from the lid edge outwards along MakeHuman's eyelash strips."""
    points, offsets, length = [], {}, 5
    for side in ("l", "r"):
        for row, count, reach in (("2", 90, 0.66), ("1", 34, 0.34)):
            quads = head.base.faces[f"helper-{side}-eyelashes-{row}"]
            pairs = _strip_pairs(head, quads, head.eye_centres[0 if side == "l" else 1])
            spot = np.sort(rng.random(count)) * (len(pairs) - 1.001)
            k, f = spot.astype(int), (spot % 1)[:, None]
            t = np.linspace(0, 1, length)[None, :, None]
            jitter = 0.0006 * rng.normal(size=(count, 1, 3)) * t
            span = reach * (0.75 + 0.4 * rng.random((count, 1, 1)))

            def carry(values: np.ndarray, pairs=pairs, k=k, f=f, t=t, span=span) -> np.ndarray:
                root = values[pairs[k, 0]] * (1 - f) + values[pairs[k + 1, 0]] * f
                tip = values[pairs[k, 1]] * (1 - f) + values[pairs[k + 1, 1]] * f
                return root[:, None] + t * span * (tip - root)[:, None]

            curve = carry(head.vertices) + jitter
            curl = 0.0016 if row == "2" else -0.0006
            curve[..., 1:2] += curl * t**2 * span
            points.append(curve)
            for channel in range(len(FACE_UNITS)):
                if np.abs(head.units[channel][quads]).max() > 1e-6:
                    offsets.setdefault(channel, {})[len(points) - 1] = carry(head.units[channel])
    shapes = [len(curve) for curve in points]
    basis = {
        channel: np.concatenate(
            [moved.get(i, np.zeros((n, length, 3))) for i, n in enumerate(shapes)]
        )
        for channel, moved in offsets.items()
    }
    joined = np.concatenate(points)
    width = np.full(joined.shape[:2], 0.00026) * (1 - 0.75 * np.linspace(0, 1, length) ** 1.5)
    colour = np.tile(np.array([[0.030, 0.018, 0.012]]), (len(joined), 1))
    return Strands(joined, width, LASH, colour, np.ones(joined.shape[:2]), basis)


def _strip_pairs(head: BaseHead, quads: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return rows (lid-edge vertex, tip vertex) along an eyelash strip, ordered by x."""
    edges = np.concatenate([quads[:, [k, (k + 1) % 4]] for k in range(4)])
    edges = np.concatenate([edges, edges[:, ::-1]])
    distance = np.linalg.norm(head.vertices - centre, axis=1)
    gain = distance[edges[:, 1]] - distance[edges[:, 0]]
    outward: dict[int, tuple[float, int]] = {}
    for (start, end), g in zip(edges.tolist(), gain.tolist(), strict=True):
        if g > outward.get(start, (0.0003, -1))[0]:
            outward[start] = (g, end)
    ends = {end for _, end in outward.values()}
    rows = []
    for start in outward:
        if start in ends:
            continue
        chain = [start]
        while chain[-1] in outward:
            chain.append(outward[chain[-1]][1])
        if len(chain) > 3:
            rows.append((chain[1], chain[-1]))
    rows.sort(key=lambda row: head.vertices[row[0], 0])
    pairs = np.array(rows)
    reach = np.linalg.norm(head.vertices[pairs[:, 1]] - head.vertices[pairs[:, 0]], axis=1)
    usual = np.median(reach)
    return pairs[(reach > 0.45 * usual) & (reach < 1.7 * usual)]
