"""Viewer cameras: a default one that sees what the clip's camera saw, and offsets from it.

viser shows the scene ten times as large as Nerfstudio has it, and its orbit controls keep the
horizon level, so that no recorded pose can be given to a browser exactly. A browser's camera
therefore stands at a level default place, and what it sees is composed: the recorded pose, followed
by the way from the default to where the user has moved.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import viser
from jaxtyping import Float
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO
from torch import Tensor

from gaussiantalker_ns.data.conditions import FrameConditions
from gaussiantalker_ns.dataparsers.cameras import (
    head_pose_from_camera_to_worlds,
    opengl_from_head_pose,
)
from gaussiantalker_ns.inference.motion import calmest_pose

SAME_CAMERA = 2e-3
"""Entries of the way from the default, in radians and scene units, below which nobody has moved."""

UP = (0.0, 1.0, 0.0)
"""The head's own upward direction."""


@dataclass(frozen=True)
class CameraOffset:
    """What one browser's camera sees."""

    from_default: Float[Tensor, "4 4"]
    """The way from the default, OpenCV camera coordinates."""
    fov: float
    """Vertical field of view in radians."""

    @property
    def is_default(self) -> bool:
        """Whether the camera stands where it was put."""
        return float((self.from_default - torch.eye(4)).abs().max()) < SAME_CAMERA

    @property
    def key(self) -> tuple[float, ...]:
        """Equal for browsers that see the same."""
        way = (
            []
            if self.is_default
            else [round(value, 4) for value in self.from_default.flatten().tolist()]
        )
        return (round(self.fov, 4), *way)

    def view(self, T_camera_head: Float[Tensor, "4 4"]) -> Float[Tensor, "4 4"]:
        """The head's pose before this camera, when the clip's camera sees it at a pose."""
        return T_camera_head if self.is_default else self.from_default @ T_camera_head


class DefaultCamera:
    """The place of a camera in front of the calm head, level and looking at its middle."""

    def __init__(self, bank: FrameConditions, K: Float[Tensor, "3 3"], size: int) -> None:
        """Find the calmest pose of the training frames.

        Args:
            bank: Conditions of the clip.
            K: The clip's intrinsics.
            size: Side of the pictures that they belong to.
        """
        poses = bank.poses[bank.train_frames].cpu()
        self.calm_pose: Float[Tensor, "4 4"] = poses[calmest_pose(poses.double().numpy())]
        self.fov = 2.0 * math.atan(size / 2.0 / float(K[1, 1]))
        camera_to_head = opengl_from_head_pose(self.calm_pose)
        self._position = camera_to_head[:3, 3].double().numpy()
        self._T_default_head = level_pose(self._position)

    def place(self, client: viser.ClientHandle) -> None:
        """Put a browser's camera at the default camera."""
        with client.atomic():
            client.camera.up_direction = UP
            client.camera.position = tuple(self._position * VISER_NERFSTUDIO_SCALE_RATIO)
            client.camera.look_at = (0.0, 0.0, 0.0)
            client.camera.fov = self.fov

    def camera_offset(self, camera_to_world: Float[Tensor, "3 4"], fov: float) -> CameraOffset:
        """What a browser's camera (OpenGL, scene units) sees."""
        pose = head_pose_from_camera_to_worlds(camera_to_world.double())
        return CameraOffset((pose @ torch.linalg.inv(self._T_default_head)).float(), fov)


def level_pose(position: Float[np.ndarray, "3"]) -> Float[Tensor, "4 4"]:
    """`T_camera_head` of a level camera at a position that looks at the middle of the head."""
    forward = -position / np.linalg.norm(position)
    right = np.cross(forward, np.array(UP))
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, -rotation @ position
    return torch.from_numpy(pose)
