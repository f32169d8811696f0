"""Filling frames in which the person was not found from the frames before and after."""

from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float64
from scipy.spatial.transform import Rotation, Slerp

Values = TypeVar("Values", bound=np.ndarray)


def fill_gaps(values: Values, valid: Bool[np.ndarray, " b"]) -> Values:
    """Replace invalid rows by interpolation over time; the ends repeat the nearest valid row.

    Example: values [1, 0, 3] with valid [True, False, True] -> [1, 2, 3].
    """
    assert valid.any(), "nothing to interpolate from"
    known = np.flatnonzero(valid)
    missing = np.flatnonzero(~valid)
    behind = np.clip(np.searchsorted(known, missing), 0, len(known) - 1)
    before = np.clip(np.searchsorted(known, missing) - 1, 0, len(known) - 1)
    left, right = known[before], known[behind]
    weight = np.clip((missing - left) / np.maximum(right - left, 1), 0, 1).astype(values.dtype)
    weight = weight.reshape(-1, *[1] * (values.ndim - 1))
    filled = values.copy()
    filled[missing] = (1 - weight) * values[left] + weight * values[right]
    return filled


def fill_poses(
    poses: Float64[np.ndarray, "b 4 4"], valid: Bool[np.ndarray, " b"]
) -> Float64[np.ndarray, "b 4 4"]:
    """The same for rigid transforms: rotations along the shortest arc, translations linearly."""
    known = np.flatnonzero(valid)
    filled = poses.copy()
    filled[:, :3, 3] = fill_gaps(np.ascontiguousarray(poses[:, :3, 3]), valid)
    if len(known) == 1:
        filled[:, :3, :3] = poses[known[0], :3, :3]
        return filled
    slerp = Slerp(known, Rotation.from_matrix(poses[known, :3, :3]))
    missing = np.flatnonzero(~valid)
    filled[missing, :3, :3] = slerp(np.clip(missing, known[0], known[-1])).as_matrix()
    return filled
