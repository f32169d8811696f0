"""Landmarks of many frames become mean points in head space, and a face mesh is fitted to them.

How well a mean point is known depends on direction: a head that hardly turns tells little about
depth. So each point carries its information matrix, and every fit weighs with it. All in metres.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float64
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

NUM_ROUNDS = 10  # Of re-weighting against landmarks that went astray.
STRAY_FRACTION = 2.0  # Distance, in median distances of a point, at which its weight is halved.
LEAST_INFORMATION = 1e-9  # Fraction of a point's information added in all directions, to solve it.

NO_DISTANCE = 1e-9  # Metres.

VIEW_SD = 0.0003  # Error, sideways, of a landmark's mean over the frames, metres.
NUM_STEPS, LEAST_STEP = 50, 1e-6  # Gauss-Newton steps at most, and when they end, metres.
LEAST_PRECISION = 1e-3  # Keeps the face where no point tells anything.
SHAPE_SD = 0.003  # How far a person's points lie from the average face's, metres.
SCALE_SD = 0.15  # How much the unit of a head space differs from the average face's, logarithm.

WARP_SD = 0.004  # Size of the differences between faces, after a similarity, metres,
WARP_REACH = 0.03  # and how far along the surface they go together, metres.
POINT_SD = 0.002  # How well a landmark of one convention names the point of another, metres.
NUM_NEIGHBOURS = 8  # Vertices of a mesh that make up its surface at a point.


@dataclass(frozen=True)
class MeanPoints:
    """Points of which each is known better in some directions than in others."""

    positions: Float64[np.ndarray, "p 3"]
    """Metres."""
    information: Float64[np.ndarray, "p 3 3"]
    """1 along a direction seen from the side in all frames, 0 along one that is not known."""

    def precision(self, sd: float) -> Float64[np.ndarray, "p 3 3"]:
        """Inverse covariance of points that deviate by `sd` metres in all directions, too."""
        values, axes = np.linalg.eigh(self.information)
        weight = np.clip(values, 0, None) / (sd**2 * np.clip(values, 0, None) + VIEW_SD**2)
        return axes * weight[:, None] @ axes.transpose(0, 2, 1)


@dataclass(frozen=True)
class Similarity:
    """A change of head space: scale, then rotation, then translation."""

    scale: float
    rotation: Float64[np.ndarray, "3 3"]
    translation: Float64[np.ndarray, "3"]
    """Metres."""

    def __call__(self, points: Float[np.ndarray, "p 3"]) -> Float64[np.ndarray, "p 3"]:
        """Move points from the one head space to the other."""
        return self.scale * points.astype(np.float64) @ self.rotation.T + self.translation


def triangulate(
    rays: Float64[np.ndarray, "b p 2"], T_camera_head: Float64[np.ndarray, "b 4 4"]
) -> MeanPoints:
    """Mean position of every landmark over the frames, robust against single wrong ones.

    Args:
        rays: Where landmarks are seen, (pixel - principal point) / focal length; NaN where not.
        T_camera_head: OpenCV head poses, metres.
    """
    known = np.isfinite(rays).all(axis=-1)
    seen = np.where(known[..., None], rays, 0.0)
    # A point X is seen at the ray x where x (r3 X + t3) - (r12 X + t12) = 0: metres sideways.
    rotation, translation = T_camera_head[:, None, :3, :3], T_camera_head[:, None, :3, 3]
    rows = seen[..., None] * rotation[:, :, 2:] - rotation[:, :, :2]
    targets = translation[..., :2] - seen * translation[..., 2:]
    weights = known.astype(np.float64)
    positions, information = _intersect(rows, targets, weights)
    for _ in range(NUM_ROUNDS):
        distance = np.linalg.norm((rows @ positions[..., None])[..., 0] - targets, axis=-1)
        usual = np.nanmedian(np.where(known.any(axis=0) & ~known, np.nan, distance), axis=0)
        weights = known / (1 + (distance / (STRAY_FRACTION * usual + NO_DISTANCE)) ** 2)
        positions, information = _intersect(rows, targets, weights)
    return MeanPoints(positions, information)


def _intersect(
    rows: Float64[np.ndarray, "b p 2 3"],
    targets: Float64[np.ndarray, "b p 2"],
    weights: Float64[np.ndarray, "b p"],
) -> tuple[Float64[np.ndarray, "p 3"], Float64[np.ndarray, "p 3 3"]]:
    """Weighted least squares of rows X = targets for every point, and the mean information."""
    normal = np.einsum("bp,bpki,bpkj->pij", weights, rows, rows)
    right = np.einsum("bp,bpki,bpk->pi", weights, rows, targets)
    ridge = LEAST_INFORMATION * (np.trace(normal, axis1=1, axis2=2) + 1.0)
    positions = np.linalg.solve(normal + ridge[:, None, None] * np.eye(3), right[..., None])
    total = np.maximum(weights.sum(axis=0), LEAST_INFORMATION)
    return positions[..., 0], normal / total[:, None, None]


def fit_similarity(face: Float[np.ndarray, "p 3"], points: MeanPoints) -> Similarity:
    """The similarity that brings the points of a face nearest to the mean points.

    Points far from theirs count less (soft L1). What the points leave open, such as size and
    distance of a head that never turns, stays near scale 1.
    """
    face, precision = face.astype(np.float64), points.precision(SHAPE_SD)
    scale, rotation, translation = 1.0, np.eye(3), np.zeros(3)
    for _ in range(NUM_STEPS):
        turned = scale * face @ rotation.T
        offsets = points.positions - turned - translation
        weights = 1 / np.sqrt(1 + np.einsum("pi,pij,pj->p", offsets, precision, offsets))
        # How the face moves with scale (logarithm), rotation (from the left) and translation.
        moves = np.zeros((len(face), 3, 7))
        moves[:, :, 0] = turned
        moves[:, :, 1:4] = np.cross(np.eye(3), turned[:, None]).transpose(0, 2, 1)
        moves[:, :, 4:] = np.eye(3)
        pull = weights[:, None, None] * moves.transpose(0, 2, 1) @ precision
        system = (pull @ moves).sum(axis=0) + LEAST_PRECISION * np.eye(7)
        right = (pull @ offsets[..., None]).sum(axis=0)[:, 0]
        system[0, 0] += SCALE_SD**-2
        right[0] -= np.log(scale) * SCALE_SD**-2
        step = np.linalg.solve(system, right)
        scale *= float(np.exp(step[0]))
        rotation = Rotation.from_rotvec(step[1:4]).as_matrix() @ rotation
        translation = translation + step[4:]
        if np.abs(step).max() < LEAST_STEP:
            break
    return Similarity(scale, rotation, translation)


def warp(
    face: Float[np.ndarray, "m 3"],
    indices: np.ndarray,
    points: MeanPoints,
    point_sd: float = POINT_SD,
) -> Float64[np.ndarray, "m 3"]:
    """Move the vertices `indices` of a face towards mean points, and smoothly all others with them.

    The differences between two faces are taken for a Gaussian process over the surface; this is its
    mean, given the points.
    """
    face = face.astype(np.float64)
    known = face[indices]
    kernel = WARP_SD**2 * np.exp(-0.5 * (cdist(known, known) / WARP_REACH) ** 2)
    count = len(indices)
    precision = points.precision(point_sd)
    system = np.einsum("pij,pq->piqj", precision, kernel).reshape(3 * count, 3 * count)
    pull = precision @ (points.positions - known)[..., None]
    alpha = np.linalg.solve(system + np.eye(3 * count), pull.reshape(-1)).reshape(count, 3)
    chosen = WARP_SD**2 * np.exp(-0.5 * (cdist(face, known) / WARP_REACH) ** 2)
    return face + chosen @ alpha


def surface_points(face: Float[np.ndarray, "m 3"], mesh: KDTree, reach: float) -> MeanPoints:
    """Where the surface of a mesh lies next to the points of a face, known along its normal only.

    The tree holds the vertices of the mesh. Points farther than `reach` metres from them know
    nothing.
    """
    distance, nearest = mesh.query(face, NUM_NEIGHBOURS)
    patches = mesh.data[nearest]
    positions = patches.mean(axis=1)
    normals = np.linalg.svd(patches - positions[:, None])[2][:, 2]
    information = normals[:, :, None] * normals[:, None]
    near = distance[:, 0] < reach
    return MeanPoints(positions, information * near[:, None, None])


def combined(first: MeanPoints, second: MeanPoints) -> MeanPoints:
    """Two lists of mean points, one after the other."""
    return replace(
        first,
        positions=np.concatenate([first.positions, second.positions]),
        information=np.concatenate([first.information, second.information]),
    )
