"""Silence: feature windows for training, and how silent every frame of a recording is."""

import numpy as np
from jaxtyping import Float, Float32

from gaussiantalker_ns.audio.encoders.base import AudioFeatureEncoder
from gaussiantalker_ns.audio.loudness import speech_gain
from gaussiantalker_ns.timebase import FPS, SAMPLES_PER_FRAME

NOISE_BETWEEN_DBFS = (None, -80.0, -60.0, -50.0)
"""Levels of the silences between pieces of speech: digital zero (None) and room noise."""

NOISE_ALONE_DBFS = (None, -50.0)
"""Levels of the recordings without speech."""

SILENCE_FRAMES = int(2.6 * FPS)
SPEECH_FRAMES = int(1.4 * FPS)

GUARD_FRAMES = int(0.32 * FPS)
"""Frames this close to speech are left out: lips move before and after the sound."""


def silence_windows(
    encoder: AudioFeatureEncoder,
    speech: Float32[np.ndarray, " samples"],
    num_windows: int = 512,
    window_frames: int = 8,
    seed: int = 0,
) -> Float32[np.ndarray, "m t w a"]:
    """Return runs of consecutive features from inside silence.

    Speech recognisers' features of silence do not by themselves mean a closed mouth. Pair these
    windows with training frames whose lips are closed, in about 8 % of the batch. The silences are
    digital zero and noise of -80 to -50 dBFS, between pieces of `speech` and by themselves.

    Args:
        encoder: The encoder of the training features.
        speech: The training clip's sound, not normalised.
        num_windows: How many windows to draw, with replacement.
        window_frames: Frames in a run (`t`).
        seed: Fixes the draw.
    """
    rng = np.random.default_rng(seed)
    gain = speech_gain(speech)
    runs = _runs_between_speech(encoder, speech, gain, rng)
    runs += _runs_of_silence_alone(encoder, gain, rng)
    starts = [(run, first) for run in runs for first in range(len(run) - window_frames + 1)]
    if not starts:
        raise ValueError(
            f"Silence windows of {window_frames} frames were asked for; expected at most"
            f" {SILENCE_FRAMES - 2 * GUARD_FRAMES}, the usable length of a silence."
        )
    picks = rng.integers(len(starts), size=num_windows)
    windows = [starts[pick][0][starts[pick][1] :][:window_frames] for pick in picks]
    return np.stack(windows)


def silence(
    num_frames: int, dbfs: float | None, rng: np.random.Generator
) -> Float32[np.ndarray, " samples"]:
    """Return zeros, or white noise of the given root-mean-square level."""
    amplitude = 0.0 if dbfs is None else 10.0 ** (dbfs / 20.0)
    noise = rng.standard_normal(num_frames * SAMPLES_PER_FRAME)
    return (amplitude * noise).astype(np.float32)


def _runs_between_speech(
    encoder: AudioFeatureEncoder,
    speech: Float32[np.ndarray, " samples"],
    gain: float,
    rng: np.random.Generator,
) -> list[Float32[np.ndarray, "m w a"]]:
    """Encode silences between random pieces of the speech, and return their inner features."""
    num_speech_samples = SPEECH_FRAMES * SAMPLES_PER_FRAME
    speech = np.pad(speech, (0, max(num_speech_samples - len(speech), 0)))
    pieces, firsts, num_frames = [], [], 0
    for dbfs in NOISE_BETWEEN_DBFS:
        start = rng.integers(len(speech) - num_speech_samples + 1)
        pieces += [speech[start : start + num_speech_samples]]
        pieces += [silence(SILENCE_FRAMES, dbfs, rng)]
        firsts.append(num_frames + SPEECH_FRAMES + GUARD_FRAMES)
        num_frames += SPEECH_FRAMES + SILENCE_FRAMES
    features = encoder.encode(np.concatenate([*pieces, pieces[0]]), gain=gain)
    return [features[first : first + SILENCE_FRAMES - 2 * GUARD_FRAMES] for first in firsts]


def _runs_of_silence_alone(
    encoder: AudioFeatureEncoder, gain: float, rng: np.random.Generator
) -> list[Float32[np.ndarray, "m w a"]]:
    """Encode recordings without any speech, and return all their features."""
    return [
        encoder.encode(silence(SILENCE_FRAMES, dbfs, rng), gain=gain) for dbfs in NOISE_ALONE_DBFS
    ]


OPEN_DBFS, SHUT_DBFS = -45.0, -55.0
"""Levels after loudness normalisation (speech is at -23 dBFS) between which the gate opens."""

GATE_RADIUS_FRAMES = 2
"""The level of a frame is the mean power of 0.2 s around it."""


def frame_powers(samples: Float32[np.ndarray, " samples"]) -> Float[np.ndarray, " m"]:
    """Mean power of every whole video frame of 16 kHz samples."""
    whole = len(samples) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME
    frames = samples[:whole].astype(np.float64).reshape(-1, SAMPLES_PER_FRAME)
    return np.mean(frames**2, axis=1)


def silence_fractions(
    powers: Float[np.ndarray, " m"], ahead_frames: int = GATE_RADIUS_FRAMES
) -> Float[np.ndarray, " m"]:
    """How silent every frame is, 0 speech to 1 silence, from the frames' normalised powers.

    The first `GATE_RADIUS_FRAMES` and the last `ahead_frames` values lack neighbours; there is
    silence outside.

    Args:
        powers: Mean power of every frame.
        ahead_frames: Frames after its own that are looked at; fewer make a stream faster.
    """
    width = GATE_RADIUS_FRAMES + 1 + ahead_frames
    around = np.pad(powers, (GATE_RADIUS_FRAMES, ahead_frames))
    mean = np.convolve(around, np.full(width, 1 / width), "valid")
    level = 10.0 * np.log10(np.maximum(mean, 1e-12))
    return np.clip((OPEN_DBFS - level) / (OPEN_DBFS - SHUT_DBFS), 0.0, 1.0)
