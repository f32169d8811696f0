"""Head motion for new audio: the recorded track played to and fro, without a jump."""

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

TURNING_WINDOW_FRAMES = 25
"""The track is turned at its calmest frame among the first and the last second."""

HEAD_RADIUS = 1.0
"""Scene units (decimetres): converts a rotation speed into the speed of the skin."""


def longest_run(frames: Int[np.ndarray, " k"]) -> Int[np.ndarray, " r"]:
    """Return the longest stretch of consecutive numbers, the first of several.

    Example: frames 0 1 5 6 7 9 give 5 6 7.
    """
    runs = np.split(frames, np.flatnonzero(np.diff(frames) != 1) + 1)
    return max(runs, key=len)


def mirror_index(positions: Int[np.ndarray, " m"], length: int) -> Int[np.ndarray, " m"]:
    """Fold running positions into 0..length-1, forward and backward.

    Example: positions 0..6 with length 4 give 0 1 2 3 2 1 0.
    """
    if length == 1:
        return np.zeros_like(positions)
    period = 2 * (length - 1)
    folded = np.mod(positions, period)
    return np.where(folded < length, folded, period - folded)


def frame_speeds(T_camera_head: Float[np.ndarray, "m 4 4"]) -> Float[np.ndarray, " m"]:
    """Speed of the head around every frame, in scene units per frame."""
    rotations = Rotation.from_matrix(T_camera_head[:, :3, :3])
    turn = np.linalg.norm((rotations[1:] * rotations[:-1].inv()).as_rotvec(), axis=1)
    shift = np.linalg.norm(np.diff(T_camera_head[:, :3, 3], axis=0), axis=1)
    between = HEAD_RADIUS * turn + shift
    return np.maximum(np.append(between, between[-1]), np.insert(between, 0, between[0]))


def turning_frames(T_camera_head: Float[np.ndarray, "m 4 4"]) -> tuple[int, int]:
    """Return the calmest frames of the first and of the last second of a track.

    A track that is played to and fro between them changes its direction where the head hardly
    moves, so that the turn is not seen.
    """
    length = len(T_camera_head)
    if length < 2:
        return 0, 0
    speeds = frame_speeds(T_camera_head)
    window = min(TURNING_WINDOW_FRAMES, max(1, length // 4))
    return int(speeds[:window].argmin()), length - 1 - int(speeds[::-1][:window].argmin())


def smooth_poses(
    T_camera_head: Float[np.ndarray, "m 4 4"], sigma_frames: float
) -> Float[np.ndarray, "m 4 4"]:
    """Low-pass a sequence of poses in time.

    Rotations are averaged as quaternions of one hemisphere, which is exact enough for the few
    degrees a head turns within the filter's width.

    Args:
        T_camera_head: Poses, OpenCV convention.
        sigma_frames: Standard deviation of the Gaussian filter; 0 returns the poses unchanged.
    """
    if sigma_frames <= 0 or len(T_camera_head) < 2:
        return T_camera_head.copy()
    quats = Rotation.from_matrix(T_camera_head[:, :3, :3]).as_quat()
    signs = np.cumprod(np.sign((quats[1:] * quats[:-1]).sum(axis=1)))
    quats[1:] *= signs[:, None]
    smooth = T_camera_head.copy()
    filtered = gaussian_filter1d(quats, sigma_frames, axis=0, mode="nearest")
    smooth[:, :3, :3] = Rotation.from_quat(filtered).as_matrix()
    translation = T_camera_head[:, :3, 3]
    smooth[:, :3, 3] = gaussian_filter1d(translation, sigma_frames, axis=0, mode="nearest")
    return smooth
