"""`benchmark.py solvers`: our Levenberg-Marquardt against SciPy's `least_squares`.

Both minimise the same sums, pseudo-Huber losses of the landmarks' distances and, in the bundle, the
priors, from the same starts on the landmarks of a data set. SciPy gets the loss as residuals whose
half squares are the loss, with exact derivatives. The CPU time of the process is compared, which
other programs on the machine hardly change.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from rich.console import Console
from rich.table import Table
from scipy import sparse
from scipy.optimize import least_squares

from gaussiantalker_ns.face.canonical_mesh import NUM_VERTICES, canonical_mesh
from gaussiantalker_ns.face.landmarker import Landmarks
from gaussiantalker_ns.face.topology import laplacian, rigid_vertices
from gaussiantalker_ns.preprocess.tracking import bundle_adjustment as bundle
from gaussiantalker_ns.preprocess.tracking import pnp
from gaussiantalker_ns.preprocess.tracking.projection import (
    move_poses,
    pose_jacobian,
    project_camera,
    projection_jacobian,
    pseudo_huber,
    transform,
)


@dataclass
class SolverConfig:
    """Compare our solvers with SciPy's on the landmarks of a data set."""

    data: Path
    """Folder of a data set that `gaussiantalker process` made."""
    num_frames: int = 200
    """Frames whose poses are refined, evenly spaced."""
    num_keyframes: int = 150
    """Frames of the bundle adjustment; `process` takes as many."""
    output: Path | None = None
    """JSON file for the figures."""


@dataclass
class Timing:
    """What a solver needed and reached."""

    solver: str
    cpu_s: float
    cost: float
    """The value that is minimised, at the end."""


def robust(
    residuals: Float64[np.ndarray, "m 2"], jacobian: Float64[np.ndarray, "m 2 k"], scale: float
) -> tuple[Float64[np.ndarray, "m 2"], Float64[np.ndarray, "m 2 k"]]:
    """Residuals whose half squares are the pseudo-Huber loss, and their derivatives."""
    squares = (residuals**2).sum(-1)
    root = np.sqrt(1 + squares / scale**2)
    # With u = |r|^2, g(u)^2 u = 2 scale^2 (root - 1), so that g^2 = 2 / (root + 1).
    factor = np.sqrt(2 / (root + 1))
    slope = -(factor**3) / (8 * root * scale**2)
    along = np.einsum("mi,mik->mk", residuals, jacobian)
    derived = factor[:, None, None] * jacobian
    derived += (2 * slope[:, None] * residuals)[..., None] * along[:, None]
    return factor[:, None] * residuals, derived


def scipy_pose(
    start: Float64[np.ndarray, "4 4"],
    observed: Float64[np.ndarray, "m 2"],
    vertices: Float64[np.ndarray, "m 3"],
    focal: float,
    center: Float64[np.ndarray, " 2"],
    method: str,
) -> Float64[np.ndarray, "4 4"]:
    """Refine one pose; unknown is its change, as derivatives hold where that is small."""
    pose = start[None]

    def moved(change: Float64[np.ndarray, " 6"]) -> Float64[np.ndarray, "_ 4 4"]:
        return move_poses(pose, change[None])

    def parts(change: Float64[np.ndarray, " 6"]) -> tuple[Any, Any]:
        now = moved(change)
        points = transform(now, vertices)
        residuals = project_camera(points, focal, center)[0] - observed
        jacobian = pose_jacobian(points, now[:, :3, 3], focal)[0]
        jacobian[..., :3] = jacobian[..., :3] @ left_jacobian(change[:3])
        return robust(residuals, jacobian, pnp.LANDMARK_SCALE)

    found = least_squares(
        lambda change: parts(change)[0].ravel(),
        np.zeros(6),
        lambda change: parts(change)[1].reshape(-1, 6),  # pyright: ignore[reportArgumentType]
        method=method,  # pyright: ignore[reportArgumentType]
        x_scale="jac",
    )
    return moved(found.x)[0]


