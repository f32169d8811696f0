"""Projection of 3D Gaussians onto image planes, forward and backward, for the CPU.

Camera space m = V x + t; covariance of the picture S = Q diag(s^2) Q^T + eps I with Q = J V R(q),
J the Jacobian of the perspective division. Instead of the conic S^-1 = [[A, B], [B, C]] its
factors are kept, because they do not cancel for long thin Gaussians:

    A dx^2 + 2 B dx dy + C dy^2 = p dx^2 + c (dy + m dx)^2,
    p = 1 / Sxx,  m = -Sxy / Sxx,  c = Sxx / det S.

Arithmetic is in float64 inside one Gaussian; storage is float32. Everything that the backward pass
sums over Gaussians is summed in blocks of fixed size, so that results do not depend on threads.
"""

from math import ceil, log, sqrt

import numpy as np

from gaussiantalker_ns.gaussians.raster_scene import MAX_SIGMAS, MIN_ALPHA
from gaussiantalker_ns.kernels.compile import jit, next_job, pooled_kernel
from gaussiantalker_ns.kernels.records import RECORD, tiles_under_box, write_record

BLOCK = 512
"""Gaussians of one unit of parallel work."""


@jit
def rotation_rows(w, x, y, z):
    """Rows of the rotation matrix of a unit quaternion."""
    return (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )


@jit
def row_times(row, matrix):
    """Product of a row with a 3x3 matrix, all as tuples."""
    (a, b, c), (m0, m1, m2) = row, matrix
    return (
        a * m0[0] + b * m1[0] + c * m2[0],
        a * m0[1] + b * m1[1] + c * m2[1],
        a * m0[2] + b * m1[2] + c * m2[2],
    )


@jit
def dot_3(a, b):
    """Scalar product of two triples."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@jit
def view_rows(viewmats, camera):
    """Rows of the rotation, and the translation, of a world-to-camera matrix."""
    m = viewmats[camera]
    return (
        (np.float64(m[0, 0]), np.float64(m[0, 1]), np.float64(m[0, 2])),
        (np.float64(m[1, 0]), np.float64(m[1, 1]), np.float64(m[1, 2])),
        (np.float64(m[2, 0]), np.float64(m[2, 1]), np.float64(m[2, 2])),
        (np.float64(m[0, 3]), np.float64(m[1, 3]), np.float64(m[2, 3])),
    )


@jit
def slope_limits(focal, centre, size):
    """Smallest and largest x / z that the Jacobian sees: the picture and 15 % around it."""
    margin = 0.15 * size / focal
    return -(centre / focal + margin), (size - centre) / focal + margin


@jit
def unit_quaternion(quats, frame, i):
    """A quaternion at length 1, and the inverse of the length it had."""
    w, x, y, z = (
        np.float64(quats[frame, i, 0]),
        np.float64(quats[frame, i, 1]),
        np.float64(quats[frame, i, 2]),
        np.float64(quats[frame, i, 3]),
    )
    inverse = 1.0 / sqrt(w * w + x * x + y * y + z * z)
    return w * inverse, x * inverse, y * inverse, z * inverse, inverse


@jit
def scale_triple(scales, frame, i):
    """The three standard deviations of a Gaussian."""
    return (
        np.float64(scales[frame, i, 0]),
        np.float64(scales[frame, i, 1]),
        np.float64(scales[frame, i, 2]),
    )


@jit
def jacobian_rows(x, y, z, fx, fy, slope_x, slope_y, v0, v1, v2):
    """Rows of P = J V. The slopes are x / z and y / z after clamping."""
    a, b = fx / z, -fx * slope_x / z
    row_x = (a * v0[0] + b * v2[0], a * v0[1] + b * v2[1], a * v0[2] + b * v2[2])
    a, b = fy / z, -fy * slope_y / z
    row_y = (a * v1[0] + b * v2[0], a * v1[1] + b * v2[1], a * v1[2] + b * v2[2])
    return row_x, row_y


@jit
def picture_covariance(qx, qy, s, eps2d):
    """Entries xx, xy, yy of the picture's covariance."""
    xx, xy, yy = eps2d, 0.0, eps2d
    for k in range(3):
        a, b = qx[k] * s[k], qy[k] * s[k]
        xx += a * a
        xy += a * b
        yy += b * b
    return xx, xy, yy


@jit
def find_defect(means, quats, scales, opacities, bm, bq, bs, bo, i):
    """Number of the first fault of a Gaussian's parameters, 0 when there is none."""
    if not np.isfinite(means[bm, i, 0] + means[bm, i, 1] + means[bm, i, 2]):
        return 1
    q = (quats[bq, i, 0], quats[bq, i, 1], quats[bq, i, 2], quats[bq, i, 3])
    length = q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]
    if not np.isfinite(length):
        return 2
    if not length > 0:
        return 3
    s = scale_triple(scales, bs, i)
    if not np.isfinite(s[0] + s[1] + s[2]):
        return 4
    if min(s[0], s[1], s[2]) < 0:
        return 5
    if not 0 <= opacities[bo, i] <= 1:
        return 6
    return 0


