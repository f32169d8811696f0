"""Boxes of face, lips and eyes in every frame, from 2D landmarks or from the projected mesh."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from gaussiantalker_ns.dataparsers.cameras import SCENE_UNITS_PER_METRE, project_points
from gaussiantalker_ns.dataparsers.face_mesh import FaceMesh
from gaussiantalker_ns.dataparsers.face_regions import IBUG68_FROM_MESH, NUM_MESH_POINTS
from gaussiantalker_ns.dataparsers.layout import DatasetLayout
from gaussiantalker_ns.dataparsers.poses import ClipPoses

NUM_POINTS68 = 68
EYES68 = slice(36, 48)
LIPS68 = slice(48, 60)


def read_boxes(
    layout: DatasetLayout, poses: ClipPoses, mesh: FaceMesh, disk_size: int, size: int
) -> dict[str, Int64[Tensor, "m 4"]]:
    """Boxes "face", "lips" and "eyes" per frame: x0, y0, x1, y1 (exclusive), working pixels.

    Frames without landmarks get those of the mesh projected by their pose.
    """
    points = read_points68(layout, len(poses.valid))
    missing = ~np.isfinite(points).all(axis=(1, 2))
    missing |= ~poses.valid.numpy()
    points[missing] = _projected_points68(poses, mesh)[missing]
    return boxes_from_points68(points * (size / disk_size), size)


def read_points68(layout: DatasetLayout, num_frames: int) -> Float[np.ndarray, "m 68 2"]:
    """Read the iBUG landmarks (pixels of the frames on disk); NaN where a frame has none."""
    points = np.full((num_frames, NUM_POINTS68, 2), np.nan)
    if layout.landmarks.exists():
        try:
            with np.load(layout.landmarks) as arrays:
                mesh_points, valid = arrays["points"], arrays["valid"]
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{layout.landmarks} cannot be read ({error}); expected 'points' and 'valid'. "
                "Re-run `gaussiantalker process --only landmarks`."
            ) from error
        _check_landmarks(layout.landmarks, mesh_points, valid)
        count = min(num_frames, len(mesh_points))
        points[:count] = mesh_points[:count, IBUG68_FROM_MESH, :2]
        points[:count][~valid[:count]] = np.nan
        return points
    for frame in range(num_frames):
        path = layout.points68(frame)
        if not path.exists():
            continue
        try:
            points[frame] = np.array(path.read_text().split(), float).reshape(NUM_POINTS68, 2)
        except ValueError as error:
            raise ValueError(
                f"{path} does not hold 68 rows of two numbers ({error}); expected iBUG landmarks. "
                "Write the file again, or delete it."
            ) from error
    return points


def _check_landmarks(path: Path, points: np.ndarray, valid: np.ndarray) -> None:
    """Refuse landmarks among which the 68 points are not all found, or whose frames differ."""
    enough = points.ndim == 3 and points.shape[1] >= NUM_MESH_POINTS and points.shape[2] >= 2
    if not enough or valid.shape != points.shape[:1] or valid.dtype != bool:
        raise ValueError(
            f"{path} holds points of shape {list(points.shape)}, valid of shape "
            f"{list(valid.shape)} and type {valid.dtype}; expected [frames, {NUM_MESH_POINTS} or "
            "more, 3] and bool [frames]. Re-run `gaussiantalker process --only landmarks`."
        )


def boxes_from_points68(
    points: Float[np.ndarray, "m 68 2"], size: int
) -> dict[str, Int64[Tensor, "m 4"]]:
    """Boxes as in the public code: those of face and eyes bound the points, the lips' is square."""
    boxes = {
        "face": _bounds(points),
        "lips": _square(_bounds(points[:, LIPS68])),
        "eyes": _bounds(points[:, EYES68]),
    }
    return {name: _whole_pixels(box, size) for name, box in boxes.items()}


def _square(bounds: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "m 4"]:
    """Square of whole pixels about the middle of a box, half as large as its longer side.

    Example: columns 10.2 to 31.9 and rows 40.5 to 50.1 have the middle (20, 45) and the longer side
    31 - 10; the square is 10, 35, 30, 55.
    """
    low, high = np.floor(bounds[:, :2]), np.floor(bounds[:, 2:])
    center = (low + high) // 2
    half = np.maximum((high - low).max(axis=1, keepdims=True) // 2, 1)
    return np.concatenate([center - half, center + half], axis=1)


def _bounds(points: Float[np.ndarray, "m p 2"]) -> Float[np.ndarray, "m 4"]:
    return np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)


def _whole_pixels(box: Float[np.ndarray, "m 4"], size: int) -> Int64[Tensor, "m 4"]:
    """Round outwards and clip to the image; every box keeps at least one pixel."""
    low = np.clip(np.floor(box[:, :2]), 0, size - 1)
    high = np.clip(np.ceil(box[:, 2:]), low + 1, size)
    return torch.from_numpy(np.concatenate([low, high], axis=1).astype(np.int64))


def _projected_points68(poses: ClipPoses, mesh: FaceMesh) -> Float[np.ndarray, "m 68 2"]:
    """The 68 points of the mesh, or of the average face if the mesh has other vertices, by pose."""
    vertices = mesh.vertices
    if len(vertices) != NUM_MESH_POINTS:
        from gaussiantalker_ns.preprocess.canonical_mesh import canonical_mesh

        vertices = canonical_mesh().vertices
    points = torch.from_numpy(vertices[list(IBUG68_FROM_MESH)]).double() * SCENE_UNITS_PER_METRE
    return project_points(points, poses.T_camera_head, poses.focal, poses.cx, poses.cy).numpy()
