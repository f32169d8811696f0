"""The silence gate: how silent every frame is, so that nobody's mouth moves while nobody speaks."""

import numpy as np
from jaxtyping import Float, Float32
from scipy.ndimage import uniform_filter1d

from gaussiantalker_ns.audio import SAMPLES_PER_FRAME

OPEN_DBFS, SHUT_DBFS = -45.0, -55.0
"""Levels after levelling (speech is at -23 dBFS) between which the gate opens."""

GATE_RADIUS_FRAMES = 2
"""The level of a frame is the mean power of 0.2 s around it."""


def frame_powers(samples: Float32[np.ndarray, " samples"]) -> Float[np.ndarray, " m"]:
    """Mean power of every whole video frame of 16 kHz samples."""
    whole = len(samples) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME
    frames = samples[:whole].astype(np.float64).reshape(-1, SAMPLES_PER_FRAME)
    return np.mean(frames**2, axis=1)


def silence_shares(powers: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """How silent every frame is, 0 speech to 1 silence, from the frames' levelled powers.

    The first and the last `GATE_RADIUS_FRAMES` values lack neighbours; there is silence outside.
    """
    mean = uniform_filter1d(powers, 2 * GATE_RADIUS_FRAMES + 1, mode="constant")
    level = 10.0 * np.log10(np.maximum(mean, 1e-12))
    return np.clip((OPEN_DBFS - level) / (OPEN_DBFS - SHUT_DBFS), 0.0, 1.0)
