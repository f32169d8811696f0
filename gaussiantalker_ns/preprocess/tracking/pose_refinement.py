"""Refinement of all poses of a clip by landmarks and optical flow together.

Per frame the landmarks say where the head is, pseudo-Huber with a width of 1 px; per pair of frames
the flow of rigid skin says how it moved, pseudo-Huber with a width of 0.3 px and a much larger
weight, because the errors of the landmarks are shared by neighbouring points and frames. There is
no prior on smoothness: it would look calmer and be wrong. As a pair couples frames that are close,
the normal equations are banded and a step costs as little as a pass over the data.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float64, Int64

from gaussiantalker_ns.preprocess.tracking.optical_flow import OpticalFlow
from gaussiantalker_ns.preprocess.tracking.projection import (
    move_poses,
    pose_jacobian,
    project_camera,
    pseudo_huber,
    pseudo_huber_weight,
    transform,
)

LANDMARK_SCALE = 1.0
"""Width of the landmark loss in pixels."""
FLOW_SCALE = 0.3
"""Width of the flow loss in pixels."""
FLOW_WEIGHT = 20.0
"""Weight of the flow loss. On the sample clip 10, 20, 30 and 100 leave rotation errors of .83, .75,
.74 and .83 degrees: too small follows the bias of the landmarks, too large that of the flow."""
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
    flows: list[OpticalFlow]
    """Motion of the vertices between pairs of frames."""
    focal: float
    """Focal length in pixels."""
    center: Float64[np.ndarray, " 2"]
    """Principal point in pixels."""

    def seen(self, poses: Float64[np.ndarray, "b 4 4"]) -> "SeenPoints":
        """Camera points, pixels and derivatives by the pose of the vertices in some frames."""
        points = transform(poses, self.vertices)
        pixels = project_camera(points, self.focal, self.center)
        return SeenPoints(pixels, points, poses[:, :3, 3], self.focal)


@dataclass
class SeenPoints:
    """The vertices as seen in some frames."""

    pixels: Float64[np.ndarray, "b m 2"]
    points: Float64[np.ndarray, "b m 3"]
    translations: Float64[np.ndarray, "b 3"]
    focal: float

    def jacobian(self) -> Float64[np.ndarray, "b k 6"]:
        """Derivatives of all pixel coordinates of a frame, one below the other."""
        jacobian = pose_jacobian(self.points, self.translations, self.focal)
        return jacobian.reshape(len(jacobian), -1, 6)


def pieces(count: int) -> list[slice]:
    """Cut 0 .. count into slices that bound the memory of the Jacobians."""
    return [slice(i, min(i + FRAMES_AT_ONCE, count)) for i in range(0, count, FRAMES_AT_ONCE)]


def total_cost(problem: ClipProblem, poses: Float64[np.ndarray, "b 4 4"]) -> float:
    """The value that is minimised."""
    cost = 0.0
    for part in pieces(len(poses)):
        residuals = problem.seen(poses[part]).pixels - problem.pixels[part]
        weights = problem.valid[part, None] * problem.weights
        cost += float((weights * pseudo_huber(residuals, LANDMARK_SCALE)).sum())
    for flow in problem.flows:
        for part in pieces(len(flow.motion)):
            first = flow.first[part]
            before, after = problem.seen(poses[first]), problem.seen(poses[first + flow.gap])
            residuals = after.pixels - before.pixels - flow.motion[part]
            weights = flow.measured[part] * problem.weights
            loss = float((weights * pseudo_huber(residuals, FLOW_SCALE)).sum())
            cost += FLOW_WEIGHT * flow.stride * loss
    return cost


def weighted_transpose(
    jacobian: Float64[np.ndarray, "b k 6"], weights: Float64[np.ndarray, "b m"]
) -> Float64[np.ndarray, "b 6 k"]:
    """Transposed Jacobian with every point's two rows times its weight."""
    return (jacobian * np.repeat(weights, 2, axis=1)[..., None]).transpose(0, 2, 1)


@dataclass
class NormalEquations:
    """Gauss-Newton approximation of the cost around some poses."""

    diagonal: Float64[np.ndarray, "b 6 6"]
    """Second derivative by the pose of every frame."""
    couplings: list[Float64[np.ndarray, "_ 6 6"]]
    """Per flow, second derivative by the poses of the first and the second frame of every pair."""
    gradient: Float64[np.ndarray, "b 6"]
    """First derivative by the pose of every frame."""