DEFECTS = (
    "",
    "`means` holds a value that is not finite",
    "`quats` holds a value that is not finite",
    "`quats` holds a quaternion of length zero",
    "`scales` holds a value that is not finite",
    "`scales` holds a negative value; expected lengths, after the exponential",
    "`opacities` holds a value outside [0, 1]; expected values after the sigmoid",
)
"""What `find_defect` numbers."""


@pooled_kernel
def project_forward(
    queue, means, quats, scales, opacities, viewmats, Ks, size, limits,
    means2d, depths, factors, radii, records, boxes, defects,
):  # fmt: skip
    """Project every Gaussian into every camera.

    Args:
        means, quats, scales, opacities: [b or 1, n, ...]; a leading 1 is shared by the cameras.
        viewmats, Ks: [b, 4, 4] and [b, 3, 3].
        size: Width and height in pixels.
        limits: near plane, far plane, radius clip, eps2d.
        means2d, depths, factors: Outputs [b, n, 2], [b, n] and [b, n, 3] = (p, m, c).
        radii: Output int32 [b, n, 2], half extents of the box; zero marks what is not drawn.
        records: Output [b * n * RECORD], of what is drawn.
        boxes: Output int64 [b * n], an upper bound of the number of tiles reached.
        defects: Output int64 [b, blocks], 1 + place of the first faulty Gaussian, or 0.
    """
    num_cameras, n = depths.shape
    num_blocks = defects.shape[1]
    near, far, radius_clip, eps2d = limits
    width, height = size
    while True:
        job = next_job(queue)
        if job >= num_cameras * num_blocks:
            break
        camera, block = job // num_blocks, job % num_blocks
        bm, bq = min(camera, means.shape[0] - 1), min(camera, quats.shape[0] - 1)
        bs, bo = min(camera, scales.shape[0] - 1), min(camera, opacities.shape[0] - 1)
        v0, v1, v2, t = view_rows(viewmats, camera)
        fx, fy = np.float64(Ks[camera, 0, 0]), np.float64(Ks[camera, 1, 1])
        cx, cy = np.float64(Ks[camera, 0, 2]), np.float64(Ks[camera, 1, 2])
        low_x, high_x = slope_limits(fx, cx, width)
        low_y, high_y = slope_limits(fy, cy, height)
        defects[camera, block] = 0
        for i in range(block * BLOCK, min(n, (block + 1) * BLOCK)):
            radii[camera, i, 0] = 0
            radii[camera, i, 1] = 0
            means2d[camera, i, 0] = 0
            means2d[camera, i, 1] = 0
            depths[camera, i] = 0
            boxes[camera * n + i] = 0
            for k in range(3):
                factors[camera, i, k] = 0
            if find_defect(means, quats, scales, opacities, bm, bq, bs, bo, i):
                if defects[camera, block] == 0:
                    defects[camera, block] = 1 + i
                continue
            o = np.float64(opacities[bo, i])
            if o < MIN_ALPHA:
                continue
            mean = (
                np.float64(means[bm, i, 0]),
                np.float64(means[bm, i, 1]),
                np.float64(means[bm, i, 2]),
            )
            z = dot_3(v2, mean) + t[2]
            if z < near or z > far or z <= 0:
                continue
            x, y = dot_3(v0, mean) + t[0], dot_3(v1, mean) + t[1]
            slope_x, slope_y = min(max(x / z, low_x), high_x), min(max(y / z, low_y), high_y)
            row_x, row_y = jacobian_rows(x, y, z, fx, fy, slope_x, slope_y, v0, v1, v2)
            qw, qx, qy, qz, _ = unit_quaternion(quats, bq, i)
            rotation = rotation_rows(qw, qx, qy, qz)
            xx, xy, yy = picture_covariance(
                row_times(row_x, rotation), row_times(row_y, rotation), scale_triple(scales, bs, i),
                eps2d,
            )  # fmt: skip
            det = xx * yy - xy * xy
            if not det > 0:
                continue
            extent = min(MAX_SIGMAS, sqrt(2 * log(o / MIN_ALPHA)))
            radius_x, radius_y = ceil(extent * sqrt(xx)), ceil(extent * sqrt(yy))
            u, v = fx * x / z + cx, fy * y / z + cy
            if radius_x <= radius_clip and radius_y <= radius_clip:
                continue
            if u + radius_x <= 0 or u - radius_x >= width:
                continue
            if v + radius_y <= 0 or v - radius_y >= height:
                continue
            means2d[camera, i, 0] = u
            means2d[camera, i, 1] = v
            depths[camera, i] = z
            p, m, c = 1 / xx, -xy / xx, xx / det
            factors[camera, i, 0] = p
            factors[camera, i, 1] = m
            factors[camera, i, 2] = c
            radii[camera, i, 0] = min(radius_x, 1e9)
            radii[camera, i, 1] = min(radius_y, 1e9)
            boxes[camera * n + i] = tiles_under_box(u, v, radius_x, radius_y, width, height)
            write_record(records, (camera * n + i) * RECORD, u, v, p, m, c, o)
