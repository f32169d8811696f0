"""Backward pass of `kernels.project`: from picture-plane gradients to Gaussians and view
matrices."""

import numpy as np

from gaussiantalker_ns.kernels.compile import jit, next_job, pooled_kernel
from gaussiantalker_ns.kernels.project import (
    BLOCK,
    dot_3,
    jacobian_rows,
    picture_covariance,
    rotation_rows,
    row_times,
    scale_triple,
    slope_limits,
    unit_quaternion,
    view_rows,
)


@jit
def _covariance_gradient(xx, xy, yy, v_p, v_m, v_c):
    """Gradients of the covariance entries xx, xy, yy from those of the factors p, m, c."""
    det = xx * yy - xy * xy
    v_c = v_c / (det * det)
    v_xx = (xy * v_m - v_p) / (xx * xx) - v_c * xy * xy
    v_xy = 2 * v_c * xx * xy - v_m / xx
    v_yy = -v_c * xx * xx
    return v_xx, v_xy, v_yy


@jit
def _quaternion_gradient(w, x, y, z, inverse, r):
    """Gradient of a quaternion of any length from that of its rotation, r[row][column]."""
    a, b, c = r[2][1] - r[1][2], r[0][2] - r[2][0], r[1][0] - r[0][1]
    d, e, f = r[1][0] + r[0][1], r[2][0] + r[0][2], r[2][1] + r[1][2]
    v_w = 2 * (x * a + y * b + z * c)
    v_x = 2 * (w * a - 2 * x * (r[1][1] + r[2][2]) + y * d + z * e)
    v_y = 2 * (w * b + x * d - 2 * y * (r[0][0] + r[2][2]) + z * f)
    v_z = 2 * (w * c + x * e + y * f - 2 * z * (r[0][0] + r[1][1]))
    along = v_w * w + v_x * x + v_y * y + v_z * z
    return (
        (v_w - along * w) * inverse,
        (v_x - along * x) * inverse,
        (v_y - along * y) * inverse,
        (v_z - along * z) * inverse,
    )


@jit
def _slope_gradient(focal, x, z, slope, low, high, v_entry):
    """Gradients of x and z through the Jacobian's entry -focal * clamp(x / z) / z."""
    if low <= x / z <= high:
        return -v_entry * focal / (z * z), 2 * v_entry * focal * x / (z * z * z)
    return 0.0, v_entry * focal * slope / (z * z)


