"""Camera paths of Nerfstudio's renderer: one timed camera for every frame of a recording."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from gaussiantalker_ns.dataparsers.cameras import opengl_from_head_pose


def camera_path(
    poses: Float[np.ndarray, "m 4 4"], focal_px: float, size_px: int, fps: int
) -> dict[str, Any]:
    """Describe cameras the way Nerfstudio's render tab does.

    Args:
        poses: `T_camera_head` of every frame, OpenCV, scene units.
        focal_px: Focal length at `size_px`.
        size_px: Side of the square pictures.
        fps: Frames per second.
    """
    cameras = opengl_from_head_pose(torch.from_numpy(poses)).numpy()
    fov = math.degrees(2.0 * math.atan(0.5 * size_px / focal_px))
    last = max(len(poses) - 1, 1)
    return {
        "camera_type": "perspective",
        "render_height": size_px,
        "render_width": size_px,
        "fps": fps,
        "seconds": len(poses) / fps,
        "is_cycle": False,
        "smoothness_value": 0.0,
        "crop": None,
        "keyframes": [],
        "camera_path": [
            {
                "camera_to_world": camera.reshape(-1).tolist(),
                "fov": fov,
                "aspect": 1.0,
                "render_time": index / last,
            }
            for index, camera in enumerate(cameras)
        ],
    }
