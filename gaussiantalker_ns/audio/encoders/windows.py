"""Cutting feature sequences into one window per video frame, and frames into their context."""

import numpy as np
import torch
from jaxtyping import Float32, Int64, Shaped
from torch import Tensor


def frame_windows(
    items: Float32[np.ndarray, "m a"], items_per_frame: int, window_items: int, fill: float = 0.0
) -> Float32[np.ndarray, "frames w a"]:
    """Return for every video frame the items around its middle.

    Frame `i` owns items `i * items_per_frame` onwards; its window has as many more before as
    after (one less before where the number is odd), and `fill` beyond the ends of the sequence.

    Example: items 0..5 with two per frame and windows of four give (fill, 0, 1, 2), (1, 2, 3, 4)
    and (3, 4, 5, fill).
    """
    before = (window_items - items_per_frame) // 2
    num_frames = len(items) // items_per_frame
    padded = np.pad(
        items, ((before, window_items - before), (0, 0)), constant_values=np.float32(fill)
    )
    first = np.arange(num_frames)[:, None] * items_per_frame
    return padded[first + np.arange(window_items)]


def context_frames(
    frames: Int64[Tensor, " b"], num_frames: int, window_frames: int
) -> Int64[Tensor, "b t"]:
    """Return the frames whose features the temporal attention sees for each of `frames`.

    A window of 8 spans 4 frames before to 3 after; one of 5 spans 2 before to 2 after. Frames
    beyond the ends repeat the first or last one.

    Example: frame 0 of 10 with a window of 4 sees frames (0, 0, 0, 1).
    """
    offsets = torch.arange(window_frames, device=frames.device) - window_frames // 2
    return (frames[:, None] + offsets).clamp(0, num_frames - 1)


def context_windows(
    features: Shaped[Tensor, "m w a"], frames: Int64[Tensor, " b"], window_frames: int
) -> Shaped[Tensor, "b t w a"]:
    """Return the feature windows of the context of each of `frames` (see `context_frames`)."""
    return features[context_frames(frames, len(features), window_frames)]
