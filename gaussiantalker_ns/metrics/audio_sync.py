"""Audio synchronisation: the lag between audio and lips, without a network."""

import numpy as np
from jaxtyping import Float, Float32

from gaussiantalker_ns.audio.sync import MIN_FRAMES, estimate_av_offset
from gaussiantalker_ns.metrics.face_motion import FaceTrack
from gaussiantalker_ns.metrics.registry import NotMeasured
from gaussiantalker_ns.timebase import SAMPLES_PER_FRAME

CONTEXT_FRAMES = 25
"""Frames of sound that are heard before the first picture and after the last."""


def audio_lip_values(
    samples: Float32[np.ndarray, " samples"], track: FaceTrack
) -> dict[str, float]:
    """The lag at which the sound explains the lips best, and how well it then does.

    Args:
        samples: Mono sound at 16 kHz; sample 0 is at the start of frame 0.
        track: The faces, with the numbers of their frames.

    Returns:
        `audio_lip_lag_ms` (positive: the sound is late), `audio_lip_lag_error_ms` (its standard
        error) and `audio_lip_correlation` (held-out, at the best lag).

    Raises:
        NotMeasured: Too few frames show a face.
    """
    first = max(track.frames[0] - CONTEXT_FRAMES, 0)
    stop = track.frames[-1] + 1 + CONTEXT_FRAMES
    targets: Float[np.ndarray, "frames 2"] = np.full((stop - first, 2), np.nan)
    places = np.array(track.frames) - first
    targets[places] = np.stack([track.opening, track.width], axis=1)
    heard = samples[first * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME]
    if len(heard) < (track.frames[-1] - first) * SAMPLES_PER_FRAME:
        raise NotMeasured(
            f"needs sound for all frames; there are {len(samples) / SAMPLES_PER_FRAME:.0f} frames"
            f" of sound and the last picture is number {track.frames[-1]}"
        )
    heard = np.pad(heard, (0, (stop - first) * SAMPLES_PER_FRAME - len(heard)))
    estimate = estimate_av_offset(heard, targets)
    if not np.isfinite(estimate.standard_error_ms):
        seen = int(np.isfinite(targets).all(axis=1).sum())
        raise NotMeasured(f"needs {MIN_FRAMES} frames with a face and sound; there are {seen}")
    return {
        "audio_lip_lag_ms": float(estimate.offset_ms),
        "audio_lip_lag_error_ms": float(estimate.standard_error_ms),
        "audio_lip_correlation": float(estimate.correlations.max()),
    }
