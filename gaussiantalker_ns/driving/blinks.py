"""Natural eye blinks for audio that comes without a face."""

import numpy as np
from jaxtyping import Float

from gaussiantalker_ns.audio import FPS

MEAN_INTERVAL_S = 3.2
"""People in conversation blink about 17 to 26 times a minute (Bentivoglio et al. 1997)."""

INTERVAL_SPREAD = 0.45
"""Standard deviation of the logarithm of the interval."""

CLOSING_S, CLOSED_S, OPENING_S = 0.10, 0.05, 0.20
"""The lid falls twice as fast as it rises."""


def lid_pulse(time_s: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Closure of the lid, 0 open to 1 closed, at times since its first movement."""
    falling = np.clip(time_s / CLOSING_S, 0, 1)
    rising = np.clip((time_s - CLOSING_S - CLOSED_S) / OPENING_S, 0, 1)
    return 0.5 * (1 - np.cos(np.pi * falling)) * 0.5 * (1 + np.cos(np.pi * rising))


def generate_blinks(num_frames: int, seed: int = 0) -> Float[np.ndarray, " num_frames"]:
    """Make a track of eyelid closure in [0, 1], one value a frame.

    Intervals between blinks are log-normal around `MEAN_INTERVAL_S`, depths vary a little. The
    track of a longer video begins with that of a shorter one, so that streams and files agree.
    """
    generator = np.random.default_rng(seed)
    duration = num_frames / FPS
    frame_times = (np.arange(num_frames) + 0.5) / FPS
    track = np.zeros(num_frames)
    start = 0.0
    while True:
        gap = MEAN_INTERVAL_S * np.exp(INTERVAL_SPREAD * generator.standard_normal())
        depth = generator.uniform(0.85, 1.0)
        start += max(gap, CLOSING_S + CLOSED_S + OPENING_S + 0.3)
        if start >= duration:
            return track
        track = np.maximum(track, depth * lid_pulse(frame_times - start))
