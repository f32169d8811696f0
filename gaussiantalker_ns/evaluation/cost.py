"""Cost of a trained head: time of the training, speed of the rendering, size."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gaussiantalker_ns.inference.frame_renderer import FrameRenderer
from gaussiantalker_ns.inference.motion import MotionConfig
from gaussiantalker_ns.inference.scene import Scene
from gaussiantalker_ns.inference.trained_talker import HeadModel, TrainedTalker
from gaussiantalker_ns.metrics.registry import NotMeasured

CPU_BATCH, GPU_BATCH = 4, 32
"""Frames that are rendered together for the speed in batches."""

WARM_UP_BLOCKS = 2
SECONDS = 3.0
"""How long each speed is measured."""

MEGABYTE = 1e6


def training_minutes(run_folder: Path) -> float:
    """Wall-clock time of a training, from the time stamps in its TensorBoard event files.

    Every start of the trainer leaves a file; the time from a file's first event to its last counts,
    with the evaluations in between and without the loading of data before the first step. So a
    resumed training has the sum of its parts.

    Raises:
        NotMeasured: There are no event files.
    """
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    seconds = 0.0
    for path in sorted(run_folder.glob("events.out.tfevents*")):
        events: Any = EventFileLoader(str(path))
        times = [event.wall_time for event in events.Load()]
        seconds += max(times) - min(times) if times else 0.0
    if seconds <= 0:
        raise NotMeasured(
            f"needs the training's TensorBoard event files in {run_folder}: train with --vis"
            " tensorboard or viewer+tensorboard"
        )
    return seconds / 60.0


def size_values(model: HeadModel, checkpoint: Path) -> dict[str, float]:
    """Numbers of Gaussians and parameters, bytes of the model and of the file."""
    assert isinstance(model, nn.Module), "heads are modules"
    state = [value for value in model.state_dict().values() if isinstance(value, torch.Tensor)]
    model_bytes = sum(value.numel() * value.element_size() for value in state)
    return {
        "gaussian_count": float(len(model.canonical_gaussians())),
        "parameter_count": float(sum(p.numel() for p in model.parameters())),
        "model_megabytes": model_bytes / MEGABYTE,
        "checkpoint_megabytes": checkpoint.stat().st_size / MEGABYTE,
    }


def frames_per_second(checkpoint: TrainedTalker, batch: int, seconds: float = SECONDS) -> float:
    """Finished frames per second of a video, on one machine, nothing left out but files.

    From feature rows to composed 8-bit frames in main memory: tokens, attention, deformation,
    rasterization, torso and background. The speech features, decoding and encoding are not in it.
    The clock is read after each batch is complete (with a device synchronisation on a GPU).

    Args:
        checkpoint: The trained head.
        batch: Frames that are rendered together; 1 is what a live stream needs.
        seconds: How long to render.
    """
    renderer = FrameRenderer(checkpoint, Scene(), MotionConfig(blink="none"))
    rows = checkpoint.model.bank.audio.cpu().numpy()
    offsets = np.arange(renderer.window_frames) - renderer.window_frames // 2
    on_gpu = checkpoint.model.device.type == "cuda"

    def render(first: int) -> None:
        frames = np.arange(first, first + batch)
        windows = rows[(frames[:, None] + offsets) % len(rows)]
        for _ in renderer.render(windows, frames):
            pass
        if on_gpu:
            torch.cuda.synchronize()

    for block in range(WARM_UP_BLOCKS):
        render(block * batch)
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        render(done)
        done += batch
    return done / (time.perf_counter() - started)


def load_average() -> float | None:
    """Programs that wanted a core in the last minute, where the system counts them."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def speed_values(checkpoint: TrainedTalker) -> dict[str, float]:
    """Speed one frame at a time, and in batches."""
    batch = GPU_BATCH if checkpoint.model.device.type == "cuda" else CPU_BATCH
    return {
        "fps_single": frames_per_second(checkpoint, 1),
        "fps_batch": frames_per_second(checkpoint, batch),
    }
