"""Head tracking without a gated face model: focal length, poses, personal mesh, expressions.

Landmarks -> poses on the average face -> bundle adjustment of focal length and personal mesh on
keyframes -> poses of all frames -> flow of rigid skin -> refinement by both -> expressions with
frozen poses -> quality figures.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from gaussiantalker_ns.face.canonical_mesh import NUM_VERTICES
from gaussiantalker_ns.face.interpolation import fill_poses
from gaussiantalker_ns.face.landmarker import Landmarks
from gaussiantalker_ns.face.measures import blink
from gaussiantalker_ns.face.topology import rigid_vertices
from gaussiantalker_ns.preprocess.tracking.bundle_adjustment import Bundle, adjust_bundle
from gaussiantalker_ns.preprocess.tracking.expression_basis import fit_expressions
from gaussiantalker_ns.preprocess.tracking.optical_flow import (
    PAIRINGS,
    OpticalFlow,
    measure_optical_flow,
)
from gaussiantalker_ns.preprocess.tracking.pnp import initial_poses, refine_poses
from gaussiantalker_ns.preprocess.tracking.pose_refinement import ClipProblem, refine_clip
from gaussiantalker_ns.preprocess.tracking.projection import project
from gaussiantalker_ns.preprocess.tracking.quality import flow_residuals, tracking_quality

MIN_FRAMES = 10
HELD_OUT_SEED = 0


@dataclass
class TrackingConfig:
    """Settings of the tracking step."""

    focal: float | None = None
    """Focal length in pixels of the data set's pictures, > 0; None estimates it, which a still head
    hardly allows."""
    num_keyframes: int = 150
    """Frames that bundle adjustment sees, >= 10; 300 is the most that pays."""
    num_expressions: int = 16
    """Modes of the expression basis, >= 1; 4, 8 and 16 leave about .53, .37 and .22 px."""
    num_workers: int = 0
    """Threads that measure optical flow; 0 takes one per core, at most 4."""

    def __post_init__(self) -> None:
        if self.focal is not None and self.focal <= 0:
            raise ValueError(
                f"The focal length is {self.focal}; expected pixels > 0, usually 1 to 3 times the "
                "side of the picture. Leave --focal out to have it estimated."
            )
        if self.num_keyframes < MIN_FRAMES or self.num_expressions < 1:
            raise ValueError(
                f"num_keyframes={self.num_keyframes}, num_expressions={self.num_expressions}; "
                f"expected at least {MIN_FRAMES} keyframes and 1 expression."
            )


@dataclass
class Tracking:
    """The tracked head of a clip."""

    focal: float
    """Focal length in pixels, the same for x and y."""
    cx: float
    """Principal point: the middle of the picture, as every data set of this layout assumes."""
    cy: float
    T_camera_head: Float64[np.ndarray, "b 4 4"]
    """Pose of every frame, head space (x to the person's left, y up, z out of the face; metres) to
    OpenCV camera."""
    mesh: Float64[np.ndarray, "468 3"]
    """Personal mesh of the mean expression in head space, metres."""
    expression_basis: Float64[np.ndarray, "k 468 3"]
    """Displacement of the mesh by one standard deviation of a mode, metres."""
    expression: Float64[np.ndarray, "b k"]
    """Modes of every frame in standard deviations."""
    blink: Float64[np.ndarray, " b"]
    """How far the eyes are closed, in [0, 1]."""
    valid: Bool[np.ndarray, " b"]
    """Frames in which the face was found; the others hold interpolated values."""
    quality: dict[str, float]
    """Figures of `tracking_quality`."""

    def save(self, path: Path) -> None:
        """Write an npz file, complete or not at all."""
        partial = path.with_name(f"{path.stem}.partial.npz")
        arrays = {**vars(self), "quality": json.dumps(self.quality)}
        np.savez(partial, **arrays)
        os.replace(partial, path)

    @classmethod
    def load(cls, path: Path) -> "Tracking":
        """Read what `save` wrote."""
        with np.load(path) as file:
            arrays = dict(file)
        scalars = {name: float(arrays.pop(name)) for name in ("focal", "cx", "cy")}
        quality = json.loads(str(arrays.pop("quality")))
        return cls(**scalars, **arrays, quality=quality)

    def vertices(self, frame: int) -> Float64[np.ndarray, "468 3"]:
        """Mesh of a frame with its expression in head space, metres."""
        return self.mesh + np.tensordot(self.expression[frame], self.expression_basis, axes=1)

    def project_mesh(self, frame: int) -> Float64[np.ndarray, "468 2"]:
        """Pixels of the mesh of a frame, its expression included."""
        center = np.array([self.cx, self.cy])
        pose = self.T_camera_head[frame : frame + 1]
        return project(pose, self.vertices(frame), self.focal, center)[0]


@dataclass
class RigidFit:
    """Intermediate result: the head as a rigid body seen through landmarks alone."""

    bundle: Bundle
    poses: Float64[np.ndarray, "b 4 4"]


def fit_rigid_head(
    pixels: Float64[np.ndarray, "b 468 2"],
    landmarks: Landmarks,
    size: tuple[int, int],
    config: TrackingConfig,
) -> RigidFit:
    """Estimate focal length and mesh on keyframes, then the pose of every frame with them."""
    valid, typical = landmarks.valid, np.flatnonzero(landmarks.typical)
    center = np.array(size) / 2
    rigid = rigid_vertices()
    weights = np.ones(int(rigid.sum()))
    frames = np.flatnonzero(valid)
    picks = np.linspace(0, len(typical) - 1, min(config.num_keyframes, len(typical)))
    keyframes = typical[np.round(picks).astype(int)]
    bundle = adjust_bundle(pixels[keyframes], size, config.focal)
    vertices, seen = bundle.vertices[rigid], pixels[frames][:, rigid]
    poses = np.tile(np.eye(4), (len(pixels), 1, 1))
    found = initial_poses(seen, vertices, bundle.focal, center)
    poses[frames] = refine_poses(found, seen, vertices, weights, bundle.focal, center)
    return RigidFit(bundle, fill_poses(poses, valid))


def measure_flows(
    image_paths: Sequence[Path],
    pixels: Float64[np.ndarray, "b m 2"],
    valid: Bool[np.ndarray, " b"],
    num_workers: int,
    progress: Callable[[int], None] | None,
) -> list[OpticalFlow]:
    """Measure the flow of all pairings; progress counts to the number of frames."""
    num_pairs = sum(len(range(0, len(valid) - gap, stride)) for gap, stride in PAIRINGS)
    done = 0

    def report() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done * len(valid) // num_pairs)

    return [
        measure_optical_flow(image_paths, pixels, valid, gap, stride, num_workers, report)
        for gap, stride in PAIRINGS
    ]


def track_head(
    image_paths: Sequence[Path],
    landmarks: Landmarks,
    size: tuple[int, int],
    config: TrackingConfig | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tracking:
    """Track the head through a clip.

    Args:
        image_paths: The frames in order; read again for the flow of the skin.
        landmarks: Their landmarks.
        size: Width and height of the frames in pixels.
        config: Settings.
        progress: Called with the number of frames whose flow is measured, by far the longest part.

    Raises:
        ValueError: too few frames show a face.
    """
    config = config or TrackingConfig()
    valid = landmarks.valid
    if valid.sum() < MIN_FRAMES:
        raise ValueError(
            f"A face was found in only {valid.sum()} of {len(valid)} frames; expected at least "
            f"{MIN_FRAMES}. Choose another part of the video with --start and --end."
        )
    center = np.array(size) / 2
    pixels = landmarks.points[:, :NUM_VERTICES, :2].astype(np.float64)
    fit = fit_rigid_head(pixels, landmarks, size, config)
    focal, rigid = fit.bundle.focal, rigid_vertices()
    vertices = fit.bundle.vertices[rigid]
    weights = np.ones(len(vertices))
    seen = project(fit.poses, vertices, focal, center)
    flows = measure_flows(image_paths, seen, valid, config.num_workers, progress)

    # Half of the points judge poses that were fitted to the other half; the result is then fitted
    # to all.
    held_out = np.random.default_rng(HELD_OUT_SEED).permutation(len(vertices)) % 2 == 0
    half = [flow.of_points(~held_out) for flow in flows]
    problem = ClipProblem(vertices, weights, pixels[:, rigid], valid, half, focal, center)
    judged = refine_clip(problem, fit.poses)
    judges = [flow.of_points(held_out) for flow in flows]
    problem.flows = flows
    poses = fill_poses(refine_clip(problem, judged), valid)
    expressions = fit_expressions(
        pixels,
        landmarks.typical,
        poses,
        fit.bundle.vertices,
        focal,
        center,
        config.num_expressions,
    )
    tracking = Tracking(
        focal=focal,
        cx=float(center[0]),
        cy=float(center[1]),
        T_camera_head=poses,
        mesh=expressions.vertices,
        expression_basis=expressions.basis,
        expression=expressions.coefficients,
        blink=blink(landmarks.points).astype(np.float64),
        valid=valid,
        quality={},
    )
    posed = project(poses, vertices, focal, center)
    tracking.quality = tracking_quality(
        poses=poses,
        valid=valid,
        rigid_error=np.linalg.norm(posed - pixels[:, rigid], axis=-1)[valid],
        mesh_error=expression_error(tracking, pixels),
        held_out_flow=flow_residuals(project(judged, vertices, focal, center), judges[0]),
        held_out_drift=flow_residuals(project(judged, vertices, focal, center), judges[-1]),
        landmark_flow=flow_residuals(seen, judges[0]),
        flow_coverage=float(flows[0].measured[valid[:-1] & valid[1:]].mean()),
        face_side=np.ptp(pixels[valid], axis=1).max(axis=-1),
    )
    tracking.quality["focal_px"] = focal
    return tracking


def expression_error(
    tracking: Tracking, pixels: Float64[np.ndarray, "b 468 2"]
) -> Float64[np.ndarray, "k 468"]:
    """Distance in pixels of the mesh with expressions from the landmarks of the valid frames."""
    return np.stack(
        [
            np.linalg.norm(tracking.project_mesh(frame) - pixels[frame], axis=-1)
            for frame in np.flatnonzero(tracking.valid).tolist()
        ]
    )
