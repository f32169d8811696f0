"""`gaussiantalker camera-path`: a Nerfstudio camera path in step with an audio file."""

import json
import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jaxtyping import Float
from rich.text import Text

from gaussiantalker_ns.dataparsers.cameras import opengl_from_head_pose
from gaussiantalker_ns.driving.external_audio import AUDIO_VARIABLE, role_of
from gaussiantalker_ns.driving.performance import Performance
from gaussiantalker_ns.files import write_text


@dataclass
class Config:
    """Write a camera path with one timed camera for every frame of an audio file.

    `ns-render camera-path` then makes the pictures by Nerfstudio's own means; the command to type
    is printed. It loads a copy of the run's configuration, written beside the path, that names the
    places of run and data set today: ns-render has no option for them.
    """

    load_config: Path
    """The run's config.yml, or a folder above it."""
    audio: Path
    """The audio file."""
    output: Path = Path("camera_path.json")
    """Where to write the path; the configuration beside it ends in .config.yml."""
    data: Path | None = None
    """The data set's folder, if it has moved since the training."""
    pose: str = "track"
    """The head's motion: track (the training clip's, to and fro), still, or a file of poses."""
    size: int | None = None
    """Side of the video in pixels; by default as trained."""
    overwrite: bool = False
    """Replace an existing path and configuration."""


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


def run(config: Config) -> int:
    """Write the path and print the command that renders it."""
    from nerfstudio.utils.rich_utils import CONSOLE

    from gaussiantalker_ns.audio import FPS
    from gaussiantalker_ns.audio.read import read_audio
    from gaussiantalker_ns.driving.checkpoint import load_checkpoint
    from gaussiantalker_ns.scripts.drive import named_or_file
    from gaussiantalker_ns.talker import num_frames_of

    run_config = config.output.with_name(f"{config.output.stem}.config.yml")
    try:
        for path in (config.output, run_config):
            if path.exists() and not config.overwrite:
                raise FileExistsError(
                    f"{path} exists already; expected a new name. Add --overwrite to replace."
                )
        num_frames = num_frames_of(len(read_audio(config.audio)))
        checkpoint = load_checkpoint(config.load_config, config.data)
        model = checkpoint.model
        performance = Performance(pose=named_or_file(config.pose, ("track", "still")))  # pyright: ignore[reportArgumentType]
        role = role_of(model.bank, performance)
        trained_size = model.surroundings.layers.size
        size = config.size or trained_size
        focal = float(model.surroundings.K[0, 0]) * size / trained_size
        content = camera_path(role.poses(np.arange(num_frames)), focal, size, FPS)
        write_text(config.output, json.dumps(content))
        write_text(run_config, yaml.dump(checkpoint.config))
    except (ValueError, OSError) as error:
        CONSOLE.print(Text(str(error), "bold red"))
        return 1
    command = [
        "ns-render",
        "camera-path",
        "--load-config",
        str(run_config),
        "--camera-path-filename",
        str(config.output),
        "--output-path",
        str(config.output.with_suffix(".mp4")),
    ]
    audio = shlex.quote(str(config.audio))
    CONSOLE.print(Text(f"Wrote {config.output} with {num_frames} cameras, and {run_config}."))
    CONSOLE.print("Render it with")
    CONSOLE.print(Text(f"{AUDIO_VARIABLE}={audio} {shlex.join(command)}", "bold"), soft_wrap=True)
    return 0
