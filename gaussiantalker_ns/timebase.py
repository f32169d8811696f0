"""The time base of data sets and encoders: 25 frames and 16 000 samples a second.

Video frame `i` lasts from `i / FPS` to `(i + 1) / FPS` seconds; every array of samples in this
package is mono float32 at `SAMPLE_RATE_HZ`.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int

SAMPLE_RATE_HZ = 16_000
"""The sampling rate of every encoder."""

FPS = 25
"""The frame rate of every data set."""

SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FPS
"""Samples that belong to one video frame."""


def num_frames_of(num_samples: int) -> int:
    """Video frames for 16 kHz samples: the nearest number, at least one."""
    return max(round(num_samples / SAMPLES_PER_FRAME), 1)


def fit_to_frames(
    samples: Float32[np.ndarray, " samples"], num_frames: int, samples_per_frame: int
) -> Float32[np.ndarray, " m"]:
    """Cut the samples, or pad them with silence, to exactly `num_frames` video frames."""
    num_samples = num_frames * samples_per_frame
    return np.pad(samples[:num_samples], (0, max(num_samples - len(samples), 0)))


def whole_frames(samples: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, " m"]:
    """Cut or pad 16 kHz samples to the nearest number of video frames, at least one."""
    return fit_to_frames(samples, num_frames_of(len(samples)), SAMPLES_PER_FRAME)


def advance_samples(
    samples: Float32[np.ndarray, " samples"], offset_ms: float, sample_rate_hz: int = SAMPLE_RATE_HZ
) -> Float32[np.ndarray, " samples"]:
    """Return the sound moved earlier by `offset_ms` (later if negative), of unchanged length."""
    shift = round(offset_ms * sample_rate_hz / 1000)
    if shift >= 0:
        return np.pad(samples[shift:], (0, min(shift, len(samples))))
    return np.pad(samples, (-shift, 0))[: len(samples)]


def context_offsets(window_frames: int) -> range:
    """Frames that the temporal attention sees around a frame: 8 give -4 to 3, 5 give -2 to 2."""
    before = window_frames // 2
    return range(-before, window_frames - before)


def ping_pong(positions: Int[np.ndarray, " m"], length: int) -> Int[np.ndarray, " m"]:
    """Fold running positions into 0..length-1, forward and backward.

    Example: positions 0..6 with length 4 give 0 1 2 3 2 1 0.
    """
    if length == 1:
        return np.zeros_like(positions)
    period = 2 * (length - 1)
    folded = np.mod(positions, period)
    return np.where(folded < length, folded, period - folded)


def spans(frames: Sequence[int], gap: int) -> list[tuple[int, int]]:
    """Join frames that are at most `gap` apart. Example: [1, 2, 9], 3 -> [(1, 2), (9, 9)]."""
    found: list[tuple[int, int]] = []
    for frame in frames:
        if found and frame - found[-1][1] <= gap:
            found[-1] = (found[-1][0], frame)
        else:
            found.append((frame, frame))
    return found


MAX_LISTED = 8
"""Periods that are listed for people; more are counted."""


def list_times(frames: Sequence[int], gap: int) -> str:
    """Frames for people, as times: "0.1 to 0.4 s, 8.0 to 8.0 s and 4 more"."""
    found = spans(frames, gap)
    texts = [f"{first / FPS:.1f} to {(last + 1) / FPS:.1f} s" for first, last in found[:MAX_LISTED]]
    more = f" and {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else ""
    return ", ".join(texts) + more
