"""Focal length, personal face mesh and poses of some frames together, from landmarks alone.

Unknown are log f, an offset of every vertex from the canonical mesh, and six numbers a keyframe.
Levenberg-Marquardt on the pseudo-Huber reprojection error; the poses are eliminated by the Schur
complement, so that a step solves one dense system of 3 * 468 + 1 unknowns.

The focal length is barely observable in a head-and-shoulders clip (starts 600, 1000 and 1600 px end
at 791, 922 and 1309 px with costs that differ by less than half a per cent), so a weak prior holds
it, and so is the size of the head, which the prior on the offsets fixes. One start is enough.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Float64

from gaussiantalker_ns.face.canonical_mesh import canonical_mesh
from gaussiantalker_ns.face.topology import laplacian, rigid_vertices
from gaussiantalker_ns.preprocess.tracking.pnp import LANDMARK_SCALE, initial_poses, refine_poses
from gaussiantalker_ns.preprocess.tracking.projection import (
    move_poses,
    pose_jacobian,
    project_camera,
    projection_jacobian,
    pseudo_huber,
    pseudo_huber_weight,
    transform,
)

MOBILE_WEIGHT = 0.05
"""Weight of vertices that expressions move, relative to rigid ones."""

EFFECTIVE_FRAMES = 20.0
"""Independent frames that the data counts as; neighbouring frames share their landmark errors."""

OFFSET_SIGMA = 0.010
"""Expected distance in metres of a person's vertex from the average face."""

BEND_SIGMA = 0.0015
"""Expected difference in metres of a vertex's offset from the mean of its neighbours'."""

FOCAL_RATIO = 1.75
"""Expected focal length over the picture's side: a portrait lens or a phone's video crop."""

FOCAL_LOG_SIGMA = 0.35
"""Expected std of log f around it."""

MAX_STEPS = 30
MIN_IMPROVEMENT = 1e-5  # Relative; a step that gains less ends the search.


@dataclass
class Bundle:
    """What bundle adjustment estimates."""

    focal: float
    """Focal length in pixels."""
    vertices: Float64[np.ndarray, "468 3"]
    """Personal neutral mesh in head space, metres."""
    poses: Float64[np.ndarray, "b 4 4"]
    """`T_camera_head` of the keyframes."""


@dataclass
class BundleProblem:
    """The observations and priors of one bundle adjustment."""

    pixels: Float64[np.ndarray, "b 468 2"]
    """Landmarks of the keyframes."""
    center: Float64[np.ndarray, " 2"]
    """Principal point in pixels."""
    weights: Float64[np.ndarray, " 468"]
    """Weight of every vertex."""
    focal_mean: float
    """Expected focal length in pixels."""
    fix_focal: bool
    """Whether the focal length is given."""

    @property
    def frame_weight(self) -> float:
        """Factor on the data term, so that many keyframes do not drown the priors."""
        return min(1.0, EFFECTIVE_FRAMES / len(self.pixels))

    def residuals(self, bundle: Bundle) -> Float64[np.ndarray, "b 468 2"]:
        """Projected vertices minus landmarks in pixels."""
        points = transform(bundle.poses, bundle.vertices)
        return project_camera(points, bundle.focal, self.center) - self.pixels

    def cost(self, bundle: Bundle) -> float:
        """The value that is minimised."""
        offsets = bundle.vertices - canonical_mesh().vertices
        data = (self.weights * pseudo_huber(self.residuals(bundle), LANDMARK_SCALE)).sum()
        prior = ((offsets / OFFSET_SIGMA) ** 2).sum() / 2
        prior += ((laplacian() @ offsets / BEND_SIGMA) ** 2).sum() / 2
        prior += (np.log(bundle.focal / self.focal_mean) / FOCAL_LOG_SIGMA) ** 2 / 2
        return float(self.frame_weight * data + prior)


def offset_prior_matrix() -> Float64[np.ndarray, "468 468"]:
    """Second derivative of the priors on one coordinate of the offsets."""
    bend = laplacian()
    return bend.T @ bend / BEND_SIGMA**2 + np.eye(len(bend)) / OFFSET_SIGMA**2