def left_jacobian(rotation: Float64[np.ndarray, " 3"]) -> Float64[np.ndarray, "3 3"]:
    """Derivative of the rotation by a vector, seen as a small rotation after it."""
    angle = float(np.linalg.norm(rotation))
    x, y, z = rotation
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    if angle < 1e-6:
        return np.eye(3) + cross / 2
    first = (1 - np.cos(angle)) / angle**2
    return np.eye(3) + first * cross + (angle - np.sin(angle)) / angle**3 * cross @ cross


def timed(solver: str, run: Callable[[], Any], cost: Callable[[Any], float]) -> Timing:
    """CPU time and cost of one solver."""
    start = time.process_time()
    found = run()
    return Timing(solver, time.process_time() - start, cost(found))


def compare_poses(pixels: Float64[np.ndarray, "b 468 2"], size: tuple[int, int]) -> list[Timing]:
    """Poses of frames on their own, with the average face."""
    rigid = rigid_vertices()
    vertices, observed = canonical_mesh().vertices[rigid], pixels[:, rigid]
    center, focal = np.array(size) / 2, bundle.FOCAL_RATIO * max(size)
    weights = np.ones(len(vertices))
    starts = pnp.initial_poses(observed, vertices, focal, center)

    def cost(poses: Float64[np.ndarray, "b 4 4"]) -> float:
        residuals = project_camera(transform(poses, vertices), focal, center) - observed
        return float(pseudo_huber(residuals, pnp.LANDMARK_SCALE).sum())

    def by_scipy(method: str) -> Float64[np.ndarray, "b 4 4"]:
        every = zip(starts, observed)
        return np.stack([scipy_pose(s, o, vertices, focal, center, method) for s, o in every])

    return [
        timed("start", lambda: starts, cost),
        timed(
            "ours",
            lambda: pnp.refine_poses(starts, observed, vertices, weights, focal, center),
            cost,
        ),
        timed("scipy lm", lambda: by_scipy("lm"), cost),
        timed("scipy trf", lambda: by_scipy("trf"), cost),
    ]


@dataclass
class SparseBundle:
    """The bundle's residuals and their sparse derivatives, as SciPy wants them."""

    problem: bundle.BundleProblem
    start: bundle.Bundle

    def at(self, x: Float64[np.ndarray, " k"]) -> bundle.Bundle:
        """The estimate for changes of offsets, log f and poses."""
        num_shared = 3 * NUM_VERTICES + 1
        vertices = self.start.vertices + x[: num_shared - 1].reshape(-1, 3)
        poses = move_poses(self.start.poses, x[num_shared:].reshape(-1, 6))
        return bundle.Bundle(self.start.focal * float(np.exp(x[num_shared - 1])), vertices, poses)

    def parts(self, x: Float64[np.ndarray, " k"]) -> tuple[Float64[np.ndarray, " m"], Any]:
        """Residuals of landmarks and priors, and their derivatives."""
        now, problem = self.at(x), self.problem
        num_frames, num_shared = len(now.poses), 3 * NUM_VERTICES + 1
        points = transform(now.poses, now.vertices)
        projected = project_camera(points, now.focal, problem.center)
        by_pose = pose_jacobian(points, now.poses[:, :3, 3], now.focal)
        turns = np.stack([left_jacobian(c[:3]) for c in x[num_shared:].reshape(-1, 6)])
        by_pose[..., :3] = by_pose[..., :3] @ turns[:, None]
        by_vertex = projection_jacobian(points, now.focal) @ now.poses[:, None, :3, :3]
        by_focal = (projected - problem.center)[..., None]
        every = np.concatenate([by_vertex, by_focal, by_pose], axis=-1).reshape(-1, 2, 10)
        flat = (projected - problem.pixels).reshape(-1, 2)
        residuals, derived = robust(flat, every, bundle.LANDMARK_SCALE)
        root = np.sqrt(problem.frame_weight * np.tile(problem.weights, num_frames))[:, None]
        residuals, derived = root * residuals, root[..., None] * derived
        frame, vertex = np.divmod(np.arange(num_frames * NUM_VERTICES), NUM_VERTICES)
        columns = np.concatenate(
            [
                3 * vertex[:, None] + np.arange(3),
                np.full((len(vertex), 1), num_shared - 1),
                num_shared + 6 * frame[:, None] + np.arange(6),
            ],
            axis=1,
        )
        columns = np.repeat(columns[:, None], 2, axis=1)
        rows = np.repeat(np.arange(residuals.size), 10)
        shape = (residuals.size, len(x))
        data = sparse.csr_matrix((derived.ravel(), (rows, columns.ravel())), shape=shape)
        offsets = now.vertices - canonical_mesh().vertices
        bend = laplacian()
        log_focal = np.log(now.focal / problem.focal_mean) / bundle.FOCAL_LOG_SIGMA
        priors = [
            offsets.ravel() / bundle.OFFSET_SIGMA,
            (bend @ offsets).ravel() / bundle.BEND_SIGMA,
            np.array([log_focal]),
        ]
        by_offset = [
            sparse.eye(num_shared - 1) / bundle.OFFSET_SIGMA,
            sparse.kron(sparse.csr_matrix(bend), np.eye(3)) / bundle.BEND_SIGMA,
        ]
        shared = sparse.block_diag(
            [sparse.vstack(by_offset), [[1 / bundle.FOCAL_LOG_SIGMA]]], format="csr"
        )
        shared.resize((shared.shape[0], len(x)))  # pyright: ignore[reportOptionalSubscript]
        return np.concatenate([residuals.ravel(), *priors]), sparse.vstack([data, shared]).tocsr()


