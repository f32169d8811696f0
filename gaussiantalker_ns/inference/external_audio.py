"""Other audio for a whole model: what `ns-render` and a viewer play instead of the clip's own."""

import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from gaussiantalker_ns.audio.encoders.registry import get_encoder
from gaussiantalker_ns.audio.loudness import speech_gain
from gaussiantalker_ns.audio.read import read_audio
from gaussiantalker_ns.audio.silence import frame_powers
from gaussiantalker_ns.data.conditions import FrameConditions
from gaussiantalker_ns.dataparsers.cameras import SCENE_UNITS_PER_METRE
from gaussiantalker_ns.inference.feature_stream import FeatureStream
from gaussiantalker_ns.inference.motion import MotionConfig, MotionSampler

AUDIO_VARIABLE = "GAUSSIANTALKER_AUDIO"
"""Environment variable naming the audio that Nerfstudio's render commands play to the model."""


def mean_silence_features(bank: FrameConditions) -> Float32[np.ndarray, "w a"] | None:
    """The mean feature row of silence; None for a model that was trained without silent frames."""
    if len(bank.silence_features) == 0:
        return None
    return bank.silence_features.float().mean(dim=(0, 1)).cpu().numpy()


def feature_rows(
    bank: FrameConditions, samples: Float32[np.ndarray, " m"], motion: MotionConfig
) -> Float32[np.ndarray, "n w a"]:
    """Encode 16 kHz samples for a model: one gated and smoothed row of features per frame."""
    gain = speech_gain(samples)
    encoder = get_encoder(bank.audio_encoder, device=str(bank.audio.device))
    rows = encoder.encode(samples, gain=gain)
    rest = mean_silence_features(bank) if motion.silence_gate else None
    stream = FeatureStream(1, rest, motion.lip_smoothing_frames)
    stream.push_powers(frame_powers(samples * np.float32(gain)))
    stream.push_rows(rows)
    stream.end()
    return np.concatenate([window[:, 0] for window in stream.blocks(len(rows))])


def motion_sampler(bank: FrameConditions, motion: MotionConfig) -> MotionSampler:
    """The motion of a model's own clip: which of its training frames gives what and when."""
    return MotionSampler(
        motion,
        bank.poses.cpu().numpy().astype(np.float64),
        np.sort(bank.train_frames.cpu().numpy()),
        SCENE_UNITS_PER_METRE,
    )


def set_bank_audio(bank: FrameConditions, audio: Path, motion: MotionConfig | None = None) -> None:
    """Replace a model's audio by a recording; pose and expression are taken from the clip's
    track."""
    motion = motion or MotionConfig()
    rows = feature_rows(bank, read_audio(audio), motion)
    frames = motion_sampler(bank, motion).clip_frames(np.arange(len(rows)))
    bank.lip_gain = motion.lip_gain
    bank.set_audio(torch.from_numpy(rows), torch.from_numpy(frames))


def drive_from_environment(bank: FrameConditions) -> Path | None:
    """Do so with the file that the environment names, if it names one, and return its path."""
    named = os.environ.get(AUDIO_VARIABLE)
    if not named:
        return None
    set_bank_audio(bank, Path(named))
    return Path(named)
