"""Pinhole projection of head-space points and its derivatives, for many frames at once.

A camera point is `x = R X + t` (OpenCV: x right, y down, z forward); it appears at `c + f (x / z, y
/ z)` pixels. A pose is changed by six numbers (w, d): `R <- exp(w) R`, `t <- t + d`, with w a
rotation vector in radians and d in metres.
"""

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

MIN_DEPTH = 1e-3  # Metres; keeps a diverging step from dividing by zero.


def transform(
    poses: Float64[np.ndarray, "b 4 4"], points: Float64[np.ndarray, "*b m 3"]
) -> Float64[np.ndarray, "b m 3"]:
    """Head-space points, the same for all frames or one set a frame, in camera space."""
    return points @ poses[:, :3, :3].transpose(0, 2, 1) + poses[:, None, :3, 3]


def project_camera(
    points: Float64[np.ndarray, "b m 3"], focal: float, center: Float64[np.ndarray, " 2"]
) -> Float64[np.ndarray, "b m 2"]:
    """Pixels of camera-space points."""
    return center + focal * points[..., :2] / np.maximum(points[..., 2:], MIN_DEPTH)


def project(
    poses: Float64[np.ndarray, "b 4 4"],
    points: Float64[np.ndarray, "*b m 3"],
    focal: float,
    center: Float64[np.ndarray, " 2"],
) -> Float64[np.ndarray, "b m 2"]:
    """Pixels of head-space points seen with the given poses `T_camera_head`."""
    return project_camera(transform(poses, points), focal, center)


def projection_jacobian(
    points: Float64[np.ndarray, "b m 3"], focal: float
) -> Float64[np.ndarray, "b m 2 3"]:
    """Derivative of the pixel with respect to the camera-space point."""
    depth = np.maximum(points[..., 2], MIN_DEPTH)
    jacobian = np.zeros((*points.shape[:-1], 2, 3))
    jacobian[..., 0, 0] = jacobian[..., 1, 1] = focal / depth
    jacobian[..., :, 2] = -focal * points[..., :2] / (depth**2)[..., None]
    return jacobian


def pose_jacobian(
    points: Float64[np.ndarray, "b m 3"],
    translations: Float64[np.ndarray, "b 3"],
    focal: float,
) -> Float64[np.ndarray, "b m 2 6"]:
    """Derivative of the pixels of camera-space points by a change (w, d) of their frame's pose."""
    pixel = projection_jacobian(points, focal)
    rotated = points - translations[:, None]
    # The derivative of exp(w) p at w = 0 is w x p, so each row g of `pixel` becomes p x g.
    rotation = np.cross(rotated[..., None, :], pixel)
    return np.concatenate([rotation, pixel], axis=-1)


def move_poses(
    poses: Float64[np.ndarray, "b 4 4"], change: Float64[np.ndarray, "b 6"]
) -> Float64[np.ndarray, "b 4 4"]:
    """Apply the pose changes (w, d)."""
    moved = poses.copy()
    moved[:, :3, :3] = Rotation.from_rotvec(change[:, :3]).as_matrix() @ poses[:, :3, :3]
    moved[:, :3, 3] += change[:, 3:]
    return moved


def pseudo_huber_weight(
    residuals: Float64[np.ndarray, "*b 2"], scale: float
) -> Float64[np.ndarray, "*b"]:
    """Weight that gives a squared residual vector the gradient of the pseudo-Huber loss."""
    return 1 / np.sqrt(1 + (residuals**2).sum(-1) / scale**2)


def pseudo_huber(residuals: Float64[np.ndarray, "*b 2"], scale: float) -> Float64[np.ndarray, "*b"]:
    """Pseudo-Huber loss of vectors: half the square near 0, `scale` times the length far away."""
    return scale**2 * (np.sqrt(1 + (residuals**2).sum(-1) / scale**2) - 1)
