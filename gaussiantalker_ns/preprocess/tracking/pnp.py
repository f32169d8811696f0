"""Head poses from landmarks and a known mesh: perspective-n-point, then robust least squares."""

import cv2
import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from gaussiantalker_ns.preprocess.tracking.projection import (
    move_poses,
    pose_jacobian,
    project_camera,
    pseudo_huber,
    pseudo_huber_weight,
    transform,
)

FRAMES_AT_ONCE = 512  # Bounds the memory of the Jacobians.
LANDMARK_SCALE = 2.0  # Pixels; residuals beyond it count linearly.
NO_DISTORTION = np.zeros(4)
DAMPING = 1e-3


def initial_poses(
    pixels: Float64[np.ndarray, "b m 2"],
    vertices: Float64[np.ndarray, "m 3"],
    focal: float,
    center: Float64[np.ndarray, " 2"],
) -> Float64[np.ndarray, "b 4 4"]:
    """Poses `T_camera_head` of every frame on its own, by SQPnP."""
    intrinsics = np.array([[focal, 0, center[0]], [0, focal, center[1]], [0, 0, 1]])
    poses = np.tile(np.eye(4), (len(pixels), 1, 1))
    for frame, observed in enumerate(pixels):
        # OpenCV misreads the strides that indexing with a mask leaves.
        _, rotation, translation = cv2.solvePnP(
            vertices,
            np.ascontiguousarray(observed),
            intrinsics,
            NO_DISTORTION,
            flags=cv2.SOLVEPNP_SQPNP,
        )
        poses[frame, :3, :3] = Rotation.from_rotvec(rotation[:, 0]).as_matrix()
        poses[frame, :3, 3] = translation[:, 0]
    return poses


def refine_poses(
    poses: Float64[np.ndarray, "b 4 4"],
    pixels: Float64[np.ndarray, "b m 2"],
    vertices: Float64[np.ndarray, "m 3"],
    weights: Float64[np.ndarray, " m"],
    focal: float,
    center: Float64[np.ndarray, " 2"],
    num_steps: int = 10,
) -> Float64[np.ndarray, "b 4 4"]:
    """Minimise the pseudo-Huber distance of vertices and landmarks, every frame on its own."""
    # Not SciPy's least_squares: 200 frames take .17 s of CPU, all at once, where that takes 1.4 s
    # (`lm`, one by one) and ends at the same cost (docs/benchmarks.md).
    parts = []
    for start in range(0, len(poses), FRAMES_AT_ONCE):
        part = poses[start : start + FRAMES_AT_ONCE]
        observed = pixels[start : start + FRAMES_AT_ONCE]
        damping = np.full(len(part), DAMPING)
        points = transform(part, vertices)
        residuals = project_camera(points, focal, center) - observed
        cost = (weights * pseudo_huber(residuals, LANDMARK_SCALE)).sum(-1)
        for _ in range(num_steps):
            jacobian = pose_jacobian(points, part[:, :3, 3], focal)
            weight = weights * pseudo_huber_weight(residuals, LANDMARK_SCALE)
            weighted = (jacobian * weight[..., None, None]).reshape(len(part), -1, 6)
            jacobian = jacobian.reshape(len(part), -1, 6)
            normal = weighted.transpose(0, 2, 1) @ jacobian
            gradient = weighted.transpose(0, 2, 1) @ residuals.reshape(len(part), -1, 1)
            diagonal = np.einsum("bii->bi", normal)
            diagonal += damping[:, None] * diagonal + 1e-12
            moved = move_poses(part, -np.linalg.solve(normal, gradient)[..., 0])
            points_moved = transform(moved, vertices)
            residuals_moved = project_camera(points_moved, focal, center) - observed
            cost_moved = (weights * pseudo_huber(residuals_moved, LANDMARK_SCALE)).sum(-1)
            better = cost_moved < cost
            part = np.where(better[:, None, None], moved, part)
            points = np.where(better[:, None, None], points_moved, points)
            residuals = np.where(better[:, None, None], residuals_moved, residuals)
            cost = np.where(better, cost_moved, cost)
            damping = np.where(better, damping * 0.3, damping * 10)
        parts.append(part)
    return np.concatenate(parts)
