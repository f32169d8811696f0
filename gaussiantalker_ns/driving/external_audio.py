"""Other audio for a whole model: what `ns-render` and a viewer play instead of the clip's own."""

import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from gaussiantalker_ns.audio.encoders import get_encoder
from gaussiantalker_ns.audio.levelling import speech_gain
from gaussiantalker_ns.audio.read import read_audio
from gaussiantalker_ns.condition_bank import ConditionBank
from gaussiantalker_ns.dataparsers.cameras import SCENE_UNITS_PER_METRE
from gaussiantalker_ns.driving.feature_stream import FeatureStream
from gaussiantalker_ns.driving.performance import Performance, Role
from gaussiantalker_ns.driving.silence import frame_powers

AUDIO_VARIABLE = "GAUSSIANTALKER_AUDIO"
"""Environment variable naming the audio that Nerfstudio's render commands play to the model."""


def rest_row(bank: ConditionBank) -> Float32[np.ndarray, "w a"] | None:
    """The mean feature row of silence; None for a model that was trained without silent frames."""
    if len(bank.rest_audio) == 0:
        return None
    return bank.rest_audio.float().mean(dim=(0, 1)).cpu().numpy()


def feature_rows(
    bank: ConditionBank, samples: Float32[np.ndarray, " m"], performance: Performance
) -> Float32[np.ndarray, "n w a"]:
    """Encode 16 kHz samples for a model: one gated and smoothed row of features per frame."""
    gain = speech_gain(samples)
    encoder = get_encoder(bank.audio_encoder, device=str(bank.audio.device))
    rows = encoder.encode(samples, gain=gain)
    rest = rest_row(bank) if performance.silence_gate else None
    stream = FeatureStream(1, rest, performance.lip_smoothing_frames)
    stream.push_powers(frame_powers(samples * np.float32(gain)))
    stream.push_rows(rows)
    stream.end()
    return np.concatenate([window[:, 0] for window in stream.blocks(len(rows))])


def role_of(bank: ConditionBank, performance: Performance) -> Role:
    """The performance of a model's own clip: which of its training frames lends what and when."""
    return Role(
        performance,
        bank.poses.cpu().numpy().astype(np.float64),
        np.sort(bank.train_frames.cpu().numpy()),
        SCENE_UNITS_PER_METRE,
    )


def drive_bank(bank: ConditionBank, audio: Path, performance: Performance | None = None) -> None:
    """Replace a model's audio by a recording; pose and expression are lent by the clip's track."""
    performance = performance or Performance()
    rows = feature_rows(bank, read_audio(audio), performance)
    frames = role_of(bank, performance).clip_frames(np.arange(len(rows)))
    bank.drive(torch.from_numpy(rows), torch.from_numpy(frames))


def drive_from_environment(bank: ConditionBank) -> Path | None:
    """Do so with the file that the environment names, if it names one, and return its path."""
    named = os.environ.get(AUDIO_VARIABLE)
    if not named:
        return None
    drive_bank(bank, Path(named))
    return Path(named)