def normal_equations(
    problem: BundleProblem, bundle: Bundle
) -> tuple[
    Float64[np.ndarray, "b 6 6"],
    Float64[np.ndarray, "b 6 k"],
    Float64[np.ndarray, "k k"],
    Float64[np.ndarray, "b 6"],
    Float64[np.ndarray, " k"],
]:
    """Blocks pose-pose, pose-shared, shared-shared, gradients; shared = offsets, then log f."""
    num_vertices = len(bundle.vertices)
    num_shared = 3 * num_vertices + 1
    num_frames = len(bundle.poses)
    points = transform(bundle.poses, bundle.vertices)
    projected = project_camera(points, bundle.focal, problem.center)
    residuals = projected - problem.pixels
    weight = problem.frame_weight * problem.weights * pseudo_huber_weight(residuals, LANDMARK_SCALE)
    by_pose = pose_jacobian(points, bundle.poses[:, :3, 3], bundle.focal)
    by_vertex = projection_jacobian(points, bundle.focal) @ bundle.poses[:, None, :3, :3]
    by_focal = projected - problem.center
    weighted_pose = by_pose * weight[..., None, None]

    flat = weighted_pose.reshape(num_frames, -1, 6).transpose(0, 2, 1)
    pose_pose = flat @ by_pose.reshape(num_frames, -1, 6)
    pose_gradient = (flat @ residuals.reshape(num_frames, -1, 1))[..., 0]
    pose_shared = np.empty((num_frames, 6, num_shared))
    per_vertex = weighted_pose.swapaxes(-1, -2) @ by_vertex
    pose_shared[..., :-1] = per_vertex.transpose(0, 2, 1, 3).reshape(num_frames, 6, -1)
    pose_shared[..., -1] = (flat @ by_focal.reshape(num_frames, -1, 1))[..., 0]

    weighted_vertex = by_vertex * weight[..., None, None]
    shared = np.zeros((num_shared, num_shared))
    blocks = np.einsum("bmki,bmkj->mij", weighted_vertex, by_vertex, optimize=True)
    view = shared[:-1, :-1].reshape(num_vertices, 3, num_vertices, 3)
    vertex = np.arange(num_vertices)
    view[vertex, :, vertex, :] = blocks
    prior = offset_prior_matrix()
    offsets = bundle.vertices - canonical_mesh().vertices
    for axis in range(3):
        view[:, axis, :, axis] += prior
    cross = np.einsum("bmki,bmk->mi", weighted_vertex, by_focal).ravel()
    shared[:-1, -1] = shared[-1, :-1] = cross
    shared[-1, -1] = (weight[..., None] * by_focal**2).sum() + 1 / FOCAL_LOG_SIGMA**2
    gradient = np.empty(num_shared)
    gradient[:-1] = (
        np.einsum("bmki,bmk->mi", weighted_vertex, residuals) + prior @ offsets
    ).ravel()
    gradient[-1] = (weight[..., None] * by_focal * residuals).sum()
    gradient[-1] += np.log(bundle.focal / problem.focal_mean) / FOCAL_LOG_SIGMA**2
    return pose_pose, pose_shared, shared, pose_gradient, gradient


def damped_step(problem: BundleProblem, bundle: Bundle, blocks: tuple, damping: float) -> Bundle:
    """Solve the damped normal equations by eliminating the poses and return the moved estimate."""
    pose_pose, pose_shared, shared, pose_gradient, gradient = blocks
    num_frames = len(bundle.poses)
    damped = pose_pose + damping * np.einsum("bij,ij->bij", pose_pose, np.eye(6))
    factor = np.linalg.inv(np.linalg.cholesky(damped))
    half = (factor @ pose_shared).reshape(6 * num_frames, -1)
    half_gradient = (factor @ pose_gradient[..., None]).ravel()
    reduced = shared + damping * np.diag(np.diag(shared)) - half.T @ half
    reduced_gradient = gradient - half.T @ half_gradient
    if problem.fix_focal:
        reduced[-1, :] = reduced[:, -1] = 0
        reduced[-1, -1], reduced_gradient[-1] = 1, 0
    change = -scipy.linalg.solve(reduced, reduced_gradient, assume_a="pos")
    right = pose_gradient + pose_shared @ change
    pose_change = -(factor.swapaxes(1, 2) @ (factor @ right[..., None]))[..., 0]
    return Bundle(
        bundle.focal * float(np.exp(np.clip(change[-1], -0.3, 0.3))),
        bundle.vertices + change[:-1].reshape(-1, 3),
        move_poses(bundle.poses, pose_change),
    )


def minimize(problem: BundleProblem, bundle: Bundle) -> tuple[Bundle, float]:
    """Levenberg-Marquardt from a start; returns the estimate and its cost."""
    # Not SciPy's least_squares: 2.2 s of CPU for 150 keyframes, where sparse `trf` takes 7.3 s and
    # ends .005 % higher (docs/benchmarks.md).
    cost, damping = problem.cost(bundle), 1e-3
    for _ in range(MAX_STEPS):
        blocks = normal_equations(problem, bundle)
        while True:
            moved = damped_step(problem, bundle, blocks, damping)
            moved_cost = problem.cost(moved)
            if moved_cost < cost or damping > 1e6:
                break
            damping *= 10
        if moved_cost >= cost:
            break
        improvement = (cost - moved_cost) / cost
        bundle, cost, damping = moved, moved_cost, max(damping * 0.1, 1e-9)
        if improvement < MIN_IMPROVEMENT:
            break
    return bundle, cost


def adjust_bundle(
    pixels: Float64[np.ndarray, "b 468 2"], size: tuple[int, int], focal: float | None = None
) -> Bundle:
    """Estimate focal length and personal mesh from the landmarks of keyframes.

    Args:
        pixels: Landmarks of the keyframes.
        size: Width and height of the picture; its middle is the principal point.
        focal: Known focal length in pixels, or None to estimate it.
    """
    center = np.array(size) / 2
    focal_mean = focal or FOCAL_RATIO * max(size)
    rigid = rigid_vertices()
    problem = BundleProblem(
        pixels, center, np.where(rigid, 1.0, MOBILE_WEIGHT), focal_mean, focal is not None
    )
    average = canonical_mesh().vertices
    poses = initial_poses(pixels[:, rigid], average[rigid], focal_mean, center)
    weights = np.ones(int(rigid.sum()))
    poses = refine_poses(poses, pixels[:, rigid], average[rigid], weights, focal_mean, center)
    bundle, _ = minimize(problem, Bundle(focal_mean, average.copy(), poses))
    return bundle
