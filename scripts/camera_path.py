"""`gaussiantalker camera-path`: a Nerfstudio camera path in step with an audio file."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console
from rich.text import Text

from gaussiantalker_ns.files import write_text
from gaussiantalker_ns.inference.camera_path import camera_path
from gaussiantalker_ns.inference.external_audio import AUDIO_VARIABLE, motion_sampler
from gaussiantalker_ns.inference.motion import MotionConfig


@dataclass
class Config:
    """Write a camera path with one timed camera for every frame of an audio file.

    `ns-render camera-path` then makes the pictures by Nerfstudio's own means; the command to type
    is printed. It loads a copy of the run's configuration, written beside the path, that names the
    places of run and data set today: ns-render has no option for them.
    """

    audio: Path
    """The audio file."""
    talker: Path | None = None
    """Whose motion is shown: a run's config.yml, a folder above it, or a .talker file, of which
    the path alone is written, as ns-render needs a run."""
    load_config: Path | None = None
    """The same, under Nerfstudio's name."""
    output: Path = Path("camera_path.json")
    """Where to write the path; the configuration beside it ends in .config.yml."""
    data: Path | None = None
    """The data set's folder, if it has moved since the training."""
    pose: str = "track"
    """The head's motion: track (the training clip's, in ping-pong), still, or a file of poses."""
    size: int | None = None
    """Side of the video in pixels; by default as trained."""
    overwrite: bool = False
    """Replace an existing path and configuration."""


def run(config: Config) -> int:
    """Write the path and print the command that renders it."""
    from gaussiantalker_ns.audio.read import read_audio
    from gaussiantalker_ns.inference.checkpoint import LoadedCheckpoint
    from gaussiantalker_ns.inference.trained_talker import chosen_talker, load_trained
    from gaussiantalker_ns.scripts.drive import named_or_file
    from gaussiantalker_ns.timebase import FPS, num_frames_of

    named = chosen_talker(config.talker, config.load_config)
    run_config = config.output.with_name(f"{config.output.stem}.config.yml")
    for path in (config.output, run_config):
        if path.exists() and not config.overwrite:
            raise FileExistsError(
                f"{path} exists already; expected a new name. Add --overwrite to replace."
            )
    num_frames = num_frames_of(len(read_audio(config.audio)))
    checkpoint = load_trained(named, config.data)
    model = checkpoint.model
    motion = MotionConfig(pose=named_or_file(config.pose, ("track", "still")))  # pyright: ignore[reportArgumentType]
    sampler = motion_sampler(model.bank, motion)
    trained_size = model.background.layers.size
    size = config.size or trained_size
    focal = float(model.background.K[0, 0]) * size / trained_size
    content = camera_path(sampler.poses(np.arange(num_frames)), focal, size, FPS)
    write_text(config.output, json.dumps(content))
    console = Console()
    if not isinstance(checkpoint, LoadedCheckpoint):
        console.print(Text(f"Wrote {config.output} with {num_frames} cameras."))
        console.print(
            "`ns-render camera-path` renders it with the run that the talker was packed from; a"
            " video of the talker itself is made by `gaussiantalker drive`."
        )
        return 0
    write_text(run_config, yaml.dump(checkpoint.config))
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
    console.print(Text(f"Wrote {config.output} with {num_frames} cameras, and {run_config}."))
    console.print("Render it with")
    console.print(Text(f"{AUDIO_VARIABLE}={audio} {shlex.join(command)}", "bold"), soft_wrap=True)
    return 0
