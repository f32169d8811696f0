"""Boxes of face, lips and eyes in every frame, from 2D landmarks or from the projected mesh."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from gaussiantalker_ns.dataparsers.cameras import SCENE_UNITS_PER_METRE, project_points
from gaussiantalker_ns.dataparsers.face_mesh import FaceMesh
from gaussiantalker_ns.dataparsers.face_regions import IBUG68_FROM_MESH
from gaussiantalker_ns.dataparsers.landmarks import read_points68
from gaussiantalker_ns.dataparsers.layout import DatasetLayout
from gaussiantalker_ns.dataparsers.poses import ClipPoses

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
    """The 68 points of the mesh by pose."""
    vertices = torch.from_numpy(mesh.named_vertices[list(IBUG68_FROM_MESH)]).double()
    points = vertices * SCENE_UNITS_PER_METRE
    return project_points(points, poses.T_camera_head, poses.focal, poses.cx, poses.cy).numpy()