@pooled_kernel
def project_backward(
    queue, means, quats, scales, viewmats, Ks, size, eps2d, radii, v_means2d, v_depths, v_factors,
    v_means, v_quats, v_scales, v_viewmats,
):  # fmt: skip
    """Gradients of every Gaussian in every camera.

    Args:
        means, quats, scales, viewmats, Ks, size, eps2d, radii: As in the forward pass.
        v_means2d, v_depths, v_factors: Gradients of its outputs.
        v_means, v_quats, v_scales: Outputs [b, n, ...], also where the inputs are shared.
        v_viewmats: Output float64 [b, blocks, 12] (rotation rows, translation), to be summed.
    """
    num_cameras, n = v_depths.shape
    num_blocks = v_viewmats.shape[1]
    width, height = size
    while True:
        job = next_job(queue)
        if job >= num_cameras * num_blocks:
            break
        camera, block = job // num_blocks, job % num_blocks
        bm, bq = min(camera, means.shape[0] - 1), min(camera, quats.shape[0] - 1)
        bs = min(camera, scales.shape[0] - 1)
        v0, v1, v2, t = view_rows(viewmats, camera)
        fx, fy = np.float64(Ks[camera, 0, 0]), np.float64(Ks[camera, 1, 1])
        low_x, high_x = slope_limits(fx, np.float64(Ks[camera, 0, 2]), width)
        low_y, high_y = slope_limits(fy, np.float64(Ks[camera, 1, 2]), height)
        view = v_viewmats[camera, block]
        for k in range(view.size):
            view[k] = 0
        for i in range(block * BLOCK, min(n, (block + 1) * BLOCK)):
            if radii[camera, i, 0] == 0:
                for k in range(3):
                    v_means[camera, i, k] = 0
                    v_scales[camera, i, k] = 0
                for k in range(4):
                    v_quats[camera, i, k] = 0
                continue
            m = (
                np.float64(means[bm, i, 0]),
                np.float64(means[bm, i, 1]),
                np.float64(means[bm, i, 2]),
            )
            x, y, z = dot_3(v0, m) + t[0], dot_3(v1, m) + t[1], dot_3(v2, m) + t[2]
            slope_x, slope_y = min(max(x / z, low_x), high_x), min(max(y / z, low_y), high_y)
            row_x, row_y = jacobian_rows(x, y, z, fx, fy, slope_x, slope_y, v0, v1, v2)
            qw, qx, qy, qz, inverse = unit_quaternion(quats, bq, i)
            rotation = rotation_rows(qw, qx, qy, qz)
            s = scale_triple(scales, bs, i)
            image_x, image_y = row_times(row_x, rotation), row_times(row_y, rotation)
            xx, xy, yy = picture_covariance(image_x, image_y, s, eps2d)
            v_xx, v_xy, v_yy = _covariance_gradient(
                xx, xy, yy,
                np.float64(v_factors[camera, i, 0]),
                np.float64(v_factors[camera, i, 1]),
                np.float64(v_factors[camera, i, 2]),
            )  # fmt: skip
            # S = sum_k s_k^2 Q_k Q_k^T; g holds the gradient of the columns Q_k over s_k^2.
            g_x = (
                2 * v_xx * image_x[0] + v_xy * image_y[0],
                2 * v_xx * image_x[1] + v_xy * image_y[1],
                2 * v_xx * image_x[2] + v_xy * image_y[2],
            )
            g_y = (
                v_xy * image_x[0] + 2 * v_yy * image_y[0],
                v_xy * image_x[1] + 2 * v_yy * image_y[1],
                v_xy * image_x[2] + 2 * v_yy * image_y[2],
            )
            for k in range(3):
                v_scales[camera, i, k] = s[k] * (g_x[k] * image_x[k] + g_y[k] * image_y[k])
            g_x = (g_x[0] * s[0] * s[0], g_x[1] * s[1] * s[1], g_x[2] * s[2] * s[2])
            g_y = (g_y[0] * s[0] * s[0], g_y[1] * s[1] * s[1], g_y[2] * s[2] * s[2])
            v_rotation = (
                (row_x[0] * g_x[0] + row_y[0] * g_y[0], row_x[0] * g_x[1] + row_y[0] * g_y[1],
                 row_x[0] * g_x[2] + row_y[0] * g_y[2]),
                (row_x[1] * g_x[0] + row_y[1] * g_y[0], row_x[1] * g_x[1] + row_y[1] * g_y[1],
                 row_x[1] * g_x[2] + row_y[1] * g_y[2]),
                (row_x[2] * g_x[0] + row_y[2] * g_y[0], row_x[2] * g_x[1] + row_y[2] * g_y[1],
                 row_x[2] * g_x[2] + row_y[2] * g_y[2]),
            )  # fmt: skip
            v_q = _quaternion_gradient(qw, qx, qy, qz, inverse, v_rotation)
            for k in range(4):
                v_quats[camera, i, k] = v_q[k]
            v_row_x = (dot_3(g_x, rotation[0]), dot_3(g_x, rotation[1]), dot_3(g_x, rotation[2]))
            v_row_y = (dot_3(g_y, rotation[0]), dot_3(g_y, rotation[1]), dot_3(g_y, rotation[2]))
            # Through J, the position in the picture and the depth to camera space.
            v_u, v_v = np.float64(v_means2d[camera, i, 0]), np.float64(v_means2d[camera, i, 1])
            x_j, z_jx = _slope_gradient(fx, x, z, slope_x, low_x, high_x, dot_3(v_row_x, v2))
            y_j, z_jy = _slope_gradient(fy, y, z, slope_y, low_y, high_y, dot_3(v_row_y, v2))
            g = (
                x_j + v_u * fx / z,
                y_j + v_v * fy / z,
                z_jx + z_jy + v_depths[camera, i]
                - (dot_3(v_row_x, v0) * fx + dot_3(v_row_y, v1) * fy) / (z * z)
                - (v_u * fx * x + v_v * fy * y) / (z * z),
            )  # fmt: skip
            for k in range(3):
                v_means[camera, i, k] = g[0] * v0[k] + g[1] * v1[k] + g[2] * v2[k]
                view[k] += fx / z * v_row_x[k] + g[0] * m[k]
                view[3 + k] += fy / z * v_row_y[k] + g[1] * m[k]
                view[6 + k] += (
                    g[2] * m[k] - (fx * slope_x * v_row_x[k] + fy * slope_y * v_row_y[k]) / z
                )
                view[9 + k] += g[k]