def compare_bundles(pixels: Float64[np.ndarray, "b 468 2"], size: tuple[int, int]) -> list[Timing]:
    """Focal length, mesh and poses together."""
    rigid = rigid_vertices()
    center, focal = np.array(size) / 2, bundle.FOCAL_RATIO * max(size)
    weights = np.where(rigid, 1.0, bundle.MOBILE_WEIGHT)
    problem = bundle.BundleProblem(pixels, center, weights, focal, False)
    average = canonical_mesh().vertices
    poses = pnp.initial_poses(pixels[:, rigid], average[rigid], focal, center)
    poses = pnp.refine_poses(
        poses, pixels[:, rigid], average[rigid], np.ones(int(rigid.sum())), focal, center
    )
    start = bundle.Bundle(focal, average.copy(), poses)
    form = SparseBundle(problem, start)
    zeros = np.zeros(3 * NUM_VERTICES + 1 + 6 * len(pixels))

    def by_scipy() -> bundle.Bundle:
        found = least_squares(
            lambda x: form.parts(x)[0],
            zeros,
            lambda x: form.parts(x)[1],  # pyright: ignore[reportArgumentType]
            method="trf",
            x_scale="jac",
            tr_solver="lsmr",
            ftol=bundle.MIN_IMPROVEMENT,
            max_nfev=100,
        )
        return form.at(found.x)

    return [
        timed("start", lambda: start, problem.cost),
        timed("ours", lambda: bundle.minimize(problem, start)[0], problem.cost),
        timed("scipy trf lsmr", by_scipy, problem.cost),
    ]


def run_solvers(config: SolverConfig) -> None:
    """Time both solvers on both problems, print and write."""
    landmarks = Landmarks.load(config.data / "landmarks.npz")
    width, height = json.loads((config.data / "talker.json").read_text())["size"]
    pixels = landmarks.points[landmarks.valid, :NUM_VERTICES, :2].astype(np.float64)

    def some(count: int) -> Float64[np.ndarray, "_ 468 2"]:
        return pixels[np.linspace(0, len(pixels) - 1, count).round().astype(int)]

    found = {
        f"poses of {config.num_frames} frames": compare_poses(
            some(config.num_frames), (width, height)
        ),
        f"bundle of {config.num_keyframes} keyframes": compare_bundles(
            some(config.num_keyframes), (width, height)
        ),
    }
    table = Table("problem", "solver", "CPU s", "cost at the end")
    for title, timings in found.items():
        for timing in timings:
            table.add_row(title, timing.solver, f"{timing.cpu_s:.3f}", f"{timing.cost:.4f}")
    Console().print(table)
    if config.output is not None:
        content = {title: [asdict(t) for t in timings] for title, timings in found.items()}
        config.output.write_text(json.dumps(content, indent=1) + "\n")