def normal_equations(problem: ClipProblem, poses: Float64[np.ndarray, "b 4 4"]) -> NormalEquations:
    """Linearise the residuals of landmarks and flow."""
    diagonal, gradient = np.zeros((len(poses), 6, 6)), np.zeros((len(poses), 6))
    for part in pieces(len(poses)):
        seen = problem.seen(poses[part])
        residuals = seen.pixels - problem.pixels[part]
        weights = problem.valid[part, None] * problem.weights
        weights = weights * pseudo_huber_weight(residuals, LANDMARK_SCALE)
        jacobian = seen.jacobian()
        transposed = weighted_transpose(jacobian, weights)
        diagonal[part] += transposed @ jacobian
        gradient[part] += (transposed @ residuals.reshape(len(residuals), -1, 1))[..., 0]
    couplings = []
    for flow in problem.flows:
        coupling = np.zeros((len(flow.motion), 6, 6))
        for part in pieces(len(flow.motion)):
            first = flow.first[part]
            second = first + flow.gap
            before, after = problem.seen(poses[first]), problem.seen(poses[second])
            residuals = after.pixels - before.pixels - flow.motion[part]
            weights = FLOW_WEIGHT * flow.stride * flow.measured[part] * problem.weights
            weights = weights * pseudo_huber_weight(residuals, FLOW_SCALE)
            flat = residuals.reshape(len(residuals), -1, 1)
            jacobian_before, jacobian_after = before.jacobian(), after.jacobian()
            before_transposed = weighted_transpose(jacobian_before, weights)
            after_transposed = weighted_transpose(jacobian_after, weights)
            # The frames of a piece are distinct, so adding in place adds every pair.
            diagonal[first] += before_transposed @ jacobian_before
            diagonal[second] += after_transposed @ jacobian_after
            gradient[first] -= (before_transposed @ flat)[..., 0]
            gradient[second] += (after_transposed @ flat)[..., 0]
            coupling[part] = -before_transposed @ jacobian_after
        couplings.append(coupling)
    return NormalEquations(diagonal, couplings, gradient)


def solve_banded_blocks(
    diagonal: Float64[np.ndarray, "b m m"],
    couplings: list[tuple[Int64[np.ndarray, " _"], int, Float64[np.ndarray, "_ m m"]]],
    right: Float64[np.ndarray, "b m"],
) -> Float64[np.ndarray, "b m"]:
    """Solve a symmetric positive definite system of small blocks near the diagonal.

    Args:
        diagonal: The blocks on the diagonal.
        couplings: Blocks right of it, as triples of block rows, block columns right of the
            diagonal, and the blocks themselves.
        right: The right-hand side.
    """
    num_blocks, size = right.shape
    widest = max((gap for _, gap, _ in couplings), default=0)
    height = size * (widest + 1)
    bands = np.zeros((height, num_blocks * size))
    row, column = np.arange(size)[:, None], np.arange(size)[None]

    def put(rows: Int64[np.ndarray, " k"], gap: int, blocks: Float64[np.ndarray, "k m m"]) -> None:
        # Upper banded form: entry (i, j) of the matrix lies in row height - 1 + i - j, column j.
        band = np.broadcast_to(height - 1 + row - column - size * gap, blocks.shape)
        at = (rows[:, None, None] + gap) * size + column + 0 * row
        inside = (band < height) & (band >= 0)
        bands[band[inside], at[inside]] += blocks[inside]

    put(np.arange(num_blocks), 0, diagonal)
    for rows, gap, blocks in couplings:
        put(rows, gap, blocks)
    return scipy.linalg.solveh_banded(bands, right.ravel()).reshape(num_blocks, size)


def refine_clip(
    problem: ClipProblem, poses: Float64[np.ndarray, "b 4 4"]
) -> Float64[np.ndarray, "b 4 4"]:
    """Levenberg-Marquardt on all poses of the clip at once.

    Args:
        problem: The observations.
        poses: Start, `T_camera_head`; frames that nothing was observed in keep their pose.
    """
    cost, damping = total_cost(problem, poses), 1e-4
    for _ in range(MAX_STEPS):
        equations = normal_equations(problem, poses)
        diagonal = equations.diagonal
        diagonal[np.einsum("bii->b", diagonal) == 0] = np.eye(6)
        couplings = [
            (flow.first, flow.gap, coupling)
            for flow, coupling in zip(problem.flows, equations.couplings)
        ]
        while True:
            damped = diagonal + damping * diagonal * np.eye(6)
            change = -solve_banded_blocks(damped, couplings, equations.gradient)
            moved = move_poses(poses, change)
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
