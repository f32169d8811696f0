"""Refinement of all poses of a clip by landmarks and skin flow together.

Per frame the landmarks say where the head is, pseudo-Huber with a width of 1 px; per pair of frames
the flow of rigid skin says how it moved, pseudo-Huber with a width of 0.3 px and ten times the
weight. There is no prior on smoothness: it would look calmer and be wrong. As a pair couples only
neighbours, the normal equations are block tridiagonal and a step costs as little as a pass over the
data.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float64

from gaussiantalker_ns.preprocess.projection import (
    move_poses,
    pose_jacobian,
    project_camera,
    pseudo_huber,
    pseudo_huber_weight,
    transform,
)
from gaussiantalker_ns.preprocess.skin_flow import SkinFlow

LANDMARK_SCALE = 1.0
"""Width of the landmark loss in pixels."""
FLOW_SCALE = 0.3
"""Width of the flow loss in pixels."""
FLOW_WEIGHT = 10.0
"""Weight of the flow loss; 3, 10 and 30 leave held-out residuals of .310, .285 and .276 px."""
FRAMES_AT_ONCE = 256
MAX_STEPS = 20
MIN_IMPROVEMENT = 1e-5


@dataclass
class ClipProblem:
    """The observations of a clip that its poses must explain."""

    vertices: Float64[np.ndarray, "m 3"]
    """Rigid vertices of the personal mesh in metres."""
    weights: Float64[np.ndarray, " m"]
    """Weight of each vertex."""
    pixels: Float64[np.ndarray, "b m 2"]
    """Their landmarks."""
    valid: Bool[np.ndarray, " b"]
    """Frames whose landmarks count."""
    flow: SkinFlow
    """Motion of the vertices from frame to frame."""
    focal: float
    center: Float64[np.ndarray, " 2"]

    def chunks(self) -> list[slice]:
        """The frames in pieces that overlap by one, so that every pair of neighbours lies in
        exactly one piece."""
        last = len(self.pixels) - 1
        return [
            slice(i, min(i + FRAMES_AT_ONCE, last) + 1)
            for i in range(0, max(last, 1), FRAMES_AT_ONCE)
        ]


def chunk_residuals(
    problem: ClipProblem, poses: Float64[np.ndarray, "b 4 4"], chunk: slice
) -> tuple[
    Float64[np.ndarray, "k m 3"],
    Float64[np.ndarray, "k m 2"],
    Float64[np.ndarray, "k-1 m 2"],
    Float64[np.ndarray, "k m"],
    Float64[np.ndarray, "k-1 m"],
]:
    """Camera points, landmark and flow residuals and their weights of one piece of the clip.

    The first frame of every piece but the first belongs to the piece before, so its landmarks weigh
    nothing here.
    """
    points = transform(poses[chunk], problem.vertices)
    projected = project_camera(points, problem.focal, problem.center)
    landmark = projected - problem.pixels[chunk]
    pairs = slice(chunk.start, chunk.stop - 1)
    flow = projected[1:] - projected[:-1] - problem.flow.motion[pairs]
    landmark_weight = problem.valid[chunk, None] * problem.weights
    if chunk.start > 0:
        landmark_weight[0] = 0
    flow_weight = FLOW_WEIGHT * problem.flow.measured[pairs] * problem.weights
    return points, landmark, flow, landmark_weight, flow_weight


def total_cost(problem: ClipProblem, poses: Float64[np.ndarray, "b 4 4"]) -> float:
    """The value that is minimised."""
    cost = 0.0
    for chunk in problem.chunks():
        _, landmark, flow, landmark_weight, flow_weight = chunk_residuals(problem, poses, chunk)
        cost += float((landmark_weight * pseudo_huber(landmark, LANDMARK_SCALE)).sum())
        cost += float((flow_weight * pseudo_huber(flow, FLOW_SCALE)).sum())
    return cost


def normal_equations(
    problem: ClipProblem, poses: Float64[np.ndarray, "b 4 4"]
) -> tuple[
    Float64[np.ndarray, "b 6 6"], Float64[np.ndarray, "b-1 6 6"], Float64[np.ndarray, "b 6"]
]:
    """Gauss-Newton blocks: of every frame, of every frame with its successor, and the gradient."""
    num_frames = len(poses)
    diagonal = np.zeros((num_frames, 6, 6))
    coupling = np.zeros((num_frames - 1, 6, 6))
    gradient = np.zeros((num_frames, 6))
    for chunk in problem.chunks():
        points, landmark, flow, landmark_weight, flow_weight = chunk_residuals(
            problem, poses, chunk
        )
        jacobian = pose_jacobian(points, poses[chunk, :3, 3], problem.focal)
        landmark_weight = landmark_weight * pseudo_huber_weight(landmark, LANDMARK_SCALE)
        flow_weight = flow_weight * pseudo_huber_weight(flow, FLOW_SCALE)
        # A frame's own block: landmarks, the flow that ends in it and the flow that starts in it
        # share its Jacobian.
        own = landmark_weight.copy()
        own[1:] += flow_weight
        own[:-1] += flow_weight
        pull = landmark_weight[..., None] * landmark
        pull[1:] += flow_weight[..., None] * flow
        pull[:-1] -= flow_weight[..., None] * flow
        size = len(points)
        flat = jacobian.reshape(size, -1, 6)
        transposed = flat.transpose(0, 2, 1)
        weighted = (jacobian * own[..., None, None]).reshape(size, -1, 6)
        diagonal[chunk] += transposed @ weighted
        gradient[chunk] += (transposed @ pull.reshape(size, -1, 1))[..., 0]
        weighted_next = (jacobian[1:] * flow_weight[..., None, None]).reshape(size - 1, -1, 6)
        coupling[chunk.start : chunk.stop - 1] = -transposed[:-1] @ weighted_next
    return diagonal, coupling, gradient


def solve_block_tridiagonal(
    diagonal: Float64[np.ndarray, "b m m"],
    coupling: Float64[np.ndarray, "b-1 m m"],
    right: Float64[np.ndarray, "b m"],
) -> Float64[np.ndarray, "b m"]:
    """Solve the symmetric positive definite system with the given blocks on and right of the
    diagonal."""
    num_blocks, size = right.shape
    bands = np.zeros((2 * size, num_blocks * size))
    row, column = np.arange(size)[:, None], np.arange(size)[None]
    starts = np.arange(num_blocks)[:, None, None] * size
    # Upper banded form: entry (i, j) of the matrix lies in row (2 * size - 1) + i - j and column j.
    upper = np.broadcast_to(row <= column, diagonal.shape)
    band = np.broadcast_to(2 * size - 1 + row - column, diagonal.shape)
    at = np.broadcast_to(starts + column, diagonal.shape)
    bands[band[upper], at[upper]] = diagonal[upper]
    band = np.broadcast_to(size - 1 + row - column, coupling.shape)
    at = np.broadcast_to(starts[1:] + column, coupling.shape)
    inside = band >= 0
    bands[band[inside], at[inside]] = coupling[inside]
    return scipy.linalg.solveh_banded(bands, right.ravel()).reshape(num_blocks, size)


def refine_clip(
    problem: ClipProblem, poses: Float64[np.ndarray, "b 4 4"]
) -> Float64[np.ndarray, "b 4 4"]:
    """Levenberg-Marquardt on all poses of the clip at once.

    Args:
        problem: The observations.
        poses: Start, `T_camera_head`; poses of frames that are not valid are returned as they came.
    """
    cost, damping = total_cost(problem, poses), 1e-4
    for _ in range(MAX_STEPS):
        diagonal, coupling, gradient = normal_equations(problem, poses)
        # A frame without any observation keeps its pose.
        empty = np.einsum("bii->b", diagonal) == 0
        diagonal[empty] = np.eye(6)
        while True:
            damped = diagonal + damping * diagonal * np.eye(6)
            moved = move_poses(poses, -solve_block_tridiagonal(damped, coupling, gradient))
            moved_cost = total_cost(problem, moved)
            if moved_cost < cost or damping > 1e4:
                break
            damping *= 10
        if moved_cost >= cost:
            break
        improvement = (cost - moved_cost) / cost
        poses, cost, damping = moved, moved_cost, max(damping * 0.1, 1e-9)
        if improvement < MIN_IMPROVEMENT:
            break
    return poses
