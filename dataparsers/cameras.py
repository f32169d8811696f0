"""Camera conventions: OpenCV head poses, OpenGL camera-to-head matrices, metres and scene units.

Two conventions meet here. `T_camera_head` is OpenCV (x right, y down, z forward): a head point goes
to camera coordinates by R x + t. `transforms_*.json` and Nerfstudio hold its inverse with an OpenGL
camera (x right, y up, looking along -z). World is head space: x to the person's left, y up, z out
of the face towards the camera.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SCENE_UNITS_PER_METRE = 10.0
"""The scene is in decimetres, as in the public code, and files are in metres."""


def head_pose_from_opengl(camera_to_head: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """Return `T_camera_head` (OpenCV) of an OpenGL camera-to-head matrix; the unit is kept.

    Example: a camera at (0, 0, 0.8) that looks at the head has the matrix `eye` with translation
    (0, 0, 0.8); its `T_camera_head` is `diag(1, -1, -1, 1)` with translation (0, 0, 0.8).
    """
    return head_pose_from_camera_to_worlds(camera_to_head[..., :3, :])


def opengl_from_head_pose(T_camera_head: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """Return the OpenGL camera-to-head matrix of `T_camera_head` (OpenCV); the unit is kept."""
    rotation = T_camera_head[..., :3, :3].transpose(-1, -2)
    matrix = torch.zeros_like(T_camera_head)
    matrix[..., :3, :3] = rotation
    # In place: the signs as a tensor would be a copy to the GPU, for which the host waits.
    matrix[..., :3, 1:3].neg_()
    matrix[..., :3, 3:] = -rotation @ T_camera_head[..., :3, 3:]
    matrix[..., 3, 3] = 1.0
    return matrix


def head_pose_from_camera_to_worlds(
    camera_to_worlds: Float[Tensor, "*b 3 4"],
) -> Float[Tensor, "*b 4 4"]:
    """Return `T_camera_head` (OpenCV, the rasterizer's `viewmats`) of `camera_to_worlds`."""
    rotation = camera_to_worlds[..., :3].transpose(-1, -2)
    pose = camera_to_worlds.new_zeros(*camera_to_worlds.shape[:-2], 4, 4)
    pose[..., :3, :3] = rotation
    pose[..., :3, 3:] = -rotation @ camera_to_worlds[..., 3:]
    pose[..., 1:3, :].neg_()
    pose[..., 3, 3] = 1.0
    return pose


def to_scene_units(pose_metres: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """Return the pose with its translation in scene units (decimetres) instead of metres."""
    scaled = pose_metres.clone()
    scaled[..., :3, 3] *= SCENE_UNITS_PER_METRE
    return scaled


def project_points(
    points: Float[Tensor, "*#b n 3"],
    T_camera_head: Float[Tensor, "*#b 4 4"],
    focal: float,
    cx: float,
    cy: float,
) -> Float[Tensor, "*b n 2"]:
    """Project head-space points to pixels (x right, y down; pixel centres at .5); units must agree.

    Example: with focal 100 and centre (32, 32) the point (0.1, 0, 0), 1 away, lands on (42, 32).
    """
    camera = points @ T_camera_head[..., :3, :3].transpose(-1, -2) + T_camera_head[..., None, :3, 3]
    pixels = focal * camera[..., :2] / camera[..., 2:]
    return pixels + pixels.new_tensor([cx, cy])


def fill_invalid_poses(
    T_camera_head: Float[Tensor, "m 4 4"], valid: Bool[Tensor, " m"]
) -> Float[Tensor, "m 4 4"]:
    """Give frames without a face the pose of the nearest valid frame (the earlier on a tie)."""
    known = torch.nonzero(valid).squeeze(-1)
    assert known.numel() > 0, "at least one frame must have a pose"
    frames = torch.arange(len(valid), device=valid.device)
    after = torch.searchsorted(known, frames).clamp(max=len(known) - 1)
    before = (after - 1).clamp(min=0)
    take_before = (frames - known[before]).abs() <= (known[after] - frames).abs()
    nearest = torch.where(take_before, known[before], known[after])
    return torch.where(valid[:, None, None], T_camera_head, T_camera_head[nearest])
