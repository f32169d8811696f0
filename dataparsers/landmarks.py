"""Reading the landmarks of a clip: the 68 iBUG points, from our own file or from legacy ones."""

import zipfile
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Float32

from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.face.measures import landmark_distance
from gaussiantalker_ns.face.topology import (
    IBUG68_FROM_MESH,
    LOWER_BLENDSHAPES,
    NUM_MESH_POINTS,
)
from gaussiantalker_ns.files import read_text

NUM_POINTS68 = 68
EYE_CORNERS68, INNER_LIPS68, MOUTH_CORNERS68 = (36, 45), (62, 66), (48, 54)

FOREIGN_LANDMARKS = "Delete the file: those beside the frames (ori_imgs/*.lms) serve as well."
"""What to do about our kind of landmark file in a data set that another tool made."""


def read_points68(
    layout: DatasetLayout, num_frames: int, frames: Iterable[int] | None = None
) -> Float[np.ndarray, "m 68 2"]:
    """Read the iBUG landmarks (pixels of the frames on disk); NaN where a frame has none.

    With `frames` no other frames' need be read; those may be NaN.
    """
    points = np.full((num_frames, NUM_POINTS68, 2), np.nan)
    if layout.landmarks.exists():
        try:
            with np.load(layout.landmarks) as arrays:
                mesh_points, valid = arrays["points"], arrays["valid"]
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{layout.landmarks} cannot be read ({error}); expected 'points' and 'valid'. "
                f"{layout.remedy('landmarks', FOREIGN_LANDMARKS)}"
            ) from error
        _check_landmarks(layout, mesh_points, valid)
        count = min(num_frames, len(mesh_points))
        points[:count] = mesh_points[:count, IBUG68_FROM_MESH, :2]
        points[:count][~valid[:count]] = np.nan
        return points
    for frame in range(num_frames) if frames is None else frames:
        path = layout.points68(frame)
        if not path.exists():
            continue
        try:
            points[frame] = np.array(read_text(path).split(), float).reshape(NUM_POINTS68, 2)
        except ValueError as error:
            raise ValueError(
                f"{path} does not hold 68 rows of two numbers ({error}); expected iBUG landmarks. "
                "Write the file again, or delete it."
            ) from error
    return points


def read_mouth(
    layout: DatasetLayout, num_frames: int, blendshapes: Float32[np.ndarray, "m 52"] | None
) -> Float32[np.ndarray, "m c"] | None:
    """Describe the mouth of every frame: opening, width, then blendshapes of jaw and mouth.

    Opening and width are in units of the distance of the outer eye corners, in the picture. Rows of
    frames without a face are NaN; a data set without landmarks has no description.
    """
    points = read_points68(layout, num_frames)
    if not np.isfinite(points).any():
        return None
    unit = landmark_distance(points, *EYE_CORNERS68)
    columns = [landmark_distance(points, *pair) / unit for pair in (INNER_LIPS68, MOUTH_CORNERS68)]
    outline = np.stack(columns, axis=1).astype(np.float32)
    if blendshapes is None:
        return outline
    return np.concatenate([outline, blendshapes[:, list(LOWER_BLENDSHAPES)]], axis=1)


def _check_landmarks(layout: DatasetLayout, points: np.ndarray, valid: np.ndarray) -> None:
    """Refuse landmarks among which the 68 points are not all found, or whose frames differ."""
    enough = points.ndim == 3 and points.shape[1] >= NUM_MESH_POINTS and points.shape[2] >= 2
    if not enough or valid.shape != points.shape[:1] or valid.dtype != bool:
        raise ValueError(
            f"{layout.landmarks} holds points of shape {list(points.shape)}, valid of shape "
            f"{list(valid.shape)} and type {valid.dtype}; expected [frames, {NUM_MESH_POINTS} or "
            f"more, 3] and bool [frames]. {layout.remedy('landmarks', FOREIGN_LANDMARKS)}"
        )
