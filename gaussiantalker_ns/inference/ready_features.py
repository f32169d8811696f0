"""Ready audio features as the input of a trained head: what no encoder here can compute."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from gaussiantalker_ns.audio.read import read_audio
from gaussiantalker_ns.timebase import FPS, num_frames_of

if TYPE_CHECKING:
    from gaussiantalker_ns.data.conditions import FrameConditions

Driven = Float32[np.ndarray, " m"] | Float32[np.ndarray, "m w a"]
"""What moves the lips: samples at 16 kHz, or ready features."""

FEATURES_SUFFIX = ".npy"
"""Ending of the files that hold features instead of sound."""


def is_features(path: Path) -> bool:
    """Whether a file that drives a head holds ready features instead of sound."""
    return path.suffix.lower() == FEATURES_SUFFIX


def read_ready_features(path: Path, bank: "FrameConditions") -> Float32[np.ndarray, "m w a"]:
    """Read one window per frame for a trained model.

    Args:
        path: The `.npy` file.
        bank: The signals of the model's clip, whose encoder's shape the windows must have.

    Raises:
        ValueError: the file holds no finite windows of that shape.
    """
    # The run-time does not wait for Nerfstudio, which the readers of data sets know.
    from gaussiantalker_ns.dataparsers.signals import read_feature_rows

    shape = list(bank.audio.shape[1:])
    remedy = (
        f"Compute features of the encoder '{bank.audio_encoder}', with which the run was trained, "
        f"at {FPS} frames per second."
    )
    rows = read_feature_rows(path, remedy)
    if list(rows.shape[1:]) != shape or len(rows) == 0:
        raise ValueError(
            f"{path} has the shape {list(rows.shape)}; expected [frames, {shape[0]}, {shape[1]}], "
            f"as in the training. {remedy}"
        )
    if not np.isfinite(rows).all():
        raise ValueError(f"{path} has NaN or infinite numbers; expected numbers. {remedy}")
    return rows.astype(np.float32)


def check_length(path: Path, num_rows: int, audio: Path) -> None:
    """Refuse features that do not belong to the sound that is to be heard with them.

    Raises:
        ValueError: their lengths differ by more than a few frames.
    """
    from gaussiantalker_ns.dataparsers.signals import MAX_COUNT_DIFFERENCE

    num_frames = num_frames_of(len(read_audio(audio)))
    if abs(num_rows - num_frames) > MAX_COUNT_DIFFERENCE:
        raise ValueError(
            f"{path} holds {num_rows} windows, but {audio} lasts {num_frames} frames of 1/{FPS} s; "
            "expected one window per frame. Compute the features of this very sound, at "
            f"{FPS} frames per second."
        )


def part_of_features(
    path: Path, rows: Float32[np.ndarray, "m w a"], start_s: float, end_s: float | None
) -> Float32[np.ndarray, "n w a"]:
    """Rows between two times in seconds; None goes to the end.

    Raises:
        ValueError: nothing lies between them.
    """
    duration = len(rows) / FPS
    end_s = duration if end_s is None else min(end_s, duration)
    first, stop = round(start_s * FPS), round(end_s * FPS)
    if not 0 <= first < stop:
        raise ValueError(
            f"--start is {start_s} s and --end is {end_s}, but {path} lasts {duration:.2f} s;"
            " expected 0 <= start < end <= duration."
        )
    return rows[first:stop]
