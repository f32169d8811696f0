"""An average face put into the head space of a data set whose tracker knows no such face.

AD-NeRF's and ER-NeRF's trackers leave poses and no mesh, GaussianTalker's a mesh of other vertices.
MediaPipe's average face is moved by a similarity onto landmarks that are triangulated with the
poses, bent towards them, and laid on the tracker's mesh where there is one.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64
from nerfstudio.utils.rich_utils import CONSOLE
from scipy.spatial import KDTree

from gaussiantalker_ns.dataparsers.cameras import SCENE_UNITS_PER_METRE
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.dataparsers.frames import read_mask, read_picture
from gaussiantalker_ns.dataparsers.landmarks import read_points68
from gaussiantalker_ns.dataparsers.poses import ClipPoses
from gaussiantalker_ns.dataparsers.triangulation import (
    MeanPoints,
    Similarity,
    combined,
    fit_similarity,
    surface_points,
    triangulate,
    warp,
)
from gaussiantalker_ns.face.topology import IBUG68_FROM_MESH, LOWEST_OF_CHIN, NUM_MESH_POINTS

# The jaw's other points are where the cheek ends in the picture, not at one place of the skin.
POINTS68_ON_SKIN = (8, *range(17, 68))
NUM_LANDMARK_FRAMES = 250  # Frames whose landmark files are used.
NUM_SEARCHED_FRAMES = 32  # Frames in which faces are searched where there are no files.
NUM_MASKS = 25
MIN_FRAMES = 3  # Fewer landmarks than this are no clip's.
MAX_DISTANCE = 0.02  # Median distance, metres, beyond which landmarks and poses disagree.
LEGACY_DEPTH = -0.02  # Where the average face lies in a Basel face model's head space, metres.
CHIN_QUANTILE = 0.003  # Fraction of a head mask's pixels below its chin: masks err.
SURFACE_REACHES = (0.04, 0.02, 0.01)  # How far a mesh may lie from the face, metres,
NUM_RIGID_STEPS, SMALL_STEP = 4, 2e-4  # how often, and how little in the end, the face is moved.


class Observed(NamedTuple):
    """Landmarks as they are seen."""

    indices: np.ndarray
    """Which of the 468 points they are."""
    rays: Float64[np.ndarray, "b p 2"]
    """(Pixel - principal point) / focal length; NaN where a frame has none."""
    frames: np.ndarray
    """Numbers of the frames."""


class NamedPoints(NamedTuple):
    """Mean points of which it is known where on the average face they are."""

    indices: np.ndarray
    """Which of the 468 points they are."""
    points: MeanPoints


def place_average_face(
    layout: DatasetLayout,
    poses: ClipPoses,
    vertices: Float[np.ndarray, "m 3"] | None = None,
) -> Float64[np.ndarray, "468 3"]:
    """MediaPipe's 468 points in the head space of a data set, metres.

    Landmarks are those of the data set; else faces are searched in its frames; else, with a notice,
    the chins of its head masks tell where the face is.

    Args:
        layout: The data set.
        poses: Its poses.
        vertices: The mesh of its own tracker, if there is one, metres.

    Raises:
        ValueError: landmarks and poses do not belong together.
    """
    from gaussiantalker_ns.face.canonical_mesh import canonical_mesh

    average = canonical_mesh().vertices
    observed = _landmark_files(layout, poses) or _search_faces(layout, poses)
    if observed is None:
        face = _from_masks(layout, poses, average)(average)
        return face if vertices is None else _onto_surface(face, vertices)
    T_camera_head = poses.T_camera_head.numpy()[observed.frames].copy()
    T_camera_head[:, :3, 3] /= SCENE_UNITS_PER_METRE
    seen = NamedPoints(observed.indices, triangulate(observed.rays, T_camera_head))
    face = fit_similarity(average[seen.indices], seen.points)(average)
    _check_distance(layout, face, seen)
    return warp(face, *seen) if vertices is None else _onto_surface(face, vertices, seen)


def _landmark_files(layout: DatasetLayout, poses: ClipPoses) -> Observed | None:
    """Those of the 68 points of the data set that stay at their place on the skin."""
    frames = _evenly_spaced(poses, NUM_LANDMARK_FRAMES)
    points = read_points68(layout, len(poses.valid), frames.tolist())[frames]
    points = points[:, POINTS68_ON_SKIN]
    if np.isfinite(points).all(axis=(1, 2)).sum() < min(MIN_FRAMES, len(frames)):
        return None
    return Observed(
        np.array(IBUG68_FROM_MESH)[list(POINTS68_ON_SKIN)], _rays(points, poses), frames
    )


def _search_faces(layout: DatasetLayout, poses: ClipPoses) -> Observed | None:
    """The 468 points that the landmarker of `process` finds in some frames."""
    from gaussiantalker_ns.face.landmarker import FaceLandmarker

    CONSOLE.print(
        f"{layout.root} has no landmarks (ori_imgs/*.lms): {NUM_SEARCHED_FRAMES} frames are "
        "searched for the face.",
        style="yellow",
    )
    frames = _evenly_spaced(poses, NUM_SEARCHED_FRAMES)
    points = np.full((len(frames), NUM_MESH_POINTS, 2), np.nan)
    with FaceLandmarker() as landmarker:
        for place, frame in enumerate(frames.tolist()):
            faces = landmarker.detect(read_picture(layout.frame(frame)))
            if faces:
                largest = max(faces, key=lambda face: float(np.ptp(face.points[:, 1])))
                points[place] = largest.points[:NUM_MESH_POINTS, :2]
    if np.isfinite(points).all(axis=(1, 2)).sum() < min(MIN_FRAMES, len(frames)):
        return None
    return Observed(np.arange(NUM_MESH_POINTS), _rays(points, poses), frames)


def _evenly_spaced(poses: ClipPoses, count: int) -> np.ndarray:
    """Training frames with a pose, evenly spaced."""
    frames = np.array([frame for frame in poses.train_frames if poses.valid[frame]])
    return frames[np.linspace(0, len(frames) - 1, min(count, len(frames))).astype(int)]


def _rays(points: Float[np.ndarray, "b p 2"], poses: ClipPoses) -> Float64[np.ndarray, "b p 2"]:
    return (points.astype(np.float64) - (poses.cx, poses.cy)) / poses.focal


def _check_distance(
    layout: DatasetLayout, face: Float[np.ndarray, "468 3"], seen: NamedPoints
) -> None:
    """Refuse landmarks that no face in the head space of the poses can have."""
    offsets = face[seen.indices] - seen.points.positions
    distance = np.sqrt(np.einsum("pi,pij,pj->p", offsets, seen.points.information, offsets))
    if (median := float(np.median(distance))) > MAX_DISTANCE:
        raise ValueError(
            f"{layout.root} has landmarks {1000 * median:.0f} mm away from a face in its poses' "
            f"head space; expected less than {1000 * MAX_DISTANCE:.0f} mm. Do ori_imgs/*.lms and "
            "transforms_*.json belong to these frames, in this size? Delete the landmarks, or "
            "track the head again."
        )


def _onto_surface(
    face: Float[np.ndarray, "468 3"],
    vertices: Float[np.ndarray, "m 3"],
    seen: NamedPoints | None = None,
) -> Float64[np.ndarray, "468 3"]:
    """Lay a face on a mesh that it roughly meets: rigidly at first; landmarks keep it in place."""
    face, mesh = face.astype(np.float64), KDTree(vertices.astype(np.float64))

    def wanted(reach: float) -> NamedPoints:
        surface = surface_points(face, mesh, reach)
        named = NamedPoints(np.arange(NUM_MESH_POINTS), surface)
        if seen is None:
            return named
        indices = np.concatenate([seen.indices, named.indices])
        return NamedPoints(indices, combined(seen.points, surface))

    for reach in SURFACE_REACHES:
        for _ in range(NUM_RIGID_STEPS):
            indices, points = wanted(reach)
            before, face = face, fit_similarity(face[indices], points)(face)
            if np.abs(face - before).max() < SMALL_STEP:
                break
    return warp(face, *wanted(SURFACE_REACHES[-1]))


def _from_masks(
    layout: DatasetLayout, poses: ClipPoses, average: Float[np.ndarray, "468 3"]
) -> Similarity:
    """Where the average face is if its chin is the lowest point of the head masks.

    Depth and size are those that all public trackers share, whose head space is the Basel model's.
    """
    CONSOLE.print(
        f"No face was found in the frames of {layout.root}: the average face is put where the head "
        "masks end, which is right to a centimetre or two.",
        style="yellow",
    )
    chin = average[LOWEST_OF_CHIN] + (0, 0, LEGACY_DEPTH)
    size = max(round(2 * poses.cx), 1)
    found = []
    for frame in _evenly_spaced(poses, NUM_MASKS).tolist():
        rows, columns = np.nonzero(read_mask(layout.parsing(frame), size) > 127)
        if len(rows) == 0:
            continue
        pixel = (np.median(columns) + 0.5, np.quantile(rows, 1 - CHIN_QUANTILE) + 1)
        ray = np.append((np.array(pixel) - (poses.cx, poses.cy)) / poses.focal, 1.0)
        rotation, translation = np.split(poses.T_camera_head[frame, :3].numpy(), [3], axis=1)
        ray, origin = ray @ rotation, -(translation[:, 0] / SCENE_UNITS_PER_METRE) @ rotation
        found.append(origin + ray * ((chin[2] - origin[2]) / ray[2]))
    shift = np.median(found, axis=0) - chin if found else np.zeros(3)
    return Similarity(1.0, np.eye(3), shift + (0, 0, LEGACY_DEPTH))
