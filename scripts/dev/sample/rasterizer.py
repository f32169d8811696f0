"""A deterministic z-buffer rasterizer for triangles and hair segments (Numba, one thread).

Pixel (row r, column c) covers [c, c + 1) x [r, r + 1) and is sampled at its centre. Depth is the
camera's z. A surface buffer keeps which primitive won: triangles are 0, 1, ...; hair segments
follow with an offset; -1 is empty.
"""

import math

import numpy as np
from jaxtyping import Float, Float32, Int32

from gaussiantalker_ns.kernels.compile import jit


class SurfaceBuffer:
    """What the rasterizer leaves for every sample: depth, primitive and position inside it."""

    def __init__(self, height: int, width: int) -> None:
        """Allocate an empty buffer."""
        self.depth: Float32[np.ndarray, "h wd"] = np.full((height, width), np.inf, np.float32)
        self.primitive: Int32[np.ndarray, "h wd"] = np.full((height, width), -1, np.int32)
        self.local: Float32[np.ndarray, "h wd 2"] = np.zeros((height, width, 2), np.float32)
        """Triangles: the weights of corners 1 and 2. Hair: position along and across in [0, 1]."""

    def clear(self) -> None:
        """Empty the buffer for the next frame."""
        self.depth.fill(np.inf)
        self.primitive.fill(-1)


def project(
    points: Float[np.ndarray, "v 3"], focal: float, cx: float, cy: float
) -> Float[np.ndarray, "v 3"]:
    """Project camera points (OpenCV axes) to columns x, y in pixels and z in metres.

    Example: the point (0, 0, 2) with focal 100 and centre (32, 32) lands on (32, 32, 2).
    """
    z = points[:, 2]
    return np.stack([focal * points[:, 0] / z + cx, focal * points[:, 1] / z + cy, z], axis=1)


@jit
def draw_triangles(screen, faces, depth, primitive, local):
    """Draw triangles [f 3] of projected vertices [v 3] with perspective-correct weights."""
    height, width = depth.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az = screen[a, 0], screen[a, 1], screen[a, 2]
        bx, by, bz = screen[b, 0], screen[b, 1], screen[b, 2]
        cx, cy, cz = screen[c, 0], screen[c, 1], screen[c, 2]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-9 or min(az, bz, cz) <= 1e-3:
            continue
        x0 = max(int(math.ceil(min(ax, bx, cx) - 0.5)), 0)
        x1 = min(int(math.floor(max(ax, bx, cx) - 0.5)), width - 1)
        y0 = max(int(math.ceil(min(ay, by, cy) - 0.5)), 0)
        y1 = min(int(math.floor(max(ay, by, cy) - 0.5)), height - 1)
        inverse = 1.0 / area
        ia, ib, ic = 1.0 / az, 1.0 / bz, 1.0 / cz
        for row in range(y0, y1 + 1):
            py = row + 0.5
            for col in range(x0, x1 + 1):
                px = col + 0.5
                wb = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) * inverse
                wc = ((bx - ax) * (py - ay) - (by - ay) * (px - ax)) * inverse
                wa = 1.0 - wb - wc
                if wa < 0.0 or wb < 0.0 or wc < 0.0:
                    continue
                z = 1.0 / (wa * ia + wb * ib + wc * ic)
                if z < depth[row, col]:
                    depth[row, col] = z
                    primitive[row, col] = f
                    local[row, col, 0] = wb * z * ib
                    local[row, col, 1] = wc * z * ic


@jit
def draw_segments(screen, widths, segments, first, depth, primitive, local):
    """Draw hair segments [m 2] as flat ribbons of a given width in samples at either end.

    A ribbon thinner than one sample is kept only on a deterministic share of its samples, so that
    fine tips fade instead of breaking up.
    """
    height, width = depth.shape
    for s in range(segments.shape[0]):
        a, b = segments[s, 0], segments[s, 1]
        ax, ay, az = screen[a, 0], screen[a, 1], screen[a, 2]
        bx, by, bz = screen[b, 0], screen[b, 1], screen[b, 2]
        dx, dy = bx - ax, by - ay
        length2 = dx * dx + dy * dy + 1e-9
        length = math.sqrt(length2)
        radius = 0.5 * max(widths[a], widths[b], 1.0)
        x0 = max(int(math.floor(min(ax, bx) - radius)), 0)
        x1 = min(int(math.ceil(max(ax, bx) + radius)), width - 1)
        y0 = max(int(math.floor(min(ay, by) - radius)), 0)
        y1 = min(int(math.ceil(max(ay, by) + radius)), height - 1)
        for row in range(y0, y1 + 1):
            py = row + 0.5
            for col in range(x0, x1 + 1):
                px = col + 0.5
                t = ((px - ax) * dx + (py - ay) * dy) / length2
                if t < 0.0 or t > 1.0:
                    continue
                across = ((px - ax) * dy - (py - ay) * dx) / length
                wide = widths[a] + t * (widths[b] - widths[a])
                if abs(across) > 0.5 * max(wide, 1.0):
                    continue
                if wide < 1.0 and ((s * 73 + col * 29 + row * 53) % 101) > wide * 101:
                    continue
                z = az + t * (bz - az)
                if z < depth[row, col]:
                    depth[row, col] = z
                    primitive[row, col] = first + s
                    local[row, col, 0] = t
                    local[row, col, 1] = across / max(wide, 1.0) + 0.5


@jit
def vertex_normals(vertices, faces, normals):
    """Fill area-weighted unit vertex normals [v 3] of triangles [f 3] (outward for this mesh)."""
    normals[:] = 0.0
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = (
            vertices[b, 0] - vertices[a, 0],
            vertices[b, 1] - vertices[a, 1],
            vertices[b, 2] - vertices[a, 2],
        )
        vx, vy, vz = (
            vertices[c, 0] - vertices[a, 0],
            vertices[c, 1] - vertices[a, 1],
            vertices[c, 2] - vertices[a, 2],
        )
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for i in (a, b, c):
            normals[i, 0] += nx
            normals[i, 1] += ny
            normals[i, 2] += nz
    for i in range(normals.shape[0]):
        norm = math.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2) + 1e-20
        normals[i, 0] /= norm
        normals[i, 1] /= norm
        normals[i, 2] /= norm
