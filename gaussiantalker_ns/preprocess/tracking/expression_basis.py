"""Expressions as a few modes of the mesh, found after the poses are frozen.

Fitting expressions together with the poses gives prettier errors and worse poses: the expressions
absorb head motion.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float64

from gaussiantalker_ns.face.interpolation import fill_gaps
from gaussiantalker_ns.preprocess.tracking.projection import project_camera, transform

MAX_SAMPLES = 1500  # Frames that the modes are computed from.


@dataclass
class Expressions:
    """Neutral mesh and modes of its motion."""

    vertices: Float64[np.ndarray, "m 3"]
    """Mesh of the mean expression in head space, metres."""
    basis: Float64[np.ndarray, "k m 3"]
    """Displacement of every vertex by one standard deviation of a mode, metres."""
    coefficients: Float64[np.ndarray, "b k"]
    """Modes of every frame in standard deviations."""


def unposed_residuals(
    pixels: Float64[np.ndarray, "b m 2"],
    poses: Float64[np.ndarray, "b 4 4"],
    vertices: Float64[np.ndarray, "m 3"],
    focal: float,
    center: Float64[np.ndarray, " 2"],
) -> Float64[np.ndarray, "b m 3"]:
    """Smallest displacement parallel to the picture that puts every vertex onto its landmark."""
    points = transform(poses, vertices)
    residuals = pixels - project_camera(points, focal, center)
    shift = np.zeros_like(points)
    shift[..., :2] = residuals * points[..., 2:] / focal
    return shift @ poses[:, :3, :3]


def fit_expressions(
    pixels: Float64[np.ndarray, "b m 2"],
    valid: Bool[np.ndarray, " b"],
    poses: Float64[np.ndarray, "b 4 4"],
    vertices: Float64[np.ndarray, "m 3"],
    focal: float,
    center: Float64[np.ndarray, " 2"],
    num_modes: int,
) -> Expressions:
    """Principal components of what the rigid mesh leaves unexplained.

    Args:
        pixels: Landmarks of all frames.
        valid: Frames whose landmarks count; the others get interpolated coefficients.
        poses: Frozen poses `T_camera_head`.
        vertices: Personal mesh.
        focal: Focal length in pixels.
        center: Principal point in pixels.
        num_modes: Number of modes to keep.
    """
    shifts = unposed_residuals(pixels, poses, vertices, focal, center).reshape(len(pixels), -1)
    frames = np.flatnonzero(valid)
    mean = shifts[frames].mean(axis=0)
    shifts -= mean
    samples = shifts[frames[:: -(-len(frames) // MAX_SAMPLES)]]
    num_modes = min(num_modes, len(samples) - 1)
    size = shifts.shape[1]
    covariance = samples.T @ samples / len(samples)
    variances, modes = scipy.linalg.eigh(covariance, subset_by_index=(size - num_modes, size - 1))
    order = np.argsort(-variances)
    std = np.sqrt(np.maximum(variances[order], 1e-16))
    modes = modes[:, order]
    coefficients = fill_gaps(shifts @ modes / std, valid)
    basis = (modes * std).T.reshape(num_modes, -1, 3)
    return Expressions(vertices + mean.reshape(-1, 3), basis, coefficients)
